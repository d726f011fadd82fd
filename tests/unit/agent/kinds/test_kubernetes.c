/* The Kubernetes store against an API server that fails in every way that is known. */
#include "target.h"

#include <poll.h>

#include "base/clock.h"
#include "base/id.h"

static struct status st;

/* A pause between two tries takes no time, but the clock goes on. */
int __real_poll(struct pollfd *fds, nfds_t n, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    if (n == 0) {
        clock_advance(timeout_ms);
        return 0;
    }
    return __real_poll(fds, n, timeout_ms);
}

/* --- the server and the host -----------------------------------------------------------------------------
 */

static void load(struct host *host)
{
    AUTO_BUF struct buf conf = {0};
    assert_true(
        buf_printf(&conf,
                   "[agent]\nstate_dir=%s/state\n[policy]\noperations=renew\ndns_names=*.example.test\n"
                   "[reload refuses]\ncommand=/bin/false\n"
                   "[target t]\nstore=kubernetes\nsecret=web/www-tls\ntoken_file=%s/token\n"
                   "ca_file=%s/ca.pem\napi_server=127.0.0.1:%u\n",
                   host->dir, host->dir, host->dir, api_port));
    write_text(host_path(host, "agent.conf"), buf_text(&conf), 0644);
    policy_free(host->policy);
    host->policy = NULL;
    if (policy_load(host_path(host, "agent.conf"), &host->policy, &st) != CODE_OK)
        fail_msg("%s", st.msg);
}

static int setup(void **state)
{
    (void)host_setup(state);
    struct host *host = *state;
    api_start(host);
    (void)shell(host, "cp api/token token; cp api/api.pem ca.pem");
    load(host);
    clock_fake(clock_wall_ms());
    return 0;
}

static int teardown(void **state)
{
    clock_real();
    return target_teardown(state);
}

static struct issued put_old(struct host *host)
{
    int64_t now = clock_wall_ms();
    struct issued old = issue(host, NULL, now - 80 * DAY_MS, now + 10 * DAY_MS);
    store_kind_find("kubernetes")->put(host, &old);
    return old;
}

static void get(struct host *host, char out[65])
{
    store_kind_find("kubernetes")->get(host, out);
}

static struct outcome run_with(struct host *host, const char *faults)
{
    write_text(host_path(host, "api/faults"), faults, 0600);
    uuid_v7(host->task_id);
    const Clm__TaskSpec *spec = renewing("t");
    char *names[] = {(char[]){"www.example.test"}};
    renew_spec.dns_names = names;
    renew_spec.n_dns_names = 1;
    return run_kind(host, spec);
}

static void assert_installed(struct host *host, struct outcome *out, const char *faults)
{
    char now[65];
    if (out->code != CODE_OK || out->outcome != CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED)
        fail_msg("%s: %s", faults, out->code == CODE_OK ? out->message : out->st.msg);
    get(host, now);
    assert_string_equal(now, out->result.certificate->fingerprint_sha256);
    assert_string_equal(shell(host, "find state -name '.clm-*'"), "");
    outcome_done(out);
}

/* --- tests -----------------------------------------------------------------------------------------------
 */

static void change_leaves_the_rest_of_the_secret(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = put_old(host);
    struct outcome out = run_with(host, "");
    assert_installed(host, &out, "none");
    const char *secret = read_text(host_path(host, "api/secret.json"));
    assert_non_null(strstr(secret, "\"app\": \"www\""));
    assert_non_null(strstr(secret, "\"extra\": \"eA==\""));
}

static void secret_that_is_not_there_is_made(void **state)
{
    struct host *host = *state;
    struct outcome out = run_with(host, "");
    assert_installed(host, &out, "none");
    assert_non_null(strstr(read_text(host_path(host, "api/secret.json")), "kubernetes.io/tls"));
}

static void server_that_is_busy_or_away_for_a_moment_is_asked_again(void **state)
{
    /* The first two calls are the looks before, the third the one before the change, the fourth the change.
     */
    static const char *const faults[] = {"429",
                                         "500",
                                         "503 503",
                                         "closed",
                                         "truncated",
                                         "ok ok ok 500",
                                         "ok ok ok ok 429",
                                         "ok ok ok ok 503 500",
                                         "ok ok ok ok lost",
                                         "ok ok ok ok closed",
                                         "ok ok ok ok truncated",
                                         "slow"};
    struct host *host = *state;
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        struct issued old = put_old(host);
        struct outcome out = run_with(host, faults[i]);
        assert_installed(host, &out, faults[i]);
        issued_done(&old);
    }
}

static void conflict_is_looked_at_again(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = put_old(host);
    struct outcome out = run_with(host, "ok ok ok ok 409 ok relabelled");
    assert_installed(host, &out, "relabelled");
    assert_non_null(strstr(read_text(host_path(host, "api/secret.json")), "\"touched\": \"yes\""));
}

static void what_somebody_else_put_there_stays(void **state)
{
    static const char *const faults[] = {"ok ok ok replaced", "ok ok ok ok replaced"};
    struct host *host = *state;
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        struct issued old = put_old(host);
        struct outcome out = run_with(host, faults[i]);
        const char *why = out.code == CODE_OK ? out.message : out.st.msg;
        assert_int_not_equal(out.outcome, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
        if (!strstr(why, "changed by somebody else"))
            fail_msg("%s: %s", faults[i], why);
        assert_non_null(strstr(read_text(host_path(host, "api/secret.json")), "c29tZWJvZHkgZWxzZSdzCg=="));
        outcome_done(&out);
        issued_done(&old);
    }
}

static void refusals_are_told_and_change_nothing(void **state)
{
    static const struct {
        const char *faults, *says;
    } refusals[] = {
        {"401", "does not accept the token"},
        {"403", "may not get the secret web/www-tls"},
        {"ok ok ok 403", "may not get"},
        {"ok ok ok ok 403", "may not patch the secret web/www-tls: give it a Role"},
        {"ok ok ok ok 422", "(422): field is immutable"},
        {"garbage", "not JSON"},
        {"untyped", "of the type Opaque"},
        {"nobase64", "expected a string"},
        {"huge", "127.0.0.1"},
        {"500 500 500 500 500 500 500 500 500 500 500 500 500 500 500 500 500 500 500 500", "answers 500"},
    };
    struct host *host = *state;
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        char now[65];
        struct issued old = put_old(host);
        struct outcome out = run_with(host, refusals[i].faults);
        const char *why = out.code == CODE_OK ? out.message : out.st.msg;
        if (out.outcome == CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED || !strstr(why, refusals[i].says))
            fail_msg("%s: %s", refusals[i].faults, why);
        get(host, now);
        assert_string_equal(now, old.fingerprint);
        assert_string_equal(shell(host, "find state -name '.clm-*'"), "");
        outcome_done(&out);
        issued_done(&old);
    }
}

static void server_of_another_ca_is_not_believed(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = put_old(host);
    write_file(host_path(host, "ca.pem"), host->root_pem.data, host->root_pem.len, 0644);
    (void)shell(host, "rm -f api/log");
    AUTO_OUTCOME struct outcome out = run_with(host, "");
    assert_int_equal(out.code, CODE_PERMISSION_DENIED);
    assert_int_not_equal(access(host_path(host, "api/log"), F_OK), 0); /* it never saw the token */
}

static void token_is_read_anew_and_must_be_one(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = put_old(host);
    write_text(host_path(host, "token"), "another\n", 0600);
    struct outcome out = run_with(host, "");
    assert_non_null(strstr(out.st.msg, "does not accept the token"));
    outcome_done(&out);
    write_text(host_path(host, "token"), "a\r\nX-Injected: b", 0600);
    out = run_with(host, "");
    assert_non_null(strstr(out.st.msg, "holds no token"));
    outcome_done(&out);
    write_text(host_path(host, "token"), "token-of-the-pod\n", 0600);
    out = run_with(host, "");
    assert_installed(host, &out, "good token");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(change_leaves_the_rest_of_the_secret),
        TEST(secret_that_is_not_there_is_made),
        TEST(server_that_is_busy_or_away_for_a_moment_is_asked_again),
        TEST(conflict_is_looked_at_again),
        TEST(what_somebody_else_put_there_stays),
        TEST(refusals_are_told_and_change_nothing),
        TEST(server_of_another_ca_is_not_believed),
        TEST(token_is_read_anew_and_must_be_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
