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

static enum code retry(const char *task_id, struct task *ret)
{
    return task_retry(&app, db, arena, task_id, "api-key:9", ret, &st);
}

static void what_failed_is_done_once_more_as_the_next_attempt(void **state)
{
    (void)state;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW), now;
    assert_int_equal(retry(task.id, &now), CODE_FAILED_PRECONDITION); /* it has not ended */
    (void)fixture_lease(AGENT_A);
    assert_ok(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__FAILED, false));
    task = fixture_get(task.id);
    assert_int_equal(task.state, STATE_FAILED);
    assert_ok(retry(task.id, &now));
    assert_int_equal(now.state, STATE_SCHEDULED);
    assert_int_equal(now.attempt, 2);
    assert_true(now.finished_at_ms == -1 && now.version == task.version + 1);
    assert_int_equal(
        fixture_count("SELECT count(*) FROM outbox WHERE subject = 'clm.event.tasks.task.retried'"), 1);
    assert_ok(task_sweep(&app, db, arena, &st));
    assert_int_equal(fixture_get(task.id).state, STATE_READY);
    (void)fixture_lease(AGENT_A);
    assert_ok(fixture_submit(&a, task.id, 2, CLM__RECEIPT__OUTCOME__SUCCEEDED, false));
    assert_int_equal(fixture_get(task.id).state, STATE_SUCCEEDED);
    assert_int_equal(retry(task.id, &now), CODE_FAILED_PRECONDITION);
    struct attempt *attempts;
    size_t n;
    assert_ok(task_attempts(db, arena, task.id, &attempts, &n, &st));
    assert_int_equal(n, 2);
    assert_int_equal(attempts[0].outcome, CLM__RECEIPT__OUTCOME__FAILED);
    assert_int_equal(attempts[1].attempt, 2);
}

static void what_was_cancelled_may_be_retried_and_runs_to_a_new_deadline(void **state)
{
    (void)state;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW), now;
    assert_ok(cancel(task.id, &now));
    assert_ok(retry(task.id, &now));
    assert_int_equal(now.attempt, 2);
    assert_false(now.cancel_requested);
    assert_true(now.deadline_at_ms >= task.deadline_at_ms);
    assert_int_equal(task_retry(&app, db, arena, NO_TASK, "api-key:9", &now, &st), CODE_NOT_FOUND);
}

/* A retry by itself moves the earliest start; the operator's retry gives the whole time again. */
static void retried_task_has_as_much_time_as_at_first(void **state)
{
    (void)state;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW), now;
    clock_advance(3599000); /* of an hour */
    (void)fixture_lease(AGENT_A);
    assert_ok(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__FAILED, true));
    assert_int_equal(fixture_get(task.id).state, STATE_SCHEDULED);
    clock_advance(1001);
    assert_ok(task_sweep(&app, db, arena, &st));
    assert_int_equal(fixture_get(task.id).state, STATE_EXPIRED);
    assert_ok(retry(task.id, &now));
    assert_true(now.deadline_at_ms == clock_wall_ms() + 3600000);
    assert_ok(task_sweep(&app, db, arena, &st));
    assert_int_equal(fixture_get(task.id).state, STATE_READY);
}

static unsigned fetches;

static enum code fetch(struct tasks *tasks, struct db *session, struct arena *memory, const char *agent_id,
                       struct status *why)
{
    (void)tasks;
    (void)session;
    (void)memory;
    (void)why;
    fetches++;
    fixture_agent_state(agent_id, 6, false, false, (struct bytes){0});
    return CODE_OK;
}

/* The event of an enabling may still be on its way here. */
static void retry_that_the_agents_state_refuses_is_held_against_the_registry(void **state)
{
    (void)state;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW), now;
    assert_ok(cancel(task.id, &now));
    fixture_agent_column(AGENT_A, SAFE_DISABLED);
    fetches = 0;
    assert_int_equal(retry(task.id, &now), CODE_FAILED_PRECONDITION);
    app.fetch_agent = fetch;
    assert_ok(retry(task.id, &now));
    assert_int_equal(now.attempt, 2);
    assert_int_equal(retry(task.id, &now),
                     CODE_FAILED_PRECONDITION); /* it has not ended: no news of the agent helps */
    assert_int_equal(fetches, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_no_agent_has_is_over_at_once),
        T(what_an_agent_has_is_asked_to_stop_and_its_receipt_decides),
        T(what_has_ended_cannot_be_cancelled),
        T(held_task_that_was_cancelled_meanwhile_is_told_to_stop),
        T(what_failed_is_done_once_more_as_the_next_attempt),
        T(what_was_cancelled_may_be_retried_and_runs_to_a_new_deadline),
        T(retried_task_has_as_much_time_as_at_first),
        T(retry_that_the_agents_state_refuses_is_held_against_the_registry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
