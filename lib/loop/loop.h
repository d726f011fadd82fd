/*
 * An event loop (libevent) that one thread runs, with one-shot timers, descriptor watches and signals.
 * Everything here is called on the loop's own thread, except mailbox_post (mailbox.h) and loop_stop.
 */
#ifndef CLM_LOOP_LOOP_H
#define CLM_LOOP_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct loop;
struct loop_timer;
struct loop_watch;
struct loop_signal;
struct event_base;

struct loop *loop_new(void);
void loop_free(struct loop *loop);                     /* after all that was made on it is freed */
void loop_run(struct loop *loop);                      /* until loop_stop */
void loop_stop(struct loop *loop);                     /* from any thread */
struct event_base *loop_event_base(struct loop *loop); /* for lib/http only */

/* A timer is made idle. Setting a pending timer moves it. */
struct loop_timer *loop_timer_new(struct loop *loop, void (*on_timer)(void *arg), void *arg);
void loop_timer_set(struct loop_timer *timer, int64_t delay_ms); /* < 0 counts as 0 */
void loop_timer_cancel(struct loop_timer *timer);
bool loop_timer_pending(const struct loop_timer *timer);
void loop_timer_free(struct loop_timer *timer); /* NULL is fine; allowed inside its own callback */

enum { LOOP_READ = 1, LOOP_WRITE = 2 };
/* Level-triggered watch of a descriptor that the caller owns; `events` may be changed, 0 pauses. */
struct loop_watch *loop_watch_new(struct loop *loop, int fd, int events,
                                  void (*on_ready)(int fd, int events, void *arg), void *arg);
void loop_watch_set(struct loop_watch *watch, int events);
void loop_watch_free(struct loop_watch *watch);

struct loop_signal *loop_signal_new(struct loop *loop, int signum, void (*on_signal)(int signum, void *arg),
                                    void *arg);
void loop_signal_free(struct loop_signal *signal);

#endif
