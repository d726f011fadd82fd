/*
 * Listener, connections and requests of one server on one loop. A connection has at most one request with the
 * handler (current) and one complete one behind it (queued); then it stops reading, and bytes already read
 * wait in `rest`. Answers are only queued by http_respond; the loop sends them, serves what is queued and
 * reads on.
 */
#include "http/server.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/conn.h"
#include "http/parse.h"
#include "http/proxy_wait.h"

#define ACCEPT_ROUNDS   32
#define ACCEPT_PAUSE_MS 100 /* out of descriptors */
#define PARAM_MAX_BYTES 4096

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
    struct loop_timer *accept_timer, *drain_timer;
    LIST_HEAD(, http_connection) connections;
    LIST_HEAD(, proxy_wait) waits; /* for the headers of balancers; they count as handshakes */
    size_t connection_count, handshake_count;
    bool draining;
    void (*on_drained)(void *arg);
    void *drained_arg;
};

static struct http_connection *of_conn(struct conn *conn)
{
    return (struct http_connection *)(void *)conn;
}

/* --- listener ------------------------------------------------------------------------------------------- */

static void update_listener(struct http_server *server)
{
    bool room = server->connection_count < server->config.max_connections &&
                server->handshake_count < server->config.max_handshakes;
    bool accepting = room && !server->draining && !loop_timer_pending(server->accept_timer);
    if (server->listener)
        loop_watch_set(server->listener, accepting ? LOOP_READ : 0);
}

static void on_accept_timer(void *arg)
{
    update_listener(arg);
}

static void format_peer(const struct sockaddr_storage *address, char out[INET6_ADDRSTRLEN])
{
    out[0] = 0;
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
        (void)inet_ntop(AF_INET, &in->sin_addr, out, INET6_ADDRSTRLEN);
        return;
    }
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
        (void)inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], out, INET6_ADDRSTRLEN);
    else
        (void)inet_ntop(AF_INET6, &in6->sin6_addr, out, INET6_ADDRSTRLEN);
}

static void connection_new(struct http_server *server, int fd, const char *peer, bool proxied);

/* Admission by the source itself, not by what forwards it. */
static void admit(struct http_server *server, int fd, const char *peer, bool proxied)
{
    if (server->handler->on_accept && !server->handler->on_accept(peer, server->arg))
        (void)close(fd);
    else
        connection_new(server, fd, peer, proxied);
}

static void on_proxy_over(struct proxy_wait *wait, int fd, const struct proxy_source *source, void *arg)
{
    struct http_server *server = arg;
    LIST_REMOVE(wait, link);
    server->handshake_count--;
    if (source) {
        admit(server, fd, source->known ? source->address : wait->peer, source->known);
    } else {
        log_debug("no PROXY header from a balancer", "peer", wait->peer, NULL);
        (void)close(fd);
    }
    proxy_wait_free(wait);
    update_listener(server);
}

static void wait_for_proxy(struct http_server *server, int fd, const char *peer)
{
    struct proxy_wait *wait =
        proxy_wait_new(server->loop, fd, peer, server->config.handshake_timeout_ms, on_proxy_over, server);
    LIST_INSERT_HEAD(&server->waits, wait, link);
    server->handshake_count++;
}

static void on_listener(int fd, int events, void *arg)
{
    (void)events;
    struct http_server *server = arg;
    for (int i = 0; i < ACCEPT_ROUNDS; i++) {
        struct sockaddr_storage address;
        socklen_t len = sizeof(address);
        int client = accept4(fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client < 0) {
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            /* The connection stays in the backlog and readable: without a pause this would spin. */
            if (errno != EAGAIN && errno != EWOULDBLOCK) {
                log_debug("cannot accept", "error", strerrorname_np(errno), NULL);
                loop_timer_set(server->accept_timer, ACCEPT_PAUSE_MS);
            }
            break;
        }
        char peer[INET6_ADDRSTRLEN];
        format_peer(&address, peer);
        if (cidr_any_holds(server->config.proxies, server->config.n_proxies, peer))
            wait_for_proxy(server, client, peer);
        else
            admit(server, client, peer, false);
        if (server->connection_count >= server->config.max_connections ||
            server->handshake_count >= server->config.max_handshakes)
            break;
    }
    update_listener(server);
}

static enum code listen_on(struct http_server *server, struct status *st)
{
    const struct http_server_config *config = &server->config;
    char port[8];
    (void)snprintf(port, sizeof(port), "%u", config->port);
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *info = NULL;
    int error = getaddrinfo(config->address, port, &hints, &info);
    if (error)
        return status_set(st, CODE_INVALID_ARGUMENT, "cannot listen on \"%s\": %s", config->address,
                          gai_strerror(error));
    int one = 1;
    server->fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool good =
        server->fd >= 0 && setsockopt(server->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
        (!config->reuse_port || setsockopt(server->fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) == 0) &&
        bind(server->fd, info->ai_addr, info->ai_addrlen) == 0 && listen(server->fd, SOMAXCONN) == 0;
    int errnum = errno;
    freeaddrinfo(info);
    if (!good)
        return status_errno(st, CODE_UNAVAILABLE, errnum, "cannot listen on %s port %u", config->address,
                            config->port);
    struct sockaddr_storage bound;
    socklen_t len = sizeof(bound);
    (void)getsockname(server->fd, (struct sockaddr *)&bound, &len);
    server->port = ntohs(bound.ss_family == AF_INET ? ((struct sockaddr_in *)(void *)&bound)->sin_port
                                                    : ((struct sockaddr_in6 *)(void *)&bound)->sin6_port);
    return CODE_OK;
}

/* --- server --------------------------------------------------------------------------------------------- */

static void fill_defaults(struct http_server_config *config)
{
    http_limits_fill(&config->limits);
#define DEFAULT(field, value)                                                                                \
    if (!config->field)                                                                                      \
    config->field = (value)
    DEFAULT(handshake_timeout_ms, 10000);
    DEFAULT(header_timeout_ms, 10000);
    DEFAULT(body_timeout_ms, 10000);
    DEFAULT(body_min_rate, 1024);
    DEFAULT(idle_timeout_ms, 75000);
    DEFAULT(write_timeout_ms, 30000);
    DEFAULT(max_connections, 20000);
    DEFAULT(max_handshakes, 256);
    DEFAULT(stream_bytes, 256 * 1024);
#undef DEFAULT
}

static void check_drained(void *arg)
{
    struct http_server *server = arg;
    if (!server->draining || server->connection_count || !server->on_drained)
        return;
    void (*on_drained)(void *) = TAKE(server->on_drained);
    on_drained(server->drained_arg);
}

enum code http_server_new(struct loop *loop, const struct http_server_config *config,
                          const struct http_handler *handler, void *arg, struct http_server **ret,
                          struct status *st)
{
    struct http_server *server = calloc(1, sizeof(*server));
    if (!server)
        abort();
    server->loop = loop;
    server->config = *config;
    server->config.address = NULL;
    server->handler = handler;
    server->arg = arg;
    server->fd = -1;
    LIST_INIT(&server->connections);
    LIST_INIT(&server->waits);
    fill_defaults(&server->config);
    server->accept_timer = loop_timer_new(loop, on_accept_timer, server);
    server->drain_timer = loop_timer_new(loop, check_drained, server);
    server->config.address = config->address;
    enum code code = listen_on(server, st);
    server->config.address = NULL;
    if (code != CODE_OK) {
        http_server_free(server);
        return code;
    }
    server->listener = loop_watch_new(loop, server->fd, LOOP_READ, on_listener, server);
    *ret = server;
    return CODE_OK;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->port;
}

size_t http_server_connections(const struct http_server *server)
{
    return server->connection_count;
}

size_t http_server_handshakes(const struct http_server *server)
{
    return server->handshake_count;
}

static void drop_waits(struct http_server *server)
{
    while (!LIST_EMPTY(&server->waits)) {
        struct proxy_wait *wait = LIST_FIRST(&server->waits);
        LIST_REMOVE(wait, link);
        server->handshake_count--;
        proxy_wait_free(wait);
    }
}

static bool is_idle(const struct http_connection *c)
{
    return !c->current && !c->queued && parser_is_idle(&c->parser) && !c->rest.len && !conn_pending(&c->conn);
}

void http_server_drain(struct http_server *server, void (*on_drained)(void *arg), void *arg)
{
    server->draining = true;
    server->on_drained = on_drained;
    server->drained_arg = arg;
    /* Closed, not paused: with SO_REUSEPORT the kernel would go on giving us connections. */
    loop_watch_free(TAKE(server->listener));
    if (server->fd >= 0)
        (void)close(server->fd);
    server->fd = -1;
    drop_waits(server);
    struct http_connection *c;
    LIST_FOREACH (c, &server->connections, link) {
        if (is_idle(c))
            conn_abort(&c->conn);
    }
    loop_timer_set(server->drain_timer, 0);
}

void http_server_free(struct http_server *server)
{
    if (!server)
        return;
    server->on_drained = NULL;
    struct status st;
    status_set(&st, CODE_CANCELLED, "server stopped");
    drop_waits(server);
    while (!LIST_EMPTY(&server->connections))
        conn_end(&LIST_FIRST(&server->connections)->conn, &st);
    loop_watch_free(server->listener);
    if (server->fd >= 0)
        (void)close(server->fd);
    loop_timer_free(server->accept_timer);
    loop_timer_free(server->drain_timer);
    free(server);
}

/* --- answers -------------------------------------------------------------------------------------------- */

static const char *date_now(void)
{
    static _Thread_local int64_t second = -1;
    static _Thread_local char text[40];
    int64_t now = clock_wall_ms() / 1000;
    if (now != second) {
        second = now;
        time_t t = (time_t)now;
        struct tm tm;
        (void)gmtime_r(&t, &tm);
        static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
        (void)snprintf(text, sizeof(text), "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + (tm.tm_wday * 3),
                       tm.tm_mday, months + (tm.tm_mon * 3), (tm.tm_year + 1900) % 10000, tm.tm_hour,
                       tm.tm_min, tm.tm_sec);
    }
    return text;
}

static bool put_head(struct http_connection *c, int status, const struct http_header *headers)
{
    struct buf *out = conn_out(&c->conn);
    if (!buf_printf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, http_reason(status), date_now()))
        return false;
    for (const struct http_header *h = headers; h && h->name; h++) {
        if (!buf_printf(out, "%s: %s\r\n", h->name, h->value))
            return false;
    }
    return !c->close_after || buf_puts(out, "Connection: close\r\n");
}

static bool put_answer(struct http_connection *c, int status, const struct http_header *headers,
                       const void *body, size_t len, bool no_body)
{
    struct buf *out = conn_out(&c->conn);
    bool bodiless = status == 204 || status == 304;
    if (!put_head(c, status, headers))
        return false;
    if (!bodiless && !buf_printf(out, "Content-Length: %zu\r\n", len))
        return false;
    return buf_puts(out, "\r\n") && (bodiless || no_body || buf_append(out, body, len));
}

static void request_free(struct http_request *request)
{
    if (!request)
        return;
    http_message_free(request->message);
    free(request);
}

/* Whether the connection ends with the answer to this request. */
static void decide_close(struct http_request *request)
{
    struct http_connection *c = request->connection;
    if (!request->message->keep_alive || request->message->http_1_0 || c->server->draining)
        c->close_after = true;
}

/* The answer is queued: the request is over. */
static void finish(struct http_request *request)
{
    struct http_connection *c = request->connection;
    assert(c->current == request);
    c->current = NULL;
    c->phase = PHASE_NONE;
    request_free(request);
    if (c->close_after)
        conn_close_gracefully(&c->conn);
    if (!c->serving)
        conn_kick(&c->conn);
}

static bool headers_are_sane(const struct http_header *headers)
{
    for (const struct http_header *h = headers; h && h->name; h++) {
        if (!http_header_is_sane(h))
            return false;
    }
    return true;
}

void http_respond(struct http_request *request, int status, const struct http_header *headers,
                  const void *body, size_t body_len)
{
    assert(!request->streaming);
    struct http_connection *c = request->connection;
    decide_close(request);
    if (!headers_are_sane(headers)) {
        log_debug("answer with a header that cannot be sent", "path", request->message->path, NULL);
        status = 500;
        headers = NULL;
        body_len = 0;
    }
    if (!put_answer(c, status, headers, body, body_len, request->no_body))
        conn_abort(&c->conn);
    finish(request);
}

void http_respond_and_close(struct http_request *request, int status, const struct http_header *headers,
                            const void *body, size_t body_len)
{
    request->connection->close_after = true;
    http_respond(request, status, headers, body, body_len);
}

static bool put_json_text(struct buf *out, const char *text)
{
    bool good = buf_puts(out, "\"");
    for (const unsigned char *c = (const unsigned char *)text; *c && good; c++) {
        if (*c == '"' || *c == '\\')
            good = buf_printf(out, "\\%c", *c);
        else if (*c < 0x20 || *c == 0x7f)
            good = buf_printf(out, "\\u%04x", *c);
        else
            good = buf_append(out, c, 1);
    }
    return good && buf_puts(out, "\"");
}

static bool put_problem(struct buf *out, int status, const char *slug, const char *title, const char *detail)
{
    return buf_printf(out, "{\"type\":\"urn:clm:problem:%s\",\"title\":", slug) &&
           put_json_text(out, title) && buf_printf(out, ",\"status\":%d,\"detail\":", status) &&
           put_json_text(out, detail) && buf_puts(out, "}\n");
}

#define PROBLEM_JSON "application/problem+json"

void http_respond_problem(struct http_request *request, int http_status, const struct status *st,
                          const struct http_header *headers)
{
    const struct code_info *info = code_info(st->code);
    int status = http_status ? http_status : info->http_status;
    AUTO_BUF struct buf body = {0};
    struct http_header all[18] = {{"Content-Type", PROBLEM_JSON}};
    size_t n = 1;
    for (const struct http_header *h = headers; h && h->name && n < ARRAY_LEN(all) - 1; h++)
        all[n++] = *h;
    if (!put_problem(&body, status, info->slug, info->title, st->msg))
        abort();
    http_respond(request, status, all, body.data, body.len);
}

/* --- streams -------------------------------------------------------------------------------------------- */

void http_stream_begin(struct http_request *request, int status, const struct http_header *headers)
{
    assert(!request->streaming);
    struct http_connection *c = request->connection;
    decide_close(request);
    request->streaming = true;
    request->chunked = !request->message->http_1_0;
    if (!headers_are_sane(headers)) {
        status = 500;
        headers = NULL;
    }
    if (!put_head(c, status, headers) ||
        !buf_puts(conn_out(&c->conn), request->chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n"))
        conn_abort(&c->conn);
    if (!c->serving)
        conn_kick(&c->conn);
}

bool http_stream_write(struct http_request *request, const void *data, size_t len)
{
    assert(request->streaming);
    struct http_connection *c = request->connection;
    struct buf *out = conn_out(&c->conn);
    if (!len || request->no_body)
        return !request->full;
    size_t limit = c->server->config.stream_bytes;
    bool good = conn_pending(&c->conn) + len <= 2 * limit;
    if (good && request->chunked)
        good = buf_printf(out, "%zx\r\n", len) && buf_append(out, data, len) && buf_puts(out, "\r\n");
    else if (good)
        good = buf_append(out, data, len);
    if (!good) {
        conn_abort(&c->conn);
        return false;
    }
    if (conn_pending(&c->conn) >= limit)
        request->full = true;
    if (!c->serving)
        conn_kick(&c->conn);
    return !request->full;
}

void http_stream_end(struct http_request *request)
{
    assert(request->streaming);
    struct http_connection *c = request->connection;
    if (request->chunked && !request->no_body && !buf_puts(conn_out(&c->conn), "0\r\n\r\n"))
        conn_abort(&c->conn);
    finish(request);
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
    static const struct http_header headers[] = {{"Content-Type", PROBLEM_JSON}, {0}};
    AUTO_BUF struct buf body = {0};
    if (!put_problem(&body, status, "malformed-request", http_reason(status), detail) ||
        !put_answer(c, status, headers, body.data, body.len, false))
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
    if (c->server->draining && is_idle(c)) {
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

static void on_handshake_over(struct conn *conn)
{
    struct http_connection *c = of_conn(conn);
    c->handshaking = false;
    c->server->handshake_count--;
    update_listener(c->server);
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
        server->handshake_count--;
    if (c->opened && server->handler->on_connection_close)
        server->handler->on_connection_close(c, server->arg);
    LIST_REMOVE(c, link);
    server->connection_count--;
    parser_done(&c->parser);
    conn_done(conn);
    free(c);
    update_listener(server);
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

static void connection_new(struct http_server *server, int fd, const char *peer, bool proxied)
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
        server->handshake_count++;
        conn_set_deadline(&c->conn, server->config.handshake_timeout_ms);
    } else {
        on_open(&c->conn);
    }
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

bool http_connection_is_tls(const struct http_connection *connection)
{
    return connection->conn.tls != NULL;
}

bool http_connection_resumed(const struct http_connection *connection)
{
    return connection->conn.tls && tls_conn_resumed(connection->conn.tls);
}

bool http_connection_peer_certificate(const struct http_connection *connection, struct buf *ret_der)
{
    return connection->conn.tls && tls_conn_peer_certificate(connection->conn.tls, ret_der);
}

struct http_connection *http_request_connection(const struct http_request *request)
{
    return request->connection;
}

void http_request_set_user(struct http_request *request, void *user)
{
    request->user = user;
}

void *http_request_user(const struct http_request *request)
{
    return request->user;
}

const char *http_request_method(const struct http_request *request)
{
    return request->message->method;
}

const char *http_request_path(const struct http_request *request)
{
    return request->message->path;
}

const char *http_request_query(const struct http_request *request)
{
    return request->message->query;
}

const char *http_request_header(const struct http_request *request, const char *name)
{
    return http_message_field(request->message, name);
}

size_t http_request_header_count(const struct http_request *request, const char *name)
{
    return http_message_field_count(request->message, name);
}

const uint8_t *http_request_body(const struct http_request *request, size_t *ret_len)
{
    *ret_len = request->message->body.len;
    return (const uint8_t *)buf_text(&request->message->body);
}

struct wanted_param {
    const char *name;
    char *out;
    size_t out_size;
    bool found, fits;
};

static bool on_wanted(const char *name, const char *value, void *arg)
{
    struct wanted_param *wanted = arg;
    if (wanted->found || strcmp(name, wanted->name) != 0)
        return true;
    wanted->found = true;
    size_t len = strlen(value);
    wanted->fits = len < wanted->out_size;
    if (wanted->fits)
        memcpy(wanted->out, value, len + 1);
    return true;
}

bool http_request_param(const struct http_request *request, const char *name, char *out, size_t out_size)
{
    struct wanted_param wanted = {.name = name, .out = out, .out_size = out_size};
    return http_request_params(request, on_wanted, &wanted) && wanted.fits;
}

bool http_request_params(const struct http_request *request,
                         bool (*on_param)(const char *name, const char *value, void *arg), void *arg)
{
    char name[128], value[PARAM_MAX_BYTES + 1];
    for (const char *at = request->message->query; *at;) {
        size_t len = strcspn(at, "&");
        const char *equals = memchr(at, '=', len);
        size_t name_len = equals ? (size_t)(equals - at) : len;
        const char *text = equals ? equals + 1 : at + len;
        if (len && (!http_percent_decode(at, name_len, true, name, sizeof(name)) ||
                    !http_percent_decode(text, (size_t)(at + len - text), true, value, sizeof(value)) ||
                    !on_param(name, value, arg)))
            return false;
        at += len + (at[len] == '&');
    }
    return true;
}
