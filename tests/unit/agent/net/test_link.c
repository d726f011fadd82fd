/* How long the link waits, and what it takes from exec. */
#include "agent/net/link.h"

#include "cmocka_all.h"

static void ignore_frame(const Clm__Agent__Frame *frame, void *arg)
{
    (void)frame;
    (void)arg;
}

static void a_disabled_agent_asks_again_after_five_minutes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 200; i++) {
        int64_t ms = link_pause_ms(403, 0, i);
        assert_in_range(ms, 5 * 60 * 1000, 5 * 60 * 1000 * 3 / 2);
    }
}

static void retry_after_is_honoured_with_jitter_on_top(void **state)
{
    (void)state;
    int64_t least = INT64_MAX, most = 0;
    for (unsigned i = 0; i < 500; i++) {
        int64_t ms = link_pause_ms(503, 10000, i % 20);
        least = ms < least ? ms : least;
        most = ms > most ? ms : most;
    }
    assert_in_range(least, 10000, 15000);
    assert_in_range(most, 10000, 15000);
    assert_true(most - least > 2000);
    assert_in_range(link_pause_ms(503, INT64_C(100) * 3600 * 1000, 0), 3600 * 1000, 3600 * 1500);
}

static void backoff_grows_to_a_minute_and_never_is_nothing(void **state)
{
    (void)state;
    int64_t most = 0;
    for (unsigned i = 0; i < 2000; i++) {
        int64_t ms = link_pause_ms(500, 0, 40);
        assert_in_range(ms, 250, 60250);
        most = ms > most ? ms : most;
        assert_in_range(link_pause_ms(0, 0, 0), 250, 750);
    }
    assert_true(most > 30000);
}

static void what_exec_sends_without_sense_is_refused(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct link_config config = {.on_frame = ignore_frame};
    struct link *link = link_new(loop, &config);
    struct status st;
    Clm__Agent__Result result = CLM__AGENT__RESULT__INIT;
    Clm__Agent__Sign sign = CLM__AGENT__SIGN__INIT;
    Clm__Agent__Identity identity = CLM__AGENT__IDENTITY__INIT;
    assert_int_equal(link_send_result(link, &result, &st), CODE_INVALID_ARGUMENT);
    assert_int_equal(link_send_sign(link, &sign, &st), CODE_INVALID_ARGUMENT);
    identity.gateway = (char *)(uintptr_t) "no port";
    assert_int_equal(link_set_identity(link, &identity, NULL, &st), CODE_INVALID_ARGUMENT);
    link_free(link);
    loop_free(loop);
}

static void the_queue_is_bounded_and_a_page_is_queued_once(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct link_config config = {.on_frame = ignore_frame};
    struct link *link = link_new(loop, &config);
    struct status st;
    Clm__ResultRequest request = CLM__RESULT_REQUEST__INIT;
    Clm__Agent__Result result = CLM__AGENT__RESULT__INIT;
    result.task_id = (char *)(uintptr_t) "019a0000-0000-7000-8000-0000000000aa";
    result.request = &request;
    request.has_attempt = request.has_page = 1;
    request.page = 1;
    for (uint32_t i = 0; i < 64; i++) {
        request.attempt = i;
        assert_int_equal(link_send_result(link, &result, &st), CODE_OK);
        assert_int_equal(link_send_result(link, &result, &st), CODE_OK);
    }
    request.attempt = 64;
    assert_int_equal(link_send_result(link, &result, &st), CODE_RESOURCE_EXHAUSTED);
    link_free(link);
    loop_free(loop);
}

static void a_clock_is_measured_only_while_both_clocks_go_alike(void **state)
{
    (void)state;
    assert_true(link_time_counts(30000, 30000));
    assert_true(link_time_counts(30000, 31500)); /* a clock that is being slewed */
    /* Suspended for an hour with the answer on its way: it says nothing about our clock. */
    assert_false(link_time_counts(4000, 4000 + 3600 * 1000));
    /* The clock was set back by an hour meanwhile: the next check-in measures. */
    assert_false(link_time_counts(30000, 30000 - 3600 * 1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_disabled_agent_asks_again_after_five_minutes),
        cmocka_unit_test(retry_after_is_honoured_with_jitter_on_top),
        cmocka_unit_test(backoff_grows_to_a_minute_and_never_is_nothing),
        cmocka_unit_test(what_exec_sends_without_sense_is_refused),
        cmocka_unit_test(a_clock_is_measured_only_while_both_clocks_go_alike),
        cmocka_unit_test(the_queue_is_bounded_and_a_page_is_queued_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
