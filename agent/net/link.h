/*
 * The one connection to the gateway: check-ins held open, and whatever exec wants sent pipelined behind them.
 * Owns reconnecting, backoff and Retry-After. Runs in net, on its loop.
 */
#ifndef CLM_AGENT_NET_LINK_H
#define CLM_AGENT_NET_LINK_H

#include "agent/ipc.pb-c.h"
#include "base/secret.h"
#include "loop/loop.h"

struct link;

struct link_config {
    /* Each frame goes to exec as it is. */
    void (*on_frame)(const Clm__Agent__Frame *frame, void *arg);
    void *arg;
};

struct link *link_new(struct loop *loop, const struct link_config *config);
void link_free(struct link *link);
/* Connects anew with this identity and key (PEM, borrowed for the call). */
enum code link_set_identity(struct link *link, const Clm__Agent__Identity *identity, const struct secret *key,
                            struct status *st) MUST_CHECK;
/* Copies. The first one starts the check-ins. */
void link_set_snapshot(struct link *link, const Clm__Agent__Snapshot *snapshot);
/* Queued until answered for good; RESOURCE_EXHAUSTED when the queue is full. */
enum code link_send_result(struct link *link, const Clm__Agent__Result *result, struct status *st) MUST_CHECK;
enum code link_send_sign(struct link *link, const Clm__Agent__Sign *sign, struct status *st) MUST_CHECK;

/* Takes the place of an earlier one that still waits. */
enum code link_send_renew(struct link *link, const Clm__Agent__Renew *renew, struct status *st) MUST_CHECK;

enum code link_send_farewell(struct link *link, const Clm__Agent__Farewell *farewell,
                             struct status *st) MUST_CHECK;

/* How long until the next try after an answer: Retry-After with full jitter on top; and 5 minutes after a
 * refusal that only an operator ends. For tests. */
int64_t link_pause_ms(int http_status, int64_t retry_after_ms, unsigned failures);
/* Whether the platform's time in an answer may be held against our clock: wall and monotonic clock went alike
 * while the check-in was held. Where they did not, the host slept (the monotonic clock stands still then) or
 * its clock was set, and the answer's age is not known. For tests. */
bool link_time_counts(int64_t held_mono_ms, int64_t held_wall_ms);

#endif
