/* `clm-agent setup`: what it writes is what the agent then may do, and nothing without a yes. */
#include "harness.h"

#include <sys/stat.h>

#include "agent/setup.h"
#include "base/clock.h"

static struct status st;
static char *shown;
static size_t shown_len;

static bool set_up(struct host *host, bool yes)
{
    struct setup_options options = {.config = host_path(host, "conf/agent.conf"),
                                    .manage = {{"nginx", host_path(host, "nginx.conf")}},
                                    .n_manage = 1,
                                    .yes = yes};
    bool written = false;
    FILE *in = fopen("/dev/null", "re");
    free(shown);
    shown = NULL;
    FILE *out = open_memstream(&shown, &shown_len);
    memset(&st, 0, sizeof(st));
    enum code code = setup_run(&options, in, out, &written, &st);
    (void)fclose(in);
    (void)fclose(out);
    st.code = code;
    return written;
}

static int setup(void **state)
{
    if (host_setup(state) != 0)
        return -1;
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    struct issued pair = issue(host, "alias.example.test", now - DAY_MS, now + 80 * DAY_MS);
    put_pair(host, &pair);
    issued_done(&pair);
    write_nginx_conf(host, NULL);
    return mkdir(host_path(host, "conf"), 0755);
}

static int teardown(void **state)
{
    free(shown);
    shown = NULL;
    return host_teardown(state);
}

static void nginx_becomes_a_target(void **state)
{
    struct host *host = *state;
    assert_true(set_up(host, true));
    char *path = host_path(host, "conf/agent.conf");
    if (policy_load(path, &host->policy, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    const struct policy_target *target;
    assert_int_equal(policy_find_target(host->policy, "nginx", &target, &st), CODE_OK);
    assert_string_equal(target->certificate, host_path(host, "cert.pem"));
    assert_string_equal(target->key, host_path(host, "key.pem"));
    char endpoint[32];
    (void)snprintf(endpoint, sizeof(endpoint), "127.0.0.1:%u", host->port);
    assert_string_equal(target->endpoint, endpoint);
    assert_string_equal(target->server_name, "www.example.test");
    char *names[] = {(char[]){"www.example.test"}, (char[]){"alias.example.test"}};
    assert_int_equal(policy_allows_names(host->policy, target, names, 2, &st), CODE_OK);
    assert_int_equal(policy_allows_operation(host->policy, CLM__TASK__KIND__RENEW, &st), CODE_OK);
    assert_int_equal(policy_allows_operation(host->policy, CLM__TASK__KIND__DISCOVER, &st), CODE_OK);
    assert_int_equal(policy_allows_discovery(host->policy, host->dir, &st), CODE_OK);
    const struct policy_reload *reload = policy_find_reload(host->policy, target->reload);
    assert_non_null(reload);
    assert_string_equal(reload->command[0], "/usr/sbin/nginx");
    assert_string_equal(reload->command[4], host_path(host, "nginx.conf"));
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0644);
    assert_non_null(strstr(shown, "[target nginx]"));
}

static void renewal_works_with_what_setup_wrote(void **state)
{
    struct host *host = *state;
    start_nginx(host);
    assert_true(set_up(host, true));
    assert_int_equal(policy_load(host_path(host, "conf/agent.conf"), &host->policy, &st), CODE_OK);
    Clm__TaskSpec spec = CLM__TASK_SPEC__INIT;
    Clm__RenewSpec renew = CLM__RENEW_SPEC__INIT;
    spec.has_kind = true;
    spec.kind = CLM__TASK__KIND__RENEW;
    spec.renew = &renew;
    renew.target = (char *)(uintptr_t) "nginx";
    char *names[] = {(char[]){"www.example.test"}};
    renew.dns_names = names;
    renew.n_dns_names = 1;
    struct outcome out = run_kind(host, &spec);
    if (out.code != CODE_OK)
        fail_msg("%s", out.st.msg);
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    outcome_done(&out);
}

static void what_stands_there_is_kept_and_nothing_comes_twice(void **state)
{
    struct host *host = *state;
    char *path = host_path(host, "conf/agent.conf");
    write_text(path,
               "# mine\n[agent]\ngateway = gw.example.test:8443\n[policy] \noperations = validate\n# note\n"
               "[reload nginx]\ncommand = /bin/true\n",
               0600);
    assert_true(set_up(host, true));
    assert_int_equal(policy_load(path, &host->policy, &st), CODE_OK);
    assert_string_equal(host->policy->gateway, "gw.example.test:8443");
    assert_int_equal(policy_allows_operation(host->policy, CLM__TASK__KIND__VALIDATE, &st), CODE_OK);
    assert_int_equal(policy_allows_operation(host->policy, CLM__TASK__KIND__RENEW, &st), CODE_OK);
    assert_string_equal(policy_find_reload(host->policy, "nginx")->command[0], "/bin/true");
    assert_string_equal(host->policy->targets[0]->reload, "nginx-2");
    const char *text = read_text(path);
    assert_non_null(strstr(text, "# mine\n"));
    assert_non_null(strstr(text, "# note\n"));
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_false(set_up(host, true));
    assert_int_equal(st.code, CODE_OK);
    assert_non_null(strstr(shown, "Nothing to do"));
    assert_string_equal(read_text(path), text);
}

static void without_a_terminal_nothing_is_written(void **state)
{
    struct host *host = *state;
    assert_false(set_up(host, false));
    assert_int_equal(st.code, CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(st.msg, "--yes"));
    assert_int_not_equal(access(host_path(host, "conf/agent.conf"), F_OK), 0);
}

static void broken_policy_is_not_overwritten(void **state)
{
    struct host *host = *state;
    write_text(host_path(host, "conf/agent.conf"), "[policy]\nnonsense = 1\n", 0644);
    assert_false(set_up(host, true));
    assert_int_equal(st.code, CODE_INVALID_ARGUMENT);
    assert_string_equal(read_text(host_path(host, "conf/agent.conf")), "[policy]\nnonsense = 1\n");
}

static void wrong_arguments_are_told(void **state)
{
    (void)state;
    char *bad[] = {(char[]){"setup"}, (char[]){"--manage"}, (char[]){"sendmail"}, NULL};
    assert_int_equal(setup_main(3, bad), 2);
    char *nowhere[] = {(char[]){"setup"}, (char[]){"--manage"}, (char[]){"nginx="}, NULL};
    assert_int_equal(setup_main(3, nowhere), 2);
    char *whose[] = {(char[]){"setup"}, (char[]){"--command"}, (char[]){"/bin/true"}, NULL};
    assert_int_equal(setup_main(3, whose), 2);
    char *more[] = {(char[]){"setup"}, (char[]){"now"}, NULL};
    assert_int_equal(setup_main(2, more), 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(nginx_becomes_a_target),
        TEST(renewal_works_with_what_setup_wrote),
        TEST(what_stands_there_is_kept_and_nothing_comes_twice),
        TEST(without_a_terminal_nothing_is_written),
        TEST(broken_policy_is_not_overwritten),
        TEST(wrong_arguments_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
