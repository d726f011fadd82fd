/*
 * Thin ownership over libevent: each object holds one event. All on the loop's thread but loop_stop, which
 * only sets a flag and writes an eventfd.
 */
#include "loop/loop.h"

#include <event2/event.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"

struct loop {
    struct event_base *base;
    struct event *stop_event;
    int stop_fd;
};

static void on_stop(evutil_socket_t fd, short events, void *arg)
{
    (void)events;
    struct loop *loop = arg;
    eventfd_t count;
    (void)eventfd_read(fd, &count);
    (void)event_base_loopbreak(loop->base);
}

struct loop *loop_new(void)
{
    struct loop *loop = must(calloc(1, sizeof(*loop)));
    struct event_config *config = must(event_config_new());
    /* One thread owns the base; the only cross-thread way in is a descriptor. */
    (void)event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    loop->base = must(event_base_new_with_config(config));
    event_config_free(config);
    loop->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->stop_fd < 0)
        abort();
    loop->stop_event = must(event_new(loop->base, loop->stop_fd, EV_READ | EV_PERSIST, on_stop, loop));
    (void)event_add(loop->stop_event, NULL);
    return loop;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    event_free(loop->stop_event);
    (void)close(loop->stop_fd);
    event_base_free(loop->base);
    free(loop);
}

void loop_run(struct loop *loop)
{
    (void)event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY);
}

void loop_stop(struct loop *loop)
{
    (void)eventfd_write(loop->stop_fd, 1);
}

struct event_base *loop_event_base(struct loop *loop)
{
    return loop->base;
}

struct loop_timer {
    struct event *event;
    void (*on_timer)(void *arg);
    void *arg;
};

static void on_timer_event(evutil_socket_t fd, short events, void *arg)
{
    (void)fd;
    (void)events;
    /* The callback may free the timer: nothing of it is touched afterwards. */
    struct loop_timer *timer = arg;
    timer->on_timer(timer->arg);
}

struct loop_timer *loop_timer_new(struct loop *loop, void (*on_timer)(void *arg), void *arg)
{
    struct loop_timer *timer = must(calloc(1, sizeof(*timer)));
    timer->on_timer = on_timer;
    timer->arg = arg;
    timer->event = must(event_new(loop->base, -1, 0, on_timer_event, timer));
    return timer;
}

void loop_timer_set(struct loop_timer *timer, int64_t delay_ms)
{
    if (delay_ms < 0)
        delay_ms = 0;
    struct timeval tv = {.tv_sec = delay_ms / 1000, .tv_usec = delay_ms % 1000 * 1000};
    (void)event_add(timer->event, &tv);
}

void loop_timer_cancel(struct loop_timer *timer)
{
    (void)event_del(timer->event);
}

bool loop_timer_pending(const struct loop_timer *timer)
{
    return event_pending(timer->event, EV_TIMEOUT, NULL) != 0;
}

void loop_timer_free(struct loop_timer *timer)
{
    if (!timer)
        return;
    event_free(timer->event);
    free(timer);
}

struct loop_watch {
    struct loop *loop;
    struct event *event;
    int fd, events;
    void (*on_ready)(int fd, int events, void *arg);
    void *arg;
};

static void on_watch_event(evutil_socket_t fd, short events, void *arg)
{
    struct loop_watch *watch = arg;
    int ready = (events & EV_READ ? LOOP_READ : 0) | (events & EV_WRITE ? LOOP_WRITE : 0);
    watch->on_ready(fd, ready, watch->arg);
}

void loop_watch_set(struct loop_watch *watch, int events)
{
    if (watch->events == events)
        return;
    (void)event_del(watch->event);
    watch->events = events;
    if (!events)
        return;
    short flags =
        (short)(EV_PERSIST | (events & LOOP_READ ? EV_READ : 0) | (events & LOOP_WRITE ? EV_WRITE : 0));
    (void)event_assign(watch->event, watch->loop->base, watch->fd, flags, on_watch_event, watch);
    (void)event_add(watch->event, NULL);
}

struct loop_watch *loop_watch_new(struct loop *loop, int fd, int events,
                                  void (*on_ready)(int fd, int events, void *arg), void *arg)
{
    struct loop_watch *watch = must(calloc(1, sizeof(*watch)));
    *watch = (struct loop_watch){.loop = loop, .fd = fd, .on_ready = on_ready, .arg = arg};
    watch->event = must(event_new(loop->base, fd, EV_PERSIST, on_watch_event, watch));
    loop_watch_set(watch, events);
    return watch;
}

void loop_watch_free(struct loop_watch *watch)
{
    if (!watch)
        return;
    event_free(watch->event);
    free(watch);
}

struct loop_signal {
    struct event *event;
    void (*on_signal)(int signum, void *arg);
    void *arg;
};

static void on_signal_event(evutil_socket_t fd, short events, void *arg)
{
    (void)events;
    struct loop_signal *signal = arg;
    signal->on_signal(fd, signal->arg);
}

struct loop_signal *loop_signal_new(struct loop *loop, int signum, void (*on_signal)(int signum, void *arg),
                                    void *arg)
{
    struct loop_signal *signal = must(calloc(1, sizeof(*signal)));
    signal->on_signal = on_signal;
    signal->arg = arg;
    signal->event = must(evsignal_new(loop->base, signum, on_signal_event, signal));
    (void)event_add(signal->event, NULL);
    return signal;
}

void loop_signal_free(struct loop_signal *signal)
{
    if (!signal)
        return;
    event_free(signal->event);
    free(signal);
}
