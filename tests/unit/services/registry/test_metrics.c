/* Samples of hosts on a real PostgreSQL: newest, means, rings. */
#include "cmocka_all.h"

#include "fixture.h"
#include "metrics.h"

#define MINUTE 60000
#define HOUR   (60 * MINUTE)
#define DAY    (24LL * HOUR)

static void beat(const char *id, int64_t now_ms, int64_t cpu, const char *encoded)
{
    struct metrics_sample sample = {.cpu_permille = cpu,
                                    .load1_milli = 2 * cpu,
                                    .memory_used = 100 + cpu,
                                    .memory_total = 1000,
                                    .disk_used = 10,
                                    .disk_total = 20,
                                    .uptime_sec = 5,
                                    .encoded = {(const uint8_t *)encoded, strlen(encoded)}};
    struct heartbeat one = {
        .agent_id = id, .received_at_ms = now_ms, .interval_ms = 30000, .metrics = &sample};
    struct status st = {0};
    assert_int_equal(
        heartbeats_report(fixture_db, &fixture_timing, now_ms, "g1", "e1", &one, 1, fixture_arena, &st),
        CODE_OK);
}

static struct metrics_history history(const char *id, int64_t period_sec, int64_t now_ms)
{
    struct metrics_history out;
    struct status st = {0};
    assert_int_equal(metrics_get(fixture_db, "", id, period_sec, now_ms, fixture_arena, &out, &st), CODE_OK);
    return out;
}

static void samples_of_a_step_become_one_point(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    beat(id, T0, 100, "a");
    beat(id, T0 + MINUTE, 300, "b");
    beat(id, T0 + 11 * MINUTE, 500, "c");
    struct metrics_history h = history(id, 0, T0 + 12 * MINUTE);
    assert_int_equal(h.step_sec, 600);
    assert_int_equal(h.n, 2);
    assert_int_equal(h.points[0].at_ms, T0);
    assert_int_equal(h.points[0].samples, 2);
    assert_int_equal(h.points[0].cpu_sum, 400);
    assert_int_equal(h.points[0].cpu_max, 300);
    assert_int_equal(h.points[0].load_sum, 800);
    assert_int_equal(h.points[0].memory_used, 400);
    assert_int_equal(h.points[1].samples, 1);
    assert_int_equal(h.points[1].cpu_max, 500);
    assert_int_equal(h.latest_at_ms, T0 + 11 * MINUTE);
    assert_memory_equal(h.latest.data, "c", 1);
}

static void history_is_bounded_and_a_day_later_the_slot_begins_anew(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    for (int64_t at = T0; at < T0 + 3 * DAY; at += 30 * MINUTE)
        beat(id, at, 100, "x");
    assert_int_equal(fixture_number("SELECT count(*) FROM metrics WHERE ring = 0"), 48);
    assert_int_equal(fixture_number("SELECT count(*) FROM metrics WHERE ring = 1"), 36);
    assert_int_equal(fixture_number("SELECT max(samples) FROM metrics WHERE ring = 0"), 1);
    assert_int_equal(fixture_number("SELECT max(samples) FROM metrics WHERE ring = 1"), 4);
    struct metrics_history day = history(id, 24 * 3600, T0 + 3 * DAY - 1);
    assert_int_equal(day.n, 48);
    struct metrics_history weeks = history(id, 14 * 24 * 3600, T0 + 3 * DAY);
    assert_int_equal(weeks.step_sec, 7200);
    assert_int_equal(weeks.n, 36);
    for (size_t i = 1; i < weeks.n; i++)
        assert_int_equal(weeks.points[i].at_ms - weeks.points[i - 1].at_ms, 2 * HOUR);
}

static void slots_that_were_not_written_for_long_are_not_shown(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    beat(id, T0, 100, "x");
    assert_int_equal(history(id, 3600, T0 + 30 * MINUTE).n, 1);
    assert_int_equal(history(id, 3600, T0 + 2 * HOUR).n, 0);
    assert_int_equal(history(id, 0, T0 + 20 * DAY).n, 0);
}

static void a_late_sample_changes_neither_the_newest_nor_a_later_step(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    beat(id, T0 + 30 * MINUTE, 100, "new");
    beat(id, T0, 900, "old");
    beat(id, T0 + 30 * MINUTE - DAY, 900, "older"); /* its slot holds a later step now */
    struct metrics_history h = history(id, 0, T0 + 40 * MINUTE);
    assert_int_equal(h.n, 2);
    assert_int_equal(h.points[1].cpu_max, 100);
    assert_memory_equal(h.latest.data, "new", 3);
}

static void unknown_values_and_unknown_agents_do_no_harm(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    struct metrics_sample nothing = {-1, -1, -1, -1, -1, -1, -1, {(const uint8_t *)"", 0}};
    struct heartbeat beats[] = {
        {.agent_id = id, .received_at_ms = T0, .metrics = &nothing},
        {.agent_id = "0198c0de-0000-7000-8000-00000000dead", .received_at_ms = T0, .metrics = &nothing},
        {.agent_id = fixture_agent("web2", "prod"), .received_at_ms = T0},
    };
    struct status st = {0};
    assert_int_equal(
        heartbeats_report(fixture_db, &fixture_timing, T0, "g1", "e1", beats, 3, fixture_arena, &st),
        CODE_OK);
    struct metrics_history h = history(id, 0, T0 + 1);
    assert_int_equal(h.n, 1);
    assert_int_equal(h.points[0].cpu_samples, 0);
    assert_int_equal(h.points[0].cpu_max, -1);
    assert_int_equal(h.points[0].memory_used, -1);
    assert_int_equal(fixture_number("SELECT count(*) FROM metrics_latest"), 1);
}

static void newest_sample_is_shown_for_an_hour(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    struct bytes latest;
    int64_t at;
    struct status st = {0};
    beat(id, T0, 100, "x");
    assert_int_equal(metrics_latest(fixture_db, id, T0 + HOUR, fixture_arena, &latest, &at, &st), CODE_OK);
    assert_non_null(latest.data);
    assert_int_equal(at, T0);
    assert_int_equal(metrics_latest(fixture_db, id, T0 + HOUR + 1, fixture_arena, &latest, &at, &st),
                     CODE_OK);
    assert_null(latest.data);
}

static void another_operators_agent_has_no_metrics_and_the_period_has_an_end(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    struct metrics_history h;
    struct status st = {0};
    assert_int_equal(metrics_get(fixture_db, "env=test", id, 0, T0, fixture_arena, &h, &st), CODE_NOT_FOUND);
    assert_int_equal(metrics_get(fixture_db, "", id, METRICS_PERIOD_MAX_SEC + 1, T0, fixture_arena, &h, &st),
                     CODE_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(samples_of_a_step_become_one_point, fixture_reset),
        cmocka_unit_test_setup(history_is_bounded_and_a_day_later_the_slot_begins_anew, fixture_reset),
        cmocka_unit_test_setup(slots_that_were_not_written_for_long_are_not_shown, fixture_reset),
        cmocka_unit_test_setup(a_late_sample_changes_neither_the_newest_nor_a_later_step, fixture_reset),
        cmocka_unit_test_setup(unknown_values_and_unknown_agents_do_no_harm, fixture_reset),
        cmocka_unit_test_setup(newest_sample_is_shown_for_an_hour, fixture_reset),
        cmocka_unit_test_setup(another_operators_agent_has_no_metrics_and_the_period_has_an_end,
                               fixture_reset),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
