/*
 * CancelTask. What no agent has is over at once; what one has is asked to stop, and its receipt decides.
 */
#include "base/clock.h"
#include "events.h"
#include "store.h"

static enum code cancel_locked(struct db *tx, struct arena *arena, const struct task *task, const char *actor,
                               struct task *ret, struct status *st)
{
    int64_t now_ms = clock_wall_ms();
    switch (task->state) {
    case STATE_SCHEDULED:
    case STATE_READY:
        TRY(store_task_finish(tx, arena, task,
                              &(struct ending){.state = STATE_CANCELLED,
                                               .message = "cancelled before its agent took it",
                                               .started_at_ms = -1,
                                               .now_ms = now_ms},
                              ret, st));
        return change_emit(tx, arena, ret, "finished", actor, now_ms, st);
    case STATE_LEASED:
    case STATE_RUNNING:
        if (task->cancel_requested) {
            *ret = *task;
            return CODE_OK;
        }
        TRY(store_task_request_cancel(tx, arena, task, ret, st));
        return change_emit(tx, arena, ret, "cancelling", actor, now_ms, st);
    case STATE_CANCELLED:
        *ret = *task;
        return CODE_OK;
    default:
        return status_set(st, CODE_FAILED_PRECONDITION, "task %s has ended: %s", task->id,
                          task_state_name(task->state));
    }
}

enum code tasks_cancel_of_agent(struct db *tx, struct arena *arena, const char *agent_id, const char *why,
                                struct status *st)
{
    int64_t now_ms = clock_wall_ms();
    struct task *ended;
    size_t n;
    TRY(store_cancel_of_agent(tx, arena, agent_id, now_ms, why, &ended, &n, st));
    return change_emit_all(tx, arena, ended, n, "finished", now_ms, st);
}

enum code task_cancel(struct tasks *tasks, struct db *db, struct arena *arena, const char *task_id,
                      const char *actor, struct task *ret, struct status *st)
{
    struct task task;
    TRY(db_begin(db, st));
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(store_task_get(tx, arena, task_id, NULL, true, &task, st));
    TRY(cancel_locked(tx, arena, &task, actor, ret, st));
    TRY(db_commit(tx, st));
    if (ret->cancel_requested) {
        const char *agent_id = ret->agent_id;
        tasks->wake(tasks, &agent_id, 1);
    }
    return CODE_OK;
}
