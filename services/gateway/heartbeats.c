/* See heartbeats.h. */
#include "gateway/heartbeats.h"

#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/log.h"
#include "gateway/batch.h"
#include "gateway/edge.h"

#define BATCH_MAX       1000
#define QUEUE_MAX       100000
#define CALL_TIMEOUT_MS 5000
#define RETRY_MS        1000

struct beats {
    struct arena *arena;
    Clm__Heartbeat **items;
    size_t n, cap;
};

struct heartbeats {
    struct edge *edge;
    struct beats waiting, in_flight;
    struct batch *batch;
};

static void beats_reset(struct beats *beats)
{
    arena_free(beats->arena);
    *beats = (struct beats){.arena = arena_new()};
}

static void beats_add(struct beats *beats, Clm__Heartbeat *beat)
{
    if (beats->n == beats->cap) {
        size_t cap = beats->cap ? beats->cap * 2 : 64;
        Clm__Heartbeat **items = arena_array(beats->arena, cap, sizeof *items);
        if (beats->n)
            memcpy(items, beats->items, beats->n * sizeof(Clm__Heartbeat *));
        beats->items = items;
        beats->cap = cap;
    }
    beats->items[beats->n++] = beat;
}

/* Copies by packing: the check-in's memory is the request's. */
static Clm__Heartbeat *beat_copy(struct arena *arena, const Clm__Heartbeat *beat)
{
    AUTO_ARENA struct arena *scratch = arena_new();
    const uint8_t *data;
    size_t len;
    ProtobufCMessage *copy = NULL;
    struct status st;
    wire_pack(&beat->base, scratch, &data, &len);
    return wire_unpack(&clm__heartbeat__descriptor, data, len, arena, &copy, &st) == CODE_OK
               ? (Clm__Heartbeat *)copy
               : NULL;
}

static void on_sent(struct edge *edge UNUSED, struct arena *arena UNUSED, const ProtobufCMessage *reply,
                    const struct status *st, void *arg)
{
    struct heartbeats *heartbeats = arg;
    if (!reply && code_info(st->code)->retryable &&
        heartbeats->waiting.n + heartbeats->in_flight.n < QUEUE_MAX) {
        for (size_t i = 0; i < heartbeats->in_flight.n; i++) {
            Clm__Heartbeat *copy = beat_copy(heartbeats->waiting.arena, heartbeats->in_flight.items[i]);
            if (copy)
                beats_add(&heartbeats->waiting, copy);
        }
    }
    if (!reply)
        log_debug("heartbeats not taken", "count", LOG_NUM(heartbeats->in_flight.n), "reason", st->msg, NULL);
    beats_reset(&heartbeats->in_flight);
    batch_sent(heartbeats->batch, heartbeats->waiting.n > 0, reply ? 0 : RETRY_MS);
}

static void send(void *arg)
{
    struct heartbeats *heartbeats = arg;
    struct service *service = heartbeats->edge->gateway->service;
    struct beats empty = heartbeats->in_flight;
    heartbeats->in_flight = heartbeats->waiting;
    heartbeats->waiting = empty;

    if (heartbeats->in_flight.n > BATCH_MAX) { /* the rest goes with the next one */
        for (size_t i = BATCH_MAX; i < heartbeats->in_flight.n; i++) {
            Clm__Heartbeat *copy = beat_copy(heartbeats->waiting.arena, heartbeats->in_flight.items[i]);
            if (copy)
                beats_add(&heartbeats->waiting, copy);
        }
        heartbeats->in_flight.n = BATCH_MAX;
    }
    metric_observe_ms(heartbeats->edge->gateway->metric.heartbeat_batch, NULL, NULL,
                      (double)heartbeats->in_flight.n);

    char gateway_id[UUID_TEXT_SIZE];
    (void)snprintf(gateway_id, sizeof gateway_id, "%s", service_instance_id(service));
    Clm__ReportHeartbeatsRequest request = CLM__REPORT_HEARTBEATS_REQUEST__INIT;
    request.gateway_id = gateway_id;
    request.epoch = heartbeats->edge->gateway->epoch;
    request.n_heartbeats = heartbeats->in_flight.n;
    request.heartbeats = heartbeats->in_flight.items;
    const struct rpc_call call = {
        .service = "registry",
        .descriptor = &clm__registry__descriptor,
        .method = "ReportHeartbeats",
        .request = &request.base,
        .timeout_ms = CALL_TIMEOUT_MS,
    };
    edge_call(heartbeats->edge, &call, on_sent, heartbeats);
}

void heartbeats_add(struct heartbeats *heartbeats, const Clm__Heartbeat *beat)
{
    Clm__Heartbeat *copy =
        heartbeats->waiting.n < QUEUE_MAX ? beat_copy(heartbeats->waiting.arena, beat) : NULL;
    if (copy)
        beats_add(&heartbeats->waiting, copy);
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
    beats_reset(&heartbeats->waiting);
    beats_reset(&heartbeats->in_flight);
    heartbeats->batch = batch_new(edge->loop, HEARTBEAT_PERIOD_MS, send, heartbeats);
    return heartbeats;
}

void heartbeats_free(struct heartbeats *heartbeats)
{
    if (!heartbeats)
        return;
    batch_free(heartbeats->batch);
    arena_free(heartbeats->waiting.arena);
    arena_free(heartbeats->in_flight.arena);
    free(heartbeats);
}
