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

static enum code cancel(const char *task_id, struct task *ret)
{
    return task_cancel(&app, db, arena, task_id, "api-key:9", ret, &st);
}

static void what_no_agent_has_is_over_at_once(void **state)
{
    (void)state;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW), now;
    assert_ok(cancel(task.id, &now));
    assert_int_equal(now.state, STATE_CANCELLED);
    assert_true(now.finished_at_ms == FIXTURE_NOW);
    assert_ok(cancel(task.id, &now)); /* again: the same */
    assert_int_equal(now.version, 2);
    assert_int_equal(
        fixture_count("SELECT count(*) FROM outbox WHERE subject = 'clm.event.tasks.task.finished'"), 1);
    struct lease_request request = fixture_checkin(AGENT_A, 4);
    struct lease_answer answer;
    assert_ok(task_lease(&app, db, arena, &request, 1, &answer, &st));
    assert_int_equal(answer.n_deliveries, 0);
}

static void what_an_agent_has_is_asked_to_stop_and_its_receipt_decides(void **state)
{
    (void)state;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW), now;
    (void)fixture_lease(AGENT_A);
    n_woken = 0;
    assert_ok(cancel(task.id, &now));
    assert_int_equal(now.state, STATE_LEASED);
    assert_true(now.cancel_requested);
    assert_int_equal(n_woken, 1);
    assert_ok(cancel(task.id, &now));
    assert_int_equal(
        fixture_count("SELECT count(*) FROM outbox WHERE subject = 'clm.event.tasks.task.cancelling'"), 1);
    assert_ok(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false)); /* it was too late */
    assert_int_equal(fixture_get(task.id).state, STATE_SUCCEEDED);
}

static void what_has_ended_cannot_be_cancelled(void **state)
{
    (void)state;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW), now;
    (void)fixture_lease(AGENT_A);
    assert_ok(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false));
    assert_int_equal(cancel(task.id, &now), CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(st.msg, "SUCCEEDED"));
    assert_int_equal(cancel(NO_TASK, &now), CODE_NOT_FOUND);
}

static void held_task_that_was_cancelled_meanwhile_is_told_to_stop(void **state)
{
    (void)state;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW), now;
    (void)fixture_lease(AGENT_A);
    clock_advance(600001);
    assert_ok(task_sweep(&app, db, arena, &st));
    assert_ok(cancel(task.id, &now));
    assert_int_equal(now.state, STATE_CANCELLED);
    struct held_task held = {
        .agent_id = AGENT_A, .task_id = task.id, .attempt = 1, .progress_permille = -1, .started_at_ms = -1};
    struct lease_request request = fixture_checkin(AGENT_A, 4);
    request.held = &held;
    request.n_held = 1;
    struct lease_answer answer;
    assert_ok(task_lease(&app, db, arena, &request, 1, &answer, &st));
    assert_int_equal(answer.n_cancels, 1);
    assert_int_equal(fixture_get(task.id).state, STATE_CANCELLED);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_no_agent_has_is_over_at_once),
        T(what_an_agent_has_is_asked_to_stop_and_its_receipt_decides),
        T(what_has_ended_cannot_be_cancelled),
        T(held_task_that_was_cancelled_meanwhile_is_told_to_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
