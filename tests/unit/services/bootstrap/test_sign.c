/* Managed and service certificates: every gate closes on its own. Real database, real signer; the tasks
 * service faked. */
#include "cmocka_all.h"

#include <pthread.h>

#include "base/clock.h"
#include "projection.h"
#include "proto/envelope.pb-c.h"
#include "service_cert.h"
#include "services/bootstrap/fixture.h"
#include "sign.h"

#define SIGN CLM__SIGNED_REQUEST__PURPOSE__SIGN

static struct request *req;
static struct agent agent; /* confirmed; its scope allows RENEW of *.test.example */
static struct key *server_key;
static char task_id[UUID_TEXT_SIZE];

static int setup(void **state)
{
    (void)state;
    req = fixture_request_new();
    agent_init(&agent);
    fixture_confirmed_agent(req, &agent, "*.test.example");
    assert_ok(key_generate(KEY_EC_P256, &server_key, &why));
    uuid_v7(task_id);
    fixture_events_clear();
    fixture_tasks_answer = CODE_OK;
    fixture_tasks_life_sec = 0;
    fixture_tasks_calls = 0;
    fixture_registry_version = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    key_free(server_key);
    agent_done(&agent);
    fixture_request_free(req);
    return 0;
}

static struct said right(const struct der *csr)
{
    return (struct said){.purpose = SIGN,
                         .agent_id = agent.id,
                         .task_id = task_id,
                         .generation = agent.generation,
                         .attempt = 1,
                         .csr = der_bytes(csr)};
}

static enum code sign_said(struct request *with, const struct said *said, struct bytes chain[2],
                           struct status *st)
{
    AUTO_DER struct der cms = {0};
    fixture_say(said, agent.task_key, der_bytes(&agent.task_cert), &cms);
    return certificate_sign(with, agent.id, der_bytes(&cms), chain, st);
}

static enum code sign_names(const char *dns, const char *ip, const char *uri, struct bytes chain[2])
{
    AUTO_DER struct der csr = {0};
    fixture_csr(server_key, dns, ip, uri, &csr);
    const struct said said = right(&csr);
    return sign_said(req, &said, chain, &why);
}

static void a_name_within_the_scope_gets_a_chain_for_tls_servers(void **state)
{
    (void)state;
    struct bytes chain[2];
    AUTO_DER_LIST struct der_list roots = {0};
    AUTO_DER_LIST struct der_list intermediates = {0};
    AUTO_CERT_INFO struct cert_info info = {0};

    assert_ok(sign_names("www.test.example", NULL, NULL, chain));
    assert_ok(der_list_add(&roots, req->settings->root, &why));
    assert_ok(der_list_add(&intermediates, chain[1], &why));
    assert_ok(chain_verify(chain[0], &intermediates, &roots, PURPOSE_TLS_SERVER, clock_wall_ms(), &why));
    assert_true(cert_matches_host(chain[0], "www.test.example"));
    assert_true(key_matches_cert(server_key, chain[0]));
    assert_ok(cert_read(chain[0], &info, &why));
    assert_int_equal(info.names.n_dns, 1);
    assert_int_equal(fixture_tasks_calls, 1);
    assert_int_equal(fixture_events_count("certificate.issued"), 1);
    assert_string_equal(fixture_events_last("certificate.issued").agent_id, agent.id);
    assert_string_equal(fixture_events_last("certificate.issued").entity, task_id);
}

static void a_name_outside_the_scope_is_refused_before_tasks_is_asked(void **state)
{
    (void)state;
    struct bytes chain[2];
    assert_int_equal(sign_names("www.other.example", NULL, NULL, chain), CODE_PERMISSION_DENIED);
    assert_int_equal(sign_names("a.b.test.example", NULL, NULL, chain), CODE_PERMISSION_DENIED);
    assert_int_equal(sign_names("test.example", NULL, NULL, chain), CODE_PERMISSION_DENIED);
    assert_int_equal(sign_names("www.test.example", "192.0.2.1", NULL, chain), CODE_PERMISSION_DENIED);
    assert_int_equal(sign_names(NULL, NULL, "spiffe://" TRUST_DOMAIN "/service/gateway", chain),
                     CODE_INVALID_ARGUMENT);
    assert_int_equal(sign_names(NULL, NULL, NULL, chain), CODE_INVALID_ARGUMENT);
    assert_int_equal(fixture_tasks_calls, 0);
    assert_int_equal(fixture_events_count("certificate.issued"), 0);
}

static void no_host_gets_a_certificate_for_the_platforms_own_names(void **state)
{
    (void)state;
    struct bytes chain[2];
    static const struct {
        const char *dns, *ip;
    } ours[] = {{"gateway.test.example", NULL},
                {"*.test.example", NULL},
                {"bus.test.example", NULL},
                {NULL, "192.0.2.5"}};
    char bus[] = "bus.test.example", address[] = "192.0.2.5";
    char *const reserved[] = {bus, address};
    struct settings settings = *req->settings;

    settings.reserved_names = reserved;
    settings.n_reserved_names = 2;
    req->settings = &settings;
    for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
        assert_int_equal(sign_names(ours[i].dns, ours[i].ip, NULL, chain), CODE_PERMISSION_DENIED);
        assert_non_null(strstr(why.msg, "platform's own"));
    }
    assert_ok(sign_names("www.test.example", NULL, NULL, chain));
}

static void the_same_key_under_one_attempt_gets_the_same_certificate(void **state)
{
    (void)state;
    struct bytes first[2], again[2];
    assert_ok(sign_names("www.test.example", NULL, NULL, first));
    assert_ok(sign_names("www.test.example", NULL, NULL, again));
    assert_int_equal(first[0].len, again[0].len);
    assert_memory_equal(first[0].data, again[0].data, first[0].len);
    assert_int_equal(fixture_tasks_calls, 1);
    assert_int_equal(fixture_events_count("certificate.issued"), 1);
}

static void what_tasks_refuses_is_not_issued(void **state)
{
    (void)state;
    struct bytes chain[2];
    fixture_tasks_answer = CODE_FAILED_PRECONDITION;
    assert_int_equal(sign_names("www.test.example", NULL, NULL, chain), CODE_FAILED_PRECONDITION);
    fixture_tasks_answer = CODE_UNAVAILABLE;
    assert_int_equal(sign_names("www.test.example", NULL, NULL, chain), CODE_UNAVAILABLE);
    assert_int_equal(fixture_events_count("certificate.issued"), 0);
}

static void a_task_may_ask_for_a_shorter_life_only(void **state)
{
    (void)state;
    struct bytes chain[2];
    AUTO_CERT_INFO struct cert_info short_one = {0};
    AUTO_CERT_INFO struct cert_info long_one = {0};
    fixture_tasks_life_sec = 3600;
    assert_ok(sign_names("www.test.example", NULL, NULL, chain));
    assert_ok(cert_read(chain[0], &short_one, &why));
    assert_in_range(short_one.not_after_ms - clock_wall_ms(), 3500 * 1000, 3600 * 1000);

    uuid_v7(task_id);
    fixture_tasks_life_sec = 365 * 24 * 3600;
    assert_ok(sign_names("www.test.example", NULL, NULL, chain));
    assert_ok(cert_read(chain[0], &long_one, &why));
    assert_true(long_one.not_after_ms - clock_wall_ms() <= 90LL * 24 * 3600 * 1000);
}

static void a_disabled_or_deleted_agent_gets_no_certificate_not_even_the_old_one(void **state)
{
    (void)state;
    struct bytes chain[2];
    static const int64_t operations[] = {2};
    const char *name = "*.test.example";
    struct scope_row row = {.agent_id = agent.id,
                            .version = 5,
                            .operations = operations,
                            .n_operations = 1,
                            .dns_names = &name,
                            .n_dns_names = 1,
                            .column = SAFE_DISABLED};

    assert_ok(sign_names("www.test.example", NULL, NULL, chain));
    assert_ok(projection_apply(req, &row, false, &why));
    assert_int_equal(sign_names("www.test.example", NULL, NULL, chain), CODE_PERMISSION_DENIED);

    row.column = SAFE_ONLINE;
    row.version = 4; /* an event that was late must not enable it again */
    assert_ok(projection_apply(req, &row, false, &why));
    assert_int_equal(sign_names("www.test.example", NULL, NULL, chain), CODE_PERMISSION_DENIED);
    row.version = 6;
    assert_ok(projection_apply(req, &row, false, &why));
    assert_ok(sign_names("www.test.example", NULL, NULL, chain));

    row.version = 7;
    assert_ok(projection_apply(req, &row, true, &why));
    assert_int_equal(sign_names("www.test.example", NULL, NULL, chain), CODE_PERMISSION_DENIED);
}

static void a_scope_without_renew_or_names_gets_nothing(void **state)
{
    (void)state;
    struct bytes chain[2];
    static const int64_t discover[] = {4}, renew[] = {2};
    const char *name = "*.test.example";
    struct scope_row row = {.agent_id = agent.id,
                            .version = 5,
                            .operations = discover,
                            .n_operations = 1,
                            .dns_names = &name,
                            .n_dns_names = 1};
    assert_ok(projection_apply(req, &row, false, &why));
    assert_int_equal(sign_names("www.test.example", NULL, NULL, chain), CODE_PERMISSION_DENIED);
    row.version = 6;
    row.operations = renew;
    row.n_dns_names = 0;
    assert_ok(projection_apply(req, &row, false, &why));
    assert_int_equal(sign_names("www.test.example", NULL, NULL, chain), CODE_PERMISSION_DENIED);
}

static void a_refusal_by_what_is_old_is_not_the_last_word(void **state)
{
    (void)state;
    struct bytes chain[2];
    static const int64_t renew[] = {2};
    const char *name = "*.other.example";
    struct scope_row row = {.agent_id = agent.id,
                            .version = 5,
                            .scope_version = 5,
                            .operations = renew,
                            .n_operations = 1,
                            .dns_names = &name,
                            .n_dns_names = 1};
    assert_ok(projection_apply(req, &row, false, &why));
    fixture_registry_version = 5;
    assert_int_equal(sign_names("www.test.example", NULL, NULL, chain), CODE_PERMISSION_DENIED);
    fixture_registry_version = 6; /* what it says is believed no further than that */
    assert_int_equal(sign_names("www.test.example", NULL, NULL, chain), CODE_UNAVAILABLE);
    assert_ok(sign_names("www.other.example", NULL, NULL, chain));
    assert_int_equal(fixture_tasks_calls, 1);
    row.version = 6;
    name = "*.test.example";
    assert_ok(projection_apply(req, &row, false, &why));
    assert_ok(sign_names("www.test.example", NULL, NULL, chain));
}

static void a_swapped_csr_or_word_is_refused(void **state)
{
    (void)state;
    struct bytes chain[2];
    AUTO_DER struct der csr = {0};
    AUTO_DER struct der cms = {0};
    AUTO_AGENT struct agent other;

    fixture_csr(server_key, "www.test.example", NULL, NULL, &csr);
    agent_init(&other);
    fixture_confirmed_agent(req, &other, "*.test.example");
    fixture_events_clear();

    struct said said = right(&csr);
    /* Another agent's signature, carried under this one's connection, and the other way round. */
    fixture_say(&said, other.task_key, der_bytes(&other.task_cert), &cms);
    assert_int_not_equal(certificate_sign(req, agent.id, der_bytes(&cms), chain, &why), CODE_OK);
    der_done(&cms);
    fixture_say(&said, agent.task_key, der_bytes(&agent.task_cert), &cms);
    assert_int_not_equal(certificate_sign(req, other.id, der_bytes(&cms), chain, &why), CODE_OK);
    /* One byte of the signed content. */
    for (size_t i = 0; i + csr.len <= cms.len; i++) {
        if (memcmp(cms.data + i, csr.data, csr.len) == 0)
            cms.data[i + csr.len / 2] ^= 1;
    }
    assert_int_not_equal(certificate_sign(req, agent.id, der_bytes(&cms), chain, &why), CODE_OK);
    /* The identity key is not the task key. */
    der_done(&cms);
    fixture_say(&said, agent.identity_key, der_bytes(&agent.identity_cert), &cms);
    assert_int_not_equal(certificate_sign(req, agent.id, der_bytes(&cms), chain, &why), CODE_OK);
    /* Another purpose, generation, agent; no task. */
    said.purpose = CLM__SIGNED_REQUEST__PURPOSE__CONFIRM;
    assert_int_equal(sign_said(req, &said, chain, &why), CODE_PERMISSION_DENIED);
    said = right(&csr);
    said.generation = 1;
    assert_int_equal(sign_said(req, &said, chain, &why), CODE_PERMISSION_DENIED);
    said = right(&csr);
    said.agent_id = other.id;
    assert_int_equal(sign_said(req, &said, chain, &why), CODE_PERMISSION_DENIED);
    said = right(&csr);
    said.attempt = 0;
    assert_int_equal(sign_said(req, &said, chain, &why), CODE_INVALID_ARGUMENT);
    assert_int_equal(fixture_events_count("certificate.issued"), 0);
    assert_int_equal(fixture_tasks_calls, 0);
}

static void an_unconfirmed_agent_gets_nothing(void **state)
{
    (void)state;
    AUTO_AGENT struct agent fresh;
    AUTO_DER struct der csr = {0};
    AUTO_DER struct der cms = {0};
    struct bytes chain[2];
    char secret[64], id[UUID_TEXT_SIZE];

    agent_init(&fresh);
    fixture_token(req, NULL, "*.test.example", 0, secret, id);
    assert_ok(fixture_enrol(req, &fresh, secret, &why));
    fixture_csr(server_key, "www.test.example", NULL, NULL, &csr);
    struct said said = right(&csr);
    said.agent_id = fresh.id;
    fixture_say(&said, fresh.task_key, der_bytes(&fresh.task_cert), &cms);
    assert_int_equal(certificate_sign(req, fresh.id, der_bytes(&cms), chain, &why), CODE_PERMISSION_DENIED);
}

static void an_attempt_has_certificates_for_a_few_keys_at_most(void **state)
{
    (void)state;
    struct bytes chain[2];
    unsigned issued = 0;
    for (int i = 0; i < 6; i++) {
        key_free(TAKE(server_key));
        assert_ok(key_generate(KEY_EC_P256, &server_key, &why));
        enum code code = sign_names("www.test.example", NULL, NULL, chain);
        issued += code == CODE_OK;
        assert_true(code == CODE_OK || code == CODE_FAILED_PRECONDITION);
    }
    assert_int_equal(issued, 4);
}

/* ---- the same request twice at once -----------------------------------------------------------------------
 */

#define THREADS 8
static struct der storm_csr;
static struct bytes storm_chain[THREADS][2];
static struct request *storm_req[THREADS];

static void *storm(void *arg)
{
    size_t i = *(const size_t *)arg;
    struct status st = {0};
    const struct said said = right(&storm_csr);
    return sign_said(storm_req[i], &said, storm_chain[i], &st) == CODE_OK ? arg : NULL;
}

static void one_request_delivered_many_times_at_once_is_issued_once(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    size_t index[THREADS];
    fixture_csr(server_key, "www.test.example", NULL, NULL, &storm_csr);
    for (size_t i = 0; i < THREADS; i++) {
        index[i] = i;
        storm_req[i] = fixture_request_new();
        assert_int_equal(pthread_create(&threads[i], NULL, storm, &index[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        void *ok;
        assert_int_equal(pthread_join(threads[i], &ok), 0);
        assert_non_null(ok);
        assert_int_equal(storm_chain[i][0].len, storm_chain[0][0].len);
        assert_memory_equal(storm_chain[i][0].data, storm_chain[0][0].data, storm_chain[0][0].len);
    }
    assert_int_equal(fixture_events_count("certificate.issued"), 1);
    for (size_t i = 0; i < THREADS; i++)
        fixture_request_free(storm_req[i]);
    der_done(&storm_csr);
}

/* ---- services ---------------------------------------------------------------------------------------------
 */

static enum code service_sign(const char *caller, const char *uri, bool envelope, struct bytes chain[2])
{
    AUTO_DER struct der csr = {0};
    fixture_csr(server_key, NULL, NULL, uri, &csr);
    return service_certificate_issue(req, caller, envelope, der_bytes(&csr), chain, &why);
}

static void a_service_renews_itself_and_nobody_else(void **state)
{
    (void)state;
    struct bytes chain[2];
    AUTO_CERT_INFO struct cert_info info = {0};
    const char *registry = "spiffe://" TRUST_DOMAIN "/service/registry",
               *tasks = "spiffe://" TRUST_DOMAIN "/service/tasks";

    assert_ok(service_sign("registry", registry, false, chain));
    assert_int_equal(service_sign("registry", tasks, false, chain), CODE_PERMISSION_DENIED);
    assert_int_equal(service_sign("registry", registry, true, chain), CODE_PERMISSION_DENIED);
    assert_int_equal(service_sign("gateway", tasks, true, chain), CODE_PERMISSION_DENIED);
    assert_int_equal(fixture_events_count("certificate.issued"), 1);
    assert_ok(service_sign("tasks", tasks, true, chain));
    assert_ok(cert_read(chain[0], &info, &why));
    assert_true(info.not_after_ms - clock_wall_ms() <= 24LL * 3600 * 1000);
    assert_string_equal(fixture_events_last("certificate.issued").actor, "service:tasks");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_name_within_the_scope_gets_a_chain_for_tls_servers),
        TEST(a_name_outside_the_scope_is_refused_before_tasks_is_asked),
        TEST(no_host_gets_a_certificate_for_the_platforms_own_names),
        TEST(the_same_key_under_one_attempt_gets_the_same_certificate),
        TEST(what_tasks_refuses_is_not_issued),
        TEST(a_task_may_ask_for_a_shorter_life_only),
        TEST(a_disabled_or_deleted_agent_gets_no_certificate_not_even_the_old_one),
        TEST(a_scope_without_renew_or_names_gets_nothing),
        TEST(a_refusal_by_what_is_old_is_not_the_last_word),
        TEST(a_swapped_csr_or_word_is_refused),
        TEST(an_unconfirmed_agent_gets_nothing),
        TEST(an_attempt_has_certificates_for_a_few_keys_at_most),
        TEST(one_request_delivered_many_times_at_once_is_issued_once),
        TEST(a_service_renews_itself_and_nobody_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
