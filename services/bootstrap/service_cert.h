/* Use case: a service's own next certificate, or the tasks service's next envelope certificate. */
#ifndef CLM_BOOTSTRAP_SERVICE_CERT_H
#define CLM_BOOTSTRAP_SERVICE_CERT_H

#include "bootstrap.h"

/* service: the caller, as its signature on the request proved. The CSR must hold exactly its SPIFFE id. */
enum code service_certificate_issue(struct request *req, const char *service, bool envelope, struct bytes csr,
                                    struct bytes ret_chain[2], struct status *st) MUST_CHECK;

#endif
