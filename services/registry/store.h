/* Statements and rows: the only file with SQL is store.c. */
#ifndef CLM_REGISTRY_STORE_H
#define CLM_REGISTRY_STORE_H

#include "registry.h"
#include "scope/selector.h"

enum code store_agent_insert(struct db *tx, const struct agent *agent, const char *created_by,
                             const char *idempotency_key, struct bytes request_sha256, struct arena *arena,
                             struct status *st) MUST_CHECK;
/* NOT_FOUND if nobody registered with that key. */
enum code store_agent_by_key(struct db *tx, const char *created_by, const char *idempotency_key,
                             struct arena *arena, struct agent *ret, struct bytes *ret_request_sha256,
                             struct status *st) MUST_CHECK;
enum code store_agents_lock(struct db *tx, const char *const *ids, size_t n, const struct timing *timing,
                            int64_t now_ms, struct arena *arena, struct agent **ret, size_t *ret_n,
                            struct status *st) MUST_CHECK;
/* The version of each is the new one; `before` its status until now. */
enum code store_agents_save(struct db *tx, struct agent *const *agents, const enum agent_status *before,
                            size_t n, struct arena *arena, struct status *st) MUST_CHECK;
struct pending_identity {
    int64_t generation, not_after_ms;
    const char *fingerprint;
};
/* Of an agent that the transaction holds. */
enum code store_identity_pending(struct db *tx, const char *id, const struct pending_identity *what,
                                 struct arena *arena, struct status *st) MUST_CHECK;
/* Holds the agent, and takes what was pending up to this generation away; ret->fingerprint NULL: this one was
 * not. */
enum code store_identity_confirmed(struct db *tx, const char *id, int64_t generation, struct arena *arena,
                                   struct pending_identity *ret, struct status *st) MUST_CHECK;
enum code store_agent_delete(struct db *tx, const char *id, struct arena *arena,
                             struct status *st) MUST_CHECK;
enum code store_platform_get(struct db *db, struct arena *arena, struct platform *ret,
                             struct status *st) MUST_CHECK;
/* *ret_changed false: it was so already. */
enum code store_platform_safe_mode(struct db *tx, bool on, const char *reason, const char *by, int64_t now_ms,
                                   struct arena *arena, struct platform *ret, bool *ret_changed,
                                   struct status *st) MUST_CHECK;
/* NOT_FOUND if it is not there or its labels do not hold. */
enum code store_agent_get(struct db *db, const struct label_terms *terms, const char *id, struct arena *arena,
                          struct agent *ret, struct status *st) MUST_CHECK;
enum code store_agent_labels(struct db *tx, const char *id, const struct label *labels, size_t n,
                             struct arena *arena, struct status *st) MUST_CHECK;
enum code store_agent_scope(struct db *tx, const char *id, struct bytes scope, struct arena *arena,
                            struct status *st) MUST_CHECK;
/* Those of the ids whose labels hold. */
enum code store_agents_seen(struct db *db, const struct label_terms *terms, const char *const *ids, size_t n,
                            struct arena *arena, const char ***ret, size_t *ret_n,
                            struct status *st) MUST_CHECK;
enum code store_agents_select(struct db *db, const struct agent_filter *filter,
                              const struct label_terms *terms, const struct agent_place *after, size_t max,
                              struct arena *arena, struct agent **ret, size_t *ret_n,
                              struct status *st) MUST_CHECK;
enum code store_counts(struct db *db, const struct label_terms *terms, struct dashboard *ret,
                       struct arena *arena, struct status *st) MUST_CHECK;
enum code store_activity_recent(struct db *db, const struct label_terms *terms, size_t max,
                                struct arena *arena, struct activity **ret, size_t *ret_n,
                                struct status *st) MUST_CHECK;
enum code store_activity_add(struct db *tx, const struct activity *rows, size_t n, struct arena *arena,
                             struct status *st) MUST_CHECK;
/* Updates heartbeats and the gateway; ret_clone[i]: two instances of that agent take turns; *ret are the
 * agents whose stored state is not what their heartbeat says. */
enum code store_heartbeats(struct db *db, const struct timing *timing, int64_t now_ms, const char *gateway_id,
                           const char *epoch, const struct heartbeat *beats, size_t n, struct arena *arena,
                           const char ***ret_ids, const bool **ret_clone, size_t *ret_n,
                           struct status *st) MUST_CHECK;
/* Instances begin to be counted anew. */
enum code store_instances_forget(struct db *tx, const char *id, struct arena *arena,
                                 struct status *st) MUST_CHECK;
enum code store_sweep_mark(struct db *db, const struct timing *timing, int64_t now_ms, struct arena *arena,
                           struct status *st) MUST_CHECK;
enum code store_sweep_find(struct db *db, const struct timing *timing, int64_t now_ms, size_t max,
                           struct arena *arena, const char ***ret_ids, size_t *ret_n,
                           struct status *st) MUST_CHECK;
enum code store_counts_fold(struct db *db, struct status *st) MUST_CHECK;
enum code store_activity_trim(struct db *db, int64_t keep, struct arena *arena, struct status *st) MUST_CHECK;

/* "task.*" as a LIKE pattern; without the '*' it matches itself alone. */
const char *store_pattern(const char *text, struct arena *arena);
struct activity_filter {
    const char *agent_id, *actor, *event; /* NULL: any; event may end in '*' */
    int64_t before_id;                    /* -1: the newest */
};
enum code store_activity_list(struct db *db, const struct label_terms *terms,
                              const struct activity_filter *filter, size_t max, struct arena *arena,
                              struct activity **ret, size_t *ret_n, struct status *st) MUST_CHECK;
void store_arg_terms(struct db_args *args, const struct label_terms *terms);

struct stored_key {
    struct api_key key;
    const uint8_t *hash; /* 32 bytes */
    int64_t expires_at_ms;
    bool revoked;
};
enum code store_key_insert(struct db *db, const struct api_key *key, const char *created_by,
                           const uint8_t hash[32], int64_t expires_at_ms, int64_t now_ms, struct arena *arena,
                           struct status *st) MUST_CHECK;
enum code store_key_get(struct db *db, const char *id, struct arena *arena, struct stored_key *ret,
                        struct status *st) MUST_CHECK;
/* At most one write a minute. */
enum code store_key_used(struct db *db, const char *id, int64_t now_ms, struct arena *arena,
                         struct status *st) MUST_CHECK;

struct operator_row {
    const char *id;
    struct operator operator;
    const char *password; /* of password_hash; NULL: nobody has that name */
    bool disabled;
};
enum code store_operator_insert(struct db *tx, const struct operator_row *row, int64_t now_ms,
                                struct arena *arena, struct status *st) MUST_CHECK;
enum code store_operator_get(struct db *db, const char *name, struct arena *arena, struct operator_row *ret,
                             struct status *st) MUST_CHECK;
/* Until the end of the transaction nobody sets another password, or disables; *ret_still false: somebody has.
 */
enum code store_operator_hold(struct db *tx, const struct operator_row *row, struct arena *arena,
                              bool *ret_still, struct status *st) MUST_CHECK;
enum code store_link_insert(struct db *db, const uint8_t hash[32], unsigned roles, int64_t now_ms,
                            int64_t expires_at_ms, struct arena *arena, struct status *st) MUST_CHECK;
/* NOT_FOUND unless it was good until now. */
enum code store_link_use(struct db *tx, const uint8_t hash[32], int64_t now_ms, struct arena *arena,
                         unsigned *ret_roles, struct status *st) MUST_CHECK;
enum code store_session_insert(struct db *tx, const struct session *session, const char *operator_id,
                               const uint8_t hash[32], struct arena *arena, struct status *st) MUST_CHECK;
/* NOT_FOUND when it is over; at most one write a minute. */
enum code store_session_use(struct db *db, const uint8_t hash[32], int64_t now_ms, struct arena *arena,
                            struct session *ret, struct status *st) MUST_CHECK;
/* id NULL: all of the operator's. */
enum code store_sessions_select(struct db *db, const char *name, const char *id, int64_t now_ms,
                                struct arena *arena, struct session **ret, size_t *ret_n,
                                struct status *st) MUST_CHECK;
enum code store_session_delete(struct db *db, const char *id, struct arena *arena,
                               struct status *st) MUST_CHECK;
/* Counts one attempt: *ret_of_name of this source with this name, *ret_of_all of this source. */
enum code store_attempt_add(struct db *db, const char *source, const char *name, int64_t now_ms,
                            int64_t ends_at_ms, struct arena *arena, int64_t *ret_of_name,
                            int64_t *ret_of_all, struct status *st) MUST_CHECK;
enum code store_attempt_forgive(struct db *tx, const char *source, const char *name, struct arena *arena,
                                struct status *st) MUST_CHECK;
/* Links, sessions and attempts whose time is over. */
enum code store_operators_trim(struct db *db, int64_t now_ms, struct arena *arena,
                               struct status *st) MUST_CHECK;

#endif
