/*
 * Once a second on one replica: who fell silent, whose certificate ended, whom the platform's safe mode
 * reaches. It only names candidates; the rule decides in agents_change, under the agents' locks, on what is
 * true then.
 */
#include "alerts.h"
#include "base/clock.h"
#include "inventory.h"
#include "store.h"
#include "store_idempotency.h"

#define BATCH      1000
#define ROUNDS_MAX 100

enum code sweep(struct db *db, const struct timing *timing, int64_t now_ms, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    TRY(store_sweep_mark(db, timing, now_ms, arena, st));
    size_t n = BATCH;
    for (int round = 0; n == BATCH && round < ROUNDS_MAX; round++) {
        arena_reset(arena);
        const char **ids;
        CLEANUP(db_scope_end) struct db *tx = db;
        TRY(store_sweep_find(db, timing, now_ms, BATCH, arena, &ids, &n, st));
        if (n == 0)
            return CODE_OK;
        const struct cause cause = {.actor = "service:registry", .now_ms = now_ms, .timing = timing};
        TRY(db_begin(tx, st));
        TRY(agents_change(tx, &cause, ids, n, NULL, NULL, arena, NULL, NULL, st));
        TRY(db_commit(tx, st));
    }
    return CODE_OK;
}

enum code sweep_house(struct db *db, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    int64_t now_ms = clock_wall_ms();
    TRY(alerts_expiring(db, now_ms, arena, st));
    TRY(alerts_quiet(db, now_ms, arena, st));
    TRY(alerts_trim(db, now_ms, arena, st));
    TRY(inventory_trim(db, now_ms, arena, st));
    TRY(store_counts_fold(db, st));
    TRY(store_idempotency_trim(db, now_ms - IDEMPOTENCY_MS, arena, st));
    TRY(store_operators_trim(db, clock_wall_ms(), arena, st));
    return store_activity_trim(db, ACTIVITY_MAX, arena, st);
}
