/* Credentials into a Kubernetes Secret, through the API server, with the pod's own service account. */
#ifndef CLM_BOOTSTRAP_PUBLISH_H
#define CLM_BOOTSTRAP_PUBLISH_H

#include "base/arena.h"
#include "pairs.h"

struct publish_to {
    const char *secret; /* name of the Secret, in the service account's namespace */
    bool renewed;       /* parts of it will be replaced; else it is made immutable */
    const char
        *service_account; /* directory with token, ca.crt and namespace; NULL: where Kubernetes mounts it */
};

/* Makes one Secret that holds every regular file below dir: "ca/root.key" becomes the key "ca.root.key". One
 * request, so it is there whole or not at all. ALREADY_EXISTS if the Secret is there: it is not changed.
 * The API server's address comes from KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT. */
enum code publish_directory(const struct publish_to *to, const char *dir, struct status *st) MUST_CHECK;
/* The same with a password of 256 random bits for each name, ended by NULL. */
enum code publish_passwords(const struct publish_to *to, const char *const *names,
                            struct status *st) MUST_CHECK;

#define SECRET_VERSION_SIZE 65

/* What of a Secret that publish_directory made decides which pairs are due. */
struct published {
    char version[SECRET_VERSION_SIZE];    /* resourceVersion */
    struct bytes roots, gateway_tls, bus; /* PEM; empty: not there */
};
/* Memory from the arena. NOT_FOUND: there is no such Secret. */
enum code publish_read(const struct publish_to *to, struct arena *arena, struct published *ret,
                       struct status *st) MUST_CHECK;
/* Replaces exactly the pairs' keys, in one request. ABORTED if the Secret is not what it was as of version.
 */
enum code publish_pairs(const struct publish_to *to, const char *version, const struct pairs *pairs,
                        struct status *st) MUST_CHECK;

#endif
