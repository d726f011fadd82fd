/*
 * One call to an HTTPS API that the local policy names, made in a forked child without privileges: it gets
 * what it sends by memory, and its answer comes back as bounded, unparsed bytes. Blocking; call from a
 * process with one thread.
 */
#ifndef CLM_AGENT_STORES_API_H
#define CLM_AGENT_STORES_API_H

#include "base/secret.h"
#include "pki/der.h"

struct api_call { /* borrowed */
    const char *host;
    uint16_t port;
    struct bytes ca;            /* PEM; the only trust */
    const struct secret *token; /* bearer */
    const char *method, *path, *content_type;
    const struct secret *body; /* NULL for none */
    int64_t timeout_ms;
};

struct api_answer {
    int status;
    struct secret *body; /* NULL for none */
    int64_t retry_after_ms;
};
void api_answer_done(struct api_answer *answer);

/* OK: any HTTP status. UNAVAILABLE, DEADLINE_EXCEEDED: try again. PERMISSION_DENIED: its certificate is not
 * of that CA. INVALID_ARGUMENT: no HTTP, or larger than STORE_FILE_MAX. */
enum code api_run(const struct api_call *call, struct api_answer *ret, struct status *st) MUST_CHECK;

#endif
