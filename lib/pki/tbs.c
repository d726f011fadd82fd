/* Encoding and signing a certificate, by OpenSSL's own templates for ASN.1. */
#include "pki/tbs.h"

#include <openssl/asn1t.h>
#include <openssl/core_names.h>

#define ALGORITHM_MAX 128

/* Certificate; each part is already encoded. */
struct signed_tbs {
    ASN1_STRING *tbs;
    ASN1_STRING *algorithm;
    ASN1_BIT_STRING *signature;
};

/* OpenSSL's macros name types by one word and define items for who includes them. */
typedef struct tbs TBS;
typedef struct signed_tbs SIGNED_TBS;

ASN1_SEQUENCE(TBS) =
    {
        ASN1_EXP(TBS, version, ASN1_INTEGER, 0),    ASN1_SIMPLE(TBS, serial, ASN1_INTEGER),
        ASN1_SIMPLE(TBS, algorithm, ASN1_SEQUENCE), ASN1_SIMPLE(TBS, issuer, ASN1_SEQUENCE),
        ASN1_SIMPLE(TBS, validity, X509_VAL),       ASN1_SIMPLE(TBS, subject, X509_NAME),
        ASN1_SIMPLE(TBS, spki, ASN1_SEQUENCE),      ASN1_EXP(TBS, extensions, ASN1_SEQUENCE, 3),
} static_ASN1_SEQUENCE_END(TBS)

        ASN1_SEQUENCE(SIGNED_TBS) =
            {
                ASN1_SIMPLE(SIGNED_TBS, tbs, ASN1_SEQUENCE),
                ASN1_SIMPLE(SIGNED_TBS, algorithm, ASN1_SEQUENCE),
                ASN1_SIMPLE(SIGNED_TBS, signature, ASN1_BIT_STRING),
} static_ASN1_SEQUENCE_END(SIGNED_TBS)

                static void signed_tbs_free(struct signed_tbs * cert)
{
    ASN1_item_free((ASN1_VALUE *)cert, ASN1_ITEM_rptr(SIGNED_TBS));
}

DEFINE_CLEANUP(signed_tbs, struct signed_tbs *, signed_tbs_free)

struct tbs *tbs_new(void)
{
    struct tbs *tbs = MUST((struct tbs *)ASN1_item_new(ASN1_ITEM_rptr(TBS)));
    if (ASN1_INTEGER_set(tbs->version, X509_VERSION_3) != 1)
        abort();
    return tbs;
}

void tbs_free(struct tbs *tbs)
{
    ASN1_item_free((ASN1_VALUE *)tbs, ASN1_ITEM_rptr(TBS));
}

void tbs_set_der(ASN1_STRING *field, struct bytes der)
{
    if (ASN1_STRING_set(field, der.data, (int)der.len) != 1)
        abort();
}

enum code tbs_set_extensions(struct tbs *tbs, const X509_EXTENSIONS *list, struct status *st)
{
    uint8_t *der = NULL;
    int len = i2d_X509_EXTENSIONS(list, &der);
    if (len <= 0)
        return ossl_fail(st, CODE_INTERNAL, "cannot encode extensions");
    ASN1_STRING_set0(tbs->extensions, der, len);
    return CODE_OK;
}

enum code tbs_signing_init(struct tbs_signing *signing, EVP_PKEY *pkey, const EVP_MD *md, struct status *st)
{
    uint8_t algorithm[ALGORITHM_MAX];
    EVP_PKEY_CTX *ctx = NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, algorithm, sizeof(algorithm)),
        OSSL_PARAM_construct_end(),
    };
    signing->ready = MUST(EVP_MD_CTX_new());
    if (EVP_DigestSignInit(signing->ready, &ctx, md, NULL, pkey) != 1 ||
        EVP_PKEY_CTX_get_params(ctx, params) != 1 || params[0].return_size == 0)
        return ossl_fail(st, CODE_INTERNAL, "cannot sign with this key");
    signing->algorithm = der_dup((struct bytes){algorithm, params[0].return_size});
    return CODE_OK;
}

void tbs_signing_done(struct tbs_signing *signing)
{
    EVP_MD_CTX_free(signing->ready);
    signing->ready = NULL;
    der_done(&signing->algorithm);
}

static enum code sign(const ASN1_STRING *data, const EVP_MD_CTX *ready, ASN1_BIT_STRING *ret,
                      struct status *st)
{
    AUTO_EVP_MD_CTX EVP_MD_CTX *ctx = MUST(EVP_MD_CTX_new());
    size_t len = 0, data_len = (size_t)ASN1_STRING_length(data);
    const uint8_t *at = ASN1_STRING_get0_data(data);
    if (EVP_MD_CTX_copy_ex(ctx, ready) != 1 || EVP_DigestSign(ctx, NULL, &len, at, data_len) != 1)
        return ossl_fail(st, CODE_INTERNAL, "cannot sign a certificate");
    AUTO_OSSL_MEM uint8_t *signature = MUST(OPENSSL_malloc(len));
    if (EVP_DigestSign(ctx, signature, &len, at, data_len) != 1)
        return ossl_fail(st, CODE_INTERNAL, "cannot sign a certificate");
    ASN1_STRING_set0(ret, TAKE(signature), (int)len);
    ret->flags |= ASN1_STRING_FLAG_BITS_LEFT; /* none is unused, whatever the last octet ends with */
    return CODE_OK;
}

enum code tbs_sign(struct tbs *tbs, const struct tbs_signing *signing, struct der *ret, struct status *st)
{
    CLEANUP(cleanup_signed_tbs)
    struct signed_tbs *cert = MUST((struct signed_tbs *)ASN1_item_new(ASN1_ITEM_rptr(SIGNED_TBS)));
    uint8_t *der = NULL;
    tbs_set_der(tbs->algorithm, der_bytes(&signing->algorithm));
    tbs_set_der(cert->algorithm, der_bytes(&signing->algorithm));
    int len = ASN1_item_i2d((const ASN1_VALUE *)tbs, &der, ASN1_ITEM_rptr(TBS));
    if (len <= 0)
        return ossl_fail(st, CODE_INTERNAL, "cannot encode a certificate");
    ASN1_STRING_set0(cert->tbs, der, len);
    TRY(sign(cert->tbs, signing->ready, cert->signature, st));
    AUTO_OSSL_MEM uint8_t *whole = NULL;
    len = ASN1_item_i2d((const ASN1_VALUE *)cert, &whole, ASN1_ITEM_rptr(SIGNED_TBS));
    if (len <= 0)
        return ossl_fail(st, CODE_INTERNAL, "cannot encode a certificate");
    *ret = der_dup((struct bytes){whole, (size_t)len});
    return CODE_OK;
}
