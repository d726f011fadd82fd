/*
 * Look-up, connect, handshake, then a list of calls answered from its head: the first `sent` of them are on
 * the wire. A failure of any stage ends the client once; what the owner may free inside callbacks is
 * re-checked through conn's gone flag and the client's busy count.
 */
#include "http/client.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "http/conn.h"
#include "http/parse.h"
#include "http/tunnel.h"

#define PIPELINE_DEPTH 2
#define WRITE_STALL_MS 30000

struct http_call {
    TAILQ_ENTRY(http_call) link;
    struct http_client *client;
    struct buf head;
    uint8_t *body;
    size_t body_len;
    int64_t deadline_ms; /* monotonic; 0: none */
    http_on_response *on_response;
    void *arg;
};

struct http_response {
    const struct http_message *message;
};

/* Shared with the thread that looks the name up; the second of the two to be done with it frees it. */
struct lookup {
    atomic_bool done; /* error and info are written */
    atomic_bool left; /* by one of the two */
    int wake_fd;      /* eventfd */
    char *host;
    char port[8];
    int error;
    struct addrinfo *info;
};

struct http_client {
    struct conn conn; /* first */
    bool conn_made, open, ended, closed_told;
    struct loop *loop;
    struct http_client_config config;
    char *host, *verify_name;
    struct http_proxy proxy; /* host NULL: none */
    struct tunnel *tunnel;   /* while it is asked for */
    struct lookup *lookup;
    struct loop_watch *lookup_watch;
    struct addrinfo *addresses, *next_address;
    struct loop_timer *timer;
    struct parser parser;
    TAILQ_HEAD(call_list, http_call) calls;
    size_t sent;
    struct status end; /* after ended */
    int64_t connect_deadline_ms;
    unsigned busy; /* callbacks of the owner's under way: the memory stays until they return */
    bool freed;
};

static const struct conn_ops client_ops;

static struct http_client *of_conn(struct conn *conn)
{
    return (struct http_client *)(void *)conn;
}

static void call_free(struct http_call *call)
{
    buf_done(&call->head);
    free(call->body);
    free(call);
}

/* --- the end -------------------------------------------------------------------------------------------- */

/* After a callback: false if the owner freed the client inside. */
static bool leave(struct http_client *client)
{
    client->busy--;
    if (!client->freed)
        return true;
    if (!client->busy)
        free(client);
    return false;
}

/* Takes the call off the list and tells its owner. False if the client was freed meanwhile. */
static bool finish_call(struct http_call *call, const struct http_message *message, const struct status *st)
{
    struct http_client *client = call->client;
    TAILQ_REMOVE(&client->calls, call, link);
    client->busy++;
    struct http_response response = {message};
    call->on_response(message ? &response : NULL, st, call->arg);
    call_free(call);
    return leave(client);
}

/* The owner is told from here; true if the client is still there. */
static bool tell_end(struct http_client *client)
{
    /* Those that callbacks add have their turn from the loop. */
    size_t count = 0;
    const struct http_call *call;
    TAILQ_FOREACH (call, &client->calls, link)
        count++;
    for (; count > 0 && !TAILQ_EMPTY(&client->calls); count--) {
        struct status st = client->end;
        if (!finish_call(TAILQ_FIRST(&client->calls), NULL, &st))
            return false;
    }
    if (client->closed_told)
        return true;
    client->closed_told = true;
    struct status st = client->end;
    client->busy++;
    if (client->config.on_closed)
        client->config.on_closed(&st, client->config.arg);
    return leave(client);
}

static void mark_ended(struct http_client *client, const struct status *st)
{
    client->ended = true;
    client->open = false;
    client->end = *st;
    client->sent = 0;
}

/* Of the connection, from the loop. */
static void on_end(struct conn *conn, const struct status *st)
{
    struct http_client *client = of_conn(conn);
    struct status why = *st;
    conn_done(conn);
    client->conn_made = false;
    mark_ended(client, &why);
    (void)tell_end(client);
}

/* Before there is a connection: the owner hears of it from the loop. */
static void fail_later(struct http_client *client, const struct status *st)
{
    mark_ended(client, st);
    loop_timer_set(client->timer, 0);
}

/* --- connecting ----------------------------------------------------------------------------------------- */

static void try_next_address(struct http_client *client, const struct status *why);

/* Whom we connect to: the server, or the proxy before it. */
static const char *peer_host(const struct http_client *client)
{
    return client->proxy.host ? client->proxy.host : client->host;
}

static uint16_t peer_port(const struct http_client *client)
{
    return client->proxy.host ? client->proxy.port : client->config.port;
}

/* The server's bytes come and go on fd from now on, or from when a connect under way has succeeded. */
static void use_socket(struct http_client *client, int fd, bool connecting)
{
    struct status st;
    struct tls_conn *tls = NULL;
    if (client->config.tls &&
        tls_conn_connect(client->config.tls, fd, client->verify_name, &tls, &st) != CODE_OK) {
        (void)close(fd);
        fail_later(client, &st);
        return;
    }
    conn_init(&client->conn, client->loop, fd, tls, connecting, WRITE_STALL_MS, &client_ops);
    client->conn_made = true;
    if (!connecting)
        conn_kick(&client->conn); /* a client's handshake begins with its own bytes */
}

static void on_tunnel_ready(int fd, void *arg)
{
    struct http_client *client = arg;
    tunnel_free(TAKE(client->tunnel));
    use_socket(client, fd, false);
}

static void on_tunnel_failed(const struct status *st, void *arg)
{
    struct http_client *client = arg;
    struct status why = *st;
    tunnel_free(TAKE(client->tunnel));
    try_next_address(client, &why);
}

static void connect_to(struct http_client *client, const struct addrinfo *info)
{
    struct status st;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        status_errno(&st, CODE_UNAVAILABLE, errno, "cannot make a socket");
        try_next_address(client, &st);
        return;
    }
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(fd, info->ai_addr, info->ai_addrlen) != 0 && errno != EINPROGRESS) {
        status_errno(&st, CODE_UNAVAILABLE, errno, "cannot connect to %s port %u", peer_host(client),
                     peer_port(client));
        (void)close(fd);
        try_next_address(client, &st);
        return;
    }
    if (!client->proxy.host) {
        use_socket(client, fd, true);
        return;
    }
    struct tunnel_config config = {.proxy = &client->proxy,
                                   .host = client->host,
                                   .port = client->config.port,
                                   .on_ready = on_tunnel_ready,
                                   .on_failed = on_tunnel_failed,
                                   .arg = client};
    client->tunnel = tunnel_new(client->loop, fd, &config);
}

static void try_next_address(struct http_client *client, const struct status *why)
{
    const struct addrinfo *info = client->next_address;
    if (!info) {
        fail_later(client, why);
        return;
    }
    client->next_address = info->ai_next;
    connect_to(client, info);
}

static void use_addresses(struct http_client *client, int error, struct addrinfo *info)
{
    struct status st;
    status_set(&st, CODE_UNAVAILABLE, "cannot look up %s: %s", peer_host(client),
               error ? gai_strerror(error) : "no address");
    client->addresses = client->next_address = error ? NULL : info;
    try_next_address(client, &st);
}

static void lookup_free(struct lookup *lookup)
{
    if (lookup->info)
        freeaddrinfo(lookup->info);
    (void)close(lookup->wake_fd);
    free(lookup->host);
    free(lookup);
}

static void lookup_leave(struct lookup *lookup)
{
    if (atomic_exchange(&lookup->left, true))
        lookup_free(lookup);
}

static void *lookup_thread(void *arg)
{
    struct lookup *lookup = arg;
    struct addrinfo hints = {.ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG, .ai_socktype = SOCK_STREAM};
    lookup->error = getaddrinfo(lookup->host, lookup->port, &hints, &lookup->info);
    if (lookup->error)
        lookup->info = NULL;
    atomic_store(&lookup->done, true);
    (void)eventfd_write(lookup->wake_fd, 1);
    lookup_leave(lookup);
    return NULL;
}

static void on_looked_up(int fd, int events, void *arg)
{
    (void)fd;
    (void)events;
    struct http_client *client = arg;
    if (!atomic_load(&client->lookup->done))
        return;
    struct lookup *lookup = TAKE(client->lookup);
    loop_watch_free(TAKE(client->lookup_watch));
    int error = lookup->error;
    struct addrinfo *info = TAKE(lookup->info);
    lookup_leave(lookup);
    use_addresses(client, error, info);
}

static void start_lookup(struct http_client *client)
{
    struct lookup *lookup = calloc(1, sizeof(*lookup));
    if (!lookup)
        abort();
    lookup->host = strdup(peer_host(client));
    lookup->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!lookup->host || lookup->wake_fd < 0)
        abort();
    (void)snprintf(lookup->port, sizeof(lookup->port), "%u", peer_port(client));
    pthread_t thread;
    int error = pthread_create(&thread, NULL, lookup_thread, lookup);
    if (error) {
        struct status st;
        status_errno(&st, CODE_UNAVAILABLE, error, "cannot look up %s", peer_host(client));
        lookup_free(lookup);
        fail_later(client, &st);
        return;
    }
    (void)pthread_detach(thread);
    client->lookup = lookup;
    client->lookup_watch = loop_watch_new(client->loop, lookup->wake_fd, LOOP_READ, on_looked_up, client);
}

static void start(struct http_client *client)
{
    char port[8];
    (void)snprintf(port, sizeof(port), "%u", peer_port(client));
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *info = NULL;
    if (getaddrinfo(peer_host(client), port, &hints, &info) == 0)
        use_addresses(client, 0, info);
    else
        start_lookup(client);
}

/* --- deadlines ------------------------------------------------------------------------------------------ */

static int64_t next_deadline(const struct http_client *client)
{
    int64_t next = client->connect_deadline_ms;
    const struct http_call *call;
    TAILQ_FOREACH (call, &client->calls, link) {
        if (call->deadline_ms && (!next || call->deadline_ms < next))
            next = call->deadline_ms;
    }
    return next;
}

static void arm_timer(struct http_client *client)
{
    if (client->ended)
        return;
    int64_t next = next_deadline(client);
    if (next)
        loop_timer_set(client->timer, next - clock_mono_ms() + 1);
    else
        loop_timer_cancel(client->timer);
}

static void stop(struct http_client *client, const struct status *st)
{
    if (client->conn_made) {
        conn_end(&client->conn, st);
        return;
    }
    tunnel_free(TAKE(client->tunnel));
    mark_ended(client, st);
    (void)tell_end(client);
}

static void on_client_timer(void *arg)
{
    struct http_client *client = arg;
    if (client->ended) {
        (void)tell_end(client);
        return;
    }
    int64_t now = clock_mono_ms();
    struct status st;
    if (client->connect_deadline_ms && now >= client->connect_deadline_ms) {
        status_set(&st, CODE_DEADLINE_EXCEEDED, "connecting to %s port %u%s%s took too long", client->host,
                   client->config.port, client->proxy.host ? " through the proxy " : "",
                   client->proxy.host ? client->proxy.host : "");
        stop(client, &st);
        return;
    }
    struct http_call *call;
    TAILQ_FOREACH (call, &client->calls, link) {
        if (!call->deadline_ms || now < call->deadline_ms)
            continue;
        /* What is on the wire can only be given up with the connection. */
        status_set(&st, CODE_DEADLINE_EXCEEDED, "no answer from %s in time", client->host);
        stop(client, &st);
        return;
    }
    arm_timer(client);
}

/* --- calls ---------------------------------------------------------------------------------------------- */

static void pump(struct http_client *client)
{
    if (!client->open)
        return;
    size_t at = 0;
    struct http_call *call;
    TAILQ_FOREACH (call, &client->calls, link) {
        if (client->sent >= PIPELINE_DEPTH)
            break;
        if (at++ < client->sent)
            continue;
        struct buf *out = conn_out(&client->conn);
        if (!buf_append(out, call->head.data, call->head.len) ||
            !buf_append(out, call->body, call->body_len)) {
            conn_abort(&client->conn);
            return;
        }
        buf_done(&call->head);
        free(TAKE(call->body));
        call->body_len = 0;
        client->sent++;
        conn_kick(&client->conn);
    }
}

static bool put_request(struct buf *out, const struct http_client *client,
                        const struct http_client_request *request)
{
    bool v6 = strchr(client->host, ':') != NULL;
    if (!buf_printf(out, "%s %s HTTP/1.1\r\nHost: %s%s%s:%u\r\n", request->method, request->path,
                    v6 ? "[" : "", client->host, v6 ? "]" : "", client->config.port))
        return false;
    for (const struct http_header *h = request->headers; h && h->name; h++) {
        assert(http_header_is_sane(h));
        if (!buf_printf(out, "%s: %s\r\n", h->name, h->value))
            return false;
    }
    bool has_body = request->body_len || strcmp(request->method, "GET") != 0;
    return (!has_body || buf_printf(out, "Content-Length: %zu\r\n", request->body_len)) &&
           buf_puts(out, "\r\n");
}

struct http_call *http_client_send(struct http_client *client, const struct http_client_request *request,
                                   http_on_response *on_response, void *arg)
{
    assert(strcmp(request->method, "HEAD") != 0 && request->path[0] == '/' &&
           !strpbrk(request->path, " \r\n"));
    struct http_call *call = calloc(1, sizeof(*call));
    if (!call)
        abort();
    *call = (struct http_call){
        .client = client, .on_response = on_response, .arg = arg, .body_len = request->body_len};
    buf_init(&call->head, 64 * 1024);
    if (!put_request(&call->head, client, request))
        abort();
    if (request->body_len) {
        call->body = malloc(request->body_len);
        if (!call->body)
            abort();
        memcpy(call->body, request->body, request->body_len);
    }
    if (request->timeout_ms)
        call->deadline_ms = clock_mono_ms() + request->timeout_ms;
    TAILQ_INSERT_TAIL(&client->calls, call, link);
    if (client->ended) {
        loop_timer_set(client->timer, 0);
        return call;
    }
    arm_timer(client);
    pump(client);
    return call;
}

/* --- the connection's events ---------------------------------------------------------------------------- */

static void on_open(struct conn *conn)
{
    struct http_client *client = of_conn(conn);
    client->open = true;
    client->connect_deadline_ms = 0;
    arm_timer(client);
    client->busy++;
    if (client->config.on_open)
        client->config.on_open(client->config.arg);
    if (leave(client))
        pump(client);
}

static void end_with(struct conn *conn, enum code code, const char *what)
{
    struct status st;
    status_set(&st, code, "%s", what);
    conn_end(conn, &st);
}

/* True if the connection goes on. */
static bool take_response(struct http_client *client)
{
    struct http_message *message = parser_take(&client->parser);
    struct http_call *call = TAILQ_FIRST(&client->calls);
    bool keep_alive = message->keep_alive;
    client->sent--;
    struct status ok = {.code = CODE_OK};
    bool there = finish_call(call, message, &ok);
    http_message_free(message);
    if (!there || client->ended)
        return false;
    if (!keep_alive) {
        end_with(&client->conn, CODE_UNAVAILABLE, "the server closes the connection");
        return false;
    }
    arm_timer(client);
    pump(client);
    return true;
}

static void on_bytes(struct conn *conn, const uint8_t *data, size_t len)
{
    struct http_client *client = of_conn(conn);
    while (len > 0) {
        if (!client->sent) {
            end_with(conn, CODE_INVALID_ARGUMENT, "the server sent bytes that nobody asked for");
            return;
        }
        enum parse_event event;
        size_t n = parser_feed(&client->parser, data, len, &event);
        data += n;
        len -= n;
        if (event == PARSE_FAILED) {
            struct status st;
            status_set(&st, CODE_INVALID_ARGUMENT, "malformed response: %s", client->parser.error);
            conn_end(conn, &st);
            return;
        }
        if (event == PARSE_DONE && !take_response(client))
            return;
    }
}

static void on_eof(struct conn *conn)
{
    end_with(conn, CODE_UNAVAILABLE, "the server closed the connection");
}

static void on_nothing(struct conn *conn)
{
    (void)conn;
}

/* One address failing is not the end while there is another. */
static void on_end_or_next(struct conn *conn, const struct status *st)
{
    struct http_client *client = of_conn(conn);
    if (client->open || !client->next_address || st->code != CODE_UNAVAILABLE) {
        on_end(conn, st);
        return;
    }
    struct status why = *st;
    conn_done(conn);
    client->conn_made = false;
    try_next_address(client, &why);
}

static const struct conn_ops client_ops = {
    .on_open = on_open,
    .on_bytes = on_bytes,
    .on_eof = on_eof,
    .on_flushed = on_nothing,
    .on_kick = on_nothing,
    .on_deadline = on_nothing,
    .on_end = on_end_or_next,
};

/* --- life ----------------------------------------------------------------------------------------------- */

static void copy_proxy(struct http_client *client, const struct http_proxy *proxy)
{
    client->config.proxy = NULL;
    if (!proxy)
        return;
    assert(client->config.tls); /* what the proxy may read is where to, and no more */
    client->proxy = (struct http_proxy){
        .host = strdup(proxy->host),
        .port = proxy->port,
        .user = proxy->user ? strdup(proxy->user) : NULL,
        .password = proxy->password ? secret_dup(proxy->password->data, proxy->password->len) : NULL};
    if (!client->proxy.host || (proxy->user && !client->proxy.user))
        abort();
}

struct http_client *http_client_new(struct loop *loop, const struct http_client_config *config)
{
    struct http_client *client = calloc(1, sizeof(*client));
    if (!client)
        abort();
    client->loop = loop;
    client->config = *config;
    client->host = strdup(config->host);
    client->verify_name = strdup(config->verify_name ? config->verify_name : config->host);
    if (!client->host || !client->verify_name)
        abort();
    copy_proxy(client, config->proxy);
    http_limits_fill(&client->config.limits);
    parser_init(&client->parser, HTTP_RESPONSE, &client->config.limits);
    TAILQ_INIT(&client->calls);
    client->timer = loop_timer_new(loop, on_client_timer, client);
    client->connect_deadline_ms =
        clock_mono_ms() + (config->connect_timeout_ms ? config->connect_timeout_ms : 15000);
    start(client);
    arm_timer(client);
    return client;
}

void http_client_free(struct http_client *client)
{
    if (!client)
        return;
    if (client->conn_made)
        conn_done(&client->conn);
    tunnel_free(client->tunnel);
    if (client->lookup) {
        loop_watch_free(client->lookup_watch);
        lookup_leave(client->lookup);
    }
    if (client->addresses)
        freeaddrinfo(client->addresses);
    while (!TAILQ_EMPTY(&client->calls)) {
        struct http_call *call = TAILQ_FIRST(&client->calls);
        TAILQ_REMOVE(&client->calls, call, link);
        call_free(call);
    }
    parser_done(&client->parser);
    loop_timer_free(client->timer);
    free(client->host);
    free(client->verify_name);
    free((char *)(uintptr_t)client->proxy.host);
    free((char *)(uintptr_t)client->proxy.user);
    secret_free((struct secret *)(uintptr_t)client->proxy.password);
    client->freed = true;
    if (!client->busy)
        free(client);
}

bool http_client_resumed(const struct http_client *client)
{
    return client->conn_made && client->conn.tls && client->open && tls_conn_resumed(client->conn.tls);
}

int http_response_status(const struct http_response *response)
{
    return response->message->status;
}

const char *http_response_header(const struct http_response *response, const char *name)
{
    return http_message_field(response->message, name);
}

const uint8_t *http_response_body(const struct http_response *response, size_t *ret_len)
{
    *ret_len = response->message->body.len;
    return (const uint8_t *)buf_text(&response->message->body);
}

int64_t http_response_retry_after_ms(const struct http_response *response, int64_t fallback_ms)
{
    const char *text = http_message_field(response->message, "Retry-After");
    if (!text || !*text || text[strspn(text, "0123456789")])
        return fallback_ms;
    size_t digits = strlen(text);
    int64_t seconds = digits > 6 ? 3600 : strtoll(text, NULL, 10);
    return (seconds > 3600 ? 3600 : seconds) * 1000;
}
