/*
 * SignedData (RFC 5652) under our own eContentTypes, with one signer and one shape. Pure functions, any
 * thread. What is read is checked from cheap to dear: size, strict DER, types and algorithms, signature,
 * chain.
 */
#include "pki/cms.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "pki/oids.h"
#include "pki/ossl.h"

struct cms_signer {
    EVP_PKEY *key;
    X509 *cert;
    STACK_OF(X509) * others;
};

/* They are put in as they are: their keys are nobody's business here. */
static enum code parse_others(const struct der_list *list, STACK_OF(X509) * *ret, struct status *st)
{
    AUTO_X509_STACK STACK_OF(X509) *stack = MUST(sk_X509_new_null());
    for (size_t i = 0; list && i < list->n; i++) {
        X509 *cert = NULL;
        if (ossl_parse_cert_undecoded(der_bytes(&list->item[i]), &cert, st) != CODE_OK)
            return status_wrap(st, "certificate %zu of %zu", i + 1, list->n);
        if (sk_X509_push(stack, cert) <= 0)
            abort();
    }
    *ret = TAKE(stack);
    return CODE_OK;
}

enum code cms_signer_new(const struct key *key, struct bytes cert, const struct der_list *intermediates,
                         struct cms_signer **ret, struct status *st)
{
    AUTO_CMS_SIGNER struct cms_signer *signer = MUST(calloc(1, sizeof(*signer)));
    TRY(ossl_parse_cert(cert, &signer->cert, st));
    TRY(parse_others(intermediates, &signer->others, st));
    if (EVP_PKEY_up_ref(key_evp(key)) != 1)
        abort();
    signer->key = key_evp(key);
    *ret = TAKE(signer);
    return CODE_OK;
}

void cms_signer_free(struct cms_signer *signer)
{
    if (!signer)
        return;
    EVP_PKEY_free(signer->key);
    X509_free(signer->cert);
    sk_X509_pop_free(signer->others, X509_free);
    free(signer);
}

static enum code add_signer(CMS_ContentInfo *cms, const struct cms_signer *signer, struct status *st)
{
    if (!CMS_add1_signer(cms, signer->cert, signer->key, EVP_sha256(), CMS_BINARY | CMS_NOSMIMECAP))
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "cannot sign with this key and certificate");
    for (int i = 0; i < sk_X509_num(signer->others); i++)
        if (CMS_add1_cert(cms, sk_X509_value(signer->others, i)) != 1)
            return ossl_fail(st, CODE_INVALID_ARGUMENT,
                             "cannot put intermediate %d into a message (twice the same?)", i + 1);
    return CODE_OK;
}

enum code cms_sign_by(const struct cms_signer *signer, enum cms_content type, struct bytes content,
                      struct der *ret, struct status *st)
{
    if (content.len == 0 || content.len > CMS_SIGNED_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "content of %zu bytes to sign: must be 1 to %d",
                          content.len, CMS_SIGNED_MAX);
    AUTO_CMS CMS_ContentInfo *cms = MUST(CMS_sign(NULL, NULL, NULL, NULL, CMS_PARTIAL | CMS_BINARY));
    AUTO_ASN1_OBJECT ASN1_OBJECT *oid = MUST(OBJ_txt2obj(oid_of_content(type), 1));
    if (CMS_set1_eContentType(cms, oid) != 1)
        return ossl_fail(st, CODE_INTERNAL, "cannot set the content type");
    TRY(add_signer(cms, signer, st));
    AUTO_BIO BIO *in = MUST(BIO_new_mem_buf(content.data, (int)content.len));
    AUTO_DER struct der der = {0};
    if (CMS_final(cms, in, NULL, CMS_BINARY) != 1 || !OSSL_TO_DER(i2d_CMS_ContentInfo, cms, &der))
        return ossl_fail(st, CODE_INTERNAL, "cannot sign a message");
    if (der.len > CMS_SIGNED_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "signed message of %zu bytes: at most %d", der.len,
                          CMS_SIGNED_MAX);
    ossl_forget();
    *ret = (struct der){TAKE(der.data), der.len};
    return CODE_OK;
}

enum code cms_sign(enum cms_content type, struct bytes content, const struct key *key, struct bytes cert,
                   const struct der_list *intermediates, struct der *ret, struct status *st)
{
    AUTO_CMS_SIGNER struct cms_signer *signer = NULL;
    TRY(cms_signer_new(key, cert, intermediates, &signer, st));
    return cms_sign_by(signer, type, content, ret, st);
}

/* What no signature covers has one form only: ContentInfo { signedData, [0] { version 3, { SHA-256 },
 * content, [0] certificates (may be absent), signer infos } }, without CRLs. */
static enum code check_frame(struct bytes der, struct status *st)
{
    /* signedData 1.2.840.113549.1.7.2 */
    static const uint8_t oid[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02};
    /* version 3, SET { SEQUENCE { SHA-256 2.16.840.1.101.3.4.2.1 } } */
    static const uint8_t head[] = {0x02, 0x01, 0x03, 0x31, 0x0d, 0x30, 0x0b, 0x06, 0x09,
                                   0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01};
    static const uint8_t version_1[] = {0x02, 0x01, 0x01};
    struct bytes at = der;
    struct bytes info;
    struct bytes explicit;
    struct bytes data;
    struct bytes signers;
    struct bytes signer;
    if (!strict_next(&at, DER_SEQUENCE, &info, NULL) || !strict_exact(&info, oid, sizeof(oid)))
        return status_set(st, CODE_INVALID_ARGUMENT, "CMS message is not SignedData");
    if (!strict_next(&info, DER_CONTEXT_0_CONSTRUCTED, &explicit, NULL) || info.len != 0 ||
        !strict_next(&explicit, DER_SEQUENCE, &data, NULL) || explicit.len != 0 ||
        !strict_exact(&data, head, sizeof(head)))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "signed message is not SignedData of version 3 with SHA-256");
    bool fits = strict_next(&data, DER_SEQUENCE, NULL, NULL);
    (void)strict_next(&data, DER_CONTEXT_0_CONSTRUCTED, NULL, NULL);
    if (!fits || !strict_next(&data, DER_SET, &signers, NULL) || data.len != 0)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "signed message holds more than content, certificates and a signer");
    if (!strict_next(&signers, DER_SEQUENCE, &signer, NULL) || signers.len != 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "signed message has not exactly one signer");
    if (!strict_exact(&signer, version_1, sizeof(version_1)))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "signer of the message is not named by issuer and serial number");
    return CODE_OK;
}

static enum code parse(struct bytes der, CMS_ContentInfo **ret, struct status *st)
{
    if (der.len == 0 || der.len > CMS_SIGNED_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "signed message of %zu bytes: must be 1 to %d", der.len,
                          CMS_SIGNED_MAX);
    TRY(strict_check(der, "signed message", st));
    TRY(check_frame(der, st));
    const uint8_t *at = der.data;
    AUTO_CMS CMS_ContentInfo *cms = d2i_CMS_ContentInfo(NULL, &at, (long)der.len);
    if (!cms || at != der.data + der.len)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "not a CMS message");
    *ret = TAKE(cms);
    return CODE_OK;
}

/* check_frame has seen that there is exactly one. */
static CMS_SignerInfo *only_signer_info(CMS_ContentInfo *cms)
{
    STACK_OF(CMS_SignerInfo) *infos = CMS_get0_SignerInfos(cms);
    assert(sk_CMS_SignerInfo_num(infos) == 1);
    return sk_CMS_SignerInfo_value(infos, 0);
}

static enum code check_algorithms(CMS_SignerInfo *info, struct status *st)
{
    X509_ALGOR *digest = NULL;
    X509_ALGOR *signature = NULL;
    CMS_SignerInfo_get0_algs(info, NULL, NULL, &digest, &signature);
    int signature_nid = OBJ_obj2nid(signature->algorithm);
    if (OBJ_obj2nid(digest->algorithm) != NID_sha256 ||
        (signature_nid != NID_ecdsa_with_SHA256 && signature_nid != NID_rsaEncryption &&
         signature_nid != NID_sha256WithRSAEncryption))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "signed message uses other algorithms than SHA-256 with ECDSA or RSA");
    return CODE_OK;
}

/* -3: exactly one such attribute, with exactly one value. */
#define SINGLE (-3)

static enum code check_attributes(CMS_SignerInfo *info, const ASN1_OBJECT *oid, struct status *st)
{
    const ASN1_OBJECT *type =
        CMS_signed_get0_data_by_OBJ(info, OBJ_nid2obj(NID_pkcs9_contentType), SINGLE, V_ASN1_OBJECT);
    const ASN1_OCTET_STRING *digest =
        CMS_signed_get0_data_by_OBJ(info, OBJ_nid2obj(NID_pkcs9_messageDigest), SINGLE, V_ASN1_OCTET_STRING);
    ossl_forget();
    if (!type || OBJ_cmp(type, oid) != 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "signed message lacks the signed content type");
    if (!digest)
        return status_set(st, CODE_INVALID_ARGUMENT, "signed message lacks the signed digest of its content");
    if (CMS_unsigned_get_attr_count(info) > 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "signed message has unsigned attributes");
    return CODE_OK;
}

static enum code check_shape(CMS_ContentInfo *cms, enum cms_content type, CMS_SignerInfo **ret,
                             struct status *st)
{
    AUTO_ASN1_OBJECT ASN1_OBJECT *oid = MUST(OBJ_txt2obj(oid_of_content(type), 1));
    const ASN1_OBJECT *found = CMS_get0_eContentType(cms);
    if (!found || OBJ_cmp(found, oid) != 0) {
        char text[80] = "none";
        if (found)
            (void)OBJ_obj2txt(text, sizeof(text), found, 1);
        return status_set(st, CODE_INVALID_ARGUMENT, "signed message has content type %s instead of %s", text,
                          oid_of_content(type));
    }
    ASN1_OCTET_STRING **content = CMS_get0_content(cms);
    if (!content || !*content || ASN1_STRING_length(*content) <= 0)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "signed message has no content");
    *ret = only_signer_info(cms);
    TRY(check_algorithms(*ret, st));
    return check_attributes(*ret, oid, st);
}

/* The certificate inside that the signer info names; borrowed from certs, NULL if it is not there. */
static X509 *named_cert(CMS_SignerInfo *info, const STACK_OF(X509) * certs)
{
    for (int i = 0; i < sk_X509_num(certs); i++)
        if (CMS_SignerInfo_cert_cmp(info, sk_X509_value(certs, i)) == 0)
            return sk_X509_value(certs, i);
    return NULL;
}

static enum code certs_inside(CMS_ContentInfo *cms, STACK_OF(X509) * *ret, struct status *st)
{
    AUTO_X509_STACK STACK_OF(X509) *certs = CMS_get1_certs(cms);
    ossl_forget();
    if (!certs)
        certs = MUST(sk_X509_new_null());
    if (sk_X509_num(certs) > DER_LIST_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "signed message carries more than %d certificates",
                          DER_LIST_MAX);
    *ret = TAKE(certs);
    return CODE_OK;
}

static enum code check_signature(CMS_ContentInfo *cms, X509 *signer, struct status *st)
{
    AUTO_X509_STACK STACK_OF(X509) *only = MUST(sk_X509_new_null());
    if (sk_X509_push(only, signer) <= 0 || X509_up_ref(signer) != 1)
        abort();
    /* The chain is ours to verify: OpenSSL's own check here knows neither our purposes nor our clock. */
    if (CMS_verify(cms, only, NULL, NULL, NULL, CMS_BINARY | CMS_NOINTERN | CMS_NO_SIGNER_CERT_VERIFY) != 1)
        return ossl_fail(st, CODE_UNAUTHENTICATED, "signature of the message does not verify");
    return CODE_OK;
}

static enum code find_signer(CMS_SignerInfo *info, const STACK_OF(X509) * certs, const struct bytes *expected,
                             X509 **ret, struct status *st)
{
    X509 *named = named_cert(info, certs);
    if (!expected) {
        if (!named)
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "signed message does not carry its signer's certificate");
        if (X509_up_ref(named) != 1)
            abort();
        *ret = named;
        return CODE_OK;
    }
    AUTO_X509 X509 *wanted = NULL;
    TRY(ossl_parse_cert(*expected, &wanted, st));
    if (CMS_SignerInfo_cert_cmp(info, wanted) != 0 || (named && X509_cmp(named, wanted) != 0))
        return status_set(st, CODE_UNAUTHENTICATED,
                          "message is signed by another certificate than the expected one");
    *ret = TAKE(wanted);
    return CODE_OK;
}

static enum code check_signer(X509 *signer, STACK_OF(X509) * certs, const struct der_list *roots,
                              enum pki_purpose purpose, int64_t at_ms, struct status *st)
{
    if (!roots) {
        TRY(validity_check(signer, at_ms, st));
        return purpose_check(signer, purpose, st);
    }
    AUTO_X509_STACK STACK_OF(X509) *trusted = NULL;
    TRY(ossl_parse_certs(roots, &trusted, st));
    return chain_verify_x509(signer, certs, trusted, purpose, at_ms, NULL, st);
}

enum code cms_verify(enum cms_content type, struct bytes cms, const struct bytes *expected,
                     const struct der_list *roots, enum pki_purpose purpose, int64_t at_ms,
                     struct der *ret_content, struct der *ret_signer, struct status *st)
{
    assert(expected || roots);
    AUTO_CMS CMS_ContentInfo *message = NULL;
    AUTO_X509_STACK STACK_OF(X509) *certs = NULL;
    AUTO_X509 X509 *signer = NULL;
    CMS_SignerInfo *info = NULL;
    TRY(parse(cms, &message, st));
    TRY(check_shape(message, type, &info, st));
    TRY(certs_inside(message, &certs, st));
    TRY(find_signer(info, certs, expected, &signer, st));
    TRY(check_signature(message, signer, st));
    TRY(check_signer(signer, certs, roots, purpose, at_ms, st));

    AUTO_DER struct der signer_der = {0};
    TRY(ossl_cert_der(signer, &signer_der, st));
    const ASN1_OCTET_STRING *content = *CMS_get0_content(message);
    *ret_content =
        der_dup((struct bytes){ASN1_STRING_get0_data(content), (size_t)ASN1_STRING_length(content)});
    if (ret_signer)
        *ret_signer = (struct der){TAKE(signer_der.data), signer_der.len};
    ossl_forget();
    return CODE_OK;
}

enum code cms_claimed_signer(struct bytes cms, struct der *ret, struct status *st)
{
    AUTO_CMS CMS_ContentInfo *message = NULL;
    AUTO_X509_STACK STACK_OF(X509) *certs = NULL;
    AUTO_X509 X509 *signer = NULL;
    TRY(parse(cms, &message, st));
    TRY(certs_inside(message, &certs, st));
    TRY(find_signer(only_signer_info(message), certs, NULL, &signer, st));
    return ossl_cert_der(signer, ret, st);
}
