/*
 * After a restore from a backup: what was leased then may have ended since, on hosts that we have forgotten
 * to have asked. Leases return with the same attempt: a host that has run it sends its receipt again.
 */
#include "base/clock.h"
#include "events.h"
#include "store.h"

static enum code void_batch(struct tasks *tasks, struct db *db, struct arena *arena, int64_t restored_at_ms,
                            size_t *ret_n, struct status *st)
{
    int64_t now_ms = clock_wall_ms();
    struct task *changed;
    TRY(db_begin(db, st));
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(store_void_leases(tx, arena, restored_at_ms, now_ms, &changed, ret_n, st));
    struct change *changes = arena_array(arena, *ret_n + 1, sizeof(*changes));
    const char **agents = arena_array(arena, *ret_n + 1, sizeof(*agents));
    for (size_t i = 0; i < *ret_n; i++) {
        bool over = task_state_is_terminal(changed[i].state);
        changes[i] = task_change(&changed[i], over ? "finished" : "returned", ACTOR_SELF);
        agents[i] = changed[i].agent_id;
    }
    TRY(changes_emit(tx, arena, changes, *ret_n, now_ms, st));
    TRY(db_commit(tx, st));
    if (*ret_n > 0)
        tasks->wake(tasks, agents, *ret_n);
    return CODE_OK;
}

enum code tasks_begin_epoch(struct tasks *tasks, struct db *db, struct arena *arena, uint64_t epoch,
                            int64_t restored_at_ms, uint32_t *ret_voided, struct status *st)
{
    size_t n = 1;
    *ret_voided = 0;
    TRY(store_epoch_put(db, arena, epoch, st)); /* before anything is leased again */
    while (n > 0) {
        TRY(void_batch(tasks, db, arena, restored_at_ms, &n, st));
        *ret_voided += (uint32_t)n;
    }
    return CODE_OK;
}
