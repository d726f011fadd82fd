/* Doubling growth inside a hard limit. Plain data, no thread of its own. */
#include "base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <string.h>

static size_t limit_of(const struct buf *buf)
{
    return buf->limit ? buf->limit : BUF_DEFAULT_LIMIT;
}

void buf_init(struct buf *buf, size_t limit)
{
    *buf = (struct buf){.limit = limit};
}

void buf_done(struct buf *buf)
{
    free(buf->data);
    buf->data = NULL;
    buf->len = buf->cap = 0;
}

void buf_reset(struct buf *buf)
{
    buf->len = 0;
    if (buf->data)
        buf->data[0] = 0;
}

/* Room for `more` bytes and the NUL. */
static bool reserve(struct buf *buf, size_t more)
{
    size_t limit = limit_of(buf);
    if (more > limit || buf->len > limit - more)
        return false;
    size_t need = buf->len + more + 1;
    if (need <= buf->cap)
        return true;
    size_t cap = buf->cap ? buf->cap : 64;
    while (cap < need)
        cap *= 2;
    if (cap > limit + 1)
        cap = limit + 1;
    uint8_t *data = realloc(buf->data, cap);
    if (!data)
        abort();
    buf->data = data;
    buf->cap = cap;
    return true;
}

bool buf_append(struct buf *buf, const void *data, size_t len)
{
    if (!reserve(buf, len))
        return false;
    if (len)
        memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = 0;
    return true;
}

bool buf_puts(struct buf *buf, const char *s)
{
    return buf_append(buf, s, strlen(s));
}

bool buf_printf(struct buf *buf, const char *fmt, ...)
{
    va_list ap, again;
    size_t room = buf->data ? buf->cap - buf->len : 0;
    va_start(ap, fmt);
    va_copy(again, ap);
    int len = vsnprintf(room ? (char *)buf->data + buf->len : NULL, room, fmt, ap);
    va_end(ap);
    bool fits = len >= 0 && ((size_t)len < room || reserve(buf, (size_t)len));
    if (fits && (size_t)len >= room)
        (void)vsnprintf((char *)buf->data + buf->len, (size_t)len + 1, fmt, again);
    va_end(again);
    if (fits)
        buf->len += (size_t)len;
    else if (room)
        buf->data[buf->len] = 0; /* nothing of it */
    return fits;
}

void buf_consume(struct buf *buf, size_t n)
{
    assert(n <= buf->len);
    if (!n)
        return;
    memmove(buf->data, buf->data + n, buf->len - n + 1);
    buf->len -= n;
}

const char *buf_text(const struct buf *buf)
{
    return buf->data ? (const char *)buf->data : "";
}

uint8_t *buf_take(struct buf *buf, size_t *ret_len)
{
    if (ret_len)
        *ret_len = buf->len;
    uint8_t *data = TAKE(buf->data);
    buf->len = buf->cap = 0;
    return data;
}
