#include "cmocka_all.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "loop/loop.h"

struct fixture {
    struct loop *loop;
    struct loop_timer *timer;
    struct loop_watch *watch;
    int fired, fds[2];
    char order[8];
};

static void note(struct fixture *f, char c)
{
    f->order[f->fired++] = c;
}

static void on_timer_a(void *arg)
{
    note(arg, 'a');
}

static void on_timer_stop(void *arg)
{
    struct fixture *f = arg;
    note(f, 's');
    loop_stop(f->loop);
}

static void on_timer_free_itself(void *arg)
{
    struct fixture *f = arg;
    note(f, 'f');
    loop_timer_free(TAKE(f->timer));
    loop_stop(f->loop);
}

static void timers_fire_once_in_order_of_time(void **state)
{
    (void)state;
    struct fixture f = {.loop = loop_new()};
    struct loop_timer *stop = loop_timer_new(f.loop, on_timer_stop, &f);
    struct loop_timer *a = loop_timer_new(f.loop, on_timer_a, &f);
    assert_false(loop_timer_pending(a));
    loop_timer_set(stop, 3);
    loop_timer_set(a, 1000);
    loop_timer_set(a, -5); /* moved, and at once */
    assert_true(loop_timer_pending(a));
    loop_run(f.loop);
    assert_string_equal(f.order, "as");
    assert_false(loop_timer_pending(a));
    loop_timer_free(a);
    loop_timer_free(stop);
    loop_free(f.loop);
}

static void cancelled_timer_does_not_fire(void **state)
{
    (void)state;
    struct fixture f = {.loop = loop_new()};
    struct loop_timer *stop = loop_timer_new(f.loop, on_timer_stop, &f);
    struct loop_timer *a = loop_timer_new(f.loop, on_timer_a, &f);
    loop_timer_set(a, 0);
    loop_timer_cancel(a);
    loop_timer_set(stop, 2);
    loop_run(f.loop);
    assert_string_equal(f.order, "s");
    loop_timer_free(a);
    loop_timer_free(stop);
    loop_free(f.loop);
}

static void timer_may_free_itself(void **state)
{
    (void)state;
    struct fixture f = {.loop = loop_new()};
    f.timer = loop_timer_new(f.loop, on_timer_free_itself, &f);
    loop_timer_set(f.timer, 0);
    loop_run(f.loop);
    assert_null(f.timer);
    loop_free(f.loop);
}

static void on_ready(int fd, int events, void *arg)
{
    struct fixture *f = arg;
    if (events & LOOP_WRITE) {
        note(f, 'w');
        assert_int_equal(write(f->fds[1], "x", 1), 1);
        loop_watch_set(f->watch, 0);
    } else {
        char c;
        assert_int_equal(read(fd, &c, 1), 1);
        note(f, 'r');
        loop_stop(f->loop);
    }
}

static void watch_reports_readiness_and_pauses(void **state)
{
    (void)state;
    struct fixture f = {.loop = loop_new()};
    assert_int_equal(pipe2(f.fds, O_NONBLOCK | O_CLOEXEC), 0);
    struct loop_watch *reader = loop_watch_new(f.loop, f.fds[0], LOOP_READ, on_ready, &f);
    f.watch = loop_watch_new(f.loop, f.fds[1], LOOP_WRITE, on_ready, &f);
    loop_run(f.loop);
    assert_string_equal(f.order, "wr");
    loop_watch_free(reader);
    loop_watch_free(f.watch);
    close(f.fds[0]);
    close(f.fds[1]);
    loop_free(f.loop);
}

static void on_signal(int signum, void *arg)
{
    struct fixture *f = arg;
    note(f, signum == SIGUSR1 ? 'u' : '?');
    loop_stop(f->loop);
}

static void signal_is_delivered_on_the_loop(void **state)
{
    (void)state;
    struct fixture f = {.loop = loop_new()};
    struct loop_signal *signal = loop_signal_new(f.loop, SIGUSR1, on_signal, &f);
    raise(SIGUSR1);
    loop_run(f.loop);
    assert_string_equal(f.order, "u");
    loop_signal_free(signal);
    loop_free(f.loop);
}

static void *stop_from_outside(void *arg)
{
    loop_stop(arg);
    return NULL;
}

static void another_thread_stops_an_idle_loop(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stop_from_outside, loop), 0);
    loop_run(loop);
    pthread_join(thread, NULL);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_once_in_order_of_time),
        cmocka_unit_test(cancelled_timer_does_not_fire),
        cmocka_unit_test(timer_may_free_itself),
        cmocka_unit_test(watch_reports_readiness_and_pauses),
        cmocka_unit_test(signal_is_delivered_on_the_loop),
        cmocka_unit_test(another_thread_stops_an_idle_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
