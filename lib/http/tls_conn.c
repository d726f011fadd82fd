/* One TLS connection, and what its errors mean. See tls_parts.h. */
#include "http/tls_conn.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/endpoint.h"
#include "base/log.h"
#include "http/tls_parts.h"

static struct tls_conn *conn_new(struct tls_context *context, int fd)
{
    struct tls_conn *conn = calloc(1, sizeof(*conn));
    if (!conn)
        abort();
    atomic_fetch_add(&context->references, 1);
    conn->context = context;
    pthread_mutex_lock(&context->mutex);
    conn->ssl = SSL_new(context->ctx);
    pthread_mutex_unlock(&context->mutex);
    if (!conn->ssl || !SSL_set_fd(conn->ssl, fd))
        abort();
    SSL_set_app_data(conn->ssl, conn);
    return conn;
}

struct tls_conn *tls_conn_accept(struct tls_context *context, int fd, const char *peer)
{
    assert(context->server);
    struct tls_conn *conn = conn_new(context, fd);
    (void)snprintf(conn->peer, sizeof(conn->peer), "%s", peer);
    SSL_set_accept_state(conn->ssl);
    return conn;
}

enum code tls_conn_connect(struct tls_context *context, int fd, const char *verify_name,
                           struct tls_conn **ret, struct status *st)
{
    assert(!context->server);
    struct tls_conn *conn = conn_new(context, fd);
    SSL_set_connect_state(conn->ssl);
    int good = 1;
    if (host_is_address(verify_name)) {
        good = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(conn->ssl), verify_name);
    } else if (verify_name[0]) {
        SSL_set_hostflags(conn->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        good = SSL_set1_host(conn->ssl, verify_name) && SSL_set_tlsext_host_name(conn->ssl, verify_name);
    }
    if (!good) {
        tls_conn_free(conn);
        ERR_clear_error();
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%s\" cannot be a TLS server name", verify_name);
    }
    /* A session is for one use (RFC 8446 appendix C.4). */
    pthread_mutex_lock(&context->mutex);
    SSL_SESSION *session = TAKE(context->session);
    pthread_mutex_unlock(&context->mutex);
    if (session && SSL_SESSION_is_resumable(session))
        (void)SSL_set_session(conn->ssl, session);
    SSL_SESSION_free(session);
    *ret = conn;
    return CODE_OK;
}

void tls_conn_free(struct tls_conn *conn)
{
    if (!conn)
        return;
    /* Else OpenSSL takes a lost connection for a reason to forget its session. */
    if (!conn->broken)
        SSL_set_shutdown(conn->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(conn->ssl);
    tls_context_free(conn->context);
    free(conn->failure);
    free(conn);
    ERR_clear_error();
}

void tls_conn_shutdown(struct tls_conn *conn)
{
    if (conn->broken || conn->shut)
        return;
    conn->shut = true;
    ERR_clear_error();
    (void)SSL_shutdown(conn->ssl);
    ERR_clear_error();
}

static bool is_about_certificate(int alert)
{
    switch (alert) {
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_ACCESS_DENIED:
    case SSL_AD_CERTIFICATE_REQUIRED:
        return true;
    default:
        return false;
    }
}

/* Fatal alerts arrive as errors whose reason is SSL_AD_REASON_OFFSET + alert. 0: it was none. */
static int received_alert(unsigned long error)
{
    int reason = ERR_GET_REASON(error);
    bool alert = ERR_GET_LIB(error) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET &&
                 reason < SSL_AD_REASON_OFFSET + 256;
    return alert ? reason - SSL_AD_REASON_OFFSET : 0;
}

static void describe_failure(struct tls_conn *conn, int ssl_error, int errnum, struct status *st)
{
    const char *side = conn->context->server ? "client" : "server";
    unsigned long error = ERR_peek_error();
    int alert = received_alert(error);
    if (alert && is_about_certificate(alert))
        status_set(st, CODE_UNAUTHENTICATED, "the %s refused our certificate: %s", side,
                   SSL_alert_desc_string_long(alert));
    else if (alert)
        status_set(st, CODE_UNAVAILABLE, "TLS alert from the %s: %s", side,
                   SSL_alert_desc_string_long(alert));
    else if (conn->failure)
        status_set(st, CODE_PERMISSION_DENIED, "the %s's certificate is refused: %s", side,
                   conn->failure->reason);
    else if (ssl_error == SSL_ERROR_SYSCALL && errnum)
        status_errno(st, CODE_UNAVAILABLE, errnum, "TLS connection to the %s", side);
    else if (ERR_reason_error_string(error))
        status_set(st, CODE_UNAVAILABLE, "TLS with the %s: %s", side, ERR_reason_error_string(error));
    else
        status_set(st, CODE_UNAVAILABLE, "TLS connection ended by the %s", side);
}

static enum tls_io result_of(struct tls_conn *conn, int returned, int errnum, struct status *st)
{
    int error = SSL_get_error(conn->ssl, returned);
    switch (error) {
    case SSL_ERROR_WANT_READ:
        return TLS_IO_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return TLS_IO_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_IO_CLOSED;
    default:
        conn->broken = error == SSL_ERROR_SSL;
        describe_failure(conn, error, errnum, st);
        ERR_clear_error();
        return TLS_IO_FAILED;
    }
}

static void report_refusal(struct tls_conn *conn, const struct status *st)
{
    struct tls_refusal refusal = {
        .peer = conn->peer,
        .subject = conn->failure ? conn->failure->subject : "",
        .uri = conn->failure ? conn->failure->uri : "",
        .reason = conn->failure ? conn->failure->reason : st->msg,
        .by_peer = !conn->failure && st->code == CODE_UNAUTHENTICATED,
    };
    log_debug("TLS handshake failed", "peer", refusal.peer, "subject", refusal.subject, "reason",
              refusal.reason, NULL);
    if (conn->context->on_refused)
        conn->context->on_refused(&refusal, conn->context->arg);
}

enum tls_io tls_conn_handshake(struct tls_conn *conn, struct status *st)
{
    ERR_clear_error();
    errno = 0;
    int n = SSL_do_handshake(conn->ssl);
    if (n == 1)
        return TLS_IO_DONE;
    enum tls_io io = result_of(conn, n, errno, st);
    if (io == TLS_IO_CLOSED) {
        status_set(st, CODE_UNAVAILABLE, "TLS connection closed during the handshake");
        io = TLS_IO_FAILED;
    }
    /* A peer that merely went away has refused nothing. */
    if (io == TLS_IO_FAILED && conn->context->server && conn->broken)
        report_refusal(conn, st);
    return io;
}

enum tls_io tls_conn_read(struct tls_conn *conn, void *data, size_t size, size_t *ret_len, struct status *st)
{
    ERR_clear_error();
    errno = 0;
    int n = SSL_read_ex(conn->ssl, data, size, ret_len);
    return n == 1 ? TLS_IO_DONE : result_of(conn, n, errno, st);
}

enum tls_io tls_conn_write(struct tls_conn *conn, const void *data, size_t len, size_t *ret_len,
                           struct status *st)
{
    ERR_clear_error();
    errno = 0;
    int n = SSL_write_ex(conn->ssl, data, len, ret_len);
    return n == 1 ? TLS_IO_DONE : result_of(conn, n, errno, st);
}

bool tls_conn_has_pending(const struct tls_conn *conn)
{
    return SSL_has_pending(conn->ssl) == 1;
}

bool tls_conn_resumed(const struct tls_conn *conn)
{
    return SSL_session_reused(conn->ssl) == 1;
}

bool tls_conn_peer_certificate(const struct tls_conn *conn, struct buf *ret_der)
{
    X509 *cert = SSL_get0_peer_certificate(conn->ssl);
    unsigned char *der = NULL;
    int len = cert ? i2d_X509(cert, &der) : 0;
    bool good = len > 0 && buf_append(ret_der, der, (size_t)len);
    OPENSSL_free(der);
    return good;
}
