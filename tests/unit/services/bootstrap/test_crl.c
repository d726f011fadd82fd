/* Revocation lists: what is on them, when they come, and that a late one stops nothing. Judged by OpenSSL. */
#include "cmocka_all.h"

#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <signal.h>

#include "base/clock.h"
#include "crl.h"
#include "identities.h"
#include "services/bootstrap/fixture.h"

#define LIFE_SEC 3600

static struct request *req;
static struct crl_times times[ISSUING_CA_COUNT];

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
    fixture_request_free(req);
    return 0;
}

static struct crl_row newest(const char *issuer)
{
    struct crl_row row;
    assert_ok(crl_get(req, issuer, &row, &why));
    return row;
}

static X509_CRL *parse(const struct crl_row *row)
{
    const unsigned char *at = row->der.data;
    X509_CRL *crl = d2i_X509_CRL(NULL, &at, (long)row->der.len);
    assert_non_null(crl);
    assert_ptr_equal(at, row->der.data + row->der.len);
    return crl;
}

static X509 *parse_cert(struct bytes der)
{
    const unsigned char *at = der.data;
    X509 *cert = d2i_X509(NULL, &at, (long)der.len);
    assert_non_null(cert);
    return cert;
}

/* With X509_V_FLAG_CRL_CHECK, as a relying party would. */
static int verify(struct bytes leaf, const struct crl_row *row)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509 *root = parse_cert(signer_root(req->signer)), *cert = parse_cert(leaf);
    X509 *issuer = parse_cert(der_bytes(&signer_issuers(req->signer)->item[CA_AGENTS]));
    X509_CRL *crl = parse(row);
    STACK_OF(X509) *chain = sk_X509_new_null();
    assert_true(sk_X509_push(chain, issuer) > 0);
    assert_int_equal(X509_STORE_add_cert(store, root), 1);
    assert_int_equal(X509_STORE_add_crl(store, crl), 1);
    assert_int_equal(X509_STORE_CTX_init(ctx, store, cert, chain), 1);
    X509_STORE_CTX_set_flags(ctx, X509_V_FLAG_CRL_CHECK);
    X509_STORE_CTX_set_time(ctx, 0, (time_t)(clock_wall_ms() / 1000));
    int error = X509_verify_cert(ctx) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(ctx);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    sk_X509_free(chain);
    X509_free(issuer);
    X509_free(cert);
    X509_free(root);
    X509_CRL_free(crl);
    return error;
}

static void revoke_agent(const struct agent *agent, enum crl_reason reason)
{
    assert_ok(db_begin(req->db, &why));
    assert_ok(agent_certificates_revoke(req, agent->id, clock_wall_ms(), reason, &why));
    assert_ok(db_commit(req->db, &why));
}

static void tend(void)
{
    assert_ok(crls_tend(req, LIFE_SEC, times, &why));
}

static void every_issuing_ca_has_a_list_that_its_own_key_signed(void **state)
{
    (void)state;
    tend();
    for (size_t ca = 0; ca < ISSUING_CA_COUNT; ca++) {
        struct crl_row row = newest(issuing_ca_name((enum issuing_ca)ca));
        X509_CRL *crl = parse(&row);
        X509 *issuer = parse_cert(der_bytes(&signer_issuers(req->signer)->item[ca]));
        assert_int_equal(X509_CRL_verify(crl, X509_get0_pubkey(issuer)), 1);
        assert_int_equal(X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(issuer)), 0);
        assert_int_equal(X509_CRL_get_version(crl), X509_CRL_VERSION_2);
        assert_true(X509_CRL_get_ext_by_NID(crl, NID_crl_number, -1) >= 0);
        assert_true(X509_CRL_get_ext_by_NID(crl, NID_authority_key_identifier, -1) >= 0);
        assert_int_equal(row.next_update_ms - row.this_update_ms, LIFE_SEC * 1000);
        assert_int_equal(times[ca].this_update_ms, row.this_update_ms);
        assert_int_equal(times[ca].next_update_ms, row.next_update_ms);
        X509_free(issuer);
        X509_CRL_free(crl);
    }
    struct crl_row none;
    assert_int_equal(crl_get(req, "root", &none, &why), CODE_NOT_FOUND);
}

static void a_revoked_agents_certificates_are_on_the_next_list_and_no_others(void **state)
{
    (void)state;
    AUTO_AGENT struct agent bad;
    AUTO_AGENT struct agent good;
    agent_init(&bad);
    fixture_confirmed_agent(req, &bad, NULL);
    agent_init(&good);
    fixture_confirmed_agent(req, &good, NULL);
    tend();
    struct crl_row before = newest("agents");
    assert_int_equal(verify(der_bytes(&bad.identity_cert), &before), X509_V_OK);
    revoke_agent(&bad, CRL_UNSPECIFIED);
    revoke_agent(&bad, CRL_CESSATION); /* twice is once */
    tend();
    struct crl_row after = newest("agents");
    assert_int_equal(after.number, before.number + 1);
    assert_int_equal(verify(der_bytes(&bad.identity_cert), &after), X509_V_ERR_CERT_REVOKED);
    assert_int_equal(verify(der_bytes(&bad.task_cert), &after), X509_V_ERR_CERT_REVOKED);
    assert_int_equal(verify(der_bytes(&good.identity_cert), &after), X509_V_OK);
    tend(); /* nothing new */
    assert_int_equal(newest("agents").number, after.number);

    struct identity_view *views;
    size_t n;
    assert_ok(identities_of_agent(req, bad.id, &views, &n, &why));
    assert_int_equal(n, 1);
    assert_true(views[0].revoked_at_ms > 0 && views[0].current);
    assert_ok(identities_of_agent(req, good.id, &views, &n, &why));
    assert_int_equal(views[0].revoked_at_ms, -1);
}

static void what_is_issued_after_a_revocation_is_not_revoked_by_it(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    AUTO_AGENT struct agent again;
    char secret[64], id[UUID_TEXT_SIZE];
    int64_t before_ms;
    clock_fake(clock_wall_ms());
    agent_init(&agent);
    fixture_confirmed_agent(req, &agent, NULL);
    before_ms = clock_wall_ms();
    clock_advance(1000);
    agent_init(&again);
    fixture_token(req, agent.id, NULL, 0, secret, id);
    assert_ok(fixture_enrol(req, &again, secret, &why));
    /* The event of the revocation comes late. */
    assert_ok(agent_certificates_revoke(req, agent.id, before_ms, CRL_UNSPECIFIED, &why));
    tend();
    struct crl_row row = newest("agents");
    assert_int_equal(verify(der_bytes(&agent.identity_cert), &row), X509_V_ERR_CERT_REVOKED);
    assert_int_equal(verify(der_bytes(&again.identity_cert), &row), X509_V_OK);
}

static void a_list_is_renewed_at_half_of_its_life(void **state)
{
    (void)state;
    clock_fake(clock_wall_ms());
    tend();
    uint64_t number = newest("services").number;
    clock_advance(LIFE_SEC * 1000 / 2 - 5000);
    tend();
    assert_int_equal(newest("services").number, number);
    clock_advance(10000);
    tend();
    assert_int_equal(newest("services").number, number + 1);
}

static void a_certificate_that_ended_leaves_the_list(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    clock_fake(clock_wall_ms());
    agent_init(&agent);
    fixture_confirmed_agent(req, &agent, NULL);
    revoke_agent(&agent, CRL_UNSPECIFIED);
    tend();
    struct crl_row row = newest("agents");
    X509_CRL *crl = parse(&row);
    int with = sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl));
    X509_CRL_free(crl);
    clock_advance((req->settings->identity_life_sec + 2 * LIFE_SEC) * 1000);
    tend();
    row = newest("agents");
    crl = parse(&row);
    int without = crl && X509_CRL_get_REVOKED(crl) ? sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)) : 0;
    X509_CRL_free(crl);
    assert_true(without <= with - 2);
}

static void a_list_that_cannot_be_renewed_is_told_once_and_stops_nobody(void **state)
{
    (void)state;
    AUTO_AGENT struct agent agent;
    clock_fake(clock_wall_ms());
    tend();
    struct crl_row before = newest("managed");
    size_t late = fixture_events_count("crl.late");
    assert_int_equal(kill(signer_pid(req->signer), SIGKILL), 0);
    clock_advance(LIFE_SEC * 1000 * 2 / 3);
    assert_int_equal(crls_tend(req, LIFE_SEC, times, &why), CODE_UNAVAILABLE);
    assert_int_equal(fixture_events_count("crl.late"), late); /* there is time left */
    clock_advance(LIFE_SEC * 1000 / 4);
    for (int i = 0; i < 3; i++)
        assert_int_equal(crls_tend(req, LIFE_SEC, times, &why), CODE_UNAVAILABLE);
    assert_int_equal(fixture_events_count("crl.late"), late + ISSUING_CA_COUNT);
    assert_int_equal(newest("managed").number, before.number); /* the old one stands */
    assert_int_equal(times[CA_MANAGED].next_update_ms, before.next_update_ms);

    clock_advance(LIFE_SEC * 1000); /* past its end */
    assert_ok(signer_ensure(req->signer, &why));
    agent_init(&agent);
    fixture_confirmed_agent(req, &agent, NULL);
    tend();
    assert_int_equal(newest("managed").number, before.number + 1);
    assert_int_equal(times[CA_MANAGED].next_update_ms,
                     newest("managed").next_update_ms); /* by the signer's own clock */
}

static void the_signer_bounds_what_it_signs(void **state)
{
    (void)state;
    AUTO_DER struct der der = {0};
    int64_t from, until;
    struct crl_entry one = {.serial = {0x41, 2, 3}, .serial_len = 3, .revoked_at_ms = clock_wall_ms()};
    struct signer_crl order = {.ca = CA_AGENTS, .number = 1, .life_sec = LIFE_SEC, .entries = &one, .n = 1};
    assert_ok(signer_sign_crl(req->signer, &order, &der, &from, &until, &why));
    order.life_sec = 31 * 24 * 3600;
    assert_int_equal(signer_sign_crl(req->signer, &order, &der, &from, &until, &why), CODE_PERMISSION_DENIED);
    order.life_sec = LIFE_SEC;
    order.ca = ISSUING_CA_COUNT;
    assert_int_equal(signer_sign_crl(req->signer, &order, &der, &from, &until, &why), CODE_INVALID_ARGUMENT);
    order.ca = CA_AGENTS;
    order.n = CRL_ENTRIES_MAX + 1;
    assert_int_equal(signer_sign_crl(req->signer, &order, &der, &from, &until, &why), CODE_INVALID_ARGUMENT);
}

static void a_full_list_fits_a_message(void **state)
{
    (void)state;
    AUTO_DER struct der der = {0};
    int64_t from, until;
    struct crl_entry *entries = calloc(CRL_ENTRIES_MAX, sizeof(*entries));
    for (size_t i = 0; i < CRL_ENTRIES_MAX; i++) {
        entries[i] =
            (struct crl_entry){.serial_len = 20, .revoked_at_ms = clock_wall_ms(), .reason = CRL_CESSATION};
        entries[i].serial[0] = 0x40;
        entries[i].serial[18] = (uint8_t)(i >> 8);
        entries[i].serial[19] = (uint8_t)i;
    }
    struct signer_crl order = {
        .ca = CA_AGENTS, .number = 1, .life_sec = LIFE_SEC, .entries = entries, .n = CRL_ENTRIES_MAX};
    assert_ok(signer_sign_crl(req->signer, &order, &der, &from, &until, &why));
    free(entries);
    assert_true(der.len < 500 * 1024); /* GetCrlResponse.crl */
    struct crl_row row = {.der = der_bytes(&der)};
    X509_CRL *crl = parse(&row);
    assert_int_equal(sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)), CRL_ENTRIES_MAX);
    X509_CRL_free(crl);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_issuing_ca_has_a_list_that_its_own_key_signed),
        TEST(a_revoked_agents_certificates_are_on_the_next_list_and_no_others),
        TEST(what_is_issued_after_a_revocation_is_not_revoked_by_it),
        TEST(a_list_is_renewed_at_half_of_its_life),
        TEST(a_certificate_that_ended_leaves_the_list),
        TEST(a_list_that_cannot_be_renewed_is_told_once_and_stops_nobody),
        TEST(the_signer_bounds_what_it_signs),
        TEST(a_full_list_fits_a_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
