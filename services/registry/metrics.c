/* The rings, and which of them answers. */
#include "metrics.h"

#include "base/log.h"
#include "store_metrics.h"

const struct metrics_ring metrics_rings[METRICS_RINGS] = {
    [METRICS_FINE] = {.step_sec = 600, .slots = 144},
    [METRICS_COARSE] = {.step_sec = 7200, .slots = 168},
};

void metrics_store(struct db *db, const struct heartbeat *beats, size_t n, struct arena *arena)
{
    const struct heartbeat **with = arena_array(arena, n + 1, sizeof(*with));
    size_t n_with = 0;
    struct status st;
    for (size_t i = 0; i < n; i++)
        if (beats[i].metrics)
            with[n_with++] = &beats[i];
    if (n_with > 0 && store_metrics_add(db, with, n_with, arena, &st) != CODE_OK)
        log_warn("metrics are dropped", "count", LOG_NUM(n_with), "why", st.msg, NULL);
}

enum code metrics_get(struct db *db, const char *selector, const char *id, int64_t period_sec, int64_t now_ms,
                      struct arena *arena, struct metrics_history *ret, struct status *st)
{
    struct agent agent;
    if (period_sec <= 0)
        period_sec = METRICS_PERIOD_DEFAULT_SEC;
    if (period_sec > METRICS_PERIOD_MAX_SEC)
        return status_set(st, CODE_INVALID_ARGUMENT, "periodSec: at most %d, which is 14 days",
                          METRICS_PERIOD_MAX_SEC);
    TRY(agent_get(db, selector, id, arena, &agent, st));
    const int ring = period_sec <= METRICS_PERIOD_DEFAULT_SEC ? METRICS_FINE : METRICS_COARSE;
    *ret = (struct metrics_history){.step_sec = metrics_rings[ring].step_sec};
    TRY(store_metrics_latest(db, id, 0, arena, &ret->latest, &ret->latest_at_ms, st));
    return store_metrics_points(db, id, ring, now_ms - period_sec * 1000, arena, &ret->points, &ret->n, st);
}

enum code metrics_latest(struct db *db, const char *id, int64_t now_ms, struct arena *arena,
                         struct bytes *ret, int64_t *ret_at_ms, struct status *st)
{
    return store_metrics_latest(db, id, now_ms - METRICS_FRESH_MS, arena, ret, ret_at_ms, st);
}
