/*
 * Fetches a CRL or an OCSP answer over plain HTTP, in a forked child without privileges; what comes back are
 * bounded, unparsed bytes. Redirections are not followed. Whether a host may be asked is the caller's to find
 * out (policy_allows_fetch). Blocking; call from a process with one thread.
 */
#ifndef CLM_AGENT_KINDS_FETCH_H
#define CLM_AGENT_KINDS_FETCH_H

#include "base/buf.h"
#include "pki/der.h"

struct fetch_url {
    char host[256];
    unsigned port;
    char path[512]; /* with query */
};
/* INVALID_ARGUMENT unless it is a plain http:// URL. */
enum code fetch_url_read(const char *url, struct fetch_url *ret, struct status *st) MUST_CHECK;

/* POSTs the body as `type`, or GETs if there is none. UNAVAILABLE, DEADLINE_EXCEEDED: no answer; NOT_FOUND:
 * an answer other than 200. ret's limit bounds the answer. */
enum code fetch(const struct fetch_url *url, const char *type, struct bytes body, int64_t timeout_ms,
                struct buf *ret, struct status *st) MUST_CHECK;

#endif
