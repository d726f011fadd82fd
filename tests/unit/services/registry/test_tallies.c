/* What the dashboard shows of the whole fleet is kept by triggers: whatever happened, it equals a count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "alerts.h"
#include "fixture.h"
#include "inventory.h"
#include "support/pg.h"

#define HOUR_MS (3600LL * 1000)
#define DAY_MS  (24 * HOUR_MS)
#define AGENTS  25

static struct dashboard get(const char *selector, int64_t now_ms)
{
    struct dashboard d;
    struct status st = {0};
    if (dashboard_get(fixture_db, selector, now_ms, fixture_arena, &d, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    return d;
}

static int64_t scan(const char *what, ...)
{
    va_list ap;
    char sql[1024];
    va_start(ap, what);
    (void)vsnprintf(sql, sizeof(sql), what, ap);
    va_end(ap);
    /* One text an address: statements are prepared by it. */
    return fixture_number(arena_strdup(fixture_arena, sql));
}

static void equals_a_scan(int64_t now_ms)
{
    const struct dashboard d = get("", now_ms);
    int64_t before = -1;
    for (int status = 1; status < AGENT_STATUS_END; status++)
        assert_int_equal(d.count[status], scan("SELECT count(*) FROM agents WHERE status = %d", status));
    assert_int_equal(d.total, scan("SELECT count(*) FROM agents"));
    assert_int_equal(d.in_safe_mode,
                     scan("SELECT count(*) FROM agents WHERE safe_mode OR operator_safe_mode OR "
                          "frozen_reason <> ''"));
    for (size_t i = 0; i < DASHBOARD_ENDS; i++) {
        int64_t until = dashboard_end_sec[i] < 0 ? INT64_MAX / 2 : now_ms + dashboard_end_sec[i] * 1000;
        assert_int_equal(d.ends[i], scan("SELECT count(*) FROM agents WHERE NOT disabled AND extract(epoch "
                                         "FROM identity_not_after) * 1000 "
                                         "> %lld AND extract(epoch FROM identity_not_after) * 1000 <= %lld",
                                         (long long)before, (long long)until));
        before = until;
    }
    assert_int_equal(d.identities_expiring, d.ends[1] + d.ends[2]);
    int64_t versions = 0;
    for (size_t i = 0; i < d.n_versions; i++) {
        assert_int_equal(d.versions[i].n, scan("SELECT count(*) FROM agents WHERE agent_version = '%s'",
                                               d.versions[i].version));
        versions += d.versions[i].n;
    }
    assert_int_equal(versions, scan("SELECT count(*) FROM agents WHERE agent_version <> ''"));
    for (int kind = 1; kind < ALERT_KIND_END; kind++)
        assert_int_equal(d.open_by_kind[kind],
                         scan("SELECT count(*) FROM alerts WHERE kind = %d AND resolved_at IS "
                              "NULL AND acknowledged_at IS NULL",
                              kind));
    assert_int_equal(
        d.open_alerts,
        scan("SELECT count(*) FROM alerts WHERE resolved_at IS NULL AND acknowledged_at IS NULL"));
}

static unsigned pick(unsigned n)
{
    static uint64_t x = 88172645463325252u; /* the same run each time */
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return (unsigned)(x % n);
}

static void beat(const char *id, int64_t now_ms, bool safe_mode)
{
    static const char *const versions[] = {"0.9.0", "1.0.0", "1.1.0"};
    const char *version = versions[pick(3)];
    struct heartbeat one = {.agent_id = id,
                            .received_at_ms = now_ms,
                            .interval_ms = 30000,
                            .safe_mode = safe_mode,
                            .safe_mode_reason = safe_mode ? "CLOCK" : "",
                            .facts = {(const uint8_t *)version, strlen(version)},
                            .agent_version = version};
    assert_int_equal(
        heartbeats_report(fixture_db, &fixture_timing, now_ms, "g1", "e1", &one, 1, fixture_arena, NULL),
        CODE_OK);
}

static void alert_step(const char *id, int64_t now_ms)
{
    const struct cause cause = fixture_cause(now_ms);
    const struct alert_change change = {.kind = (enum alert_kind)(1 + pick(ALERT_KIND_END - 1)),
                                        .entity = id,
                                        .agent_id = id,
                                        .message = "m"};
    if (pick(3) > 0) {
        assert_int_equal(alerts_raise(fixture_db, &change, 1, now_ms, fixture_arena, NULL), CODE_OK);
        return;
    }
    const struct alert_filter any = {.selector = ""};
    struct alert *alerts, changed;
    size_t n;
    assert_int_equal(alerts_list(fixture_db, &any, 50, fixture_arena, &alerts, &n, NULL), CODE_OK);
    if (n == 0)
        return;
    const char *alert = alerts[pick((unsigned)n)].id;
    enum code code = pick(2) ? alert_acknowledge(fixture_db, &cause, "", alert, fixture_arena, &changed, NULL)
                             : alert_resolve(fixture_db, &cause, "", alert, fixture_arena, &changed, NULL);
    (void)code; /* one that was acknowledged already stays so */
}

static void step(const char *id, int64_t now_ms)
{
    const struct cause cause = fixture_cause(now_ms);
    struct agent agent;
    enum code code = CODE_OK;
    switch (pick(9)) {
    case 0:
        code = agent_disable(fixture_db, &cause, "", id, pick(2) ? "revoked" : "stolen", fixture_arena,
                             &agent, NULL);
        break;
    case 1:
        (void)!agent_enable(fixture_db, &cause, "", id, fixture_arena, &agent,
                            NULL); /* not what was revoked */
        break;
    case 2:
    case 3:
        code = agent_identity_issued(fixture_db, &cause, id, fixture_get(id).identity_generation + 1, "ff",
                                     now_ms + (int64_t)pick(120 * 24) * HOUR_MS - 2 * DAY_MS + pick(3600000),
                                     fixture_arena, NULL);
        if (code == CODE_OK && pick(3) > 0)
            code = agent_identity_confirmed(fixture_db, &cause, id, fixture_get(id).identity_generation + 1,
                                            fixture_arena, NULL);
        break;
    case 4:
        (void)!agent_set_safe_mode(fixture_db, &cause, "", id, pick(2), fixture_arena, &agent,
                                   NULL); /* another reason is left by its own exit */
        break;
    case 5:
        code = agent_freeze(fixture_db, &cause, id, pick(2) ? FROZEN_CLONE : FROZEN_SECOND_KEY, fixture_arena,
                            NULL);
        break;
    case 6:
        alert_step(id, now_ms);
        break;
    case 7:
        fixture_sweep(now_ms);
        break;
    default:
        beat(id, now_ms, pick(3) == 0);
        break;
    }
    assert_int_equal(code, CODE_OK);
}

static void counters_equal_a_scan_after_random_transitions(void **state)
{
    (void)state;
    const char *ids[AGENTS];
    int64_t now_ms = T0;
    for (size_t i = 0; i < AGENTS; i++)
        ids[i] = fixture_agent(arena_printf(fixture_arena, "web%zu", i), i % 2 ? "prod" : "test");
    equals_a_scan(now_ms);
    for (int i = 0; i < 400; i++) {
        now_ms += pick(7200) * 1000;
        step(ids[pick(AGENTS)], now_ms);
        if (i % 100 == 50)
            assert_int_equal(sweep_house(fixture_db, NULL), CODE_OK); /* folds */
        if (i % 40 == 39)
            equals_a_scan(now_ms);
    }
    assert_int_equal(sweep_house(fixture_db, NULL), CODE_OK);
    equals_a_scan(now_ms);
    assert_true(scan("SELECT count(*) FROM tallies") <=
                scan("SELECT count(DISTINCT (kind, at, name)) FROM tallies"));
}

static void what_goes_is_counted_too(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    const struct cause cause = fixture_cause(T0);
    beat(id, T0 + 1000, true);
    assert_int_equal(agent_identity_issued(fixture_db, &cause, id, 0, "ff", T0 + DAY_MS, fixture_arena, NULL),
                     CODE_OK);
    struct dashboard d = get("", T0);
    assert_int_equal(d.in_safe_mode, 1);
    assert_int_equal(d.ends[1], 1);
    assert_int_equal(d.n_versions, 1);
    (void)fixture_number("WITH gone AS (DELETE FROM agents RETURNING status) INSERT INTO agent_counts "
                         "SELECT status, -1 FROM gone RETURNING 1");
    d = get("", T0);
    assert_int_equal(d.in_safe_mode + d.ends[1] + (int64_t)d.n_versions + d.total, 0);
}

static void grant_for_some_labels_counts_those_alone(void **state)
{
    (void)state;
    const struct cause cause = fixture_cause(T0);
    const char *prod = fixture_agent("web1", "prod"), *test = fixture_agent("web2", "test");
    const char *const both[] = {prod, test};
    for (size_t i = 0; i < 2; i++) {
        beat(both[i], T0 + 1000, true);
        assert_int_equal(
            agent_identity_issued(fixture_db, &cause, both[i], 0, "ff", T0 + 3 * DAY_MS, fixture_arena, NULL),
            CODE_OK);
    }
    struct dashboard all = get("", T0 + 2000), some = get("env=prod", T0 + 2000);
    assert_int_equal(all.in_safe_mode, 2);
    assert_int_equal(some.in_safe_mode, 1);
    assert_int_equal(all.identities_expiring, 2);
    assert_int_equal(some.identities_expiring, 1);
    assert_int_equal(some.ends[2], 1);
    assert_int_equal(some.n_versions, 1);
    assert_int_equal(all.open_by_kind[ALERT_SAFE_MODE], 2);
    assert_int_equal(some.open_by_kind[ALERT_SAFE_MODE], 1);
}

/* ---- certificates by their end ---- */

#define CERTIFICATES 12
#define HOSTS        3

static struct certificate certificate_of(unsigned number)
{
    /* Some ended, some end within each of the dashboard's times, two within one hour. */
    static const int64_t after_ms[CERTIFICATES] = {
        -2 * DAY_MS, -1000,      1000,        HOUR_MS,     DAY_MS,      DAY_MS + 1,
        6 * DAY_MS,  6 * DAY_MS, 29 * DAY_MS, 80 * DAY_MS, 90 * DAY_MS, 4000 * DAY_MS,
    };
    const char *id = arena_printf(fixture_arena, "%064u", number);
    return (struct certificate){.id = id,
                                .fingerprint = id,
                                .subject = "CN=x",
                                .issuer = "CN=ca",
                                .serial = "01",
                                .dns_names = "x.example.test",
                                .not_before_ms = T0 - 400 * DAY_MS,
                                .not_after_ms = T0 + after_ms[number],
                                .key_type = "EC P-256",
                                .signature_algorithm = "ecdsa-with-SHA256"};
}

/* A scan of a few places, each with any of the certificates; it replaces what the one before said. */
static void scan_of(const char *agent, int64_t seen_ms)
{
    struct certificate certificates[6];
    struct certificate_place places[6];
    const size_t n = pick(6);
    for (size_t i = 0; i < n; i++) {
        certificates[i] = certificate_of(pick(CERTIFICATES));
        places[i] = (struct certificate_place){.certificate = certificates[i].id,
                                               .source = PLACE_FILE,
                                               .place = arena_printf(fixture_arena, "/etc/%u", pick(4)),
                                               .served = pick(2) == 0};
    }
    const struct scan_page page = {.agent_id = agent,
                                   .seen_ms = seen_ms,
                                   .certificates = certificates,
                                   .n_certificates = n,
                                   .places = places,
                                   .n_places = n,
                                   .replace = pick(3) > 0,
                                   .files = true};
    assert_int_equal(inventory_apply(fixture_db, &page, fixture_arena, NULL), CODE_OK);
}

/* of: what the whole fleet's numbers are of, or one environment's. */
static void ends_equal_a_scan(const char *selector, const char *of, int64_t now_ms)
{
    const struct dashboard d = get(selector, now_ms);
    int64_t before = INT64_MIN / 2;
    for (size_t i = 0; i < DASHBOARD_ENDS; i++) {
        int64_t until = dashboard_end_sec[i] < 0 ? INT64_MAX / 2 : now_ms + dashboard_end_sec[i] * 1000;
        const char *ends = arena_printf(fixture_arena,
                                        "extract(epoch FROM c.not_after) * 1000 > %lld AND "
                                        "extract(epoch FROM c.not_after) * 1000 <= %lld",
                                        (long long)before, (long long)until);
        assert_int_equal(d.certificates[i].n,
                         scan("SELECT count(*) FROM certificates c WHERE %s AND %s", ends, of));
        assert_int_equal(
            d.certificates[i].served,
            scan("SELECT count(*) FROM certificates c JOIN certificate_places p ON p.certificate "
                 "= c.id JOIN agents a ON a.id = p.agent_id WHERE p.served AND %s%s",
                 ends, *selector ? " AND a.labels->>'env' = 'prod'" : ""));
        before = until;
    }
}

static void certificates_by_end_equal_a_scan_after_random_scans(void **state)
{
    (void)state;
    static const char in_prod[] = "EXISTS (SELECT FROM certificate_places q JOIN agents b ON b.id = "
                                  "q.agent_id WHERE q.certificate = c.id AND b.labels->>'env' = 'prod')";
    const char *ids[HOSTS];
    for (size_t i = 0; i < HOSTS; i++)
        ids[i] = fixture_agent(arena_printf(fixture_arena, "web%zu", i), i % 2 ? "prod" : "test");
    ends_equal_a_scan("", "true", T0);
    for (int i = 0; i < 120; i++) {
        scan_of(ids[pick(HOSTS)], T0 + i);
        if (i % 30 == 20) {
            assert_int_equal(sweep_house(fixture_db, NULL), CODE_OK); /* folds */
            assert_int_equal(inventory_trim(fixture_db, T0 + 2 * DAY_MS, fixture_arena, NULL), CODE_OK);
        }
        if (i % 20 == 19) {
            ends_equal_a_scan("", "true", T0 + i);
            ends_equal_a_scan("env=prod", in_prod, T0 + i);
        }
    }
    /* A host that goes takes its places along; what is nowhere is forgotten. */
    (void)fixture_number("WITH gone AS (DELETE FROM agents RETURNING status) INSERT INTO agent_counts "
                         "SELECT status, -1 FROM gone RETURNING 1");
    assert_int_equal(inventory_trim(fixture_db, T0 + 2 * DAY_MS, fixture_arena, NULL), CODE_OK);
    const struct dashboard d = get("", T0);
    for (size_t i = 0; i < DASHBOARD_ENDS; i++)
        assert_int_equal(d.certificates[i].n + d.certificates[i].served, 0);
}

static void a_scan_that_finds_the_same_writes_no_tallies(void **state)
{
    (void)state;
    const char *agent = fixture_agent("web1", "prod");
    struct certificate certificate = certificate_of(3);
    struct certificate_place place = {
        .certificate = certificate.id, .source = PLACE_FILE, .place = "/etc/a", .served = true};
    struct scan_page page = {.agent_id = agent,
                             .certificates = &certificate,
                             .n_certificates = 1,
                             .places = &place,
                             .n_places = 1};
    int64_t rows[2];
    for (int i = 0; i < 2; i++) {
        page.seen_ms = T0 + i;
        assert_int_equal(inventory_apply(fixture_db, &page, fixture_arena, NULL), CODE_OK);
        rows[i] = fixture_number("SELECT count(*) FROM tallies WHERE kind IN (5, 6)");
    }
    assert_int_equal(rows[0], 2);
    assert_int_equal(rows[1], 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(counters_equal_a_scan_after_random_transitions, fixture_reset),
        cmocka_unit_test_setup(what_goes_is_counted_too, fixture_reset),
        cmocka_unit_test_setup(grant_for_some_labels_counts_those_alone, fixture_reset),
        cmocka_unit_test_setup(certificates_by_end_equal_a_scan_after_random_scans, fixture_reset),
        cmocka_unit_test_setup(a_scan_that_finds_the_same_writes_no_tallies, fixture_reset),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
