/* Processes of the agent end where it hurts: what was begun is ended, and told once. */
#include "agent_gateway.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include "agent/journal.h"
#include "pki/cms.h"
#include "wire/wire.h"

static void a_killed_net_process_comes_back(void **state)
{
    struct gateway *gw = *state;
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    pid_t net = child_of(gw->agent, "net");
    assert_true(net > 0);
    unsigned before = gw->connections;
    assert_int_equal(kill(net, SIGKILL), 0);
    WAIT(gw, gw->connections > before && gw->held);
    discover_add(gw, TEST_TASK_ID, &gw->tasks);
    WAIT(gw, gw->n_seen == 1);
    (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    agent_stop(gw, SIGTERM);
}

/* kill -9 while the task waits for its certificate; the next start resumes it and reports once. */
static void a_task_that_was_cut_off_is_resumed_at_the_next_start(void **state)
{
    struct gateway *gw = *state;
    AUTO_DER struct der old = {0};
    AUTO_DER_LIST struct der_list installed = {0};
    old_certificate_write(gw, &old);
    gw->sign_pending = 1000000;
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    renew_add(gw, TEST_TASK_ID);
    WAIT(gw, gw->signs >= 2);
    WAIT(gw, gw->held);
    agent_stop(gw, SIGKILL);
    WAIT(gw, !gw->held); /* net ends with exec: its connection is gone */
    gw->sign_pending = 0;
    assert_int_equal(gw->n_seen, 0);
    agent_start(gw);
    WAIT(gw, gw->n_seen == 1);
    if (gw->seen[0].outcome != CLM__RECEIPT__OUTCOME__SUCCEEDED)
        (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
    installed_certificate(gw, &installed);
    assert_false(installed.item[0].len == old.len && memcmp(installed.item[0].data, old.data, old.len) == 0);
    WAIT(gw, gw->held && gw->last->n_held == 0);
    assert_int_equal(gw->n_seen, 1);
    agent_stop(gw, SIGTERM);
}

static void what_is_resumed_goes_in_the_order_in_which_it_came(void **state)
{
    struct gateway *gw = *state;
    AUTO_DER struct der old = {0};
    static const char *const ids[] = {
        "019a0000-0000-7000-8000-000000000053", "019a0000-0000-7000-8000-000000000051",
        "019a0000-0000-7000-8000-000000000054", "019a0000-0000-7000-8000-000000000052"};
    old_certificate_write(gw, &old);
    gw->sign_pending = 1000000;
    agent_start(gw);
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        WAIT(gw, gw->held && !gw->last->has_confirmation && gw->last->n_held == i);
        renew_add(gw, ids[i]);
    }
    WAIT(gw, gw->held && gw->last->n_held == ARRAY_LEN(ids) && gw->signs >= 1);
    agent_stop(gw, SIGKILL);
    WAIT(gw, !gw->held);
    gw->sign_pending = 0;
    agent_start(gw);
    WAIT(gw, gw->n_seen == ARRAY_LEN(ids));
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        assert_string_equal(gw->seen[i].task_id, ids[i]);
    agent_stop(gw, SIGTERM);
}

/* kill -9 after the swap, and a policy that cannot be read at the next start: its target is not gone. */
static void a_change_that_was_cut_off_waits_for_a_policy_that_can_be_read(void **state)
{
    struct gateway *gw = *state;
    struct status st;
    AUTO_BUF struct buf config = {0};
    AUTO_BUF struct buf bad = {0};
    AUTO_DER struct der old = {0};
    char more[512], reached[96];
    old_certificate_write(gw, &old);
    OK(file_read(gw->config, 4096, &config, &st));
    (void)snprintf(reached, sizeof(reached), "%s/reached", gw->dir);
    (void)snprintf(more, sizeof(more),
                   "reload = web\n[reload web]\ncommand = /bin/true\n"
                   "test = /bin/sh -c 'test -e %s/once && exit 0; touch %s/once %s; "
                   "while test -e %s; do sleep 0.02; done'\n",
                   gw->dir, gw->dir, reached, reached);
    assert_true(buf_puts(&config, more));
    assert_true(buf_puts(&bad, buf_text(&config)) && buf_puts(&bad, "this is no line of it\n"));
    write_text_file(gw->config, buf_text(&config), 0644);
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    renew_add(gw, TEST_TASK_ID);
    for (int64_t until = clock_mono_ms() + DEADLINE_MS; access(reached, F_OK) != 0;) {
        assert_true(clock_mono_ms() < until);
        loop_timer_set(gw->guard, 20);
        loop_run(gw->loop);
    }
    agent_stop(gw, SIGKILL);
    (void)unlink(reached); /* the command has outlived its agent */
    WAIT(gw, !gw->held);
    write_text_file(gw->config, buf_text(&bad), 0644);
    agent_start(gw);
    WAIT(gw, gw->held && gw->last->safe_mode && gw->last->n_held == 1);
    assert_string_equal(gw->last->safe_mode_reason, "INVALID_POLICY");
    assert_string_equal(gw->last->held[0]->phase, "waiting");
    assert_int_equal(gw->n_seen, 0);
    write_text_file(gw->config, buf_text(&config), 0644);
    (void)kill(gw->agent, SIGHUP);
    WAIT(gw, gw->n_seen == 1);
    (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
    WAIT(gw, gw->held && !gw->last->safe_mode);
    agent_stop(gw, SIGTERM);
}

static void a_receipt_that_was_not_acknowledged_is_sent_after_a_restart(void **state)
{
    struct gateway *gw = *state;
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    gw->result_503 = 1000000;
    discover_add(gw, TEST_TASK_ID, &gw->tasks);
    WAIT(gw, gw->result_503 < 1000000);
    agent_stop(gw, SIGKILL);
    gw->result_503 = 0;
    agent_start(gw);
    WAIT(gw, gw->n_seen == 1);
    (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    agent_stop(gw, SIGTERM);
}

/* FINISHED did not fit on the disk, ACKNOWLEDGED did: the platform has the result, and the task is over. */
static void a_task_whose_result_was_only_acknowledged_is_not_run_again(void **state)
{
    struct gateway *gw = *state;
    struct status st;
    struct journal *whole, *rest;
    char dir[128], from[256], to[256];
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    discover_add(gw, TEST_TASK_ID, &gw->tasks);
    WAIT(gw, gw->n_seen == 1);
    WAIT(gw, gw->held && gw->last->n_held == 0);
    agent_stop(gw, SIGTERM);
    gw->held = NULL;
    (void)snprintf(dir, sizeof(dir), "%s/journal", gw->state_dir);
    OK(journal_open(gw->dir, TEST_TASK_ID, 1, &rest, &st));
    OK(journal_open(dir, TEST_TASK_ID, 1, &whole, &st));
    size_t left_out = 0;
    for (size_t i = 0; i < journal_count(whole); i++) {
        const Clm__Agent__JournalRecord *record = journal_get(whole, i);
        if (record->type == CLM__AGENT__JOURNAL_RECORD__TYPE__FINISHED)
            left_out++;
        else
            OK(journal_append(rest, record, &st));
    }
    assert_int_equal(left_out, 1);
    journal_close(whole);
    journal_close(rest);
    (void)snprintf(from, sizeof(from), "%s/" TEST_TASK_ID "-1.journal", gw->dir);
    (void)snprintf(to, sizeof(to), "%s/" TEST_TASK_ID "-1.journal", dir);
    assert_int_equal(rename(from, to), 0);
    agent_start(gw);
    WAIT(gw, gw->held);
    discover_add(gw, TEST_OTHER_TASK, &gw->tasks);
    WAIT(gw, gw->n_seen == 2);
    assert_string_equal(gw->seen[1].task_id, TEST_OTHER_TASK);
    WAIT(gw, gw->held && gw->last->n_held == 0);
    assert_int_equal(gw->n_seen, 2);
    agent_stop(gw, SIGTERM);
}

static void a_cancelled_task_ends_before_its_first_effect(void **state)
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
    gw->cancel_task_id = TEST_TASK_ID;
    answer_checkin(gw);
    WAIT(gw, gw->n_seen == 1);
    (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__CANCELLED);
    installed_certificate(gw, &installed);
    assert_memory_equal(installed.item[0].data, old.data, old.len);
    agent_stop(gw, SIGTERM);
}

/* Stopping the agent is no cancellation: what was not begun goes on at the next start. */
static void a_stopped_agent_puts_its_tasks_off(void **state)
{
    struct gateway *gw = *state;
    AUTO_DER struct der old = {0};
    old_certificate_write(gw, &old);
    gw->sign_pending = 1000000;
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    renew_add(gw, TEST_TASK_ID);
    WAIT(gw, gw->signs >= 1 && gw->held && gw->last->n_held == 1);
    assert_string_equal(gw->last->held[0]->task_id, TEST_TASK_ID);
    assert_true(gw->last->held[0]->started_at_ms > 0);
    agent_stop(gw, SIGTERM);
    assert_int_equal(gw->n_seen, 0);
    gw->sign_pending = 0;
    agent_start(gw);
    WAIT(gw, gw->n_seen == 1);
    if (gw->seen[0].outcome != CLM__RECEIPT__OUTCOME__SUCCEEDED)
        (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
    agent_stop(gw, SIGTERM);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, gateway_setup, gateway_teardown)
    const struct CMUnitTest tests[] = {
        T(a_killed_net_process_comes_back),
        T(a_task_that_was_cut_off_is_resumed_at_the_next_start),
        T(what_is_resumed_goes_in_the_order_in_which_it_came),
        T(a_change_that_was_cut_off_waits_for_a_policy_that_can_be_read),
        T(a_receipt_that_was_not_acknowledged_is_sent_after_a_restart),
        T(a_task_whose_result_was_only_acknowledged_is_not_run_again),
        T(a_cancelled_task_ends_before_its_first_effect),
        T(a_stopped_agent_puts_its_tasks_off),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
