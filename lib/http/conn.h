/*
 * Internal to lib/http: a byte stream over a socket on a loop, plain or TLS, that server and client share.
 * It holds no read buffer: bytes are handed over from one scratch buffer a thread. Output is queued and goes
 * out from the loop. on_end comes exactly once, unless conn_done came first; inside any callback conn_done is
 * allowed.
 */
#ifndef CLM_HTTP_CONN_H
#define CLM_HTTP_CONN_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "base/buf.h"
#include "http/tls_conn.h"
#include "loop/loop.h"

struct conn;

struct conn_ops {
    void (*on_handshake_over)(struct conn *conn); /* TLS accept only: it succeeded or failed; may be NULL */
    void (*on_open)(struct conn *conn);
    void (*on_bytes)(struct conn *conn, const uint8_t *data, size_t len);
    void (*on_eof)(struct conn *conn); /* call conn_end or conn_close_gracefully */
    void (*on_flushed)(struct conn *conn);
    void (*on_kick)(struct conn *conn);
    void (*on_deadline)(struct conn *conn);
    void (*on_end)(struct conn *conn, const struct status *st); /* call conn_done */
};

enum conn_state {
    CONN_CONNECTING,
    CONN_HANDSHAKE,
    CONN_OPEN,
    CONN_CLOSING, /* output goes out, input is dropped */
    CONN_LINGER,  /* our side is shut; until the peer has read it, a close would take it away */
    CONN_ENDED,
};

struct conn {
    const struct conn_ops *ops;
    struct event_base *base;
    struct event read_event, write_event, timer_event;
    struct tls_conn *tls;
    struct buf out;
    size_t out_at; /* bytes of out already taken by the socket */
    int fd;
    enum conn_state state;
    bool paused, kicked, aborted, write_wants_read, read_wants_write, eof;
    bool *gone;                                          /* set when conn_done comes inside a callback */
    int64_t deadline_ms, write_deadline_ms, timer_at_ms; /* monotonic; 0: none */
    int64_t write_timeout_ms;
    size_t linger_bytes;
    struct status failure; /* what on_end will say after a linger */
};

/* fd is taken. connecting: a TCP connect is under way. tls is taken, NULL for plain. */
void conn_init(struct conn *conn, struct loop *loop, int fd, struct tls_conn *tls, bool connecting,
               int64_t write_timeout_ms, const struct conn_ops *ops);
void conn_done(struct conn *conn);
/* Tells the loop to call on_kick and to flush. */
void conn_kick(struct conn *conn);
/* Ends it from the loop, without waiting for output. */
void conn_abort(struct conn *conn);
/* Now, calling on_end. */
void conn_end(struct conn *conn, const struct status *st);
/* After the output: FIN, wait for the peer's, end. Only from a callback or followed by conn_kick. */
void conn_close_gracefully(struct conn *conn);
void conn_pause(struct conn *conn);
void conn_resume(struct conn *conn);
/* delay_ms < 0: none. */
void conn_set_deadline(struct conn *conn, int64_t delay_ms);
/* The output buffer, to append to; conn_kick afterwards unless in a callback. */
struct buf *conn_out(struct conn *conn);
size_t conn_pending(const struct conn *conn);

#endif
