/* The hooks of a reload: the pre hook may forbid a change, and what it let pass and did not succeed is told.
 */
#include "harness.h"

#include "base/clock.h"
#include "base/id.h"

static struct issued old;

static int setup(void **state)
{
    if (host_setup(state) != 0)
        return -1;
    int64_t now = clock_wall_ms();
    old = issue(*state, NULL, now - 80 * DAY_MS, now + 10 * DAY_MS);
    put_pair(*state, &old);
    write_nginx_conf(*state, NULL);
    start_nginx(*state);
    return 0;
}

static int teardown(void **state)
{
    issued_done(&old);
    return host_teardown(state);
}

/* Each hook appends its name and what it was told to the file "told", and ends with what the caller says. */
static void load(struct host *host, const char *test, int pre, int failure)
{
    AUTO_FREE char *script = NULL, *reload = NULL;
    assert_true(asprintf(&script,
                         "#!/bin/sh\necho \"$CLM_HOOK $CLM_TARGET $WHO $CLM_REASON\" >> %s/told\n"
                         "test \"$1\" = 0 || echo 'not now, password=hunter2'\nexit $1\n",
                         host->dir) > 0);
    write_text(host_path(host, "hook"), script, 0755);
    assert_true(
        asprintf(&reload,
                 "command = /usr/sbin/nginx -p %s/ -c %s/nginx.conf -s reload\ntest = %s\npre = %s/hook %d\n"
                 "failure = %s/hook %d\nenvironment = 'WHO=the agent' X=1\ntimeout = 2s\n",
                 host->dir, host->dir, test, host->dir, pre, host->dir, failure) > 0);
    load_policy(host, NULL, reload);
}

static void assert_told(struct host *host, const char *wanted)
{
    assert_string_equal(read_text(host_path(host, "told")), wanted);
}

static void pre_hook_that_lets_pass_is_followed_by_the_change(void **state)
{
    struct host *host = *state;
    load(host, "/bin/true", 0, 0);
    AUTO_OUTCOME struct outcome out = run_kind(host, renewing("nginx"));
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    assert_true(find_step(&out, "pre")->ok);
    assert_null(find_step(&out, "failure"));
    assert_told(host, "pre nginx the agent \n");
}

static void pre_hook_may_forbid_the_change(void **state)
{
    struct host *host = *state;
    char now[65];
    load(host, "/bin/true", 3, 0);
    AUTO_OUTCOME struct outcome out = run_kind(host, renewing("nginx"));
    assert_int_equal(out.code, CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(out.st.msg, "the pre hook forbids the change: "));
    assert_non_null(strstr(out.st.msg, "not now, password=[removed]"));
    assert_non_null(
        strstr(find_step(&out, "pre")->message, "ended with status 3: not now, password=[removed]"));
    assert_null(find_step(&out, "stage"));
    assert_null(find_step(&out, "failure"));
    assert_told(host, "pre nginx the agent \n");
    assert_string_equal(read_text(host_path(host, "cert.pem")), buf_text(&old.cert_pem));
    served(host, now);
    assert_string_equal(now, old.fingerprint);
}

static void what_did_not_succeed_is_told_with_its_reason(void **state)
{
    struct host *host = *state;
    load(host, "/bin/false", 0, 5);
    AUTO_OUTCOME struct outcome out = run_kind(host, renewing("nginx"));
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__FAILED);
    assert_told(host,
                "pre nginx the agent \n"
                "failure nginx the agent rolled back: the configuration test failed: /bin/false ended with "
                "status 1: \n");
    /* Its own failure changes nothing but is seen. */
    assert_false(find_step(&out, "failure")->ok);
    assert_string_equal(read_text(host_path(host, "cert.pem")), buf_text(&old.cert_pem));
}

static void pre_hook_that_does_not_end_forbids_the_change(void **state)
{
    struct host *host = *state;
    load_policy(host, NULL, "command = /bin/true\npre = /bin/sleep 60\ntimeout = 1s\n");
    AUTO_OUTCOME struct outcome out = run_kind(host, renewing("nginx"));
    assert_int_equal(out.code, CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(out.st.msg, "did not end within 1000 ms and was killed"));
    assert_string_equal(read_text(host_path(host, "cert.pem")), buf_text(&old.cert_pem));
}

static void failure_hook_needs_no_pre_hook(void **state)
{
    struct host *host = *state;
    load(host, "/bin/true", 0, 0);
    AUTO_FREE char *reload = NULL;
    assert_true(asprintf(&reload, "command = /bin/false\nfailure = %s/hook 0\ntimeout = 1s\n", host->dir) >
                0);
    load_policy(host, NULL, reload);
    AUTO_OUTCOME struct outcome out = run_kind(host, renewing("nginx"));
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__FAILED);
    assert_non_null(
        strstr(read_text(host_path(host, "told")), "failure nginx  rolled back: the reload failed"));
}

/* The endpoint is the first server's; that the second one could not be told is a failure all the same. */
static void every_server_that_uses_the_file_is_told(void **state)
{
    struct host *host = *state;
    load(host, "/bin/true", 0, 0);
    AUTO_FREE char *target = NULL, *reload = NULL;
    assert_true(asprintf(&target, "endpoint = 127.0.0.1:%u\n", host->port) > 0);
    for (int second = 0; second < 2; second++) {
        free(reload);
        assert_true(
            asprintf(&reload,
                     "command = /usr/sbin/nginx -p %s/ -c %s/nginx.conf -s reload\ntimeout = 2s\n"
                     "[reload other]\ncommand = %s/hook %d\n[target both]\ncertificate = %s/cert.pem\n"
                     "key = %s/key.pem\nendpoint = 127.0.0.1:%u\nreload = nginx other\n",
                     host->dir, host->dir, host->dir, second == 0, host->dir, host->dir, host->port) > 0);
        load_policy(host, target, reload);
        uuid_v7(host->task_id);
        struct outcome out = run_kind(host, renewing("both"));
        if (second == 0) {
            assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__FAILED);
            assert_non_null(strstr(out.message, "rolled back: the reload failed"));
            assert_serves(host, old.fingerprint);
        } else {
            assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__SUCCEEDED);
            assert_serves(host, out.result.fingerprint_after_sha256);
        }
        outcome_done(&out);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(pre_hook_that_lets_pass_is_followed_by_the_change),
        TEST(pre_hook_may_forbid_the_change),
        TEST(what_did_not_succeed_is_told_with_its_reason),
        TEST(failure_hook_needs_no_pre_hook),
        TEST(pre_hook_that_does_not_end_forbids_the_change),
        TEST(every_server_that_uses_the_file_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
