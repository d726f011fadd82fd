/*
 * The tasks that exec has, from their delivery until their receipts are acknowledged. On exec's loop.
 */
#ifndef CLM_AGENT_EXEC_JOB_H
#define CLM_AGENT_EXEC_JOB_H

#include "agent/exec/exec.h"

/* Jobs of a former run: what was cut off is resumed, what was not acknowledged is sent again. */
enum code jobs_recover(struct exec *exec, struct status *st) MUST_CHECK;
void jobs_start_next(struct exec *exec);
void jobs_deliver(struct exec *exec, const Clm__Delivery *delivery);
void jobs_cancel(struct exec *exec, const char *task_id);
void jobs_result_answer(struct exec *exec, const Clm__Agent__ResultAnswer *answer);
void jobs_sign_answer(struct exec *exec, const Clm__Agent__SignAnswer *answer);
void jobs_net_is_back(struct exec *exec); /* everything unanswered goes out again */
size_t jobs_running(const struct exec *exec);
size_t jobs_unsent(const struct exec *exec);
/* Fills held tasks into the snapshot; memory from the arena. */
void jobs_snapshot(const struct exec *exec, struct arena *arena, Clm__Agent__Snapshot *snapshot);
void jobs_stop(struct exec *exec, bool kill);
void jobs_free(struct exec *exec);

#endif
