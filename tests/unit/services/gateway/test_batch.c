/* The loop runs for real, on no time at all: pauses are 0 or so long that a test would not end if they were
 * waited for. */
#include "cmocka_all.h"

#include "gateway/batch.h"

#define LONG_MS (24 * 3600 * 1000)

struct fixture {
    struct loop *loop;
    struct loop_timer *stop;
    struct batch *batch;
    unsigned sends;
};

static void on_send(void *arg)
{
    struct fixture *f = arg;
    f->sends++;
}

static void on_stop(void *arg)
{
    struct fixture *f = arg;
    loop_stop(f->loop);
}

static void start(struct fixture *f, int64_t pause_ms)
{
    *f = (struct fixture){.loop = loop_new()};
    f->batch = batch_new(f->loop, pause_ms, on_send, f);
    f->stop = loop_timer_new(f->loop, on_stop, f);
}

/* Lets everything that is due happen. */
static void turn(struct fixture *f)
{
    loop_timer_set(f->stop, 1);
    loop_run(f->loop);
}

static void finish(struct fixture *f)
{
    batch_free(f->batch);
    loop_timer_free(f->stop);
    loop_free(f->loop);
}

static void idle_batcher_sends_at_once(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, LONG_MS);
    batch_wake(f.batch, false);
    assert_int_equal(f.sends, 1);
    finish(&f);
}

static void nothing_is_sent_while_a_request_is_under_way(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 0);
    batch_wake(f.batch, false);
    batch_wake(f.batch, true);
    batch_wake(f.batch, false);
    assert_int_equal(f.sends, 1);
    batch_sent(f.batch, true, 0);
    assert_int_equal(f.sends, 2);
    batch_sent(f.batch, false, 0);
    assert_int_equal(f.sends, 2);
    finish(&f);
}

static void pause_holds_back_what_is_not_urgent(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, LONG_MS);
    batch_wake(f.batch, false);
    batch_sent(f.batch, true, 0);
    turn(&f);
    assert_int_equal(f.sends, 1);
    batch_wake(f.batch, true);
    assert_int_equal(f.sends, 2);
    finish(&f);
}

static void urgency_that_came_meanwhile_skips_the_pause(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, LONG_MS);
    batch_wake(f.batch, false);
    batch_wake(f.batch, true);
    batch_sent(f.batch, true, 0);
    assert_int_equal(f.sends, 2);
    finish(&f);
}

static void failed_send_waits_even_for_urgent_items(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 0);
    batch_wake(f.batch, false);
    batch_sent(f.batch, true, LONG_MS);
    batch_wake(f.batch, true);
    turn(&f);
    assert_int_equal(f.sends, 1);
    finish(&f);
}

static void retry_comes_by_itself(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 0);
    batch_wake(f.batch, false);
    batch_sent(f.batch, false, 1);
    loop_timer_set(f.stop, 20);
    loop_run(f.loop);
    assert_int_equal(f.sends, 2);
    finish(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_batcher_sends_at_once),
        cmocka_unit_test(nothing_is_sent_while_a_request_is_under_way),
        cmocka_unit_test(pause_holds_back_what_is_not_urgent),
        cmocka_unit_test(urgency_that_came_meanwhile_skips_the_pause),
        cmocka_unit_test(failed_send_waits_even_for_urgent_items),
        cmocka_unit_test(retry_comes_by_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
