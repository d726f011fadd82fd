/*
 * JetStream: making the stream and its durables (bus admin), its state, reading by place, pulling. On the
 * bulk connection. Every call here blocks and belongs to a thread of its own, never to a library callback.
 */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "bus/internal.h"

#define NS_PER_MS        1000000LL
#define DEDUPE_WINDOW_NS (10LL * 60 * 1000 * NS_PER_MS)
#define ACK_WAIT_NS      (30LL * 1000 * NS_PER_MS)
#define MAX_ACK_PENDING  5000
#define RETRY_AFTER_MS   1000
#define API_WAIT_MS      5000
#define EVENT_BYTES_MAX  (1024 * 1024)

#define STREAM_BYTES_DEFAULT (1024LL * 1024 * 1024)

/* ---- set up
 * --------------------------------------------------------------------------------------------------- */

static enum code js_status(struct status *st, natsStatus s, jsErrCode js, const char *what)
{
    enum code code = nats_status(st, s, what);
    if (code == CODE_OK || js == 0)
        return code;
    if (js == JSStreamNotFoundErr || js == JSConsumerNotFoundErr)
        code = CODE_NOT_FOUND;
    else if (js == JSClusterNotAvailErr || js == JSClusterNotActiveErr || js == JSClusterNoPeersErr)
        code = CODE_UNAVAILABLE;
    if (st)
        st->code = code;
    return code;
}

/* 0: as it is, or as it is made at first. */
static enum code make_stream(jsCtx *js, int64_t max_bytes, unsigned replicas, struct status *st)
{
    const char *subjects[] = {EVENTS_ALL};
    jsStreamConfig cfg;
    (void)jsStreamConfig_Init(&cfg);
    cfg.Name = BUS_STREAM;
    cfg.Description = "what happened, by every service; PostgreSQL is the record of truth";
    cfg.Subjects = subjects;
    cfg.SubjectsLen = 1;
    cfg.Retention = js_LimitsPolicy;
    cfg.Storage = js_FileStorage;
    cfg.Discard = js_DiscardNew;
    cfg.MaxBytes = max_bytes > 0 ? max_bytes : STREAM_BYTES_DEFAULT;
    cfg.MaxMsgSize = EVENT_BYTES_MAX;
    cfg.Replicas = replicas > 0 ? replicas : 1;
    cfg.Duplicates = DEDUPE_WINDOW_NS;
    cfg.AllowDirect = true;
    jsErrCode err = 0;
    jsStreamInfo *info = NULL;
    natsStatus s = js_GetStreamInfo(&info, js, BUS_STREAM, NULL, &err);
    if (s == NATS_OK && info->Config) {
        cfg.MaxBytes = max_bytes > 0 ? max_bytes : info->Config->MaxBytes;
        cfg.Replicas = replicas > 0 ? replicas : info->Config->Replicas;
    }
    jsStreamInfo_Destroy(info);
    info = NULL;
    if (s == NATS_NOT_FOUND || err == JSStreamNotFoundErr)
        s = js_AddStream(&info, js, &cfg, NULL, &err);
    else if (s == NATS_OK)
        s = js_UpdateStream(&info, js, &cfg, NULL, &err);
    jsStreamInfo_Destroy(info);
    return js_status(st, s, err, "stream " BUS_STREAM);
}

static enum code make_consumer(jsCtx *js, const struct bus_consumer *consumer, struct status *st)
{
    jsConsumerConfig cfg;
    (void)jsConsumerConfig_Init(&cfg);
    cfg.Durable = consumer->durable;
    cfg.FilterSubject = consumer->filter;
    cfg.DeliverPolicy = js_DeliverAll;
    cfg.AckPolicy = js_AckExplicit;
    cfg.AckWait = ACK_WAIT_NS;
    cfg.MaxDeliver = -1;
    cfg.MaxAckPending = MAX_ACK_PENDING;
    cfg.ReplayPolicy = js_ReplayInstant;
    jsErrCode err = 0;
    jsConsumerInfo *info = NULL;
    natsStatus s = js_AddConsumer(&info, js, BUS_STREAM, &cfg, NULL, &err);
    jsConsumerInfo_Destroy(info);
    return js_status(st, s, err, consumer->durable);
}

/* One for all who show events: it pushes to a plain subject, where any number of them listens, so none of
 * them needs the right to make consumers. It is not acknowledged: who misses one reads it by its place. */
static enum code make_feed(jsCtx *js, struct status *st)
{
    jsConsumerConfig cfg;
    (void)jsConsumerConfig_Init(&cfg);
    cfg.Durable = "feed";
    cfg.DeliverSubject = BUS_SUBJECT_FEED;
    cfg.FilterSubject = EVENTS_ALL;
    cfg.DeliverPolicy = js_DeliverNew;
    cfg.AckPolicy = js_AckNone;
    cfg.ReplayPolicy = js_ReplayInstant;
    jsErrCode err = 0;
    jsConsumerInfo *info = NULL;
    natsStatus s = js_AddConsumer(&info, js, BUS_STREAM, &cfg, NULL, &err);
    jsConsumerInfo_Destroy(info);
    return js_status(st, s, err, "feed");
}

enum code bus_setup(const char *url, const char *ca_file, const char *admin_password_file, int64_t max_bytes,
                    unsigned replicas, struct status *st)
{
    AUTO_SECRET struct secret *password = NULL;
    TRY(secret_read_file(admin_password_file, 256, true, &password, st));
    natsConnection *nc = NULL;
    TRY(nats_connect(url, ca_file, "admin", password, "admin", NULL, &nc, st));
    jsCtx *js = NULL;
    enum code code = nats_status(st, natsConnection_JetStream(&js, nc, NULL), "JetStream context");
    if (code == CODE_OK)
        code = make_stream(js, max_bytes, replicas, st);
    for (const struct bus_user *user = bus_users; code == CODE_OK && user->name; user++)
        for (size_t i = 0; code == CODE_OK && i < BUS_CONSUMERS_MAX && user->consumer[i].durable; i++)
            code = make_consumer(js, &user->consumer[i], st);
    if (code == CODE_OK)
        code = make_feed(js, st);
    jsCtx_Destroy(js);
    natsConnection_Close(nc);
    natsConnection_Destroy(nc);
    return code;
}

enum code events_stream_state(struct bus *bus, int64_t *ret_created_ms, uint64_t *ret_last_seq,
                              struct status *st)
{
    jsStreamInfo *info = NULL;
    jsErrCode err = 0;
    natsStatus s = js_GetStreamInfo(&info, bus->js, BUS_STREAM, NULL, &err);
    if (s != NATS_OK)
        return js_status(st, s, err, "state of stream " BUS_STREAM);
    *ret_created_ms = info->Created / NS_PER_MS;
    *ret_last_seq = info->State.LastSeq;
    jsStreamInfo_Destroy(info);
    return CODE_OK;
}

enum code events_stream_fill(struct bus *bus, double *ret, struct status *st)
{
    jsStreamInfo *info = NULL;
    jsErrCode err = 0;
    natsStatus s = js_GetStreamInfo(&info, bus->js, BUS_STREAM, NULL, &err);
    if (s != NATS_OK)
        return js_status(st, s, err, "state of stream " BUS_STREAM);
    int64_t most = info->Config ? info->Config->MaxBytes : 0;
    *ret = most > 0 ? (double)info->State.Bytes / (double)most : 0;
    jsStreamInfo_Destroy(info);
    return CODE_OK;
}

enum code events_ack_floor(struct bus *bus, uint64_t *ret_seq, struct status *st)
{
    int64_t created;
    uint64_t floor;
    TRY(events_stream_state(bus, &created, &floor, st));
    char prefix[96];
    (void)snprintf(prefix, sizeof(prefix), "clm.event.%s.", bus->service);
    for (const struct bus_user *user = bus_users; user->name; user++) {
        for (size_t i = 0; i < BUS_CONSUMERS_MAX && user->consumer[i].durable; i++) {
            if (strncmp(user->consumer[i].filter, prefix, strlen(prefix)) != 0)
                continue;
            jsConsumerInfo *info = NULL;
            jsErrCode err = 0;
            natsStatus s =
                js_GetConsumerInfo(&info, bus->js, BUS_STREAM, user->consumer[i].durable, NULL, &err);
            if (s != NATS_OK)
                return js_status(st, s, err, user->consumer[i].durable);
            /* A durable that has read all has nothing below the stream's end left to acknowledge. */
            bool idle = info->NumPending == 0 && info->NumAckPending == 0;
            if (!idle && info->AckFloor.Stream < floor)
                floor = info->AckFloor.Stream;
            jsConsumerInfo_Destroy(info);
        }
    }
    *ret_seq = floor;
    return CODE_OK;
}

/* ---- reading by place
 * -------------------------------------------------------------------------------------------------- */

enum code events_read(struct bus *bus, const char *subject, uint64_t seq, struct arena *arena,
                      struct event_message *ret, struct status *st)
{
    jsDirectGetMsgOptions get;
    (void)jsDirectGetMsgOptions_Init(&get);
    get.Sequence = seq > 0 ? seq : 1;
    get.NextBySubject = subject;
    jsOptions options;
    (void)jsOptions_Init(&options);
    options.Wait = API_WAIT_MS;
    natsMsg *msg = NULL;
    natsStatus s = js_DirectGetMsg(&msg, bus->js, BUS_STREAM, &options, &get);
    if (s == NATS_NOT_FOUND)
        return status_set(st, CODE_NOT_FOUND, "the stream has no event %" PRIu64 " yet", seq);
    if (s != NATS_OK)
        return nats_status(st, s, "read event");
    struct event_message message;
    event_message_read(msg, arena, &message);
    *ret = (struct event_message){
        .id = arena_strdup(arena, message.id),
        .subject = arena_strdup(arena, message.subject),
        .body = {arena_dup(arena, message.body.data, message.body.len), message.body.len},
        .authority = message.authority,
        .stream_seq = message.stream_seq,
    };
    natsMsg_Destroy(msg);
    return CODE_OK;
}

/* ---- pulling
 * -------------------------------------------------------------------------------------------------- */

struct event_consumer {
    struct bus *bus;
    natsSubscription *sub;
    char durable[64];
};

struct event_batch {
    natsMsgList list;
    struct event_message *message;
    bool *acked;
    struct arena *arena;
};

enum code event_consumer_new(struct bus *bus, const char *durable, struct event_consumer **ret,
                             struct status *st)
{
    struct event_consumer *consumer = calloc(1, sizeof(*consumer));
    if (!consumer)
        abort();
    consumer->bus = bus;
    (void)snprintf(consumer->durable, sizeof(consumer->durable), "%s", durable);
    jsSubOptions so;
    (void)jsSubOptions_Init(&so);
    so.Stream = BUS_STREAM;
    so.Consumer = durable;
    so.ManualAck = true;
    jsOptions jo;
    (void)jsOptions_Init(&jo);
    jo.Wait = API_WAIT_MS;
    jsErrCode err = 0;
    natsStatus s = js_PullSubscribe(&consumer->sub, bus->js, NULL, durable, &jo, &so, &err);
    if (s != NATS_OK) {
        free(consumer);
        return js_status(st, s, err, durable);
    }
    *ret = consumer;
    return CODE_OK;
}

void event_message_read(natsMsg *msg, struct arena *arena, struct event_message *ret)
{
    ret->id = header_get(msg, "Nats-Msg-Id");
    ret->subject = natsMsg_GetSubject(msg);
    ret->body = (struct bytes){(const uint8_t *)natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg)};
    ret->stream_seq = natsMsg_GetSequence(msg);
    /* One that cannot be decoded counts as none: whoever demands it refuses the event. */
    if (header_decode(msg, HEADER_AUTHORITY, arena, &ret->authority, NULL) != CODE_OK)
        ret->authority = (struct bytes){0};
}

/* Fetch of nats.c 3.4 takes what is waiting, then subtracts that from the number that it goes on to compare
 * with: it stops too early, which leaves more waiting, or not at all, and then writes beyond its list. What a
 * fetch that ran out of time left behind is therefore taken one by one: then nothing is subtracted. */
static int fetch_size(const struct event_consumer *consumer, size_t max)
{
    int waiting = 0, bytes = 0;
    natsStatus s = natsSubscription_GetPending(consumer->sub, &waiting, &bytes);
    return s == NATS_OK && waiting > 0 ? 1 : (int)max;
}

enum code event_consumer_pull(struct event_consumer *consumer, size_t max, int64_t timeout_ms,
                              struct event_batch **ret_batch, struct status *st)
{
    struct event_batch *batch = calloc(1, sizeof(*batch));
    if (!batch)
        abort();
    jsErrCode err = 0;
    natsStatus s =
        natsSubscription_Fetch(&batch->list, consumer->sub, fetch_size(consumer, max), timeout_ms, &err);
    if (s != NATS_OK && s != NATS_TIMEOUT) {
        free(batch);
        return js_status(st, s, err, consumer->durable);
    }
    if (s == NATS_TIMEOUT && !bus_ready(consumer->bus)) {
        free(batch);
        return status_set(st, CODE_UNAVAILABLE, "%s: the bus is away", consumer->durable);
    }
    size_t n = s == NATS_OK ? (size_t)batch->list.Count : 0;
    batch->arena = arena_new();
    batch->message = arena_array(batch->arena, n + 1, sizeof(*batch->message));
    batch->acked = arena_array(batch->arena, n + 1, sizeof(*batch->acked));
    for (size_t i = 0; i < n; i++) {
        natsMsg *msg = batch->list.Msgs[i];
        struct event_message *m = &batch->message[i];
        event_message_read(msg, batch->arena, m);
        jsMsgMetaData *meta = NULL;
        if (natsMsg_GetMetaData(&meta, msg) == NATS_OK)
            m->stream_seq = meta->Sequence.Stream;
        jsMsgMetaData_Destroy(meta);
    }
    *ret_batch = batch;
    return CODE_OK;
}

size_t event_batch_count(const struct event_batch *batch)
{
    return (size_t)batch->list.Count;
}

const struct event_message *event_batch_get(const struct event_batch *batch, size_t i)
{
    return &batch->message[i];
}

void event_batch_ack(struct event_batch *batch, size_t i)
{
    /* A lost acknowledgement brings the event again, and the inbox knows it. */
    batch->acked[i] = natsMsg_Ack(batch->list.Msgs[i], NULL) == NATS_OK;
}

void event_batch_free(struct event_batch *batch)
{
    if (!batch)
        return;
    for (size_t i = 0; i < (size_t)batch->list.Count; i++)
        if (!batch->acked[i])
            (void)natsMsg_NakWithDelay(batch->list.Msgs[i], RETRY_AFTER_MS, NULL);
    natsMsgList_Destroy(&batch->list);
    arena_free(batch->arena);
    free(batch);
}

void event_consumer_free(struct event_consumer *consumer)
{
    if (!consumer)
        return;
    (void)natsSubscription_Unsubscribe(consumer->sub);
    natsSubscription_Destroy(consumer->sub);
    free(consumer);
}
