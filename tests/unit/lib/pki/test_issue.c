/* Issuing: what stands in a certificate, and what is not issued. */
#include "fixture.h"

#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "pki/digest.h"

#define NOW ((int64_t)1795478400000)

static int setup(void **state)
{
    struct pki *pki = calloc(1, sizeof(*pki));
    assert_non_null(pki);
    pki_init(pki, NOW);
    *state = pki;
    return 0;
}

static int teardown(void **state)
{
    pki_done(*state);
    free(*state);
    return 0;
}

static X509 *parse(const struct der *der)
{
    const uint8_t *at = der->data;
    X509 *cert = d2i_X509(NULL, &at, (long)der->len);
    assert_non_null(cert);
    return cert;
}

static bool critical(X509 *cert, int nid)
{
    int at = X509_get_ext_by_NID(cert, nid, -1);
    assert_true(at >= 0);
    return X509_EXTENSION_get_critical(X509_get_ext(cert, at)) == 1;
}

/* The EKU OIDs as one string, for comparing. */
static void eku_text(X509 *cert, char *out, size_t size)
{
    EXTENDED_KEY_USAGE *eku = X509_get_ext_d2i(cert, NID_ext_key_usage, NULL, NULL);
    out[0] = '\0';
    for (int i = 0; i < sk_ASN1_OBJECT_num(eku); i++) {
        char oid[64];
        (void)OBJ_obj2txt(oid, sizeof(oid), sk_ASN1_OBJECT_value(eku, i), 1);
        size_t used = strlen(out);
        (void)snprintf(out + used, size - used, "%s%s", i ? " " : "", oid);
    }
    EXTENDED_KEY_USAGE_free(eku);
}

#define CLIENT "1.3.6.1.5.5.7.3.2"
#define SERVER "1.3.6.1.5.5.7.3.1"
#define OWN    "1.3.6.1.4.1.55555.1."

static void usages_are_those_of_the_purpose(void **state)
{
    struct pki *pki = *state;
    const struct {
        struct ca *ca;
        enum pki_purpose purpose;
        uint32_t key_usage;
        const char *eku;
    } cases[] = {
        {&pki->agents, PURPOSE_AGENT_IDENTITY, KU_DIGITAL_SIGNATURE, CLIENT " " OWN "1"},
        {&pki->agents, PURPOSE_AGENT_TASK, KU_DIGITAL_SIGNATURE | KU_KEY_AGREEMENT, OWN "2"},
        {&pki->services, PURPOSE_SERVICE, KU_DIGITAL_SIGNATURE, CLIENT " " SERVER " " OWN "3"},
        {&pki->envelopes, PURPOSE_ENVELOPE, KU_DIGITAL_SIGNATURE, OWN "4"},
        {&pki->managed, PURPOSE_TLS_SERVER, KU_DIGITAL_SIGNATURE, SERVER},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char eku[200];
        struct entity entity;
        entity_init(&entity, cases[i].ca, cases[i].purpose, "service", "x", NOW);
        X509 *cert = parse(&entity.cert);
        eku_text(cert, eku, sizeof(eku));
        assert_string_equal(eku, cases[i].eku);
        assert_int_equal(X509_get_key_usage(cert), cases[i].key_usage);
        assert_true(critical(cert, NID_key_usage));
        assert_true(critical(cert, NID_basic_constraints));
        assert_false(critical(cert, NID_ext_key_usage));
        assert_false(critical(cert, NID_subject_alt_name));
        assert_int_equal(X509_check_ca(cert), 0);
        X509_free(cert);
        entity_done(&entity);
    }
}

static void ca_certificates_can_sign_and_name_what_they_issue(void **state)
{
    struct pki *pki = *state;
    const struct {
        struct ca *ca;
        const char *eku;
        long path_len;
    } cases[] = {
        {&pki->root, "", 1},
        {&pki->agents, CLIENT " " OWN "1 " OWN "2", 0},
        {&pki->services, CLIENT " " SERVER " " OWN "3", 0},
        {&pki->envelopes, OWN "4", 0},
        {&pki->managed, SERVER, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char eku[200];
        X509 *cert = parse(&cases[i].ca->cert);
        eku_text(cert, eku, sizeof(eku));
        assert_string_equal(eku, cases[i].eku);
        assert_int_equal(X509_get_key_usage(cert), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
        assert_int_equal(X509_check_ca(cert), 1);
        assert_int_equal(X509_get_pathlen(cert), cases[i].path_len);
        X509_free(cert);
    }
}

static enum code issue(struct issuer *issuer, struct cert_request *req, struct der *ret, struct status *st)
{
    struct status made;
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der spki = {0};
    assert_ok(key_generate(KEY_EC_P256, &key, &made), &made);
    assert_ok(key_spki(key, &spki, &made), &made);
    if (!req->spki.data)
        req->spki = der_bytes(&spki);
    enum code code = issuer_sign(issuer, req, ret, st);
    req->spki = (struct bytes){0};
    return code;
}

static void san_is_critical_without_subject(void **state)
{
    struct pki *pki = *state;
    struct status st;
    char dns[] = "x.example";
    const struct pki_names names = {.dns = {dns}, .n_dns = 1};
    struct cert_request req = {
        .names = &names, .purpose = PURPOSE_TLS_SERVER, .not_before_ms = NOW, .not_after_ms = NOW + DAY_MS};
    AUTO_DER struct der der = {0};
    assert_ok(issue(pki->managed.issuer, &req, &der, &st), &st);
    X509 *cert = parse(&der);
    assert_true(critical(cert, NID_subject_alt_name));
    X509_free(cert);
    assert_ok(chain_verify(der_bytes(&der), &pki->managed.chain, &pki->roots, PURPOSE_TLS_SERVER, NOW, &st),
              &st);
}

static void serials_are_positive_long_and_different(void **state)
{
    struct pki *pki = *state;
    char seen[200][65];
    uint64_t ones[40] = {0}, zeros[40] = {0}; /* of each hex digit: the bits that were ever 1, ever 0 */
    for (size_t i = 0; i < ARRAY_LEN(seen); i++) {
        struct status st;
        struct cert_request req = {.common_name = "x",
                                   .purpose = PURPOSE_TLS_SERVER,
                                   .not_before_ms = NOW,
                                   .not_after_ms = NOW + DAY_MS};
        AUTO_DER struct der der = {0};
        AUTO_CERT_INFO struct cert_info info = {0};
        assert_ok(issue(pki->managed.issuer, &req, &der, &st), &st);
        assert_ok(cert_read(der_bytes(&der), &info, &st), &st);
        assert_int_equal(strlen(info.serial), 40);
        assert_true(info.serial[0] >= '4' && info.serial[0] <= '7');
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(info.serial, seen[k]);
        memcpy(seen[i], info.serial, sizeof(seen[i]));
        for (size_t digit = 0; digit < 40; digit++) {
            const char text[2] = {info.serial[digit], 0};
            uint64_t value = strtoul(text, NULL, 16);
            ones[digit] |= value;
            zeros[digit] |= ~value & 0xf;
        }
    }
    /* Every bit but the two that make it positive and long is the random generator's: one that never changes
     * in 200 would be a wonder. */
    for (size_t digit = 1; digit < 40; digit++)
        assert_true(ones[digit] == 0xf && zeros[digit] == 0xf);
    assert_true(ones[0] == 0x7 && zeros[0] == 0xb);
}

static void life_is_cut_to_the_issuers(void **state)
{
    struct pki *pki = *state;
    struct status st;
    struct cert_request req = {.common_name = "x",
                               .purpose = PURPOSE_TLS_SERVER,
                               .not_before_ms = NOW,
                               .not_after_ms = NOW + 10 * 365 * DAY_MS};
    AUTO_DER struct der der = {0};
    AUTO_CERT_INFO struct cert_info info = {0};
    assert_ok(issue(pki->managed.issuer, &req, &der, &st), &st);
    assert_ok(cert_read(der_bytes(&der), &info, &st), &st);
    assert_int_equal(info.not_after_ms, NOW + 365 * DAY_MS);

    AUTO_DER struct der late = {0};
    req.not_before_ms = NOW + 366 * DAY_MS;
    assert_code(CODE_FAILED_PRECONDITION, issue(pki->managed.issuer, &req, &late, &st), &st);
}

static void dates_beyond_2049_are_written_as_rfc_5280_wants(void **state UNUSED)
{
    struct status st;
    int64_t far = (int64_t)2540000000000; /* 2050-06-28 */
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der der = {0};
    AUTO_CERT_INFO struct cert_info info = {0};
    assert_ok(key_generate(KEY_EC_P256, &key, &st), &st);
    const struct cert_request req = {
        .common_name = "Root", .is_ca = true, .path_len = -1, .not_before_ms = NOW, .not_after_ms = far};
    assert_ok(issuer_self_sign(key, &req, &der, &st), &st);
    assert_ok(cert_read(der_bytes(&der), &info, &st), &st);
    assert_int_equal(info.not_after_ms, far);
    X509 *cert = parse(&der);
    assert_int_equal(ASN1_STRING_type(X509_get0_notAfter(cert)), V_ASN1_GENERALIZEDTIME);
    assert_int_equal(ASN1_STRING_type(X509_get0_notBefore(cert)), V_ASN1_UTCTIME);
    X509_free(cert);
}

static void bad_requests_are_refused(void **state)
{
    struct pki *pki = *state;
    struct status st;
    AUTO_DER struct der der = {0};
    char bad[] = "no name";
    const struct pki_names bad_names = {.dns = {bad}, .n_dns = 1};
    const struct cert_request good = {.common_name = "x",
                                      .purpose = PURPOSE_TLS_SERVER,
                                      .not_before_ms = NOW,
                                      .not_after_ms = NOW + DAY_MS};

    struct cert_request req = good;
    req.common_name = NULL;
    assert_code(CODE_INVALID_ARGUMENT, issue(pki->managed.issuer, &req, &der, &st), &st);
    req = good;
    req.names = &bad_names;
    assert_code(CODE_INVALID_ARGUMENT, issue(pki->managed.issuer, &req, &der, &st), &st);
    req = good;
    req.spki = text_bytes("no key");
    assert_code(CODE_INVALID_ARGUMENT, issue(pki->managed.issuer, &req, &der, &st), &st);
    req = good;
    req.common_name = "a name that is longer than the sixty-four characters that X.520 leaves for it";
    assert_code(CODE_INVALID_ARGUMENT, issue(pki->managed.issuer, &req, &der, &st), &st);
    req = good;
    req.is_ca = true;
    assert_code(CODE_INVALID_ARGUMENT, issue(pki->managed.issuer, &req, &der, &st), &st);
    assert_says(&st, "path length");
    assert_null(der.data);
}

static void issuer_needs_a_ca_certificate_of_its_own_key(void **state)
{
    struct pki *pki = *state;
    struct status st;
    struct entity entity;
    struct issuer *issuer = NULL;
    struct key *key = NULL;
    entity_init(&entity, &pki->services, PURPOSE_SERVICE, "service", "x", NOW);
    assert_code(CODE_INVALID_ARGUMENT, issuer_new(entity.key, der_bytes(&entity.cert), &issuer, &st), &st);
    entity.key = NULL; /* taken */
    assert_says(&st, "not that of a CA");
    assert_ok(key_generate(KEY_EC_P256, &key, &st), &st);
    assert_code(CODE_INVALID_ARGUMENT, issuer_new(key, der_bytes(&pki->root.cert), &issuer, &st), &st);
    assert_says(&st, "does not belong");
    assert_null(issuer);
    entity_done(&entity);
}

/* The fast way for P-256 keys must give the same bytes as the key has. */
static void public_key_is_certified_unchanged(void **state)
{
    struct pki *pki = *state;
    static const enum key_type kinds[] = {KEY_EC_P256, KEY_EC_P384, KEY_RSA_2048, KEY_ED25519};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct status st;
        AUTO_KEY struct key *key = NULL;
        AUTO_DER struct der spki = {0};
        AUTO_DER struct der der = {0};
        AUTO_CERT_INFO struct cert_info info = {0};
        char digest[SHA256_HEX_SIZE];
        assert_ok(key_generate(kinds[i], &key, &st), &st);
        assert_ok(key_spki(key, &spki, &st), &st);
        const struct cert_request req = {.spki = der_bytes(&spki),
                                         .common_name = "x",
                                         .purpose = PURPOSE_TLS_SERVER,
                                         .not_before_ms = NOW,
                                         .not_after_ms = NOW + DAY_MS};
        assert_ok(issuer_sign(pki->managed.issuer, &req, &der, &st), &st);
        assert_ok(cert_read(der_bytes(&der), &info, &st), &st);
        sha256_hex(der_bytes(&spki), digest);
        assert_string_equal(info.spki_sha256, digest);
        assert_true(key_matches_cert(key, der_bytes(&der)));
    }
}

static void point_off_the_curve_is_refused(void **state)
{
    struct pki *pki = *state;
    struct status st;
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der spki = {0};
    AUTO_DER struct der der = {0};
    assert_ok(key_generate(KEY_EC_P256, &key, &st), &st);
    assert_ok(key_spki(key, &spki, &st), &st);
    spki.data[spki.len - 1] ^= 1;
    struct cert_request req = {.spki = der_bytes(&spki),
                               .common_name = "x",
                               .purpose = PURPOSE_TLS_SERVER,
                               .not_before_ms = NOW,
                               .not_after_ms = NOW + DAY_MS};
    assert_code(CODE_INVALID_ARGUMENT, issuer_sign(pki->managed.issuer, &req, &der, &st), &st);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usages_are_those_of_the_purpose),
        cmocka_unit_test(ca_certificates_can_sign_and_name_what_they_issue),
        cmocka_unit_test(san_is_critical_without_subject),
        cmocka_unit_test(serials_are_positive_long_and_different),
        cmocka_unit_test(life_is_cut_to_the_issuers),
        cmocka_unit_test(dates_beyond_2049_are_written_as_rfc_5280_wants),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(issuer_needs_a_ca_certificate_of_its_own_key),
        cmocka_unit_test(public_key_is_certified_unchanged),
        cmocka_unit_test(point_off_the_curve_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
