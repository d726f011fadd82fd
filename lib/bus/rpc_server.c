/*
 * Serving: one queue subscription on clm.rpc.<service>.* and a table that joins each method's descriptor with
 * its handler and its rights. The library thread only wraps what came and hands it over; a worker thread does
 * the rest in rpc_serve, in the order of cheapness: deadline, size, shape, sender, operator, handler.
 *
 * An authority statement is good for one delivery: message ids are remembered until their deadline is past,
 * so that a taken-over bus cannot play one again to this process.
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "bus/access.h"
#include "bus/internal.h"

#define PENDING_MSGS_MAX   16384
#define PENDING_BYTES_MAX  (256 * 1024 * 1024)
#define TIMEOUT_MAX_MS     (10 * 60 * 1000)
#define TIMEOUT_DEFAULT_MS 30000
#define DRAIN_MS           2000
#define SEEN_SLOTS         16384u

struct method_entry {
    const struct rpc_method *row;
    const struct method_access *access;
    const ProtobufCMethodDescriptor *descriptor;
    _Atomic uint64_t n_requests, n_errors, busy_us;
    _Atomic enum code last_error;
};

struct seen { /* open addressing by hash, one probe: a newer id takes an older one's place */
    char id[UUID_TEXT_SIZE];
    int64_t until_mono_ms;
};

struct rpc_server {
    struct bus *bus;
    struct bus_identity *identity;
    char service[64], prefix[80];
    struct method_entry *methods; /* in the descriptor's order */
    size_t n_methods;
    void (*on_delivery)(struct rpc_delivery *delivery, void *arg);
    void *arg;
    natsSubscription *sub;
    pthread_mutex_t mutex;
    pthread_cond_t done;
    bool subscribed, complete;
    struct seen *seen;
};

struct rpc_delivery {
    struct rpc_server *server;
    natsMsg *msg;
    int64_t deadline_mono_ms;
};

static const struct {
    const char *name;
    unsigned bit;
} senders[] = {
    {"gateway", SENDER_GATEWAY},
    {"registry", SENDER_REGISTRY},
    {"bootstrap", SENDER_BOOTSTRAP},
    {"tasks", SENDER_TASKS},
};

static void delivery_free(struct rpc_delivery *delivery)
{
    natsMsg_Destroy(delivery->msg);
    free(delivery);
}

/* ---- answering
 * ---------------------------------------------------------------------------------------------- */

static void answer(struct rpc_delivery *delivery, enum code code, const char *message, const void *body,
                   size_t len)
{
    const char *subject = natsMsg_GetReply(delivery->msg);
    if (!subject)
        return;
    char number[16], text[256];
    (void)snprintf(number, sizeof(number), "%d", (int)code);
    /* A header value is one line. */
    (void)snprintf(text, sizeof(text), "%s", message ? message : "");
    for (char *c = text; *c; c++)
        if (*c == '\r' || *c == '\n')
            *c = ' ';
    natsMsg *msg = NULL;
    natsStatus s = natsMsg_Create(&msg, subject, NULL, body, (int)len);
    if (s == NATS_OK)
        s = natsMsgHeader_Set(msg, HEADER_STATUS, number);
    if (s == NATS_OK && *text)
        s = natsMsgHeader_Set(msg, HEADER_MESSAGE, text);
    if (s == NATS_OK)
        s = natsConnection_PublishMsg(delivery->server->bus->prompt, msg);
    natsMsg_Destroy(msg);
    /* The caller learns it from its deadline. */
    if (s != NATS_OK)
        log_debug("reply not sent", "why", natsStatus_GetText(s), NULL);
}

void rpc_refuse(struct rpc_delivery *delivery, enum code code, const char *message)
{
    answer(delivery, code, message, NULL, 0);
    delivery_free(delivery);
}

/* ---- who asks
 * ----------------------------------------------------------------------------------------------- */

/* True the first time within the statement's life. */
static bool first_use(struct rpc_server *server, const char *id)
{
    uint32_t hash = 2166136261u;
    for (const char *c = id; *c; c++)
        hash = (hash ^ (uint8_t)*c) * 16777619u;
    int64_t now = clock_mono_ms();
    bool fresh = true;
    (void)pthread_mutex_lock(&server->mutex);
    struct seen *slot = &server->seen[hash % SEEN_SLOTS];
    if (strcmp(slot->id, id) == 0 && slot->until_mono_ms > now) {
        fresh = false;
    } else {
        (void)snprintf(slot->id, sizeof(slot->id), "%s", id);
        slot->until_mono_ms = now + TIMEOUT_MAX_MS;
    }
    (void)pthread_mutex_unlock(&server->mutex);
    return fresh;
}

static enum code check_sender(struct rpc_delivery *delivery, const struct method_entry *method,
                              struct rpc_ctx *ctx, char service[64], struct status *st)
{
    ctx->sender = "";
    if (method->access->senders == SENDER_ANY)
        return CODE_OK;
    struct rpc_server *server = delivery->server;
    struct bytes authority;
    TRY(header_decode(delivery->msg, HEADER_AUTHORITY, ctx->arena, &authority, st));
    if (authority.len == 0)
        return status_set(st, CODE_UNAUTHENTICATED, "%s: the sending service's signature is missing",
                          method->row->name);
    const char *id = header_get(delivery->msg, HEADER_MESSAGE_ID);
    struct bytes body = {(const uint8_t *)natsMsg_GetData(delivery->msg),
                         (size_t)natsMsg_GetDataLength(delivery->msg)};
    TRY(authority_verify(server->identity, authority, natsMsg_GetSubject(delivery->msg), id, body, ctx->arena,
                         service, st));
    if (!uuid_valid(id) || !first_use(server, id))
        return status_set(st, CODE_UNAUTHENTICATED, "%s: this message was already delivered",
                          method->row->name);
    for (size_t i = 0; i < ARRAY_LEN(senders); i++) {
        if ((method->access->senders & senders[i].bit) && strcmp(senders[i].name, service) == 0) {
            ctx->sender = service;
            return CODE_OK;
        }
    }
    return status_set(st, CODE_PERMISSION_DENIED, "%s: service %s may not ask for it", method->row->name,
                      service);
}

static enum code check_operator(struct rpc_delivery *delivery, const struct method_entry *method,
                                struct rpc_ctx *ctx, struct status *st)
{
    if (method->access->roles == 0)
        return CODE_OK;
    TRY(header_decode(delivery->msg, HEADER_ASSERTION, ctx->arena, &ctx->assertion, st));
    if (ctx->assertion.len == 0)
        return status_set(st, CODE_UNAUTHENTICATED, "%s: no operator assertion", method->row->name);
    TRY(assertion_verify(delivery->server->identity, ctx->assertion, ctx->arena, &ctx->actor, st));
    if (!(ctx->actor.roles & method->access->roles))
        return status_set(st, CODE_PERMISSION_DENIED, "%s: %s has no role that may do it", method->row->name,
                          *ctx->actor.name ? ctx->actor.name : ctx->actor.id);
    return CODE_OK;
}

/* ---- serving
 * ------------------------------------------------------------------------------------------------ */

static struct method_entry *find_method(const struct rpc_server *server, const char *subject)
{
    size_t n = strlen(server->prefix);
    if (strncmp(subject, server->prefix, n) != 0)
        return NULL;
    for (size_t i = 0; i < server->n_methods; i++)
        if (strcmp(server->methods[i].descriptor->name, subject + n) == 0)
            return &server->methods[i];
    return NULL;
}

static enum code serve(struct rpc_delivery *delivery, const struct method_entry *method, struct rpc_ctx *ctx,
                       const uint8_t **ret_body, size_t *ret_len, struct status *st)
{
    size_t len = (size_t)natsMsg_GetDataLength(delivery->msg);
    if (len > WIRE_BODY_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "%s: request is longer than %d bytes", method->row->name,
                          WIRE_BODY_MAX);
    char service[64] = "";
    TRY(check_sender(delivery, method, ctx, service, st));
    TRY(check_operator(delivery, method, ctx, st));
    ProtobufCMessage *request = NULL;
    TRY(wire_unpack(method->descriptor->input, natsMsg_GetData(delivery->msg), len, ctx->arena, &request,
                    st));
    const ProtobufCMessageDescriptor *output = method->descriptor->output;
    ProtobufCMessage *response = arena_alloc(ctx->arena, output->sizeof_message);
    protobuf_c_message_init(output, response);
    TRY(method->row->handler(ctx, request, response, st));
    wire_pack(response, ctx->arena, ret_body, ret_len);
    if (*ret_len > WIRE_BODY_MAX)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "%s: the answer is longer than %d bytes; ask for less",
                          method->row->name, WIRE_BODY_MAX);
    return CODE_OK;
}

static void count(struct method_entry *method, enum code code, int64_t busy_us)
{
    method->n_requests++;
    method->busy_us += (uint64_t)(busy_us > 0 ? busy_us : 0);
    if (code == CODE_OK)
        return;
    method->n_errors++;
    method->last_error = code;
}

const char *rpc_server_service(const struct rpc_server *server)
{
    return server->service;
}

size_t rpc_server_n_methods(const struct rpc_server *server)
{
    return server->n_methods;
}

void rpc_server_stats(const struct rpc_server *server, size_t i, struct rpc_stats *ret)
{
    const struct method_entry *method = &server->methods[i];
    *ret = (struct rpc_stats){method->row->name, method->n_requests, method->n_errors, method->busy_us * 1000,
                              method->last_error};
}

enum code rpc_serve(struct rpc_server *server, struct rpc_delivery *delivery, struct arena *arena,
                    void *worker, const char **ret_method)
{
    struct method_entry *method = find_method(server, natsMsg_GetSubject(delivery->msg));
    *ret_method = method ? method->row->name : "unknown";
    if (clock_mono_ms() >= delivery->deadline_mono_ms) {
        delivery_free(delivery); /* nobody waits for it any more */
        return CODE_DEADLINE_EXCEEDED;
    }
    int64_t began_us = clock_mono_us();
    struct status st = {0};
    enum code code;
    const uint8_t *body = NULL;
    size_t len = 0;
    if (!method) {
        code =
            status_set(&st, CODE_UNIMPLEMENTED, "%.100s: no such method", natsMsg_GetSubject(delivery->msg));
    } else {
        const char *trace = header_get(delivery->msg, HEADER_TRACE);
        char fresh[TRACEPARENT_SIZE], trace_id[TRACE_ID_SIZE];
        if (!traceparent_trace_id(trace, trace_id)) {
            traceparent_new(fresh);
            (void)traceparent_trace_id(fresh, trace_id);
            trace = fresh;
        }
        log_set_trace(trace_id);
        struct rpc_ctx ctx = {
            .arena = arena,
            .actor = {.id = "", .name = "", .label_selector = ""},
            .sender = "",
            .traceparent = arena_strdup(arena, trace),
            .deadline_mono_ms = delivery->deadline_mono_ms,
            .worker = worker,
        };
        code = serve(delivery, method, &ctx, &body, &len, &st);
    }
    if (method)
        count(method, code, clock_mono_us() - began_us);
    if (code == CODE_OK)
        answer(delivery, CODE_OK, NULL, body, len);
    else
        answer(delivery, code, st.msg, NULL, 0);
    if (code == CODE_INTERNAL || code == CODE_DATA_LOSS)
        log_error("request failed", "method", *ret_method, "why", st.msg, NULL);
    else if (code != CODE_OK)
        log_debug("request refused", "method", *ret_method, "code", code_name(code), "why", st.msg, NULL);
    log_set_trace(NULL);
    delivery_free(delivery);
    return code;
}

/* ---- intake, on a library thread
 * -------------------------------------------------------------------------------- */

static void on_request(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *arg)
{
    (void)nc;
    (void)sub;
    struct rpc_server *server = arg;
    struct rpc_delivery *delivery = calloc(1, sizeof(*delivery));
    if (!delivery)
        abort();
    int64_t timeout_ms = strtoll(header_get(msg, HEADER_TIMEOUT), NULL, 10);
    if (timeout_ms <= 0)
        timeout_ms = TIMEOUT_DEFAULT_MS;
    if (timeout_ms > TIMEOUT_MAX_MS)
        timeout_ms = TIMEOUT_MAX_MS;
    delivery->server = server;
    delivery->msg = msg;
    delivery->deadline_mono_ms = clock_mono_ms() + timeout_ms;
    server->on_delivery(delivery, server->arg);
}

static void on_complete(void *arg)
{
    struct rpc_server *server = arg;
    (void)pthread_mutex_lock(&server->mutex);
    server->complete = true;
    (void)pthread_cond_signal(&server->done);
    (void)pthread_mutex_unlock(&server->mutex);
}

static enum code join_methods(struct rpc_server *server, const ProtobufCServiceDescriptor *descriptor,
                              const struct rpc_method *methods, size_t n_methods, struct status *st)
{
    server->n_methods = descriptor->n_methods;
    server->methods = calloc(descriptor->n_methods, sizeof(*server->methods));
    if (!server->methods)
        abort();
    for (size_t i = 0; i < n_methods; i++)
        if (!protobuf_c_service_descriptor_get_method_by_name(descriptor, methods[i].name))
            return status_set(st, CODE_INTERNAL, "%s has no method %s", descriptor->name, methods[i].name);
    for (size_t i = 0; i < descriptor->n_methods; i++) {
        server->methods[i].descriptor = &descriptor->methods[i];
        for (size_t k = 0; k < n_methods; k++)
            if (strcmp(methods[k].name, descriptor->methods[i].name) == 0)
                server->methods[i].row = &methods[k];
        if (!server->methods[i].row)
            return status_set(st, CODE_INTERNAL, "%s.%s has no row in the method table", descriptor->name,
                              descriptor->methods[i].name);
        server->methods[i].access = method_access_find(server->service, descriptor->methods[i].name);
        if (!server->methods[i].access)
            return status_set(st, CODE_INTERNAL, "%s.%s has no row in access.c", server->service,
                              descriptor->methods[i].name);
    }
    return CODE_OK;
}

enum code rpc_server_new(struct bus *bus, struct bus_identity *identity, const char *service,
                         const ProtobufCServiceDescriptor *descriptor, const struct rpc_method *methods,
                         size_t n_methods, void (*on_delivery)(struct rpc_delivery *delivery, void *arg),
                         void *arg, struct rpc_server **ret, struct status *st)
{
    struct rpc_server *server = calloc(1, sizeof(*server));
    if (!server)
        abort();
    server->seen = calloc(SEEN_SLOTS, sizeof(*server->seen));
    if (!server->seen)
        abort();
    server->bus = bus;
    server->identity = identity;
    server->on_delivery = on_delivery;
    server->arg = arg;
    (void)snprintf(server->service, sizeof(server->service), "%s", service);
    (void)snprintf(server->prefix, sizeof(server->prefix), "clm.rpc.%s.", service);
    (void)pthread_mutex_init(&server->mutex, NULL);
    (void)pthread_cond_init(&server->done, NULL);
    *ret = server; /* before the first delivery: whoever serves it reads this from the caller's variable */
    enum code code = join_methods(server, descriptor, methods, n_methods, st);
    char subject[96];
    (void)snprintf(subject, sizeof(subject), "%s*", server->prefix);
    if (code == CODE_OK)
        code = nats_status(
            st,
            natsConnection_QueueSubscribe(&server->sub, bus->prompt, subject, service, on_request, server),
            "subscribe to requests");
    if (code == CODE_OK)
        code = nats_status(st, natsSubscription_SetOnCompleteCB(server->sub, on_complete, server),
                           "subscribe to requests");
    server->subscribed = code == CODE_OK;
    if (code == CODE_OK)
        code = nats_status(
            st, natsSubscription_SetPendingLimits(server->sub, PENDING_MSGS_MAX, PENDING_BYTES_MAX),
            "subscribe to requests");
    if (code != CODE_OK) {
        *ret = NULL;
        rpc_server_free(server);
    }
    return code;
}

void rpc_server_stop(struct rpc_server *server)
{
    if (!server->subscribed)
        return;
    server->subscribed = false;
    /* Drain lets the requests through that the server has already sent us; a closed connection has none. */
    if (!bus_ready(server->bus) || natsSubscription_DrainTimeout(server->sub, DRAIN_MS) != NATS_OK)
        (void)natsSubscription_Unsubscribe(server->sub);
    (void)pthread_mutex_lock(&server->mutex);
    while (!server->complete)
        (void)pthread_cond_wait(&server->done, &server->mutex);
    (void)pthread_mutex_unlock(&server->mutex);
}

void rpc_server_free(struct rpc_server *server)
{
    if (!server)
        return;
    rpc_server_stop(server);
    natsSubscription_Destroy(server->sub);
    (void)pthread_cond_destroy(&server->done);
    (void)pthread_mutex_destroy(&server->mutex);
    free(server->methods);
    free(server->seen);
    free(server);
}
