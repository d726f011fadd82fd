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

static void sweep(void)
{
    assert_ok(task_sweep(&app, db, arena, &st));
}

static void ready_task_past_its_deadline_expires(void **state)
{
    (void)state;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    clock_advance(3599999);
    sweep();
    assert_int_equal(fixture_get(task.id).state, STATE_READY);
    clock_advance(1);
    struct lease_request request = fixture_checkin(AGENT_A, 4);
    struct lease_answer answer;
    assert_ok(task_lease(&app, db, arena, &request, 1, &answer, &st));
    assert_int_equal(answer.n_deliveries, 0); /* too late, swept or not */
    sweep();
    struct task now = fixture_get(task.id);
    assert_int_equal(now.state, STATE_EXPIRED);
    assert_non_null(strstr(now.message, "deadline"));
    assert_int_equal(
        fixture_count("SELECT count(*) FROM outbox WHERE subject = 'clm.event.tasks.task.finished'"), 1);
}

static void held_task_past_its_deadline_does_not_expire(void **state)
{
    (void)state;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    (void)fixture_lease(AGENT_A);
    clock_advance(3600001);
    struct held_task held = {
        .agent_id = AGENT_A, .task_id = task.id, .attempt = 1, .progress_permille = -1, .started_at_ms = -1};
    struct lease_request request = fixture_checkin(AGENT_A, 4);
    request.held = &held;
    request.n_held = 1;
    struct lease_answer answer;
    assert_ok(task_lease(&app, db, arena, &request, 1, &answer, &st));
    sweep();
    assert_int_equal(fixture_get(task.id).state, STATE_RUNNING);
}

static void lease_of_a_silent_agent_returns_without_counting_an_attempt(void **state)
{
    (void)state;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    (void)fixture_lease(AGENT_A);
    clock_advance(600000);
    sweep();
    assert_int_equal(fixture_get(task.id).state, STATE_LEASED);
    clock_advance(1);
    sweep();
    struct task now = fixture_get(task.id);
    assert_int_equal(now.state, STATE_READY);
    assert_int_equal(now.attempt, 1);
    struct delivery again = fixture_lease(AGENT_A);
    assert_int_equal(again.attempt, 1);
    assert_int_equal(again.lease, 2);
}

static void silent_agents_cancelled_task_is_over(void **state)
{
    (void)state;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW), cancelled;
    (void)fixture_lease(AGENT_A);
    assert_ok(task_cancel(&app, db, arena, task.id, "api-key:1", &cancelled, &st));
    clock_advance(600001);
    sweep();
    assert_int_equal(fixture_get(task.id).state, STATE_CANCELLED);
    assert_true(fixture_get(task.id).finished_at_ms == FIXTURE_NOW + 600001);
}

static void agent_that_comes_back_with_its_task_has_it_again(void **state)
{
    (void)state;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    (void)fixture_lease(AGENT_A);
    clock_advance(600001);
    sweep();
    struct held_task held = {
        .agent_id = AGENT_A, .task_id = task.id, .attempt = 1, .progress_permille = -1, .started_at_ms = -1};
    struct lease_request request = fixture_checkin(AGENT_A, 4);
    request.held = &held;
    request.n_held = 1;
    request.first_of_connection = true;
    struct lease_answer answer;
    assert_ok(task_lease(&app, db, arena, &request, 1, &answer, &st));
    assert_int_equal(answer.n_deliveries, 0);
    assert_int_equal(fixture_get(task.id).state, STATE_RUNNING);
    assert_int_equal(fixture_get(task.id).lease, 1);
}

static void pages_without_a_receipt_are_dropped_after_a_day(void **state)
{
    (void)state;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    (void)fixture_lease(AGENT_A);
    struct result_submission page = {.agent_id = AGENT_A,
                                     .task_id = task.id,
                                     .attempt = 1,
                                     .page = 1,
                                     .has_data = true,
                                     .data = {(const uint8_t *)"x", 1}};
    bool finished;
    assert_ok(task_submit_result(&app, db, arena, &page, &finished, &st));
    sweep();
    assert_int_equal(fixture_count("SELECT count(*) FROM result_pages"), 1);
    clock_advance(86400001);
    sweep();
    assert_int_equal(fixture_count("SELECT count(*) FROM result_pages"), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(ready_task_past_its_deadline_expires),
        T(held_task_past_its_deadline_does_not_expire),
        T(lease_of_a_silent_agent_returns_without_counting_an_attempt),
        T(silent_agents_cancelled_task_is_over),
        T(agent_that_comes_back_with_its_task_has_it_again),
        T(pages_without_a_receipt_are_dropped_after_a_day),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
