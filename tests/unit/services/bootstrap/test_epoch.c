/* After a restore from a backup: real database, real signer. */
#include "cmocka_all.h"

#include "base/clock.h"
#include "confirm.h"
#include "epoch.h"
#include "proto/envelope.pb-c.h"
#include "renew.h"
#include "services/bootstrap/fixture.h"
#include "store.h"

#define RENEW   CLM__SIGNED_REQUEST__PURPOSE__RENEW_IDENTITY
#define CONFIRM CLM__SIGNED_REQUEST__PURPOSE__CONFIRM

static struct request *req;
static struct agent agent, next;
static struct der issuer;
static uint64_t epoch;

static void run_sql(const char *sql)
{
    struct db_args *args = db_args_new(req->arena);
    db_arg_text(args, agent.id);
    assert_ok(db_query(req->db, sql, args, NULL, &why));
}

/* An agent that moved to generation 1, as `next`; the database is as it was before. */
static int setup(void **state)
{
    (void)state;
    req = fixture_request_new();
    agent_init(&agent);
    agent_init(&next);
    fixture_confirmed_agent(req, &agent, NULL);
    AUTO_DER struct der cms = {0};
    const struct said said = {.purpose = RENEW,
                              .agent_id = agent.id,
                              .generation = agent.generation,
                              .identity_csr = der_bytes(&next.identity_csr),
                              .task_csr = der_bytes(&next.task_csr)};
    struct enrolled done;
    fixture_say(&said, agent.task_key, der_bytes(&agent.task_cert), &cms);
    assert_ok(identity_renew(req, agent.id, der_bytes(&cms), &done, &why));
    next.identity_cert = der_dup(done.identity_chain[0]);
    next.task_cert = der_dup(done.task_chain[0]);
    issuer = der_dup(done.identity_chain[1]);
    run_sql("DELETE FROM identity WHERE agent_id = $1 AND generation = 1");
    run_sql("UPDATE agent_identity SET issued_generation = 0 WHERE agent_id = $1");
    run_sql("DELETE FROM epoch WHERE $1::text IS NOT NULL");
    fixture_events_clear();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    der_done(&issuer);
    agent_done(&agent);
    agent_done(&next);
    fixture_request_free(req);
    return 0;
}

static void begin_epoch(int64_t restored_at_ms)
{
    uint32_t voided;
    assert_ok(epoch_begin(req, ++epoch, restored_at_ms, &voided, &why));
}

static enum code confirm(const char *id, uint32_t generation, const struct agent *with, bool with_chain)
{
    AUTO_DER struct der cms = {0};
    uint32_t confirmed = 0;
    const struct said said = {.purpose = CONFIRM,
                              .agent_id = id,
                              .generation = generation,
                              .identity_cert = der_bytes(&with->identity_cert),
                              .issuer = with_chain ? der_bytes(&issuer) : (struct bytes){0}};
    fixture_say(&said, with->task_key, der_bytes(&with->task_cert), &cms);
    enum code code = identity_confirm(req, id, generation, der_bytes(&cms), &confirmed, &why);
    if (code == CODE_OK)
        assert_int_equal(confirmed, generation);
    return code;
}

static void identity_of_after_the_backup_is_adopted(void **state)
{
    (void)state;
    struct identity_row row;
    assert_int_not_equal(confirm(agent.id, 1, &next, true), CODE_OK); /* nothing was restored */
    begin_epoch(clock_wall_ms() + 1000);
    assert_ok(confirm(agent.id, 1, &next, true));
    assert_int_equal(fixture_events_count("identity.issued"), 1);
    assert_int_equal(fixture_events_count("identity.adopted"), 1);
    assert_int_equal(fixture_events_count("identity.confirmed"), 1);
    assert_ok(store_identity_confirmed(req->db, req->arena, agent.id, &row, &why));
    assert_int_equal(row.generation, 1);
    assert_int_equal(row.task_certificate.len, next.task_cert.len);
    assert_memory_equal(row.task_certificate.data, next.task_cert.data, next.task_cert.len);
    assert_ok(confirm(agent.id, 1, &next, true)); /* once more: it is known now */
    assert_int_equal(fixture_events_count("identity.adopted"), 1);
    /* What was before is superseded. */
    assert_ok(store_identity_confirmed(req->db, req->arena, agent.id, &row, &why));
    assert_int_equal(row.generation, 1);
}

static void pending_pair_of_the_backup_makes_room(void **state)
{
    (void)state;
    struct agent other;
    agent_init(&other);
    AUTO_DER struct der cms = {0};
    const struct said said = {.purpose = RENEW,
                              .agent_id = agent.id,
                              .generation = agent.generation,
                              .identity_csr = der_bytes(&other.identity_csr),
                              .task_csr = der_bytes(&other.task_csr)};
    struct enrolled done;
    fixture_say(&said, agent.task_key, der_bytes(&agent.task_cert), &cms);
    assert_ok(identity_renew(req, agent.id, der_bytes(&cms), &done, &why)); /* generation 1, other keys */
    begin_epoch(clock_wall_ms() + 1000);
    assert_ok(confirm(agent.id, 1, &next, true));
    agent_done(&other);
}

static void what_is_not_proved_is_not_adopted(void **state)
{
    (void)state;
    struct agent stranger;
    agent_init(&stranger);
    begin_epoch(clock_wall_ms() + 1000);
    assert_int_not_equal(confirm(agent.id, 1, &next, false), CODE_OK); /* without its certificates */
    assert_int_not_equal(confirm(agent.id, 2, &next, true), CODE_OK);  /* of another generation */
    fixture_confirmed_agent(req, &stranger, NULL);
    assert_int_not_equal(confirm(stranger.id, 1, &next, true), CODE_OK); /* for another agent */
    struct agent mixed = next; /* another agent's identity certificate beside it */
    mixed.identity_cert = stranger.identity_cert;
    assert_int_not_equal(confirm(agent.id, 1, &mixed, true), CODE_OK);
    mixed = agent; /* signed by the generation before */
    mixed.identity_cert = next.identity_cert;
    assert_int_not_equal(confirm(agent.id, 1, &mixed, true), CODE_OK);
    begin_epoch(clock_wall_ms() - 24 * 3600 * 1000); /* issued after the restore: somebody made it up */
    assert_int_not_equal(confirm(agent.id, 1, &next, true), CODE_OK);
    assert_int_equal(fixture_events_count("identity.adopted"), 0);
    agent_done(&stranger);
}

static void open_tokens_are_void_and_burnt_ones_stay_burnt(void **state)
{
    (void)state;
    uint32_t voided;
    const struct new_token token = {.id = "01890a5d-ac96-774b-bcce-b302099a8057",
                                    .agent_id = agent.id,
                                    .hostname = "h",
                                    .created_by = "test",
                                    .secret_sha256 = (const uint8_t *)"0123456789abcdef0123456789abcdef",
                                    .now_ms = clock_wall_ms(),
                                    .not_after_ms = clock_wall_ms() + 60000};
    bool added;
    assert_ok(store_token_add(req->db, &token, &added, &why));
    assert_true(added);
    assert_ok(epoch_begin(req, ++epoch, token.now_ms - 1, &voided, &why)); /* made after the restore */
    struct token_row row;
    assert_ok(store_token_find(req->db, req->arena, token.secret_sha256, token.now_ms, &row, &why));
    assert_int_equal(row.state, TOKEN_OPEN);
    assert_ok(epoch_begin(req, ++epoch, token.now_ms + 1, &voided, &why));
    assert_int_equal(voided, 1);
    assert_int_equal(fixture_events_count("token.revoked"), 1);
    assert_ok(store_token_find(req->db, req->arena, token.secret_sha256, token.now_ms, &row, &why));
    assert_int_equal(row.state, TOKEN_REVOKED);
    assert_ok(epoch_begin(req, epoch, token.now_ms + 1, &voided, &why));
    assert_int_equal(voided, 0);
}

/* A token's identity that was not confirmed yet; the token is as `sql` makes it. */
static enum code confirm_of_token(const char *sql, int64_t restored_at_ms)
{
    AUTO_AGENT struct agent fresh;
    char secret[64], id[UUID_TEXT_SIZE];
    agent_init(&fresh);
    fixture_token(req, agent.id, NULL, 0, secret, id);
    assert_ok(fixture_enrol(req, &fresh, secret, &why));
    run_sql(sql);
    begin_epoch(restored_at_ms);
    return confirm(agent.id, fresh.generation, &fresh, true);
}

#define SET  "UPDATE token SET created_at = now() - interval '2 days', revoked_at = "
#define OPEN " WHERE agent_id = $1::uuid AND used_at IS NULL"

static void identity_of_a_token_that_the_restore_made_void_is_adopted(void **state)
{
    (void)state;
    assert_ok(confirm_of_token(SET "NULL" OPEN, clock_wall_ms() + 1000));
    assert_int_equal(fixture_events_count("token.revoked"), 1);
    assert_int_equal(fixture_events_count("identity.adopted"), 1);
}

static void identity_of_a_token_that_an_operator_revoked_is_not_adopted(void **state)
{
    (void)state;
    assert_int_equal(confirm_of_token(SET "now() - interval '1 day'" OPEN, clock_wall_ms() + 1000),
                     CODE_PERMISSION_DENIED);
    /* After the restore, of a token that was made after it; certificates are dated back by five minutes. */
    assert_int_equal(confirm_of_token("UPDATE token SET revoked_at = now()" OPEN, clock_wall_ms() - 10000),
                     CODE_PERMISSION_DENIED);
    assert_int_equal(fixture_events_count("identity.adopted"), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(identity_of_after_the_backup_is_adopted),
        TEST(pending_pair_of_the_backup_makes_room),
        TEST(what_is_not_proved_is_not_adopted),
        TEST(open_tokens_are_void_and_burnt_ones_stay_burnt),
        TEST(identity_of_a_token_that_the_restore_made_void_is_adopted),
        TEST(identity_of_a_token_that_an_operator_revoked_is_not_adopted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
