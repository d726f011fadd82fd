/*
 * Publishing a batch of events: all of them are on their way at once, in order, and each acknowledgement, on
 * a thread of the library, finds its event by the id of its message. An acknowledgement that comes when its
 * batch is over is of no use any more: the relay publishes that event again, and the stream knows it. One
 * batch at a time.
 */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "bus/internal.h"

struct publisher {
    jsCtx *js;
    pthread_mutex_t turn; /* of the batch that is published */

    pthread_mutex_t mutex; /* of what is below */
    pthread_cond_t heard;
    struct event_to_publish *events; /* NULL: none is under way */
    size_t n, at, left;              /* at: where the next acknowledgement is looked for first */
    size_t unsent;                   /* so many will never be acknowledged */
    struct status refused;           /* the first that was */
};

/* The mutex is held. */
static struct event_to_publish *find(struct publisher *p, const char *id)
{
    for (size_t i = 0; i < p->n; i++) {
        struct event_to_publish *event = &p->events[(p->at + i) % p->n];
        if (strcmp(event->id, id) != 0)
            continue;
        p->at = (p->at + i + 1) % p->n;
        return event;
    }
    return NULL;
}

static void refuse(struct publisher *p, const jsPubAckErr *error)
{
    struct status *st = &p->refused;
    if (st->code == CODE_OK && nats_status(st, error ? error->Err : NATS_ERR, "publish event") == CODE_OK)
        (void)status_set(st, CODE_UNAVAILABLE, "publish event: %s",
                         error && error->ErrText ? error->ErrText : "not acknowledged");
}

static void on_ack(jsCtx *js UNUSED, natsMsg *msg, jsPubAck *ack, jsPubAckErr *error, void *closure)
{
    struct publisher *p = closure;
    const char *id = header_get(msg, "Nats-Msg-Id");
    (void)pthread_mutex_lock(&p->mutex);
    struct event_to_publish *event = p->events ? find(p, id) : NULL;
    if (event && ack)
        event->stream_seq = ack->Sequence;
    else if (event)
        refuse(p, error);
    if (event && --p->left <= p->unsent)
        (void)pthread_cond_signal(&p->heard);
    (void)pthread_mutex_unlock(&p->mutex);
    natsMsg_Destroy(msg);
}

enum code publisher_new(natsConnection *nc, struct publisher **ret, struct status *st)
{
    struct publisher *p = calloc(1, sizeof(*p));
    if (!p)
        abort();
    pthread_condattr_t attr;
    (void)pthread_mutex_init(&p->turn, NULL);
    (void)pthread_mutex_init(&p->mutex, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&p->heard, &attr);
    (void)pthread_condattr_destroy(&attr);
    jsOptions options;
    (void)jsOptions_Init(&options);
    options.PublishAsync.AckHandler = on_ack;
    options.PublishAsync.AckHandlerClosure = p;
    enum code code = nats_status(st, natsConnection_JetStream(&p->js, nc, &options), "JetStream context");
    if (code != CODE_OK) {
        publisher_free(p);
        return code;
    }
    *ret = p;
    return CODE_OK;
}

void publisher_free(struct publisher *p)
{
    if (!p)
        return;
    jsCtx_Destroy(p->js);
    (void)pthread_cond_destroy(&p->heard);
    (void)pthread_mutex_destroy(&p->mutex);
    (void)pthread_mutex_destroy(&p->turn);
    free(p);
}

static enum code send_one(struct publisher *p, const struct event_to_publish *event, struct arena *arena,
                          int64_t wait_ms, struct status *st)
{
    natsMsg *msg = NULL;
    natsStatus s =
        natsMsg_Create(&msg, event->subject, NULL, (const char *)event->body.data, (int)event->body.len);
    const char *authority = header_encode(event->authority, arena);
    if (s == NATS_OK && authority)
        s = natsMsgHeader_Set(msg, HEADER_AUTHORITY, authority);
    jsPubOptions options;
    (void)jsPubOptions_Init(&options);
    options.MsgId = event->id;
    options.ExpectStream = BUS_STREAM;
    options.MaxWait = wait_ms;
    if (s == NATS_OK)
        s = js_PublishMsgAsync(p->js, &msg, &options);
    natsMsg_Destroy(msg); /* taken, unless it failed */
    return nats_status(st, s, "publish event");
}

/* How many of them are under way when it returns. All have the same time: the library keeps them in the order
 * of their ends, and one that would end sooner than those before it costs a walk along all of them. */
static enum code send_all(struct publisher *p, const struct event_to_publish *events, size_t n,
                          int64_t timeout_ms, size_t *ret_sent, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    int64_t deadline_ms = clock_mono_ms() + timeout_ms;
    for (*ret_sent = 0; *ret_sent < n; (*ret_sent)++) {
        if (clock_mono_ms() >= deadline_ms)
            return status_set(st, CODE_DEADLINE_EXCEEDED, "publish events: %zu of %zu in time", *ret_sent, n);
        TRY(send_one(p, &events[*ret_sent], arena, timeout_ms, st));
    }
    return CODE_OK;
}

/* False when not all that were sent were acknowledged in time. Ends the batch. */
static bool wait_for_acks(struct publisher *p, size_t unsent, int64_t timeout_ms, struct status *ret_refused)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    (void)pthread_mutex_lock(&p->mutex);
    p->unsent = unsent;
    while (p->left > unsent && pthread_cond_timedwait(&p->heard, &p->mutex, &until) == 0)
        ;
    bool all = p->left <= unsent;
    *ret_refused = p->refused;
    p->events = NULL;
    (void)pthread_mutex_unlock(&p->mutex);
    return all;
}

static enum code publish(struct publisher *p, struct event_to_publish *events, size_t n, int64_t timeout_ms,
                         struct status *st)
{
    int64_t deadline_ms = clock_mono_ms() + timeout_ms;
    (void)pthread_mutex_lock(&p->mutex);
    p->events = events;
    p->n = p->left = n;
    p->at = p->unsent = 0;
    p->refused = (struct status){0};
    (void)pthread_mutex_unlock(&p->mutex);
    size_t sent;
    enum code code = send_all(p, events, n, timeout_ms, &sent, st);
    int64_t left_ms = deadline_ms - clock_mono_ms();
    struct status refused;
    bool all = wait_for_acks(p, n - sent, left_ms > 0 ? left_ms : 0, &refused);
    if (code != CODE_OK)
        return code;
    if (refused.code != CODE_OK)
        return status_set(st, refused.code, "%s", refused.msg);
    return all ? CODE_OK
               : status_set(st, CODE_DEADLINE_EXCEEDED, "publish events: not all acknowledged in time");
}

enum code events_publish(struct bus *bus, struct event_to_publish *events, size_t n, int64_t timeout_ms,
                         struct status *st)
{
    struct publisher *p = bus->publisher;
    for (size_t i = 0; i < n; i++)
        events[i].stream_seq = 0;
    if (n == 0)
        return CODE_OK;
    (void)pthread_mutex_lock(&p->turn);
    enum code code = publish(p, events, n, timeout_ms, st);
    (void)pthread_mutex_unlock(&p->turn);
    return code;
}
