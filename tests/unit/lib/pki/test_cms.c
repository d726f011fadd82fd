/* Signed messages: what verifies, and each way in which one may not. */
#include "fixture.h"

#include <openssl/cms.h>
#include <openssl/x509.h>

static const char text[] = "task 1 succeeded";

struct world {
    struct pki pki;
    struct entity agent, other;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    pki_init(&w->pki, (int64_t)1795478400000);
    entity_init(&w->agent, &w->pki.agents, PURPOSE_AGENT_TASK, "agent", "7", w->pki.now_ms);
    entity_init(&w->other, &w->pki.agents, PURPOSE_AGENT_TASK, "agent", "8", w->pki.now_ms);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    entity_done(&w->agent);
    entity_done(&w->other);
    pki_done(&w->pki);
    free(w);
    return 0;
}

static void sign(struct world *w, struct der *ret)
{
    struct status st;
    assert_ok(cms_sign(CMS_CONTENT_RECEIPT, text_bytes(text), w->agent.key, der_bytes(&w->agent.cert),
                       &w->pki.agents.chain, ret, &st),
              &st);
}

static enum code verify(struct world *w, const struct der *cms, struct der *content, struct status *st)
{
    return cms_verify(CMS_CONTENT_RECEIPT, der_bytes(cms), NULL, &w->pki.roots, PURPOSE_AGENT_TASK,
                      w->pki.now_ms, content, NULL, st);
}

static void signed_content_comes_out_with_its_signer(void **state)
{
    struct world *w = *state;
    struct status st;
    AUTO_DER struct der cms = {0};
    AUTO_DER struct der content = {0};
    AUTO_DER struct der signer = {0};
    AUTO_DER struct der claimed = {0};
    sign(w, &cms);
    assert_ok(cms_verify(CMS_CONTENT_RECEIPT, der_bytes(&cms), NULL, &w->pki.roots, PURPOSE_AGENT_TASK,
                         w->pki.now_ms, &content, &signer, &st),
              &st);
    assert_int_equal(content.len, strlen(text));
    assert_memory_equal(content.data, text, content.len);
    assert_int_equal(signer.len, w->agent.cert.len);
    assert_memory_equal(signer.data, w->agent.cert.data, signer.len);
    assert_ok(cms_claimed_signer(der_bytes(&cms), &claimed, &st), &st);
    assert_int_equal(claimed.len, signer.len);
    assert_memory_equal(claimed.data, signer.data, claimed.len);
}

static void expected_certificate_needs_no_roots(void **state)
{
    struct world *w = *state;
    struct status st;
    AUTO_DER struct der cms = {0};
    AUTO_DER struct der content = {0};
    struct bytes expected = der_bytes(&w->agent.cert);
    sign(w, &cms);
    assert_ok(cms_verify(CMS_CONTENT_RECEIPT, der_bytes(&cms), &expected, NULL, PURPOSE_AGENT_TASK,
                         w->pki.now_ms, &content, NULL, &st),
              &st);
    assert_memory_equal(content.data, text, strlen(text));
}

static void another_certificate_than_the_expected_is_refused(void **state)
{
    struct world *w = *state;
    struct status st;
    AUTO_DER struct der cms = {0};
    AUTO_DER struct der content = {0};
    struct bytes expected = der_bytes(&w->other.cert);
    sign(w, &cms);
    assert_code(CODE_UNAUTHENTICATED,
                cms_verify(CMS_CONTENT_RECEIPT, der_bytes(&cms), &expected, NULL, PURPOSE_AGENT_TASK,
                           w->pki.now_ms, &content, NULL, &st),
                &st);
    assert_null(content.data);
}

static void expected_certificate_is_refused_when_expired_or_of_another_purpose(void **state)
{
    struct world *w = *state;
    struct status st;
    AUTO_DER struct der cms = {0};
    AUTO_DER struct der content = {0};
    struct bytes expected = der_bytes(&w->agent.cert);
    sign(w, &cms);
    assert_code(CODE_UNAUTHENTICATED,
                cms_verify(CMS_CONTENT_RECEIPT, der_bytes(&cms), &expected, NULL, PURPOSE_AGENT_TASK,
                           w->pki.now_ms + 31 * DAY_MS, &content, NULL, &st),
                &st);
    assert_says(&st, "expired on 2026-12-24");
    assert_code(CODE_UNAUTHENTICATED,
                cms_verify(CMS_CONTENT_RECEIPT, der_bytes(&cms), &expected, NULL, PURPOSE_SERVICE,
                           w->pki.now_ms, &content, NULL, &st),
                &st);
    assert_null(content.data);
}

static void content_type_cannot_be_swapped(void **state)
{
    struct world *w = *state;
    static const enum cms_content others[] = {CMS_CONTENT_REQUEST, CMS_CONTENT_DOCUMENT, CMS_CONTENT_HEAD,
                                              CMS_CONTENT_ENVELOPE};
    AUTO_DER struct der cms = {0};
    sign(w, &cms);
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        struct status st;
        AUTO_DER struct der content = {0};
        assert_code(CODE_INVALID_ARGUMENT,
                    cms_verify(others[i], der_bytes(&cms), NULL, &w->pki.roots, PURPOSE_AGENT_TASK,
                               w->pki.now_ms, &content, NULL, &st),
                    &st);
        assert_says(&st, "content type");
    }
    /* Changing the type where it stands does not help: the signed attribute still has the first one. */
    static const uint8_t receipt[] = {0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xb2, 0x03, 0x02, 0x01};
    uint8_t *at = memmem(cms.data, cms.len, receipt, sizeof(receipt));
    assert_non_null(at);
    at[sizeof(receipt) - 1] = 0x02;
    struct status st;
    AUTO_DER struct der content = {0};
    assert_code(CODE_INVALID_ARGUMENT,
                cms_verify(CMS_CONTENT_REQUEST, der_bytes(&cms), NULL, &w->pki.roots, PURPOSE_AGENT_TASK,
                           w->pki.now_ms, &content, NULL, &st),
                &st);
    assert_says(&st, "signed content type");
}

static void identity_key_cannot_sign_receipts(void **state)
{
    struct world *w = *state;
    struct status st;
    struct entity identity;
    AUTO_DER struct der cms = {0};
    AUTO_DER struct der content = {0};
    entity_init(&identity, &w->pki.agents, PURPOSE_AGENT_IDENTITY, "agent", "7", w->pki.now_ms);
    assert_ok(cms_sign(CMS_CONTENT_RECEIPT, text_bytes(text), identity.key, der_bytes(&identity.cert),
                       &w->pki.agents.chain, &cms, &st),
              &st);
    assert_code(CODE_UNAUTHENTICATED, verify(w, &cms, &content, &st), &st);
    assert_says(&st, "extended key usage");
    entity_done(&identity);
}

static void other_roots_and_times_are_refused(void **state)
{
    struct world *w = *state;
    struct status st;
    struct pki foreign;
    AUTO_DER struct der cms = {0};
    AUTO_DER struct der content = {0};
    pki_init(&foreign, w->pki.now_ms);
    sign(w, &cms);
    assert_code(CODE_UNAUTHENTICATED,
                cms_verify(CMS_CONTENT_RECEIPT, der_bytes(&cms), NULL, &foreign.roots, PURPOSE_AGENT_TASK,
                           w->pki.now_ms, &content, NULL, &st),
                &st);
    const struct der_list none = {0};
    assert_code(CODE_UNAUTHENTICATED,
                cms_verify(CMS_CONTENT_RECEIPT, der_bytes(&cms), NULL, &none, PURPOSE_AGENT_TASK,
                           w->pki.now_ms, &content, NULL, &st),
                &st);
    assert_code(CODE_UNAUTHENTICATED,
                cms_verify(CMS_CONTENT_RECEIPT, der_bytes(&cms), NULL, &w->pki.roots, PURPOSE_AGENT_TASK,
                           w->pki.now_ms + 31 * DAY_MS, &content, NULL, &st),
                &st);
    assert_null(content.data);
    pki_done(&foreign);
}

static void key_of_another_cannot_sign_for_the_certificate(void **state)
{
    struct world *w = *state;
    struct status st;
    AUTO_DER struct der cms = {0};
    assert_code(CODE_INVALID_ARGUMENT,
                cms_sign(CMS_CONTENT_RECEIPT, text_bytes(text), w->other.key, der_bytes(&w->agent.cert), NULL,
                         &cms, &st),
                &st);
    assert_null(cms.data);
}

static void flipped_bits_are_noticed(void **state)
{
    struct world *w = *state;
    struct status st;
    AUTO_DER struct der cms = {0};
    struct bytes expected = der_bytes(&w->agent.cert);
    sign(w, &cms);
    for (size_t i = 0; i < cms.len; i++) {
        AUTO_DER struct der content = {0};
        cms.data[i] ^= 0x01;
        if (verify(w, &cms, &content, &st) == CODE_OK)
            fail_msg("byte %zu was changed and the message still verifies", i);
        assert_null(content.data);
        /* By the expected certificate the carried ones do not matter, but the content always does. */
        if (cms_verify(CMS_CONTENT_RECEIPT, der_bytes(&cms), &expected, NULL, PURPOSE_AGENT_TASK,
                       w->pki.now_ms, &content, NULL, &st) == CODE_OK) {
            assert_int_equal(content.len, strlen(text));
            assert_memory_equal(content.data, text, content.len);
        }
        cms.data[i] ^= 0x01;
    }
}

static void cut_off_or_longer_is_refused(void **state)
{
    struct world *w = *state;
    struct status st;
    AUTO_DER struct der cms = {0};
    AUTO_DER struct der content = {0};
    AUTO_DER struct der claimed = {0};
    sign(w, &cms);
    for (size_t len = 0; len < cms.len; len++) {
        struct der part = {cms.data, len};
        assert_code(CODE_INVALID_ARGUMENT, verify(w, &part, &content, &st), &st);
        assert_code(CODE_INVALID_ARGUMENT, cms_claimed_signer(der_bytes(&part), &claimed, &st), &st);
    }
    AUTO_FREE uint8_t *longer = calloc(1, cms.len + 1);
    assert_non_null(longer);
    memcpy(longer, cms.data, cms.len);
    struct der more = {longer, cms.len + 1};
    assert_code(CODE_INVALID_ARGUMENT, verify(w, &more, &content, &st), &st);
    assert_says(&st, "stray bytes");
    AUTO_FREE uint8_t *huge = calloc(1, CMS_SIGNED_MAX + 1);
    assert_non_null(huge);
    struct der too_much = {huge, CMS_SIGNED_MAX + 1};
    assert_code(CODE_INVALID_ARGUMENT, verify(w, &too_much, &content, &st), &st);
}

/* Messages as OpenSSL makes them when asked for something that is not ours. */
struct variant {
    bool two_signers, no_attributes, sha512, detached, indefinite, no_certificate;
};

static X509 *parse(const struct der *der)
{
    const uint8_t *at = der->data;
    X509 *cert = d2i_X509(NULL, &at, (long)der->len);
    assert_non_null(cert);
    return cert;
}

static void sign_as(struct world *w, const struct variant *variant, struct der *ret)
{
    unsigned flags = CMS_BINARY | CMS_PARTIAL | CMS_NOSMIMECAP;
    if (variant->detached)
        flags |= CMS_DETACHED;
    unsigned signer_flags = CMS_BINARY | CMS_NOSMIMECAP;
    if (variant->no_attributes)
        signer_flags |= CMS_NOATTR;
    if (variant->no_certificate)
        signer_flags |= CMS_NOCERTS;
    const EVP_MD *md = variant->sha512 ? EVP_sha512() : EVP_sha256();
    X509 *agent = parse(&w->agent.cert);
    X509 *other = parse(&w->other.cert);
    X509 *ca = parse(&w->pki.agents.cert);
    CMS_ContentInfo *cms = CMS_sign(NULL, NULL, NULL, NULL, flags);
    ASN1_OBJECT *oid = OBJ_txt2obj("1.3.6.1.4.1.55555.2.1", 1);
    assert_int_equal(CMS_set1_eContentType(cms, oid), 1);
    assert_non_null(CMS_add1_signer(cms, agent, key_evp(w->agent.key), md, signer_flags));
    if (variant->two_signers)
        assert_non_null(CMS_add1_signer(cms, other, key_evp(w->other.key), md, signer_flags));
    assert_int_equal(CMS_add1_cert(cms, ca), 1);
    BIO *in = BIO_new_mem_buf(text, (int)strlen(text));
    BIO *out = BIO_new(BIO_s_mem());
    if (variant->indefinite) {
        assert_int_equal(i2d_CMS_bio_stream(out, cms, in, CMS_BINARY | CMS_STREAM), 1);
    } else {
        assert_int_equal(CMS_final(cms, in, NULL, CMS_BINARY), 1);
        assert_int_equal(i2d_CMS_bio(out, cms), 1);
    }
    uint8_t *data = NULL;
    long len = BIO_get_mem_data(out, &data);
    *ret = der_dup((struct bytes){data, (size_t)len});
    BIO_free(in);
    BIO_free(out);
    ASN1_OBJECT_free(oid);
    CMS_ContentInfo_free(cms);
    X509_free(agent);
    X509_free(other);
    X509_free(ca);
}

static void only_the_one_form_is_accepted(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *what;
        struct variant variant;
        enum code code;
    } cases[] = {
        {"ours", {.two_signers = false}, CODE_OK},
        {"two signers", {.two_signers = true}, CODE_INVALID_ARGUMENT},
        {"no signed attributes", {.no_attributes = true}, CODE_INVALID_ARGUMENT},
        {"SHA-512", {.sha512 = true}, CODE_INVALID_ARGUMENT},
        {"detached", {.detached = true}, CODE_INVALID_ARGUMENT},
        {"indefinite lengths", {.indefinite = true}, CODE_INVALID_ARGUMENT},
        {"signer's certificate missing", {.no_certificate = true}, CODE_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct status st = {0};
        AUTO_DER struct der cms = {0};
        AUTO_DER struct der content = {0};
        sign_as(w, &cases[i].variant, &cms);
        enum code code = verify(w, &cms, &content, &st);
        if (code != cases[i].code)
            fail_msg("%s: %s: %s", cases[i].what, code_name(code), st.msg);
    }
}

static void expected_certificate_need_not_be_carried(void **state)
{
    struct world *w = *state;
    struct status st;
    AUTO_DER struct der cms = {0};
    AUTO_DER struct der content = {0};
    struct bytes expected = der_bytes(&w->agent.cert);
    sign_as(w, &(struct variant){.no_certificate = true}, &cms);
    assert_ok(cms_verify(CMS_CONTENT_RECEIPT, der_bytes(&cms), &expected, NULL, PURPOSE_AGENT_TASK,
                         w->pki.now_ms, &content, NULL, &st),
              &st);
}

static void nothing_and_too_much_is_not_signed(void **state)
{
    struct world *w = *state;
    struct status st;
    AUTO_DER struct der cms = {0};
    AUTO_FREE uint8_t *huge = calloc(1, CMS_SIGNED_MAX + 1);
    assert_non_null(huge);
    static const size_t sizes[] = {0, CMS_SIGNED_MAX - 10, CMS_SIGNED_MAX + 1};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        assert_code(CODE_INVALID_ARGUMENT,
                    cms_sign(CMS_CONTENT_RECEIPT, (struct bytes){huge, sizes[i]}, w->agent.key,
                             der_bytes(&w->agent.cert), NULL, &cms, &st),
                    &st);
        assert_null(cms.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signed_content_comes_out_with_its_signer),
        cmocka_unit_test(expected_certificate_needs_no_roots),
        cmocka_unit_test(another_certificate_than_the_expected_is_refused),
        cmocka_unit_test(expected_certificate_is_refused_when_expired_or_of_another_purpose),
        cmocka_unit_test(content_type_cannot_be_swapped),
        cmocka_unit_test(identity_key_cannot_sign_receipts),
        cmocka_unit_test(other_roots_and_times_are_refused),
        cmocka_unit_test(key_of_another_cannot_sign_for_the_certificate),
        cmocka_unit_test(flipped_bits_are_noticed),
        cmocka_unit_test(cut_off_or_longer_is_refused),
        cmocka_unit_test(only_the_one_form_is_accepted),
        cmocka_unit_test(expected_certificate_need_not_be_carried),
        cmocka_unit_test(nothing_and_too_much_is_not_signed),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
