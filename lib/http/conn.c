/*
 * Readiness events drive a small state machine (enum conn_state). Invariants: no event is armed after
 * CONN_ENDED; the timer is armed no later than the earliest deadline (it may fire early and arm itself again,
 * which is cheaper than moving it with every request).
 */
#include "http/conn.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define SCRATCH_BYTES (16u * 1024)
#define READ_ROUNDS   4 /* then others get their turn */
#define OUT_LIMIT     (256u * 1024 * 1024)
#define LINGER_MS     1000
#define LINGER_BYTES  (256u * 1024)

static _Thread_local uint8_t scratch[SCRATCH_BYTES];

/* Runs a callback; true if the conn is still there and alive afterwards. */
#define CALL(conn, callback, ...)                                                                            \
    __extension__({                                                                                          \
        bool gone_ = false;                                                                                  \
        bool *outer_ = (conn)->gone;                                                                         \
        (conn)->gone = &gone_;                                                                               \
        (conn)->ops->callback(__VA_ARGS__);                                                                  \
        if (gone_) {                                                                                         \
            if (outer_)                                                                                      \
                *outer_ = true;                                                                              \
        } else {                                                                                             \
            (conn)->gone = outer_;                                                                           \
        }                                                                                                    \
        !gone_;                                                                                              \
    })

/* --- timer ---------------------------------------------------------------------------------------------- */

static int64_t earliest(int64_t a, int64_t b)
{
    if (!a || !b)
        return a ? a : b;
    return a < b ? a : b;
}

static void arm_timer(struct conn *conn)
{
    int64_t at = earliest(conn->deadline_ms, conn->write_deadline_ms);
    if (!at || (conn->timer_at_ms && conn->timer_at_ms <= at))
        return;
    int64_t delay = at - clock_mono_ms();
    if (delay < 1)
        delay = 1;
    struct timeval tv = {.tv_sec = delay / 1000, .tv_usec = delay % 1000 * 1000};
    (void)event_add(&conn->timer_event, &tv);
    conn->timer_at_ms = at;
}

void conn_set_deadline(struct conn *conn, int64_t delay_ms)
{
    conn->deadline_ms = delay_ms < 0 ? 0 : clock_mono_ms() + delay_ms;
    arm_timer(conn);
}

static void on_timer(evutil_socket_t fd, short events, void *arg)
{
    (void)fd;
    (void)events;
    struct conn *conn = arg;
    conn->timer_at_ms = 0;
    int64_t now = clock_mono_ms();
    if (conn->write_deadline_ms && now >= conn->write_deadline_ms) {
        struct status st;
        status_set(&st, CODE_UNAVAILABLE, "the peer takes no data");
        conn_end(conn, &st);
        return;
    }
    if (conn->deadline_ms && now >= conn->deadline_ms) {
        conn->deadline_ms = 0;
        if (conn->state == CONN_LINGER) {
            conn_end(conn, &conn->failure);
            return;
        }
        if (!CALL(conn, on_deadline, conn) || conn->state == CONN_ENDED)
            return;
    }
    arm_timer(conn);
    if (conn_pending(conn) > 0 || conn->state == CONN_CLOSING)
        conn_kick(conn);
}

/* --- ending --------------------------------------------------------------------------------------------- */

void conn_end(struct conn *conn, const struct status *st)
{
    if (conn->state == CONN_ENDED)
        return;
    conn->state = CONN_ENDED;
    (void)event_del(&conn->read_event);
    (void)event_del(&conn->write_event);
    (void)event_del(&conn->timer_event);
    if (conn->tls)
        tls_conn_shutdown(conn->tls);
    struct status copy = *st;
    conn->ops->on_end(conn, &copy);
}

void conn_done(struct conn *conn)
{
    conn->state = CONN_ENDED;
    (void)event_del(&conn->read_event);
    (void)event_del(&conn->write_event);
    (void)event_del(&conn->timer_event);
    tls_conn_free(TAKE(conn->tls));
    if (conn->fd >= 0)
        (void)close(conn->fd);
    conn->fd = -1;
    buf_done(&conn->out);
    if (conn->gone)
        *TAKE(conn->gone) = true;
}

void conn_abort(struct conn *conn)
{
    conn->aborted = true;
    conn_kick(conn);
}

void conn_kick(struct conn *conn)
{
    if (conn->kicked || conn->state == CONN_ENDED)
        return;
    conn->kicked = true;
    event_active(&conn->write_event, EV_WRITE, 0);
}

static void enter_linger(struct conn *conn)
{
    conn->state = CONN_LINGER;
    if (conn->tls)
        tls_conn_shutdown(conn->tls);
    (void)shutdown(conn->fd, SHUT_WR);
    if (conn->eof) {
        conn_end(conn, &conn->failure);
        return;
    }
    conn_resume(conn);
    conn_set_deadline(conn, LINGER_MS);
}

void conn_close_gracefully(struct conn *conn)
{
    if (conn->state != CONN_OPEN)
        return;
    conn->state = CONN_CLOSING;
    conn->deadline_ms = 0;
    status_set(&conn->failure, CODE_UNAVAILABLE, "connection closed");
}

/* --- writing -------------------------------------------------------------------------------------------- */

struct buf *conn_out(struct conn *conn)
{
    return &conn->out;
}

size_t conn_pending(const struct conn *conn)
{
    return conn->out.len - conn->out_at;
}

static enum tls_io write_once(struct conn *conn, size_t *ret_len, struct status *st)
{
    const uint8_t *data = conn->out.data + conn->out_at;
    size_t len = conn_pending(conn);
    if (conn->tls)
        return tls_conn_write(conn->tls, data, len, ret_len, st);
    ssize_t n = send(conn->fd, data, len, MSG_NOSIGNAL);
    if (n >= 0) {
        *ret_len = (size_t)n;
        return TLS_IO_DONE;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return TLS_IO_WANT_WRITE;
    status_errno(st, CODE_UNAVAILABLE, errno, "cannot write to the connection");
    return TLS_IO_FAILED;
}

static void drop_output(struct conn *conn)
{
    buf_done(&conn->out);
    conn->out_at = 0;
    conn->write_deadline_ms = 0;
}

/* True if the conn is still there. */
static bool flush(struct conn *conn)
{
    bool had = conn_pending(conn) > 0;
    while (conn_pending(conn) > 0) {
        size_t n = 0;
        struct status st;
        enum tls_io io = write_once(conn, &n, &st);
        if (io == TLS_IO_DONE) {
            conn->out_at += n;
            conn->write_deadline_ms = 0;
            continue;
        }
        if (io == TLS_IO_WANT_READ || io == TLS_IO_WANT_WRITE) {
            conn->write_wants_read = io == TLS_IO_WANT_READ;
            if (io == TLS_IO_WANT_WRITE)
                (void)event_add(&conn->write_event, NULL);
            if (!conn->write_deadline_ms)
                conn->write_deadline_ms = clock_mono_ms() + conn->write_timeout_ms;
            arm_timer(conn);
            return true;
        }
        if (io == TLS_IO_CLOSED)
            status_set(&st, CODE_UNAVAILABLE, "the peer closed the connection");
        drop_output(conn);
        conn_end(conn, &st);
        return false;
    }
    drop_output(conn);
    conn->write_wants_read = false;
    if (had && conn->state == CONN_OPEN && !CALL(conn, on_flushed, conn))
        return false;
    if (conn->state == CONN_CLOSING && conn_pending(conn) == 0) {
        bool gone = false;
        bool *outer = conn->gone;
        conn->gone = &gone;
        enter_linger(conn);
        if (gone) {
            if (outer)
                *outer = true;
            return false;
        }
        conn->gone = outer;
    }
    return conn->state != CONN_ENDED;
}

/* --- reading -------------------------------------------------------------------------------------------- */

static enum tls_io read_once(struct conn *conn, size_t *ret_len, struct status *st)
{
    /* A linger reads below TLS: that may have failed, and nothing of it matters anymore. */
    if (conn->tls && conn->state != CONN_LINGER)
        return tls_conn_read(conn->tls, scratch, sizeof(scratch), ret_len, st);
    ssize_t n = recv(conn->fd, scratch, sizeof(scratch), 0);
    if (n > 0) {
        *ret_len = (size_t)n;
        return TLS_IO_DONE;
    }
    if (n == 0)
        return TLS_IO_CLOSED;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return TLS_IO_WANT_READ;
    status_errno(st, CODE_UNAVAILABLE, errno, "cannot read from the connection");
    return TLS_IO_FAILED;
}

/* Closing and lingering: what comes is dropped, within a budget. */
static bool drop_input(struct conn *conn, size_t len)
{
    conn->linger_bytes += len;
    if (conn->linger_bytes <= LINGER_BYTES)
        return true;
    conn_end(conn, &conn->failure);
    return false;
}

static bool handle_eof(struct conn *conn)
{
    conn->eof = true;
    (void)event_del(&conn->read_event);
    if (conn->state == CONN_CLOSING)
        return true; /* the output may still go out */
    if (conn->state == CONN_LINGER) {
        conn_end(conn, &conn->failure);
        return false;
    }
    return CALL(conn, on_eof, conn) && conn->state != CONN_ENDED;
}

/* True if the conn is still there. */
static bool read_some(struct conn *conn)
{
    for (int round = 0; round < READ_ROUNDS; round++) {
        if (conn->eof || (conn->paused && conn->state == CONN_OPEN))
            return true;
        size_t n = 0;
        struct status st;
        enum tls_io io = read_once(conn, &n, &st);
        if (io == TLS_IO_WANT_READ)
            return true;
        if (io == TLS_IO_WANT_WRITE) {
            conn->read_wants_write = true;
            (void)event_add(&conn->write_event, NULL);
            return true;
        }
        if (io == TLS_IO_CLOSED)
            return handle_eof(conn);
        if (io == TLS_IO_FAILED) {
            conn_end(conn, conn->state == CONN_LINGER ? &conn->failure : &st);
            return false;
        }
        bool there = conn->state == CONN_OPEN
                         ? CALL(conn, on_bytes, conn, scratch, n) && conn->state != CONN_ENDED
                         : drop_input(conn, n);
        if (!there)
            return false;
        bool more =
            conn->tls && conn->state != CONN_LINGER ? tls_conn_has_pending(conn->tls) : n == sizeof(scratch);
        if (!more)
            return true;
    }
    event_active(&conn->read_event, EV_READ, 0);
    return true;
}

void conn_pause(struct conn *conn)
{
    if (conn->paused)
        return;
    conn->paused = true;
    (void)event_del(&conn->read_event);
}

void conn_resume(struct conn *conn)
{
    if (!conn->paused || conn->state == CONN_ENDED || conn->eof)
        return;
    conn->paused = false;
    (void)event_add(&conn->read_event, NULL);
    /* TLS may hold bytes that the socket no longer tells of. */
    if (conn->tls && tls_conn_has_pending(conn->tls))
        event_active(&conn->read_event, EV_READ, 0);
}

/* --- opening -------------------------------------------------------------------------------------------- */

static void enter_open(struct conn *conn)
{
    conn->state = CONN_OPEN;
    (void)CALL(conn, on_open, conn);
}

static void do_handshake(struct conn *conn)
{
    struct status st;
    enum tls_io io = tls_conn_handshake(conn->tls, &st);
    if (io == TLS_IO_WANT_READ)
        return;
    if (io == TLS_IO_WANT_WRITE) {
        (void)event_add(&conn->write_event, NULL);
        return;
    }
    conn->deadline_ms = 0;
    if (conn->ops->on_handshake_over && !CALL(conn, on_handshake_over, conn))
        return;
    if (io == TLS_IO_DONE) {
        bool gone = false;
        conn->gone = &gone;
        enter_open(conn);
        if (gone)
            return;
        conn->gone = NULL;
        /* The first request may have come with the client's last flight. */
        if (conn->state == CONN_OPEN && !conn->paused && tls_conn_has_pending(conn->tls))
            event_active(&conn->read_event, EV_READ, 0);
        return;
    }
    if (!conn->ops->on_handshake_over) {
        conn_end(conn, &st);
        return;
    }
    /* The client must have read the alert before the socket is closed over unread data. */
    conn->failure = st;
    enter_linger(conn);
}

static void finish_connect(struct conn *conn)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    if (error) {
        struct status st;
        status_errno(&st, CODE_UNAVAILABLE, error, "cannot connect");
        conn_end(conn, &st);
        return;
    }
    (void)event_add(&conn->read_event, NULL);
    if (conn->tls) {
        conn->state = CONN_HANDSHAKE;
        do_handshake(conn);
    } else {
        enter_open(conn);
    }
}

/* --- events --------------------------------------------------------------------------------------------- */

static void on_readable(evutil_socket_t fd, short events, void *arg)
{
    (void)fd;
    (void)events;
    struct conn *conn = arg;
    if (conn->state == CONN_HANDSHAKE) {
        do_handshake(conn);
        return;
    }
    if (!read_some(conn))
        return;
    if (conn_pending(conn) > 0 || conn->state == CONN_CLOSING)
        (void)flush(conn);
}

static void on_writable(evutil_socket_t fd, short events, void *arg)
{
    (void)fd;
    (void)events;
    struct conn *conn = arg;
    bool kicked = conn->kicked;
    conn->kicked = false;
    if (conn->aborted) {
        struct status st;
        status_set(&st, CODE_CANCELLED, "connection closed by this side");
        conn_end(conn, &st);
        return;
    }
    if (conn->state == CONN_CONNECTING) {
        /* The kick took the one-shot registration with it. */
        if (kicked)
            (void)event_add(&conn->write_event, NULL);
        else
            finish_connect(conn);
    } else if (conn->state == CONN_HANDSHAKE) {
        do_handshake(conn);
    } else if (conn->state == CONN_OPEN || conn->state == CONN_CLOSING) {
        if (conn->read_wants_write) {
            conn->read_wants_write = false;
            if (!read_some(conn))
                return;
        }
        if (kicked && conn->state == CONN_OPEN && (!CALL(conn, on_kick, conn) || conn->state == CONN_ENDED))
            return;
        if (conn_pending(conn) > 0 || conn->state == CONN_CLOSING)
            (void)flush(conn);
    }
}

void conn_init(struct conn *conn, struct loop *loop, int fd, struct tls_conn *tls, bool connecting,
               int64_t write_timeout_ms, const struct conn_ops *ops)
{
    *conn = (struct conn){.ops = ops, .fd = fd, .tls = tls, .write_timeout_ms = write_timeout_ms};
    conn->base = loop_event_base(loop);
    buf_init(&conn->out, OUT_LIMIT);
    (void)event_assign(&conn->read_event, conn->base, fd, EV_READ | EV_PERSIST, on_readable, conn);
    (void)event_assign(&conn->write_event, conn->base, fd, EV_WRITE, on_writable, conn);
    (void)event_assign(&conn->timer_event, conn->base, -1, 0, on_timer, conn);
    conn->state = connecting ? CONN_CONNECTING : tls ? CONN_HANDSHAKE : CONN_OPEN;
    (void)event_add(connecting ? &conn->write_event : &conn->read_event, NULL);
}
