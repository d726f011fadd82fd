/* What agents say of their targets becomes alerts, once, and ends them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "alerts.h"
#include "drift.h"
#include "fixture.h"

static void report(const char *agent, const struct drift *drifts, size_t n, int64_t now_ms)
{
    struct status st = {0};
    const struct cause cause = fixture_cause(now_ms);
    if (drifts_report(fixture_db, &cause, &agent, 1, drifts, n, fixture_arena, &st) != CODE_OK)
        fail_msg("%s", st.msg);
}

static size_t open_alerts(struct alert **ret)
{
    const struct alert_filter filter = {.selector = "", .kind_bits = 1u << ALERT_SERVED_DIFFERS};
    size_t n;
    assert_int_equal(alerts_list(fixture_db, &filter, 100, fixture_arena, ret, &n, NULL), CODE_OK);
    return n;
}

static int64_t told(const char *what)
{
    return fixture_number(arena_printf(
        fixture_arena, "SELECT count(*) FROM outbox WHERE subject = 'clm.event.registry.certificate.%s'",
        what));
}

static void drift_is_told_once_and_mended_once(void **state)
{
    (void)state;
    struct alert *alerts;
    const char *agent = fixture_agent("host", "prod"), *other = fixture_agent("other", "prod");
    struct drift two[] = {{agent, "nginx", "serves another"}, {agent, "mail", "was overwritten"}};
    struct drift its = {other, "nginx", "serves another"};
    report(agent, two, 2, T0);
    report(agent, two, 2, T0 + 1000); /* said again: nothing new */
    report(other, &its, 1, T0);
    assert_int_equal(open_alerts(&alerts), 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(alerts[i].count, 1);
    assert_int_equal(told("drifted"), 3);
    assert_int_equal(told("mended"), 0);
    /* Another reason is news of the same alert. */
    two[0].reason = "its chain is broken";
    report(agent, two, 2, T0 + 2000);
    assert_int_equal(open_alerts(&alerts), 3);
    assert_int_equal(told("drifted"), 4);
    /* What is not said any more is mended, on this host only. */
    report(agent, &two[1], 1, T0 + 3000);
    assert_int_equal(open_alerts(&alerts), 2);
    assert_int_equal(told("mended"), 1);
    report(agent, NULL, 0, T0 + 4000);
    report(agent, NULL, 0, T0 + 5000);
    assert_int_equal(open_alerts(&alerts), 1);
    assert_string_equal(alerts[0].entity, arena_printf(fixture_arena, "%s/nginx", other));
    assert_int_equal(told("mended"), 2);
    assert_int_equal(fixture_number("SELECT count(*) FROM audit_pending WHERE action LIKE 'certificate.%'"),
                     6);
    assert_int_equal(fixture_number("SELECT count(*) FROM activity WHERE event = 'certificate.mended'"), 2);
}

static void agents_that_nobody_knows_raise_nothing(void **state)
{
    (void)state;
    struct alert *alerts;
    const char *nobody = "01900000-0000-7000-8000-000000000000";
    struct drift drift = {nobody, "nginx", "serves another"};
    report(nobody, &drift, 1, T0);
    assert_int_equal(open_alerts(&alerts), 0);
    assert_int_equal(told("drifted"), 0);
}

/* What a host says is its own affair: the whole batch of a gateway must not fail for it. */
static void a_target_that_is_named_twice_counts_once(void **state)
{
    (void)state;
    struct alert *alerts;
    const char *agent = fixture_agent("host", "prod");
    struct drift twice[] = {{agent, "nginx", "serves another"}, {agent, "nginx", "was overwritten"}};
    report(agent, twice, 2, T0);
    assert_int_equal(open_alerts(&alerts), 1);
    assert_int_equal(alerts[0].count, 1);
    assert_int_equal(told("drifted"), 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, fixture_reset)
    const struct CMUnitTest tests[] = {
        TEST(drift_is_told_once_and_mended_once),
        TEST(agents_that_nobody_knows_raise_nothing),
        TEST(a_target_that_is_named_twice_counts_once),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
