/* The metrics' statements and rows. */
#ifndef CLM_REGISTRY_STORE_METRICS_H
#define CLM_REGISTRY_STORE_METRICS_H

#include "metrics.h"

/* Each agent once; every one has metrics. Agents that are not there are left out. */
enum code store_metrics_add(struct db *db, const struct heartbeat *const *beats, size_t n,
                            struct arena *arena, struct status *st) MUST_CHECK;
/* Of since_ms or later; data NULL when there is none. */
enum code store_metrics_latest(struct db *db, const char *id, int64_t since_ms, struct arena *arena,
                               struct bytes *ret, int64_t *ret_at_ms, struct status *st) MUST_CHECK;
enum code store_metrics_points(struct db *db, const char *id, int ring, int64_t since_ms, struct arena *arena,
                               struct metrics_point **ret, size_t *ret_n, struct status *st) MUST_CHECK;

#endif
