/* One request, one head. The proxy's bytes pass the parser that all peers' do. */
#include "http/tunnel.h"

#include <assert.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/parse.h"

#define WRITE_STALL_MS 30000

struct tunnel {
    struct conn conn; /* first */
    bool conn_made, done;
    struct tunnel_config config;
    struct http_limits limits;
    struct parser parser;
};

static struct tunnel *of_conn(struct conn *conn)
{
    return (struct tunnel *)(void *)conn;
}

static void failed(struct tunnel *tunnel, const struct status *st)
{
    if (tunnel->done)
        return;
    tunnel->done = true;
    struct status why = *st;
    tunnel->config.on_failed(&why, tunnel->config.arg);
}

/* "Basic " and the base64 of user:password (RFC 7617), wiped after use. NULL: the proxy knows nobody. */
static struct secret *credentials(const struct http_proxy *proxy)
{
    if (!proxy->user)
        return NULL;
    size_t user = strlen(proxy->user), password = proxy->password ? proxy->password->len : 0;
    size_t plain_len = user + 1 + password;
    AUTO_SECRET struct secret *plain = secret_new(plain_len);
    memcpy(plain->data, proxy->user, user);
    plain->data[user] = ':';
    if (password)
        memcpy(plain->data + user + 1, proxy->password->data, password);
    struct secret *text = secret_new(4 * ((plain_len + 2) / 3));
    (void)EVP_EncodeBlock(text->data, plain->data, (int)plain_len);
    return text;
}

static void on_open(struct conn *conn)
{
    struct tunnel *tunnel = of_conn(conn);
    const struct tunnel_config *config = &tunnel->config;
    bool v6 = strchr(config->host, ':') != NULL;
    struct buf *out = conn_out(conn);
    AUTO_SECRET struct secret *basic = credentials(config->proxy);
    char target[320];
    (void)snprintf(target, sizeof(target), "%s%s%s:%u", v6 ? "[" : "", config->host, v6 ? "]" : "",
                   config->port);
    bool fits = buf_printf(out, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", target, target) &&
                (!basic || (buf_puts(out, "Proxy-Authorization: Basic ") &&
                            buf_append(out, basic->data, basic->len) && buf_puts(out, "\r\n"))) &&
                buf_puts(out, "\r\n");
    assert(fits);
    conn_kick(conn);
}

/* RFC 9110 section 11.7.1. A proxy that names no scheme is given the benefit of the doubt. */
static bool knows_basic(const struct http_message *answer)
{
    bool named = false;
    for (size_t i = 0; i < answer->field_count; i++) {
        if (strcasecmp(answer->fields[i].name, "proxy-authenticate") != 0)
            continue;
        named = true;
        if (strcasestr(answer->fields[i].value, "basic"))
            return true;
    }
    return !named;
}

static void refused(const struct tunnel *tunnel, int http_status, bool basic, struct status *st)
{
    const struct http_proxy *proxy = tunnel->config.proxy;
    if (http_status == 407 && !basic)
        (void)status_set(
            st, CODE_UNAVAILABLE,
            "the proxy %s:%u offers no Basic authentication (407), and no other scheme is spoken here: let "
            "it offer Basic to this host, or pass it by its address",
            proxy->host, proxy->port);
    else if (http_status == 407 && !proxy->user)
        (void)status_set(st, CODE_UNAVAILABLE,
                         "the proxy %s:%u wants a name and a password (407): set proxy_user and "
                         "proxy_password_file",
                         proxy->host, proxy->port);
    else if (http_status == 407)
        (void)status_set(st, CODE_UNAVAILABLE,
                         "the proxy %s:%u refuses user %.64s (407): check proxy_user and the password in "
                         "proxy_password_file; Basic is the only scheme",
                         proxy->host, proxy->port, proxy->user);
    else if (http_status == 403)
        (void)status_set(st, CODE_UNAVAILABLE,
                         "the proxy %s:%u forbids a connection to %.200s:%u (403): its rules must allow "
                         "CONNECT to that host and port",
                         proxy->host, proxy->port, tunnel->config.host, tunnel->config.port);
    else
        (void)status_set(st, CODE_UNAVAILABLE, "the proxy %s:%u cannot reach %.200s:%u: it answers %d %s",
                         proxy->host, proxy->port, tunnel->config.host, tunnel->config.port, http_status,
                         http_reason(http_status));
}

/* The socket goes on without us. */
static void hand_over(struct tunnel *tunnel)
{
    int fd = tunnel->conn.fd;
    tunnel->conn.fd = -1;
    tunnel->done = true;
    tunnel->conn_made = false;
    void (*on_ready)(int, void *) = tunnel->config.on_ready;
    void *arg = tunnel->config.arg;
    conn_done(&tunnel->conn);
    on_ready(fd, arg);
}

static void on_bytes(struct conn *conn, const uint8_t *data, size_t len)
{
    struct tunnel *tunnel = of_conn(conn);
    enum parse_event event;
    struct status st;
    size_t used = parser_feed(&tunnel->parser, data, len, &event);
    if (event == PARSE_MORE)
        return;
    if (event != PARSE_DONE) {
        (void)status_set(&st, CODE_UNAVAILABLE, "%s:%u is no HTTP proxy: %s", tunnel->config.proxy->host,
                         tunnel->config.proxy->port, tunnel->parser.error ? tunnel->parser.error : "no head");
        conn_end(conn, &st);
        return;
    }
    struct http_message *message = parser_take(&tunnel->parser);
    int http_status = message->status;
    bool basic = knows_basic(message);
    http_message_free(message);
    if (http_status / 100 == 2 && used == len) {
        hand_over(tunnel);
        return;
    }
    if (http_status / 100 == 2) /* whoever speaks first in TLS is we */
        (void)status_set(&st, CODE_UNAVAILABLE, "the proxy %s:%u sent more than its answer",
                         tunnel->config.proxy->host, tunnel->config.proxy->port);
    else
        refused(tunnel, http_status, basic, &st);
    conn_end(conn, &st);
}

static void on_eof(struct conn *conn)
{
    struct tunnel *tunnel = of_conn(conn);
    struct status st;
    (void)status_set(&st, CODE_UNAVAILABLE, "the proxy %s:%u closed the connection without an answer",
                     tunnel->config.proxy->host, tunnel->config.proxy->port);
    conn_end(conn, &st);
}

static void on_nothing(struct conn *conn)
{
    (void)conn;
}

static void on_end(struct conn *conn, const struct status *st)
{
    failed(of_conn(conn), st);
}

static const struct conn_ops tunnel_ops = {
    .on_open = on_open,
    .on_bytes = on_bytes,
    .on_eof = on_eof,
    .on_flushed = on_nothing,
    .on_kick = on_nothing,
    .on_deadline = on_nothing,
    .on_end = on_end,
};

struct tunnel *tunnel_new(struct loop *loop, int fd, const struct tunnel_config *config)
{
    struct tunnel *tunnel = calloc(1, sizeof(*tunnel));
    if (!tunnel)
        abort();
    tunnel->config = *config;
    http_limits_fill(&tunnel->limits);
    parser_init(&tunnel->parser, HTTP_RESPONSE, &tunnel->limits);
    tunnel->parser.head_only = true;
    conn_init(&tunnel->conn, loop, fd, NULL, true, WRITE_STALL_MS, &tunnel_ops);
    tunnel->conn_made = true;
    return tunnel;
}

void tunnel_free(struct tunnel *tunnel)
{
    if (!tunnel)
        return;
    if (tunnel->conn_made)
        conn_done(&tunnel->conn);
    parser_done(&tunnel->parser);
    free(tunnel);
}
