/* Heartbeats, silence and the sweep on a real PostgreSQL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"

static enum agent_status status_of(const char *id)
{
    return fixture_get(id).status;
}

static void first_heartbeat_brings_an_agent_online(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    assert_int_equal(status_of(id), AGENT_BOOTSTRAPPING);
    fixture_beat(id, T0 + 1000);
    struct agent agent = fixture_get(id);
    assert_int_equal(agent.status, AGENT_ONLINE);
    assert_int_equal(agent.version, 2);
    assert_int_equal(agent.last_heartbeat_at_ms, T0 + 1000);
    assert_int_equal(agent.bootstrapped_at_ms, T0 + 1000);
    assert_int_equal(
        fixture_number("SELECT count(*) FROM outbox WHERE subject = 'clm.event.registry.agent.changed'"), 1);
}

static void heartbeat_that_changes_nothing_writes_no_event(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    fixture_beat(id, T0 + 1000);
    int64_t events = fixture_number("SELECT count(*) FROM outbox");
    fixture_beat(id, T0 + 2000);
    struct agent agent = fixture_get(id);
    assert_int_equal(agent.version, 2);
    assert_int_equal(agent.last_heartbeat_at_ms, T0 + 2000);
    assert_int_equal(fixture_number("SELECT count(*) FROM outbox"), events);
}

static void newest_of_an_agent_in_a_batch_wins_and_keeps_the_facts(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    struct heartbeat beats[] = {
        {.agent_id = id, .received_at_ms = T0 + 900, .interval_ms = 60000, .generation = 1},
        {.agent_id = id,
         .received_at_ms = T0 + 500,
         .interval_ms = 30000,
         .facts = {(const uint8_t *)"facts", 5},
         .agent_version = "1.2"},
        {.agent_id = "0198c0de-0000-7000-8000-00000000dead", .received_at_ms = T0 + 500},
    };
    struct status st = {0};
    assert_int_equal(
        heartbeats_report(fixture_db, &fixture_timing, T0 + 1000, "g1", "e1", beats, 3, fixture_arena, &st),
        CODE_OK);
    struct agent agent = fixture_get(id);
    assert_int_equal(agent.last_heartbeat_at_ms, T0 + 900);
    assert_int_equal(agent.generation, 1);
    assert_string_equal(agent.agent_version, "1.2");
    assert_int_equal(agent.facts.len, 5);
    assert_int_equal(fixture_number("SELECT interval_ms FROM heartbeats"), 60000);
}

static void a_former_identity_that_knocks_after_the_new_one_hides_nothing(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    struct heartbeat beats[] = {
        {.agent_id = id, .received_at_ms = T0 + 500, .interval_ms = 30000, .generation = 1},
        {.agent_id = id, .received_at_ms = T0 + 900, .interval_ms = 30000, .generation = 0},
    };
    struct status st = {0};
    assert_int_equal(
        heartbeats_report(fixture_db, &fixture_timing, T0 + 1000, "g1", "e1", beats, 2, fixture_arena, &st),
        CODE_OK);
    assert_int_equal(fixture_get(id).generation, 1);
}

static void safe_mode_is_told_with_its_reason_and_left_again(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    struct heartbeat beat = {
        .agent_id = id, .interval_ms = 30000, .safe_mode = true, .safe_mode_reason = "CLOCK"};
    struct status st = {0};
    assert_int_equal(
        heartbeats_report(fixture_db, &fixture_timing, T0 + 1000, "g1", "e1", &beat, 1, fixture_arena, &st),
        CODE_OK);
    struct agent agent = fixture_get(id);
    assert_int_equal(agent.status, AGENT_SAFE_MODE);
    assert_string_equal(agent_reason(&agent), "CLOCK");
    fixture_beat(id, T0 + 2000);
    agent = fixture_get(id);
    assert_int_equal(agent.status, AGENT_ONLINE);
    assert_false(agent.safe_mode);
}

static void bad_row_is_dropped_and_the_others_count(void **state)
{
    (void)state;
    const char *a = fixture_agent("a", "prod"), *b = fixture_agent("b", "prod"),
               *c = fixture_agent("c", "prod");
    struct heartbeat beats[] = {
        {.agent_id = a, .interval_ms = 30000},
        {.agent_id = "not-a-uuid", .interval_ms = 30000},
        {.agent_id = b, .interval_ms = 30000},
        {.agent_id = c, .interval_ms = 30000},
    };
    struct status st = {0};
    assert_int_equal(
        heartbeats_report(fixture_db, &fixture_timing, T0 + 1000, "g1", "e1", beats, 4, fixture_arena, &st),
        CODE_OK);
    assert_int_equal(status_of(a), AGENT_ONLINE);
    assert_int_equal(status_of(b), AGENT_ONLINE);
    assert_int_equal(status_of(c), AGENT_ONLINE);
}

/* The platform lives: gateway g1 reports and the sweep runs each second, up to and with `until`. */
static void live(int64_t from, int64_t until)
{
    for (int64_t t = from; t <= until; t += 1000) {
        fixture_empty_beat("g1", "e1", t);
        fixture_sweep(t);
    }
}

static void agent_is_offline_after_three_intervals_and_not_before(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    fixture_beat(id, T0);
    live(T0 + 1000, T0 + 89000);
    assert_int_equal(status_of(id), AGENT_ONLINE);
    live(T0 + 90000, T0 + 90000);
    assert_int_equal(status_of(id), AGENT_OFFLINE);
    fixture_beat(id, T0 + 91000);
    assert_int_equal(status_of(id), AGENT_ONLINE);
}

static void silence_does_not_count_while_the_gateway_is_away(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    fixture_beat(id, T0);
    /* Its gateway is gone, another is there: window and three intervals from its last word. */
    for (int64_t t = T0 + 1000; t < T0 + 150000 + 90000; t += 1000) {
        fixture_empty_beat("g2", "e2", t);
        fixture_sweep(t);
    }
    assert_int_equal(status_of(id), AGENT_ONLINE);
    fixture_empty_beat("g2", "e2", T0 + 150000 + 90000);
    fixture_sweep(T0 + 150000 + 90000);
    assert_int_equal(status_of(id), AGENT_OFFLINE);
}

/* All gateways gone, or the bus: nobody could have spoken, however long it takes. */
static void silence_does_not_count_while_no_gateway_is_heard(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    const int64_t back = T0 + 3600000;
    fixture_beat(id, T0);
    for (int64_t t = T0 + 1000; t < back; t += 1000)
        fixture_sweep(t);
    assert_int_equal(status_of(id), AGENT_ONLINE);
    live(back, back + 150000 + 89000);
    assert_int_equal(status_of(id), AGENT_ONLINE);
    live(back + 150000 + 90000, back + 150000 + 91000);
    assert_int_equal(status_of(id), AGENT_OFFLINE);
}

static void gateway_that_comes_back_gives_its_agents_a_window(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    fixture_beat(id, T0);
    for (int64_t t = T0 + 1000; t <= T0 + 60000; t += 1000)
        fixture_sweep(t);
    live(T0 + 61000, T0 + 61000 + 150000 + 89000);
    assert_int_equal(status_of(id), AGENT_ONLINE);
    live(T0 + 61000 + 150000 + 90000, T0 + 61000 + 150000 + 90000);
    assert_int_equal(status_of(id), AGENT_OFFLINE);
}

static void restarted_gateway_gives_its_agents_a_window(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    fixture_beat(id, T0);
    live(T0 + 1000, T0 + 60000);
    fixture_empty_beat("g1", "e2", T0 + 61000);
    for (int64_t t = T0 + 61000; t <= T0 + 120000; t += 1000) {
        fixture_empty_beat("g1", "e2", t);
        fixture_sweep(t);
    }
    assert_int_equal(status_of(id), AGENT_ONLINE);
}

static void platform_that_was_away_gives_everybody_a_window(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    fixture_beat(id, T0);
    fixture_sweep(T0 + 1000);
    int64_t back = T0 + 3600000;
    live(back, back + 150000 + 89000);
    assert_int_equal(status_of(id), AGENT_ONLINE);
    live(back + 150000 + 90000, back + 150000 + 90000);
    assert_int_equal(status_of(id), AGENT_OFFLINE);
}

static void offline_agent_stays_so_when_a_window_opens(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    fixture_beat(id, T0);
    live(T0 + 1000, T0 + 91000);
    assert_int_equal(status_of(id), AGENT_OFFLINE);
    live(T0 + 3600000, T0 + 3605000);
    const struct cause cause = fixture_cause(T0 + 3605000);
    struct status st = {0};
    assert_int_equal(db_begin(fixture_db, &st), CODE_OK);
    assert_int_equal(agent_identity_confirmed(fixture_db, &cause, id, 3, fixture_arena, &st), CODE_OK);
    assert_int_equal(db_commit(fixture_db, &st), CODE_OK);
    assert_int_equal(status_of(id), AGENT_OFFLINE);
}

static void identity_past_its_end_makes_an_agent_expired(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    const struct cause cause = fixture_cause(T0);
    struct status st = {0};
    assert_int_equal(agent_identity_issued(fixture_db, &cause, id, 0, "ab", T0 + 5000, fixture_arena, &st),
                     CODE_OK);
    fixture_beat(id, T0 + 1000);
    live(T0 + 2000, T0 + 4000);
    assert_int_equal(status_of(id), AGENT_ONLINE);
    live(T0 + 5000, T0 + 5000);
    assert_int_equal(status_of(id), AGENT_EXPIRED);
    /* What it does not have yet helps it nothing. */
    const struct cause later = fixture_cause(T0 + 6000);
    assert_int_equal(agent_identity_issued(fixture_db, &later, id, 1, "cd", T0 + 9000000, fixture_arena, &st),
                     CODE_OK);
    assert_int_equal(status_of(id), AGENT_EXPIRED);
    assert_string_equal(fixture_get(id).identity_fingerprint, "ab");
    assert_int_equal(agent_identity_confirmed(fixture_db, &later, id, 1, fixture_arena, &st), CODE_OK);
    assert_int_equal(status_of(id), AGENT_ONLINE);
    assert_string_equal(fixture_get(id).identity_fingerprint, "cd");
    assert_int_equal(fixture_get(id).identity_not_after_ms, T0 + 9000000);
}

/* A renewal whose answer cannot be installed: the pair is issued, and the one in use ends all the same. */
static void a_renewal_that_was_never_installed_does_not_hide_the_end(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    const struct cause cause = fixture_cause(T0);
    struct status st = {0};
    assert_int_equal(agent_identity_issued(fixture_db, &cause, id, 0, "ab", T0 + 5000, fixture_arena, &st),
                     CODE_OK);
    assert_int_equal(agent_identity_confirmed(fixture_db, &cause, id, 0, fixture_arena, &st), CODE_OK);
    fixture_beat(id, T0 + 1000);
    for (int i = 0; i < 3; i++) /* other keys, the same generation */
        assert_int_equal(agent_identity_issued(fixture_db, &cause, id, 1, i == 1 ? "cd" : "ef", T0 + 9000000,
                                               fixture_arena, &st),
                         CODE_OK);
    assert_string_equal(fixture_get(id).identity_fingerprint, "ab");
    live(T0 + 2000, T0 + 5000);
    assert_int_equal(status_of(id), AGENT_EXPIRED);
    assert_int_equal(agent_identity_confirmed(fixture_db, &cause, id, 1, fixture_arena, &st), CODE_OK);
    assert_string_equal(fixture_get(id).identity_fingerprint, "ef");
    assert_int_equal(fixture_number("SELECT count(*) FROM identities_pending"), 0);
}

static void counters_follow_every_change(void **state)
{
    (void)state;
    const char *a = fixture_agent("a", "prod"), *b = fixture_agent("b", "test");
    (void)fixture_agent("c", "test");
    fixture_beat(a, T0);
    live(T0 + 1000, T0 + 39000);
    fixture_beat(b, T0 + 40000);
    live(T0 + 41000, T0 + 95000);
    struct dashboard d;
    struct status st = {0};
    assert_int_equal(dashboard_get(fixture_db, "", T0 + 95000, fixture_arena, &d, &st), CODE_OK);
    assert_int_equal(d.total, 3);
    assert_int_equal(d.count[AGENT_OFFLINE], 1);
    assert_int_equal(d.count[AGENT_ONLINE], 1);
    assert_int_equal(d.count[AGENT_BOOTSTRAPPING], 1);
    assert_int_equal(sweep_house(fixture_db, &st), CODE_OK);
    assert_int_equal(fixture_number("SELECT count(*) FROM agent_counts"), 3);
    struct dashboard folded;
    assert_int_equal(dashboard_get(fixture_db, "", T0 + 95000, fixture_arena, &folded, &st), CODE_OK);
    assert_memory_equal(d.count, folded.count, sizeof(d.count));
    /* Under a selector they are counted, and agree. */
    assert_int_equal(dashboard_get(fixture_db, "env=test", T0 + 95000, fixture_arena, &d, &st), CODE_OK);
    assert_int_equal(d.total, 2);
    assert_int_equal(d.count[AGENT_ONLINE], 1);
    for (size_t i = 0; i < d.n_recent; i++)
        assert_string_not_equal(d.recent[i].agent_id, a);
}

static void activity_is_bounded(void **state)
{
    (void)state;
    struct status st = {0};
    assert_int_equal(
        db_query(fixture_db,
                 "INSERT INTO activity (occurred_at, event) SELECT now(), 'x' FROM generate_series(1, 10050)",
                 NULL, NULL, &st),
        CODE_OK);
    assert_int_equal(sweep_house(fixture_db, &st), CODE_OK);
    assert_int_equal(fixture_number("SELECT count(*) FROM activity"), ACTIVITY_MAX);
}

static void thousand_heartbeats_take_one_call(void **state)
{
    (void)state;
    struct heartbeat *beats = arena_array(fixture_arena, 1000, sizeof(*beats));
    struct arena *mine = fixture_arena;
    for (size_t i = 0; i < 1000; i++)
        beats[i] = (struct heartbeat){.agent_id = fixture_agent(arena_printf(mine, "host%zu", i), "prod"),
                                      .interval_ms = 30000};
    struct status st = {0};
    assert_int_equal(heartbeats_report(fixture_db, &fixture_timing, T0 + 1000, "g1", "e1", beats, 1000,
                                       fixture_arena, &st),
                     CODE_OK);
    assert_int_equal(fixture_number("SELECT count(*) FROM agents WHERE status = 6"), 1000);
    assert_int_equal(fixture_number("SELECT sum(n) FROM agent_counts WHERE status = 6"), 1000);
    live(T0 + 2000, T0 + 2000);
    fixture_empty_beat("g1", "e1", T0 + 91000 - 1000);
}

#define T(name) cmocka_unit_test_setup(name, fixture_reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(first_heartbeat_brings_an_agent_online),
        T(heartbeat_that_changes_nothing_writes_no_event),
        T(newest_of_an_agent_in_a_batch_wins_and_keeps_the_facts),
        T(a_former_identity_that_knocks_after_the_new_one_hides_nothing),
        T(safe_mode_is_told_with_its_reason_and_left_again),
        T(bad_row_is_dropped_and_the_others_count),
        T(agent_is_offline_after_three_intervals_and_not_before),
        T(silence_does_not_count_while_the_gateway_is_away),
        T(silence_does_not_count_while_no_gateway_is_heard),
        T(gateway_that_comes_back_gives_its_agents_a_window),
        T(restarted_gateway_gives_its_agents_a_window),
        T(platform_that_was_away_gives_everybody_a_window),
        T(offline_agent_stays_so_when_a_window_opens),
        T(identity_past_its_end_makes_an_agent_expired),
        T(a_renewal_that_was_never_installed_does_not_hide_the_end),
        T(counters_follow_every_change),
        T(activity_is_bounded),
        T(thousand_heartbeats_take_one_call),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
