/* The whole platform's safe mode, and an agent's end, on a real PostgreSQL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "alerts.h"
#include "fixture.h"

static void set(bool on, int64_t now_ms)
{
    const struct cause cause = fixture_cause(now_ms);
    struct platform platform;
    struct status st = {0};
    if (platform_set_safe_mode(fixture_db, &cause, on, "incident 7", fixture_arena, &platform, &st) !=
        CODE_OK)
        fail_msg("%s", st.msg);
    assert_int_equal(platform.safe_mode, on);
}

static void assert_status(const char *id, enum agent_status status, const char *reason)
{
    const struct agent agent = fixture_get(id);
    assert_string_equal(agent_status_name(agent.status), agent_status_name(status));
    assert_string_equal(agent_reason(&agent), reason);
}

static void beat_with(const char *id, const char *reason, int64_t now_ms)
{
    struct heartbeat beat = {.agent_id = id,
                             .received_at_ms = now_ms,
                             .interval_ms = 30000,
                             .safe_mode = reason != NULL,
                             .safe_mode_reason = reason};
    assert_int_equal(
        heartbeats_report(fixture_db, &fixture_timing, now_ms, "g1", "e1", &beat, 1, fixture_arena, NULL),
        CODE_OK);
}

static void the_platforms_safe_mode_reaches_every_agent_and_leaves_them(void **state)
{
    (void)state;
    const char *well = fixture_agent("web1", "prod"), *ill = fixture_agent("web2", "prod"),
               *later = fixture_agent("web3", "prod");
    fixture_beat(well, T0 + 1000);
    beat_with(ill, "CLOCK", T0 + 1000);
    set(true, T0 + 2000);
    fixture_sweep(T0 + 2000);
    assert_status(well, AGENT_SAFE_MODE, "PLATFORM");
    assert_status(ill, AGENT_SAFE_MODE, "CLOCK");
    assert_true(fixture_get(well).status_since_ms == T0 + 2000);
    /* Who comes while it holds is in safe mode at once; who is heard again stays so. */
    fixture_beat(later, T0 + 3000);
    fixture_beat(well, T0 + 3000);
    assert_status(later, AGENT_SAFE_MODE, "PLATFORM");
    assert_status(well, AGENT_SAFE_MODE, "PLATFORM");
    set(false, T0 + 4000);
    fixture_sweep(T0 + 4000);
    assert_status(well, AGENT_ONLINE, "");
    assert_status(later, AGENT_ONLINE, "");
    assert_status(ill, AGENT_SAFE_MODE, "CLOCK");
}

static void it_is_one_alert_one_event_and_one_record_whatever_the_fleet(void **state)
{
    (void)state;
    struct alert *alerts;
    size_t n;
    const struct alert_filter all = {.selector = ""};
    fixture_beat(fixture_agent("web1", "prod"), T0 + 1000);
    set(true, T0 + 2000);
    set(true, T0 + 2500); /* it is already */
    fixture_sweep(T0 + 3000);
    assert_int_equal(alerts_list(fixture_db, &all, 10, fixture_arena, &alerts, &n, NULL), CODE_OK);
    assert_int_equal(n, 1);
    assert_int_equal(alerts[0].kind, ALERT_SAFE_MODE);
    assert_string_equal(alerts[0].entity, "platform");
    assert_non_null(strstr(alerts[0].message, "incident 7"));
    assert_int_equal(alerts[0].count, 1);
    assert_int_equal(
        fixture_number("SELECT count(*) FROM outbox WHERE subject = 'clm.event.registry.platform.changed'"),
        1);
    assert_int_equal(fixture_number("SELECT count(*) FROM audit_pending WHERE action = 'platform.changed'"),
                     1);
    set(false, T0 + 4000);
    assert_int_equal(alerts_list(fixture_db, &all, 10, fixture_arena, &alerts, &n, NULL), CODE_OK);
    assert_int_equal(n, 0);
    assert_int_equal(fixture_number("SELECT count(*) FROM audit_pending WHERE action = 'platform.changed'"),
                     2);
}

static void safe_mode_is_left_by_the_exit_of_its_reason_alone(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    const struct cause cause = fixture_cause(T0 + 2000);
    struct agent agent;
    struct status st = {0};
    beat_with(id, "ROLLBACK_FAILED", T0 + 1000);
    assert_int_equal(agent_set_safe_mode(fixture_db, &cause, "", id, false, fixture_arena, &agent, &st),
                     CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(st.msg, "ROLLBACK_FAILED"));
    assert_non_null(strstr(st.msg, "leave-safe-mode"));
    fixture_beat(id, T0 + 3000);
    set(true, T0 + 4000);
    fixture_sweep(T0 + 4000);
    assert_int_equal(agent_set_safe_mode(fixture_db, &cause, "", id, false, fixture_arena, &agent, &st),
                     CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(st.msg, "PLATFORM"));
    set(false, T0 + 5000);
    fixture_sweep(T0 + 5000);
    assert_int_equal(agent_set_safe_mode(fixture_db, &cause, "", id, true, fixture_arena, &agent, &st),
                     CODE_OK);
    assert_string_equal(agent_reason(&agent), "OPERATOR");
    assert_int_equal(agent_set_safe_mode(fixture_db, &cause, "", id, false, fixture_arena, &agent, &st),
                     CODE_OK);
    assert_int_equal(agent.status, AGENT_ONLINE);
}

static void a_deleted_agent_is_gone_and_its_history_stays(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod"), *other = fixture_agent("web2", "test");
    const struct cause cause = fixture_cause(T0 + 2000);
    struct agent agent;
    struct status st = {0};
    struct alert *alerts;
    size_t n;
    const struct alert_filter all = {.selector = ""};
    beat_with(id, "CLOCK", T0 + 1000);
    int64_t version = fixture_get(id).version;
    assert_int_equal(agent_delete(fixture_db, &cause, "env=test", id, fixture_arena, &agent, &st),
                     CODE_NOT_FOUND);
    assert_int_equal(agent_delete(fixture_db, &cause, "", id, fixture_arena, &agent, &st), CODE_OK);
    assert_int_equal(agent.version, version + 1);
    assert_int_equal(agent_get(fixture_db, "", id, fixture_arena, &agent, &st), CODE_NOT_FOUND);
    assert_int_equal(agent_delete(fixture_db, &cause, "", id, fixture_arena, &agent, &st), CODE_NOT_FOUND);
    assert_int_equal(alerts_list(fixture_db, &all, 10, fixture_arena, &alerts, &n, NULL), CODE_OK);
    assert_int_equal(n, 0);
    assert_int_equal(fixture_number("SELECT count(*) FROM heartbeats"), 1);
    assert_int_equal(fixture_number("SELECT sum(n) FROM agent_counts"), 1);
    assert_int_equal(fixture_number("SELECT count(*) FROM outbox WHERE subject LIKE '%agent.deleted' "
                                    "AND convert_from(body, 'UTF8') LIKE '%deleted'"),
                     1);
    assert_int_equal(fixture_number("SELECT count(*) FROM audit_pending WHERE action = 'agent.deleted'"), 1);
    assert_true(fixture_number("SELECT count(*) FROM activity WHERE event <> 'agent.deleted'") > 0);
    /* What still comes for it finds nobody, and harms nobody. */
    fixture_beat(id, T0 + 3000);
    fixture_sweep(T0 + 3000);
    assert_int_equal(fixture_get(other).status, AGENT_BOOTSTRAPPING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_platforms_safe_mode_reaches_every_agent_and_leaves_them, fixture_reset),
        cmocka_unit_test_setup(it_is_one_alert_one_event_and_one_record_whatever_the_fleet, fixture_reset),
        cmocka_unit_test_setup(safe_mode_is_left_by_the_exit_of_its_reason_alone, fixture_reset),
        cmocka_unit_test_setup(a_deleted_agent_is_gone_and_its_history_stays, fixture_reset),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
