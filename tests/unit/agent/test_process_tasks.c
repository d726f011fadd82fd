/* What becomes of orders: the real program against a fake gateway, which does wrong what it may do wrong. */
#include "agent_gateway.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include "pki/cms.h"
#include "wire/wire.h"

static void a_task_runs_once_and_its_receipt_is_repeated(void **state)
{
    struct gateway *gw = *state;
    AUTO_DER struct der old = {0};
    old_certificate_write(gw, &old);
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    gw->result_503 = 1; /* a receipt is retried until it is acknowledged */
    discover_add(gw, TEST_TASK_ID, &gw->tasks);
    WAIT(gw, gw->n_seen == 1);
    const struct receipt_seen *seen = last_receipt(gw, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *msg;
    struct status st;
    OK(wire_unpack(&clm__task_result__descriptor, seen->result.data, seen->result.len, arena, &msg, &st));
    const Clm__TaskResult *result = (const Clm__TaskResult *)msg;
    bool found = false;
    for (size_t i = 0; i < result->n_certificates; i++)
        found = found || (result->certificates[i]->path && strstr(result->certificates[i]->path, "/web.pem"));
    assert_true(found);
    WAIT(gw, gw->held && gw->last->n_held == 0);
    /* Again under a new lease, after the acknowledgement: the same receipt, byte for byte. */
    gw->lease = 2;
    discover_add(gw, TEST_TASK_ID, &gw->tasks);
    WAIT(gw, gw->n_seen == 2);
    assert_int_equal(gw->seen[0].cms.len, gw->seen[1].cms.len);
    assert_memory_equal(gw->seen[0].cms.data, gw->seen[1].cms.data, gw->seen[0].cms.len);
    agent_stop(gw, SIGTERM);
}

static void a_replayed_order_is_reported_and_not_run(void **state)
{
    struct gateway *gw = *state;
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    discover_add(gw, TEST_TASK_ID, &gw->tasks);
    WAIT(gw, gw->n_seen == 1);
    (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    WAIT(gw, gw->held && gw->last->n_held == 0);
    discover_add(gw, TEST_TASK_ID, &gw->tasks);
    WAIT(gw, gw->n_seen == 2);
    assert_non_null(strstr(last_receipt(gw, CLM__RECEIPT__OUTCOME__NOT_GENUINE)->message, "replayed"));
    agent_stop(gw, SIGTERM);
}

static void a_large_result_goes_up_in_pages(void **state)
{
    struct gateway *gw = *state;
    AUTO_DER struct der old = {0};
    struct status st;
    char from[128], to[160];
    old_certificate_write(gw, &old);
    (void)snprintf(from, sizeof(from), "%s/web.pem", gw->dir);
    (void)snprintf(to, sizeof(to), "%s/many", gw->dir);
    OK(dir_make(to, 0755, &st));
    for (unsigned i = 0; i < 1500; i++) {
        (void)snprintf(to, sizeof(to), "%s/many/certificate-%04u.pem", gw->dir, i);
        assert_int_equal(link(from, to), 0);
    }
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    gw->result_503 = 1;
    discover_add(gw, TEST_TASK_ID, &gw->tasks);
    WAIT(gw, gw->n_seen == 1);
    const struct receipt_seen *seen = last_receipt(gw, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    assert_true(seen->pages > 1);
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *msg;
    OK(wire_unpack(&clm__task_result__descriptor, seen->result.data, seen->result.len, arena, &msg, &st));
    assert_true(((const Clm__TaskResult *)msg)->n_certificates >= 1500);
    agent_stop(gw, SIGTERM);
}

static void a_renewed_certificate_is_installed(void **state)
{
    struct gateway *gw = *state;
    AUTO_DER struct der old = {0};
    AUTO_DER_LIST struct der_list installed = {0};
    old_certificate_write(gw, &old);
    gw->sign_pending = 1;
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    renew_add(gw, TEST_TASK_ID);
    WAIT(gw, gw->n_seen == 1);
    /* There is no endpoint to look at. */
    if (gw->seen[0].outcome != CLM__RECEIPT__OUTCOME__SUCCEEDED)
        (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
    assert_int_equal(gw->signs, 2);
    installed_certificate(gw, &installed);
    assert_false(installed.item[0].len == old.len && memcmp(installed.item[0].data, old.data, old.len) == 0);
    agent_stop(gw, SIGTERM);
}

static void a_swapped_certificate_is_refused_and_the_old_one_stays(void **state)
{
    struct gateway *gw = *state;
    AUTO_DER struct der old = {0};
    AUTO_DER_LIST struct der_list installed = {0};
    old_certificate_write(gw, &old);
    gw->sign_swapped = true;
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    renew_add(gw, TEST_TASK_ID);
    WAIT(gw, gw->n_seen == 1);
    const struct receipt_seen *seen = last_receipt(gw, CLM__RECEIPT__OUTCOME__FAILED);
    assert_non_null(strstr(seen->message, "another key"));
    installed_certificate(gw, &installed);
    assert_int_equal(installed.item[0].len, old.len);
    assert_memory_equal(installed.item[0].data, old.data, old.len);
    agent_stop(gw, SIGTERM);
}

static void a_forged_order_is_refused_and_does_not_use_up_the_genuine_one(void **state)
{
    struct gateway *gw = *state;
    struct test_signer forger;
    struct test_leaf leaf = {.purpose = PURPOSE_ENVELOPE,
                             .spiffe_kind = "service",
                             .spiffe_name = "tasks",
                             .not_before_ms = clock_wall_ms() - 60000,
                             .not_after_ms = clock_wall_ms() + 3600000};
    test_signer_init(&forger, &gw->other_ca, &leaf);
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    discover_add(gw, TEST_TASK_ID, &forger);
    WAIT(gw, gw->n_seen == 1);
    (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__NOT_GENUINE);
    WAIT(gw, gw->held && gw->last->n_held == 0);
    discover_add(gw, TEST_TASK_ID, &gw->tasks);
    WAIT(gw, gw->n_seen == 2);
    (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    test_signer_done(&forger);
    agent_stop(gw, SIGTERM);
}

static const Clm__HeldTask *held_task(const struct gateway *gw, const char *task_id)
{
    for (size_t i = 0; gw->held && i < gw->last->n_held; i++) {
        if (strcmp(gw->last->held[i]->task_id, task_id) == 0)
            return gw->last->held[i];
    }
    return NULL;
}

/* Side by side each would take the other's files for somebody else's. */
static void changes_of_one_target_wait_for_one_another(void **state)
{
    struct gateway *gw = *state;
    AUTO_DER struct der old = {0};
    old_certificate_write(gw, &old);
    gw->sign_pending = 1000000;
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    renew_add(gw, TEST_TASK_ID);
    WAIT(gw, gw->signs >= 1 && gw->held);
    renew_add(gw, TEST_OTHER_TASK);
    WAIT(gw, held_task(gw, TEST_OTHER_TASK));
    assert_string_equal(held_task(gw, TEST_OTHER_TASK)->phase, "waiting");
    /* What changes nothing does not wait. */
    discover_add(gw, "019a0000-0000-7000-8000-000000000061", &gw->tasks);
    WAIT(gw, gw->n_seen == 1);
    (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    WAIT(gw, held_task(gw, TEST_OTHER_TASK));
    assert_string_equal(held_task(gw, TEST_OTHER_TASK)->phase, "waiting");
    gw->sign_pending = 0;
    WAIT(gw, gw->n_seen == 3);
    assert_string_equal(gw->seen[1].task_id, TEST_TASK_ID);
    assert_string_equal(gw->seen[2].task_id, TEST_OTHER_TASK);
    (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
    agent_stop(gw, SIGTERM);
}

/* The local policy has the last word until a task begins. */
static void what_waits_is_held_against_the_policy_that_holds_when_it_begins(void **state)
{
    struct gateway *gw = *state;
    struct status st;
    AUTO_BUF struct buf config = {0};
    AUTO_DER struct der old = {0};
    old_certificate_write(gw, &old);
    gw->sign_pending = 1000000;
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    renew_add(gw, TEST_TASK_ID);
    WAIT(gw, gw->signs >= 1 && gw->held);
    renew_add(gw, TEST_OTHER_TASK);
    WAIT(gw, held_task(gw, TEST_OTHER_TASK));
    OK(file_read(gw->config, 4096, &config, &st));
    char *renew = strstr((char *)config.data, " renew\n");
    assert_non_null(renew);
    memset(renew, ' ', strlen(" renew"));
    assert_true(buf_puts(&config, "[policy]\nmetrics = on\n"));
    write_text_file(gw->config, buf_text(&config), 0644);
    (void)kill(gw->agent, SIGHUP);
    WAIT(gw, gw->held && gw->last->metrics); /* what of the new policy is seen from outside */
    gw->cancel_task_id = TEST_TASK_ID;
    answer_checkin(gw);
    WAIT(gw, gw->n_seen == 2);
    assert_string_equal(gw->seen[1].task_id, TEST_OTHER_TASK);
    assert_non_null(strstr(last_receipt(gw, CLM__RECEIPT__OUTCOME__REFUSED)->message, "forbids renew"));
    agent_stop(gw, SIGTERM);
}

static void one_task_costs_few_checkins(void **state)
{
    struct gateway *gw = *state;
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    unsigned before = gw->checkins;
    discover_add(gw, TEST_TASK_ID, &gw->tasks);
    WAIT(gw, gw->n_seen == 1);
    WAIT(gw, gw->held && gw->last->n_held == 0);
    /* Started, the progress of a slow host, acknowledged; one more may be under way. */
    assert_in_range(gw->checkins - before, 2, 6);
    agent_stop(gw, SIGTERM);
}

/* A gateway that answers at once, with nothing. */
static void a_gateway_that_does_not_hold_is_not_hammered(void **state)
{
    struct gateway *gw = *state;
    gw->no_hold = true;
    agent_start(gw);
    WAIT(gw, gw->checkins >= 3);
    int64_t since = clock_mono_ms();
    unsigned before = gw->checkins;
    WAIT(gw, gw->checkins >= before + 3);
    assert_true(clock_mono_ms() - since >= 3 * 500 - 50);
    agent_stop(gw, SIGTERM);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, gateway_setup, gateway_teardown)
    const struct CMUnitTest tests[] = {
        T(a_task_runs_once_and_its_receipt_is_repeated),
        T(a_replayed_order_is_reported_and_not_run),
        T(a_large_result_goes_up_in_pages),
        T(a_renewed_certificate_is_installed),
        T(a_swapped_certificate_is_refused_and_the_old_one_stays),
        T(a_forged_order_is_refused_and_does_not_use_up_the_genuine_one),
        T(changes_of_one_target_wait_for_one_another),
        T(what_waits_is_held_against_the_policy_that_holds_when_it_begins),
        T(one_task_costs_few_checkins),
        T(a_gateway_that_does_not_hold_is_not_hammered),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
