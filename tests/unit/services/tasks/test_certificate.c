/* The envelope certificate, with a bootstrap that is made here. */
#include "fixture.h"

#include "app.h"
#include "proto/bootstrap.pb-c.h"

static struct app app_here;
static struct worker worker;
static struct issuer *issuer;
static struct der issuer_cert;
static enum code failure;
static unsigned calls;
static bool foreign_key, foreign_ca;
static enum pki_purpose purpose;

struct app *app_of(const struct worker *ignored)
{
    (void)ignored;
    return &app_here;
}

const struct der_list *service_roots(const struct service *service)
{
    (void)service;
    static struct der_list trusted;
    trusted.n = 1;
    trusted.item[0] = foreign_ca ? roots.item[0] : issuer_cert;
    return &trusted;
}

const char *service_trust_domain(const struct service *service)
{
    (void)service;
    return "test.example";
}

enum code service_certificate(struct service *service, int profile, struct bytes asked, struct der_list *ret,
                              struct status *why)
{
    (void)service;
    calls++;
    if (failure != CODE_OK)
        return status_set(why, failure, "nobody serves it");
    assert_int_equal(profile, CLM__ISSUE_SERVICE_CERTIFICATE_REQUEST__PROFILE__ENVELOPE);
    AUTO_CSR_INFO struct csr_info csr = {0};
    assert_ok(csr_verify(asked, &csr, &st));
    assert_int_equal(csr.names.n_uri, 1);
    assert_string_equal(csr.names.uri[0], "spiffe://test.example/service/tasks");
    AUTO_KEY struct key *other = NULL;
    AUTO_DER struct der other_spki = {0};
    assert_ok(key_generate(KEY_EC_P256, &other, &st));
    assert_ok(key_spki(other, &other_spki, &st));
    struct cert_request request = {.spki = der_bytes(foreign_key ? &other_spki : &csr.spki),
                                   .names = &csr.names,
                                   .purpose = purpose,
                                   .path_len = -1,
                                   .not_before_ms = clock_wall_ms() - 300000,
                                   .not_after_ms = clock_wall_ms() + 86400000};
    AUTO_DER struct der leaf = {0};
    assert_ok(issuer_sign(issuer, &request, &leaf, &st));
    return der_list_add(ret, der_bytes(&leaf), why);
}

static int setup(void **state)
{
    (void)fixture_setup(state);
    app_here = (struct app){.tasks = {.signer = envelope_signer_new()}};
    failure = CODE_OK;
    calls = 0;
    foreign_key = foreign_ca = false;
    purpose = PURPOSE_ENVELOPE;
    AUTO_KEY struct key *key = NULL;
    static const struct pki_names none;
    struct cert_request request = {.common_name = "root",
                                   .names = &none,
                                   .is_ca = true,
                                   .path_len = -1,
                                   .not_before_ms = FIXTURE_NOW - 86400000,
                                   .not_after_ms = FIXTURE_NOW + INT64_C(365) * 86400000};
    assert_ok(key_generate(KEY_EC_P256, &key, &st));
    assert_ok(issuer_self_sign(key, &request, &issuer_cert, &st));
    assert_ok(issuer_new(TAKE(key), der_bytes(&issuer_cert), &issuer, &st));
    return 0;
}

static int teardown(void **state)
{
    envelope_signer_free(app_here.tasks.signer);
    issuer_free(issuer);
    der_done(&issuer_cert);
    return fixture_teardown(state);
}

static bool is_ready(void)
{
    return envelope_signer_ready(app_here.tasks.signer, clock_wall_ms());
}

static void certificate_comes_from_bootstrap_and_is_renewed_at_half_its_life(void **state)
{
    (void)state;
    failure = CODE_UNAVAILABLE;
    assert_int_equal(certificate_renew_when_due(&worker, &st), CODE_UNAVAILABLE);
    assert_false(is_ready());
    failure = CODE_OK;
    assert_ok(certificate_renew_when_due(&worker, &st));
    assert_true(is_ready());
    assert_ok(certificate_renew_when_due(&worker, &st));
    assert_int_equal(calls, 2);
    clock_advance(43200000);
    failure = CODE_UNAVAILABLE; /* not now: the present one still serves */
    assert_int_equal(certificate_renew_when_due(&worker, &st), CODE_UNAVAILABLE);
    assert_true(is_ready());
    failure = CODE_OK;
    assert_ok(certificate_renew_when_due(&worker, &st));
    assert_false(envelope_signer_is_due(app_here.tasks.signer, clock_wall_ms() + 40000000));
}

static void certificate_that_is_not_what_was_asked_for_is_not_used(void **state)
{
    (void)state;
    foreign_key = true;
    assert_int_not_equal(certificate_renew_when_due(&worker, &st), CODE_OK);
    foreign_key = false;
    foreign_ca = true;
    assert_int_not_equal(certificate_renew_when_due(&worker, &st), CODE_OK);
    foreign_ca = false;
    purpose = PURPOSE_AGENT_TASK;
    assert_int_not_equal(certificate_renew_when_due(&worker, &st), CODE_OK);
    assert_false(is_ready());
    purpose = PURPOSE_ENVELOPE;
    assert_ok(certificate_renew_when_due(&worker, &st));
    assert_true(is_ready());
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(certificate_comes_from_bootstrap_and_is_renewed_at_half_its_life),
        T(certificate_that_is_not_what_was_asked_for_is_not_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
