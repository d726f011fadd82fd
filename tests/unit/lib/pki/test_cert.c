/* Reading certificates: ours, and such as others make. */
#include "fixture.h"

#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "pki/digest.h"

#define NOW ((int64_t)1795478400000) /* 2026-11-24T00:00:00Z */

static char dns[] = "www.example.com";
static char wildcard[] = "*.apps.example.com";
static char ip4[] = "192.0.2.7";
static char ip6[] = "2001:db8::7";

static void server_cert(struct der *ret)
{
    struct status st;
    struct pki pki;
    const struct pki_names names = {.dns = {dns, wildcard}, .n_dns = 2, .ip = {ip4, ip6}, .n_ip = 2};
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der spki = {0};
    pki_init(&pki, NOW);
    assert_ok(key_generate(KEY_EC_P384, &key, &st), &st);
    assert_ok(key_spki(key, &spki, &st), &st);
    const struct cert_request req = {.spki = der_bytes(&spki),
                                     .common_name = "www.example.com",
                                     .names = &names,
                                     .purpose = PURPOSE_TLS_SERVER,
                                     .not_before_ms = NOW,
                                     .not_after_ms = NOW + DAY_MS};
    assert_ok(issuer_sign(pki.managed.issuer, &req, ret, &st), &st);
    pki_done(&pki);
}

static void every_field_is_read(void **state UNUSED)
{
    struct status st;
    AUTO_DER struct der cert = {0};
    AUTO_CERT_INFO struct cert_info info = {0};
    char fingerprint[SHA256_HEX_SIZE];
    server_cert(&cert);
    sha256_hex(der_bytes(&cert), fingerprint);
    assert_ok(cert_read(der_bytes(&cert), &info, &st), &st);
    assert_string_equal(info.subject, "CN=www.example.com");
    assert_string_equal(info.issuer, "CN=Test Managed");
    assert_int_equal(strlen(info.serial), 40);
    assert_int_equal(strspn(info.serial, "0123456789abcdef"), 40);
    assert_int_equal(info.not_before_ms, NOW);
    assert_int_equal(info.not_after_ms, NOW + DAY_MS);
    assert_string_equal(info.fingerprint, fingerprint);
    assert_int_equal(strlen(info.spki_sha256), 64);
    assert_string_equal(info.key_name, "EC P-384");
    assert_int_equal(info.key_type, KEY_EC_P384);
    assert_int_equal(info.key_bits, 384);
    assert_string_equal(info.signature_algorithm, "ecdsa-with-SHA256");
    assert_int_equal(info.names.n_dns, 2);
    assert_string_equal(info.names.dns[1], wildcard);
    assert_int_equal(info.names.n_ip, 2);
    assert_string_equal(info.names.ip[1], ip6);
    assert_false(info.is_ca);
    assert_false(info.self_signed);
    assert_true(info.server_auth);
}

static void roots_and_clients_are_told_apart(void **state UNUSED)
{
    struct status st;
    struct pki pki;
    struct entity identity;
    AUTO_CERT_INFO struct cert_info root = {0};
    AUTO_CERT_INFO struct cert_info client = {0};
    pki_init(&pki, NOW);
    entity_init(&identity, &pki.agents, PURPOSE_AGENT_IDENTITY, "agent", "7", NOW);
    assert_ok(cert_read(der_bytes(&pki.root.cert), &root, &st), &st);
    assert_true(root.is_ca);
    assert_true(root.self_signed);
    assert_ok(cert_read(der_bytes(&identity.cert), &client, &st), &st);
    assert_false(client.is_ca);
    assert_false(client.server_auth);
    assert_int_equal(client.names.n_uri, 1);
    entity_done(&identity);
    pki_done(&pki);
}

static void issuer_holds_the_name_that_its_certificates_give(void **state UNUSED)
{
    struct status st;
    struct pki pki;
    struct entity agent;
    AUTO_DER struct der name = {0};
    pki_init(&pki, NOW);
    entity_init(&agent, &pki.agents, PURPOSE_AGENT_IDENTITY, "agent", "a", NOW);
    assert_ok(cert_issuer_name(der_bytes(&agent.cert), &name, &st), &st);
    assert_non_null(memmem(pki.agents.cert.data, pki.agents.cert.len, name.data, name.len));
    assert_null(memmem(pki.root.cert.data, pki.root.cert.len, name.data, name.len));
    der_done(&name);
    assert_code(CODE_INVALID_ARGUMENT, cert_issuer_name((struct bytes){agent.cert.data, 20}, &name, &st),
                &st);
    entity_done(&agent);
    pki_done(&pki);
}

static void names_match_as_browsers_match_them(void **state UNUSED)
{
    static const struct {
        const char *host;
        bool match;
    } cases[] = {
        {"www.example.com", true},
        {"WWW.Example.COM", true},
        {"example.com", false},
        {"a.apps.example.com", true},
        {"a.b.apps.example.com", false},
        {"apps.example.com", false},
        {"*.apps.example.com", true},
        {"192.0.2.7", true},
        {"192.0.2.8", false},
        {"2001:db8:0::7", true},
        {"2001:db8::8", false},
        {"", false},
        {"www.example.com.evil.example", false},
    };
    AUTO_DER struct der cert = {0};
    server_cert(&cert);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (cert_matches_host(der_bytes(&cert), cases[i].host) != cases[i].match)
            fail_msg("%s", cases[i].host);
    assert_false(cert_matches_host(text_bytes("no certificate"), "www.example.com"));
}

/* The common name alone names nothing (RFC 6125 section 6.4.4). */
static void common_name_does_not_count_as_a_name(void **state UNUSED)
{
    struct status st;
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der cert = {0};
    assert_ok(key_generate(KEY_EC_P256, &key, &st), &st);
    const struct cert_request req = {.common_name = "host.example",
                                     .purpose = PURPOSE_TLS_SERVER,
                                     .path_len = -1,
                                     .not_before_ms = NOW,
                                     .not_after_ms = NOW + DAY_MS};
    assert_ok(issuer_self_sign(key, &req, &cert, &st), &st);
    assert_false(cert_matches_host(der_bytes(&cert), "host.example"));
}

/* A certificate as others make them, by OpenSSL alone. */
static void foreign(const char *san, EVP_PKEY *pkey, long serial, struct der *ret)
{
    uint8_t *der = NULL;
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(cert), serial), 1);
    assert_int_equal(
        X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const uint8_t *)"A, B \xc3\xa9\n+", -1, -1, 0),
        1);
    assert_int_equal(X509_set_issuer_name(cert, name), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(cert), 0));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(cert), 60));
    assert_int_equal(X509_set_pubkey(cert, pkey), 1);
    if (san) {
        X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san);
        assert_non_null(extension);
        assert_int_equal(X509_add_ext(cert, extension, -1), 1);
        X509_EXTENSION_free(extension);
    }
    assert_true(X509_sign(cert, pkey, EVP_sha256()) > 0);
    int len = i2d_X509(cert, &der);
    *ret = der_dup((struct bytes){der, (size_t)len});
    OPENSSL_free(der);
    X509_free(cert);
    EVP_PKEY_free(pkey);
}

static void foreign_oddities_are_read_without_harm(void **state UNUSED)
{
    struct status st;
    AUTO_DER struct der cert = {0};
    AUTO_CERT_INFO struct cert_info info = {0};
    foreign("DNS:Under_Score.example,DNS:ok.example,email:a@b.example,DNS:a "
            "b,URI:x:1,URI:x:2,URI:x:3,URI:x:4,URI:x:5",
            EVP_PKEY_Q_keygen(NULL, NULL, "EC", "secp256k1"), -5, &cert);
    assert_ok(cert_read(der_bytes(&cert), &info, &st), &st);
    /* Control characters and commas are escaped (RFC 4514), so nothing can forge a line or a field. */
    assert_string_equal(info.subject, "O=A\\, B \\C3\\A9\\0A\\+");
    assert_string_equal(info.serial, "-05");
    assert_string_equal(info.key_name, "EC secp256k1");
    assert_int_equal(info.key_type, KEY_OTHER);
    assert_int_equal(info.names.n_dns, 2);
    assert_string_equal(info.names.dns[0], "under_score.example");
    assert_int_equal(info.names.n_uri, 4);
    assert_true(info.self_signed);
    assert_true(info.server_auth);
}

static void cut_off_longer_or_huge_is_refused(void **state UNUSED)
{
    struct status st;
    AUTO_DER struct der cert = {0};
    AUTO_CERT_INFO struct cert_info info = {0};
    server_cert(&cert);
    for (size_t len = 0; len < cert.len; len++)
        assert_code(CODE_INVALID_ARGUMENT, cert_read((struct bytes){cert.data, len}, &info, &st), &st);
    AUTO_FREE uint8_t *longer = calloc(1, CERT_MAX_BYTES + 1);
    assert_non_null(longer);
    memcpy(longer, cert.data, cert.len);
    assert_code(CODE_INVALID_ARGUMENT, cert_read((struct bytes){longer, cert.len + 1}, &info, &st), &st);
    assert_says(&st, "stray bytes");
    assert_code(CODE_INVALID_ARGUMENT, cert_read((struct bytes){longer, CERT_MAX_BYTES + 1}, &info, &st),
                &st);
}

static void flipped_bytes_never_crash_the_reader(void **state UNUSED)
{
    AUTO_DER struct der cert = {0};
    server_cert(&cert);
    for (size_t i = 0; i < cert.len; i++) {
        for (unsigned bit = 1; bit < 256; bit <<= 3) {
            struct status st;
            AUTO_CERT_INFO struct cert_info info = {0};
            cert.data[i] ^= (uint8_t)bit;
            if (cert_read(der_bytes(&cert), &info, &st) != CODE_OK)
                assert_null(info.names.dns[0]);
            cert.data[i] ^= (uint8_t)bit;
        }
    }
}

static void a_brief_says_the_same_as_the_whole(void **state UNUSED)
{
    struct status st;
    AUTO_DER struct der cert = {0};
    AUTO_CERT_INFO struct cert_info info = {0};
    struct cert_brief brief;
    server_cert(&cert);
    assert_ok(cert_read(der_bytes(&cert), &info, &st), &st);
    assert_ok(cert_read_brief(der_bytes(&cert), &brief, &st), &st);
    assert_string_equal(brief.serial, info.serial);
    assert_string_equal(brief.fingerprint, info.fingerprint);
    assert_int_equal(brief.not_after_ms, info.not_after_ms);
    for (size_t len = 0; len < 60; len++)
        assert_code(CODE_INVALID_ARGUMENT, cert_read_brief((struct bytes){cert.data, len}, &brief, &st), &st);
}

static void assert_listed_as_read(struct bytes cert)
{
    struct status st;
    AUTO_CERT_INFO struct cert_info whole = {0}, listed = {0};
    assert_ok(cert_read(cert, &whole, &st), &st);
    assert_ok(cert_read_listed(cert, &listed, &st), &st);
    assert_string_equal(listed.key_name, whole.key_name);
    assert_int_equal(listed.key_type, whole.key_type);
    assert_int_equal(listed.key_bits, whole.key_bits);
    assert_int_equal(listed.names.n_dns, whole.names.n_dns);
    for (size_t i = 0; i < whole.names.n_dns; i++)
        assert_string_equal(listed.names.dns[i], whole.names.dns[i]);
    assert_int_equal(listed.is_ca, whole.is_ca);
    assert_int_equal(listed.self_signed, whole.self_signed);
    assert_int_equal(listed.server_auth, whole.server_auth);
    /* All else lies in one piece. */
    pki_names_done(&listed.names);
    pki_names_done(&whole.names);
    assert_memory_equal(&listed, &whole, sizeof(listed));
}

static void listed_certificates_say_the_same_as_read_ones(void **state UNUSED)
{
    struct pki pki;
    AUTO_DER struct der server = {0};
    pki_init(&pki, NOW);
    server_cert(&server);
    assert_listed_as_read(der_bytes(&server));
    assert_listed_as_read(der_bytes(&pki.root.cert));
    assert_listed_as_read(der_bytes(&pki.managed.cert));
    EVP_PKEY *const keys[] = {
        EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"), EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-521"),
        EVP_PKEY_Q_keygen(NULL, NULL, "EC", "secp256k1"), EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024),
        EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048)};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        AUTO_DER struct der cert = {0};
        foreign("DNS:a.example,DNS:*.b.example", keys[i], (long)i + 1, &cert);
        assert_listed_as_read(der_bytes(&cert));
    }
    pki_done(&pki);
}

static void only_a_signature_tells_who_signed(void **state UNUSED)
{
    struct status st;
    AUTO_DER struct der cert = {0};
    AUTO_CERT_INFO struct cert_info whole = {0}, listed = {0};
    foreign("DNS:a.example", EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"), 1, &cert);
    cert.data[cert.len - 1] ^= 1;
    assert_ok(cert_read(der_bytes(&cert), &whole, &st), &st);
    assert_ok(cert_read_listed(der_bytes(&cert), &listed, &st), &st);
    assert_false(whole.self_signed);
    assert_true(listed.self_signed); /* as it says of itself */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_is_read),
        cmocka_unit_test(a_brief_says_the_same_as_the_whole),
        cmocka_unit_test(listed_certificates_say_the_same_as_read_ones),
        cmocka_unit_test(only_a_signature_tells_who_signed),
        cmocka_unit_test(roots_and_clients_are_told_apart),
        cmocka_unit_test(issuer_holds_the_name_that_its_certificates_give),
        cmocka_unit_test(names_match_as_browsers_match_them),
        cmocka_unit_test(common_name_does_not_count_as_a_name),
        cmocka_unit_test(foreign_oddities_are_read_without_harm),
        cmocka_unit_test(cut_off_longer_or_huge_is_refused),
        cmocka_unit_test(flipped_bytes_never_crash_the_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
