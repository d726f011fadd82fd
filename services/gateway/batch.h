/*
 * Batching by back-pressure, not by time: an idle batcher sends at once; what arrives while a request is
 * under way is the next batch. So latency is one round trip when idle. A pause between sends caps the rate
 * where each request costs statements, so that their number does not grow with the fleet; what is urgent does
 * not wait for it. One loop's thread.
 */
#ifndef CLM_GATEWAY_BATCH_H
#define CLM_GATEWAY_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/loop.h"

/* The most that goes into one request: items, and bytes of them, so that with what goes around it is a
 * message that the bus takes. An item costs its own bytes and, at most, these for its tag and length. */
#define BATCH_MAX         1000
#define BATCH_BYTES       (400 * 1024)
#define BATCH_FRAME_BYTES 6

struct batch;

/* on_send takes what the owner has queued and calls batch_sent when the answer (or failure) is in. pause_ms:
 * least time between two sends that nobody called urgent. */
struct batch *batch_new(struct loop *loop, int64_t pause_ms, void (*on_send)(void *arg), void *arg);
void batch_free(struct batch *batch);
/* There is something to send. */
void batch_wake(struct batch *batch, bool urgent);
/* The answer is in; `more`: items are waiting. retry_ms > 0 delays the next send, urgent or not: the other
 * side is away. */
void batch_sent(struct batch *batch, bool more, int64_t retry_ms);

#endif
