/* Statements of the alerts, for alerts.c. */
#ifndef CLM_REGISTRY_STORE_ALERTS_H
#define CLM_REGISTRY_STORE_ALERTS_H

#include "alerts.h"
#include "store.h"

/* What changed is told in *ret, whole but for the times and names that an event does not carry. */
/* Only new ones: what repeats an open one is counted. */
enum code store_alerts_raise(struct db *tx, const char *const *ids, const struct alert_change *changes,
                             size_t n, int64_t now_ms, struct arena *arena, struct alert **ret, size_t *ret_n,
                             struct status *st) MUST_CHECK;
enum code store_alerts_resolve_of_agent(struct db *tx, const char *agent_id, enum alert_kind kind,
                                        int64_t now_ms, const char *by, struct arena *arena,
                                        struct alert **ret, size_t *ret_n, struct status *st) MUST_CHECK;
enum code store_alerts_quiet(struct db *db, int64_t before_ms, int64_t now_ms, const char *by,
                             struct arena *arena, struct alert **ret, size_t *ret_n,
                             struct status *st) MUST_CHECK;
/* Those that say that the database is older than it should be. */
enum code store_alerts_resolve_restored(struct db *tx, int64_t now_ms, const char *by, struct arena *arena,
                                        struct alert **ret, size_t *ret_n, struct status *st) MUST_CHECK;
enum code store_alerts_resolve(struct db *tx, const struct alert_change *changes, size_t n, int64_t now_ms,
                               const char *by, struct arena *arena, struct alert **ret, size_t *ret_n,
                               struct status *st) MUST_CHECK;
/* Agents whose identity ends soon and that nobody was told of. */
enum code store_alerts_expiring(struct db *db, int64_t now_ms, int64_t until_ms, size_t max,
                                struct arena *arena, struct alert_change **ret, size_t *ret_n,
                                struct status *st) MUST_CHECK;
enum code store_alerts_renewed(struct db *db, int64_t now_ms, int64_t until_ms, const char *by,
                               struct arena *arena, struct alert **ret, size_t *ret_n,
                               struct status *st) MUST_CHECK;
enum code store_alerts_trim(struct db *db, int64_t before_ms, struct arena *arena,
                            struct status *st) MUST_CHECK;
/* Of these agents, resolves open ones of the kind that are not wanted any more. */
enum code store_alerts_mended(struct db *tx, enum alert_kind kind, const char *const *agents, size_t n_agents,
                              const struct alert_change *wanted, size_t n, int64_t now_ms, const char *by,
                              struct arena *arena, struct alert **ret, size_t *ret_n,
                              struct status *st) MUST_CHECK;
/* Those of agents that exist and of which no open alert says the same already. */
enum code store_alerts_unknown(struct db *tx, const struct alert_change *wanted, size_t n,
                               struct arena *arena, struct alert_change **ret, size_t *ret_n,
                               struct status *st) MUST_CHECK;
enum code store_alerts_select(struct db *db, const struct label_terms *terms,
                              const struct alert_filter *filter, size_t max, struct arena *arena,
                              struct alert **ret, size_t *ret_n, struct status *st) MUST_CHECK;
/* *ret_n 0: it was so already. */
enum code store_alert_close(struct db *tx, const char *id, bool resolve, const char *by, int64_t now_ms,
                            struct arena *arena, struct alert **ret, size_t *ret_n,
                            struct status *st) MUST_CHECK;

#endif
