/* VALIDATE: each check says pass, warn or fail for the right reason. */
#include "harness.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "kinds/judge.h"

static Clm__TaskSpec spec;
static Clm__ValidateSpec validate;

static const Clm__TaskSpec *validating(const char *target)
{
    clm__task_spec__init(&spec);
    clm__validate_spec__init(&validate);
    spec.has_kind = true;
    spec.kind = CLM__TASK__KIND__VALIDATE;
    spec.validate = &validate;
    validate.target = (char *)(uintptr_t)target;
    return &spec;
}

static void assert_check(const struct outcome *out, const char *id, Clm__Check__Outcome outcome,
                         const char *says)
{
    const Clm__Check *check = find_check(out, id);
    if (!check)
        fail_msg("there is no check %s", id);
    if (check->outcome != outcome || (says && !strstr(check->reason, says)))
        fail_msg("%s: outcome %d, \"%s\"", id, (int)check->outcome, check->reason);
    if (outcome == CLM__CHECK__OUTCOME__PASS)
        assert_null(check->remedy);
    else
        assert_non_null(check->remedy);
}
#define PASS CLM__CHECK__OUTCOME__PASS
#define WARN CLM__CHECK__OUTCOME__WARN
#define FAIL CLM__CHECK__OUTCOME__FAIL

static void sound_server_passes_every_check(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued pair = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    put_pair(host, &pair);
    write_nginx_conf(host, NULL);
    start_nginx(host);
    load_policy(host, NULL, NULL);
    assert_int_equal(mkdir(host_path(host, "state"), 0700), 0);
    trust_remember(host_path(host, "state"), der_bytes(&host->root));
    AUTO_OUTCOME struct outcome out = run_kind(host, validating("nginx"));
    assert_int_equal(out.code, CODE_OK);
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    static const char *const ids[] = {"file",     "key-match",  "permissions", "chain",
                                      "names",    "validity",   "weak-key",    "weak-signature",
                                      "eku",      "reachable",  "served",      "served-chain",
                                      "protocol", "revocation", "served-names"};
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        assert_check(&out, ids[i], PASS, NULL);
    assert_int_equal(out.result.n_checks, ARRAY_LEN(ids));
    assert_string_equal(out.message, "all 15 checks pass");
    assert_string_equal(out.result.served_fingerprint_sha256, pair.fingerprint);
    assert_string_equal(out.result.certificate->fingerprint_sha256, pair.fingerprint);
}

static void served_other_than_installed_fails(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued pair = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    AUTO_ISSUED struct issued other = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    put_pair(host, &pair);
    write_nginx_conf(host, NULL);
    start_nginx(host);
    put_pair(host, &other); /* installed, never reloaded */
    load_policy(host, NULL, NULL);
    AUTO_OUTCOME struct outcome out = run_kind(host, validating("nginx"));
    assert_check(&out, "served", FAIL, pair.fingerprint[0] ? "serves" : NULL);
    assert_check(&out, "chain", WARN, "not known to this host");
    outcome_done(&out);
    (void)validating("nginx");
    validate.expected_fingerprint_sha256 = pair.fingerprint;
    out = run_kind(host, &spec);
    assert_check(&out, "served", PASS, NULL);
}

static void faults_of_the_files_are_found(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued expired = issue(host, "other.example.test", now - 90 * DAY_MS, now - DAY_MS);
    AUTO_ISSUED struct issued stranger = issue(host, NULL, now - DAY_MS, now + DAY_MS);
    put_pair(host, &expired);
    write_file(host_path(host, "key.pem"), stranger.key_pem->data, stranger.key_pem->len, 0644);
    load_policy(host, "server_name = www.example.test\n", NULL);
    AUTO_OUTCOME struct outcome out = run_kind(host, validating("nginx"));
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    assert_check(&out, "key-match", FAIL, "not this certificate's");
    assert_check(&out, "permissions", FAIL, "0644");
    assert_check(&out, "validity", FAIL, "expired at");
    assert_check(&out, "names", FAIL, "www.example.test");
    assert_null(find_check(&out, "reachable"));
    outcome_done(&out);

    put_pair(host, &stranger); /* two days of life, one of them gone */
    assert_int_equal(chmod(host_path(host, "key.pem"), 0640), 0);
    out = run_kind(host, validating("nginx"));
    assert_check(&out, "key-match", PASS, NULL);
    assert_check(&out, "permissions", WARN, "0640");
    assert_check(&out, "validity", WARN, "in 2");
    outcome_done(&out);

    write_text(host_path(host, "cert.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
               0644);
    out = run_kind(host, validating("nginx"));
    assert_check(&out, "file", FAIL, NULL);
    outcome_done(&out);
    assert_int_equal(unlink(host_path(host, "cert.pem")), 0);
    out = run_kind(host, validating("nginx"));
    assert_check(&out, "file", FAIL, "nothing at");
}

static void unreachable_and_mute_endpoints_fail_in_time(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued pair = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    put_pair(host, &pair);
    load_policy(host, NULL, NULL);
    AUTO_OUTCOME struct outcome out = run_kind(host, validating("nginx"));
    assert_check(&out, "reachable", FAIL, "cannot connect");
    outcome_done(&out);
    /* Accepts and says nothing. */
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)host->port)};
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 4), 0);
    out = run_kind(host, validating("nginx"));
    assert_check(&out, "reachable", FAIL, "no TLS answer within");
}

static void endpoints_and_files_outside_policy_are_refused(void **state)
{
    struct host *host = *state;
    load_policy(host, NULL, NULL);
    (void)validating(NULL);
    validate.endpoint = (char *)(uintptr_t) "192.0.2.1:443";
    AUTO_OUTCOME struct outcome out = run_kind(host, &spec);
    assert_int_equal(out.code, CODE_PERMISSION_DENIED);
    assert_non_null(strstr(out.st.msg, "probe_hosts"));
    outcome_done(&out);
    (void)validating(NULL);
    validate.certificate_path = (char *)(uintptr_t) "/root/secret.pem";
    out = run_kind(host, &spec);
    assert_int_equal(out.code, CODE_PERMISSION_DENIED);
    outcome_done(&out);
    (void)validating(NULL);
    out = run_kind(host, &spec);
    assert_int_equal(out.code, CODE_INVALID_ARGUMENT);
}

static void old_protocol_versions_are_told(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued pair = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    put_pair(host, &pair);
    write_nginx_conf(host, "ssl_protocols TLSv1 TLSv1.1 TLSv1.2;\nssl_ciphers ALL:@SECLEVEL=0;\n");
    start_nginx(host);
    load_policy(host, NULL, NULL);
    (void)validating(NULL);
    char endpoint[32];
    (void)snprintf(endpoint, sizeof(endpoint), "127.0.0.1:%u", host->port);
    validate.endpoint = endpoint;
    AUTO_OUTCOME struct outcome out = run_kind(host, &spec);
    assert_int_equal(out.code, CODE_OK);
    assert_check(&out, "protocol", WARN, "TLS 1.1");
    assert_check(&out, "served", PASS, pair.fingerprint);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, host_setup, host_teardown)
    const struct CMUnitTest tests[] = {
        TEST(sound_server_passes_every_check),
        TEST(served_other_than_installed_fails),
        TEST(faults_of_the_files_are_found),
        TEST(unreachable_and_mute_endpoints_fail_in_time),
        TEST(endpoints_and_files_outside_policy_are_refused),
        TEST(old_protocol_versions_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
