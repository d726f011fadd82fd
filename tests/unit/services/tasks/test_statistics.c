/* What became of tasks is kept as they end: it equals a count, whatever way they ended. */
#include "fixture.h"

static struct fixture_agent a, b;

static int setup(void **state)
{
    (void)fixture_setup(state);
    a = fixture_agent(AGENT_A);
    b = fixture_agent(AGENT_B);
    return 0;
}

static int teardown(void **state)
{
    fixture_agent_free(&a);
    fixture_agent_free(&b);
    return fixture_teardown(state);
}

static int64_t scanned(const char *what)
{
    return fixture_count(what);
}

/* Days and hours together hold each end once; agents' counts, too. */
static void equals_a_scan(void)
{
    struct task_period *hours, *days;
    struct job_statistics *jobs;
    size_t n_hours, n_days, n_jobs;
    int64_t by_state[STATE_COUNT + 1] = {0}, in_days = 0, of_agents = 0;
    assert_ok(tasks_statistics(db, arena, clock_wall_ms(), &hours, &n_hours, &days, &n_days, &st));
    for (size_t i = 0; i < n_days; i++)
        for (int state = STATE_SUCCEEDED; state <= STATE_COUNT; state++) {
            by_state[state] += days[i].n[state];
            in_days += days[i].n[state];
        }
    assert_int_equal(by_state[STATE_SUCCEEDED], scanned("SELECT count(*) FROM tasks WHERE state = 5"));
    assert_int_equal(by_state[STATE_INSTALLED_UNVERIFIED],
                     scanned("SELECT count(*) FROM tasks WHERE state = 6"));
    assert_int_equal(by_state[STATE_FAILED], scanned("SELECT count(*) FROM tasks WHERE state = 7"));
    assert_int_equal(by_state[STATE_CANCELLED], scanned("SELECT count(*) FROM tasks WHERE state = 8"));
    assert_int_equal(by_state[STATE_EXPIRED], scanned("SELECT count(*) FROM tasks WHERE state = 9"));
    for (size_t i = 1; i < n_hours; i++)
        assert_true(hours[i].at_ms > hours[i - 1].at_ms && hours[i].at_ms % 3600000 == 0);
    static const char *const agents[] = {AGENT_A, AGENT_B};
    for (size_t i = 0; i < ARRAY_LEN(agents); i++) {
        assert_ok(tasks_agent_jobs(db, arena, agents[i], &jobs, &n_jobs, &st));
        for (size_t k = 0; k < n_jobs; k++)
            of_agents +=
                jobs[k].succeeded + jobs[k].unverified + jobs[k].failed + jobs[k].cancelled + jobs[k].expired;
    }
    struct task_counts counts;
    assert_ok(tasks_by_state(db, arena, clock_wall_ms(), &counts, &st));
    for (int state = STATE_SCHEDULED; state < STATE_SUCCEEDED; state++)
        assert_int_equal(counts.n[state],
                         scanned(arena_printf(arena, "SELECT count(*) FROM tasks WHERE state = %d", state)));
    assert_int_equal(of_agents, in_days);
    assert_int_equal(of_agents, scanned("SELECT count(*) FROM tasks WHERE finished_at IS NOT NULL"));
}

static void end_one(unsigned way, const struct fixture_agent *agent, const char *agent_id)
{
    struct task task = fixture_task(agent_id, way % 2 ? CLM__TASK__KIND__RENEW : CLM__TASK__KIND__VALIDATE),
                ended;
    switch (way % 5) {
    case 0:
        assert_ok(task_cancel(&app, db, arena, task.id, "api-key:7", &ended, &st));
        break;
    case 1:
        clock_advance(3600001); /* its deadline */
        assert_ok(task_sweep(&app, db, arena, &st));
        break;
    case 2:
        (void)fixture_lease(agent_id);
        clock_advance(1500);
        assert_ok(fixture_submit(agent, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false));
        break;
    case 3:
        (void)fixture_lease(agent_id);
        assert_ok(fixture_submit(agent, task.id, 1, CLM__RECEIPT__OUTCOME__FAILED, false));
        break;
    default:
        (void)fixture_lease(agent_id);
        assert_ok(fixture_submit(agent, task.id, 1, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED, false));
        break;
    }
    /* Once more changes nothing. */
    if (way % 5 >= 2)
        assert_ok(fixture_submit(agent, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false));
}

static void every_way_to_end_is_counted_once(void **state)
{
    (void)state;
    equals_a_scan();
    for (unsigned i = 0; i < 25; i++) {
        end_one(i * 7 + i / 5, i % 3 ? &a : &b, i % 3 ? AGENT_A : AGENT_B);
        if (i % 10 == 5)
            assert_ok(tasks_statistics_fold(db, arena, clock_wall_ms(), &st));
        if (i % 5 == 4)
            equals_a_scan();
    }
    assert_ok(tasks_statistics_fold(db, arena, clock_wall_ms(), &st));
    equals_a_scan();
    assert_int_equal(fixture_count("SELECT count(*) FROM task_tallies"),
                     fixture_count("SELECT count(DISTINCT (period, at, state)) FROM task_tallies"));
}

static void states_that_are_no_ends_are_counted_at_every_step(void **state)
{
    (void)state;
    (void)fixture_task(AGENT_A, CLM__TASK__KIND__VALIDATE);
    for (unsigned i = 0; i < 5; i++)
        (void)fixture_task(AGENT_B, CLM__TASK__KIND__VALIDATE);
    equals_a_scan();
    (void)fixture_lease(AGENT_A);
    equals_a_scan();
    assert_true(scanned("SELECT count(*) FROM tasks WHERE state = 3") > 0);
    assert_ok(tasks_statistics_fold(db, arena, clock_wall_ms(), &st));
    equals_a_scan();
}

static void agent_shows_its_last_result_and_durations_by_kind(void **state)
{
    (void)state;
    struct job_statistics *jobs;
    size_t n;
    assert_ok(tasks_agent_jobs(db, arena, AGENT_A, &jobs, &n, &st));
    assert_int_equal(n, 0);
    end_one(2, &a, AGENT_A);
    end_one(4, &a, AGENT_A);
    struct task last = fixture_task(AGENT_A, CLM__TASK__KIND__VALIDATE), ended;
    assert_ok(task_cancel(&app, db, arena, last.id, "api-key:7", &ended, &st));
    assert_ok(tasks_agent_jobs(db, arena, AGENT_A, &jobs, &n, &st));
    assert_int_equal(n, 1);
    assert_int_equal(jobs[0].kind, KIND_VALIDATE);
    assert_int_equal(jobs[0].succeeded + jobs[0].unverified, 2);
    assert_int_equal(jobs[0].cancelled, 1);
    assert_string_equal(jobs[0].last_task_id, last.id);
    assert_int_equal(jobs[0].last_state, STATE_CANCELLED);
    assert_int_equal(jobs[0].last_ms, -1);
    assert_non_null(strstr(jobs[0].last_message, "cancelled"));
    assert_int_equal(jobs[0].timed, 0); /* the receipts said no begin */

    struct task timed = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    (void)fixture_lease(AGENT_A);
    int64_t began = clock_wall_ms();
    clock_advance(1500);
    (void)fixture_count(
        arena_printf(arena,
                     "WITH t AS (UPDATE tasks SET started_at = to_timestamp(%lld / 1000.0) WHERE id "
                     "= '%s' RETURNING 1) SELECT count(*) FROM t",
                     (long long)began, timed.id));
    assert_ok(fixture_submit(&a, timed.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false));
    assert_ok(tasks_agent_jobs(db, arena, AGENT_A, &jobs, &n, &st));
    assert_int_equal(n, 2);
    assert_int_equal(jobs[0].kind, KIND_RENEW);
    assert_int_equal(jobs[0].timed, 1);
    assert_int_equal(jobs[0].total_ms, 1500);
    assert_int_equal(jobs[0].longest_ms, 1500);
    assert_int_equal(jobs[0].last_ms, 1500);
}

static void old_periods_are_forgotten(void **state)
{
    (void)state;
    struct task_period *hours, *days;
    size_t n_hours, n_days;
    end_one(0, &a, AGENT_A);
    clock_advance(INT64_C(3) * 24 * 3600 * 1000);
    assert_ok(tasks_statistics_fold(db, arena, clock_wall_ms(), &st));
    assert_ok(tasks_statistics(db, arena, clock_wall_ms(), &hours, &n_hours, &days, &n_days, &st));
    assert_int_equal(n_hours, 0);
    assert_int_equal(n_days, 1);
    assert_int_equal(fixture_count("SELECT count(*) FROM task_tallies"), 1);
    clock_advance(INT64_C(70) * 24 * 3600 * 1000);
    assert_ok(tasks_statistics_fold(db, arena, clock_wall_ms(), &st));
    assert_int_equal(fixture_count("SELECT count(*) FROM task_tallies"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_way_to_end_is_counted_once, setup, teardown),
        cmocka_unit_test_setup_teardown(states_that_are_no_ends_are_counted_at_every_step, setup, teardown),
        cmocka_unit_test_setup_teardown(agent_shows_its_last_result_and_durations_by_kind, setup, teardown),
        cmocka_unit_test_setup_teardown(old_periods_are_forgotten, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
