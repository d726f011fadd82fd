/* The server: its listener, admission, and its end. See server_parts.h. */
#include "http/server_parts.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"

#define ACCEPT_ROUNDS   32
#define ACCEPT_PAUSE_MS 100 /* out of descriptors */

/* --- admission ------------------------------------------------------------------------------------------ */

/* How long until the oldest handshake may be given up; 0: it may. */
static int64_t patience_left(const struct http_server *server)
{
    const struct http_connection *oldest = TAILQ_FIRST(&server->handshakes);
    int64_t left =
        oldest ? oldest->began_ms + server->config.patience_ms - clock_mono_ms() : server->config.patience_ms;
    return left > 0 ? left : 0;
}

static bool is_full(const struct http_server *server)
{
    return server->handshake_count >= server->config.max_handshakes;
}

/* Whether another handshake may begin. An honest one is over in less than our patience; one that says
 * nothing must not keep others out until its timeout. */
static bool make_room(struct http_server *server)
{
    if (is_full(server) && !TAILQ_EMPTY(&server->handshakes) && patience_left(server) == 0)
        connection_give_up(TAILQ_FIRST(&server->handshakes));
    return !is_full(server);
}

/* A source that sits on half of all places gives one up for its next. Many that come at once from behind one
 * address do not sit: they are quick. */
static void take_back(struct http_server *server, const char *peer)
{
    size_t n = 0;
    struct http_connection *c, *slowest = NULL;
    if (server->handshake_count < server->config.max_handshakes / 2)
        return;
    TAILQ_FOREACH (c, &server->handshakes, handshake_link) {
        if (strcmp(c->peer, peer) != 0)
            continue;
        if (!slowest)
            slowest = c;
        n++;
    }
    if (slowest && n >= server->config.max_handshakes / 2 &&
        clock_mono_ms() - slowest->began_ms >= server->config.patience_ms)
        connection_give_up(slowest);
}

/* --- listener ------------------------------------------------------------------------------------------- */

void server_update_listener(struct http_server *server)
{
    bool waits = is_full(server) && patience_left(server) > 0;
    bool room = server->connection_count < server->config.max_connections && !waits;
    if (waits && !server->draining && !loop_timer_pending(server->patience_timer))
        loop_timer_set(server->patience_timer, patience_left(server));
    bool accepting = room && !server->draining && !loop_timer_pending(server->accept_timer);
    if (server->listener)
        loop_watch_set(server->listener, accepting ? LOOP_READ : 0);
}

static void on_accept_timer(void *arg)
{
    server_update_listener(arg);
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

/* Admission by the source itself, not by what forwards it. */
static void admit(struct http_server *server, int fd, const char *peer, bool proxied)
{
    take_back(server, peer);
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
    server_update_listener(server);
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
        if (server->connection_count >= server->config.max_connections || !make_room(server))
            break;
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
    }
    server_update_listener(server);
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
    DEFAULT(patience_ms, 2000);
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
    TAILQ_INIT(&server->handshakes);
    fill_defaults(&server->config);
    server->accept_timer = loop_timer_new(loop, on_accept_timer, server);
    server->drain_timer = loop_timer_new(loop, check_drained, server);
    server->patience_timer = loop_timer_new(loop, on_accept_timer, server);
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
        if (connection_is_idle(c))
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
    loop_timer_free(server->patience_timer);
    free(server);
}
