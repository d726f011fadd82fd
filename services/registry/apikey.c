/*
 * API keys. A key is "clm_<id>_<secret>", 256 random bits in the secret; only the SHA-256 of the whole text
 * is stored, which is enough for a secret of that size. Checking takes the same steps for keys that exist and
 * keys that do not, and answers all refusals alike.
 */
#include <string.h>

#include "audit.h"
#include "base/id.h"
#include "base/secret.h"
#include "pki/digest.h"
#include "selector.h"

#define ID_BYTES     8
#define SECRET_BYTES 32

static enum code refuse(struct status *st)
{
    return status_set(st, CODE_UNAUTHENTICATED, "this API key is not valid");
}

/* The id of "clm_<id>_…" into id; false if the text is not of that form. */
static bool key_id(const char *text, char id[2 * ID_BYTES + 1])
{
    uint8_t ignored[ID_BYTES];
    size_t n = 2 * ID_BYTES;
    if (strncmp(text, "clm_", 4) != 0 || strnlen(text + 4, n + 1) <= n || text[4 + n] != '_')
        return false;
    memcpy(id, text + 4, n);
    id[n] = '\0';
    return hex_decode(id, ignored, ID_BYTES);
}

static bool equal_in_constant_time(const uint8_t *a, const uint8_t *b)
{
    unsigned difference = 0;
    for (size_t i = 0; i < SHA256_SIZE; i++)
        difference |= (unsigned)(a[i] ^ b[i]);
    return difference == 0;
}

void api_key_renew(const char *id, char text[API_KEY_TEXT_MAX], uint8_t hash[SHA256_SIZE])
{
    uint8_t random[SECRET_BYTES];
    char secret[48];
    random_bytes(random, sizeof(random));
    (void)base64url_encode(random, SECRET_BYTES, secret, sizeof(secret));
    (void)snprintf(text, API_KEY_TEXT_MAX, "clm_%s_%s", id, secret);
    explicit_bzero(random, sizeof(random));
    explicit_bzero(secret, sizeof(secret));
    sha256((struct bytes){(const uint8_t *)text, strlen(text)}, hash);
}

void api_key_random(char id[API_KEY_ID_SIZE], char text[API_KEY_TEXT_MAX], uint8_t hash[SHA256_SIZE])
{
    uint8_t random[ID_BYTES];
    random_bytes(random, sizeof(random));
    hex_encode(random, ID_BYTES, id);
    api_key_renew(id, text, hash);
}

enum code api_key_create(struct db *db, const char *name, unsigned roles, const char *selector,
                         int64_t expires_at_ms, int64_t now_ms, char text[API_KEY_TEXT_MAX],
                         struct arena *arena, struct status *st)
{
    static const char actor[] = "service:registry"; /* whoever may run commands on its host */
    struct label_terms terms;
    TRY(label_terms_read(selector, NULL, 0, arena, &terms, st));
    uint8_t hash[SHA256_SIZE];
    char id[API_KEY_ID_SIZE];
    api_key_random(id, text, hash);
    const struct api_key key = {
        .id = id, .name = name, .roles = roles, .label_selector = selector ? selector : ""};
    char event_id[UUID_TEXT_SIZE];
    uuid_v7(event_id);
    const struct audit_record record = {
        .event_id = event_id,
        .action = "api_key.created",
        .origin = "registry",
        .entity_id = id,
        .actor = actor,
        .occurred_at_ms = now_ms,
        .outcome = "OK",
        .detail = name,
    };
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    enum code code = store_key_insert(tx, &key, actor, hash, expires_at_ms, now_ms, arena, st);
    if (code == CODE_ALREADY_EXISTS)
        return status_set(st, code, "an API key named \"%s\" exists; choose another name", name);
    TRY(code);
    TRY(audit_note(tx, &record, 1, arena, st));
    return db_commit(tx, st);
}

enum code api_key_check(struct db *db, const char *text, int64_t now_ms, struct arena *arena,
                        struct api_key *ret, struct status *st)
{
    static const uint8_t nobody[SHA256_SIZE];
    char id[2 * ID_BYTES + 1] = "";
    uint8_t hash[SHA256_SIZE];
    bool formed = key_id(text, id);
    sha256((struct bytes){(const uint8_t *)text, strlen(text)}, hash);
    struct stored_key stored = {.hash = nobody, .expires_at_ms = -1};
    enum code code = store_key_get(db, id, arena, &stored, st);
    if (code != CODE_OK && code != CODE_NOT_FOUND)
        return code;
    bool equal = equal_in_constant_time(stored.hash, hash);
    bool ended = stored.revoked || (stored.expires_at_ms >= 0 && stored.expires_at_ms <= now_ms);
    if (!formed || code != CODE_OK || !equal || ended)
        return refuse(st);
    *ret = stored.key;
    ret->expires_at_ms = stored.expires_at_ms;
    return store_key_used(db, ret->id, now_ms, arena, st);
}
