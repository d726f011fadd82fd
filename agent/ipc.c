/*
 * Framing between the agent's processes. A struct ipc belongs to one loop's thread; the blocking functions
 * are for children that run one job without a loop.
 */
#include "agent/ipc.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "wire/wire.h"

#define HEADER      4u
#define READ_CHUNK  (16u * 1024u)
#define QUEUE_SLACK (1024u * 1024u) /* beyond one frame: a peer that does not read is broken */

static uint32_t header_get(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

enum code ipc_decode(struct buf *in, const ProtobufCMessageDescriptor *desc, size_t max_frame,
                     struct arena *arena, ProtobufCMessage **ret, struct status *st)
{
    *ret = NULL;
    if (in->len < HEADER)
        return CODE_OK;
    uint32_t len = header_get(in->data);
    if (len > max_frame)
        return status_set(st, CODE_INVALID_ARGUMENT, "frame of %u bytes, %zu are allowed", len, max_frame);
    if (in->len - HEADER < len)
        return CODE_OK;
    TRY(wire_unpack(desc, in->data + HEADER, len, arena, ret, st));
    buf_consume(in, HEADER + len);
    return CODE_OK;
}

enum code ipc_encode(const ProtobufCMessage *msg, size_t max_frame, struct buf *out, struct status *st)
{
    size_t len = protobuf_c_message_get_packed_size(msg);
    if (len > max_frame)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "%s of %zu bytes, a frame holds %zu",
                          msg->descriptor->short_name, len, max_frame);
    AUTO_FREE uint8_t *frame = malloc(HEADER + len);
    if (!frame)
        abort();
    frame[0] = (uint8_t)(len >> 24);
    frame[1] = (uint8_t)(len >> 16);
    frame[2] = (uint8_t)(len >> 8);
    frame[3] = (uint8_t)len;
    (void)protobuf_c_message_pack(msg, frame + HEADER);
    bool fits = buf_append(out, frame, HEADER + len);
    explicit_bzero(frame, HEADER + len); /* it may be a token */
    if (!fits)
        return status_set(st, CODE_RESOURCE_EXHAUSTED,
                          "the peer process does not read: %zu bytes are waiting", out->len);
    return CODE_OK;
}

struct ipc {
    struct loop *loop;
    int fd;
    const ProtobufCMessageDescriptor *desc;
    size_t max_frame;
    void (*on_frame)(const ProtobufCMessage *msg, void *arg);
    void (*on_closed)(const struct status *why, void *arg);
    void *arg;
    struct loop_watch *watch;
    struct loop_timer *fail_timer; /* a failed send is told from the loop, never from inside ipc_send */
    struct buf in, out;
    struct status failed; /* code OK while the channel is good */
    bool *freed;          /* set when the channel is freed inside a callback */
};

static void ipc_fail(struct ipc *ipc, const struct status *why)
{
    if (ipc->failed.code != CODE_OK)
        return;
    ipc->failed = *why;
    loop_watch_set(ipc->watch, 0);
    loop_timer_set(ipc->fail_timer, 0);
}

static void on_fail_timer(void *arg)
{
    struct ipc *ipc = arg;
    struct status why = ipc->failed; /* outlives the channel, which may be freed inside */
    ipc->on_closed(&why, ipc->arg);
}

static void flush(struct ipc *ipc)
{
    while (ipc->out.len > 0) {
        ssize_t n = send(ipc->fd, ipc->out.data, ipc->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (n < 0) {
            struct status st;
            (void)status_errno(&st, CODE_UNAVAILABLE, errno, "cannot write to the peer process");
            ipc_fail(ipc, &st);
            return;
        }
        buf_consume(&ipc->out, (size_t)n);
    }
    if (ipc->out.len == 0 && ipc->out.cap > READ_CHUNK)
        buf_done(&ipc->out); /* the agent rests in little memory */
    loop_watch_set(ipc->watch, LOOP_READ | (ipc->out.len > 0 ? LOOP_WRITE : 0));
}

/* False if the channel is gone or done for. */
static bool deliver(struct ipc *ipc)
{
    bool freed = false;
    ipc->freed = &freed;
    while (ipc->failed.code == CODE_OK) {
        AUTO_ARENA struct arena *arena = arena_new();
        ProtobufCMessage *msg;
        struct status st;
        if (ipc_decode(&ipc->in, ipc->desc, ipc->max_frame, arena, &msg, &st) != CODE_OK) {
            ipc_fail(ipc, &st);
            break;
        }
        if (!msg)
            break;
        ipc->on_frame(msg, ipc->arg);
        if (freed)
            return false;
    }
    ipc->freed = NULL;
    if (ipc->in.len == 0 && ipc->in.cap > READ_CHUNK)
        buf_done(&ipc->in);
    return ipc->failed.code == CODE_OK;
}

static void on_ready(int fd, int events, void *arg)
{
    struct ipc *ipc = arg;
    if (events & LOOP_WRITE)
        flush(ipc);
    if (!(events & LOOP_READ) || ipc->failed.code != CODE_OK)
        return;
    uint8_t chunk[READ_CHUNK];
    ssize_t n = recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK))
        return;
    struct status st;
    if (n <= 0) {
        (void)(n == 0 ? status_set(&st, CODE_UNAVAILABLE, "the peer process is gone")
                      : status_errno(&st, CODE_UNAVAILABLE, errno, "cannot read from the peer process"));
        ipc_fail(ipc, &st);
        return;
    }
    if (!buf_append(&ipc->in, chunk, (size_t)n)) {
        (void)status_set(&st, CODE_INVALID_ARGUMENT, "frame longer than %zu bytes", ipc->max_frame);
        ipc_fail(ipc, &st);
        return;
    }
    (void)deliver(ipc);
}

struct ipc *ipc_new(struct loop *loop, const struct ipc_config *config)
{
    struct ipc *ipc = calloc(1, sizeof(*ipc));
    if (!ipc)
        abort();
    ipc->loop = loop;
    ipc->fd = config->fd;
    ipc->desc = config->desc;
    ipc->max_frame = config->max_frame;
    ipc->on_frame = config->on_frame;
    ipc->on_closed = config->on_closed;
    ipc->arg = config->arg;
    buf_init(&ipc->in, HEADER + config->max_frame + READ_CHUNK);
    buf_init(&ipc->out, HEADER + config->max_frame + QUEUE_SLACK);
    (void)fcntl(ipc->fd, F_SETFL, fcntl(ipc->fd, F_GETFL) | O_NONBLOCK);
    ipc->watch = loop_watch_new(loop, ipc->fd, LOOP_READ, on_ready, ipc);
    ipc->fail_timer = loop_timer_new(loop, on_fail_timer, ipc);
    return ipc;
}

void ipc_free(struct ipc *ipc)
{
    if (!ipc)
        return;
    if (ipc->freed)
        *ipc->freed = true;
    loop_watch_free(ipc->watch);
    loop_timer_free(ipc->fail_timer);
    buf_done(&ipc->in);
    buf_done(&ipc->out);
    (void)close(ipc->fd);
    free(ipc);
}

void ipc_send(struct ipc *ipc, const ProtobufCMessage *msg)
{
    if (ipc->failed.code != CODE_OK)
        return;
    struct status st;
    if (ipc_encode(msg, ipc->max_frame, &ipc->out, &st) != CODE_OK) {
        ipc_fail(ipc, &st);
        return;
    }
    flush(ipc);
}

enum code ipc_write(int fd, const ProtobufCMessage *msg, size_t max_frame, struct status *st)
{
    AUTO_BUF struct buf out;
    buf_init(&out, HEADER + max_frame);
    TRY(ipc_encode(msg, max_frame, &out, st));
    enum code code = fd_write_all(fd, out.data, out.len, st);
    explicit_bzero(out.data, out.cap);
    return code;
}

enum code ipc_read(int fd, struct buf *in, const ProtobufCMessageDescriptor *desc, size_t max_frame,
                   int64_t timeout_ms, struct arena *arena, ProtobufCMessage **ret, struct status *st)
{
    int64_t until = timeout_ms < 0 ? INT64_MAX : clock_mono_ms() + timeout_ms;
    for (;;) {
        TRY(ipc_decode(in, desc, max_frame, arena, ret, st));
        if (*ret)
            return CODE_OK;
        int64_t left = timeout_ms < 0 ? -1 : until - clock_mono_ms();
        struct pollfd pfd = {.fd = fd, .events = POLLIN};
        int ready = poll(&pfd, 1, left < 0 ? (timeout_ms < 0 ? -1 : 0) : (int)(left > 60000 ? 60000 : left));
        if (ready < 0 && errno != EINTR)
            return status_errno(st, CODE_INTERNAL, errno, "cannot wait for the peer process");
        if (ready <= 0) {
            if (timeout_ms >= 0 && clock_mono_ms() >= until)
                return status_set(st, CODE_DEADLINE_EXCEEDED, "no answer from the peer process in %lld ms",
                                  (long long)timeout_ms);
            continue;
        }
        uint8_t chunk[READ_CHUNK];
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return status_errno(st, CODE_UNAVAILABLE, errno, "cannot read from the peer process");
        if (n == 0)
            return status_set(st, CODE_UNAVAILABLE, "the peer process is gone");
        if (!buf_append(in, chunk, (size_t)n))
            return status_set(st, CODE_INVALID_ARGUMENT, "frame longer than %zu bytes", max_frame);
    }
}
