/* Internal to lib/http: TLS over one non-blocking socket. The socket stays the caller's. */
#ifndef CLM_HTTP_TLS_CONN_H
#define CLM_HTTP_TLS_CONN_H

#include "base/buf.h"
#include "http/tls.h"

struct tls_conn;

enum tls_io { TLS_IO_DONE, TLS_IO_WANT_READ, TLS_IO_WANT_WRITE, TLS_IO_CLOSED, TLS_IO_FAILED };

struct tls_conn *tls_conn_accept(struct tls_context *context, int fd, const char *peer);
/* verify_name: see http_client_config; INVALID_ARGUMENT if it cannot be set. */
enum code tls_conn_connect(struct tls_context *context, int fd, const char *verify_name,
                           struct tls_conn **ret, struct status *st) MUST_CHECK;
/* Frees; the session stays resumable unless TLS itself failed. */
void tls_conn_free(struct tls_conn *conn);
/* Sends close_notify, once, if the socket takes it. */
void tls_conn_shutdown(struct tls_conn *conn);

/* *st is filled for TLS_IO_FAILED, as http/client.h says. A failed handshake reaches on_refused here. */
enum tls_io tls_conn_handshake(struct tls_conn *conn, struct status *st);
enum tls_io tls_conn_read(struct tls_conn *conn, void *data, size_t size, size_t *ret_len, struct status *st);
enum tls_io tls_conn_write(struct tls_conn *conn, const void *data, size_t len, size_t *ret_len,
                           struct status *st);

/* Bytes of a record are waiting inside: no readiness event will tell. */
bool tls_conn_has_pending(const struct tls_conn *conn);
bool tls_conn_resumed(const struct tls_conn *conn);
bool tls_conn_peer_certificate(const struct tls_conn *conn, struct buf *ret_der) MUST_CHECK;

#endif
