/* The projection of the registry's agents that scopes are checked against. Staleness may only refuse, never
 * widen. */
#ifndef CLM_BOOTSTRAP_PROJECTION_H
#define CLM_BOOTSTRAP_PROJECTION_H

#include "bootstrap.h"
#include "store.h"

/* Inside the consumer's transaction. A deleted agent keeps its row, disabled and with an empty scope, so that
 * no late event brings it back. INVALID_ARGUMENT: not an event that can be applied. */
enum code projection_apply(struct request *req, const struct scope_row *row, bool deleted,
                           struct status *st) MUST_CHECK;

/* PERMISSION_DENIED: the registry refuses this generation of the agent at its gateways. */
enum code projection_admits(struct request *req, const char *agent_id, uint32_t generation,
                            struct status *st) MUST_CHECK;

#endif
