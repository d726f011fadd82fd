/*
 * Operators as administrators handle them. Whoever changes one holds the table's lock, so that two
 * administrators cannot take the last right away from each other at the same moment.
 */
#include "grants.h"

#include <string.h>

#include "audit.h"
#include "base/id.h"
#include "base/secret.h"
#include "pki/digest.h"
#include "selector.h"
#include "store.h"
#include "store_idempotency.h"

#define ROLE_ADMIN   (1u << 3)
#define ROLES_KNOWN  0x1eu
#define SECRET_BYTES 32

static enum code note(struct db *tx, const struct cause *cause, const char *action, const char *entity_id,
                      const char *message, struct arena *arena, struct status *st)
{
    char event_id[UUID_TEXT_SIZE];
    uuid_v7(event_id);
    const struct audit_record record = {
        .event_id = event_id,
        .action = action,
        .origin = "registry",
        .entity_id = entity_id,
        .actor = cause->actor,
        .occurred_at_ms = cause->now_ms,
        .outcome = "OK",
        .detail = message,
    };
    const struct activity said = {
        .occurred_at_ms = cause->now_ms, .event = action, .actor = cause->actor, .message = message};
    TRY(audit_note(tx, &record, 1, arena, st));
    return activity_add(tx, &said, 1, arena, st);
}

static const char *roles_text(unsigned roles, struct arena *arena)
{
    static const char *const names[] = {[1] = "viewer", [2] = "operator", [3] = "admin", [4] = "auditor"};
    const char *text = "";
    for (unsigned i = 1; i < ARRAY_LEN(names); i++)
        if (roles & (1u << i))
            text = arena_printf(arena, "%s%s%s", text, *text ? ", " : "", names[i]);
    return text;
}

static const char *grant_text(const struct grant *grant, struct arena *arena)
{
    const char *roles = roles_text(grant->roles, arena);
    return *grant->selector ? arena_printf(arena, "%s of %.200s", roles, grant->selector) : roles;
}

static enum code grant_fit(const struct grant *grant, struct arena *arena, struct status *st)
{
    struct label_terms terms;
    if (grant->roles == 0 || (grant->roles & ~ROLES_KNOWN))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "roles: at least one of VIEWER, OPERATOR, ADMIN, AUDITOR");
    if (label_terms_read(grant->selector, NULL, 0, arena, &terms, st) != CODE_OK)
        return status_wrap(st, "labelSelector");
    return CODE_OK;
}

/* ---- reading ---- */

enum code operators_list(struct db *db, const char *after_id, size_t max, int64_t now_ms, struct arena *arena,
                         struct operator_entry **ret, size_t *ret_n, struct status *st)
{
    return store_operators_select(db, NULL, after_id, max, now_ms, arena, ret, ret_n, st);
}

enum code operator_get(struct db *db, const char *id, int64_t now_ms, struct arena *arena,
                       struct operator_entry *ret, struct status *st)
{
    struct operator_entry *found;
    size_t n;
    TRY(store_operators_select(db, id, NULL, 1, now_ms, arena, &found, &n, st));
    if (n == 0)
        return status_set(st, CODE_NOT_FOUND, "operator %s: there is none", id);
    *ret = found[0];
    return CODE_OK;
}

enum code operator_sessions(struct db *db, const char *id, int64_t now_ms, struct arena *arena,
                            struct session **ret, size_t *ret_n, struct status *st)
{
    struct operator_entry entry;
    TRY(operator_get(db, id, now_ms, arena, &entry, st));
    return store_sessions_select(db, entry.who.name, NULL, now_ms, arena, ret, ret_n, st);
}

/* ---- invitations ---- */

static void link_secret(char link[OPERATOR_SECRET_MAX], uint8_t hash[SHA256_SIZE])
{
    uint8_t random[SECRET_BYTES];
    random_bytes(random, sizeof(random));
    (void)base64url_encode(random, sizeof(random), link, OPERATOR_SECRET_MAX);
    explicit_bzero(random, sizeof(random));
    sha256((struct bytes){(const uint8_t *)link, strlen(link)}, hash);
}

static enum code link_make(struct db *tx, const char *id, const char *operator_id, int64_t now_ms,
                           int64_t ttl_sec, char link[OPERATOR_SECRET_MAX], struct arena *arena,
                           struct status *st)
{
    uint8_t hash[SHA256_SIZE];
    link_secret(link, hash);
    return store_operator_link(tx, id, hash, operator_id, now_ms, now_ms + ttl_sec * 1000, arena, st);
}

/* A link that is asked for again: a fresh secret, as long as the first was not used. */
static enum code link_again(struct db *tx, const char *id, int64_t not_after_ms,
                            char link[OPERATOR_SECRET_MAX], struct arena *arena, struct status *st)
{
    uint8_t hash[SHA256_SIZE];
    bool changed;
    link_secret(link, hash);
    TRY(store_operator_link_renew(tx, id, hash, not_after_ms, arena, &changed, st));
    if (!changed)
        link[0] = '\0';
    return CODE_OK;
}

static enum code ttl_fit(int64_t ttl_sec, struct status *st)
{
    if (ttl_sec < INVITE_TTL_MIN_SEC || ttl_sec > INVITE_TTL_MAX_SEC)
        return status_set(st, CODE_INVALID_ARGUMENT, "linkTtlSec: between %d and %d", INVITE_TTL_MIN_SEC,
                          INVITE_TTL_MAX_SEC);
    return CODE_OK;
}

/* An invitation that comes again: a fresh link, as long as the first was not used. */
static enum code invited_before(struct db *tx, const struct cause *cause, const char *id, int64_t ttl_sec,
                                char link[OPERATOR_SECRET_MAX], struct arena *arena,
                                struct operator_entry *ret, struct status *st)
{
    TRY(operator_get(tx, id, cause->now_ms, arena, ret, st));
    char link_id[UUID_TEXT_SIZE];
    link[0] = '\0';
    if (ret->state != OPERATOR_INVITED)
        return db_commit(tx, st);
    uuid_v7(link_id);
    TRY(link_make(tx, link_id, id, cause->now_ms, ttl_sec, link, arena, st));
    TRY(operator_get(tx, id, cause->now_ms, arena, ret, st));
    return db_commit(tx, st);
}

enum code operator_invite(struct db *db, const struct cause *cause, const char *name,
                          const struct grant *grant, int64_t ttl_sec, char link[OPERATOR_SECRET_MAX],
                          struct arena *arena, struct operator_entry *ret, struct status *st)
{
    char id[UUID_TEXT_SIZE], link_id[UUID_TEXT_SIZE];
    TRY(grant_fit(grant, arena, st));
    TRY(ttl_fit(ttl_sec, st));
    uuid_v7(id);
    uuid_v7(link_id);
    const char *made;
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    TRY(store_idempotency_claim(tx, cause, id, arena, &made, st));
    if (strcmp(made, id) != 0)
        return invited_before(tx, cause, made, ttl_sec, link, arena, ret, st);
    enum code code = store_operator_invite(tx, id, name, grant, cause->now_ms, arena, st);
    if (code == CODE_ALREADY_EXISTS)
        return status_set(st, code, "somebody is named \"%s\" already; choose another name", name);
    TRY(code);
    TRY(link_make(tx, link_id, id, cause->now_ms, ttl_sec, link, arena, st));
    TRY(note(tx, cause, "operator.invited", id,
             arena_printf(arena, "%s invited as %s", name, grant_text(grant, arena)), arena, st));
    TRY(operator_get(tx, id, cause->now_ms, arena, ret, st));
    return db_commit(tx, st);
}

enum code operator_invite_again(struct db *db, const struct cause *cause, const char *id, int64_t ttl_sec,
                                char link[OPERATOR_SECRET_MAX], struct arena *arena,
                                struct operator_entry *ret, struct status *st)
{
    char link_id[UUID_TEXT_SIZE];
    const char *made;
    TRY(ttl_fit(ttl_sec, st));
    uuid_v7(link_id);
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    TRY(store_operators_lock(tx, st));
    TRY(operator_get(tx, id, cause->now_ms, arena, ret, st));
    if (ret->state == OPERATOR_DISABLED)
        return status_set(st, CODE_FAILED_PRECONDITION, "%s is disabled; enable them first", ret->who.name);
    TRY(store_idempotency_claim(tx, cause, link_id, arena, &made, st));
    if (strcmp(made, link_id) != 0) {
        TRY(link_again(tx, made, cause->now_ms + ttl_sec * 1000, link, arena, st));
    } else {
        TRY(link_make(tx, link_id, id, cause->now_ms, ttl_sec, link, arena, st));
        TRY(note(tx, cause, "operator.link_created", id,
                 arena_printf(arena, "a fresh one-time link for %s", ret->who.name), arena, st));
    }
    TRY(operator_get(tx, id, cause->now_ms, arena, ret, st));
    return db_commit(tx, st);
}

/* ---- changes ---- */

static bool is_actor(const struct cause *cause, const struct operator_entry *entry)
{
    static const char prefix[] = "operator:";
    return strncmp(cause->actor, prefix, strlen(prefix)) == 0 &&
           strcmp(cause->actor + strlen(prefix), entry->who.name) == 0;
}

static bool is_admin_of_all(const struct operator_entry *entry)
{
    return entry->state == OPERATOR_ACTIVE && (entry->who.roles & ROLE_ADMIN) && !*entry->who.label_selector;
}

/* The lock is held; what would be too much is refused before it is written. */
static enum code change_begin(struct db *tx, const struct cause *cause, const char *id, struct arena *arena,
                              struct operator_entry *ret, struct status *st)
{
    TRY(db_begin(tx, st));
    TRY(store_operators_lock(tx, st));
    return operator_get(tx, id, cause->now_ms, arena, ret, st);
}

/* Somebody must be left who can give rights. */
static enum code may_lose_admin(struct db *tx, const struct cause *cause, const struct operator_entry *entry,
                                struct arena *arena, struct status *st)
{
    int64_t n;
    if (is_actor(cause, entry))
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "nobody takes their own rights away; ask another administrator");
    if (!is_admin_of_all(entry))
        return CODE_OK;
    TRY(store_operators_admins(tx, arena, &n, st));
    if (n <= 1)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "%s is the last administrator of the whole fleet; make another one first",
                          entry->who.name);
    return CODE_OK;
}

enum code operator_set_grant(struct db *db, const struct cause *cause, const char *id,
                             const struct grant *grant, struct arena *arena, struct operator_entry *ret,
                             struct status *st)
{
    TRY(grant_fit(grant, arena, st));
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(change_begin(tx, cause, id, arena, ret, st));
    if (!(grant->roles & ROLE_ADMIN) || *grant->selector)
        TRY(may_lose_admin(tx, cause, ret, arena, st));
    TRY(store_operator_grant(tx, id, grant, arena, st));
    TRY(note(tx, cause, "operator.granted", id,
             arena_printf(arena, "%s is %s now", ret->who.name, grant_text(grant, arena)), arena, st));
    TRY(operator_get(tx, id, cause->now_ms, arena, ret, st));
    return db_commit(tx, st);
}

enum code operator_set_disabled(struct db *db, const struct cause *cause, const char *id, bool disabled,
                                struct arena *arena, struct operator_entry *ret, struct status *st)
{
    int64_t ended = 0;
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(change_begin(tx, cause, id, arena, ret, st));
    if (disabled == (ret->state == OPERATOR_DISABLED))
        return db_commit(tx, st);
    if (disabled) {
        TRY(may_lose_admin(tx, cause, ret, arena, st));
        TRY(store_operator_sessions_delete(tx, id, arena, &ended, st));
    }
    TRY(store_operator_disable(tx, id, disabled ? cause->now_ms : -1, arena, st));
    TRY(note(tx, cause, disabled ? "operator.disabled" : "operator.enabled", id,
             arena_printf(arena, "%s is %s", ret->who.name, disabled ? "disabled" : "enabled"), arena, st));
    TRY(operator_get(tx, id, cause->now_ms, arena, ret, st));
    return db_commit(tx, st);
}

enum code operator_end_sessions(struct db *db, const struct cause *cause, const char *id, struct arena *arena,
                                struct operator_entry *ret, struct status *st)
{
    int64_t ended;
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(change_begin(tx, cause, id, arena, ret, st));
    TRY(store_operator_sessions_delete(tx, id, arena, &ended, st));
    if (ended > 0)
        TRY(note(tx, cause, "session.ended", id,
                 arena_printf(arena, "all sessions of %s ended", ret->who.name), arena, st));
    return db_commit(tx, st);
}

/* ---- API keys ---- */

enum code api_keys_list(struct db *db, bool ended, const char *after_id, size_t max, int64_t now_ms,
                        struct arena *arena, struct api_key_entry **ret, size_t *ret_n, struct status *st)
{
    return store_keys_select(db, NULL, ended, after_id, max, now_ms, arena, ret, ret_n, st);
}

enum code api_key_get(struct db *db, const char *id, struct arena *arena, struct api_key_entry *ret,
                      struct status *st)
{
    struct api_key_entry *found;
    size_t n;
    TRY(store_keys_select(db, id, true, NULL, 1, 0, arena, &found, &n, st));
    if (n == 0)
        return status_set(st, CODE_NOT_FOUND, "API key %s: there is none", id);
    *ret = found[0];
    return CODE_OK;
}

/* A key that is asked for again: a fresh secret, as long as the first was not used. */
static enum code issued_before(struct db *tx, const char *id, char text[API_KEY_TEXT_MAX],
                               struct arena *arena, struct api_key_entry *ret, struct status *st)
{
    uint8_t hash[SHA256_SIZE];
    bool changed;
    api_key_renew(id, text, hash);
    TRY(store_key_renew(tx, id, hash, arena, &changed, st));
    if (!changed)
        text[0] = '\0';
    TRY(api_key_get(tx, id, arena, ret, st));
    return db_commit(tx, st);
}

enum code api_key_issue(struct db *db, const struct cause *cause, const char *name, const struct grant *grant,
                        int64_t expires_at_ms, char text[API_KEY_TEXT_MAX], struct arena *arena,
                        struct api_key_entry *ret, struct status *st)
{
    TRY(grant_fit(grant, arena, st));
    if (expires_at_ms <= cause->now_ms || expires_at_ms > cause->now_ms + API_KEY_TTL_MAX_MS)
        return status_set(st, CODE_INVALID_ARGUMENT, "expiresAt: in the future, and within ten years");
    uint8_t hash[SHA256_SIZE];
    char id[API_KEY_ID_SIZE];
    api_key_random(id, text, hash);
    const struct api_key key = {
        .id = id, .name = name, .roles = grant->roles, .label_selector = grant->selector};
    const char *made;
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    TRY(store_idempotency_claim(tx, cause, id, arena, &made, st));
    if (strcmp(made, id) != 0)
        return issued_before(tx, made, text, arena, ret, st);
    enum code code = store_key_insert(tx, &key, cause->actor, hash, expires_at_ms, cause->now_ms, arena, st);
    if (code == CODE_ALREADY_EXISTS)
        return status_set(st, code, "an API key named \"%s\" exists; choose another name", name);
    TRY(code);
    TRY(note(tx, cause, "api_key.created", id,
             arena_printf(arena, "API key %s: %s", name, grant_text(grant, arena)), arena, st));
    TRY(api_key_get(tx, id, arena, ret, st));
    return db_commit(tx, st);
}

enum code api_key_revoke(struct db *db, const struct cause *cause, const char *id, struct arena *arena,
                         struct api_key_entry *ret, struct status *st)
{
    bool changed;
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    TRY(api_key_get(tx, id, arena, ret, st));
    TRY(store_key_revoke(tx, id, cause->now_ms, arena, &changed, st));
    if (changed)
        TRY(note(tx, cause, "api_key.revoked", id, arena_printf(arena, "API key %s revoked", ret->key.name),
                 arena, st));
    TRY(api_key_get(tx, id, arena, ret, st));
    return db_commit(tx, st);
}
