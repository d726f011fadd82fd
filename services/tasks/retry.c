/*
 * RetryTask: an operator has an ended task done once more, as the next attempt of the same task. The one way
 * out of a terminal state, so it is not in state.c's table: no receipt, lease or sweep may take it.
 */
#include "base/clock.h"
#include "events.h"
#include "store.h"

/* *ret_refuses: the agent whose state stands in the way, as it is known here; NULL: it is not that. */
static enum code retry_once(struct db *db, struct arena *arena, const char *task_id, const char *actor,
                            struct task *ret, const char **ret_refuses, struct status *st)
{
    struct task task;
    struct agent agent;
    int64_t now_ms = clock_wall_ms();
    *ret_refuses = NULL;
    TRY(db_begin(db, st));
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(store_task_get(tx, arena, task_id, NULL, true, &task, st));
    if (task.state == STATE_SUCCEEDED)
        return status_set(st, CODE_FAILED_PRECONDITION, "task %s has succeeded; create another one", task_id);
    if (!task_state_is_terminal(task.state))
        return status_set(st, CODE_FAILED_PRECONDITION, "task %s has not ended: %s", task_id,
                          task_state_name(task.state));
    TRY(store_agent_get(tx, arena, task.agent_id, &agent, st));
    if (agent.deleted)
        return status_set(st, CODE_NOT_FOUND, "no agent %s", task.agent_id);
    if (task.break_glass)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "task %s was released once (breakGlass): an admin has to release another one",
                          task_id);
    if (!safe_allows(agent.safe_column, safe_action_of_kind(task.kind), false)) {
        *ret_refuses = arena_strdup(arena, task.agent_id);
        return status_set(st, CODE_FAILED_PRECONDITION, "agent %s is %s: it gets no such task", task.agent_id,
                          safe_column_name(agent.safe_column));
    }
    TRY(store_task_retry(tx, arena, &task, now_ms, ret, st));
    TRY(change_emit(tx, arena, ret, "retried", actor, now_ms, st));
    return db_commit(tx, st);
}

/* The event of an enabling may still be on its way here: see create.c. */
enum code task_retry(struct tasks *tasks, struct db *db, struct arena *arena, const char *task_id,
                     const char *actor, struct task *ret, struct status *st)
{
    struct status fetched;
    const char *refuses;
    enum code code = retry_once(db, arena, task_id, actor, ret, &refuses, st);
    if (!refuses || !tasks->fetch_agent || tasks->fetch_agent(tasks, db, arena, refuses, &fetched) != CODE_OK)
        return code;
    return retry_once(db, arena, task_id, actor, ret, &refuses, st);
}
