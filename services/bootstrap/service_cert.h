/* Use case: a service's own next certificate, or the tasks service's next envelope certificate, or a
 * gateway's next TLS certificate. */
#ifndef CLM_BOOTSTRAP_SERVICE_CERT_H
#define CLM_BOOTSTRAP_SERVICE_CERT_H

#include "bootstrap.h"

/* service: the caller, as its signature on the request proved. The CSR must hold exactly its SPIFFE
 * id; a gateway's TLS certificate also names, of those that the CA directory lists. */
enum service_certificate { SERVICE_SIGNING, SERVICE_ENVELOPE, SERVICE_GATEWAY_TLS };
const char *service_certificate_name(enum service_certificate what);
enum code service_certificate_issue(struct request *req, const char *service, enum service_certificate what,
                                    struct bytes csr, struct bytes ret_chain[2],
                                    struct status *st) MUST_CHECK;

#endif
