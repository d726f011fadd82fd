/*
 * One edge: an event loop on its own thread with an agent listener, an operator listener, the check-ins it
 * holds and the requests it has under way on the bus. All of its state belongs to its thread; others reach it
 * by mail.
 */
#ifndef CLM_GATEWAY_EDGE_H
#define CLM_GATEWAY_EDGE_H

#include "bus/bus.h"
#include "gateway/gateway.h"
#include "http/server.h"
#include "loop/loop.h"
#include "loop/mailbox.h"

struct checkins;
struct guests;
struct sessions;
struct streams;

struct edge {
    struct gateway *gateway;
    unsigned index;
    struct loop *loop;
    struct mailbox *mailbox;
    struct http_server *agents, *operators;
    struct guests *agent_guests, *operator_guests;
    struct checkins *checkins;
    struct sessions *sessions;
    struct streams *streams;
    size_t n_calls; /* on the bus, answer outstanding */
    bool stopping;
    pthread_t thread;
    bool started;
};

/* Makes the listeners and starts the thread. */
enum code edge_start(struct gateway *gateway, unsigned index, struct edge **ret,
                     struct status *st) MUST_CHECK;
/* Drains: no new connections, held check-ins are answered, what is under way is finished, within 5 s. */
void edge_stop(struct edge *edge);

/* From any thread: these agents (ids, one a line) have work; this agent may no longer speak. */
void edge_post_wake(struct edge *edge, const char *agent_ids, size_t len);
void edge_post_cut(struct edge *edge, const char *agent_id);
/* Operators' rights have changed: what is kept of them goes. */
void edge_post_forget(struct edge *edge);

/* A request over the bus from the edge's thread: on_reply runs on it, exactly once, even when it is stopping.
 * reply and arena live until on_reply returns; reply is NULL unless st->code is CODE_OK. call is read during
 * this call only. */
void edge_call(struct edge *edge, const struct rpc_call *call,
               void (*on_reply)(struct edge *edge, struct arena *arena, const ProtobufCMessage *reply,
                                const struct status *st, void *arg),
               void *arg);

/* Both listeners' connections, for the metrics. */
void edge_opened(struct edge *edge, const struct http_connection *connection, const char *listener);
void edge_closed(struct edge *edge, const char *listener);

/* JSON and protobuf answers need Retry-After when the code means "wait". Fills at most two rows of ret. */
#define EDGE_HEADERS_MAX 6
void edge_retry_header(enum code code, struct http_header ret[2]);

/* What a peer may know of an error: not what went wrong inside. */
struct status edge_tell(const struct status *st);

extern const struct http_handler agent_handler;    /* agent_api.c */
extern const struct http_handler operator_handler; /* rest.c */

#endif
