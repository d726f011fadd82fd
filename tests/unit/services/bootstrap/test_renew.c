/* Rotation by generations on the platform's side: real database, real signer. */
#include "cmocka_all.h"

#include "confirm.h"
#include "farewell.h"
#include "projection.h"
#include "proto/envelope.pb-c.h"
#include "renew.h"
#include "services/bootstrap/fixture.h"

#define RENEW   CLM__SIGNED_REQUEST__PURPOSE__RENEW_IDENTITY
#define CONFIRM CLM__SIGNED_REQUEST__PURPOSE__CONFIRM

static struct request *req;
static struct agent agent, next; /* next: the keys of the next generation */

static int setup(void **state)
{
    (void)state;
    req = fixture_request_new();
    agent_init(&agent);
    agent_init(&next);
    fixture_confirmed_agent(req, &agent, NULL);
    fixture_events_clear();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    agent_done(&agent);
    agent_done(&next);
    fixture_request_free(req);
    return 0;
}

static struct said right(const struct agent *with)
{
    return (struct said){.purpose = RENEW,
                         .agent_id = agent.id,
                         .generation = agent.generation,
                         .identity_csr = der_bytes(&with->identity_csr),
                         .task_csr = der_bytes(&with->task_csr)};
}

static enum code renew_said(const struct said *said, struct enrolled *ret)
{
    AUTO_DER struct der cms = {0};
    fixture_say(said, agent.task_key, der_bytes(&agent.task_cert), &cms);
    return identity_renew(req, agent.id, der_bytes(&cms), ret, &why);
}

static enum code renew(struct agent *with)
{
    struct said said = right(with);
    struct enrolled done;
    TRY(renew_said(&said, &done));
    (void)snprintf(with->id, sizeof(with->id), "%s", done.agent_id);
    with->generation = done.generation;
    der_done(&with->identity_cert);
    der_done(&with->task_cert);
    with->identity_cert = der_dup(done.identity_chain[0]);
    with->task_cert = der_dup(done.task_chain[0]);
    return CODE_OK;
}

static enum code confirm(const struct agent *with, uint32_t *ret)
{
    AUTO_DER struct der cms = {0};
    const struct said said = {.purpose = CONFIRM, .agent_id = with->id, .generation = with->generation};
    fixture_say(&said, with->task_key, der_bytes(&with->task_cert), &cms);
    return identity_confirm(req, with->id, with->generation, der_bytes(&cms), ret, &why);
}

static void the_next_generation_is_for_the_new_keys_and_the_same_agent(void **state)
{
    (void)state;
    AUTO_CERT_INFO struct cert_info info = {0};
    uint32_t confirmed;
    assert_ok(renew(&next));
    assert_int_equal(next.generation, agent.generation + 1);
    assert_string_equal(next.id, agent.id);
    assert_true(key_matches_cert(next.identity_key, der_bytes(&next.identity_cert)));
    assert_true(key_matches_cert(next.task_key, der_bytes(&next.task_cert)));
    assert_ok(cert_read(der_bytes(&next.identity_cert), &info, &why));
    assert_string_equal(info.subject_serial, "1");
    assert_int_equal(fixture_events_count("identity.issued"), 1);
    assert_int_equal(fixture_events_count("identity.confirmed"), 0);
    assert_ok(confirm(&next, &confirmed));
    assert_int_equal(confirmed, 1);
}

static void the_same_keys_get_the_same_certificates_again(void **state)
{
    (void)state;
    AUTO_DER struct der first = {0};
    assert_ok(renew(&next));
    first = der_dup(der_bytes(&next.task_cert));
    assert_ok(renew(&next));
    assert_int_equal(first.len, next.task_cert.len);
    assert_memory_equal(first.data, next.task_cert.data, first.len);
    assert_int_equal(fixture_events_count("identity.issued"), 1);
}

static void other_keys_replace_the_pending_pair(void **state)
{
    (void)state;
    AUTO_AGENT struct agent other;
    uint32_t confirmed;
    agent_init(&other);
    assert_ok(renew(&next));
    assert_ok(renew(&other));
    assert_int_equal(other.generation, next.generation);
    assert_int_equal(fixture_events_count("identity.issued"), 2);
    /* What was replaced can no longer be confirmed. */
    assert_int_not_equal(confirm(&next, &confirmed), CODE_OK);
    assert_ok(confirm(&other, &confirmed));
    assert_int_equal(confirmed, 1);
}

static void a_superseded_generation_does_not_renew(void **state)
{
    (void)state;
    AUTO_AGENT struct agent other;
    uint32_t confirmed;
    agent_init(&other);
    assert_ok(renew(&next));
    assert_ok(confirm(&next, &confirmed));
    assert_int_not_equal(renew(&other), CODE_OK);
    assert_int_equal(fixture_events_count("identity.issued"), 1);
}

static void only_the_confirmed_task_key_asks_and_only_for_itself(void **state)
{
    (void)state;
    struct enrolled done;
    AUTO_DER struct der cms = {0};
    struct said said = right(&next);
    AUTO_AGENT struct agent stranger;
    agent_init(&stranger);
    fixture_confirmed_agent(req, &stranger, NULL);
    fixture_events_clear();
    fixture_say(&said, stranger.task_key, der_bytes(&stranger.task_cert), &cms);
    assert_int_not_equal(identity_renew(req, agent.id, der_bytes(&cms), &done, &why), CODE_OK);
    said.generation = 7;
    assert_int_equal(renew_said(&said, &done), CODE_PERMISSION_DENIED);
    said = right(&next);
    said.purpose = CONFIRM;
    assert_int_equal(renew_said(&said, &done), CODE_PERMISSION_DENIED);
    said = right(&next);
    said.agent_id = "0198c0de-0000-7000-8000-00000000dead";
    assert_int_equal(renew_said(&said, &done), CODE_PERMISSION_DENIED);
    said = right(&next);
    said.task_csr = said.identity_csr;
    assert_int_equal(renew_said(&said, &done), CODE_INVALID_ARGUMENT);
    said.task_csr = (struct bytes){0};
    assert_int_equal(renew_said(&said, &done), CODE_INVALID_ARGUMENT);
    assert_int_equal(fixture_events_count("identity.issued"), 0);
}

/* Each cell of the matrix's row about the own identity. */
static void who_renews_is_said_by_the_table(void **state)
{
    (void)state;
    uint64_t version = 1;
    for (int column = SAFE_COLUMN_COUNT - 1; column >= 0; column--) {
        const struct scope_row row = {
            .agent_id = agent.id, .version = ++version, .column = (enum safe_column)column};
        assert_ok(projection_apply(req, &row, false, &why));
        bool allowed = safe_allows((enum safe_column)column, SAFE_RENEW_IDENTITY, false);
        assert_int_equal(renew(&next), allowed ? CODE_OK : CODE_PERMISSION_DENIED);
        if (!allowed)
            assert_non_null(strstr(why.msg, safe_column_name((enum safe_column)column)));
    }
}

/* A renewal beside it would be above the token's generation and take the identity back from the new host. */
static void while_a_token_is_in_use_nobody_renews(void **state)
{
    (void)state;
    AUTO_AGENT struct agent rebuilt;
    char secret[64], id[UUID_TEXT_SIZE];
    uint32_t confirmed;
    agent_init(&rebuilt);
    fixture_token(req, agent.id, NULL, 0, secret, id);
    assert_ok(renew(&next)); /* not in use yet */
    assert_int_equal(next.generation, 1);
    assert_ok(fixture_enrol(req, &rebuilt, secret, &why));
    assert_int_equal(rebuilt.generation, 2);
    assert_int_equal(renew(&next), CODE_UNAVAILABLE);
    assert_ok(confirm(&rebuilt, &confirmed));
    assert_int_equal(confirmed, 2);
    assert_int_not_equal(renew(&next), CODE_OK);
}

static void a_token_whose_time_is_over_ends_with_a_renewal(void **state)
{
    (void)state;
    AUTO_AGENT struct agent rebuilt;
    char secret[64], id[UUID_TEXT_SIZE];
    uint32_t confirmed;
    agent_init(&rebuilt);
    fixture_token(req, agent.id, NULL, 0, secret, id);
    assert_ok(fixture_enrol(req, &rebuilt, secret, &why));
    struct db_args *args = db_args_new(req->arena);
    db_arg_text(args, agent.id);
    assert_ok(db_query(req->db, "UPDATE token SET not_after = now() - interval '1 s' WHERE agent_id = $1",
                       args, NULL, &why));
    assert_ok(renew(&next));
    assert_int_equal(next.generation, 2);
    assert_int_equal(fixture_events_count("token.revoked"), 1);
    assert_int_equal(confirm(&rebuilt, &confirmed), CODE_PERMISSION_DENIED);
    assert_ok(confirm(&next, &confirmed));
    assert_int_equal(confirmed, 2);
}

/* What the registry refuses at the gateways is refused here, too: a fresh token has let the agent back in,
 * not its copy. */
static void below_the_generation_that_the_registry_admits_nothing_is_signed(void **state)
{
    (void)state;
    uint32_t confirmed;
    assert_ok(renew(&next));
    const struct scope_row row = {
        .agent_id = agent.id, .version = 2, .column = SAFE_ONLINE, .min_generation = 2};
    assert_ok(projection_apply(req, &row, false, &why));
    assert_int_equal(renew(&next), CODE_PERMISSION_DENIED);
    assert_int_equal(confirm(&next, &confirmed), CODE_PERMISSION_DENIED);
}

static enum code say_farewell(const struct said *said, const struct agent *by)
{
    AUTO_DER struct der cms = {0};
    fixture_say(said, by->task_key, der_bytes(&by->task_cert), &cms);
    return identity_farewell(req, agent.id, der_bytes(&cms), &why);
}

static void a_farewell_is_believed_of_the_present_task_key_alone(void **state)
{
    (void)state;
    struct said said = {.purpose = CLM__SIGNED_REQUEST__PURPOSE__FAREWELL,
                        .agent_id = agent.id,
                        .generation = agent.generation};
    uint32_t confirmed;
    said.purpose = CONFIRM;
    assert_int_equal(say_farewell(&said, &agent), CODE_PERMISSION_DENIED);
    said.purpose = CLM__SIGNED_REQUEST__PURPOSE__FAREWELL;
    said.agent_id = "0198c0de-0000-7000-8000-00000000dead";
    assert_int_equal(say_farewell(&said, &agent), CODE_PERMISSION_DENIED);
    said.agent_id = agent.id;
    assert_int_equal(fixture_events_count("identity.farewell"), 0);
    assert_ok(say_farewell(&said, &agent));
    assert_int_equal(fixture_events_count("identity.farewell"), 1);
    fixture_events_clear();
    assert_ok(renew(&next));
    assert_ok(confirm(&next, &confirmed));
    assert_int_not_equal(say_farewell(&said, &agent), CODE_OK); /* a copy of the former generation */
    assert_int_equal(fixture_events_count("identity.farewell"), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_next_generation_is_for_the_new_keys_and_the_same_agent),
        TEST(the_same_keys_get_the_same_certificates_again),
        TEST(other_keys_replace_the_pending_pair),
        TEST(a_superseded_generation_does_not_renew),
        TEST(only_the_confirmed_task_key_asks_and_only_for_itself),
        TEST(who_renews_is_said_by_the_table),
        TEST(a_farewell_is_believed_of_the_present_task_key_alone),
        TEST(while_a_token_is_in_use_nobody_renews),
        TEST(a_token_whose_time_is_over_ends_with_a_renewal),
        TEST(below_the_generation_that_the_registry_admits_nothing_is_signed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
