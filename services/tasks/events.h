/* One event for each transition, into the outbox of the transaction that makes it true. */
#ifndef CLM_TASKS_EVENTS_H
#define CLM_TASKS_EVENTS_H

#include "tasks.h"

#define ACTOR_SELF "service:tasks"

/* One statement for all n. */
enum code changes_emit(struct db *db, struct arena *arena, const struct change *changes, size_t n,
                       int64_t now_ms, struct status *st) MUST_CHECK;
/* The common cases: one task, and the same change of several. */
enum code change_emit(struct db *db, struct arena *arena, const struct task *task, const char *subject,
                      const char *actor, int64_t now_ms, struct status *st) MUST_CHECK;
enum code change_emit_all(struct db *db, struct arena *arena, const struct task *tasks, size_t n,
                          const char *subject, int64_t now_ms, struct status *st) MUST_CHECK;
/* "agent:<id>" */
const char *actor_agent(struct arena *arena, const char *agent_id);

#endif
