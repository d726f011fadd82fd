/* Use case: the certificates that the platform is trusted by, and the check that they are this database's. */
#ifndef CLM_BOOTSTRAP_TRUST_H
#define CLM_BOOTSTRAP_TRUST_H

#include "bootstrap.h"

/* Refuses a signer whose root is not the one that init recorded, or is not among `roots` (the service's own
 * trust): FAILED_PRECONDITION, saying which differ and what to do. */
enum code trust_check(struct db *db, struct bytes signer_root, const char *signer_trust_domain,
                      const struct der_list *roots, struct status *st) MUST_CHECK;

#endif
