/* Private keys: making, encoding, reading back, refusing. */
#include "fixture.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

static const enum key_type kinds[] = {KEY_EC_P256, KEY_EC_P384, KEY_RSA_2048, KEY_ED25519};

static void assert_same_key(const struct key *a, const struct key *b)
{
    struct status st;
    AUTO_DER struct der x = {0};
    AUTO_DER struct der y = {0};
    assert_ok(key_spki(a, &x, &st), &st);
    assert_ok(key_spki(b, &y, &st), &st);
    assert_int_equal(x.len, y.len);
    assert_memory_equal(x.data, y.data, x.len);
}

static void every_kind_is_read_back_from_pem(void **state UNUSED)
{
    struct status st;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        AUTO_KEY struct key *key = NULL;
        AUTO_KEY struct key *back = NULL;
        AUTO_SECRET struct secret *pem = NULL;
        assert_ok(key_generate(kinds[i], &key, &st), &st);
        assert_int_equal(key_type(key), kinds[i]);
        assert_ok(key_to_pem(key, NULL, &pem, &st), &st);
        assert_memory_equal(pem->data, "-----BEGIN PRIVATE KEY-----", 27);
        assert_ok(key_parse(pem, NULL, &back, &st), &st);
        assert_int_equal(key_type(back), kinds[i]);
        assert_same_key(key, back);
    }
}

static void no_key_is_made_of_an_unknown_kind(void **state UNUSED)
{
    struct status st;
    AUTO_KEY struct key *key = NULL;
    assert_code(CODE_INVALID_ARGUMENT, key_generate(KEY_OTHER, &key, &st), &st);
    assert_null(key);
}

static void passphrase_protects_the_key(void **state UNUSED)
{
    struct status st;
    AUTO_KEY struct key *key = NULL;
    AUTO_KEY struct key *back = NULL;
    AUTO_SECRET struct secret *pem = NULL;
    AUTO_SECRET struct secret *good = secret_dup("correct horse", 13);
    AUTO_SECRET struct secret *bad = secret_dup("wrong horse", 11);
    AUTO_SECRET struct secret *empty = secret_new(0);
    assert_ok(key_generate(KEY_EC_P256, &key, &st), &st);
    assert_ok(key_to_pem(key, good, &pem, &st), &st);
    assert_non_null(strstr((char *)pem->data, "BEGIN ENCRYPTED PRIVATE KEY"));
    assert_code(CODE_PERMISSION_DENIED, key_parse(pem, NULL, &back, &st), &st);
    assert_code(CODE_PERMISSION_DENIED, key_parse(pem, bad, &back, &st), &st);
    assert_null(back);
    assert_ok(key_parse(pem, good, &back, &st), &st);
    assert_same_key(key, back);
    assert_code(CODE_INVALID_ARGUMENT, key_to_pem(key, empty, &pem, &st), &st);
}

/* PBES2 with scrypt and AES-256-CBC, as the header promises: looked up in the bytes. */
static void encrypted_form_names_scrypt(void **state UNUSED)
{
    static const uint8_t scrypt[] = {0x06, 0x09, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x04, 0x0b};
    static const uint8_t aes[] = {0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a};
    struct status st;
    AUTO_KEY struct key *key = NULL;
    AUTO_SECRET struct secret *pem = NULL;
    AUTO_SECRET struct secret *passphrase = secret_dup("x", 1);
    assert_ok(key_generate(KEY_EC_P256, &key, &st), &st);
    assert_ok(key_to_pem(key, passphrase, &pem, &st), &st);
    uint8_t der[1024];
    char *body = strchr((char *)pem->data, '\n') + 1;
    char text[1024] = "";
    size_t n = 0;
    for (char *c = body; *c != '-'; c++)
        if (*c != '\n')
            text[n++] = *c;
    int len = EVP_DecodeBlock(der, (uint8_t *)text, (int)n);
    assert_true(len > 0);
    assert_non_null(memmem(der, (size_t)len, scrypt, sizeof(scrypt)));
    assert_non_null(memmem(der, (size_t)len, aes, sizeof(aes)));
}

static void der_is_read_and_its_trailing_bytes_refused(void **state UNUSED)
{
    struct status st;
    AUTO_KEY struct key *key = NULL;
    AUTO_KEY struct key *back = NULL;
    uint8_t *der = NULL;
    assert_ok(key_generate(KEY_EC_P256, &key, &st), &st);
    int len = i2d_PrivateKey(key_evp(key), &der);
    assert_true(len > 0);
    AUTO_SECRET struct secret *whole = secret_dup(der, (size_t)len);
    AUTO_SECRET struct secret *longer = secret_new((size_t)len + 1);
    memcpy(longer->data, der, (size_t)len);
    OPENSSL_free(der);
    assert_ok(key_parse(whole, NULL, &back, &st), &st);
    assert_same_key(key, back);
    AUTO_KEY struct key *none = NULL;
    assert_code(CODE_INVALID_ARGUMENT, key_parse(longer, NULL, &none, &st), &st);
    assert_null(none);
}

static void what_is_no_key_is_refused(void **state UNUSED)
{
    struct status st;
    static const char *const texts[] = {"x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                                        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        AUTO_KEY struct key *key = NULL;
        AUTO_SECRET struct secret *text = secret_dup(texts[i], strlen(texts[i]));
        assert_code(CODE_INVALID_ARGUMENT, key_parse(text, NULL, &key, &st), &st);
    }
    AUTO_KEY struct key *key = NULL;
    AUTO_SECRET struct secret *empty = secret_new(0);
    AUTO_SECRET struct secret *huge = secret_new(64 * 1024 + 1);
    assert_code(CODE_INVALID_ARGUMENT, key_parse(empty, NULL, &key, &st), &st);
    assert_code(CODE_INVALID_ARGUMENT, key_parse(huge, NULL, &key, &st), &st);
}

static void key_knows_its_own_certificate(void **state UNUSED)
{
    struct pki pki;
    struct entity a;
    struct entity b;
    pki_init(&pki, (int64_t)1795478400000);
    entity_init(&a, &pki.agents, PURPOSE_AGENT_TASK, "agent", "a", pki.now_ms);
    entity_init(&b, &pki.agents, PURPOSE_AGENT_TASK, "agent", "b", pki.now_ms);
    assert_true(key_matches_cert(a.key, der_bytes(&a.cert)));
    assert_false(key_matches_cert(a.key, der_bytes(&b.cert)));
    assert_false(key_matches_cert(a.key, text_bytes("no certificate")));
    entity_done(&a);
    entity_done(&b);
    pki_done(&pki);
}

static void signature_verifies_under_the_public_key(void **state UNUSED)
{
    struct status st;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        AUTO_KEY struct key *key = NULL;
        AUTO_DER struct der signature = {0};
        assert_ok(key_generate(kinds[i], &key, &st), &st);
        assert_ok(key_sign(key, text_bytes("hello"), &signature, &st), &st);
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        const EVP_MD *md = kinds[i] == KEY_ED25519 ? NULL : EVP_sha256();
        assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, md, NULL, key_evp(key)), 1);
        assert_int_equal(EVP_DigestVerify(ctx, signature.data, signature.len, (const uint8_t *)"hello", 5),
                         1);
        EVP_MD_CTX_free(ctx);
    }
}

/* Last: it is for the whole process. */
static void private_numbers_lie_in_locked_memory_and_are_gone_with_the_key(void **state UNUSED)
{
    struct status st;
    AUTO_SECRET struct secret *pem = NULL;
    struct key *key = NULL, *read = NULL;
    key_lock_memory();
    assert_int_equal(CRYPTO_secure_used(), 0);
    assert_ok(key_generate(KEY_EC_P256, &key, &st), &st);
    assert_true(CRYPTO_secure_used() >= 32);
    assert_ok(key_to_pem(key, NULL, &pem, &st), &st);
    size_t one = CRYPTO_secure_used();
    assert_ok(key_parse(pem, NULL, &read, &st), &st);
    assert_true(CRYPTO_secure_used() >= one + 32);
    key_free(key);
    key_free(read);
    assert_int_equal(CRYPTO_secure_used(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_is_read_back_from_pem),
        cmocka_unit_test(no_key_is_made_of_an_unknown_kind),
        cmocka_unit_test(passphrase_protects_the_key),
        cmocka_unit_test(encrypted_form_names_scrypt),
        cmocka_unit_test(der_is_read_and_its_trailing_bytes_refused),
        cmocka_unit_test(what_is_no_key_is_refused),
        cmocka_unit_test(key_knows_its_own_certificate),
        cmocka_unit_test(signature_verifies_under_the_public_key),
        cmocka_unit_test(private_numbers_lie_in_locked_memory_and_are_gone_with_the_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
