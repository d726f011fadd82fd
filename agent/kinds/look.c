/*
 * TLS looks in one event loop: see look.h. The one place beside lib/http that opens TLS connections, because
 * it must accept what no client may. Everything that a server can make wait has the look's deadline.
 */
#include "kinds/look.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/endpoint.h"
#include "base/file.h"

enum look_state {
    LOOK_CONNECTING,
    LOOK_TALKING, /* STARTTLS */
    LOOK_SHAKING,
    LOOK_OVER,
};

struct look {
    const struct probe *probe;
    enum look_state state;
    int fd;
    short events; /* what it waits for */
    int64_t end_ms;
    struct addrinfo *addresses;
    const struct addrinfo *next; /* address to try if this one fails */
    struct starttls_talk talk;
    struct bytes say; /* still to be sent */
    SSL *ssl;
    bool newest;           /* of only_certificate: TLS 1.2 was refused */
    struct der_list chain; /* of only_certificate */
    struct look_answer answer;
};

/* The certificate comes in the clear and before any arithmetic in TLS 1.2: so that is what those looks try
 * first that want nothing else. */
struct looker {
    SSL_CTX *tls, *legacy, *quick, *quick_newest;
    int out;
    bool broken; /* nobody reads */
};

/* --- answers ------------------------------------------------------------------------------------------ */

static void put(struct looker *looker, const void *data, size_t len)
{
    if (!looker->broken)
        looker->broken = fd_write_all(looker->out, data, len, NULL) != CODE_OK;
}

static void say(struct looker *looker, struct look *look, char kind)
{
    look->answer.kind = kind;
    put(looker, &look->answer, sizeof(look->answer));
}

static void say_list(struct looker *looker, struct look *look)
{
    look->answer.tls = 1;
    look->answer.n_certs = (uint8_t)look->chain.n;
    (void)snprintf(look->answer.protocol, sizeof(look->answer.protocol), "%s", SSL_get_version(look->ssl));
    say(looker, look, 'Z');
    for (size_t i = 0; i < look->chain.n; i++) {
        uint32_t size = (uint32_t)look->chain.item[i].len;
        put(looker, &size, sizeof(size));
        put(looker, look->chain.item[i].data, size);
    }
}

static void say_chain(struct looker *looker, struct look *look)
{
    STACK_OF(X509) *chain = look->ssl ? SSL_get_peer_cert_chain(look->ssl) : NULL;
    int n = chain ? sk_X509_num(chain) : 0;
    n = n > DER_LIST_MAX ? DER_LIST_MAX : n;
    look->answer.tls = n > 0;
    look->answer.n_certs = (uint8_t)n;
    if (n == 0)
        (void)snprintf(look->answer.error, sizeof(look->answer.error), "the server showed no certificate");
    (void)snprintf(look->answer.protocol, sizeof(look->answer.protocol), "%s", SSL_get_version(look->ssl));
    say(looker, look, 'Z');
    for (int i = 0; i < n; i++) {
        uint8_t *der = NULL;
        int len = i2d_X509(sk_X509_value(chain, i), &der);
        uint32_t size = len > 0 ? (uint32_t)len : 0;
        put(looker, &size, sizeof(size));
        put(looker, der, size);
        OPENSSL_free(der);
    }
}

static void look_close(struct look *look)
{
    SSL_free(look->ssl);
    look->ssl = NULL;
    if (look->fd >= 0)
        (void)close(look->fd);
    look->fd = -1;
    if (look->addresses)
        freeaddrinfo(look->addresses);
    look->addresses = NULL;
    der_list_done(&look->chain);
    look->state = LOOK_OVER;
}

static void fail(struct looker *looker, struct look *look, const char *fmt, ...) PRINTF(3, 4);
static void fail(struct looker *looker, struct look *look, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(look->answer.error, sizeof(look->answer.error), fmt, ap);
    va_end(ap);
    say(looker, look, 'Z');
    look_close(look);
}

/* --- TLS ---------------------------------------------------------------------------------------------- */

/* Takes what the server showed, and refuses it: that ends the handshake. */
static int on_certificate(X509_STORE_CTX *store, void *arg)
{
    (void)arg;
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct look *look = SSL_get_app_data(ssl);
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(store);
    for (int i = 0; i < (chain ? sk_X509_num(chain) : 0) && i < DER_LIST_MAX; i++) {
        uint8_t *der = NULL;
        int len = i2d_X509(sk_X509_value(chain, i), &der);
        if (len > 0)
            (void)!der_list_add(&look->chain, (struct bytes){der, (size_t)len}, NULL);
        OPENSSL_free(der);
    }
    return 0;
}

/* Everything that a server may still speak is accepted here: this looks, others judge. */
static SSL_CTX *tls_context(int max_version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (!ctx)
        return NULL;
    SSL_CTX_set_security_level(ctx, 0);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_options(ctx, SSL_OP_LEGACY_SERVER_CONNECT);
    (void)SSL_CTX_set_cipher_list(ctx, "ALL:@SECLEVEL=0");
    (void)SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
    (void)SSL_CTX_set_max_proto_version(ctx, max_version);
    return ctx;
}

static SSL_CTX *quick_context(int max_version)
{
    SSL_CTX *ctx = tls_context(max_version);
    if (ctx) {
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_cert_verify_callback(ctx, on_certificate, NULL);
    }
    return ctx;
}

static void again_newest(struct looker *looker, struct look *look);

static void shake(struct looker *looker, struct look *look)
{
    ERR_clear_error();
    errno = 0;
    int rc = SSL_connect(look->ssl);
    if (rc == 1) {
        say_chain(looker, look);
        (void)SSL_shutdown(look->ssl);
        look_close(look);
        return;
    }
    int why = SSL_get_error(look->ssl, rc);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        look->events = why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
        return;
    }
    if (look->chain.n > 0) {
        say_list(looker, look);
        look_close(look);
        return;
    }
    unsigned long err = ERR_peek_error();
    if (look->probe->only_certificate && !look->newest && ERR_GET_REASON(err) >= SSL_AD_REASON_OFFSET) {
        again_newest(looker, look); /* an alert: it speaks TLS, and wants 1.3 perhaps */
        return;
    }
    const char *reason = err ? ERR_reason_error_string(err) : NULL;
    fail(looker, look, "TLS handshake failed: %s",
         reason  ? reason
         : errno ? strerror(errno)
                 : "the server closed the connection");
}

static void start_tls(struct looker *looker, struct look *look)
{
    const struct probe *probe = look->probe;
    look->state = LOOK_SHAKING;
    look->ssl = SSL_new(probe->legacy              ? looker->legacy
                        : !probe->only_certificate ? looker->tls
                        : look->newest             ? looker->quick_newest
                                                   : looker->quick);
    if (!look->ssl || SSL_set_fd(look->ssl, look->fd) != 1) {
        fail(looker, look, "cannot prepare TLS");
        return;
    }
    SSL_set_app_data(look->ssl, look);
    if (probe->server_name && !host_is_address(probe->server_name))
        (void)SSL_set_tlsext_host_name(look->ssl, probe->server_name);
    shake(looker, look);
}

/* --- before TLS --------------------------------------------------------------------------------------- */

static void hear(struct looker *looker, struct look *look, const void *data, size_t len);

static void send_words(struct looker *looker, struct look *look)
{
    bool anything = look->say.len > 0;
    look->events = POLLIN;
    while (look->say.len > 0) {
        ssize_t n = send(look->fd, look->say.data, look->say.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            look->events = POLLOUT;
            return;
        }
        if (n < 0) {
            fail(looker, look, "the server closed the connection before STARTTLS: %s", strerror(errno));
            return;
        }
        look->say.data += n;
        look->say.len -= (size_t)n;
    }
    if (anything && look->talk.n > 0)
        hear(looker, look, "", 0); /* it had said more already */
}

static void hear(struct looker *looker, struct look *look, const void *data, size_t len)
{
    switch (starttls_feed(&look->talk, data, len, &look->say)) {
    case STARTTLS_MORE:
        send_words(looker, look);
        break;
    case STARTTLS_READY:
        start_tls(looker, look);
        break;
    case STARTTLS_REFUSED:
        fail(looker, look, "%s", look->talk.error);
        break;
    }
}

static void talk(struct looker *looker, struct look *look)
{
    uint8_t chunk[1024];
    if (look->say.len > 0) {
        send_words(looker, look);
        return;
    }
    ssize_t n = recv(look->fd, chunk, sizeof(chunk), 0);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0)
        fail(looker, look, "the server closed the connection before STARTTLS%s%s", n < 0 ? ": " : "",
             n < 0 ? strerror(errno) : "");
    else
        hear(looker, look, chunk, (size_t)n);
}

static void on_connected(struct looker *looker, struct look *look)
{
    look->answer.connected = 1;
    say(looker, look, 'A');
    if (look->probe->starttls == STARTTLS_NONE) {
        start_tls(looker, look);
        return;
    }
    look->state = LOOK_TALKING;
    starttls_begin(&look->talk, look->probe->starttls, &look->say);
    send_words(looker, look);
}

/* The next of the host's addresses, or the end with what the last one said. */
static void connect_next(struct looker *looker, struct look *look, int last_errno)
{
    while (look->next) {
        const struct addrinfo *address = look->next;
        look->next = address->ai_next;
        if (look->fd >= 0)
            (void)close(look->fd);
        look->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
        if (look->fd >= 0 && connect(look->fd, address->ai_addr, address->ai_addrlen) == 0) {
            on_connected(looker, look);
            return;
        }
        if (look->fd >= 0 && errno == EINPROGRESS) {
            look->events = POLLOUT;
            return;
        }
        last_errno = errno;
    }
    fail(looker, look, "cannot connect: %s", strerror(last_errno));
}

static void on_connect(struct looker *looker, struct look *look)
{
    int err = 0;
    socklen_t len = sizeof(err);
    if (getsockopt(look->fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
        err = errno;
    if (err == 0)
        on_connected(looker, look);
    else
        connect_next(looker, look, err);
}

static void again_newest(struct looker *looker, struct look *look)
{
    SSL_free(look->ssl);
    look->ssl = NULL;
    look->newest = true;
    look->state = LOOK_CONNECTING;
    look->next = look->addresses;
    connect_next(looker, look, 0);
}

static void look_start(struct looker *looker, struct look *look, const struct probe *probe, size_t index,
                       bool resolve)
{
    *look = (struct look){.probe = probe, .fd = -1, .end_ms = clock_mono_ms() + probe->timeout_ms};
    look->answer.index = (uint32_t)index;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICSERV | (resolve ? 0 : AI_NUMERICHOST)};
    int rc = getaddrinfo(probe->host, probe->port, &hints, &look->addresses);
    if (rc != 0) {
        look->addresses = NULL;
        fail(looker, look, "cannot resolve: %s", gai_strerror(rc));
        return;
    }
    look->next = look->addresses;
    connect_next(looker, look, 0);
}

/* --- the loop ----------------------------------------------------------------------------------------- */

static void on_ready(struct looker *looker, struct look *look)
{
    if (look->state == LOOK_CONNECTING)
        on_connect(looker, look);
    else if (look->state == LOOK_TALKING)
        talk(looker, look);
    else
        shake(looker, look);
}

static void on_late(struct looker *looker, struct look *look)
{
    long long ms = (long long)look->probe->timeout_ms;
    if (look->state == LOOK_CONNECTING)
        fail(looker, look, "cannot connect: %s", strerror(ETIMEDOUT));
    else if (look->state == LOOK_TALKING)
        fail(looker, look, "no %s answer within %lld ms", starttls_name(look->probe->starttls), ms);
    else
        fail(looker, look, "no TLS answer within %lld ms", ms);
}

/* Waits for the first of what the looks wait for, but not longer than until the next one may begin. */
static void wait_and_step(struct looker *looker, struct look *looks, struct pollfd *fds, size_t n,
                          int64_t until_ms)
{
    for (size_t i = 0; i < n; i++) {
        bool busy = looks[i].state != LOOK_OVER;
        fds[i] = (struct pollfd){busy ? looks[i].fd : -1, looks[i].events, 0};
        if (busy && looks[i].end_ms < until_ms)
            until_ms = looks[i].end_ms;
    }
    int64_t now = clock_mono_ms(), left = until_ms - now;
    (void)poll(fds, n, left < 0 ? 0 : left > 60000 ? 60000 : (int)left);
    now = clock_mono_ms();
    for (size_t i = 0; i < n; i++) {
        if (looks[i].state != LOOK_OVER && fds[i].revents)
            on_ready(looker, &looks[i]);
        if (looks[i].state != LOOK_OVER && now >= looks[i].end_ms)
            on_late(looker, &looks[i]);
    }
}

struct pace {
    int64_t start_us;
    unsigned rate;
};

/* When the look of this number may begin. */
static int64_t pace_ms(const struct pace *pace, size_t index)
{
    return pace->rate == 0 ? 0 : (pace->start_us + (int64_t)index * 1000000 / pace->rate + 999) / 1000;
}

static void run(struct looker *looker, const struct probe *probes, size_t n, struct look *looks,
                struct pollfd *fds, size_t parallel, unsigned rate)
{
    struct pace pace = {clock_mono_us(), rate};
    for (size_t next = 0, busy = 1; (busy > 0 || next < n) && !looker->broken;) {
        bool full = true;
        busy = 0;
        for (size_t i = 0; i < parallel; i++) {
            if (looks[i].state == LOOK_OVER && next < n && clock_mono_ms() >= pace_ms(&pace, next)) {
                look_start(looker, &looks[i], &probes[next], next, n == 1);
                next++;
            }
            busy += looks[i].state != LOOK_OVER;
            full = full && looks[i].state != LOOK_OVER;
        }
        int64_t until_ms = full || next >= n ? INT64_MAX : pace_ms(&pace, next);
        if (busy > 0 || next < n)
            wait_and_step(looker, looks, fds, parallel, until_ms);
    }
}

void look_all(const struct probe *probes, size_t n, size_t parallel, unsigned rate, int out)
{
    struct looker looker = {.tls = tls_context(TLS1_3_VERSION),
                            .legacy = tls_context(TLS1_1_VERSION),
                            .quick = quick_context(TLS1_2_VERSION),
                            .quick_newest = quick_context(TLS1_3_VERSION),
                            .out = out};
    if (parallel > n)
        parallel = n;
    struct look *looks = calloc(parallel, sizeof(*looks));
    struct pollfd *fds = calloc(parallel, sizeof(*fds));
    if (!looks || !fds || !looker.tls || !looker.legacy || !looker.quick || !looker.quick_newest)
        abort();
    for (size_t i = 0; i < parallel; i++)
        looks[i] = (struct look){.state = LOOK_OVER, .fd = -1};
    run(&looker, probes, n, looks, fds, parallel, rate);
    for (size_t i = 0; i < parallel; i++)
        look_close(&looks[i]);
    free(looks);
    free(fds);
    SSL_CTX_free(looker.tls);
    SSL_CTX_free(looker.legacy);
    SSL_CTX_free(looker.quick);
    SSL_CTX_free(looker.quick_newest);
}
