/* What puts the agent into safe mode, what it does in it, and what takes it out. */
#include "agent_gateway.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include "pki/cms.h"
#include "wire/wire.h"

static void a_clock_far_from_the_platforms_is_safe_mode(void **state)
{
    struct gateway *gw = *state;
    gw->clock_off_ms = 6 * 60 * 1000;
    agent_start(gw);
    WAIT(gw, gw->held && gw->last->safe_mode);
    assert_string_equal(gw->last->safe_mode_reason, "CLOCK");
    agent_stop(gw, SIGTERM);
}

static void a_crash_loop_is_safe_mode(void **state)
{
    struct gateway *gw = *state;
    for (unsigned i = 0; i < 3; i++) {
        agent_start(gw);
        WAIT(gw, gw->held && !gw->last->has_confirmation);
        assert_false(gw->last->safe_mode);
        agent_stop(gw, SIGKILL);
        WAIT(gw, !gw->held);
    }
    agent_start(gw);
    WAIT(gw, gw->held);
    assert_true(gw->last->safe_mode);
    assert_string_equal(gw->last->safe_mode_reason, "CRASH_LOOP");
    agent_stop(gw, SIGTERM);
}

static void an_invalid_policy_is_safe_mode_until_it_is_mended(void **state)
{
    struct gateway *gw = *state;
    struct status st;
    AUTO_BUF struct buf good = {0};
    AUTO_DER struct der old = {0};
    OK(file_read(gw->config, 4096, &good, &st));
    old_certificate_write(gw, &old);
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    write_text_file(gw->config, "[policy]\noperatons = everything\n", 0644);
    (void)kill(gw->agent, SIGHUP);
    WAIT(gw, gw->held && gw->last->safe_mode);
    assert_string_equal(gw->last->safe_mode_reason, "INVALID_POLICY");
    renew_add(gw, TEST_TASK_ID);
    WAIT(gw, gw->n_seen == 1);
    (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__REFUSED);
    WAIT(gw, gw->held && gw->last->n_held == 0);
    discover_add(gw, TEST_OTHER_TASK, &gw->tasks);
    WAIT(gw, gw->n_seen == 2);
    (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    write_text_file(gw->config, buf_text(&good), 0644);
    (void)kill(gw->agent, SIGHUP);
    WAIT(gw, gw->held && !gw->last->safe_mode);
    /* Nothing of the former policy is in use any more. */
    pid_t net = child_of(gw->agent, "net");
    unsigned before = gw->connections;
    assert_true(net > 0);
    assert_int_equal(kill(net, SIGKILL), 0);
    WAIT(gw, gw->connections > before && gw->held);
    agent_stop(gw, SIGTERM);
}

/* What [agent] says holds though the rest cannot be read: the host is enrolled, and says what is wrong. */
static void a_start_with_an_invalid_policy_is_safe_mode_and_no_loss_of_the_identity(void **state)
{
    struct gateway *gw = *state;
    struct status st;
    AUTO_BUF struct buf good = {0};
    OK(file_read(gw->config, 4096, &good, &st));
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    agent_stop(gw, SIGTERM);
    WAIT(gw, !gw->held);
    AUTO_FREE char *bad = NULL;
    assert_true(asprintf(&bad, "%s\nthis is no line of it\n", buf_text(&good)) > 0);
    write_text_file(gw->config, bad, 0644);
    agent_start(gw);
    WAIT(gw, gw->held && gw->last->safe_mode);
    assert_string_equal(gw->last->safe_mode_reason, "INVALID_POLICY");
    write_text_file(gw->config, buf_text(&good), 0644);
    (void)kill(gw->agent, SIGHUP);
    WAIT(gw, gw->held && !gw->last->safe_mode);
    agent_stop(gw, SIGTERM);
}

/* `clm-agent COMMAND` as its administrator calls it; its output is not looked at. */
static void agent_command(const struct gateway *gw, const char *command)
{
    int how = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)execl(CLM_AGENT_BIN, "clm-agent", command, "--config", gw->config, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
}

static bool in_safe_mode(const struct gateway *gw, const char *reason)
{
    return gw->held && gw->last->safe_mode && strcmp(gw->last->safe_mode_reason, reason) == 0;
}

static void the_hosts_administrator_enters_and_leaves_safe_mode(void **state)
{
    struct gateway *gw = *state;
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    agent_command(gw, "safe-mode");
    WAIT(gw, in_safe_mode(gw, "LOCAL"));
    renew_add(gw, TEST_TASK_ID);
    WAIT(gw, gw->n_seen == 1);
    (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__REFUSED);
    /* It outlives the agent. */
    agent_stop(gw, SIGTERM);
    gw->held = NULL;
    agent_start(gw);
    WAIT(gw, in_safe_mode(gw, "LOCAL"));
    agent_command(gw, "leave-safe-mode");
    WAIT(gw, gw->held && !gw->last->safe_mode);
    agent_stop(gw, SIGTERM);
}

static void what_has_not_begun_does_not_begin_in_safe_mode(void **state)
{
    struct gateway *gw = *state;
    AUTO_DER struct der old = {0};
    static const char first[] = "019a0000-0000-7000-8000-000000000051";
    old_certificate_write(gw, &old);
    gw->sign_pending = 1000000;
    gw->sign_retry_ms = 60000;
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    renew_add(gw, first);
    WAIT(gw, gw->held && gw->last->n_held == 1);
    renew_add(gw, TEST_TASK_ID); /* waits for the other change of its target */
    WAIT(gw, gw->held && gw->last->n_held == 2);
    agent_command(gw, "safe-mode");
    WAIT(gw, in_safe_mode(gw, "LOCAL"));
    gw->cancel_task_id = first;
    answer_checkin(gw);
    WAIT(gw, gw->n_seen == 2);
    assert_string_equal(gw->seen[0].task_id, first);
    assert_string_equal(gw->seen[1].task_id, TEST_TASK_ID);
    (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__REFUSED);
    agent_stop(gw, SIGKILL);
}

/* A task that was accepted before a restart has changed nothing yet: the restart is no way around it. */
static void what_had_not_begun_before_a_restart_does_not_begin_in_safe_mode(void **state)
{
    struct gateway *gw = *state;
    AUTO_DER struct der old = {0};
    AUTO_DER_LIST struct der_list installed = {0};
    old_certificate_write(gw, &old);
    gw->sign_pending = 1000000;
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    renew_add(gw, TEST_TASK_ID);
    WAIT(gw, gw->signs >= 1 && gw->held);
    agent_stop(gw, SIGKILL);
    WAIT(gw, !gw->held);
    agent_command(gw, "safe-mode");
    gw->sign_pending = 0;
    agent_start(gw);
    WAIT(gw, gw->n_seen == 1);
    assert_non_null(strstr(last_receipt(gw, CLM__RECEIPT__OUTCOME__REFUSED)->message, "safe mode"));
    installed_certificate(gw, &installed);
    assert_int_equal(installed.item[0].len, old.len);
    assert_memory_equal(installed.item[0].data, old.data, old.len);
    agent_stop(gw, SIGTERM);
}

static void a_state_directory_that_cannot_be_written_is_safe_mode(void **state)
{
    struct gateway *gw = *state;
    char path[160];
    struct status st;
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    assert_false(gw->last->safe_mode);
    agent_stop(gw, SIGTERM);
    gw->held = NULL;
    /* Not even root writes a file where a directory is. */
    (void)snprintf(path, sizeof(path), "%s/journal/write-check", gw->state_dir);
    (void)unlink(path);
    OK(dir_make(path, 0700, &st));
    agent_start(gw);
    WAIT(gw, in_safe_mode(gw, "STATE_FULL"));
    agent_stop(gw, SIGTERM);
}

/* The configuration test changes the file behind the agent's back, so that it cannot be brought back. */
static void a_failed_rollback_is_safe_mode_until_the_administrator_ends_it(void **state)
{
    struct gateway *gw = *state;
    struct status st;
    AUTO_BUF struct buf config = {0};
    AUTO_DER struct der old = {0};
    char more[512];
    old_certificate_write(gw, &old);
    OK(file_read(gw->config, 4096, &config, &st));
    (void)snprintf(more, sizeof(more),
                   "reload = web\n[reload web]\ncommand = /bin/true\n"
                   "test = /bin/sh -c 'echo mine > %s/web.pem; false'\n",
                   gw->dir);
    assert_true(buf_puts(&config, more));
    write_text_file(gw->config, buf_text(&config), 0644);
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    renew_add(gw, TEST_TASK_ID);
    WAIT(gw, gw->n_seen == 1);
    (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__FAILED);
    WAIT(gw, in_safe_mode(gw, "ROLLBACK_FAILED"));
    renew_add(gw, TEST_OTHER_TASK);
    WAIT(gw, gw->n_seen == 2);
    (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__REFUSED);
    agent_stop(gw, SIGTERM);
    gw->held = NULL;
    agent_start(gw);
    WAIT(gw, in_safe_mode(gw, "ROLLBACK_FAILED"));
    agent_command(gw, "leave-safe-mode");
    WAIT(gw, gw->held && !gw->last->safe_mode);
    agent_stop(gw, SIGTERM);
}

static void server_restart(struct gateway *gw, const struct test_ca *ca)
{
    uint16_t port = http_server_port(gw->server);
    http_server_free(gw->server);
    tls_context_free(gw->tls);
    gw->held = NULL;
    server_start(gw, ca, port);
}

/* Nothing of the gateway's happens with it: looked for while the gateway goes on. */
static void wait_for_file(struct gateway *gw, const char *name, bool there)
{
    char path[256];
    int64_t until = clock_mono_ms() + DEADLINE_MS;
    (void)snprintf(path, sizeof(path), "%s/%s", gw->state_dir, name);
    while ((access(path, F_OK) == 0) != there) {
        if (clock_mono_ms() > until)
            fail_msg("%s is still %s", path, there ? "missing" : "there");
        loop_timer_set(gw->guard, 20);
        loop_run(gw->loop);
    }
}

static void a_gateway_that_no_root_vouches_for_is_safe_mode_until_it_proves_itself(void **state)
{
    struct gateway *gw = *state;
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    server_restart(gw, &gw->other_ca);
    wait_for_file(gw, "safe-mode/CA_TRUST", true);
    server_restart(gw, &gw->ca);
    WAIT(gw, in_safe_mode(gw, "CA_TRUST")); /* the platform is told */
    answer_checkin(gw);
    WAIT(gw, gw->held && !gw->last->safe_mode);
    wait_for_file(gw, "safe-mode/CA_TRUST", false);
    agent_stop(gw, SIGTERM);
}

static void a_released_change_is_done_in_safe_mode_if_the_policy_lets_it(void **state)
{
    struct gateway *gw = *state;
    struct status st;
    AUTO_BUF struct buf config = {0};
    AUTO_DER struct der old = {0};
    old_certificate_write(gw, &old);
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    agent_command(gw, "safe-mode");
    WAIT(gw, in_safe_mode(gw, "LOCAL"));
    gw->safe_mode = gw->break_glass = true;
    renew_add(gw, TEST_TASK_ID);
    WAIT(gw, gw->n_seen == 1);
    assert_non_null(strstr(last_receipt(gw, CLM__RECEIPT__OUTCOME__REFUSED)->message, "break_glass"));
    OK(file_read(gw->config, 4096, &config, &st));
    assert_true(buf_puts(&config, "[policy]\nbreak_glass = yes\nmetrics = on\n"));
    write_text_file(gw->config, buf_text(&config), 0644);
    WAIT(gw, gw->held && gw->last->n_held == 0 && !gw->last->metrics);
    (void)kill(gw->agent, SIGHUP);
    WAIT(gw,
         in_safe_mode(gw, "LOCAL") && gw->last->metrics); /* what of the new policy is seen from outside */
    renew_add(gw, TEST_OTHER_TASK);
    WAIT(gw, gw->n_seen == 2);
    (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
    agent_stop(gw, SIGTERM);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, gateway_setup, gateway_teardown)
    const struct CMUnitTest tests[] = {
        T(a_clock_far_from_the_platforms_is_safe_mode),
        T(a_crash_loop_is_safe_mode),
        T(an_invalid_policy_is_safe_mode_until_it_is_mended),
        T(a_start_with_an_invalid_policy_is_safe_mode_and_no_loss_of_the_identity),
        T(the_hosts_administrator_enters_and_leaves_safe_mode),
        T(what_has_not_begun_does_not_begin_in_safe_mode),
        T(what_had_not_begun_before_a_restart_does_not_begin_in_safe_mode),
        T(a_state_directory_that_cannot_be_written_is_safe_mode),
        T(a_failed_rollback_is_safe_mode_until_the_administrator_ends_it),
        T(a_gateway_that_no_root_vouches_for_is_safe_mode_until_it_proves_itself),
        T(a_released_change_is_done_in_safe_mode_if_the_policy_lets_it),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
