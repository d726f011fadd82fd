/*
 * TLS looks: see probe.h. The parent (a task's child process) only forks, reads bounded bytes and kills late
 * children; name resolution, connecting and everything of TLS happens in the children. The one place beside
 * lib/http that opens TLS connections, because it must accept what no client may.
 */
#include "kinds/probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "sandbox/sandbox.h"

#define ANSWER_MAX (DER_LIST_MAX * 70 * 1024)
#define NOBODY     65534
#define GRACE_MS   500 /* for the child to say why it gave up, before it is killed */

/* What a child writes: an 'A' with these as soon as it connected, a 'Z' at its end, then each certificate. */
struct answer {
    char kind;
    char protocol[16];
    char error[160];
    uint8_t connected, tls, n_certs;
};

/* --- the child ---------------------------------------------------------------------------------------- */

struct look {
    const struct probe *probe;
    int64_t end_ms;
    struct answer answer;
    int out;
};

static int left_ms(const struct look *look)
{
    int64_t left = look->end_ms - clock_mono_ms();
    return left < 0 ? 0 : left > 600000 ? 600000 : (int)left;
}

static bool wait_for(const struct look *look, int fd, short events)
{
    struct pollfd p = {fd, events, 0};
    int n;
    do {
        n = poll(&p, 1, left_ms(look));
    } while (n < 0 && errno == EINTR);
    return n == 1;
}

static int connect_one(struct look *look, const struct addrinfo *address)
{
    AUTO_CLOSE int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    int err = fd < 0 ? errno : 0;
    if (fd >= 0 && connect(fd, address->ai_addr, address->ai_addrlen) != 0) {
        err = errno;
        socklen_t len = sizeof(err);
        if (err == EINPROGRESS && !wait_for(look, fd, POLLOUT))
            err = ETIMEDOUT;
        else if (err == EINPROGRESS && getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
            err = errno;
    }
    if (err != 0) {
        (void)snprintf(look->answer.error, sizeof(look->answer.error), "cannot connect: %s", strerror(err));
        return -1;
    }
    int connected = fd;
    fd = -1;
    return connected;
}

static int connect_any(struct look *look)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list = NULL;
    int rc = getaddrinfo(look->probe->host, look->probe->port, &hints, &list);
    if (rc != 0) {
        (void)snprintf(look->answer.error, sizeof(look->answer.error), "cannot resolve: %s",
                       gai_strerror(rc));
        return -1;
    }
    int fd = -1;
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
        fd = connect_one(look, a);
    freeaddrinfo(list);
    return fd;
}

static bool name_is_address(const char *name)
{
    uint8_t bytes[16];
    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

/* Everything that a server may still speak is accepted here: this looks, others judge. */
static SSL *tls_new(const struct probe *probe, int fd)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (!ctx)
        return NULL;
    SSL_CTX_set_security_level(ctx, 0);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_options(ctx, SSL_OP_LEGACY_SERVER_CONNECT);
    (void)SSL_CTX_set_cipher_list(ctx, "ALL:@SECLEVEL=0");
    (void)SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
    (void)SSL_CTX_set_max_proto_version(ctx, probe->legacy ? TLS1_1_VERSION : TLS1_3_VERSION);
    SSL *ssl = SSL_new(ctx);
    SSL_CTX_free(ctx);
    if (!ssl || SSL_set_fd(ssl, fd) != 1)
        return NULL;
    if (probe->server_name && !name_is_address(probe->server_name))
        (void)SSL_set_tlsext_host_name(ssl, probe->server_name);
    return ssl;
}

static bool handshake(struct look *look, SSL *ssl, int fd)
{
    for (;;) {
        ERR_clear_error();
        errno = 0;
        int rc = SSL_connect(ssl);
        if (rc == 1)
            return true;
        int why = SSL_get_error(ssl, rc);
        if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
            if (wait_for(look, fd, why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT))
                continue;
            (void)snprintf(look->answer.error, sizeof(look->answer.error), "no TLS answer within %lld ms",
                           (long long)look->probe->timeout_ms);
            return false;
        }
        unsigned long err = ERR_peek_error();
        const char *reason = err ? ERR_reason_error_string(err) : NULL;
        (void)snprintf(look->answer.error, sizeof(look->answer.error), "TLS handshake failed: %s",
                       reason  ? reason
                       : errno ? strerror(errno)
                               : "the server closed the connection");
        return false;
    }
}

static void say(struct look *look, char kind)
{
    look->answer.kind = kind;
    if (fd_write_all(look->out, &look->answer, sizeof(look->answer), NULL) != CODE_OK)
        _exit(1);
}

static void say_chain(struct look *look, SSL *ssl)
{
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
    int n = chain ? sk_X509_num(chain) : 0;
    n = n > DER_LIST_MAX ? DER_LIST_MAX : n;
    look->answer.tls = n > 0;
    look->answer.n_certs = (uint8_t)n;
    if (n == 0)
        (void)snprintf(look->answer.error, sizeof(look->answer.error), "the server showed no certificate");
    (void)snprintf(look->answer.protocol, sizeof(look->answer.protocol), "%s", SSL_get_version(ssl));
    say(look, 'Z');
    for (int i = 0; i < n; i++) {
        uint8_t *der = NULL;
        int len = i2d_X509(sk_X509_value(chain, i), &der);
        uint32_t size = len > 0 ? (uint32_t)len : 0;
        if (fd_write_all(look->out, &size, sizeof(size), NULL) != CODE_OK ||
            fd_write_all(look->out, der, size, NULL) != CODE_OK)
            _exit(1);
        OPENSSL_free(der);
    }
}

static void __attribute__((noreturn)) child(const struct probe *probe, int out)
{
    struct status st;
    struct sandbox_limits limits = {.cpu_sec = 10, .open_files = 32};
    struct look look = {.probe = probe, .end_ms = clock_mono_ms() + probe->timeout_ms, .out = out};
    sandbox_close_fds(&out, 1);
    (void)signal(SIGPIPE, SIG_IGN); /* a server that closes early is an answer, too */
    if (sandbox_limit(&limits, &st) != CODE_OK ||
        (geteuid() == 0 && sandbox_drop_user(NOBODY, NOBODY, &st) != CODE_OK) ||
        sandbox_enter(SANDBOX_NET, &st) != CODE_OK) {
        (void)snprintf(look.answer.error, sizeof(look.answer.error), "%.150s", st.msg);
        say(&look, 'Z');
        _exit(1);
    }
    int fd = connect_any(&look);
    if (fd >= 0) {
        look.answer.connected = 1;
        say(&look, 'A');
        SSL *ssl = tls_new(probe, fd);
        if (ssl && handshake(&look, ssl, fd)) {
            say_chain(&look, ssl);
            (void)SSL_shutdown(ssl);
            _exit(0);
        }
    }
    say(&look, 'Z');
    _exit(0);
}

/* --- the parent --------------------------------------------------------------------------------------- */

struct running {
    struct probe *probe;
    pid_t pid;
    int fd;
    int64_t end_ms;
    struct buf out;
};

static void start(struct running *running, struct probe *probe)
{
    int fds[2];
    *running = (struct running){.probe = probe, .pid = -1, .fd = -1, .out = {.limit = ANSWER_MAX}};
    if (pipe2(fds, O_CLOEXEC) != 0) {
        (void)snprintf(probe->error, sizeof(probe->error), "cannot make a pipe: %s", strerror(errno));
        return;
    }
    running->pid = fork();
    if (running->pid == 0)
        child(probe, fds[1]);
    (void)close(fds[1]);
    running->fd = fds[0];
    running->end_ms = clock_mono_ms() + probe->timeout_ms + GRACE_MS;
    if (running->pid < 0) {
        (void)snprintf(probe->error, sizeof(probe->error), "cannot fork: %s", strerror(errno));
        (void)close(fds[0]);
        running->fd = -1;
    }
}

static bool take(const struct buf *buf, size_t *at, void *to, size_t n)
{
    if (buf->len - *at < n)
        return false;
    memcpy(to, buf->data + *at, n);
    *at += n;
    return true;
}

static void read_answer(struct running *running)
{
    struct probe *probe = running->probe;
    const struct buf *out = &running->out;
    struct answer answer = {0};
    size_t at = 0;
    (void)snprintf(probe->error, sizeof(probe->error), "the look ended without an answer");
    while (answer.kind != 'Z' && take(out, &at, &answer, sizeof(answer)))
        probe->connected = answer.connected == 1;
    if (answer.kind != 'Z')
        return;
    (void)snprintf(probe->protocol, sizeof(probe->protocol), "%.15s", answer.protocol);
    (void)snprintf(probe->error, sizeof(probe->error), "%.159s", answer.error);
    uint32_t size;
    for (unsigned i = 0; i < answer.n_certs && take(out, &at, &size, sizeof(size)); i++) {
        if (size > out->len - at ||
            der_list_add(&probe->chain, (struct bytes){out->data + at, size}, NULL) != CODE_OK)
            break;
        at += size;
    }
    probe->tls = answer.tls == 1 && probe->chain.n > 0;
    if (probe->tls)
        sha256_hex(der_bytes(&probe->chain.item[0]), probe->fingerprint);
}

static void finish(struct running *running)
{
    (void)kill(running->pid, SIGKILL);
    while (waitpid(running->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    (void)close(running->fd);
    running->fd = -1;
    read_answer(running);
    buf_done(&running->out);
}

/* Reads once; true when there is no more to come. */
static bool read_some(struct running *running)
{
    char chunk[16384];
    ssize_t n = read(running->fd, chunk, sizeof(chunk));
    if (n < 0)
        return errno != EINTR && errno != EAGAIN;
    return n == 0 || !buf_append(&running->out, chunk, (size_t)n);
}

static size_t step(struct running *running, size_t n)
{
    struct pollfd fds[PROBE_PARALLEL];
    int64_t now = clock_mono_ms(), first = now + 60000;
    size_t busy = 0;
    for (size_t i = 0; i < n; i++) {
        fds[i] = (struct pollfd){running[i].fd, POLLIN, 0};
        if (running[i].fd >= 0 && running[i].end_ms < first)
            first = running[i].end_ms;
    }
    (void)poll(fds, n, first > now ? (int)(first - now) : 0);
    for (size_t i = 0; i < n; i++) {
        if (running[i].fd < 0)
            continue;
        if ((fds[i].revents && read_some(&running[i])) || clock_mono_ms() >= running[i].end_ms)
            finish(&running[i]);
        busy += running[i].fd >= 0;
    }
    return busy;
}

void probe_run(struct probe *probes, size_t n)
{
    struct running running[PROBE_PARALLEL];
    size_t slots = 0, next = 0;
    for (; slots < PROBE_PARALLEL && next < n; slots++)
        start(&running[slots], &probes[next++]);
    while (slots > 0) {
        size_t busy = step(running, slots);
        for (size_t i = 0; i < slots && next < n; i++) {
            if (running[i].fd < 0) {
                start(&running[i], &probes[next++]);
                busy++;
            }
        }
        if (busy == 0 && next >= n)
            break;
    }
}

void probe_done(struct probe *probe)
{
    der_list_done(&probe->chain);
}
