/* Frames over a socketpair; any thread, one at a time per descriptor. Plain read(2) and write(2), which are
 * all that the confined signer has; both processes ignore SIGPIPE. */
#include "frame.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define HEAD_BYTES  4u
#define SMALL_BYTES 4096u

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

/* At most size bytes, at least one. */
static enum code receive_some(int fd, uint8_t *at, size_t size, size_t *ret_len, struct status *st)
{
    ssize_t n;
    do
        n = read(fd, at, size);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return lost(errno, "cannot read from the socket", st);
    if (n == 0)
        return status_set(st, CODE_UNAVAILABLE, "the other side closed the socket");
    *ret_len = (size_t)n;
    return CODE_OK;
}

static enum code receive_more(int fd, uint8_t *at, size_t have, size_t want, struct status *st)
{
    while (have < want) {
        size_t n;
        TRY(receive_some(fd, at + have, want - have, &n, st));
        have += n;
    }
    return CODE_OK;
}

enum code frame_send(int fd, const void *data, size_t len, struct status *st)
{
    uint8_t small[HEAD_BYTES + SMALL_BYTES];
    uint8_t *head = small;
    if (len > FRAME_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "a frame of %zu bytes is too large", len);
    for (size_t i = 0; i < HEAD_BYTES; i++)
        head[i] = (uint8_t)(len >> (8 * (HEAD_BYTES - 1 - i)));
    if (len > SMALL_BYTES) {
        TRY(send_all(fd, head, HEAD_BYTES, st));
        return send_all(fd, data, len, st);
    }
    /* In one piece the other side wakes up once. */
    if (len > 0)
        memcpy(small + HEAD_BYTES, data, len);
    return send_all(fd, small, HEAD_BYTES + len, st);
}

/* The first read takes what is there: there is only one frame under way each way, so it can be no more than
 * that one. */
enum code frame_receive(int fd, struct arena *arena, const uint8_t **ret, size_t *ret_len, struct status *st)
{
    uint8_t first[HEAD_BYTES + SMALL_BYTES];
    size_t have;
    TRY(receive_some(fd, first, sizeof(first), &have, st));
    if (have < HEAD_BYTES) {
        TRY(receive_more(fd, first, have, HEAD_BYTES, st));
        have = HEAD_BYTES;
    }
    size_t len = (size_t)first[0] << 24 | (size_t)first[1] << 16 | (size_t)first[2] << 8 | first[3];
    if (len > FRAME_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "a frame of %zu bytes is too large", len);
    have -= HEAD_BYTES;
    if (have > len)
        return status_set(st, CODE_INVALID_ARGUMENT, "%zu bytes behind a frame that was not answered yet",
                          have - len);
    uint8_t *body = arena_alloc(arena, len > 0 ? len : 1);
    if (have > 0)
        memcpy(body, first + HEAD_BYTES, have);
    TRY(receive_more(fd, body, have, len, st));
    *ret = body;
    *ret_len = len;
    return CODE_OK;
}
