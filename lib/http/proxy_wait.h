/* Internal to lib/http: reads a PROXY header, and not a byte more, from a socket that was just accepted. */
#ifndef CLM_HTTP_PROXY_WAIT_H
#define CLM_HTTP_PROXY_WAIT_H

#include <sys/queue.h>

#include "http/proxy.h"
#include "loop/loop.h"

struct proxy_wait {
    LIST_ENTRY(proxy_wait) link; /* the caller's */
    char peer[INET6_ADDRSTRLEN]; /* the balancer */
    int fd;                      /* owned until it is handed over */
    struct loop_watch *watch;
    struct loop_timer *timer;
    uint8_t data[PROXY_MAX_BYTES];
    size_t len, need;
    /* source NULL: there was no proper header in time; the fd is the caller's in either case. Comes once,
     * from the loop; the caller frees the wait. */
    void (*on_over)(struct proxy_wait *wait, int fd, const struct proxy_source *source, void *arg);
    void *arg;
};

struct proxy_wait *proxy_wait_new(struct loop *loop, int fd, const char *peer, int64_t timeout_ms,
                                  void (*on_over)(struct proxy_wait *wait, int fd,
                                                  const struct proxy_source *source, void *arg),
                                  void *arg);
void proxy_wait_free(struct proxy_wait *wait); /* closes the fd if it still has it */

#endif
