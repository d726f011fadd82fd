/* Credentials into a Kubernetes Secret, through the API server, with the pod's own service account. */
#ifndef CLM_BOOTSTRAP_PUBLISH_H
#define CLM_BOOTSTRAP_PUBLISH_H

#include "base/status.h"

struct publish_to {
    const char *secret; /* name of the Secret, in the service account's namespace */
    const char
        *service_account; /* directory with token, ca.crt and namespace; NULL: where Kubernetes mounts it */
};

/* Makes one Secret that holds every regular file below dir: "ca/root.key" becomes the key "ca.root.key". One
 * request, so it is there whole or not at all. ALREADY_EXISTS if the Secret is there: it is never changed.
 * The API server's address comes from KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT. */
enum code publish_directory(const struct publish_to *to, const char *dir, struct status *st) MUST_CHECK;
/* The same with a password of 256 random bits for each name, ended by NULL. */
enum code publish_passwords(const struct publish_to *to, const char *const *names,
                            struct status *st) MUST_CHECK;

#endif
