/*
 * All SQL of clm-bootstrap. Each function is one statement (or two) in the caller's session and, where it
 * says so, in the caller's transaction. Times are Unix milliseconds. What is returned lives in the arena.
 */
#ifndef CLM_BOOTSTRAP_STORE_H
#define CLM_BOOTSTRAP_STORE_H

#include "base/arena.h"
#include "base/embed.h"
#include "base/id.h"
#include "db/db.h"
#include "pki/crl.h"
#include "pki/digest.h"
#include "safemode/safemode.h"

#define STORE_SCHEMA "bootstrap"
extern const struct embed bootstrap_migrations[];

/* ---- whose CA this is -------------------------------------------------------------------------------------
 */

struct ca_row {
    const char *root_sha256, *trust_domain;
};
enum code store_ca_read(struct db *db, struct arena *arena, struct ca_row *ret,
                        struct status *st) MUST_CHECK; /* NOT_FOUND */
enum code store_ca_write(struct db *db, const struct ca_row *row, struct status *st) MUST_CHECK;
/* Session advisory lock of init; *ret_held false: another init runs. */
enum code store_init_lock(struct db *db, bool *ret_held, struct status *st) MUST_CHECK;

/* ---- tokens -----------------------------------------------------------------------------------------------
 */

struct new_token {
    const char *id, *agent_id, *hostname, *created_by;
    const char *hostname_pattern, *source_cidr; /* NULL: none */
    const uint8_t *secret_sha256;
    int64_t now_ms, not_after_ms;
};
/* In a transaction: adds it, and revokes the agent's other open tokens. *ret_added false: its id is there. */
enum code store_token_add(struct db *db, const struct new_token *token, bool *ret_added,
                          struct status *st) MUST_CHECK;
/* Another secret and end for a token that is there. *ret_changed false: it was used, revoked, or is another
 * agent's. */
enum code store_token_renew(struct db *db, const struct new_token *token, bool *ret_changed,
                            struct status *st) MUST_CHECK;

enum token_state {
    TOKEN_OPEN,    /* never used */
    TOKEN_BOUND,   /* used; its identity is not confirmed */
    TOKEN_USED,    /* burnt */
    TOKEN_EXPIRED, /* never used in time */
    TOKEN_REVOKED,
    TOKEN_DISABLED, /* the agent is */
    TOKEN_UNKNOWN,
    TOKEN_STATE_COUNT,
};
const char *token_state_name(enum token_state state);

struct token_row {
    const char *id, *agent_id;                  /* NULL when unknown */
    const char *hostname_pattern, *source_cidr; /* NULL: none */
    enum token_state state;
};
/* TOKEN_UNKNOWN is an answer, not an error. */
enum code store_token_find(struct db *db, struct arena *arena, const uint8_t secret_sha256[SHA256_SIZE],
                           int64_t now_ms, struct token_row *ret, struct status *st) MUST_CHECK;
/* One UPDATE: binds an open token to these two keys, or finds it bound to them already, and holds its row
 * until the transaction ends. *ret_bound false: it is neither. */
enum code store_token_bind(struct db *db, const uint8_t secret_sha256[SHA256_SIZE],
                           const uint8_t identity_spki[SHA256_SIZE], const uint8_t task_spki[SHA256_SIZE],
                           int64_t now_ms, bool *ret_bound, struct status *st) MUST_CHECK;
/* *ret_in_use: it made an identity that may yet be confirmed; *ret_in_time: and its own time is not over. */
enum code store_token_in_use(struct db *db, const char *id, int64_t now_ms, bool *ret_in_use,
                             bool *ret_in_time, struct status *st) MUST_CHECK;
/* A refusal is a change of the token, too: gives its event's version. */
enum code store_token_touch(struct db *db, const char *id, uint64_t *ret_version,
                            struct status *st) MUST_CHECK;

struct token_view {
    const char *id, *hostname, *created_by;
    const char *hostname_pattern, *source_cidr; /* NULL: none */
    enum token_state state;
    int64_t created_at_ms, not_after_ms, bound_at_ms, used_at_ms, revoked_at_ms; /* -1: not */
};
enum code store_token_list(struct db *db, struct arena *arena, const char *agent_id, int64_t now_ms,
                           size_t max, struct token_view **ret, size_t *ret_n, struct status *st) MUST_CHECK;
/* *ret_version 0: it is burnt or revoked already, or not this agent's. */
enum code store_token_revoke(struct db *db, const char *agent_id, const char *id, int64_t now_ms,
                             uint64_t *ret_version, struct status *st) MUST_CHECK;

struct voided_token {
    const char *id, *agent_id;
    uint64_t version;
};
/* Revokes those that were made before `before_ms` and are not burnt; at most `max`. */
enum code store_tokens_void(struct db *db, struct arena *arena, int64_t before_ms, int64_t now_ms, size_t max,
                            struct voided_token **ret, size_t *ret_n, struct status *st) MUST_CHECK;
/* A lower epoch changes nothing. */
enum code store_epoch_put(struct db *db, uint64_t epoch, int64_t restored_at_ms,
                          struct status *st) MUST_CHECK;
/* -1: never restored. */
enum code store_epoch_get(struct db *db, int64_t *ret_restored_at_ms, struct status *st) MUST_CHECK;

/* ---- identities -------------------------------------------------------------------------------------------
 */

struct identity_row {
    const char *agent_id, *token_id;
    uint32_t generation;
    const uint8_t *identity_spki, *task_spki; /* SHA-256 each */
    struct bytes identity_certificate, task_certificate, issuer_certificate;
    const char *serial, *fingerprint;
    int64_t not_after_ms, issued_at_ms;
    bool confirmed;
    uint64_t version; /* the agent's entity version */
};
/* Takes the agent's lock until the transaction ends, and says which generation comes next. */
enum code store_identity_lock(struct db *db, const char *agent_id, uint32_t *ret_next_generation,
                              struct status *st) MUST_CHECK;
/* The generation that a token made now will become; without the lock. */
enum code store_identity_next(struct db *db, const char *agent_id, uint32_t *ret,
                              struct status *st) MUST_CHECK;
enum code store_identity_of_token(struct db *db, struct arena *arena, const char *token_id,
                                  struct identity_row *ret, struct status *st) MUST_CHECK; /* NOT_FOUND */
enum code store_identity_get(struct db *db, struct arena *arena, const char *agent_id, uint32_t generation,
                             struct identity_row *ret, struct status *st) MUST_CHECK; /* NOT_FOUND */
/* The one of the confirmed generation. */
enum code store_identity_confirmed(struct db *db, struct arena *arena, const char *agent_id,
                                   struct identity_row *ret, struct status *st) MUST_CHECK; /* NOT_FOUND */
/* In a transaction that holds the lock. */
enum code store_identity_add(struct db *db, const struct identity_row *row, uint64_t *ret_version,
                             struct status *st) MUST_CHECK;

/* In a transaction that holds the lock: removes a generation that was never confirmed. */
enum code store_identity_drop(struct db *db, const char *agent_id, uint32_t generation,
                              struct status *st) MUST_CHECK;
/* The identity with this task certificate: of the confirmed generation, or issued after it. */
enum code store_identity_signer(struct db *db, struct arena *arena, const char *agent_id,
                                struct bytes task_certificate, struct identity_row *ret,
                                struct status *st) MUST_CHECK; /* NOT_FOUND */

struct confirmation {
    bool changed;
    uint64_t version;     /* of the agent; when changed */
    const char *token_id; /* burnt by this; NULL if none was */
    uint64_t token_version;
};
/* One statement: raises the confirmed generation, burns the token. Not changed: it was there already, the
 * token was revoked, or there is no such identity; then the transaction is to be rolled back. */
enum code store_identity_confirm(struct db *db, struct arena *arena, const char *agent_id,
                                 uint32_t generation, int64_t now_ms, struct confirmation *ret,
                                 struct status *st) MUST_CHECK;

/* Whether this very identity came of a token that somebody revoked, and not of one that the restore made
 * void. */
enum code store_identity_is_void(struct db *db, const struct identity_row *row, int64_t restored_at_ms,
                                 bool *ret, struct status *st) MUST_CHECK;

/* The latest and the confirmed identity of the next page_size agents after after_agent_id ("" for the first),
 * by agent id, then generation. */
enum code store_identity_page(struct db *db, struct arena *arena, const char *after_agent_id,
                              uint32_t page_size, struct identity_row **ret, size_t *ret_n, bool *ret_last,
                              struct status *st) MUST_CHECK;

/* All that it ever had and that were not replaced before they were confirmed, oldest first. */
enum code store_identity_history(struct db *db, struct arena *arena, const char *agent_id,
                                 struct identity_row **ret, size_t *ret_n, struct status *st) MUST_CHECK;

struct identity_view {
    uint32_t generation;
    const char *serial, *fingerprint, *token_id;                        /* token_id NULL: a renewal */
    int64_t issued_at_ms, not_after_ms, confirmed_at_ms, revoked_at_ms; /* -1: not */
    bool current, pending; /* the confirmed one; issued after it */
};
/* Newest first, at most max. */
enum code store_identity_views(struct db *db, struct arena *arena, const char *agent_id, size_t max,
                               struct identity_view **ret, size_t *ret_n, struct status *st) MUST_CHECK;

/* ---- revocation (store_crl.c) -----------------------------------------------------------------------------
 */

struct revoked_row {
    const char *issuer, *serial, *agent_id;
    enum crl_reason reason;
    int64_t revoked_at_ms, not_after_ms;
};
/* One that is there stays as it is. */
enum code store_revoked_add(struct db *db, const struct revoked_row *row, struct status *st) MUST_CHECK;
/* In a transaction: forgets what ended before, and gives the rest, marked as listed in `number`. */
enum code store_revoked_list(struct db *db, struct arena *arena, const char *issuer, uint64_t number,
                             int64_t ended_before_ms, struct crl_entry **ret, size_t *ret_n,
                             struct status *st) MUST_CHECK;

struct crl_row {
    const char *issuer;
    uint64_t number;
    int64_t this_update_ms, next_update_ms;
    struct bytes der;
    bool late_told, unlisted; /* unlisted: something was revoked since */
};
enum code store_crl_put(struct db *db, const struct crl_row *row, struct status *st) MUST_CHECK;
enum code store_crl_get(struct db *db, struct arena *arena, const char *issuer, struct crl_row *ret,
                        struct status *st) MUST_CHECK; /* NOT_FOUND */
/* *ret_first: nobody had been told of this list yet. */
enum code store_crl_late(struct db *db, const char *issuer, bool *ret_first, struct status *st) MUST_CHECK;

/* ---- the projection of agents -----------------------------------------------------------------------------
 */

struct scope_row {
    const char *agent_id;
    uint64_t version, scope_version;
    const int64_t *operations; /* Task.Kind */
    size_t n_operations;
    const char *const *paths;
    size_t n_paths;
    const char *const *dns_names;
    size_t n_dns_names;
    bool disabled;           /* or frozen: its tokens do not count */
    enum safe_column column; /* what it may have signed */
    uint32_t min_generation; /* identities below are refused */
};
/* What a token's creator says: the first row, or a newer scope than the one there. Never touches the last
 * two.
 */
enum code store_scope_seed(struct db *db, const struct scope_row *row, struct status *st) MUST_CHECK;
/* What an event says; a version that is not greater changes nothing. */
/* Of an agent that is no more. */
enum code store_tokens_void_of_agent(struct db *db, const char *agent_id, int64_t now_ms,
                                     struct status *st) MUST_CHECK;
enum code store_scope_apply(struct db *db, const struct scope_row *row, struct status *st) MUST_CHECK;

struct agent_scope {
    uint64_t version;    /* of the registry's row */
    unsigned operations; /* SCOPE_OPERATION bits */
    char **dns_names;
    size_t n_dns_names;
    enum safe_column column;
    uint32_t min_generation;
};
enum code store_scope_get(struct db *db, struct arena *arena, const char *agent_id, struct agent_scope *ret,
                          struct status *st) MUST_CHECK; /* NOT_FOUND */

/* ---- certificates -----------------------------------------------------------------------------------------
 */

struct certificate_row {
    const char *task_id, *agent_id, *serial;
    uint32_t attempt;
    const uint8_t *spki; /* SHA-256 */
    struct bytes certificate, issuer_certificate;
    int64_t not_after_ms, issued_at_ms;
};
/* NOT_FOUND; *ret_others counts those of the same attempt for other keys either way. */
enum code store_certificate_find(struct db *db, struct arena *arena, const char *task_id, uint32_t attempt,
                                 const uint8_t spki[SHA256_SIZE], struct certificate_row *ret,
                                 uint32_t *ret_others, struct status *st) MUST_CHECK;
enum code store_certificate_add(struct db *db, const struct certificate_row *row,
                                struct status *st) MUST_CHECK;

#endif
