/* See heartbeats.h. */
#include "gateway/heartbeats.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/id.h"
#include "base/log.h"
#include "gateway/batch.h"
#include "gateway/edge.h"

#define QUEUE_MAX       100000
#define QUEUE_BYTES     (32 * 1024 * 1024)
#define CALL_TIMEOUT_MS 5000
#define RETRY_MS        1000

struct beats { /* of one request; one heartbeat always fits */
    TAILQ_ENTRY(beats) link;
    struct arena *arena;
    Clm__Heartbeat *items[BATCH_MAX];
    size_t n, bytes;
};

struct heartbeats {
    struct edge *edge;
    TAILQ_HEAD(beats_queue, beats) waiting; /* oldest first; only the last one is not full */
    struct beats *in_flight;                /* NULL: none, or an empty one */
    size_t n, bytes;                        /* of all */
    struct batch *batch;
};

static void beats_free(struct heartbeats *heartbeats, struct beats *beats)
{
    if (!beats)
        return;
    heartbeats->n -= beats->n;
    heartbeats->bytes -= beats->bytes;
    arena_free(beats->arena);
    free(beats);
}

/* Where the next heartbeat goes. */
static struct beats *beats_for(struct heartbeats *heartbeats, size_t len)
{
    struct beats *last = TAILQ_LAST(&heartbeats->waiting, beats_queue);
    if (last && last->n < BATCH_MAX && last->bytes + len <= BATCH_BYTES)
        return last;
    struct beats *beats = calloc(1, sizeof *beats);
    if (!beats)
        abort();
    beats->arena = arena_new();
    TAILQ_INSERT_TAIL(&heartbeats->waiting, beats, link);
    return beats;
}

static void on_sent(struct edge *edge UNUSED, struct arena *arena UNUSED, const ProtobufCMessage *reply,
                    const struct status *st, void *arg)
{
    struct heartbeats *heartbeats = arg;
    struct beats *sent = TAKE(heartbeats->in_flight);
    if (!reply)
        log_debug("heartbeats not taken", "count", LOG_NUM(sent ? sent->n : 0), "reason", st->msg, NULL);
    if (sent && !reply && code_info(st->code)->retryable)
        TAILQ_INSERT_HEAD(&heartbeats->waiting, sent, link);
    else
        beats_free(heartbeats, sent);
    batch_sent(heartbeats->batch, !TAILQ_EMPTY(&heartbeats->waiting), reply ? 0 : RETRY_MS);
}

static void send(void *arg)
{
    struct heartbeats *heartbeats = arg;
    struct service *service = heartbeats->edge->gateway->service;
    struct beats *beats = TAILQ_FIRST(&heartbeats->waiting);
    if (beats)
        TAILQ_REMOVE(&heartbeats->waiting, beats, link);
    heartbeats->in_flight = beats;
    size_t n = beats ? beats->n : 0;
    metric_observe_ms(heartbeats->edge->gateway->metric.heartbeat_batch, NULL, NULL, (double)n);

    char gateway_id[UUID_TEXT_SIZE];
    (void)snprintf(gateway_id, sizeof gateway_id, "%s", service_instance_id(service));
    Clm__ReportHeartbeatsRequest request = CLM__REPORT_HEARTBEATS_REQUEST__INIT;
    request.gateway_id = gateway_id;
    request.epoch = heartbeats->edge->gateway->epoch;
    request.n_heartbeats = n;
    request.heartbeats = beats ? beats->items : NULL;
    const struct rpc_call call = {
        .service = "registry",
        .descriptor = &clm__registry__descriptor,
        .method = "ReportHeartbeats",
        .request = &request.base,
        .timeout_ms = CALL_TIMEOUT_MS,
    };
    edge_call(heartbeats->edge, &call, on_sent, heartbeats);
}

/* Copies by packing: the check-in's memory is the request's. */
static void add_copy(struct heartbeats *heartbeats, const Clm__Heartbeat *beat)
{
    AUTO_ARENA struct arena *scratch = arena_new();
    const uint8_t *data;
    size_t len;
    ProtobufCMessage *copy = NULL;
    struct status st;
    wire_pack(&beat->base, scratch, &data, &len);
    struct beats *beats = beats_for(heartbeats, len + BATCH_FRAME_BYTES);
    if (wire_unpack(&clm__heartbeat__descriptor, data, len, beats->arena, &copy, &st) != CODE_OK) {
        log_debug("a heartbeat cannot be kept", "agent", beat->agent_id, "reason", st.msg, NULL);
        return;
    }
    beats->items[beats->n++] = (Clm__Heartbeat *)copy;
    beats->bytes += len + BATCH_FRAME_BYTES;
    heartbeats->n++;
    heartbeats->bytes += len + BATCH_FRAME_BYTES;
}

void heartbeats_add(struct heartbeats *heartbeats, const Clm__Heartbeat *beat)
{
    if (heartbeats->n < QUEUE_MAX && heartbeats->bytes < QUEUE_BYTES)
        add_copy(heartbeats, beat);
    batch_wake(heartbeats->batch, false);
}

void heartbeats_due(struct heartbeats *heartbeats)
{
    batch_wake(heartbeats->batch, false);
}

struct heartbeats *heartbeats_new(struct edge *edge)
{
    struct heartbeats *heartbeats = calloc(1, sizeof *heartbeats);
    if (!heartbeats)
        abort();
    heartbeats->edge = edge;
    TAILQ_INIT(&heartbeats->waiting);
    heartbeats->batch = batch_new(edge->loop, HEARTBEAT_PERIOD_MS, send, heartbeats);
    return heartbeats;
}

void heartbeats_free(struct heartbeats *heartbeats)
{
    if (!heartbeats)
        return;
    batch_free(heartbeats->batch);
    beats_free(heartbeats, heartbeats->in_flight);
    while (!TAILQ_EMPTY(&heartbeats->waiting)) {
        struct beats *beats = TAILQ_FIRST(&heartbeats->waiting);
        TAILQ_REMOVE(&heartbeats->waiting, beats, link);
        beats_free(heartbeats, beats);
    }
    free(heartbeats);
}
