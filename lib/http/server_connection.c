/* A connection: takes requests from its bytes, hands them to the handler, and is kept to its deadlines. See
 * server_parts.h. */
#include "http/server_parts.h"

#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"

static struct http_connection *of_conn(struct conn *conn)
{
    return (struct http_connection *)(void *)conn;
}

bool connection_is_idle(const struct http_connection *c)
{
    return !c->current && !c->queued && parser_is_idle(&c->parser) && !c->rest.len && !conn_pending(&c->conn);
}

/* --- serving -------------------------------------------------------------------------------------------- */

/* The handler loses what it has of this connection. */
static void drop_requests(struct http_connection *c)
{
    struct http_request *current = TAKE(c->current);
    request_free(TAKE(c->queued));
    buf_done(&c->rest);
    if (current && c->server->handler->on_gone)
        c->server->handler->on_gone(current, c->server->arg);
    request_free(current);
}

static void refuse(struct http_connection *c, int status, const char *detail)
{
    log_debug("request refused", "peer", c->peer, "reason", detail, NULL);
    bool in_stream = c->current && c->current->streaming;
    drop_requests(c);
    c->close_after = true;
    if (in_stream) {
        conn_abort(&c->conn); /* an answer inside another one would be read as its data */
        return;
    }
    if (!answer_put_refusal(c, status, detail))
        abort();
    conn_close_gracefully(&c->conn);
}

static bool may_go_on(const struct http_connection *c)
{
    return c->conn.state == CONN_OPEN && !c->close_after && !c->conn.aborted;
}

static void dispatch(struct http_connection *c, struct http_request *request)
{
    c->current = request;
    c->server->handler->on_request(request, c->server->arg);
}

static void take_message(struct http_connection *c)
{
    struct http_request *request = calloc(1, sizeof(*request));
    if (!request)
        abort();
    request->connection = c;
    request->message = parser_take(&c->parser);
    request->no_body = strcmp(request->message->method, "HEAD") == 0;
    c->phase = PHASE_NONE;
    if (!c->current) {
        dispatch(c, request);
        return;
    }
    c->queued = request;
    if (!c->current->told_pending && c->server->handler->on_pending_behind) {
        c->current->told_pending = true;
        c->server->handler->on_pending_behind(c->current, c->server->arg);
    }
}

/* A client that sends requests without reading answers must not make them pile up here. */
static bool is_congested(const struct http_connection *c)
{
    return conn_pending(&c->conn) > c->server->config.stream_bytes;
}

static void serve_queued(struct http_connection *c)
{
    while (!c->current && c->queued && may_go_on(c) && !is_congested(c))
        dispatch(c, TAKE(c->queued));
}

static void consume(struct http_connection *c, const uint8_t *data, size_t len)
{
    while (len > 0 && may_go_on(c)) {
        if (c->queued || is_congested(c)) {
            /* Bounded: what one read gave, and no more is read. */
            if (!buf_append(&c->rest, data, len))
                abort();
            return;
        }
        enum parse_event event;
        size_t n = parser_feed(&c->parser, data, len, &event);
        data += n;
        len -= n;
        if (event == PARSE_FAILED)
            refuse(c, c->parser.error_status, c->parser.error);
        else if (event == PARSE_DONE)
            take_message(c);
        else if (event == PARSE_HEAD && c->parser.message->expects_continue && !c->current && len == 0 &&
                 !buf_puts(conn_out(&c->conn), "HTTP/1.1 100 Continue\r\n\r\n"))
            conn_abort(&c->conn);
        serve_queued(c);
    }
}

static void update_deadline(struct http_connection *c)
{
    enum phase phase = parser_is_idle(&c->parser) ? (c->current ? PHASE_NONE : PHASE_IDLE)
                       : c->parser.in_body        ? PHASE_BODY
                                                  : PHASE_HEAD;
    if (phase == c->phase && phase != PHASE_NONE)
        return;
    c->phase = phase;
    c->phase_start_ms = clock_mono_ms();
    const struct http_server_config *config = &c->server->config;
    conn_set_deadline(&c->conn, phase == PHASE_IDLE   ? config->idle_timeout_ms
                                : phase == PHASE_HEAD ? config->header_timeout_ms
                                : phase == PHASE_BODY ? config->body_timeout_ms
                                                      : -1);
}

/* After anything happened: serve what is queued, parse what waits, and set reading and deadline to match. */
static void settle(struct http_connection *c)
{
    serve_queued(c);
    while (!c->queued && c->rest.len && may_go_on(c) && !is_congested(c)) {
        size_t len;
        AUTO_FREE uint8_t *rest = buf_take(&c->rest, &len);
        consume(c, rest, len);
    }
    if (!may_go_on(c))
        return;
    if (c->server->draining && connection_is_idle(c)) {
        conn_close_gracefully(&c->conn);
        return;
    }
    if (c->queued || c->rest.len || is_congested(c))
        conn_pause(&c->conn);
    else
        conn_resume(&c->conn);
    update_deadline(c);
}

/* --- the connection's events ---------------------------------------------------------------------------- */

static void handshake_over(struct http_connection *c)
{
    c->handshaking = false;
    c->server->handshake_count--;
    TAILQ_REMOVE(&c->server->handshakes, c, handshake_link);
}

static void on_handshake_over(struct conn *conn)
{
    struct http_connection *c = of_conn(conn);
    handshake_over(c);
    server_update_listener(c->server);
}

static void on_open(struct conn *conn)
{
    struct http_connection *c = of_conn(conn);
    const struct http_handler *handler = c->server->handler;
    c->opened = true;
    if (handler->on_connection_open && !handler->on_connection_open(c, c->server->arg)) {
        c->close_after = true;
        conn_close_gracefully(conn);
        conn_kick(conn);
        return;
    }
    update_deadline(c);
}

static void on_bytes(struct conn *conn, const uint8_t *data, size_t len)
{
    struct http_connection *c = of_conn(conn);
    c->serving = true;
    consume(c, data, len);
    settle(c);
    c->serving = false;
}

static void on_kick(struct conn *conn)
{
    struct http_connection *c = of_conn(conn);
    c->serving = true;
    settle(c);
    c->serving = false;
}

static void on_eof(struct conn *conn)
{
    struct http_connection *c = of_conn(conn);
    drop_requests(c);
    c->close_after = true;
    if (conn_pending(conn)) {
        conn_close_gracefully(conn); /* a half-closed client may still be reading */
        return;
    }
    struct status st;
    status_set(&st, CODE_UNAVAILABLE, "closed by the client");
    conn_end(conn, &st);
}

static void on_flushed(struct conn *conn)
{
    struct http_connection *c = of_conn(conn);
    c->serving = true;
    if (c->current && c->current->full) {
        c->current->full = false;
        if (c->server->handler->on_writable)
            c->server->handler->on_writable(c->current, c->server->arg);
    }
    settle(c);
    c->serving = false;
    if (conn_pending(conn))
        conn_kick(conn);
}

static void on_deadline(struct conn *conn)
{
    struct http_connection *c = of_conn(conn);
    const struct http_server_config *config = &c->server->config;
    struct status st;
    if (c->phase == PHASE_IDLE && conn_pending(conn)) {
        conn_set_deadline(conn, config->idle_timeout_ms); /* the write timeout watches this */
        return;
    }
    if (conn->state == CONN_HANDSHAKE || c->phase == PHASE_IDLE) {
        status_set(&st, CODE_DEADLINE_EXCEEDED, "idle");
        conn_end(conn, &st);
        return;
    }
    if (c->phase == PHASE_BODY) {
        int64_t received = (int64_t)parser_body_received(&c->parser);
        int64_t allowed = config->body_timeout_ms + received * 1000 / (int64_t)config->body_min_rate;
        int64_t left = c->phase_start_ms + allowed - clock_mono_ms();
        if (left > 0) {
            conn_set_deadline(conn, left);
            return;
        }
    }
    if (c->phase == PHASE_HEAD || c->phase == PHASE_BODY)
        refuse(c, 408, c->phase == PHASE_BODY ? "the body comes too slowly" : "the head comes too slowly");
}

static void on_end(struct conn *conn, const struct status *st)
{
    struct http_connection *c = of_conn(conn);
    struct http_server *server = c->server;
    log_debug("connection ended", "peer", c->peer, "reason", st->msg, NULL);
    drop_requests(c);
    if (c->handshaking)
        handshake_over(c);
    if (c->opened && server->handler->on_connection_close)
        server->handler->on_connection_close(c, server->arg);
    LIST_REMOVE(c, link);
    server->connection_count--;
    parser_done(&c->parser);
    conn_done(conn);
    free(c);
    server_update_listener(server);
    if (server->draining && !server->connection_count)
        loop_timer_set(server->drain_timer, 0);
}

static const struct conn_ops server_ops = {
    .on_handshake_over = on_handshake_over,
    .on_open = on_open,
    .on_bytes = on_bytes,
    .on_eof = on_eof,
    .on_flushed = on_flushed,
    .on_kick = on_kick,
    .on_deadline = on_deadline,
    .on_end = on_end,
};

void connection_new(struct http_server *server, int fd, const char *peer, bool proxied)
{
    struct http_connection *c = calloc(1, sizeof(*c));
    if (!c)
        abort();
    c->server = server;
    (void)snprintf(c->peer, sizeof(c->peer), "%s", peer);
    c->proxied = proxied;
    parser_init(&c->parser, HTTP_REQUEST, &server->config.limits);
    buf_init(&c->rest, 0);
    LIST_INSERT_HEAD(&server->connections, c, link);
    server->connection_count++;
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    struct tls_conn *tls = server->config.tls ? tls_conn_accept(server->config.tls, fd, peer) : NULL;
    conn_init(&c->conn, server->loop, fd, tls, false, server->config.write_timeout_ms, &server_ops);
    if (tls) {
        c->handshaking = true;
        c->began_ms = clock_mono_ms();
        server->handshake_count++;
        TAILQ_INSERT_TAIL(&server->handshakes, c, handshake_link);
        conn_set_deadline(&c->conn, server->config.handshake_timeout_ms);
    } else {
        on_open(&c->conn);
    }
}

void connection_give_up(struct http_connection *c)
{
    struct status st;
    status_set(&st, CODE_RESOURCE_EXHAUSTED, "its handshake made no way, and others wait");
    conn_end(&c->conn, &st);
}

/* --- accessors ------------------------------------------------------------------------------------------ */

void http_connection_set_user(struct http_connection *connection, void *user)
{
    connection->user = user;
}

void *http_connection_user(const struct http_connection *connection)
{
    return connection->user;
}

const char *http_connection_peer(const struct http_connection *connection)
{
    return connection->peer;
}

bool http_connection_proxied(const struct http_connection *connection)
{
    return connection->proxied;
}

void http_connection_close(struct http_connection *connection)
{
    conn_abort(&connection->conn);
}

bool http_connection_resumed(const struct http_connection *connection)
{
    return connection->conn.tls && tls_conn_resumed(connection->conn.tls);
}

bool http_connection_peer_certificate(const struct http_connection *connection, struct buf *ret_der)
{
    return connection->conn.tls && tls_conn_peer_certificate(connection->conn.tls, ret_der);
}
