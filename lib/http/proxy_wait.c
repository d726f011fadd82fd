/* See proxy_wait.h. What follows the header is TLS's or HTTP's to read, so each read asks for no more than is
 * missing. */
#include "http/proxy_wait.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void be_over(struct proxy_wait *wait, const struct proxy_source *source)
{
    int fd = wait->fd;
    wait->fd = -1;
    loop_watch_set(wait->watch, 0);
    loop_timer_cancel(wait->timer);
    wait->on_over(wait, fd, source, wait->arg);
}

static void on_readable(int fd, int events, void *arg)
{
    (void)events;
    struct proxy_wait *wait = arg;
    for (;;) {
        struct proxy_source source;
        ssize_t n = recv(fd, wait->data + wait->len, wait->need - wait->len, 0);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            return;
        if (n <= 0) {
            be_over(wait, NULL);
            return;
        }
        wait->len += (size_t)n;
        enum proxy_result result = proxy_parse(wait->data, wait->len, &source, &wait->need);
        if (result == PROXY_MORE)
            continue;
        be_over(wait, result == PROXY_COMPLETE ? &source : NULL);
        return;
    }
}

static void on_timeout(void *arg)
{
    be_over(arg, NULL);
}

struct proxy_wait *proxy_wait_new(struct loop *loop, int fd, const char *peer, int64_t timeout_ms,
                                  void (*on_over)(struct proxy_wait *wait, int fd,
                                                  const struct proxy_source *source, void *arg),
                                  void *arg)
{
    struct proxy_wait *wait = calloc(1, sizeof(*wait));
    if (!wait)
        abort();
    (void)snprintf(wait->peer, sizeof(wait->peer), "%s", peer);
    wait->fd = fd;
    wait->need = PROXY_FIXED_BYTES;
    wait->on_over = on_over;
    wait->arg = arg;
    wait->watch = loop_watch_new(loop, fd, LOOP_READ, on_readable, wait);
    wait->timer = loop_timer_new(loop, on_timeout, wait);
    loop_timer_set(wait->timer, timeout_ms);
    return wait;
}

void proxy_wait_free(struct proxy_wait *wait)
{
    if (!wait)
        return;
    loop_watch_free(wait->watch);
    loop_timer_free(wait->timer);
    if (wait->fd >= 0)
        (void)close(wait->fd);
    free(wait);
}
