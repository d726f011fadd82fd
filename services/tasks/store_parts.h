/* What the files of the store share; nobody else includes it. State numbers are those of state.h. */
#ifndef CLM_TASKS_STORE_PARTS_H
#define CLM_TASKS_STORE_PARTS_H

#include "store.h"

_Static_assert(STATE_SCHEDULED == 1 && STATE_READY == 2 && STATE_LEASED == 3 && STATE_RUNNING == 4 &&
                   STATE_SUCCEEDED == 5 && STATE_CANCELLED == 8,
               "the literals in these files");
_Static_assert(SAFE_ONLINE == 0 && SAFE_SAFE_MODE == 1, "the literals in these files");

#define TASK_COLUMNS                                                                                         \
    "id, agent_id, kind, state, spec, attempt, lease, max_attempts, priority, version, created_by, "         \
    "traceparent, "                                                                                          \
    "phase, message, created_at, leased_at, started_at, finished_at, deadline, progress_permille, "          \
    "cancel_requested, break_glass"
#define T_TASK_COLUMNS                                                                                       \
    "t.id, t.agent_id, t.kind, t.state, t.spec, t.attempt, t.lease, t.max_attempts, t.priority, t.version, " \
    "t.created_by, t.traceparent, t.phase, t.message, t.created_at, t.leased_at, t.started_at, "             \
    "t.finished_at, "                                                                                        \
    "t.deadline, t.progress_permille, t.cancel_requested, t.break_glass"
#define TASK_COLUMN_COUNT 22

struct bytes store_bytes(const struct db_rows *rows, size_t row, int col, struct arena *arena);
void store_task_read(const struct db_rows *rows, size_t row, struct arena *arena, struct task *ret);
/* Tasks of a statement that gives TASK_COLUMNS. */
enum code store_query_tasks(struct db *db, struct arena *arena, const char *sql, const struct db_args *args,
                            struct task **ret, size_t *ret_n, struct status *st) MUST_CHECK;
/* The states from which a task may go there. */
void store_arg_sources(struct db_args *args, enum task_state to);
/* Three parameters: a selector. */
void store_arg_terms(struct db_args *args, const struct label_terms *terms);

#endif
