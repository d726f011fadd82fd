/* How an agent becomes one: the real program against a fake gateway. */
#include "agent_gateway.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include "pki/cms.h"
#include "wire/wire.h"

static void enrols_confirms_and_checks_in(void **state)
{
    struct gateway *gw = *state;
    struct status st;
    AUTO_DER struct der content = {0};
    struct stat info;
    char path[160];
    agent_start(gw);
    WAIT(gw, gw->confirmation.len > 0);
    assert_int_not_equal(access(gw->token_file, F_OK), 0);
    struct bytes expected = der_bytes(&gw->task_cert);
    OK(cms_verify(CMS_CONTENT_REQUEST, der_bytes(&gw->confirmation), &expected, NULL, PURPOSE_AGENT_TASK,
                  clock_wall_ms(), &content, NULL, &st));
    /* Told that it is confirmed, it stops saying so. */
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    assert_int_equal(gw->last->free_slots, 4);
    assert_false(gw->last->safe_mode);
    static const char *const private_files[] = {"task-0.key", "net/identity-0.key"};
    for (size_t i = 0; i < ARRAY_LEN(private_files); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", gw->state_dir, private_files[i]);
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(info.st_mode & 0777, 0600);
    }
    agent_stop(gw, SIGTERM);
}

static void enrolment_survives_503_and_cut_connections_with_the_same_keys(void **state)
{
    struct gateway *gw = *state;
    gw->bootstrap_503 = 1;
    gw->bootstrap_cut = 2;
    agent_start(gw);
    WAIT(gw, gw->confirmation.len > 0);
    assert_int_equal(gw->bootstraps, 4);
    assert_false(gw->csrs_differ);
    agent_stop(gw, SIGTERM);
}

static void a_host_is_enrolled_through_standard_input_and_only_once(void **state)
{
    struct gateway *gw = *state;
    struct status st;
    AUTO_BUF struct buf token = {0};
    OK(file_read(gw->token_file, 4096, &token, &st));
    assert_int_equal(unlink(gw->token_file), 0);
    assert_int_equal(agent_command_with(gw, "status", NULL, ""), 1);
    assert_int_equal(agent_command_with(gw, "run", NULL, ""), 1); /* not enrolled, no token */
    assert_int_equal(agent_command_with(gw, "enroll", "-", "clmt1.bm90IGEgdG9rZW4\n"), 1);
    assert_int_equal(gw->bootstraps, 0);
    assert_int_equal(agent_command_with(gw, "enroll", "-", buf_text(&token)), 0);
    assert_int_equal(gw->bootstraps, 1);
    assert_int_equal(agent_command_with(gw, "status", NULL, ""), 0);
    assert_int_equal(agent_command_with(gw, "enroll", "-", buf_text(&token)), 1);
    assert_int_equal(gw->bootstraps, 1);
    agent_start(gw);
    WAIT(gw, gw->confirmation.len > 0);
    agent_stop(gw, SIGTERM);
}

static void a_token_file_that_others_may_read_is_not_used(void **state)
{
    struct gateway *gw = *state;
    assert_int_equal(chmod(gw->token_file, 0644), 0);
    assert_int_equal(agent_command_with(gw, "enroll", gw->token_file, ""), 1);
    assert_int_equal(gw->bootstraps, 0);
    assert_int_equal(access(gw->token_file, F_OK), 0);
}

/* The gateway's name is right and its certificate is good, but of a CA that the token does not pin. */
static void a_gateway_of_another_ca_never_sees_the_token(void **state)
{
    struct gateway *gw = *state;
    struct status st;
    char address[64];
    uint8_t pin[SHA256_SIZE] = {1, 2, 3};
    (void)snprintf(address, sizeof(address), "localhost:%u", http_server_port(gw->server));
    OK(token_make(pin, address, &gw->token, &st));
    AUTO_SECRET struct secret *text = token_print(&gw->token);
    OK(file_write_atomic(gw->token_file, text->data, text->len, 0600, &st));
    assert_int_equal(agent_command_with(gw, "enroll", gw->token_file, ""), 1);
    assert_int_equal(gw->bootstraps, 0);
    assert_int_equal(access(gw->token_file, F_OK), 0);
}

/* A fresh token for an agent that the platform knows: the answer's generation is not 0. */
static void an_agent_enrolled_anew_has_the_generation_it_is_given(void **state)
{
    struct gateway *gw = *state;
    gw->generation = 5;
    agent_start(gw);
    WAIT(gw, gw->held && !gw->last->has_confirmation);
    assert_int_equal(gw->last->generation, 5);
    discover_add(gw, TEST_TASK_ID, &gw->tasks);
    WAIT(gw, gw->n_seen == 1);
    (void)last_receipt(gw, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    agent_stop(gw, SIGTERM);
    gw->checkins = 0;
    agent_start(gw);
    WAIT(gw, gw->checkins > 0);
    assert_int_equal(gw->bootstraps, 1);
    agent_stop(gw, SIGTERM);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, gateway_setup, gateway_teardown)
    const struct CMUnitTest tests[] = {
        T(enrols_confirms_and_checks_in),
        T(enrolment_survives_503_and_cut_connections_with_the_same_keys),
        T(a_host_is_enrolled_through_standard_input_and_only_once),
        T(a_token_file_that_others_may_read_is_not_used),
        T(a_gateway_of_another_ca_never_sees_the_token),
        T(an_agent_enrolled_anew_has_the_generation_it_is_given),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
