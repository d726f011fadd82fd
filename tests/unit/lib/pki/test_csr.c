/* CSRs: what is made verifies; what is not exactly a CSR does not. */
#include "fixture.h"

#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

static char uri[] = "spiffe://test.example/agent/7";
static char dns[] = "www.example.com";
static char wildcard[] = "*.example.com";
static char ip4[] = "192.0.2.7";
static char ip6[] = "2001:db8::7";
static const struct pki_names names = {
    .uri = {uri}, .n_uri = 1, .dns = {dns, wildcard}, .n_dns = 2, .ip = {ip4, ip6}, .n_ip = 2};

static void make(struct key **key, struct der *csr)
{
    struct status st;
    assert_ok(key_generate(KEY_EC_P256, key, &st), &st);
    assert_ok(csr_make(*key, "agent 7", &names, csr, &st), &st);
}

static void names_and_key_come_out_as_they_went_in(void **state UNUSED)
{
    struct status st;
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der csr = {0};
    AUTO_DER struct der spki = {0};
    AUTO_CSR_INFO struct csr_info info = {0};
    make(&key, &csr);
    assert_ok(csr_verify(der_bytes(&csr), &info, &st), &st);
    assert_string_equal(info.common_name, "agent 7");
    assert_int_equal(info.names.n_uri, 1);
    assert_string_equal(info.names.uri[0], uri);
    assert_int_equal(info.names.n_dns, 2);
    assert_string_equal(info.names.dns[0], dns);
    assert_string_equal(info.names.dns[1], wildcard);
    assert_int_equal(info.names.n_ip, 2);
    assert_string_equal(info.names.ip[0], ip4);
    assert_string_equal(info.names.ip[1], ip6);
    assert_int_equal(info.key_type, KEY_EC_P256);
    assert_ok(key_spki(key, &spki, &st), &st);
    assert_int_equal(spki.len, info.spki.len);
    assert_memory_equal(spki.data, info.spki.data, spki.len);
}

static void csr_without_any_name_is_read(void **state UNUSED)
{
    struct status st;
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der csr = {0};
    AUTO_CSR_INFO struct csr_info info = {0};
    assert_ok(key_generate(KEY_ED25519, &key, &st), &st);
    assert_ok(csr_make(key, NULL, NULL, &csr, &st), &st);
    assert_ok(csr_verify(der_bytes(&csr), &info, &st), &st);
    assert_string_equal(info.common_name, "");
    assert_int_equal(info.names.n_uri + info.names.n_dns + info.names.n_ip, 0);
}

static void every_flipped_byte_is_noticed(void **state UNUSED)
{
    struct status st;
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der csr = {0};
    make(&key, &csr);
    for (size_t i = 0; i < csr.len; i++) {
        AUTO_CSR_INFO struct csr_info info = {0};
        csr.data[i] ^= 0x01;
        assert_code(CODE_INVALID_ARGUMENT, csr_verify(der_bytes(&csr), &info, &st), &st);
        assert_null(info.spki.data);
        assert_int_equal(info.names.n_dns, 0);
        csr.data[i] ^= 0x01;
    }
}

static void cut_off_or_longer_is_refused(void **state UNUSED)
{
    struct status st;
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der csr = {0};
    AUTO_CSR_INFO struct csr_info info = {0};
    make(&key, &csr);
    for (size_t len = 0; len < csr.len; len++)
        assert_code(CODE_INVALID_ARGUMENT, csr_verify((struct bytes){csr.data, len}, &info, &st), &st);
    AUTO_FREE uint8_t *longer = calloc(1, csr.len + 1);
    assert_non_null(longer);
    memcpy(longer, csr.data, csr.len);
    assert_code(CODE_INVALID_ARGUMENT, csr_verify((struct bytes){longer, csr.len + 1}, &info, &st), &st);
    assert_says(&st, "stray bytes");
    AUTO_FREE uint8_t *huge = calloc(1, 16 * 1024 + 1);
    assert_non_null(huge);
    assert_code(CODE_INVALID_ARGUMENT, csr_verify((struct bytes){huge, 16 * 1024 + 1}, &info, &st), &st);
}

/* A CSR as other software might make it: any key, any SAN text in OpenSSL's notation, any digest. */
static void foreign(EVP_PKEY *pkey, const char *san, const EVP_MD *md, struct der *ret)
{
    X509_REQ *req = X509_REQ_new();
    uint8_t *der = NULL;
    assert_int_equal(X509_REQ_set_pubkey(req, pkey), 1);
    if (san) {
        STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
        X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san);
        assert_non_null(extension);
        sk_X509_EXTENSION_push(list, extension);
        assert_int_equal(X509_REQ_add_extensions(req, list), 1);
        sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    }
    assert_true(X509_REQ_sign(req, pkey, md) > 0);
    int len = i2d_X509_REQ(req, &der);
    assert_true(len > 0);
    *ret = der_dup((struct bytes){der, (size_t)len});
    OPENSSL_free(der);
    X509_REQ_free(req);
    EVP_PKEY_free(pkey);
}

static void assert_foreign(EVP_PKEY *pkey, const char *san, const EVP_MD *md, enum code code,
                           const char *says)
{
    struct status st = {0};
    AUTO_DER struct der csr = {0};
    AUTO_CSR_INFO struct csr_info info = {0};
    foreign(pkey, san, md, &csr);
    assert_code(code, csr_verify(der_bytes(&csr), &info, &st), &st);
    if (says)
        assert_says(&st, says);
}

static void weak_and_unknown_keys_are_refused(void **state UNUSED)
{
    const EVP_MD *md = EVP_sha256();
    assert_foreign(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024), NULL, md, CODE_INVALID_ARGUMENT,
                   "RSA 1024");
    assert_foreign(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048), NULL, md, CODE_OK, NULL);
    assert_foreign(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "secp256k1"), NULL, md, CODE_INVALID_ARGUMENT,
                   "secp256k1");
    assert_foreign(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-521"), NULL, md, CODE_INVALID_ARGUMENT, "P-521");
    assert_foreign(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384"), NULL, md, CODE_OK, NULL);
}

static void sha1_signature_is_refused(void **state UNUSED)
{
    assert_foreign(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"), NULL, EVP_sha1(), CODE_INVALID_ARGUMENT,
                   "digest");
}

static void names_that_are_no_names_are_refused(void **state UNUSED)
{
    static const struct {
        const char *san;
        enum code code;
    } cases[] = {
        {"DNS:host.example", CODE_OK},
        {"DNS:HOST.Example", CODE_OK}, /* lower-cased */
        {"DNS:localhost", CODE_OK},
        {"DNS:a b", CODE_INVALID_ARGUMENT},
        {"DNS:-x.example", CODE_INVALID_ARGUMENT},
        {"DNS:x-.example", CODE_INVALID_ARGUMENT},
        {"DNS:x..example", CODE_INVALID_ARGUMENT},
        {"DNS:.example", CODE_INVALID_ARGUMENT},
        {"DNS:example.", CODE_INVALID_ARGUMENT},
        {"DNS:a_b.example", CODE_INVALID_ARGUMENT},
        {"DNS:x.*.example", CODE_INVALID_ARGUMENT},
        {"DNS:w*.example", CODE_INVALID_ARGUMENT},
        {"DNS:*", CODE_INVALID_ARGUMENT},
        {"DNS:*.example", CODE_OK},
        {"DNS:10.0.0.1", CODE_INVALID_ARGUMENT},
        {"DNS:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example",
         CODE_INVALID_ARGUMENT},
        {"URI:spiffe://x/agent/1", CODE_OK},
        {"URI:nocolon", CODE_INVALID_ARGUMENT},
        {"URI:spiffe://x/<y>", CODE_INVALID_ARGUMENT},
        {"email:a@example.com", CODE_INVALID_ARGUMENT},
        {"RID:1.2.3.4", CODE_INVALID_ARGUMENT},
        {"URI:a:1,URI:a:2,URI:a:3,URI:a:4,URI:a:5", CODE_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct status st = {0};
        AUTO_DER struct der csr = {0};
        AUTO_CSR_INFO struct csr_info info = {0};
        foreign(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"), cases[i].san, EVP_sha256(), &csr);
        enum code code = csr_verify(der_bytes(&csr), &info, &st);
        if (code != cases[i].code)
            fail_msg("%s: %s %s", cases[i].san, code_name(code), st.msg);
    }
}

static void names_come_out_in_lower_case(void **state UNUSED)
{
    struct status st;
    AUTO_DER struct der csr = {0};
    AUTO_CSR_INFO struct csr_info info = {0};
    foreign(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"), "DNS:HOST.Example", EVP_sha256(), &csr);
    assert_ok(csr_verify(der_bytes(&csr), &info, &st), &st);
    assert_string_equal(info.names.dns[0], "host.example");
}

static void no_csr_is_made_for_a_bad_name(void **state UNUSED)
{
    struct status st;
    char bad[] = "Not A Name";
    const struct pki_names one = {.dns = {bad}, .n_dns = 1};
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der csr = {0};
    assert_ok(key_generate(KEY_EC_P256, &key, &st), &st);
    assert_code(CODE_INVALID_ARGUMENT, csr_make(key, NULL, &one, &csr, &st), &st);
    assert_null(csr.data);
}

static void the_key_alone_is_the_same_that_verification_finds(void **state UNUSED)
{
    struct status st;
    AUTO_KEY struct key *key = NULL, *other = NULL;
    AUTO_DER struct der csr = {0}, other_csr = {0};
    AUTO_CSR_INFO struct csr_info info = {0};
    struct bytes spki;
    make(&key, &csr);
    assert_ok(csr_verify(der_bytes(&csr), &info, &st), &st);
    assert_ok(csr_p256_spki(der_bytes(&csr), &spki, &st), &st);
    assert_int_equal(spki.len, info.spki.len);
    assert_memory_equal(spki.data, info.spki.data, spki.len);
    assert_ok(key_generate(KEY_EC_P384, &other, &st), &st);
    assert_ok(csr_make(other, "x", NULL, &other_csr, &st), &st);
    assert_code(CODE_INVALID_ARGUMENT, csr_p256_spki(der_bytes(&other_csr), &spki, &st), &st);
    for (size_t len = 0; len < csr.len; len += 7)
        assert_code(CODE_INVALID_ARGUMENT, csr_p256_spki((struct bytes){csr.data, len}, &spki, &st), &st);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_key_come_out_as_they_went_in),
        cmocka_unit_test(csr_without_any_name_is_read),
        cmocka_unit_test(every_flipped_byte_is_noticed),
        cmocka_unit_test(cut_off_or_longer_is_refused),
        cmocka_unit_test(weak_and_unknown_keys_are_refused),
        cmocka_unit_test(sha1_signature_is_refused),
        cmocka_unit_test(names_that_are_no_names_are_refused),
        cmocka_unit_test(names_come_out_in_lower_case),
        cmocka_unit_test(no_csr_is_made_for_a_bad_name),
        cmocka_unit_test(the_key_alone_is_the_same_that_verification_finds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
