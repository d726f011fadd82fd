/*
 * The NATS services protocol ("micro", NATS ADR-32): a service answers $SRV.PING, $SRV.INFO and $SRV.STATS,
 * so that standard tools (`nats micro ls`) list the platform's services, their replicas and how each method
 * fares. It tells counts and times, never contents.
 */
#ifndef CLM_BUS_MICRO_H
#define CLM_BUS_MICRO_H

#include "bus/bus.h"

struct micro_about {         /* borrowed for as long as the micro lives */
    const char *instance;    /* this process; a UUID */
    const char *version;     /* semantic version */
    const char *description; /* of the service, one line */
};

struct micro;
/* Answers for `server` until micro_free, which comes before the server's own end. */
enum code micro_new(struct bus *bus, const struct rpc_server *server, const struct micro_about *about,
                    struct micro **ret, struct status *st) MUST_CHECK;
void micro_free(struct micro *micro); /* waits for an answer under way */

#endif
