/* Calls to the Kubernetes API server about Secrets, with the pod's own service account. */
#ifndef CLM_BOOTSTRAP_API_SERVER_H
#define CLM_BOOTSTRAP_API_SERVER_H

#include <stdbool.h>

#include "base/secret.h"

#define SECRET_BYTES_MAX (1536 * 1024) /* of a Secret as JSON: etcd takes 1.5 MiB */

struct api_call { /* borrowed */
    const char
        *service_account; /* directory with token, ca.crt and namespace; NULL: where Kubernetes mounts it */
    const char *method;   /* "GET", "POST", "PATCH" */
    const char *secret;   /* its name, or NULL for the collection */
    const char *content_type;
    const struct secret *body; /* NULL for none */
    size_t body_len;
};

/* OK: any HTTP status; *ret_answer is a text. UNAVAILABLE: it was not reached. The server's address comes
 * from KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT; FAILED_PRECONDITION without them. */
enum code api_run(const struct api_call *call, long *ret_status, struct secret **ret_answer,
                  struct status *st) MUST_CHECK;

/* RFC 1123 subdomain; a key of a Secret may have capitals and '_' besides. */
bool api_name_valid(const char *name, bool is_key);

#endif
