/* Threads, mail and bus calls of an edge. What its listeners do is in agent_api.c and rest.c. */
#include "gateway/edge.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "gateway/checkins.h"
#include "gateway/guests.h"
#include "gateway/sessions.h"
#include "gateway/streams.h"

#define DRAIN_MS          5000
#define HANDSHAKES_MAX    512
#define AGENT_BODY_MAX    (512 * 1024)
#define OPERATOR_BODY_MAX (512 * 1024)
#define RETRY_AFTER_SEC   "5"
#define SHARE_MIN         16 /* of those that nobody vouches for, and of one source */

/* ---- mail ---- */

struct note {
    struct mail mail;
    size_t len;
    char text[]; /* agent ids */
};

static void post_note(struct edge *edge, void (*deliver)(struct mail *mail, void *arg), const char *text,
                      size_t len)
{
    struct note *note = malloc(sizeof *note + len + 1);
    if (!note)
        abort();
    note->mail.deliver = deliver;
    note->len = len;
    memcpy(note->text, text, len);
    note->text[len] = '\0';
    mailbox_post(edge->mailbox, &note->mail);
}

static void deliver_wake(struct mail *mail, void *arg)
{
    struct edge *edge = arg;
    struct note *note = (struct note *)mail;
    char *rest = note->text;
    for (char *id; (id = strsep(&rest, "\n")) != NULL;) {
        if (*id)
            checkins_wake(edge->checkins, id);
    }
    free(note);
}

static void deliver_cut(struct mail *mail, void *arg)
{
    struct edge *edge = arg;
    struct note *note = (struct note *)mail;
    checkins_cut(edge->checkins, note->text);
    free(note);
}

void edge_post_wake(struct edge *edge, const char *agent_ids, size_t len)
{
    post_note(edge, deliver_wake, agent_ids, len);
}

void edge_post_cut(struct edge *edge, const char *agent_id)
{
    post_note(edge, deliver_cut, agent_id, strlen(agent_id));
}

static void deliver_forget(struct mail *mail, void *arg)
{
    struct edge *edge = arg;
    sessions_forget_all(edge->sessions);
    streams_ask_again(edge->streams);
    free(mail);
}

void edge_post_forget(struct edge *edge)
{
    post_note(edge, deliver_forget, "", 0);
}

/* ---- calls ---- */

struct bus_call {
    struct mail mail;
    struct edge *edge;
    struct arena *arena;
    ProtobufCMessage *reply;
    struct status st;
    void (*on_reply)(struct edge *edge, struct arena *arena, const ProtobufCMessage *reply,
                     const struct status *st, void *arg);
    void *arg;
};

static void deliver_reply(struct mail *mail, void *arg)
{
    struct edge *edge = arg;
    struct bus_call *call = (struct bus_call *)mail;
    edge->n_calls--;
    call->on_reply(edge, call->arena, call->reply, &call->st, call->arg);
    arena_free(call->arena);
    free(call);
}

/* On a thread of the bus library. */
static void on_bus_reply(struct arena *arena, ProtobufCMessage *reply, const struct status *st, void *arg)
{
    struct bus_call *call = arg;
    call->arena = arena;
    call->reply = reply;
    call->st = *st;
    mailbox_post(call->edge->mailbox, &call->mail);
}

void edge_call(struct edge *edge, const struct rpc_call *rpc,
               void (*on_reply)(struct edge *edge, struct arena *arena, const ProtobufCMessage *reply,
                                const struct status *st, void *arg),
               void *arg)
{
    struct bus_call *call = calloc(1, sizeof *call);
    if (!call)
        abort();
    call->mail.deliver = deliver_reply;
    call->edge = edge;
    call->on_reply = on_reply;
    call->arg = arg;
    edge->n_calls++;
    struct service *service = edge->gateway->service;
    rpc_call_async(service_bus(service), service_identity(service), rpc, on_bus_reply, call);
}

void edge_opened(struct edge *edge, const struct http_connection *connection, const char *listener)
{
    const struct gateway *gateway = edge->gateway;
    metric_add_by(gateway->metric.handshakes, "listener", listener, "resumed",
                  http_connection_resumed(connection) ? "true" : "false", 1);
    metric_add(gateway->metric.open, "listener", listener, 1);
}

void edge_closed(struct edge *edge, const char *listener)
{
    metric_add(edge->gateway->metric.open, "listener", listener, -1);
}

void edge_retry_header(enum code code, struct http_header ret[2])
{
    ret[0] = ret[1] = (struct http_header){0};
    if (code == CODE_UNAVAILABLE || code == CODE_RESOURCE_EXHAUSTED)
        ret[0] = (struct http_header){"Retry-After", RETRY_AFTER_SEC};
}

struct status edge_tell(const struct status *st)
{
    struct status told = *st;
    if (st->code == CODE_INTERNAL || st->code == CODE_DATA_LOSS)
        (void)status_set(&told, st->code,
                         "something went wrong on our side; the log has it under this request's id");
    return told;
}

/* ---- life ---- */

/* "127.0.0.1:8443", "[::1]:8443" */
static enum code parse_listen(const char *text, char address[64], uint16_t *ret_port, struct status *st)
{
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
    size_t len = colon ? (size_t)(colon - text) : 0;
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    if (!colon || !end || *end || end == colon + 1 || port == 0 || port > 65535 || len == 0 || len >= 64)
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%s\" is no address:port to listen on", text);
    memcpy(address, text, len);
    address[len] = '\0';
    *ret_port = (uint16_t)port;
    return CODE_OK;
}

/* Of each listener of an edge. */
static size_t places(const struct gateway *gateway)
{
    return (size_t)gateway->config->max_connections / gateway->n_edges + 1;
}

static size_t share(const struct gateway *gateway, size_t of)
{
    size_t n = places(gateway) / of;
    return n > SHARE_MIN ? n : SHARE_MIN;
}

static enum code listen_on(struct edge *edge, const char *where, struct http_server_config *server,
                           const struct http_handler *handler, struct http_server **ret, struct status *st)
{
    char address[64];
    server->address = address;
    server->reuse_port = true;
    server->max_connections = places(edge->gateway);
    server->max_handshakes = HANDSHAKES_MAX;
    TRY(parse_listen(where, address, &server->port, st));
    return http_server_new(edge->loop, server, handler, edge, ret, st);
}

static void *run(void *arg)
{
    struct edge *edge = arg;
    loop_run(edge->loop);
    return NULL;
}

static void edge_free(struct edge *edge)
{
    http_server_free(edge->agents);
    http_server_free(edge->operators);
    checkins_free(edge->checkins);
    guests_free(edge->agent_guests);
    guests_free(edge->operator_guests);
    sessions_free(edge->sessions);
    mailbox_free(edge->mailbox);
    streams_free(edge->streams); /* behind the last mail that names one */
    loop_free(edge->loop);
    free(edge);
}

enum code edge_start(struct gateway *gateway, unsigned index, struct edge **ret, struct status *st)
{
    struct edge *edge = calloc(1, sizeof *edge);
    if (!edge)
        abort();
    edge->gateway = gateway;
    edge->index = index;
    edge->loop = loop_new();
    edge->mailbox = mailbox_new(edge->loop, edge);
    edge->checkins = checkins_new(edge);
    /* Agents that are known keep three quarters of their listener; many hosts may enrol from behind one
     * address. Operators show who they are with each request only. */
    edge->agent_guests = guests_new(share(gateway, 4), share(gateway, 8));
    edge->operator_guests = guests_new(SIZE_MAX, share(gateway, 4));
    edge->sessions = sessions_new(edge);
    edge->streams = streams_new(edge);

    const struct gateway_config *config = gateway->config;
    struct http_server_config agents = {
        .tls = gateway->agent_tls,
        .limits = {.body_bytes = AGENT_BODY_MAX},
        .proxies = gateway->proxies,
        .n_proxies = gateway->n_proxies,
    };
    struct http_server_config operators = {.tls = gateway->operator_tls,
                                           .limits = {.body_bytes = OPERATOR_BODY_MAX}};
    enum code code = listen_on(edge, config->agent_listen, &agents, &agent_handler, &edge->agents, st);
    if (code == CODE_OK)
        code = listen_on(edge, config->operator_listen, &operators, &operator_handler, &edge->operators, st);
    if (code == CODE_OK && pthread_create(&edge->thread, NULL, run, edge) != 0)
        code = status_set(st, CODE_INTERNAL, "cannot start an edge thread");
    if (code != CODE_OK) {
        edge_free(edge);
        return code;
    }
    edge->started = true;
    *ret = edge;
    return CODE_OK;
}

struct stop_mail {
    struct mail mail;
    struct loop_timer *timer;
    struct edge *edge;
    int64_t left_ms;
};

/* Looks every 50 ms whether all is answered; a bounded wait at the end of a process, not a poll of its life.
 */
static void on_drain_timer(void *arg)
{
    struct stop_mail *stop = arg;
    struct edge *edge = stop->edge;
    stop->left_ms -= 50;
    bool idle = edge->n_calls == 0 && http_server_connections(edge->agents) == 0 &&
                http_server_connections(edge->operators) == 0;
    if (!idle && stop->left_ms > 0) {
        loop_timer_set(stop->timer, 50);
        return;
    }
    loop_timer_free(stop->timer);
    free(stop);
    loop_stop(edge->loop);
}

static void deliver_stop(struct mail *mail, void *arg)
{
    struct edge *edge = arg;
    struct stop_mail *stop = (struct stop_mail *)mail;
    edge->stopping = true;
    http_server_drain(edge->agents, NULL, NULL);
    http_server_drain(edge->operators, NULL, NULL);
    checkins_release_all(edge->checkins);
    streams_end_all(edge->streams);
    stop->edge = edge;
    stop->left_ms = DRAIN_MS;
    stop->timer = loop_timer_new(edge->loop, on_drain_timer, stop);
    loop_timer_set(stop->timer, 50);
}

void edge_stop(struct edge *edge)
{
    if (!edge)
        return;
    if (edge->started) {
        struct stop_mail *stop = calloc(1, sizeof *stop);
        if (!stop)
            abort();
        stop->mail.deliver = deliver_stop;
        mailbox_post(edge->mailbox, &stop->mail);
        pthread_join(edge->thread, NULL);
    }
    if (edge->n_calls > 0) {
        /* Their answers would come into freed memory; the process is about to end, so the memory stays. */
        log_warn("requests were still under way when the gateway stopped", "count", LOG_NUM(edge->n_calls),
                 NULL);
        return;
    }
    edge_free(edge);
}
