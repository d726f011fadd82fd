/* What the CAs sign and what they never sign, whatever is asked: the table of profiles, in this process. */
#include "cmocka_all.h"

#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/clock.h"
#include "ca.h"
#include "services/bootstrap/fixture.h"

#define AGENT_ID  "019abcde-0000-7000-8000-000000000001"
#define TASKS_URI "spiffe://" TRUST_DOMAIN "/service/tasks"

static struct ca_set ca;
static struct key *key;

static int setup(void **state)
{
    (void)state;
    assert_ok(ca_load(fixture_ca_dir(), &ca, &why));
    assert_ok(key_generate(KEY_EC_P256, &key, &why));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ca_set_done(&ca);
    key_free(key);
    return 0;
}

/* A request that its profile allows. */
struct good {
    enum profile profile;
    const char *subject, *dns, *uri;
    enum pki_purpose purpose;
};
static const struct good good[] = {
    {PROFILE_AGENT_IDENTITY, AGENT_ID, NULL, NULL, PURPOSE_AGENT_IDENTITY},
    {PROFILE_AGENT_TASK, AGENT_ID, NULL, NULL, PURPOSE_AGENT_TASK},
    {PROFILE_SERVICE, "tasks", NULL, TASKS_URI, PURPOSE_SERVICE},
    {PROFILE_ENVELOPE, "tasks", NULL, TASKS_URI, PURPOSE_ENVELOPE},
    {PROFILE_MANAGED_SERVER, "", "www.test.example", NULL, PURPOSE_TLS_SERVER},
    {PROFILE_GATEWAY_TLS, "gateway", "gw.test.example", "spiffe://" TRUST_DOMAIN "/service/gateway",
     PURPOSE_TLS_SERVER},
    {PROFILE_BUS_TLS, "", "nats.test.example", NULL, PURPOSE_TLS_SERVER},
};
_Static_assert(ARRAY_LEN(good) == PROFILE_END - 1, "a good request for each profile");

static enum code issue(enum profile profile, const char *subject, const struct key *with, const char *dns,
                       const char *uri, int64_t life_sec, struct der *ret)
{
    AUTO_DER struct der csr = {0};
    fixture_csr(with, dns, NULL, uri, &csr);
    const struct profile_request request = {.profile = profile,
                                            .csr = der_bytes(&csr),
                                            .subject = subject,
                                            .generation = 7,
                                            .life_sec = life_sec};

    return profile_issue(&ca, &request, ret, &why);
}

static enum code issue_good(const struct good *row, int64_t life_sec, struct der *ret)
{
    return issue(row->profile, row->subject, key, row->dns, row->uri, life_sec, ret);
}

static void each_certificate_serves_its_own_purpose_and_no_other(void **state)
{
    (void)state;
    AUTO_DER_LIST struct der_list roots = {0};
    assert_ok(der_list_add(&roots, der_bytes(&ca.root), &why));
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        AUTO_DER struct der cert = {0};
        AUTO_DER_LIST struct der_list intermediates = {0};
        if (issue_good(&good[i], 3600, &cert) != CODE_OK)
            fail_msg("%s: %s", profile_info(good[i].profile)->name, why.msg);
        assert_ok(der_list_add(&intermediates, der_bytes(&ca.certificate[profile_info(good[i].profile)->ca]),
                               &why));
        for (int purpose = PURPOSE_TLS_SERVER; purpose <= PURPOSE_ENVELOPE; purpose++) {
            /* Services answer TLS handshakes with the same certificate. */
            bool right = purpose == (int)good[i].purpose ||
                         (good[i].purpose == PURPOSE_SERVICE && purpose == PURPOSE_TLS_SERVER);
            enum code code = chain_verify(der_bytes(&cert), &intermediates, &roots, (enum pki_purpose)purpose,
                                          clock_wall_ms(), &why);
            if ((code == CODE_OK) != right)
                fail_msg("%s as purpose %d: %s", profile_info(good[i].profile)->name, purpose,
                         code_name(code));
        }
    }
}

static void an_agents_certificate_names_its_agent_and_generation_alone(void **state)
{
    (void)state;
    for (int profile = PROFILE_AGENT_IDENTITY; profile <= PROFILE_AGENT_TASK; profile++) {
        AUTO_DER struct der cert = {0};
        AUTO_CERT_INFO struct cert_info info = {0};
        struct spiffe_id id;
        /* What the CSR says of itself counts for nothing. */
        assert_int_equal(issue((enum profile)profile, AGENT_ID, key, "evil.example", TASKS_URI, 3600, &cert),
                         CODE_OK);
        assert_ok(cert_spiffe(der_bytes(&cert), &id, &why));
        assert_string_equal(id.kind, "agent");
        assert_string_equal(id.name, AGENT_ID);
        assert_string_equal(id.trust_domain, TRUST_DOMAIN);
        assert_ok(cert_read(der_bytes(&cert), &info, &why));
        assert_string_equal(info.subject_serial, "7");
        assert_int_equal(info.names.n_dns, 0);
        assert_int_equal(info.names.n_uri, 1);
        assert_false(info.is_ca);
    }
}

static void an_agents_subject_must_be_an_id(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "host", "tasks", AGENT_ID "0",
                                        "019ABCDE-0000-7000-8000-000000000001"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        AUTO_DER struct der cert = {0};
        assert_int_equal(issue(PROFILE_AGENT_TASK, wrong[i], key, NULL, NULL, 3600, &cert),
                         CODE_PERMISSION_DENIED);
        assert_null(cert.data);
    }
}

static void no_profile_lets_a_certificate_live_longer_than_its_row_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        AUTO_DER struct der cert = {0};
        AUTO_CERT_INFO struct cert_info info = {0};
        int64_t max = profile_info(good[i].profile)->max_life_sec;
        assert_int_equal(issue_good(&good[i], max + 1, &cert), CODE_PERMISSION_DENIED);
        assert_int_equal(issue_good(&good[i], 0, &cert), CODE_PERMISSION_DENIED);
        assert_int_equal(issue_good(&good[i], -1, &cert), CODE_PERMISSION_DENIED);
        assert_null(cert.data);
        assert_int_equal(issue_good(&good[i], max, &cert), CODE_OK);
        assert_ok(cert_read(der_bytes(&cert), &info, &why));
        assert_in_range(info.not_after_ms, clock_wall_ms() + (max - 60) * 1000, clock_wall_ms() + max * 1000);
    }
    assert_int_equal(profile_info(PROFILE_ENVELOPE)->max_life_sec, 24 * 3600);
    assert_int_equal(profile_info(PROFILE_AGENT_IDENTITY)->max_life_sec, 30 * 24 * 3600);
}

static void platform_keys_must_be_p256(void **state)
{
    (void)state;
    AUTO_KEY struct key *p384 = NULL;
    assert_ok(key_generate(KEY_EC_P384, &p384, &why));
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        AUTO_DER struct der cert = {0};
        enum code code = issue(good[i].profile, good[i].subject, p384, good[i].dns, good[i].uri, 3600, &cert);
        assert_int_equal(code, good[i].profile == PROFILE_MANAGED_SERVER ? CODE_OK : CODE_PERMISSION_DENIED);
    }
}

static void a_service_gets_exactly_its_own_name(void **state)
{
    (void)state;
    AUTO_DER struct der cert = {0};
    static const struct {
        const char *subject, *dns, *uri;
    } wrong[] = {
        {"tasks", NULL, "spiffe://" TRUST_DOMAIN "/service/registry"},
        {"tasks", NULL, "spiffe://other.example/service/tasks"},
        {"tasks", NULL, "spiffe://" TRUST_DOMAIN "/agent/tasks"},
        {"tasks", NULL, NULL},
        {"tasks", "tasks.test.example", TASKS_URI},
        {"intruder", NULL, "spiffe://" TRUST_DOMAIN "/service/intruder"},
        {"", NULL, TASKS_URI},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_int_equal(
            issue(PROFILE_SERVICE, wrong[i].subject, key, wrong[i].dns, wrong[i].uri, 3600, &cert),
            CODE_PERMISSION_DENIED);
    assert_null(cert.data);
}

static enum code issue_gateway(const char *subject, const char *dns, const char *ip)
{
    AUTO_DER struct der csr = {0}, cert = {0};
    fixture_csr(key, dns, ip, "spiffe://" TRUST_DOMAIN "/service/gateway", &csr);
    const struct profile_request request = {
        .profile = PROFILE_GATEWAY_TLS, .csr = der_bytes(&csr), .subject = subject, .life_sec = 3600};
    return profile_issue(&ca, &request, &cert, &why);
}

static void a_gateway_gets_the_names_of_the_ca_directory_and_no_others(void **state)
{
    (void)state;
    assert_ok(issue_gateway("gateway", "gw.test.example", NULL));
    assert_ok(issue_gateway("gateway", "gw.test.example", "192.0.2.80"));
    assert_int_equal(issue_gateway("gateway", "www.test.example", NULL), CODE_PERMISSION_DENIED);
    assert_non_null(strstr(why.msg, "gateway-names"));
    assert_int_equal(issue_gateway("gateway", "gw.test.example", "192.0.2.8"), CODE_PERMISSION_DENIED);
    assert_int_equal(issue_gateway("gateway", "gw.test", NULL), CODE_PERMISSION_DENIED);
    assert_int_equal(issue_gateway("gateway", "*.test.example", NULL), CODE_PERMISSION_DENIED);
    assert_int_equal(issue_gateway("tasks", "gw.test.example", NULL), CODE_PERMISSION_DENIED);
    assert_int_equal(issue_gateway("gateway", NULL, NULL), CODE_PERMISSION_DENIED);
}

static void only_tasks_may_sign_envelopes(void **state)
{
    (void)state;
    AUTO_DER struct der cert = {0};
    assert_int_equal(issue(PROFILE_ENVELOPE, "registry", key, NULL,
                           "spiffe://" TRUST_DOMAIN "/service/registry", 3600, &cert),
                     CODE_PERMISSION_DENIED);
    assert_null(cert.data);
}

static void a_managed_certificate_never_holds_a_uri_or_nothing(void **state)
{
    (void)state;
    AUTO_DER struct der cert = {0};
    assert_int_equal(issue(PROFILE_MANAGED_SERVER, "", key, "www.test.example", TASKS_URI, 3600, &cert),
                     CODE_PERMISSION_DENIED);
    assert_int_equal(issue(PROFILE_MANAGED_SERVER, "", key, NULL, NULL, 3600, &cert), CODE_PERMISSION_DENIED);
    assert_null(cert.data);
}

static void an_unknown_profile_is_refused(void **state)
{
    (void)state;
    AUTO_DER struct der cert = {0};
    static const int wrong[] = {0, PROFILE_END, 99, -1};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_int_equal(issue((enum profile)wrong[i], "tasks", key, NULL, TASKS_URI, 3600, &cert),
                         CODE_INVALID_ARGUMENT);
    assert_null(cert.data);
}

/* A CSR that asks for CA:TRUE, keyCertSign and serverAuth. */
static void make_greedy_csr(struct der *ret)
{
    X509_REQ *req = X509_REQ_new();
    STACK_OF(X509_EXTENSION) *extensions = sk_X509_EXTENSION_new_null();
    static const struct {
        int nid;
        const char *value;
    } wishes[] = {{NID_basic_constraints, "critical,CA:TRUE"},
                  {NID_key_usage, "critical,keyCertSign,cRLSign"},
                  {NID_ext_key_usage, "serverAuth,clientAuth,codeSigning"}};
    for (size_t i = 0; i < ARRAY_LEN(wishes); i++)
        sk_X509_EXTENSION_push(extensions, X509V3_EXT_conf_nid(NULL, NULL, wishes[i].nid, wishes[i].value));
    assert_int_equal(X509_REQ_add_extensions(req, extensions), 1);
    assert_int_equal(X509_REQ_set_pubkey(req, key_evp(key)), 1);
    assert_true(X509_REQ_sign(req, key_evp(key), EVP_sha256()) > 0);
    unsigned char *der = NULL;
    int len = i2d_X509_REQ(req, &der);
    assert_true(len > 0);
    *ret = der_dup((struct bytes){der, (size_t)len});
    OPENSSL_free(der);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    X509_REQ_free(req);
}

static void a_csr_that_asks_to_be_a_ca_gets_an_ordinary_certificate(void **state)
{
    (void)state;
    AUTO_DER struct der csr = {0}, cert = {0};
    AUTO_CERT_INFO struct cert_info info = {0};
    make_greedy_csr(&csr);
    const struct profile_request request = {
        .profile = PROFILE_AGENT_TASK, .csr = der_bytes(&csr), .subject = AGENT_ID, .life_sec = 3600};
    assert_ok(profile_issue(&ca, &request, &cert, &why));
    assert_ok(cert_read(der_bytes(&cert), &info, &why));
    assert_false(info.is_ca);
    assert_false(info.server_auth);
}

static void a_csr_whose_signature_does_not_verify_is_refused(void **state)
{
    (void)state;
    AUTO_DER struct der csr = {0}, cert = {0};
    fixture_csr(key, NULL, NULL, NULL, &csr);
    csr.data[csr.len - 1] ^= 1;
    const struct profile_request request = {
        .profile = PROFILE_AGENT_TASK, .csr = der_bytes(&csr), .subject = AGENT_ID, .life_sec = 3600};
    assert_int_equal(profile_issue(&ca, &request, &cert, &why), CODE_INVALID_ARGUMENT);
    assert_null(cert.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_certificate_serves_its_own_purpose_and_no_other),
        cmocka_unit_test(an_agents_certificate_names_its_agent_and_generation_alone),
        cmocka_unit_test(an_agents_subject_must_be_an_id),
        cmocka_unit_test(no_profile_lets_a_certificate_live_longer_than_its_row_says),
        cmocka_unit_test(platform_keys_must_be_p256),
        cmocka_unit_test(a_service_gets_exactly_its_own_name),
        cmocka_unit_test(a_gateway_gets_the_names_of_the_ca_directory_and_no_others),
        cmocka_unit_test(only_tasks_may_sign_envelopes),
        cmocka_unit_test(a_managed_certificate_never_holds_a_uri_or_nothing),
        cmocka_unit_test(an_unknown_profile_is_refused),
        cmocka_unit_test(a_csr_that_asks_to_be_a_ca_gets_an_ordinary_certificate),
        cmocka_unit_test(a_csr_whose_signature_does_not_verify_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
