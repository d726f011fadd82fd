/* What differs from what was intended is seen, on real files and a real nginx. */
#include "harness.h"

#include <signal.h>

#include "base/clock.h"
#include "kinds/drift.h"

static struct arena *arena;

static Clm__DriftReport check(struct host *host)
{
    Clm__DriftReport report;
    if (arena)
        arena_free(arena);
    arena = arena_new();
    drift_check(host->policy, host_path(host, "state"), arena, &report);
    return report;
}

static int teardown(void **state)
{
    if (arena)
        arena_free(arena);
    arena = NULL;
    return host_teardown(state);
}

static void assert_drift(struct host *host, const char *check_id, const char *says)
{
    Clm__DriftReport report = check(host);
    assert_int_equal(report.n_drifts, 1);
    assert_string_equal(report.drifts[0]->target, "nginx");
    assert_string_equal(report.drifts[0]->check, check_id);
    if (!strstr(report.drifts[0]->reason, says))
        fail_msg("\"%s\" is not in \"%s\"", says, report.drifts[0]->reason);
}

static void assert_sound(struct host *host)
{
    Clm__DriftReport report = check(host);
    if (report.n_drifts != 0)
        fail_msg("%s", report.drifts[0]->reason);
}

static void whatever_differs_is_seen_and_gone_when_mended(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    struct issued pair = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    struct issued other = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    put_pair(host, &pair);
    write_nginx_conf(host, NULL);
    start_nginx(host);
    load_policy(host, NULL, NULL);
    assert_sound(host);

    /* Nothing was ever deployed: the files are whoever's, but they must be what is served. */
    put_pair(host, &other);
    assert_drift(host, "served", "reload the server");
    put_pair(host, &pair);
    assert_sound(host);

    intended_put(host_path(host, "state"), "nginx", pair.fingerprint);
    assert_sound(host);
    put_pair(host, &other); /* somebody else's hand */
    assert_drift(host, "file", "was overwritten");
    put_pair(host, &pair);
    write_file(host_path(host, "key.pem"), other.key_pem->data, other.key_pem->len, 0600);
    assert_drift(host, "key-match", "not this certificate's");
    put_pair(host, &pair);
    assert_int_equal(unlink(host_path(host, "cert.pem")), 0);
    assert_drift(host, "file", "holds no certificate any more");
    put_pair(host, &other); /* deployed, but nobody reloaded */
    intended_put(host_path(host, "state"), "nginx", other.fingerprint);
    assert_drift(host, "served", "reload the server");
    assert_int_equal(kill(host->nginx, SIGHUP), 0);
    /* For an instant after a reload the former workers still answer beside the new ones. */
    for (int i = 0; i < 500 && check(host).n_drifts != 0; i++)
        ;
    assert_sound(host);

    /* A server that is down serves nothing: that is for others to see. */
    stop_nginx(host);
    assert_sound(host);
    issued_done(&pair);
    issued_done(&other);
}

static void what_is_intended_is_kept_and_damage_is_nothing(void **state)
{
    struct host *host = *state;
    char found[SHA256_HEX_SIZE];
    char fingerprint[SHA256_HEX_SIZE];
    memset(fingerprint, 'a', sizeof(fingerprint) - 1);
    fingerprint[sizeof(fingerprint) - 1] = 0;
    assert_false(intended_get(host->dir, "x", found));
    intended_put(host->dir, "x", fingerprint);
    assert_true(intended_get(host->dir, "x", found));
    assert_string_equal(found, fingerprint);
    write_text(host_path(host, "intended/x"), "not a fingerprint", 0600);
    assert_false(intended_get(host->dir, "x", found));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, host_setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(whatever_differs_is_seen_and_gone_when_mended),
        TEST(what_is_intended_is_kept_and_damage_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
