/*
 * What the use cases of clm-bootstrap share: one request's surroundings and the process's settings. Plain
 * structs: protobuf stays in the border files (rpc.c, events.c, peers.c), SQL in store.c, OpenSSL in lib/pki.
 */
#ifndef CLM_BOOTSTRAP_BOOTSTRAP_H
#define CLM_BOOTSTRAP_BOOTSTRAP_H

#include "base/arena.h"
#include "base/id.h"
#include "base/status.h"
#include "db/db.h"
#include "pki/digest.h"
#include "signer_client.h"
#include "throttle.h"

struct settings {
    const char *gateway_address; /* printed in tokens: "host:port" that agents connect to */
    char gateway_host[256];      /* its host part */
    char *const *reserved_names; /* further names and addresses of the platform's own servers */
    size_t n_reserved_names;
    const char *trust_domain;
    struct bytes root;             /* DER */
    uint8_t root_pin[SHA256_SIZE]; /* SHA-256 of the root's SPKI */
    int64_t identity_life_sec, certificate_life_sec, service_life_sec;
    uint32_t checkin_interval_ms;
};

/* One request or event on one worker thread. */
struct request {
    struct db *db;
    struct arena *arena; /* what a use case gives back lives here */
    const struct settings *settings;
    struct signer *signer;
    struct throttle *throttle;
    const char *actor; /* "api-key:…", "agent:…", "service:…": for events */
    const char *traceparent;
    const char *source; /* peer address of the host that asked, where it is known: for events */
    void *border;       /* the border's own: struct worker and the like */
};

/* Arena copies of what the PKI library allocates. */
static inline struct bytes bytes_dup(struct arena *arena, struct bytes from)
{
    return (struct bytes){arena_dup(arena, from.data, from.len), from.len};
}

#endif
