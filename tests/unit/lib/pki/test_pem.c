/* PEM, and finding certificates in content of unknown form. */
#include "fixture.h"

#include <openssl/pkcs7.h>
#include <openssl/x509.h>

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

static void bundle(struct pki *pki, struct buf *ret)
{
    struct status st;
    AUTO_DER_LIST struct der_list list = {0};
    assert_ok(der_list_add(&list, der_bytes(&pki->agents.cert), &st), &st);
    assert_ok(der_list_add(&list, der_bytes(&pki->root.cert), &st), &st);
    assert_ok(certs_to_pem(&list, ret, &st), &st);
}

static struct bytes buf_bytes(const struct buf *buf)
{
    return (struct bytes){buf->data, buf->len};
}

static void written_bundle_is_read_back_in_order(void **state)
{
    struct pki *pki = *state;
    struct status st;
    AUTO_BUF struct buf pem = {0};
    AUTO_DER_LIST struct der_list back = {0};
    bundle(pki, &pem);
    assert_ok(pem_to_certs(buf_bytes(&pem), &back, &st), &st);
    assert_int_equal(back.n, 2);
    assert_memory_equal(back.item[0].data, pki->agents.cert.data, back.item[0].len);
    assert_memory_equal(back.item[1].data, pki->root.cert.data, back.item[1].len);
}

static void other_blocks_and_prose_are_ignored(void **state)
{
    struct pki *pki = *state;
    struct status st;
    AUTO_BUF struct buf pem = {0};
    AUTO_BUF struct buf certs = {0};
    AUTO_DER_LIST struct der_list back = {0};
    AUTO_KEY struct key *key = NULL;
    AUTO_SECRET struct secret *text = NULL;
    bundle(pki, &certs);
    assert_ok(key_generate(KEY_EC_P256, &key, &st), &st);
    assert_ok(key_to_pem(key, NULL, &text, &st), &st);
    assert_true(buf_puts(&pem, "Subject: someone\r\n# comment\n"));
    assert_true(buf_append(&pem, text->data, text->len));
    assert_true(buf_append(&pem, certs.data, certs.len));
    assert_ok(pem_to_certs(buf_bytes(&pem), &back, &st), &st);
    assert_int_equal(back.n, 2);
}

static void text_without_a_certificate_is_refused(void **state UNUSED)
{
    static const char *const texts[] = {"hello",
                                        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                                        "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
                                        "-----BEGIN CERTIFICATE-----\nAAAA\n"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct status st;
        AUTO_DER_LIST struct der_list list = {0};
        assert_code(CODE_INVALID_ARGUMENT, pem_to_certs(text_bytes(texts[i]), &list, &st), &st);
        assert_int_equal(list.n, 0);
    }
    struct status st;
    AUTO_DER_LIST struct der_list list = {0};
    assert_code(CODE_INVALID_ARGUMENT, pem_to_certs((struct bytes){NULL, 0}, &list, &st), &st);
}

static void more_certificates_than_a_list_holds_are_refused(void **state)
{
    struct pki *pki = *state;
    struct status st;
    AUTO_BUF struct buf pem = {0};
    AUTO_DER_LIST struct der_list list = {0};
    for (int i = 0; i <= DER_LIST_MAX / 2; i++)
        bundle(pki, &pem);
    assert_code(CODE_RESOURCE_EXHAUSTED, pem_to_certs(buf_bytes(&pem), &list, &st), &st);
    assert_int_equal(list.n, 0);
}

static void count_cert(struct bytes der, void *arg)
{
    struct status st;
    AUTO_CERT_INFO struct cert_info info = {0};
    assert_ok(cert_read(der, &info, &st), &st);
    ++*(size_t *)arg;
}

static size_t sniffed(struct bytes content)
{
    struct status st;
    size_t n = 0;
    assert_ok(certs_sniff(content, 100, count_cert, &n, &st), &st);
    return n;
}

static void certificates_are_found_by_content(void **state)
{
    struct pki *pki = *state;
    AUTO_BUF struct buf pem = {0};
    bundle(pki, &pem);
    assert_int_equal(sniffed(der_bytes(&pki->root.cert)), 1);
    assert_int_equal(sniffed(buf_bytes(&pem)), 2);
    assert_int_equal(sniffed(text_bytes("hello")), 0);
    assert_int_equal(sniffed(text_bytes("0")), 0);
    assert_int_equal(sniffed((struct bytes){NULL, 0}), 0);

    assert_true(buf_puts(&pem, "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"));
    AUTO_BUF struct buf more = {0};
    bundle(pki, &more);
    assert_true(buf_append(&pem, more.data, more.len));
    assert_int_equal(sniffed(buf_bytes(&pem)), 4); /* the damaged one is passed over */
}

static void certificates_are_found_in_pkcs7(void **state)
{
    struct pki *pki = *state;
    const uint8_t *at = pki->root.cert.data;
    uint8_t *der = NULL;
    X509 *root = d2i_X509(NULL, &at, (long)pki->root.cert.len);
    PKCS7 *p7 = PKCS7_new();
    assert_int_equal(PKCS7_set_type(p7, NID_pkcs7_signed), 1);
    assert_int_equal(PKCS7_content_new(p7, NID_pkcs7_data), 1);
    assert_int_equal(PKCS7_add_certificate(p7, root), 1);
    int len = i2d_PKCS7(p7, &der);
    assert_true(len > 0);
    assert_int_equal(sniffed((struct bytes){der, (size_t)len}), 1);
    for (int cut = 0; cut < len; cut += 3)
        assert_int_equal(sniffed((struct bytes){der, (size_t)cut}), 0);
    OPENSSL_free(der);
    PKCS7_free(p7);
    X509_free(root);
}

static void search_stops_at_its_limit(void **state)
{
    struct pki *pki = *state;
    struct status st;
    size_t n = 0;
    AUTO_BUF struct buf pem = {0};
    bundle(pki, &pem);
    assert_code(CODE_RESOURCE_EXHAUSTED, certs_sniff(buf_bytes(&pem), 1, count_cert, &n, &st), &st);
    assert_int_equal(n, 1);
    n = 0;
    assert_ok(certs_sniff(buf_bytes(&pem), 2, count_cert, &n, &st), &st);
    assert_int_equal(n, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_bundle_is_read_back_in_order),
        cmocka_unit_test(other_blocks_and_prose_are_ignored),
        cmocka_unit_test(text_without_a_certificate_is_refused),
        cmocka_unit_test(more_certificates_than_a_list_holds_are_refused),
        cmocka_unit_test(certificates_are_found_by_content),
        cmocka_unit_test(certificates_are_found_in_pkcs7),
        cmocka_unit_test(search_stops_at_its_limit),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
