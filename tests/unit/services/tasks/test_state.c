#include "cmocka_all.h"

#include "state.h"

static void only_the_last_five_states_are_terminal(void **state)
{
    (void)state;
    for (enum task_state s = STATE_SCHEDULED; s <= STATE_EXPIRED; s++)
        assert_int_equal(task_state_is_terminal(s), s >= STATE_SUCCEEDED);
}

static void nothing_leaves_a_terminal_state(void **state)
{
    (void)state;
    for (enum task_state from = STATE_SUCCEEDED; from <= STATE_EXPIRED; from++)
        for (enum task_state to = STATE_SCHEDULED; to <= STATE_EXPIRED; to++)
            assert_false(task_state_may_follow(from, to));
}

static void what_an_agent_has_cannot_expire(void **state)
{
    (void)state;
    int64_t from[STATE_COUNT];
    assert_int_equal(task_state_sources(STATE_EXPIRED, from), 2);
    assert_int_equal(from[0], STATE_SCHEDULED);
    assert_int_equal(from[1], STATE_READY);
}

static void a_scheduled_task_is_never_leased_directly(void **state)
{
    (void)state;
    assert_false(task_state_may_follow(STATE_SCHEDULED, STATE_LEASED));
    assert_false(task_state_may_follow(STATE_SCHEDULED, STATE_RUNNING));
    assert_true(task_state_may_follow(STATE_SCHEDULED, STATE_READY));
    assert_true(task_state_may_follow(STATE_READY, STATE_LEASED));
}

static void a_lost_lease_returns_and_is_given_again(void **state)
{
    (void)state;
    assert_true(task_state_may_follow(STATE_LEASED, STATE_LEASED));
    assert_true(task_state_may_follow(STATE_RUNNING, STATE_LEASED));
    assert_true(task_state_may_follow(STATE_LEASED, STATE_READY));
    assert_true(task_state_may_follow(STATE_RUNNING, STATE_READY));
}

static void backoff_grows_and_stays_below_its_cap(void **state)
{
    (void)state;
    int64_t most_first = 0, most_late = 0;
    for (int i = 0; i < 2000; i++) {
        int64_t first = task_kind_backoff_ms(KIND_RENEW, 2), late = task_kind_backoff_ms(KIND_RENEW, 19);
        assert_true(first >= 0 && first <= 10 * 1000);
        assert_true(late >= 0 && late <= 30 * 60 * 1000);
        most_first = first > most_first ? first : most_first;
        most_late = late > most_late ? late : most_late;
    }
    assert_true(most_late > most_first);
}

static void every_kind_and_state_has_its_name(void **state)
{
    (void)state;
    assert_string_equal(task_state_name(STATE_INSTALLED_UNVERIFIED), "INSTALLED_UNVERIFIED");
    assert_string_equal(task_kind_name(KIND_DISCOVER), "DISCOVER");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_last_five_states_are_terminal),
        cmocka_unit_test(nothing_leaves_a_terminal_state),
        cmocka_unit_test(what_an_agent_has_cannot_expire),
        cmocka_unit_test(a_scheduled_task_is_never_leased_directly),
        cmocka_unit_test(a_lost_lease_returns_and_is_given_again),
        cmocka_unit_test(backoff_grows_and_stays_below_its_cap),
        cmocka_unit_test(every_kind_and_state_has_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
