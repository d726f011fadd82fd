/*
 * Operators and their sessions. An attempt is counted before its password is looked at and forgiven when it
 * was right, so that attempts side by side cannot pass the limit. Checking takes the same steps for names
 * that exist and names that do not, and answers all refusals alike.
 */
#include <arpa/inet.h>
#include <stdatomic.h>
#include <string.h>

#include "audit.h"
#include "base/cidr.h"
#include "base/id.h"
#include "base/secret.h"
#include "grants.h"
#include "pki/digest.h"
#include "pki/password.h"
#include "store.h"

#define SECRET_BYTES     32
#define PASSWORD_MIN     12
#define PASSWORD_MAX     256
#define HASHES_AT_ONCE   4 /* each takes 32 MiB and a core for 0.1 s */
#define ATTEMPT_LIFE_MS  (15 * 60 * 1000)
#define ATTEMPTS_OF_NAME 5
#define ATTEMPTS_OF_ALL  50

#define LINK_OVER                                                                                            \
    "this link is not valid any more; ask an administrator for another, or make one with clm-registry "      \
    "create-admin-link"

#define WRONG "name or password is wrong"

static atomic_int hashing;

static void secret_make(char text[OPERATOR_SECRET_MAX], uint8_t hash[SHA256_SIZE])
{
    uint8_t random[SECRET_BYTES];
    random_bytes(random, sizeof(random));
    (void)base64url_encode(random, sizeof(random), text, OPERATOR_SECRET_MAX);
    explicit_bzero(random, sizeof(random));
    sha256((struct bytes){(const uint8_t *)text, strlen(text)}, hash);
}

static enum code hash_begin(struct status *st)
{
    if (atomic_fetch_add(&hashing, 1) < HASHES_AT_ONCE)
        return CODE_OK;
    atomic_fetch_sub(&hashing, 1);
    return status_set(st, CODE_UNAVAILABLE, "too many people sign in at this moment; try again");
}

static void hash_end(void)
{
    atomic_fetch_sub(&hashing, 1);
}

/* What people do at the door: the caller's transaction. */
static enum code note(struct db *tx, const char *action, const char *entity_id, const char *name,
                      const char *source, int64_t now_ms, const char *detail, struct arena *arena,
                      struct status *st)
{
    char event_id[UUID_TEXT_SIZE];
    uuid_v7(event_id);
    const struct audit_record record = {
        .event_id = event_id,
        .action = action,
        .origin = "registry",
        .entity_id = entity_id,
        .actor = name ? arena_printf(arena, "operator:%s", name) : "service:registry",
        .occurred_at_ms = now_ms,
        .source = source,
        .outcome = "OK",
        .detail = detail,
    };
    return audit_note(tx, &record, 1, arena, st);
}

static enum code session_begin(struct db *tx, const struct operator_row *who, const char *source,
                               int64_t now_ms, char secret[OPERATOR_SECRET_MAX], struct arena *arena,
                               struct session *ret, struct status *st)
{
    uint8_t hash[SHA256_SIZE];
    char *id = arena_alloc(arena, UUID_TEXT_SIZE);
    uuid_v7(id);
    secret_make(secret, hash);
    *ret = (struct session){
        .id = id,
        .who = who->operator,
        .source = source,
        .created_at_ms = now_ms,
        .expires_at_ms = now_ms + SESSION_LIFE_MS,
        .last_used_at_ms = now_ms,
    };
    TRY(store_session_insert(tx, ret, who->id, hash, arena, st));
    TRY(store_operator_seen(tx, who->id, now_ms, arena, st));
    const struct activity said = {
        .occurred_at_ms = now_ms,
        .event = "session.opened",
        .actor = arena_printf(arena, "operator:%s", who->operator.name),
        .message = arena_printf(arena, "%s signed in", who->operator.name),
    };
    TRY(note(tx, "session.opened", id, who->operator.name, source, now_ms, NULL, arena, st));
    return activity_add(tx, &said, 1, arena, st);
}

/* ---- links ---- */

enum code operator_link_create(struct db *db, unsigned roles, int64_t now_ms, char link[OPERATOR_SECRET_MAX],
                               struct arena *arena, struct status *st)
{
    uint8_t hash[SHA256_SIZE];
    char id[UUID_TEXT_SIZE];
    uuid_v7(id);
    secret_make(link, hash);
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    TRY(store_link_insert(tx, hash, roles, now_ms, now_ms + OPERATOR_LINK_LIFE_MS, arena, st));
    TRY(note(tx, "operator.link_created", id, NULL, NULL, now_ms, "a one-time link", arena, st));
    return db_commit(tx, st);
}

static enum code password_fit(const char *name, const char *password, struct status *st)
{
    size_t len = strlen(password);
    if (len < PASSWORD_MIN || len > PASSWORD_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "password: between %d and %d bytes", PASSWORD_MIN,
                          PASSWORD_MAX);
    if (strspn(password, (char[]){password[0], '\0'}) == len)
        return status_set(st, CODE_INVALID_ARGUMENT, "password: one character repeated is too easy to guess");
    if (*name && strstr(password, name) && len < strlen(name) + PASSWORD_MIN)
        return status_set(st, CODE_INVALID_ARGUMENT, "password: must not be little more than the name");
    return CODE_OK;
}

static enum code operator_make(struct db *tx, const char *name, unsigned roles, const char *hashed,
                               const char *source, int64_t now_ms, struct arena *arena,
                               struct operator_row *ret, struct status *st)
{
    char *id = arena_alloc(arena, UUID_TEXT_SIZE);
    if (!name)
        return status_set(st, CODE_INVALID_ARGUMENT, "name: needed");
    uuid_v7(id);
    *ret = (struct operator_row){
        .id = id,
        .operator= {.name = name, .roles = roles, .label_selector = ""},
        .password = hashed,
    };
    enum code code = store_operator_insert(tx, ret, now_ms, arena, st);
    if (code == CODE_ALREADY_EXISTS)
        return status_set(st, code, "somebody is named \"%s\" already; choose another name", name);
    TRY(code);
    return note(tx, "operator.created", id, name, source, now_ms, "by a one-time link", arena, st);
}

/* Whoever was invited, or forgot the password. */
static enum code operator_welcome(struct db *tx, const struct operator_row *who, const char *name,
                                  const char *hashed, const char *source, int64_t now_ms, struct arena *arena,
                                  struct status *st)
{
    int64_t ended;
    if (who->disabled)
        return status_set(st, CODE_UNAUTHENTICATED, LINK_OVER);
    if (name && strcmp(name, who->operator.name) != 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "name: this link is for \"%s\"", who->operator.name);
    TRY(store_operator_password(tx, who->id, hashed, arena, st));
    TRY(store_operator_sessions_delete(tx, who->id, arena, &ended, st));
    return note(tx, "operator.password_set", who->id, who->operator.name, source, now_ms,
                "by a one-time link", arena, st);
}

enum code operator_link_redeem(struct db *db, const char *link, const char *name, const char *password,
                               const char *source, int64_t now_ms, char secret[OPERATOR_SECRET_MAX],
                               struct arena *arena, struct session *ret, struct status *st)
{
    uint8_t hash[SHA256_SIZE];
    char hashed[PASSWORD_HASH_SIZE];
    struct operator_row row;
    unsigned roles;
    sha256((struct bytes){(const uint8_t *)link, strlen(link)}, hash);
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    enum code code = store_link_use(tx, hash, now_ms, arena, &roles, st);
    if (code == CODE_NOT_FOUND)
        return status_set(st, CODE_UNAUTHENTICATED, LINK_OVER);
    TRY(code);
    TRY(store_link_operator(tx, hash, arena, &row, st));
    const char *who = row.id ? row.operator.name : name;
    TRY(password_fit(who ? who : "", password, st));
    TRY(hash_begin(st));
    code = password_hash((struct bytes){(const uint8_t *)password, strlen(password)}, hashed, st);
    hash_end();
    TRY(code);
    TRY(row.id ? operator_welcome(tx, &row, name, hashed, source, now_ms, arena, st)
               : operator_make(tx, name, roles, hashed, source, now_ms, arena, &row, st));
    TRY(session_begin(tx, &row, source, now_ms, secret, arena, ret, st));
    return db_commit(tx, st);
}

/* ---- sessions ---- */

/* Attempts are counted by it; what is no address counts as it is. */
static const char *network_of(const char *source, struct arena *arena)
{
    uint8_t address[16];
    char text[INET6_ADDRSTRLEN];
    return cidr_source(source, address) && inet_ntop(AF_INET6, address, text, sizeof(text))
               ? arena_strdup(arena, text)
               : source;
}

enum code operator_login(struct db *db, const char *name, const char *password, const char *source,
                         int64_t now_ms, char secret[OPERATOR_SECRET_MAX], struct arena *arena,
                         struct session *ret, struct status *st)
{
    int64_t of_name, of_all;
    const char *network = network_of(source, arena);
    TRY(hash_begin(st));
    struct operator_row row = {0};
    enum code code =
        store_attempt_add(db, network, name, now_ms, now_ms + ATTEMPT_LIFE_MS, arena, &of_name, &of_all, st);
    if (code == CODE_OK && (of_name > ATTEMPTS_OF_NAME || of_all > ATTEMPTS_OF_ALL))
        code =
            status_set(st, CODE_RESOURCE_EXHAUSTED,
                       "too many sign-ins failed; wait %d minutes, then try again", ATTEMPT_LIFE_MS / 60000);
    if (code == CODE_OK)
        code = store_operator_get(db, name, arena, &row, st);
    bool right = false;
    if (code == CODE_OK || code == CODE_NOT_FOUND)
        right = password_right((struct bytes){(const uint8_t *)password, strlen(password)}, row.password);
    hash_end();
    if (code != CODE_OK && code != CODE_NOT_FOUND)
        return code;
    if (!right || row.disabled)
        return status_set(st, CODE_UNAUTHENTICATED, WRONG);

    CLEANUP(db_scope_end) struct db *tx = db;
    bool still;
    TRY(db_begin(tx, st));
    /* Whoever sets another password ends the sessions that there are: none may come after them. */
    TRY(store_operator_hold(tx, &row, arena, &still, st));
    if (!still)
        return status_set(st, CODE_UNAUTHENTICATED, WRONG);
    TRY(store_attempt_forgive(tx, network, name, arena, st));
    TRY(session_begin(tx, &row, source, now_ms, secret, arena, ret, st));
    return db_commit(tx, st);
}

enum code session_check(struct db *db, const char *secret, int64_t now_ms, struct arena *arena,
                        struct session *ret, struct status *st)
{
    uint8_t hash[SHA256_SIZE];
    sha256((struct bytes){(const uint8_t *)secret, strlen(secret)}, hash);
    enum code code = store_session_use(db, hash, now_ms, arena, ret, st);
    if (code == CODE_NOT_FOUND)
        return status_set(st, CODE_UNAUTHENTICATED, "this session has ended; sign in again");
    return code;
}

enum code session_list(struct db *db, const char *name, int64_t now_ms, struct arena *arena,
                       struct session **ret, size_t *ret_n, struct status *st)
{
    return store_sessions_select(db, name, NULL, now_ms, arena, ret, ret_n, st);
}

enum code session_get(struct db *db, const char *name, const char *id, int64_t now_ms, struct arena *arena,
                      struct session *ret, struct status *st)
{
    struct session *found;
    size_t n;
    TRY(store_sessions_select(db, name, id, now_ms, arena, &found, &n, st));
    if (n == 0)
        return status_set(st, CODE_NOT_FOUND, "you have no session %s", id);
    *ret = found[0];
    return CODE_OK;
}

enum code session_end(struct db *db, const char *name, const char *id, int64_t now_ms, struct arena *arena,
                      struct session *ret, struct status *st)
{
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    TRY(session_get(tx, name, id, now_ms, arena, ret, st));
    TRY(store_session_delete(tx, id, arena, st));
    TRY(note(tx, "session.ended", id, name, NULL, now_ms, NULL, arena, st));
    return db_commit(tx, st);
}
