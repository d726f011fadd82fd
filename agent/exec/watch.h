/*
 * Watches what the agent manages: the files of the policy's targets (inotify) and, at an interval, what their
 * endpoints serve. The interval bends by half to go along with what exec is awake for anyway: a host at rest
 * is not woken more often than by its check-ins. A check runs in a short-lived child (kinds/drift.h) and
 * never beside a task that changes something. What differs twice in a row is told, and what is as it should
 * be again twice in a row, too. Lives on exec's loop.
 */
#ifndef CLM_AGENT_EXEC_WATCH_H
#define CLM_AGENT_EXEC_WATCH_H

#include "agent/exec/exec.h"

struct watch;

struct watch *watch_new(struct exec *exec);
void watch_policy_changed(struct watch *watch);
/* Something was done to the targets: look soon. */
void watch_soon(struct watch *watch);
/* exec is awake for something else: a check that is nearly due may be done now. */
void watch_awake(struct watch *watch);
/* What differs now, as it was told; NULL before the first check, or when there is nothing to watch. */
const Clm__DriftReport *watch_report(const struct watch *watch);
void watch_free(struct watch *watch);

#endif
