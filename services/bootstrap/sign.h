/* Use case: a CSR for a host's server certificate, under a running RENEW task. */
#ifndef CLM_BOOTSTRAP_SIGN_H
#define CLM_BOOTSTRAP_SIGN_H

#include "bootstrap.h"

/* agent_id: of the TLS connection that brought the request, as the gateway says; the signature must agree
 * with it. ret_chain: leaf and issuing CA. The same key under the same attempt gets the same certificate
 * again. */
enum code certificate_sign(struct request *req, const char *agent_id, struct bytes signed_request,
                           struct bytes ret_chain[2], struct status *st) MUST_CHECK;

#endif
