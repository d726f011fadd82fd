/*
 * How hosts are doing: the newest sample of each agent, and a history whose size is bounded by its form. Two
 * rings of steps: a day in steps of 10 minutes, two weeks in steps of 2 hours. A sample is worth nothing by
 * itself: what cannot be stored is dropped with a warning and never holds up a heartbeat.
 */
#ifndef CLM_REGISTRY_METRICS_H
#define CLM_REGISTRY_METRICS_H

#include "registry.h"

struct metrics_ring {
    int64_t step_sec, slots;
};
enum { METRICS_FINE, METRICS_COARSE, METRICS_RINGS };
extern const struct metrics_ring metrics_rings[METRICS_RINGS];

struct metrics_sample { /* -1: the host could not tell */
    int64_t cpu_permille, load1_milli, memory_used, memory_total, disk_used, disk_total, uptime_sec;
    struct bytes encoded; /* the whole HostMetrics; data NULL: there is no sample */
};

struct metrics_point {
    int64_t at_ms, samples, cpu_samples, cpu_sum, cpu_max, load_sum, load_max;
    int64_t memory_used, memory_total, disk_used, disk_total, uptime_sec;
};
struct metrics_history {
    struct bytes latest; /* encoded; data NULL: none */
    int64_t latest_at_ms, step_sec;
    struct metrics_point *points;
    size_t n;
};

/* Those of a thinned batch of heartbeats that have one, in one statement however many. */
void metrics_store(struct db *db, const struct heartbeat *beats, size_t n, struct arena *arena);
/* NOT_FOUND outside the selector. period_sec 0: a day. */
enum code metrics_get(struct db *db, const char *selector, const char *id, int64_t period_sec, int64_t now_ms,
                      struct arena *arena, struct metrics_history *ret, struct status *st) MUST_CHECK;
#define METRICS_PERIOD_DEFAULT_SEC (24 * 3600)
#define METRICS_PERIOD_MAX_SEC     (14 * 24 * 3600)
/* The newest sample if it is of the last hour; data NULL otherwise. */
enum code metrics_latest(struct db *db, const char *id, int64_t now_ms, struct arena *arena,
                         struct bytes *ret, int64_t *ret_at_ms, struct status *st) MUST_CHECK;
#define METRICS_FRESH_MS (3600LL * 1000)

#endif
