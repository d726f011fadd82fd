/* Service identities of a CA that a test makes for itself. */
#ifndef CLM_TESTS_SUPPORT_IDENTITY_H
#define CLM_TESTS_SUPPORT_IDENTITY_H

#include "bus/bus.h"

/* Of the test's CA; made once a name, freed at exit by nobody: they live as long as the process. */
struct bus_identity *identity_of(const char *service);
/* Says it is that service, but its CA is another one. */
struct bus_identity *identity_forged(const char *service);
/* A further key and certificate of the test's CA; the caller's to free. */
void identity_leaf(const char *service, struct key **ret_key, struct der *ret_cert);
/* An identity of the caller's own, to be freed. */
struct bus_identity *identity_fresh(const char *service);
/* key.pem, cert.pem and roots.pem below dir, for service_main. */
void identity_write(const char *service, const char *dir);

#endif
