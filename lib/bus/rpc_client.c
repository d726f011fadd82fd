/*
 * Requests. One inbox subscription a process takes all replies; a table finds the request by the number at
 * the end of the reply's subject. A timer thread ends what nobody answered. A request leaves the table
 * exactly once, by whoever removes it under the mutex: the reply, the timer, or the loss of the connection.
 * rpc_call waits for its own request on a condition; rpc_call_async unpacks on the library thread and hands
 * over.
 */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "bus/internal.h"

#define BUCKETS           1024u
#define TIMEOUT_MIN_MS    1
#define TIMEOUT_MAX_MS    (10 * 60 * 1000)
#define PENDING_MSGS_MAX  65536
#define PENDING_BYTES_MAX (256 * 1024 * 1024)

struct pending {
    struct pending *hash_next;
    struct pending *prev, *next; /* by deadline, soonest first */
    uint64_t id;
    int64_t deadline_mono_ms;
    struct status early; /* fails with this instead of DEADLINE_EXCEEDED */
    /* Owns msg (NULL: failed as st says). Runs outside the mutex. */
    void (*on_done)(struct pending *p, natsMsg *msg, const struct status *st);
    const ProtobufCMessageDescriptor *output;
    char what[80]; /* "tasks.CreateTask" */

    /* blocking */
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool done;
    natsMsg *msg;
    struct status st;

    /* asynchronous */
    void (*on_reply)(struct arena *arena, ProtobufCMessage *reply, const struct status *st, void *arg);
    void *arg;
};

struct rpc_client {
    struct bus *bus;
    natsSubscription *sub;
    char prefix[128]; /* "_INBOX_gateway.rpc.<uuid>." */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    pthread_t timer;
    bool started, stop;
    uint64_t next_id;
    struct pending *bucket[BUCKETS];
    struct pending *first, *last;
    int64_t timer_until_ms; /* the timer looks by itself then */
};

/* ---- the table; the mutex is held
 * --------------------------------------------------------------------------- */

static void table_add(struct rpc_client *c, struct pending *p)
{
    p->id = ++c->next_id;
    struct pending **slot = &c->bucket[p->id % BUCKETS];
    p->hash_next = *slot;
    *slot = p;
    struct pending *after = c->last;
    while (after && after->deadline_mono_ms > p->deadline_mono_ms)
        after = after->prev;
    p->prev = after;
    p->next = after ? after->next : c->first;
    *(after ? &after->next : &c->first) = p;
    *(p->next ? &p->next->prev : &c->last) = p;
    /* Deadlines lie seconds ahead, answers milliseconds: the timer is not woken for each request, only for
     * one that would end before it looks. */
    if (c->first == p && p->deadline_mono_ms < c->timer_until_ms)
        (void)pthread_cond_signal(&c->wake);
}

static struct pending *table_remove(struct rpc_client *c, uint64_t id)
{
    for (struct pending **slot = &c->bucket[id % BUCKETS]; *slot; slot = &(*slot)->hash_next) {
        struct pending *p = *slot;
        if (p->id != id)
            continue;
        *slot = p->hash_next;
        *(p->prev ? &p->prev->next : &c->first) = p->next;
        *(p->next ? &p->next->prev : &c->last) = p->prev;
        return p;
    }
    return NULL;
}

/* ---- ends of a request
 * ---------------------------------------------------------------------------------------- */

static void on_reply_message(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *arg)
{
    (void)nc;
    (void)sub;
    struct rpc_client *c = arg;
    const char *subject = natsMsg_GetSubject(msg);
    size_t n = strlen(c->prefix);
    uint64_t id = strlen(subject) > n ? strtoull(subject + n, NULL, 10) : 0;
    (void)pthread_mutex_lock(&c->mutex);
    struct pending *p = table_remove(c, id);
    (void)pthread_mutex_unlock(&c->mutex);
    if (p)
        p->on_done(p, msg, NULL);
    else
        natsMsg_Destroy(msg); /* too late: the deadline has been told to the caller */
}

static void *timer_main(void *arg)
{
    struct rpc_client *c = arg;
    (void)pthread_mutex_lock(&c->mutex);
    while (!c->stop) {
        c->timer_until_ms = c->first ? c->first->deadline_mono_ms : INT64_MAX;
        if (!c->first) {
            (void)pthread_cond_wait(&c->wake, &c->mutex);
            continue;
        }
        int64_t left = c->first->deadline_mono_ms - clock_mono_ms();
        if (left > 0) {
            struct timespec until;
            (void)clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_sec += left / 1000;
            until.tv_nsec += (left % 1000) * 1000000;
            if (until.tv_nsec >= 1000000000) {
                until.tv_sec++;
                until.tv_nsec -= 1000000000;
            }
            (void)pthread_cond_timedwait(&c->wake, &c->mutex, &until);
            continue;
        }
        struct pending *p = table_remove(c, c->first->id);
        (void)pthread_mutex_unlock(&c->mutex);
        struct status st = p->early;
        if (st.code == CODE_OK)
            (void)status_set(&st, CODE_DEADLINE_EXCEEDED, "%s: no answer in time", p->what);
        p->on_done(p, NULL, &st);
        (void)pthread_mutex_lock(&c->mutex);
    }
    (void)pthread_mutex_unlock(&c->mutex);
    return NULL;
}

void rpc_client_fail_all(struct rpc_client *c)
{
    (void)pthread_mutex_lock(&c->mutex);
    for (struct pending *p = c->first; p; p = p->next) {
        if (p->early.code == CODE_OK)
            (void)status_set(&p->early, CODE_UNAVAILABLE, "%s: the connection to the bus was lost", p->what);
        p->deadline_mono_ms = 0; /* the timer thread ends them, in order */
    }
    (void)pthread_cond_signal(&c->wake);
    (void)pthread_mutex_unlock(&c->mutex);
}

/* ---- a request
 * ----------------------------------------------------------------------------------------------- */

static enum code build(struct bus *bus, struct bus_identity *identity, const struct rpc_call *call,
                       const char *reply, struct arena *arena, natsMsg **ret, struct status *st)
{
    char subject[160];
    (void)snprintf(subject, sizeof(subject), "clm.rpc.%s.%s", call->service, call->method);
    const uint8_t *body = NULL;
    size_t len = 0;
    wire_pack(call->request, arena, &body, &len);
    if (len > WIRE_BODY_MAX)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "%s.%s: request is longer than %d bytes",
                          call->service, call->method, WIRE_BODY_MAX);
    char id[UUID_TEXT_SIZE], timeout[24], trace[TRACEPARENT_SIZE];
    uuid_v7(id);
    (void)snprintf(timeout, sizeof(timeout), "%" PRId64, call->timeout_ms);
    traceparent_child(call->traceparent, trace);
    const char *assertion = header_encode(call->assertion, arena);
    const char *authority = NULL;
    if (call->authority) {
        if (!identity)
            return status_set(st, CODE_INTERNAL, "%s.%s: authority without an identity", call->service,
                              call->method);
        struct bytes statement;
        TRY(authority_make(identity, subject, id, clock_wall_ms() + call->timeout_ms,
                           (struct bytes){body, len}, arena, &statement, st));
        authority = header_encode(statement, arena);
    }
    natsMsg *msg = NULL;
    natsStatus s = natsMsg_Create(&msg, subject, reply, (const char *)body, (int)len);
    if (s == NATS_OK)
        s = natsMsgHeader_Set(msg, HEADER_TIMEOUT, timeout);
    if (s == NATS_OK)
        s = natsMsgHeader_Set(msg, HEADER_MESSAGE_ID, id);
    if (s == NATS_OK)
        s = natsMsgHeader_Set(msg, HEADER_TRACE, trace);
    if (s == NATS_OK && assertion)
        s = natsMsgHeader_Set(msg, HEADER_ASSERTION, assertion);
    if (s == NATS_OK && authority)
        s = natsMsgHeader_Set(msg, HEADER_AUTHORITY, authority);
    if (s != NATS_OK) {
        natsMsg_Destroy(msg);
        return nats_status(st, s, "request");
    }
    (void)bus;
    *ret = msg;
    return CODE_OK;
}

/* Puts p into the table and sends. From here on_done will be called, whatever happens. */
static void start(struct bus *bus, struct bus_identity *identity, const struct rpc_call *call,
                  struct pending *p, struct arena *arena)
{
    struct rpc_client *c = bus->client;
    (void)snprintf(p->what, sizeof(p->what), "%s.%s", call->service, call->method);
    int64_t timeout_ms = call->timeout_ms;
    if (timeout_ms < TIMEOUT_MIN_MS)
        timeout_ms = TIMEOUT_MIN_MS;
    if (timeout_ms > TIMEOUT_MAX_MS)
        timeout_ms = TIMEOUT_MAX_MS;
    p->deadline_mono_ms = clock_mono_ms() + timeout_ms;
    const ProtobufCMethodDescriptor *method =
        protobuf_c_service_descriptor_get_method_by_name(call->descriptor, call->method);
    struct status st = {0};
    if (!method)
        (void)status_set(&st, CODE_UNIMPLEMENTED, "%s: no such method", p->what);
    else if (method->input != call->request->descriptor)
        (void)status_set(&st, CODE_INTERNAL, "%s: the request is a %s", p->what,
                         call->request->descriptor->name);
    else if (!bus_ready(bus))
        (void)status_set(&st, CODE_UNAVAILABLE, "%s: the bus is away", p->what);
    if (st.code != CODE_OK) {
        p->early = st;
        p->deadline_mono_ms = 0;
    } else {
        p->output = method->output;
    }
    (void)pthread_mutex_lock(&c->mutex);
    table_add(c, p);
    uint64_t id = p->id;
    (void)pthread_mutex_unlock(&c->mutex);
    if (st.code != CODE_OK)
        return;

    char reply[160];
    (void)snprintf(reply, sizeof(reply), "%s%" PRIu64, c->prefix, id);
    natsMsg *msg = NULL;
    enum code code = build(bus, identity, call, reply, arena, &msg, &st);
    if (code == CODE_OK)
        code = nats_status(&st, natsConnection_PublishMsg(bus->prompt, msg), "request");
    natsMsg_Destroy(msg);
    if (code == CODE_OK)
        return;
    (void)pthread_mutex_lock(&c->mutex);
    p = table_remove(c, id); /* gone already if the connection was lost meanwhile */
    if (p) {
        p->early = st;
        p->deadline_mono_ms = 0;
        table_add(c, p);
    }
    (void)pthread_mutex_unlock(&c->mutex);
}

/* What a reply says. The message is borrowed. */
static enum code read_reply(natsMsg *msg, const ProtobufCMessageDescriptor *output, const char *what,
                            struct arena *arena, ProtobufCMessage **ret, struct status *st)
{
    if (natsMsg_IsNoResponders(msg))
        return status_set(st, CODE_UNAVAILABLE, "%s: nobody serves it now", what);
    const char *text = header_get(msg, HEADER_STATUS);
    if (!*text)
        return status_set(st, CODE_INTERNAL, "%s: the reply has no status", what);
    enum code code = (enum code)strtol(text, NULL, 10);
    if (code != CODE_OK) {
        if (code_info(code)->code != code)
            code = CODE_INTERNAL;
        return status_set(st, code, "%s", header_get(msg, HEADER_MESSAGE));
    }
    size_t len = (size_t)natsMsg_GetDataLength(msg);
    if (len > WIRE_BODY_MAX)
        return status_set(st, CODE_INTERNAL, "%s: the reply is longer than %d bytes", what, WIRE_BODY_MAX);
    if (wire_unpack(output, natsMsg_GetData(msg), len, arena, ret, st) != CODE_OK) {
        if (st)
            st->code = CODE_INTERNAL;
        return status_wrap(st, "reply of %s", what);
    }
    return CODE_OK;
}

static void on_done_blocking(struct pending *p, natsMsg *msg, const struct status *st)
{
    (void)pthread_mutex_lock(&p->mutex);
    p->msg = msg;
    if (st)
        p->st = *st;
    p->done = true;
    (void)pthread_cond_signal(&p->cond);
    (void)pthread_mutex_unlock(&p->mutex);
}

enum code rpc_call(struct bus *bus, struct bus_identity *identity, const struct rpc_call *call,
                   struct arena *arena, ProtobufCMessage **ret, struct status *st)
{
    struct pending p = {.on_done = on_done_blocking};
    (void)pthread_mutex_init(&p.mutex, NULL);
    (void)pthread_cond_init(&p.cond, NULL);
    start(bus, identity, call, &p, arena);
    (void)pthread_mutex_lock(&p.mutex);
    while (!p.done)
        (void)pthread_cond_wait(&p.cond, &p.mutex);
    (void)pthread_mutex_unlock(&p.mutex);
    (void)pthread_cond_destroy(&p.cond);
    (void)pthread_mutex_destroy(&p.mutex);
    if (!p.msg)
        return status_set(st, p.st.code, "%s", p.st.msg);
    enum code code = read_reply(p.msg, p.output, p.what, arena, ret, st);
    natsMsg_Destroy(p.msg);
    return code;
}

static void on_done_async(struct pending *p, natsMsg *msg, const struct status *st)
{
    struct arena *arena = arena_new();
    ProtobufCMessage *reply = NULL;
    struct status got = {0};
    if (!msg)
        got = *st;
    else if (read_reply(msg, p->output, p->what, arena, &reply, &got) != CODE_OK)
        reply = NULL;
    natsMsg_Destroy(msg);
    p->on_reply(arena, reply, &got, p->arg);
    free(p);
}

void rpc_call_async(struct bus *bus, struct bus_identity *identity, const struct rpc_call *call,
                    void (*on_reply)(struct arena *arena, ProtobufCMessage *reply, const struct status *st,
                                     void *arg),
                    void *arg)
{
    struct pending *p = calloc(1, sizeof(*p));
    if (!p)
        abort();
    p->on_done = on_done_async;
    p->on_reply = on_reply;
    p->arg = arg;
    AUTO_ARENA struct arena *arena = arena_new();
    start(bus, identity, call, p, arena);
}

/* ---- life
 * --------------------------------------------------------------------------------------------------- */

enum code rpc_client_new(struct bus *bus, struct rpc_client **ret, struct status *st)
{
    struct rpc_client *c = calloc(1, sizeof(*c));
    if (!c)
        abort();
    c->bus = bus;
    char id[UUID_TEXT_SIZE], subject[160];
    uuid_v7(id);
    (void)snprintf(c->prefix, sizeof(c->prefix), "_INBOX_%s.rpc.%s.", bus->service, id);
    (void)snprintf(subject, sizeof(subject), "%s*", c->prefix);
    (void)pthread_mutex_init(&c->mutex, NULL);
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&c->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    natsStatus s = natsConnection_Subscribe(&c->sub, bus->prompt, subject, on_reply_message, c);
    if (s == NATS_OK)
        s = natsSubscription_SetPendingLimits(c->sub, PENDING_MSGS_MAX, PENDING_BYTES_MAX);
    if (s == NATS_OK && pthread_create(&c->timer, NULL, timer_main, c) != 0)
        s = NATS_SYS_ERROR;
    else if (s == NATS_OK)
        c->started = true;
    if (s != NATS_OK) {
        rpc_client_free(c);
        return nats_status(st, s, "subscribe to the own inbox");
    }
    *ret = c;
    return CODE_OK;
}

/* The connections are closed: no reply can come. */
void rpc_client_free(struct rpc_client *c)
{
    if (!c)
        return;
    natsSubscription_Destroy(c->sub);
    (void)pthread_mutex_lock(&c->mutex);
    c->stop = true;
    (void)pthread_cond_signal(&c->wake);
    (void)pthread_mutex_unlock(&c->mutex);
    if (c->started)
        (void)pthread_join(c->timer, NULL);
    while (c->first) {
        struct pending *p = table_remove(c, c->first->id);
        struct status st;
        (void)status_set(&st, CODE_CANCELLED, "%s: this process is leaving", p->what);
        p->on_done(p, NULL, &st);
    }
    (void)pthread_cond_destroy(&c->wake);
    (void)pthread_mutex_destroy(&c->mutex);
    free(c);
}
