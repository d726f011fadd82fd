/*
 * HTTP/1.1 server (RFC 9110, RFC 9112) on one event loop, plain or TLS: the one server layer of both
 * listeners and of the admin ports. Everything here is called on the loop's thread, and no function calls
 * back before it returns: a callback always comes from the loop.
 *
 * Life of a request: on_request is called when its whole body is in. It is answered exactly once, now or
 * later (http_respond, or http_stream_begin … http_stream_end); the answer ends the pointer. A request not
 * yet answered is "held"; nothing bounds how long. While it is held the connection goes on reading:
 *   - the client left (FIN, RST, TLS close, garbage): on_gone, after which the pointer is invalid;
 *   - a further request has come in complete behind it: on_pending_behind, once. Answer the held one to let
 * the next be served; nothing more is read from the connection until then. Malformed input is answered with
 * 400, 408, 413, 414, 417, 431, 501 or 505 as problem+json and the connection is closed; on_request is not
 * called for it.
 */
#ifndef CLM_HTTP_SERVER_H
#define CLM_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cidr.h"
#include "base/status.h"
#include "http/http.h"
#include "http/tls.h"
#include "loop/loop.h"

struct http_server;
struct http_connection;
struct http_request;

struct http_handler {
    /* Before the handshake: false closes the socket at once (admission by source). NULL accepts. */
    bool (*on_accept)(const char *peer, void *arg);
    /* After the handshake, before the first request: set the user pointer here. False closes. NULL accepts.
     */
    bool (*on_connection_open)(struct http_connection *connection, void *arg);
    /* Last word on a connection that was opened; its requests are gone before. */
    void (*on_connection_close)(struct http_connection *connection, void *arg);
    void (*on_request)(struct http_request *request, void *arg); /* required */
    void (*on_gone)(struct http_request *request, void *arg);
    void (*on_pending_behind)(struct http_request *request, void *arg);
    /* A stream whose http_stream_write said "full" is empty again. */
    void (*on_writable)(struct http_request *request, void *arg);
};

struct http_server_config {
    const char *address;     /* numeric, IPv4 or IPv6 */
    uint16_t port;           /* 0: any free one, see http_server_port */
    bool reuse_port;         /* SO_REUSEPORT: one listener a worker thread */
    struct tls_context *tls; /* borrowed, must outlive the server; NULL: plain */
    struct http_limits limits;
    /* Balancers: a connection from these begins with a PROXY header (version 2), which names the source that
     * on_accept and http_connection_peer then speak of. Borrowed; must outlive the server. */
    const struct cidr *proxies;
    size_t n_proxies;
    /* All 0 for the default. */
    int64_t handshake_timeout_ms; /* 10 s */
    int64_t header_timeout_ms;    /* 10 s from the first byte of a request to the end of its head */
    int64_t body_timeout_ms;      /* 10 s, plus what the body takes at body_min_rate */
    size_t body_min_rate;         /* bytes a second; 1 KiB */
    int64_t idle_timeout_ms;      /* 75 s without a request; never ends a held one */
    int64_t write_timeout_ms;     /* 30 s in which the client takes nothing */
    size_t max_connections;       /* 20,000; beyond it the listener pauses */
    size_t max_handshakes;        /* 256 in flight; beyond it the listener pauses, at most this long: */
    int64_t patience_ms;          /* 2 s; whose handshake lasts longer then gives its place to another, as
                                   * it does to the next of its source when that has half of all places */
    size_t stream_bytes;          /* 256 KiB queued make a stream "full" */
};

enum code http_server_new(struct loop *loop, const struct http_server_config *config,
                          const struct http_handler *handler, void *arg, struct http_server **ret,
                          struct status *st) MUST_CHECK;
uint16_t http_server_port(const struct http_server *server);
size_t http_server_connections(const struct http_server *server);
size_t http_server_handshakes(const struct http_server *server); /* in flight */
/* Stops accepting, closes idle connections, closes the others after their answer ("Connection: close"). Held
 * requests are the caller's to answer. on_drained (may be NULL) when no connection is left. */
void http_server_drain(struct http_server *server, void (*on_drained)(void *arg), void *arg);
/* Closes everything: on_gone and on_connection_close come during this call, the one exception to the rule
 * above. */
void http_server_free(struct http_server *server);

/* --- connection ------------------------------------------------------------------------------------------
 */

void http_connection_set_user(struct http_connection *connection, void *user);
void *http_connection_user(const struct http_connection *connection);
const char *http_connection_peer(const struct http_connection *connection); /* "192.0.2.7", "2001:db8::1" */
/* A configured balancer said who the peer is. */
bool http_connection_proxied(const struct http_connection *connection);
/* Cuts it: on_gone and on_connection_close follow from the loop. Queued answers are lost. */
void http_connection_close(struct http_connection *connection);
/* Resumed sessions skip certificate verification: check the peer's standing again. */
bool http_connection_resumed(const struct http_connection *connection);
/* Appends the peer's leaf certificate (DER), of resumed sessions too; false if it sent none. */
bool http_connection_peer_certificate(const struct http_connection *connection,
                                      struct buf *ret_der) MUST_CHECK;

/* --- request ---------------------------------------------------------------------------------------------
 */

struct http_connection *http_request_connection(const struct http_request *request);
void http_request_set_user(struct http_request *request, void *user);
void *http_request_user(const struct http_request *request);
const char *http_request_method(const struct http_request *request); /* "GET" */
/* Percent-decoded, starts with '/', valid UTF-8, no control characters, no "." or ".." segments; a path with
 * an encoded slash or NUL was refused with 400. */
const char *http_request_path(const struct http_request *request);
const char *http_request_query(const struct http_request *request); /* raw, without '?'; "" if none */
/* All parameters in order, decoded; false if the query is malformed, over-long (4 KiB a value) or on_param
 * said so. */
bool http_request_params(const struct http_request *request,
                         bool (*on_param)(const char *name, const char *value, void *arg), void *arg);
/* Value of a field, name in any case; NULL if absent. Repeated: the first. */
const char *http_request_header(const struct http_request *request, const char *name);
size_t http_request_header_count(const struct http_request *request, const char *name);
const uint8_t *http_request_body(const struct http_request *request,
                                 size_t *ret_len); /* NUL after the last byte */

/* --- answer ----------------------------------------------------------------------------------------------
 */

/* headers may be NULL. Body is copied. For HEAD only its length is sent. A header value with a control
 * character turns the answer into a 500. */
void http_respond(struct http_request *request, int status, const struct http_header *headers,
                  const void *body, size_t body_len);
/* problem+json (RFC 9457) from a status: type "urn:clm:problem:<slug>", title, status, detail. `headers` as
 * above, for Retry-After and its like. http_status 0 takes the code's own. */
void http_respond_problem(struct http_request *request, int http_status, const struct status *st,
                          const struct http_header *headers);
/* Like http_respond, then closes the connection. */
void http_respond_and_close(struct http_request *request, int status, const struct http_header *headers,
                            const void *body, size_t body_len);

/* Streaming (server-sent events, large exports): the request stays valid until http_stream_end or on_gone. */
void http_stream_begin(struct http_request *request, int status, const struct http_header *headers);
/* False: taken, but the queue is full now; wait for on_writable. What does not fit twice the limit cuts the
 * connection. */
bool http_stream_write(struct http_request *request, const void *data, size_t len);
void http_stream_end(struct http_request *request);

#endif
