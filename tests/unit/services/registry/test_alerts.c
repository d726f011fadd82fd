/* An alert's life on a real PostgreSQL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "alerts.h"
#include "fixture.h"

static size_t list(const char *selector, unsigned state_bits, struct alert **ret)
{
    const struct alert_filter filter = {.selector = selector, .state_bits = state_bits};
    size_t n;
    struct status st = {0};
    if (alerts_list(fixture_db, &filter, 100, fixture_arena, ret, &n, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    return n;
}

static void raise(enum alert_kind kind, const char *entity, const char *agent_id, int64_t now_ms)
{
    const struct alert_change change = {
        .kind = kind, .entity = entity, .agent_id = agent_id, .message = "why"};
    assert_int_equal(alerts_raise(fixture_db, &change, 1, now_ms, fixture_arena, NULL), CODE_OK);
}

static void repeated_alert_is_one_with_a_count(void **state)
{
    (void)state;
    struct alert *alerts;
    raise(ALERT_TASK_FAILED, "e", NULL, T0);
    raise(ALERT_TASK_FAILED, "e", NULL, T0 + 5000);
    raise(ALERT_TASK_FAILED, "e", NULL, T0 + 2000);
    raise(ALERT_TASK_REFUSED, "e", NULL, T0);
    assert_int_equal(list("", 0, &alerts), 2);
    assert_int_equal(alerts[1].kind, ALERT_TASK_FAILED);
    assert_int_equal(alerts[1].count, 3);
    assert_int_equal(alerts[1].first_at_ms, T0);
    assert_int_equal(alerts[1].last_at_ms, T0 + 5000);
}

static void resolved_alert_that_happens_again_is_a_new_one(void **state)
{
    (void)state;
    struct alert *alerts;
    const struct alert_change change = {.kind = ALERT_CLONE, .entity = "e"};
    raise(ALERT_CLONE, "e", NULL, T0);
    assert_int_equal(alerts_resolve(fixture_db, &change, 1, T0 + 1, fixture_arena, NULL), CODE_OK);
    assert_int_equal(list("", 0, &alerts), 0);
    raise(ALERT_CLONE, "e", NULL, T0 + 2);
    assert_int_equal(list("", 0, &alerts), 1);
    assert_int_equal(alerts[0].count, 1);
    assert_int_equal(list("", 1u << ALERT_RESOLVED, &alerts), 1);
}

static void acknowledging_and_resolving_are_told_and_audited_once(void **state)
{
    (void)state;
    struct alert *alerts, alert;
    raise(ALERT_TASK_FAILED, "e", NULL, T0);
    assert_int_equal(list("", 0, &alerts), 1);
    const char *id = alerts[0].id;
    const struct cause cause = fixture_cause(T0 + 1000);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(alert_acknowledge(fixture_db, &cause, "", id, fixture_arena, &alert, NULL), CODE_OK);
        assert_int_equal(alert_state(&alert), ALERT_ACKNOWLEDGED);
        assert_string_equal(alert.acknowledged_by, "api-key:test");
    }
    assert_int_equal(list("", 0, &alerts), 1);
    assert_int_equal(alert_resolve(fixture_db, &cause, "", id, fixture_arena, &alert, NULL), CODE_OK);
    assert_int_equal(alert_state(&alert), ALERT_RESOLVED);
    assert_int_equal(list("", 0, &alerts), 0);
    assert_int_equal(
        fixture_number("SELECT count(*) FROM audit_pending WHERE action LIKE 'alert.%' AND action "
                       "<> 'alert.raised'"),
        2);
}

static int64_t events(const char *beginning)
{
    return fixture_number(
        arena_printf(fixture_arena,
                     "SELECT count(*) FROM outbox WHERE subject LIKE 'clm.event.registry.alert.%%' AND "
                     "convert_from(body, 'UTF8') LIKE '%s%%'",
                     beginning));
}

static void every_change_is_an_event_and_a_record_and_what_repeats_is_neither(void **state)
{
    (void)state;
    struct alert *alerts, alert;
    const struct cause cause = fixture_cause(T0 + 1000);
    const struct alert_change change = {.kind = ALERT_TASK_FAILED, .entity = "e"};
    raise(ALERT_TASK_FAILED, "e", NULL, T0);
    raise(ALERT_TASK_FAILED, "e", NULL, T0 + 1);
    assert_int_equal(events("raised v1 by service:registry"), 1);
    assert_int_equal(events("raised"), 1);
    assert_int_equal(list("", 0, &alerts), 1);
    for (int i = 0; i < 2; i++)
        assert_int_equal(alert_acknowledge(fixture_db, &cause, "", alerts[0].id, fixture_arena, &alert, NULL),
                         CODE_OK);
    assert_int_equal(events("acknowledged v3 by api-key:test"), 1);
    assert_int_equal(events("acknowledged"), 1);
    assert_int_equal(fixture_number("SELECT count(*) FROM activity WHERE event = 'alert.acknowledged'"), 1);
    for (int i = 0; i < 2; i++)
        assert_int_equal(alerts_resolve(fixture_db, &change, 1, T0 + 2000, fixture_arena, NULL), CODE_OK);
    assert_int_equal(events("resolved v4 by service:registry"), 1);
    assert_int_equal(events(""), 3);
    assert_int_equal(fixture_number("SELECT count(*) FROM audit_pending p JOIN outbox o ON o.id = p.event_id "
                                    "WHERE o.subject = 'clm.event.registry.' || p.action"),
                     3);
}

static void grant_with_a_selector_sees_and_closes_only_its_own(void **state)
{
    (void)state;
    struct alert *alerts, alert;
    const char *prod = fixture_agent("web1", "prod"), *test = fixture_agent("web2", "test");
    raise(ALERT_AGENT_OFFLINE, prod, prod, T0);
    raise(ALERT_AGENT_OFFLINE, test, test, T0);
    raise(ALERT_BOOTSTRAP_REFUSED, "192.0.2.1", NULL, T0);
    assert_int_equal(list("", 0, &alerts), 3);
    assert_int_equal(list("env=test", 0, &alerts), 1);
    assert_string_equal(alerts[0].agent_id, test);
    assert_string_equal(alerts[0].hostname, "web2");
    const struct cause cause = fixture_cause(T0 + 1000);
    assert_int_equal(alert_resolve(fixture_db, &cause, "env=prod", alerts[0].id, fixture_arena, &alert, NULL),
                     CODE_NOT_FOUND);
    assert_int_equal(alert_resolve(fixture_db, &cause, "env=test", alerts[0].id, fixture_arena, &alert, NULL),
                     CODE_OK);
}

static void silent_agent_is_an_alert_until_it_is_heard(void **state)
{
    (void)state;
    struct alert *alerts;
    const char *id = fixture_agent("web1", "prod");
    fixture_beat(id, T0 + 1000);
    assert_int_equal(list("", 0, &alerts), 0);
    for (int64_t at = T0; at <= T0 + 300000; at += 1000) {
        fixture_empty_beat("g1", "e1", at);
        fixture_sweep(at);
    }
    assert_int_equal(fixture_get(id).status, AGENT_OFFLINE);
    assert_int_equal(list("", 0, &alerts), 1);
    assert_int_equal(alerts[0].kind, ALERT_AGENT_OFFLINE);
    assert_int_equal(alerts[0].count, 1); /* however often it was looked at since */
    fixture_beat(id, T0 + 301000);
    assert_int_equal(list("", 0, &alerts), 0);
}

static void safe_mode_is_an_alert_with_its_reason_until_it_is_left(void **state)
{
    (void)state;
    struct alert *alerts;
    const char *id = fixture_agent("web1", "prod");
    struct heartbeat beat = {.agent_id = id,
                             .received_at_ms = T0 + 1000,
                             .interval_ms = 30000,
                             .safe_mode = true,
                             .safe_mode_reason = "CLOCK"};
    assert_int_equal(
        heartbeats_report(fixture_db, &fixture_timing, T0 + 1000, "g1", "e1", &beat, 1, fixture_arena, NULL),
        CODE_OK);
    assert_int_equal(list("", 0, &alerts), 1);
    assert_int_equal(alerts[0].kind, ALERT_SAFE_MODE);
    assert_int_equal(strncmp(alerts[0].message, "CLOCK: ", 7), 0);
    beat.received_at_ms += 500; /* says it again */
    assert_int_equal(
        heartbeats_report(fixture_db, &fixture_timing, T0 + 1500, "g1", "e1", &beat, 1, fixture_arena, NULL),
        CODE_OK);
    assert_int_equal(list("", 0, &alerts), 1);
    assert_int_equal(alerts[0].count, 1);
    assert_non_null(strstr(alerts[0].message, "it ends by itself"));
    fixture_beat(id, T0 + 2000);
    assert_int_equal(list("", 0, &alerts), 0);
}

static void identity_that_ends_soon_is_an_alert_until_it_is_renewed_or_over(void **state)
{
    (void)state;
    struct alert *alerts;
    const char *id = fixture_agent("web1", "prod");
    const struct cause cause = fixture_cause(T0);
    const int64_t day = 24LL * 3600 * 1000;
    assert_int_equal(
        agent_identity_issued(fixture_db, &cause, id, 0, "f0", T0 + 3 * day, fixture_arena, NULL), CODE_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(alerts_expiring(fixture_db, T0, fixture_arena, NULL), CODE_OK);
    assert_int_equal(list("", 0, &alerts), 1);
    assert_int_equal(alerts[0].kind, ALERT_IDENTITY_EXPIRING);
    assert_int_equal(alerts[0].count, 1);
    assert_int_equal(
        agent_identity_issued(fixture_db, &cause, id, 1, "f1", T0 + 30 * day, fixture_arena, NULL), CODE_OK);
    assert_int_equal(alerts_expiring(fixture_db, T0, fixture_arena, NULL), CODE_OK);
    assert_int_equal(list("", 0, &alerts), 1); /* the agent does not have it yet */
    assert_int_equal(agent_identity_confirmed(fixture_db, &cause, id, 1, fixture_arena, NULL), CODE_OK);
    assert_int_equal(alerts_expiring(fixture_db, T0, fixture_arena, NULL), CODE_OK);
    assert_int_equal(list("", 0, &alerts), 0);
    for (int i = 0; i < 2; i++)
        fixture_sweep(T0 + 31 * day + i);
    assert_int_equal(list("", 0, &alerts), 1);
    assert_int_equal(alerts[0].kind, ALERT_IDENTITY_EXPIRED);
    assert_int_equal(alerts[0].count, 1);
    assert_int_equal(
        agent_identity_issued(fixture_db, &cause, id, 2, "f2", T0 + 60 * day, fixture_arena, NULL), CODE_OK);
    assert_int_equal(agent_identity_confirmed(fixture_db, &cause, id, 2, fixture_arena, NULL), CODE_OK);
    assert_int_equal(list("", 0, &alerts), 0);
}

static void old_resolved_alerts_are_forgotten(void **state)
{
    (void)state;
    struct alert *alerts;
    const struct alert_change change = {.kind = ALERT_CLONE, .entity = "e"};
    raise(ALERT_CLONE, "e", NULL, T0);
    raise(ALERT_CLONE, "f", NULL, T0);
    assert_int_equal(alerts_resolve(fixture_db, &change, 1, T0, fixture_arena, NULL), CODE_OK);
    assert_int_equal(alerts_trim(fixture_db, T0 + ALERTS_KEEP_MS + 1, fixture_arena, NULL), CODE_OK);
    assert_int_equal(list("", 1u << ALERT_RESOLVED | 1u << ALERT_OPEN, &alerts), 1);
}

static void operators_safe_mode_is_an_alert_too(void **state)
{
    (void)state;
    struct alert *alerts;
    struct agent agent;
    const char *id = fixture_agent("web1", "prod");
    const struct cause cause = fixture_cause(T0 + 2000);
    fixture_beat(id, T0 + 1000);
    assert_int_equal(agent_set_safe_mode(fixture_db, &cause, "", id, true, fixture_arena, &agent, NULL),
                     CODE_OK);
    assert_int_equal(list("", 0, &alerts), 1);
    assert_int_equal(alerts[0].kind, ALERT_SAFE_MODE);
    assert_int_equal(strncmp(alerts[0].message, "OPERATOR: ", 10), 0);
    assert_int_equal(agent_set_safe_mode(fixture_db, &cause, "", id, false, fixture_arena, &agent, NULL),
                     CODE_OK);
    assert_int_equal(list("", 0, &alerts), 0);
}

static void frozen_identity_is_a_clone_alert_until_it_is_unfrozen(void **state)
{
    (void)state;
    struct alert *alerts;
    struct agent agent;
    const char *id = fixture_agent("web1", "prod");
    const struct cause cause = fixture_cause(T0 + 2000);
    fixture_beat(id, T0 + 1000);
    for (int i = 0; i < 2; i++)
        assert_int_equal(agent_freeze(fixture_db, &cause, id, FROZEN_SECOND_KEY, fixture_arena, NULL),
                         CODE_OK);
    assert_int_equal(list("", 0, &alerts), 1);
    assert_int_equal(alerts[0].kind, ALERT_CLONE);
    assert_int_equal(alerts[0].count, 1);
    assert_non_null(strstr(alerts[0].message, "SECOND_KEY"));
    assert_int_equal(agent_unfreeze(fixture_db, &cause, "", id, fixture_arena, &agent, NULL), CODE_OK);
    assert_int_equal(list("", 0, &alerts), 0);
    /* A copy: only a fresh token ends it. */
    assert_int_equal(agent_freeze(fixture_db, &cause, id, FROZEN_CLONE, fixture_arena, NULL), CODE_OK);
    assert_int_equal(list("", 0, &alerts), 1);
    assert_int_equal(agent_readmit(fixture_db, &cause, "", id, 1, fixture_arena, &agent, NULL), CODE_OK);
    assert_int_equal(list("", 0, &alerts), 0);
}

static void refused_bootstrap_is_an_alert_until_the_agent_is_there(void **state)
{
    (void)state;
    struct alert *alerts;
    const char *id = fixture_agent("web1", "prod");
    const struct cause cause = fixture_cause(T0 + 2000);
    raise(ALERT_BOOTSTRAP_REFUSED, "token-1", id, T0 + 1000);
    raise(ALERT_BOOTSTRAP_REFUSED, "192.0.2.1", NULL, T0 + 1000);
    assert_int_equal(list("", 0, &alerts), 2);
    assert_int_equal(agent_identity_confirmed(fixture_db, &cause, id, 0, fixture_arena, NULL), CODE_OK);
    assert_int_equal(list("", 0, &alerts), 1);
    assert_string_equal(alerts[0].entity, "192.0.2.1");
    /* Guesses from somewhere are over when they have stopped for a day. */
    assert_int_equal(alerts_quiet(fixture_db, T0 + ALERTS_QUIET_MS, fixture_arena, NULL), CODE_OK);
    assert_int_equal(list("", 0, &alerts), 1);
    assert_int_equal(alerts_quiet(fixture_db, T0 + 1000 + ALERTS_QUIET_MS, fixture_arena, NULL), CODE_OK);
    assert_int_equal(list("", 0, &alerts), 0);
}

static void ended(const struct task_ended *task, int64_t now_ms)
{
    struct status st = {0};
    if (alerts_of_task(fixture_db, task, now_ms, fixture_arena, &st) != CODE_OK)
        fail_msg("%s", st.msg);
}

static void failed_or_refused_task_is_an_alert_until_one_of_its_kind_succeeds(void **state)
{
    (void)state;
    struct alert *alerts;
    const char *id = fixture_agent("web1", "prod");
    struct task_ended renew = {.agent_id = id,
                               .kind = "RENEW",
                               .target = "nginx",
                               .message = "why",
                               .end = TASK_END_FAILED,
                               .changed = true};
    ended(&renew, T0);
    ended(&renew, T0 + 1000);
    struct task_ended other = renew;
    other.target = "haproxy";
    other.refused = true;
    ended(&other, T0 + 2000);
    ended(&other, T0 + 2500);
    assert_int_equal(list("", 0, &alerts), 2);
    assert_int_equal(alerts[0].count, 2);
    assert_int_equal(alerts[0].kind, ALERT_TASK_REFUSED);
    assert_int_equal(alerts[1].kind, ALERT_TASK_FAILED);
    assert_int_equal(alerts[1].count, 2);
    assert_string_equal(alerts[1].message, "RENEW of nginx: why");
    renew.end = TASK_END_SUCCEEDED;
    ended(&renew, T0 + 3000);
    assert_int_equal(list("", 0, &alerts), 1);
    assert_int_equal(alerts[0].kind, ALERT_TASK_REFUSED);
    other.refused = false;
    other.end = TASK_END_SUCCEEDED;
    ended(&other, T0 + 4000);
    assert_int_equal(list("", 0, &alerts), 0);
}

/* Whoever sees it: a renewal that could not verify, a validation that found another certificate. */
static void served_and_not_intended_is_one_alert_of_its_target(void **state)
{
    (void)state;
    struct alert *alerts;
    const char *id = fixture_agent("web1", "prod");
    struct task_ended renew = {
        .agent_id = id, .kind = "RENEW", .target = "nginx", .end = TASK_END_UNVERIFIED, .changed = true};
    struct task_ended look = {.agent_id = id,
                              .kind = "VALIDATE",
                              .target = "nginx",
                              .end = TASK_END_SUCCEEDED,
                              .looked = true,
                              .served_not_intended = true};
    struct task_ended discover = {.agent_id = id, .kind = "DISCOVER", .end = TASK_END_SUCCEEDED};
    ended(&renew, T0);
    ended(&look, T0 + 1000);
    ended(&discover, T0 + 2000); /* looks at no target */
    assert_int_equal(list("", 0, &alerts), 1);
    assert_int_equal(alerts[0].kind, ALERT_SERVED_NOT_INTENDED);
    assert_int_equal(alerts[0].count, 2);
    look.served_not_intended = false;
    ended(&look, T0 + 3000);
    assert_int_equal(list("", 0, &alerts), 0);
    look.served_not_intended = true;
    ended(&look, T0 + 4000);
    renew.end = TASK_END_SUCCEEDED;
    ended(&renew, T0 + 5000);
    assert_int_equal(list("", 0, &alerts), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(repeated_alert_is_one_with_a_count, fixture_reset),
        cmocka_unit_test_setup(resolved_alert_that_happens_again_is_a_new_one, fixture_reset),
        cmocka_unit_test_setup(acknowledging_and_resolving_are_told_and_audited_once, fixture_reset),
        cmocka_unit_test_setup(every_change_is_an_event_and_a_record_and_what_repeats_is_neither,
                               fixture_reset),
        cmocka_unit_test_setup(grant_with_a_selector_sees_and_closes_only_its_own, fixture_reset),
        cmocka_unit_test_setup(silent_agent_is_an_alert_until_it_is_heard, fixture_reset),
        cmocka_unit_test_setup(safe_mode_is_an_alert_with_its_reason_until_it_is_left, fixture_reset),
        cmocka_unit_test_setup(identity_that_ends_soon_is_an_alert_until_it_is_renewed_or_over,
                               fixture_reset),
        cmocka_unit_test_setup(old_resolved_alerts_are_forgotten, fixture_reset),
        cmocka_unit_test_setup(operators_safe_mode_is_an_alert_too, fixture_reset),
        cmocka_unit_test_setup(frozen_identity_is_a_clone_alert_until_it_is_unfrozen, fixture_reset),
        cmocka_unit_test_setup(refused_bootstrap_is_an_alert_until_the_agent_is_there, fixture_reset),
        cmocka_unit_test_setup(failed_or_refused_task_is_an_alert_until_one_of_its_kind_succeeds,
                               fixture_reset),
        cmocka_unit_test_setup(served_and_not_intended_is_one_alert_of_its_target, fixture_reset),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
