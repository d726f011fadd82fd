/*
 * States of a task and the one table of what may follow what (DESIGN: Tasks). The numbers are those of
 * Task.State and of the database. SQL guards every update with the sources that this table names.
 */
#ifndef CLM_TASKS_STATE_H
#define CLM_TASKS_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum task_state {
    STATE_SCHEDULED = 1, /* waits for its time, or for tasks it comes after */
    STATE_READY,         /* may be leased */
    STATE_LEASED,        /* handed to its agent */
    STATE_RUNNING,       /* its agent says that it has it */
    STATE_SUCCEEDED,
    STATE_INSTALLED_UNVERIFIED,
    STATE_FAILED,
    STATE_CANCELLED,
    STATE_EXPIRED,
};
#define STATE_COUNT 9

const char *task_state_name(enum task_state state);
bool task_state_is_terminal(enum task_state state);
bool task_state_may_follow(enum task_state from, enum task_state to);
/* States from which `to` may be entered, as a parameter for SQL; returns their number. */
size_t task_state_sources(enum task_state to, int64_t ret[STATE_COUNT]);

enum task_kind { KIND_DEPLOY = 1, KIND_RENEW, KIND_VALIDATE, KIND_DISCOVER };
#define KIND_COUNT 4
const char *task_kind_name(enum task_kind kind);
/* VALIDATE and DISCOVER change nothing on the host: safe mode lets them through. */
/* How long to wait before execution number `next_attempt` (2 is the first retry): full jitter over the kind's
 * range. */
int64_t task_kind_backoff_ms(enum task_kind kind, unsigned next_attempt);

#endif
