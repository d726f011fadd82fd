/* CreateTask: the specification is complete, the agent is known and may be asked, and the same key never
 * makes two. */
#include <inttypes.h>

#include "base/clock.h"
#include "base/log.h"
#include "convert.h"
#include "events.h"
#include "store.h"

#define DEADLINE_MAX_SEC (366 * 86400)
#define MAX_ATTEMPTS_MAX 20

static enum code check_numbers(const struct new_task *task, int64_t now_ms, struct status *st)
{
    if (task->priority > 9)
        return status_set(st, CODE_INVALID_ARGUMENT, "priority: 0 to 9");
    if (task->max_attempts < 1 || task->max_attempts > MAX_ATTEMPTS_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "maxAttempts: 1 to %d", MAX_ATTEMPTS_MAX);
    if (task->deadline_sec < 1 || task->deadline_sec > DEADLINE_MAX_SEC)
        return status_set(st, CODE_INVALID_ARGUMENT, "deadlineSec: 1 to %d", DEADLINE_MAX_SEC);
    if (task->not_before_at_ms > now_ms + (int64_t)DEADLINE_MAX_SEC * 1000)
        return status_set(st, CODE_INVALID_ARGUMENT, "notBeforeAt: at most a year ahead");
    return CODE_OK;
}

static enum code find_agent(struct db *db, struct arena *arena, const struct new_task *request,
                            struct agent *ret, struct status *st)
{
    bool covered;
    TRY(store_agent_get(db, arena, request->agent_id, ret, st));
    TRY(grant_check(db, arena, request->selector, request->agent_id, &covered, st));
    if (ret->deleted || !covered)
        return status_set(st, CODE_NOT_FOUND, "no agent %s", request->agent_id);
    return CODE_OK;
}

static enum code check_released(struct db *db, struct arena *arena, const struct new_task *request,
                                enum task_kind kind, enum safe_column column, struct status *st)
{
    const char *open;
    if (safe_verdict(column, safe_action_of_kind(kind)) != SAFE_BREAK_GLASS)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "breakGlass: %s on an agent that is %s needs no release: leave breakGlass out",
                          task_kind_name(kind), safe_column_name(column));
    TRY(store_break_glass_open(db, arena, request, &open, st));
    return open ? status_set(st, CODE_FAILED_PRECONDITION,
                             "breakGlass: task %s is released for this agent and not over: one at a time",
                             open)
                : CODE_OK;
}

/* The columns of lib/safemode's table, for people. */
static enum code check_safe_mode(struct db *db, struct arena *arena, const struct agent *agent,
                                 const struct new_task *request, enum task_kind kind, struct status *st)
{
    enum safe_column column = agent->safe_column;
    const char *reason = *agent->reason ? agent->reason : "PLATFORM";
    if (!safe_allows(column, safe_action_of_kind(kind), request->break_glass)) {
        if (column == SAFE_SAFE_MODE)
            return status_set(
                st, CODE_FAILED_PRECONDITION,
                "agent %s is in safe mode (%s): only VALIDATE and DISCOVER; an admin may release one "
                "change with breakGlass",
                request->agent_id, reason);
        return status_set(st, CODE_FAILED_PRECONDITION, "agent %s is %s: it gets no tasks", request->agent_id,
                          column == SAFE_CLONE      ? "frozen: its identity was claimed twice"
                          : column == SAFE_DISABLED ? "disabled"
                                                    : "past the end of its identity");
    }
    return request->break_glass ? check_released(db, arena, request, kind, column, st) : CODE_OK;
}

/* May the agent be given this, by what is known of it here? */
static enum code check_agent(struct db *db, struct arena *arena, const struct new_task *request,
                             const struct spec_facts *facts, struct status *st)
{
    struct agent agent;
    struct scope scope;
    TRY(find_agent(db, arena, request, &agent, st));
    TRY(check_safe_mode(db, arena, &agent, request, facts->kind, st));
    TRY(scope_read(agent.scope, arena, &scope, st));
    return scope_check_spec(&scope, facts, st);
}

/* What refuses is held against the registry's own row once: the event of a registration, of a wider scope or
 * of an enabling may still be on its way here. Without the registry the refusal stands, but that an agent is
 * not known. */
static enum code check_agent_now(struct tasks *tasks, struct db *db, struct arena *arena,
                                 const struct new_task *request, const struct spec_facts *facts,
                                 struct status *st)
{
    struct status fetched;
    enum code code = check_agent(db, arena, request, facts, st);
    if (code == CODE_OK || code_info(code)->retryable || !tasks->fetch_agent)
        return code;
    if (tasks->fetch_agent(tasks, db, arena, request->agent_id, &fetched) == CODE_OK)
        return check_agent(db, arena, request, facts, st);
    if (code == CODE_NOT_FOUND)
        *st = fetched;
    return st->code;
}

static enum code check_after(struct db *db, struct arena *arena, const struct new_task *task,
                             struct status *st)
{
    if (task->n_after == 0)
        return CODE_OK;
    size_t unknown, failed;
    for (size_t i = 0; i < task->n_after; i++)
        if (task_seen(db, arena, task->selector, task->after[i], st) != CODE_OK)
            return st->code == CODE_NOT_FOUND
                       ? status_set(st, CODE_INVALID_ARGUMENT, "after: %.40s is no task", task->after[i])
                       : st->code;
    TRY(store_check_predecessors(db, arena, task->after, task->n_after, &unknown, &failed, st));
    if (unknown > 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "after: %zu of its ids are no tasks", unknown);
    if (failed > 0)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "after: %zu of its tasks ended without success, so this one would never run",
                          failed);
    return CODE_OK;
}

static enum code insert(struct db *db, struct arena *arena, enum task_kind kind,
                        const struct new_task *request, struct task *ret, bool *ret_fresh, struct status *st)
{
    int64_t now_ms = clock_wall_ms();
    char id[UUID_TEXT_SIZE];
    uuid_v7(id);
    TRY(db_begin(db, st));
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(store_task_insert(tx, arena, id, kind, request, now_ms, ret, ret_fresh, st));
    if (*ret_fresh)
        TRY(change_emit(tx, arena, ret, "created", request->created_by, now_ms, st));
    return db_commit(tx, st);
}

/* A repetition is answered with what was made, whatever became of the agent since. */
static enum code find_repeated(struct db *db, struct arena *arena, const struct new_task *request,
                               struct task *ret, struct status *st)
{
    if (!request->idempotency_key)
        return CODE_NOT_FOUND;
    TRY(store_task_repeated(db, arena, request, ret, st));
    return task_seen(db, arena, request->selector, ret->id, st);
}

enum code task_create(struct tasks *tasks, struct db *db, struct arena *arena, const struct new_task *request,
                      struct task *ret, struct status *st)
{
    struct spec_facts facts;
    TRY(spec_read(request->spec, arena, &facts, st));
    TRY(check_numbers(request, clock_wall_ms(), st));
    enum code repeated = find_repeated(db, arena, request, ret, st);
    if (repeated != CODE_NOT_FOUND)
        return repeated;
    TRY(check_agent_now(tasks, db, arena, request, &facts, st));
    TRY(check_after(db, arena, request, st));
    bool fresh;
    TRY(insert(db, arena, facts.kind, request, ret, &fresh, st));
    if (fresh)
        log_info("task created", "task", ret->id, "agent", ret->agent_id, "kind", task_kind_name(ret->kind),
                 "by", request->created_by, NULL);
    if (ret->state == STATE_READY)
        tasks->wake(tasks, &request->agent_id, 1);
    return CODE_OK;
}
