/* The life of a token and of the identity that it becomes: on a real database, with the real signer. */
#include "cmocka_all.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "confirm.h"
#include "enrol.h"
#include "events.h"
#include "pki/token.h"
#include "projection.h"
#include "proto/envelope.pb-c.h"
#include "services/bootstrap/fixture.h"

#define REFUSED "the bootstrap token is not valid"
#define CONFIRM CLM__SIGNED_REQUEST__PURPOSE__CONFIRM

static struct request *req;

static int setup(void **state)
{
    (void)state;
    req = fixture_request_new();
    fixture_events_clear();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    clock_real();
    fixture_hostname = "";
    fixture_hostname_pattern = fixture_source_cidr = NULL;
    fixture_source_proven = false;
    fixture_request_free(req);
    return 0;
}

static enum code confirm(struct agent *agent, const struct said *said, const struct key *key,
                         struct bytes cert, uint32_t *ret_confirmed)
{
    AUTO_DER struct der cms = {0};
    fixture_say(said, key, cert, &cms);
    return identity_confirm(req, agent->id, agent->generation, der_bytes(&cms), ret_confirmed, &why);
}

static enum code confirm_well(struct agent *agent, uint32_t *ret_confirmed)
{
    const struct said said = {.purpose = CONFIRM, .agent_id = agent->id, .generation = agent->generation};
    return confirm(agent, &said, agent->task_key, der_bytes(&agent->task_cert), ret_confirmed);
}

/* Every refusal looks the same to the host; the event knows better. */
static void assert_refused(struct agent *agent, const char *secret, const char *reason)
{
    size_t before = fixture_events_count("token.refused");
    assert_int_equal(fixture_enrol(req, agent, secret, &why), CODE_UNAUTHENTICATED);
    assert_string_equal(why.msg, REFUSED);
    assert_int_equal(fixture_events_count("token.refused"), before + 1);
    assert_string_equal(fixture_events_last("token.refused").reason, reason);
}

static void a_token_becomes_an_identity_of_generation_0(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    char secret[64], id[UUID_TEXT_SIZE];
    AUTO_CERT_INFO struct cert_info info = {0};
    struct spiffe_id name;

    agent_init(&agent);
    fixture_token(req, NULL, NULL, 0, secret, id);
    assert_int_equal(fixture_events_count("token.created"), 1);
    assert_string_equal(fixture_events_last("token.created").actor, "api-key:test");
    assert_ok(fixture_enrol(req, &agent, secret, &why));
    assert_string_equal(agent.id, id);
    assert_int_equal(agent.generation, 0);
    assert_true(key_matches_cert(agent.identity_key, der_bytes(&agent.identity_cert)));
    assert_true(key_matches_cert(agent.task_key, der_bytes(&agent.task_cert)));
    assert_ok(cert_spiffe(der_bytes(&agent.task_cert), &name, &why));
    assert_string_equal(name.name, id);
    assert_ok(cert_read(der_bytes(&agent.identity_cert), &info, &why));
    assert_string_equal(info.subject_serial, "0");
    assert_int_equal(fixture_events_count("identity.issued"), 1);
    assert_string_equal(fixture_events_last("identity.issued").entity, id);
    assert_int_equal(fixture_events_last("identity.issued").version, 1);
}

static void the_same_keys_get_the_same_certificates_until_confirmed(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    AUTO_DER struct der first = {0};
    char secret[64], id[UUID_TEXT_SIZE];
    uint32_t confirmed = 99;

    agent_init(&agent);
    fixture_token(req, NULL, NULL, 0, secret, id);
    assert_ok(fixture_enrol(req, &agent, secret, &why));
    first = der_dup(der_bytes(&agent.task_cert));
    assert_ok(fixture_enrol(req, &agent, secret, &why));
    assert_int_equal(first.len, agent.task_cert.len);
    assert_memory_equal(first.data, agent.task_cert.data, first.len);
    assert_int_equal(fixture_events_count("identity.issued"), 1);

    assert_ok(confirm_well(&agent, &confirmed));
    assert_int_equal(confirmed, 0);
    assert_refused(&agent, secret, "used");
}

static void the_end_of_its_time_stops_an_unused_token_only(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    char secret[64], bound[64], id[UUID_TEXT_SIZE];

    agent_init(&agent);
    clock_fake(clock_wall_ms());
    fixture_token(req, NULL, NULL, 60, secret, id);
    fixture_token(req, NULL, NULL, 60, bound, id);
    assert_ok(fixture_enrol(req, &agent, bound, &why));
    clock_advance(60 * 1000);
    assert_refused(&agent, secret, "expired");
    assert_ok(fixture_enrol(req, &agent, bound, &why)); /* a host that lost the answer */
}

static void a_token_that_nobody_made_is_refused(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    agent_init(&agent);
    assert_refused(&agent, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "unknown");
    assert_refused(&agent, "", "unknown");
    assert_refused(&agent, "%%%", "unknown");
    assert_string_equal(fixture_events_last("token.refused").entity, "");
}

static void a_second_pair_of_keys_is_refused_and_told(void **state)
{
    (void)state;
    AUTO_AGENT struct agent first;
    AUTO_AGENT struct agent second;
    char secret[64], id[UUID_TEXT_SIZE];
    uint32_t confirmed;

    agent_init(&first);
    agent_init(&second);
    fixture_token(req, NULL, NULL, 0, secret, id);
    assert_ok(fixture_enrol(req, &first, secret, &why));
    assert_refused(&second, secret, "second_key");
    assert_string_equal(fixture_events_last("token.refused").agent_id, id);
    /* One key of two is another pair, too. */
    struct agent mixed = first;
    mixed.task_csr = second.task_csr;
    assert_refused(&mixed, secret, "second_key");
    assert_ok(fixture_enrol(req, &first, secret, &why));
    assert_ok(confirm_well(&first, &confirmed));
}

static void a_fresh_token_revokes_the_open_one_and_raises_the_generation(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    AUTO_AGENT struct agent again;
    char old[64], fresh[64], id[UUID_TEXT_SIZE];
    uint32_t confirmed;

    agent_init(&agent);
    agent_init(&again);
    fixture_token(req, NULL, NULL, 0, old, id);
    fixture_token(req, id, NULL, 0, fresh, id);
    assert_refused(&agent, old, "revoked");
    assert_ok(fixture_enrol(req, &agent, fresh, &why));
    assert_int_equal(agent.generation, 0);
    assert_ok(confirm_well(&agent, &confirmed));

    fixture_token(req, id, NULL, 0, fresh, id);
    assert_ok(fixture_enrol(req, &again, fresh, &why));
    assert_string_equal(again.id, id);
    assert_int_equal(again.generation, 1);
    assert_ok(confirm_well(&again, &confirmed));
    assert_int_equal(confirmed, 1);
    /* The old generation's word is still its own, but it does not lower anything. */
    assert_ok(confirm_well(&agent, &confirmed));
    assert_int_equal(confirmed, 1);
}

static void a_disabled_agent_gets_no_identity(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    char secret[64], id[UUID_TEXT_SIZE];

    agent_init(&agent);
    fixture_token(req, NULL, NULL, 0, secret, id);
    const struct scope_row disabled = {.agent_id = id, .version = 2, .disabled = true};
    assert_ok(projection_apply(req, &disabled, false, &why));
    assert_refused(&agent, secret, "disabled");
    const struct scope_row enabled = {.agent_id = id, .version = 3};
    assert_ok(projection_apply(req, &enabled, false, &why));
    assert_ok(fixture_enrol(req, &agent, secret, &why));
}

static void keys_that_will_not_do_leave_the_token_open(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    AUTO_DER struct der p384_csr = {0};
    AUTO_KEY struct key *p384 = NULL;
    char secret[64], id[UUID_TEXT_SIZE];

    agent_init(&agent);
    fixture_token(req, NULL, NULL, 0, secret, id);
    struct agent wrong = agent;
    wrong.task_csr = agent.identity_csr;
    assert_int_equal(fixture_enrol(req, &wrong, secret, &why), CODE_INVALID_ARGUMENT);
    wrong.task_csr = (struct der){0};
    assert_int_equal(fixture_enrol(req, &wrong, secret, &why), CODE_INVALID_ARGUMENT);
    assert_ok(key_generate(KEY_EC_P384, &p384, &why));
    fixture_csr(p384, NULL, NULL, NULL, &p384_csr);
    wrong.task_csr = p384_csr;
    assert_int_equal(fixture_enrol(req, &wrong, secret, &why), CODE_INVALID_ARGUMENT);
    agent.task_csr.data[agent.task_csr.len - 1] ^= 1;
    assert_int_equal(fixture_enrol(req, &agent, secret, &why), CODE_INVALID_ARGUMENT);
    agent.task_csr.data[agent.task_csr.len - 1] ^= 1;
    assert_int_equal(fixture_events_count("token.refused"), 0);
    assert_ok(fixture_enrol(req, &agent, secret, &why));
}

static void a_source_with_too_many_failures_is_told_to_wait(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    AUTO_AGENT struct agent good;
    char secret[64], id[UUID_TEXT_SIZE];

    agent_init(&agent);
    agent_init(&good);
    clock_fake(clock_wall_ms());
    throttle_free(req->throttle);
    req->throttle = throttle_new(3);
    for (int i = 0; i < 3; i++)
        assert_refused(&agent, "", "unknown");
    assert_int_equal(fixture_enrol(req, &agent, "", &why), CODE_RESOURCE_EXHAUSTED);
    assert_int_equal(fixture_events_count("token.refused"), 3); /* the log cannot be flooded */

    fixture_token(req, NULL, NULL, 0, secret, id);
    assert_ok(
        fixture_enrol(req, &good, secret, &why)); /* a neighbour behind the same address is not locked out */
    clock_advance(60 * 1000);
    assert_refused(&agent, "", "unknown");
}

static void a_token_bound_to_hostnames_is_refused_on_other_hosts(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    char secret[64], id[UUID_TEXT_SIZE];

    agent_init(&agent);
    fixture_hostname_pattern = "web-*.example.com";
    fixture_token(req, NULL, NULL, 0, secret, id);
    static const char *const others[] = {"", "db-1.example.com", "web-1.example.org", "web-1.a.example.com",
                                         "*"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        fixture_hostname = others[i];
        assert_refused(&agent, secret, "hostname");
    }
    fixture_hostname = "WEB-17.example.com";
    assert_ok(fixture_enrol(req, &agent, secret, &why)); /* the refusals have not used it up */
}

static void a_token_bound_to_a_source_needs_a_balancers_word(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    char secret[64], id[UUID_TEXT_SIZE];

    agent_init(&agent);
    fixture_source_cidr = "198.51.100.0/24"; /* the fixture comes from 192.0.2.7 */
    fixture_token(req, NULL, NULL, 0, secret, id);
    fixture_source_proven = true;
    assert_refused(&agent, secret, "source");
    fixture_source_cidr = "192.0.2.0/24";
    fixture_token(req, NULL, NULL, 0, secret, id);
    fixture_source_proven = false;
    assert_refused(&agent, secret, "source");
    fixture_source_proven = true;
    assert_ok(fixture_enrol(req, &agent, secret, &why));
    struct token_view *tokens;
    size_t n;
    assert_ok(token_list(req, id, &tokens, &n, &why));
    assert_string_equal(tokens[0].source_cidr, "192.0.2.0/24");
    assert_null(tokens[0].hostname_pattern);
}

static void bounds_that_nothing_meets_are_refused(void **state)
{
    (void)state;
    struct token_made made;
    char id[UUID_TEXT_SIZE];
    uuid_v7(id);
    struct token_order order = {.agent_id = id, .hostname = "h", .hostname_pattern = "web_*..example.com"};
    assert_int_equal(token_create(req, &order, &made, &why), CODE_INVALID_ARGUMENT);
    order.hostname_pattern = NULL;
    order.source_cidr = "10.1.2.3/16";
    assert_int_equal(token_create(req, &order, &made, &why), CODE_INVALID_ARGUMENT);
    assert_int_equal(fixture_events_count("token.created"), 0);
}

static void a_signer_that_is_away_records_nothing(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    AUTO_AGENT struct agent other;
    char secret[64], id[UUID_TEXT_SIZE];

    agent_init(&agent);
    agent_init(&other);
    fixture_token(req, NULL, NULL, 0, secret, id);
    assert_int_equal(kill(signer_pid(req->signer), SIGKILL), 0);
    assert_int_equal(fixture_enrol(req, &agent, secret, &why), CODE_UNAVAILABLE);
    assert_ok(signer_ensure(req->signer, &why));
    assert_ok(fixture_enrol(req, &other, secret, &why)); /* not even the keys were bound */
}

/* ---- a thousand at once -----------------------------------------------------------------------------------
 */

#define THREADS 16
#define USES    64

static char shared_secret[64], winner_id[UUID_TEXT_SIZE];
static atomic_uint n_won, n_refused, n_other;

static void *storm(void *arg)
{
    struct request *mine = arg;
    for (int i = 0; i < USES; i++) {
        AUTO_AGENT struct agent agent;
        struct status st = {0};
        agent_init(&agent);
        enum code code = fixture_enrol(mine, &agent, shared_secret, &st);
        if (code == CODE_OK) {
            atomic_fetch_add(&n_won, 1);
            memcpy(winner_id, agent.id, sizeof(winner_id));
        } else {
            atomic_fetch_add(code == CODE_UNAUTHENTICATED ? &n_refused : &n_other, 1);
        }
    }
    return NULL;
}

static void a_thousand_hosts_with_one_token_become_one_agent(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    struct request *requests[THREADS];
    char id[UUID_TEXT_SIZE];

    fixture_token(req, NULL, NULL, 0, shared_secret, id);
    for (size_t i = 0; i < THREADS; i++) {
        requests[i] = fixture_request_new();
        assert_int_equal(pthread_create(&threads[i], NULL, storm, requests[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        fixture_request_free(requests[i]);
    }
    assert_int_equal(n_won, 1);
    assert_int_equal(n_refused, THREADS * USES - 1);
    assert_int_equal(n_other, 0);
    assert_string_equal(winner_id, id);
    assert_int_equal(fixture_events_count("identity.issued"), 1);
    assert_int_equal(fixture_events_count("token.refused"), THREADS * USES - 1);
}

/* ---- confirmation -----------------------------------------------------------------------------------------
 */

static void confirming_twice_changes_nothing_the_second_time(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    char secret[64], id[UUID_TEXT_SIZE];
    uint32_t confirmed;

    agent_init(&agent);
    fixture_token(req, NULL, NULL, 0, secret, id);
    assert_ok(fixture_enrol(req, &agent, secret, &why));
    for (int i = 0; i < 3; i++) {
        confirmed = 99;
        assert_ok(confirm_well(&agent, &confirmed));
        assert_int_equal(confirmed, 0);
    }
    assert_int_equal(fixture_events_count("identity.confirmed"), 1);
    assert_int_equal(fixture_events_count("token.used"), 1);
    assert_int_equal(fixture_events_last("identity.confirmed").version, 2);
}

struct confirming {
    struct request *req;
    struct agent *agent;
    enum code code;
};

static void *confirm_beside(void *arg)
{
    struct confirming *it = arg;
    AUTO_DER struct der cms = {0};
    uint32_t confirmed;
    const struct said said = {
        .purpose = CONFIRM, .agent_id = it->agent->id, .generation = it->agent->generation};
    fixture_say(&said, it->agent->task_key, der_bytes(&it->agent->task_cert), &cms);
    it->code =
        identity_confirm(it->req, it->agent->id, it->agent->generation, der_bytes(&cms), &confirmed, &why);
    return NULL;
}

/* Whoever was told that the token is revoked can rely on it. */
static void a_token_that_is_being_revoked_confirms_nothing(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    char secret[64], id[UUID_TEXT_SIZE];
    struct token_view *tokens;
    struct identity_row row;
    size_t n;
    uint64_t version;
    pthread_t thread;
    struct confirming confirming = {.req = fixture_request_new(), .agent = &agent};
    int64_t end_ms = clock_mono_ms() + 15000, waiting = 0;

    agent_init(&agent);
    fixture_token(req, NULL, NULL, 0, secret, id);
    assert_ok(fixture_enrol(req, &agent, secret, &why));
    assert_ok(token_list(req, id, &tokens, &n, &why));
    assert_ok(db_begin(req->db, &why));
    assert_ok(store_token_revoke(req->db, id, tokens[0].id, clock_wall_ms(), &version, &why));
    assert_true(version > 0);
    assert_int_equal(pthread_create(&thread, NULL, confirm_beside, &confirming), 0);
    while (waiting == 0) {
        AUTO_ROWS struct db_rows *rows = NULL;
        assert_true(clock_mono_ms() < end_ms);
        assert_ok(
            db_query_one(req->db, "SELECT count(*) FROM pg_locks WHERE NOT granted", NULL, &rows, &why));
        waiting = db_int(rows, 0, 0);
    }
    assert_ok(db_commit(req->db, &why));
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(confirming.code, CODE_PERMISSION_DENIED);
    assert_int_equal(store_identity_confirmed(req->db, req->arena, id, &row, &why), CODE_NOT_FOUND);
    assert_int_equal(fixture_events_count("identity.confirmed"), 0);
    fixture_request_free(confirming.req);
}

static void only_the_very_agents_task_key_confirms(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    AUTO_AGENT struct agent other;
    char secret[64], id[UUID_TEXT_SIZE];
    uint32_t confirmed = 99;

    agent_init(&agent);
    agent_init(&other);
    fixture_token(req, NULL, NULL, 0, secret, id);
    assert_ok(fixture_enrol(req, &agent, secret, &why));
    fixture_token(req, NULL, NULL, 0, secret, id);
    assert_ok(fixture_enrol(req, &other, secret, &why));

    const struct said right = {.purpose = CONFIRM, .agent_id = agent.id, .generation = 0};
    struct said said = right;
    /* Another agent's key, in its own name or in this one's; the identity key; other words under the right
     * key. */
    assert_int_not_equal(confirm(&agent, &said, other.task_key, der_bytes(&other.task_cert), &confirmed),
                         CODE_OK);
    assert_int_not_equal(
        confirm(&agent, &said, agent.identity_key, der_bytes(&agent.identity_cert), &confirmed), CODE_OK);
    said.agent_id = other.id;
    assert_int_not_equal(confirm(&agent, &said, agent.task_key, der_bytes(&agent.task_cert), &confirmed),
                         CODE_OK);
    said = right;
    said.generation = 1;
    assert_int_not_equal(confirm(&agent, &said, agent.task_key, der_bytes(&agent.task_cert), &confirmed),
                         CODE_OK);
    said = right;
    said.purpose = CLM__SIGNED_REQUEST__PURPOSE__SIGN;
    assert_int_not_equal(confirm(&agent, &said, agent.task_key, der_bytes(&agent.task_cert), &confirmed),
                         CODE_OK);
    assert_int_not_equal(
        identity_confirm(req, agent.id, 0, (struct bytes){(const uint8_t *)"junk", 4}, &confirmed, &why),
        CODE_OK);
    assert_int_equal(fixture_events_count("identity.confirmed"), 0);
    assert_int_equal(confirmed, 99);
    assert_ok(confirm(&agent, &right, agent.task_key, der_bytes(&agent.task_cert), &confirmed));
}

static void an_identity_whose_token_was_revoked_cannot_be_confirmed(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    char secret[64], fresh[64], id[UUID_TEXT_SIZE];
    uint32_t confirmed = 99;

    agent_init(&agent);
    fixture_token(req, NULL, NULL, 0, secret, id);
    assert_ok(fixture_enrol(req, &agent, secret, &why));
    fixture_token(req, id, NULL, 0, fresh, id);
    assert_int_equal(confirm_well(&agent, &confirmed), CODE_PERMISSION_DENIED);
    assert_int_equal(fixture_events_count("identity.confirmed"), 0);
}

static void a_token_lives_at_most_a_week_and_its_scope_must_be_one(void **state)
{
    (void)state;
    struct token_made made;
    char id[UUID_TEXT_SIZE];
    uuid_v7(id);
    struct token_order order = {.agent_id = id, .hostname = "h", .ttl_sec = TOKEN_TTL_MAX_SEC + 1};
    assert_int_equal(token_create(req, &order, &made, &why), CODE_INVALID_ARGUMENT);
    order.ttl_sec = 0;
    const char *name = "*.*.example.com", *path = "/etc/../shadow";
    order.scope.dns_names = &name;
    order.scope.n_dns_names = 1;
    assert_int_equal(token_create(req, &order, &made, &why), CODE_INVALID_ARGUMENT);
    order.scope.n_dns_names = 0;
    order.scope.paths = &path;
    order.scope.n_paths = 1;
    assert_int_equal(token_create(req, &order, &made, &why), CODE_INVALID_ARGUMENT);
    assert_int_equal(fixture_events_count("token.created"), 0);
}

static bool make_again(struct token_order *order, char secret[64])
{
    struct token_made made;
    struct token token;
    assert_ok(token_create(req, order, &made, &why));
    assert_string_equal(made.id, order->id);
    if (!made.text)
        return false;
    assert_ok(token_parse(made.text, &token, &why));
    secret_free(made.text);
    token_secret_text(&token, secret);
    token_wipe(&token);
    return true;
}

static void a_token_with_an_id_is_made_once_and_has_a_fresh_secret_until_it_was_used(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    char id[UUID_TEXT_SIZE], stranger[UUID_TEXT_SIZE], token_id[UUID_TEXT_SIZE], first[64], second[64];
    uuid_v7(id);
    uuid_v7(stranger);
    uuid_v7(token_id);
    struct token_order order = {.id = token_id, .agent_id = id, .hostname = "h"};
    agent_init(&agent);
    assert_true(make_again(&order, first));
    assert_true(make_again(&order, second));
    assert_int_equal(fixture_events_count("token.created"), 1);
    assert_int_equal(fixture_enrol(req, &agent, first, &why), CODE_UNAUTHENTICATED);
    order.agent_id = stranger; /* whose token it is not */
    assert_false(make_again(&order, first));
    order.agent_id = id;
    assert_ok(fixture_enrol(req, &agent, second, &why));
    assert_string_equal(agent.id, id);
    assert_false(make_again(&order, first));
    assert_ok(fixture_enrol(req, &agent, second, &why)); /* the host that has it goes on */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_token_becomes_an_identity_of_generation_0),
        TEST(the_same_keys_get_the_same_certificates_until_confirmed),
        TEST(the_end_of_its_time_stops_an_unused_token_only),
        TEST(a_token_with_an_id_is_made_once_and_has_a_fresh_secret_until_it_was_used),
        TEST(a_token_that_nobody_made_is_refused),
        TEST(a_second_pair_of_keys_is_refused_and_told),
        TEST(a_fresh_token_revokes_the_open_one_and_raises_the_generation),
        TEST(a_disabled_agent_gets_no_identity),
        TEST(keys_that_will_not_do_leave_the_token_open),
        TEST(a_source_with_too_many_failures_is_told_to_wait),
        TEST(a_token_bound_to_hostnames_is_refused_on_other_hosts),
        TEST(a_token_bound_to_a_source_needs_a_balancers_word),
        TEST(bounds_that_nothing_meets_are_refused),
        TEST(a_signer_that_is_away_records_nothing),
        TEST(a_thousand_hosts_with_one_token_become_one_agent),
        TEST(confirming_twice_changes_nothing_the_second_time),
        TEST(a_token_that_is_being_revoked_confirms_nothing),
        TEST(only_the_very_agents_task_key_confirms),
        TEST(an_identity_whose_token_was_revoked_cannot_be_confirmed),
        TEST(a_token_lives_at_most_a_week_and_its_scope_must_be_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
