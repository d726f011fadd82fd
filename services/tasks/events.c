/* See events.h. */
#include "events.h"

#include "convert.h"

struct change task_change(const struct task *task, const char *subject, const char *actor)
{
    return (struct change){
        .subject = subject,
        .task_id = task->id,
        .agent_id = task->agent_id,
        .message = task->message,
        .traceparent = task->traceparent,
        .actor = actor,
        .kind = task->kind,
        .state = task->state,
        .attempt = task->attempt,
        .version = task->version,
        .break_glass = task->break_glass,
    };
}

enum code changes_emit(struct db *db, struct arena *arena, const struct change *changes, size_t n,
                       int64_t now_ms, struct status *st)
{
    if (n == 0)
        return CODE_OK;
    struct packed_event *events = arena_array(arena, n, sizeof(*events));
    for (size_t i = 0; i < n; i++)
        events[i] = event_write(&changes[i], now_ms, arena);
    return store_events_add(db, arena, events, n, st);
}

enum code change_emit(struct db *db, struct arena *arena, const struct task *task, const char *subject,
                      const char *actor, int64_t now_ms, struct status *st)
{
    struct change change = task_change(task, subject, actor);
    return changes_emit(db, arena, &change, 1, now_ms, st);
}

enum code change_emit_all(struct db *db, struct arena *arena, const struct task *tasks, size_t n,
                          const char *subject, int64_t now_ms, struct status *st)
{
    struct change *changes = arena_array(arena, n, sizeof(*changes));
    for (size_t i = 0; i < n; i++)
        changes[i] = task_change(&tasks[i], subject, ACTOR_SELF);
    return changes_emit(db, arena, changes, n, now_ms, st);
}

const char *actor_agent(struct arena *arena, const char *agent_id)
{
    return arena_printf(arena, "agent:%s", agent_id);
}
