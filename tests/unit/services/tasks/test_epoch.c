/* Leases after a restore from a backup. */
#include "fixture.h"

static struct fixture_agent a;

static int setup(void **state)
{
    (void)fixture_setup(state);
    a = fixture_agent(AGENT_A);
    return 0;
}

static int teardown(void **state)
{
    fixture_agent_free(&a);
    return fixture_teardown(state);
}

static uint64_t epoch;

static uint32_t begin(int64_t restored_at_ms)
{
    uint32_t voided;
    assert_ok(tasks_begin_epoch(&app, db, arena, ++epoch, restored_at_ms, &voided, &st));
    return voided;
}

static void lease_of_before_the_restore_returns_with_its_attempt_and_a_new_number(void **state)
{
    (void)state;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    (void)fixture_lease(AGENT_A);
    struct task before = fixture_get(task.id);
    assert_int_equal(before.state, STATE_LEASED);
    assert_int_equal(begin(clock_wall_ms() - 1), 0); /* leased after it */
    assert_int_equal(fixture_get(task.id).state, STATE_LEASED);
    assert_int_equal(begin(clock_wall_ms()), 1);
    struct task now = fixture_get(task.id);
    assert_int_equal(now.state, STATE_READY);
    assert_int_equal(now.attempt, before.attempt);
    assert_true(now.lease > before.lease + 1);
    assert_int_equal(begin(clock_wall_ms()), 0);
    assert_int_equal(
        fixture_count("SELECT count(*) FROM outbox WHERE subject = 'clm.event.tasks.task.returned'"), 1);
    (void)fixture_lease(AGENT_A);
    assert_int_equal(fixture_get(task.id).state, STATE_LEASED);
}

static void task_that_was_to_be_cancelled_is(void **state)
{
    (void)state;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW), cancelled;
    (void)fixture_lease(AGENT_A);
    assert_ok(task_cancel(&app, db, arena, task.id, "api-key:7", &cancelled, &st));
    assert_int_equal(begin(clock_wall_ms()), 1);
    assert_int_equal(fixture_get(task.id).state, STATE_CANCELLED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lease_of_before_the_restore_returns_with_its_attempt_and_a_new_number,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(task_that_was_to_be_cancelled_is, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
