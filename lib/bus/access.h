/*
 * Who may call which method: the one table that the services' dispatchers enforce and the gateway's REST
 * table and OpenAPI document show. A method without a row cannot be served.
 */
#ifndef CLM_BUS_ACCESS_H
#define CLM_BUS_ACCESS_H

#include <stddef.h>

struct method_access {
    const char *service, *method;
    unsigned
        roles; /* ROLES_…: an operator's assertion with one of them is demanded; 0: no operator is involved */
    unsigned senders; /* SENDER_…: the authority signature of one of these services is demanded; 0: none */
};

/* NULL for an unknown method. */
const struct method_access *method_access_find(const char *service, const char *method);
/* The rows in order; NULL past the last. */
const struct method_access *method_access_at(size_t i);

/* The least of the roles in the set that an operator needs: "viewer", "operator", "admin"; "" for none. */
const char *roles_least_name(unsigned roles);

#endif
