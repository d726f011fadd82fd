/* Frames over a socketpair; any thread, one at a time per descriptor. Plain read(2) and write(2), which are
 * all that the confined signer has; both processes ignore SIGPIPE. */
#include "frame.h"

#include <errno.h>
#include <unistd.h>

static enum code lost(int errnum, const char *what, struct status *st)
{
    if (errnum == EAGAIN || errnum == EWOULDBLOCK)
        return status_set(st, CODE_DEADLINE_EXCEEDED, "%s: no answer in time", what);
    return status_errno(st, CODE_UNAVAILABLE, errnum, "%s", what);
}

static enum code send_all(int fd, const uint8_t *at, size_t len, struct status *st)
{
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return lost(errno, "cannot write to the socket", st);
        at += n;
        len -= (size_t)n;
    }
    return CODE_OK;
}

static enum code receive_all(int fd, uint8_t *at, size_t len, struct status *st)
{
    while (len > 0) {
        ssize_t n = read(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return lost(errno, "cannot read from the socket", st);
        if (n == 0)
            return status_set(st, CODE_UNAVAILABLE, "the other side closed the socket");
        at += n;
        len -= (size_t)n;
    }
    return CODE_OK;
}

enum code frame_send(int fd, const void *data, size_t len, struct status *st)
{
    if (len > FRAME_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "a frame of %zu bytes is too large", len);
    uint8_t head[4] = {(uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len};
    TRY(send_all(fd, head, sizeof(head), st));
    return send_all(fd, data, len, st);
}

enum code frame_receive(int fd, struct arena *arena, const uint8_t **ret, size_t *ret_len, struct status *st)
{
    uint8_t head[4];
    TRY(receive_all(fd, head, sizeof(head), st));
    size_t len = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
    if (len > FRAME_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "a frame of %zu bytes is too large", len);
    uint8_t *body = arena_alloc(arena, len > 0 ? len : 1);
    TRY(receive_all(fd, body, len, st));
    *ret = body;
    *ret_len = len;
    return CODE_OK;
}
