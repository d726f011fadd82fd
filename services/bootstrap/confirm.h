/* Use case: an agent has installed a generation and says so, signed by its task key. */
#ifndef CLM_BOOTSTRAP_CONFIRM_H
#define CLM_BOOTSTRAP_CONFIRM_H

#include "bootstrap.h"

/* Burns the token and raises the confirmed generation; saying it again changes nothing. *ret_confirmed is the
 * confirmed generation afterwards, which may be a later one. */
enum code identity_confirm(struct request *req, const char *agent_id, uint32_t generation,
                           struct bytes confirmation, uint32_t *ret_confirmed, struct status *st) MUST_CHECK;

#endif
