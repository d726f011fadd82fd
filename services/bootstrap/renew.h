/* Use case: an agent asks, by its present task key, for the certificates of its next generation. */
#ifndef CLM_BOOTSTRAP_RENEW_H
#define CLM_BOOTSTRAP_RENEW_H

#include "enrol.h"

/* The same keys get the same certificates again; other keys replace the pending pair of their generation.
 * Nothing changes for the present generation before the next one is confirmed (confirm.c). PERMISSION_DENIED:
 * not signed by the confirmed generation's task key, or the agent is disabled or frozen. */
enum code identity_renew(struct request *req, const char *agent_id, struct bytes signed_request,
                         struct enrolled *ret, struct status *st) MUST_CHECK;

#endif
