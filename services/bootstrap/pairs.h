/* The key pairs that the platform's own servers start with: init makes the first ones, renew-certificates
 * fresh ones. */
#ifndef CLM_BOOTSTRAP_PAIRS_H
#define CLM_BOOTSTRAP_PAIRS_H

#include "base/buf.h"
#include "base/secret.h"
#include "profiles.h"

struct pair {
    const char *directory;   /* below the one that init makes: "registry" */
    const char *key, *certs; /* the files' names there: "service.key" */
    struct secret *key_pem;
    struct buf certs_pem; /* leaf first */
};

#define PAIRS_MAX 6 /* one a service, the gateway's TLS, the bus's */

struct pairs {
    struct pair item[PAIRS_MAX];
    size_t n;
};
void pairs_done(struct pairs *pairs);
#define AUTO_PAIRS CLEANUP(pairs_done)

/* A pair for each service, for the gateway's TLS and for the bus's; the latter two under these names, or none
 * where NULL. The CA's profiles decide, as for a running service. */
enum code pairs_make(struct ca_set *ca, const struct pki_names *gateway, const struct pki_names *bus,
                     struct pairs *ret, struct status *st) MUST_CHECK;

/* Sorts a DNS name or an address into names; INVALID_ARGUMENT if it is neither. */
enum code server_names_add(struct pki_names *names, const char *text, struct status *st) MUST_CHECK;

#endif
