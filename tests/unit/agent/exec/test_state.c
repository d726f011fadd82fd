/* The state directory: what a restart finds. */
#include "agent/exec/rotation.h"

#include <sys/stat.h>

#include "cmocka_all.h"
#include "pki_fixture.h"

static void remove_tree(const char *dir)
{
    char command_free[256];
    static const char *const files[] = {
        "lock",           "starts",     "agent.id",   "roots.pem",      "task-0.key",          "task-0.pem",
        "identity-0.pem", "task-1.key", "task-1.pem", "identity-1.pem", "journal/write-check", NULL};
    static const char *const dirs[] = {"journal", "backup", "net", NULL};
    for (size_t i = 0; files[i]; i++) {
        (void)snprintf(command_free, sizeof(command_free), "%s/%s", dir, files[i]);
        (void)unlink(command_free);
    }
    for (size_t i = 0; dirs[i]; i++) {
        (void)snprintf(command_free, sizeof(command_free), "%s/%s", dir, dirs[i]);
        (void)rmdir(command_free);
    }
    assert_int_equal(rmdir(dir), 0);
}

static int setup(void **state)
{
    char *dir = strdup("/tmp/clm-state-XXXXXX");
    assert_non_null(mkdtemp(dir));
    *state = dir;
    return 0;
}

static int teardown(void **state)
{
    remove_tree(*state);
    free(*state);
    return 0;
}

static struct agent_state *open_ok(const char *dir)
{
    struct agent_state *agent;
    struct status st;
    if (state_open(dir, (uid_t)-1, (gid_t)-1, &agent, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    return agent;
}

/* Enrols by hand, generation 0. */
static void enrol_by_hand(struct agent_state *agent, const struct test_ca *ca)
{
    struct status st;
    AUTO_DER struct der task = {0}, identity = {0};
    AUTO_KEY struct key *identity_key = NULL;
    assert_int_equal(state_task_key(agent, 0, &st), CODE_OK);
    assert_int_equal(key_generate(KEY_EC_P256, &identity_key, &st), CODE_OK);
    struct test_leaf leaf = {.purpose = PURPOSE_AGENT_TASK,
                             .spiffe_kind = "agent",
                             .spiffe_name = TEST_AGENT_ID,
                             .serial = "0",
                             .for_key = agent->task_key};
    test_issue(ca, &leaf, &task);
    leaf.purpose = PURPOSE_AGENT_IDENTITY;
    leaf.for_key = identity_key;
    test_issue(ca, &leaf, &identity);
    memcpy(agent->agent_id, TEST_AGENT_ID, sizeof(TEST_AGENT_ID));
    (void)snprintf(agent->gateway, sizeof(agent->gateway), "gw.test.example:8443");
    (void)snprintf(agent->trust_domain, sizeof(agent->trust_domain), TEST_DOMAIN);
    assert_int_equal(der_list_add(&agent->roots, der_bytes(&ca->cert), &st), CODE_OK);
    assert_int_equal(der_list_add(&agent->task_chain, der_bytes(&task), &st), CODE_OK);
    assert_int_equal(der_list_add(&agent->identity_chain, der_bytes(&identity), &st), CODE_OK);
    assert_int_equal(state_save(agent, &st), CODE_OK);
}

static void an_enrolled_state_is_found_again(void **state)
{
    struct test_ca ca;
    struct status st;
    test_ca_init(&ca, "Root");
    struct agent_state *agent = open_ok(*state);
    assert_int_equal(state_load(agent, &st), CODE_NOT_FOUND);
    enrol_by_hand(agent, &ca);
    state_free(agent);
    agent = open_ok(*state);
    assert_int_equal(state_load(agent, &st), CODE_OK);
    assert_string_equal(agent->agent_id, TEST_AGENT_ID);
    assert_string_equal(agent->gateway, "gw.test.example:8443");
    assert_false(agent->confirmed);
    assert_int_equal(state_set_confirmed(agent, &st), CODE_OK);
    state_free(agent);
    assert_int_equal(state_peek(*state, &agent, &st), CODE_OK);
    assert_true(agent->confirmed);
    state_free(agent);
    test_ca_done(&ca);
}

static bool is_there(const char *dir, const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

/* The pair of generation 1, for the keys of state_next_key. */
static void adopt_next(struct agent_state *agent, const struct test_ca *ca)
{
    struct status st;
    AUTO_KEY struct key *key = NULL, *identity_key = NULL;
    AUTO_DER struct der task = {0}, identity = {0};
    AUTO_DER_LIST struct der_list task_chain = {0}, identity_chain = {0};
    assert_int_equal(state_next_key(agent, 1, &key, &st), CODE_OK);
    assert_int_equal(key_generate(KEY_EC_P256, &identity_key, &st), CODE_OK);
    struct test_leaf leaf = {.purpose = PURPOSE_AGENT_TASK,
                             .spiffe_kind = "agent",
                             .spiffe_name = TEST_AGENT_ID,
                             .serial = "1",
                             .for_key = key};
    test_issue(ca, &leaf, &task);
    leaf.purpose = PURPOSE_AGENT_IDENTITY;
    leaf.for_key = identity_key;
    test_issue(ca, &leaf, &identity);
    assert_int_equal(der_list_add(&task_chain, der_bytes(&task), &st), CODE_OK);
    assert_int_equal(der_list_add(&identity_chain, der_bytes(&identity), &st), CODE_OK);
    assert_int_equal(state_adopt(agent, 1, &key, &task_chain, &identity_chain, &st), CODE_OK);
    assert_null(key);
}

static void the_next_generation_is_the_one_found_after_adoption_and_not_before(void **state)
{
    struct test_ca ca;
    struct status st;
    AUTO_KEY struct key *made = NULL, *again = NULL;
    AUTO_DER struct der first = {0}, second = {0};
    test_ca_init(&ca, "Root");
    struct agent_state *agent = open_ok(*state);
    enrol_by_hand(agent, &ca);
    assert_int_equal(state_set_confirmed(agent, &st), CODE_OK);
    assert_int_equal(state_next_key(agent, 1, &made, &st), CODE_OK);
    state_free(agent);

    agent = open_ok(*state); /* killed between the key and the answer */
    assert_int_equal(state_load(agent, &st), CODE_OK);
    assert_int_equal(agent->generation, 0);
    assert_true(agent->confirmed);
    assert_int_equal(state_next_key(agent, 1, &again, &st), CODE_OK);
    assert_int_equal(key_spki(made, &first, &st), CODE_OK);
    assert_int_equal(key_spki(again, &second, &st), CODE_OK);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.data, second.data, first.len);
    adopt_next(agent, &ca);
    assert_int_equal(agent->old_generation, 0);
    assert_non_null(agent->old_task_key);
    state_free(agent);

    agent = open_ok(*state);
    assert_int_equal(state_load(agent, &st), CODE_OK);
    assert_int_equal(agent->generation, 1);
    assert_false(agent->confirmed);
    assert_int_equal(agent->old_generation, 0);
    assert_non_null(agent->old_task_key);
    state_free(agent);
    test_ca_done(&ca);
}

static void the_former_task_key_goes_only_when_no_envelope_for_it_can_be_alive(void **state)
{
    struct test_ca ca;
    struct status st;
    test_ca_init(&ca, "Root");
    struct agent_state *agent = open_ok(*state);
    enrol_by_hand(agent, &ca);
    assert_int_equal(state_set_confirmed(agent, &st), CODE_OK);
    adopt_next(agent, &ca);
    int64_t adopted_ms = agent->adopted_at_ms, day_ms = INT64_C(24) * 3600 * 1000;
    state_prune(agent, adopted_ms + 30 * day_ms); /* not confirmed: the platform may still know only 0 */
    assert_true(is_there(*state, "task-0.key"));
    assert_int_equal(state_set_confirmed(agent, &st), CODE_OK);
    state_prune(agent, adopted_ms + day_ms);
    assert_true(is_there(*state, "task-0.key"));
    assert_non_null(agent->old_task_key);
    state_prune(agent, adopted_ms + 2 * day_ms);
    assert_false(is_there(*state, "task-0.key"));
    assert_null(agent->old_task_key);
    assert_true(is_there(*state, "task-1.key"));
    state_free(agent);
    test_ca_done(&ca);
}

static void a_renewal_is_due_about_half_of_the_life(void **state)
{
    (void)state;
    assert_int_equal(rotation_due_ms(1000, 11000, 0), 5500);
    assert_int_equal(rotation_due_ms(1000, 11000, 500), 6000);
    assert_int_equal(rotation_due_ms(1000, 11000, 1000), 6500);
    assert_int_equal(rotation_due_ms(11000, 11000, 1000), 11000);
}

static void the_task_key_is_private_and_the_same_on_every_try(void **state)
{
    struct status st;
    struct stat info;
    char path[128];
    AUTO_DER struct der first = {0}, second = {0};
    struct agent_state *agent = open_ok(*state);
    assert_int_equal(state_task_key(agent, 0, &st), CODE_OK);
    assert_int_equal(key_spki(agent->task_key, &first, &st), CODE_OK);
    state_free(agent);
    (void)snprintf(path, sizeof(path), "%s/task-0.key", (const char *)*state);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    agent = open_ok(*state);
    assert_int_equal(state_task_key(agent, 0, &st), CODE_OK);
    assert_int_equal(key_spki(agent->task_key, &second, &st), CODE_OK);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.data, second.data, first.len);
    state_free(agent);
}

static void a_second_agent_on_the_same_directory_is_refused(void **state)
{
    struct status st;
    struct agent_state *agent = open_ok(*state), *second;
    assert_int_equal(state_open(*state, (uid_t)-1, (gid_t)-1, &second, &st), CODE_FAILED_PRECONDITION);
    state_free(agent);
    state_free(open_ok(*state));
}

static void a_lost_or_foreign_key_is_data_loss_and_not_a_new_enrolment(void **state)
{
    struct test_ca ca;
    struct status st;
    char path[128];
    test_ca_init(&ca, "Root");
    struct agent_state *agent = open_ok(*state);
    enrol_by_hand(agent, &ca);
    (void)snprintf(path, sizeof(path), "%s/task-0.key", (const char *)*state);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(state_load(agent, &st), CODE_DATA_LOSS);
    assert_string_equal(agent->agent_id, "");
    assert_int_equal(state_task_key(agent, 0, &st), CODE_OK); /* another key under the same name */
    assert_int_equal(state_load(agent, &st), CODE_DATA_LOSS);
    state_free(agent);
    test_ca_done(&ca);
}

static void ends_without_a_word_are_counted_within_the_window(void **state)
{
    struct agent_state *agent = open_ok(*state);
    struct status st;
    unsigned crashes = 99;
    int64_t now = TEST_NOW_MS;
    assert_int_equal(state_note_start(agent, now, 1000, &crashes, &st), CODE_OK);
    assert_int_equal(crashes, 0);
    assert_int_equal(state_note_stop(agent, &st), CODE_OK);
    assert_int_equal(state_note_start(agent, now, 1000, &crashes, &st), CODE_OK);
    assert_int_equal(crashes, 0);
    /* No stop before each of these. */
    for (unsigned i = 1; i <= 3; i++) {
        now += 100;
        assert_int_equal(state_note_start(agent, now, 1000, &crashes, &st), CODE_OK);
        assert_int_equal(crashes, i);
    }
    assert_int_equal(state_note_stop(agent, &st), CODE_OK);
    assert_int_equal(state_note_start(agent, now + 850, 1000, &crashes, &st), CODE_OK);
    assert_int_equal(crashes, 2); /* a clean stop forgives nothing, time does */
    assert_int_equal(state_note_stop(agent, &st), CODE_OK);
    assert_int_equal(state_note_start(agent, now + 5000, 1000, &crashes, &st), CODE_OK);
    assert_int_equal(crashes, 0);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(state_note_start(agent, now + 5000, 1000, &crashes, &st), CODE_OK);
    assert_in_range(crashes, 3, 100); /* bounded, and still a loop */
    state_free(agent);
}

static void a_directory_that_others_may_write_is_refused_and_left_alone(void **state)
{
    struct agent_state *agent;
    struct status st;
    struct stat info;
    assert_int_equal(chmod(*state, 01777), 0);
    assert_int_equal(state_open(*state, (uid_t)-1, (gid_t)-1, &agent, &st), CODE_FAILED_PRECONDITION);
    assert_int_equal(stat(*state, &info), 0);
    assert_int_equal(info.st_mode & 07777, 01777);
}

static void directories_are_private(void **state)
{
    struct stat info;
    char path[128];
    static const char *const dirs[] = {"journal", "backup", "net"};
    state_free(open_ok(*state));
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", (const char *)*state, dirs[i]);
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(info.st_mode & 0777, 0700);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(an_enrolled_state_is_found_again),
        T(the_next_generation_is_the_one_found_after_adoption_and_not_before),
        T(the_former_task_key_goes_only_when_no_envelope_for_it_can_be_alive),
        T(a_renewal_is_due_about_half_of_the_life),
        T(the_task_key_is_private_and_the_same_on_every_try),
        T(a_second_agent_on_the_same_directory_is_refused),
        T(a_lost_or_foreign_key_is_data_loss_and_not_a_new_enrolment),
        T(a_directory_that_others_may_write_is_refused_and_left_alone),
        T(ends_without_a_word_are_counted_within_the_window),
        T(directories_are_private),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
