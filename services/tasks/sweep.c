/* What time alone does to tasks; one replica at a time, once a second. Each step is a transaction of its own.
 */
#include "base/clock.h"
#include "events.h"
#include "store.h"

#define PAGES_LIFE_MS (INT64_C(24) * 60 * 60 * 1000)

struct step {
    const char *subject;
    bool wakes;
    enum code (*run)(struct tasks *tasks, struct db *db, struct arena *arena, int64_t now_ms,
                     struct task **ret, size_t *ret_n, struct status *st);
};

static enum code run_ready(struct tasks *tasks, struct db *db, struct arena *arena, int64_t now_ms,
                           struct task **ret, size_t *ret_n, struct status *st)
{
    (void)tasks;
    return store_ready_due(db, arena, now_ms, ret, ret_n, st);
}

static enum code run_orphans(struct tasks *tasks, struct db *db, struct arena *arena, int64_t now_ms,
                             struct task **ret, size_t *ret_n, struct status *st)
{
    (void)tasks;
    return store_cancel_orphans(db, arena, now_ms, ret, ret_n, st);
}

static enum code run_expire(struct tasks *tasks, struct db *db, struct arena *arena, int64_t now_ms,
                            struct task **ret, size_t *ret_n, struct status *st)
{
    (void)tasks;
    return store_expire_late(db, arena, now_ms, ret, ret_n, st);
}

static enum code run_return(struct tasks *tasks, struct db *db, struct arena *arena, int64_t now_ms,
                            struct task **ret, size_t *ret_n, struct status *st)
{
    return store_return_lost(db, arena, now_ms - tasks->lease_return_ms, now_ms, ret, ret_n, st);
}

static const struct step steps[] = {
    {"returned", true, run_return},
    {"finished", false, run_expire},
    {"finished", false, run_orphans},
    {"readied", true, run_ready},
};

static enum code sweep_step(const struct step *step, struct tasks *tasks, struct db *db, struct arena *arena,
                            struct status *st)
{
    int64_t now_ms = clock_wall_ms();
    struct task *changed;
    size_t n;
    TRY(db_begin(db, st));
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(step->run(tasks, tx, arena, now_ms, &changed, &n, st));
    struct change *changes = arena_array(arena, n, sizeof(*changes));
    const char **agents = arena_array(arena, n, sizeof(*agents));
    for (size_t i = 0; i < n; i++) {
        bool over = task_state_is_terminal(changed[i].state);
        changes[i] = task_change(&changed[i], over ? "finished" : step->subject, ACTOR_SELF);
        agents[i] = changed[i].agent_id;
    }
    TRY(changes_emit(tx, arena, changes, n, now_ms, st));
    TRY(db_commit(tx, st));
    if (step->wakes && n > 0)
        tasks->wake(tasks, agents, n);
    return CODE_OK;
}

enum code task_sweep(struct tasks *tasks, struct db *db, struct arena *arena, struct status *st)
{
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        TRY(sweep_step(&steps[i], tasks, db, arena, st));
    return store_drop_old_pages(db, arena, clock_wall_ms() - PAGES_LIFE_MS, st);
}
