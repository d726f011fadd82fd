/*
 * What the parts of the server share: the listener (server.c), its connections (server_connection.c), their
 * requests (server_request.c) and the answers to them (server_answer.c). A connection has at most one request
 * with the handler (current) and one complete one behind it (queued); then it stops reading, and bytes
 * already read wait in `rest`. Answers are only queued by http_respond; the loop sends them, serves what is
 * queued and reads on.
 */
#ifndef CLM_HTTP_SERVER_PARTS_H
#define CLM_HTTP_SERVER_PARTS_H

#include <arpa/inet.h>
#include <sys/queue.h>

#include "http/conn.h"
#include "http/parse.h"
#include "http/proxy_wait.h"
#include "http/server.h"

enum phase { PHASE_NONE, PHASE_IDLE, PHASE_HEAD, PHASE_BODY };

struct http_request {
    struct http_connection *connection;
    struct http_message *message;
    void *user;
    bool streaming, chunked, full, told_pending, no_body;
};

struct http_connection {
    struct conn conn; /* first */
    struct http_server *server;
    LIST_ENTRY(http_connection) link;
    TAILQ_ENTRY(http_connection) handshake_link; /* while handshaking */
    int64_t began_ms;                            /* monotonic */
    struct parser parser;
    struct http_request *current, *queued;
    struct buf rest;
    void *user;
    enum phase phase;
    int64_t phase_start_ms;
    bool handshaking, opened, serving, close_after, proxied;
    char peer[INET6_ADDRSTRLEN];
};

struct http_server {
    struct loop *loop;
    struct http_server_config config;
    const struct http_handler *handler;
    void *arg;
    int fd;
    uint16_t port;
    struct loop_watch *listener;
    struct loop_timer *accept_timer, *drain_timer, *patience_timer;
    LIST_HEAD(, http_connection) connections;
    TAILQ_HEAD(handshakes, http_connection) handshakes; /* oldest first */
    LIST_HEAD(, proxy_wait) waits; /* for the headers of balancers; they count as handshakes */
    size_t connection_count, handshake_count;
    bool draining;
    void (*on_drained)(void *arg);
    void *drained_arg;
};

/* --- server.c --- */

/* Listens if there is room for another connection, and only then. */
void server_update_listener(struct http_server *server);

/* --- server_connection.c --- */

/* Takes fd. peer: where it comes from, as a balancer says if `proxied`. */
void connection_new(struct http_server *server, int fd, const char *peer, bool proxied);
/* Ends one whose handshake makes no way. */
void connection_give_up(struct http_connection *c);
/* Neither a request nor a part of one is here, and no answer is on its way. */
bool connection_is_idle(const struct http_connection *c);

/* --- server_answer.c --- */

/* Queues the answer to what is no request: a problem document. false: it does not fit. */
bool answer_put_refusal(struct http_connection *c, int status, const char *detail);

/* --- server_request.c --- */

void request_free(struct http_request *request);

#endif
