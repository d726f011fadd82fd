/*
 * What this gateway refused, on its way to the audit log: refused handshakes, failed logins, denials.
 * Repeated refusals of one kind from one source within a window are one, with a count. Bounded: what finds it
 * full is counted as lost. Any thread adds; one reports.
 */
#ifndef CLM_GATEWAY_REFUSALS_H
#define CLM_GATEWAY_REFUSALS_H

#include <stdint.h>

#include "base/status.h"

struct refusals;
struct service;

/* Numbers as in proto/registry.proto, Refusal.Kind. */
enum refusal_kind {
    REFUSAL_HANDSHAKE = 1, /* TLS: a certificate that is not good enough */
    REFUSAL_AGENT,         /* an agent that may not speak: disabled, superseded */
    REFUSAL_LOGIN,         /* an API key that is not valid, or none */
    REFUSAL_PERMISSION,    /* an operator without the role or outside the grant */
};

#define REFUSALS_MAX 1024

struct refusals *refusals_new(struct service *service, int64_t window_ms);
void refusals_free(struct refusals *refusals);
/* source: peer address; claimed: who it said to be; both and reason may be a peer's text, any may be NULL. */
void refusals_add(struct refusals *refusals, enum refusal_kind kind, const char *source, const char *claimed,
                  const char *reason);
/* Sends those whose window is over, or all; what could not be sent stays, with its id. Blocks on the bus. */
enum code refusals_report(struct refusals *refusals, bool all, struct status *st) MUST_CHECK;

#endif
