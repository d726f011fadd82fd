/* Use case: an agent is removed from its host and says so, by its task key. */
#ifndef CLM_BOOTSTRAP_FAREWELL_H
#define CLM_BOOTSTRAP_FAREWELL_H

#include "bootstrap.h"

/* Tells the registry, which ends the agent's work. Said again, it is told again. PERMISSION_DENIED: not
 * signed by the confirmed generation's task key; an earlier installation's farewell means nothing to the
 * present one.
 */
enum code identity_farewell(struct request *req, const char *agent_id, struct bytes signed_request,
                            struct status *st) MUST_CHECK;

#endif
