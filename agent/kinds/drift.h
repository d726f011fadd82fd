/*
 * Is what is served what was intended? For each target of the local policy: the file holds the certificate
 * that was deployed last, its key is beside it, its chain holds, and the endpoint serves it. Of a target that
 * this agent never deployed to, only that the endpoint serves what the file holds. Reads only; blocking; runs
 * in a child of exec.
 */
#ifndef CLM_AGENT_KINDS_DRIFT_H
#define CLM_AGENT_KINDS_DRIFT_H

#include "agent/policy/policy.h"
#include "base/arena.h"
#include "proto/common.pb-c.h"

#define DRIFT_TARGETS_MAX 64

/* ret->drifts: what differs; a server that cannot be reached is no drift. before: what the last check said,
 * or NULL; those targets are looked at more closely. Memory from the arena. */
void drift_check(const struct policy *policy, const char *state_dir, const Clm__DriftReport *before,
                 struct arena *arena, Clm__DriftReport *ret);

#endif
