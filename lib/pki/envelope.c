/*
 * The task envelope: SignedData outside (cms.c), AuthEnvelopedData (RFC 5083) inside. Before OpenSSL's CMS
 * code sees the inner part, every byte of its frame has been compared with the one form that envelope_seal
 * writes: lengths, algorithms and counts are constants here and no choice of the sender. Pure functions, any
 * thread.
 */
#include <string.h>

#include <openssl/ec.h>

#include "pki/cms.h"
#include "pki/ossl.h"

#define CONSTANT(name, ...) static const uint8_t name[] = {__VA_ARGS__}

CONSTANT(version_0, 0x02, 0x01, 0x00);
CONSTANT(version_3, 0x02, 0x01, 0x03);
CONSTANT(icv_16, 0x02, 0x01, 0x10);
/* id-ct-authEnvelopedData 1.2.840.113549.1.9.16.1.23 (RFC 5083) */
CONSTANT(oid_auth_enveloped, 0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x17);
/* id-data 1.2.840.113549.1.7.1 */
CONSTANT(oid_data, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01);
/* id-aes256-GCM 2.16.840.1.101.3.4.1.46 (RFC 5084) */
CONSTANT(oid_aes256_gcm, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2e);
/* SEQUENCE { id-ecPublicKey }, without parameters (RFC 5753 section 3.1.1) */
CONSTANT(alg_ec, 0x30, 0x09, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01);
/* SEQUENCE { dhSinglePass-stdDH-sha256kdf-scheme 1.3.132.1.11.1, SEQUENCE { id-aes256-wrap } } (RFC 5753
 * section 7) */
CONSTANT(alg_kdf_wrap, 0x30, 0x15, 0x06, 0x06, 0x2b, 0x81, 0x04, 0x01, 0x0b, 0x01, 0x30, 0x0b, 0x06, 0x09,
         0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2d);

#define IV_SIZE          12
#define TAG_SIZE         16
#define WRAPPED_KEY_SIZE 40
#define POINT_BITS_SIZE  66 /* no unused bits, 0x04, x, y */

#define TAKE_EXACT(at, constant) strict_exact((at), (constant), sizeof(constant))

static bool take_sized(struct bytes *at, uint8_t identifier, size_t len)
{
    struct bytes body;
    return strict_next(at, identifier, &body, NULL) && body.len == len;
}

/* OriginatorIdentifierOrKey: [0] { [1] { ecPublicKey, BIT STRING of an uncompressed P-256 point } } */
static bool originator_fits(struct bytes *at)
{
    struct bytes outer;
    struct bytes inner;
    struct bytes point;
    return strict_next(at, DER_CONTEXT_0_CONSTRUCTED, &outer, NULL) &&
           strict_next(&outer, DER_CONTEXT_1_CONSTRUCTED, &inner, NULL) && outer.len == 0 &&
           TAKE_EXACT(&inner, alg_ec) && strict_next(&inner, DER_BIT_STRING, &point, NULL) &&
           inner.len == 0 && point.len == POINT_BITS_SIZE && point.data[0] == 0 && point.data[1] == 0x04;
}

/* RecipientEncryptedKeys: one { issuerAndSerialNumber, 40 wrapped bytes } */
static bool encrypted_key_fits(struct bytes *at)
{
    struct bytes list;
    struct bytes only;
    return strict_next(at, DER_SEQUENCE, &list, NULL) && strict_next(&list, DER_SEQUENCE, &only, NULL) &&
           list.len == 0 && strict_next(&only, DER_SEQUENCE, NULL, NULL) &&
           take_sized(&only, DER_OCTET_STRING, WRAPPED_KEY_SIZE) && only.len == 0;
}

static bool recipients_fit(struct bytes *at)
{
    struct bytes set;
    struct bytes kari;
    return strict_next(at, DER_SET, &set, NULL) &&
           strict_next(&set, DER_CONTEXT_1_CONSTRUCTED, &kari, NULL) && set.len == 0 &&
           TAKE_EXACT(&kari, version_3) && originator_fits(&kari) && TAKE_EXACT(&kari, alg_kdf_wrap) &&
           encrypted_key_fits(&kari) && kari.len == 0;
}

static bool content_fits(struct bytes *at)
{
    struct bytes info;
    struct bytes alg;
    struct bytes gcm;
    struct bytes cipher;
    return strict_next(at, DER_SEQUENCE, &info, NULL) && TAKE_EXACT(&info, oid_data) &&
           strict_next(&info, DER_SEQUENCE, &alg, NULL) && TAKE_EXACT(&alg, oid_aes256_gcm) &&
           strict_next(&alg, DER_SEQUENCE, &gcm, NULL) && alg.len == 0 &&
           take_sized(&gcm, DER_OCTET_STRING, IV_SIZE) && TAKE_EXACT(&gcm, icv_16) && gcm.len == 0 &&
           strict_next(&info, DER_CONTEXT_0, &cipher, NULL) && info.len == 0 && cipher.len > 0;
}

/* ContentInfo { authEnvelopedData, [0] { version 0, one recipient, content, tag } } and nothing else. */
static enum code check_frame(struct bytes inner, struct status *st)
{
    if (inner.len == 0 || inner.len > CMS_ENVELOPE_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "envelope of %zu bytes: must be 1 to %d", inner.len,
                          CMS_ENVELOPE_MAX);
    TRY(strict_check(inner, "envelope", st));
    struct bytes at = inner;
    struct bytes info;
    struct bytes explicit;
    struct bytes data;
    if (!strict_next(&at, DER_SEQUENCE, &info, NULL) || !TAKE_EXACT(&info, oid_auth_enveloped) ||
        !strict_next(&info, DER_CONTEXT_0_CONSTRUCTED, &explicit, NULL) || info.len != 0 ||
        !strict_next(&explicit, DER_SEQUENCE, &data, NULL) || explicit.len != 0 ||
        !TAKE_EXACT(&data, version_0))
        return status_set(st, CODE_INVALID_ARGUMENT, "envelope is not AuthEnvelopedData");
    if (!recipients_fit(&data))
        return status_set(
            st, CODE_INVALID_ARGUMENT,
            "envelope is not for exactly one P-256 key with SHA-256 key derivation and AES-256 wrap");
    if (!content_fits(&data) || !take_sized(&data, DER_OCTET_STRING, TAG_SIZE) || data.len != 0)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "envelope is not AES-256-GCM with a 12-byte nonce and a 16-byte tag");
    return CODE_OK;
}

static enum code add_recipient(CMS_ContentInfo *cms, X509 *recipient, struct status *st)
{
    const EVP_PKEY *pkey = X509_get0_pubkey(recipient);
    if (!pkey || ossl_key_type(pkey) != KEY_EC_P256 || !(X509_get_key_usage(recipient) & KU_KEY_AGREEMENT))
        return ossl_fail(st, CODE_INVALID_ARGUMENT,
                         "recipient's certificate is not for key agreement with P-256");
    CMS_RecipientInfo *info = CMS_add1_recipient(cms, recipient, NULL, NULL, CMS_KEY_PARAM);
    EVP_PKEY_CTX *ctx = info ? CMS_RecipientInfo_get0_pkey_ctx(info) : NULL;
    if (!ctx || EVP_PKEY_CTX_set_ecdh_kdf_md(ctx, EVP_sha256()) != 1)
        return ossl_fail(st, CODE_INTERNAL, "cannot encrypt to the recipient");
    return CODE_OK;
}

enum code envelope_seal(struct bytes plaintext, struct bytes recipient_cert, const struct cms_signer *signer,
                        struct der *ret, struct status *st)
{
    if (plaintext.len == 0 || plaintext.len > CMS_ENVELOPE_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "task of %zu bytes to seal: must be 1 to %d",
                          plaintext.len, CMS_ENVELOPE_MAX);
    AUTO_X509 X509 *recipient = NULL;
    TRY(ossl_parse_cert(recipient_cert, &recipient, st));
    AUTO_CMS CMS_ContentInfo *cms = MUST(CMS_AuthEnvelopedData_create(EVP_aes_256_gcm()));
    TRY(add_recipient(cms, recipient, st));
    AUTO_BIO BIO *in = MUST(BIO_new_mem_buf(plaintext.data, (int)plaintext.len));
    AUTO_DER struct der inner = {0};
    if (CMS_set_detached(cms, 0) != 1 || CMS_final(cms, in, NULL, CMS_BINARY) != 1 ||
        !OSSL_TO_DER(i2d_CMS_ContentInfo, cms, &inner))
        return ossl_fail(st, CODE_INTERNAL, "cannot encrypt an envelope");
    /* What the other side would refuse is not sent. */
    TRY(check_frame(der_bytes(&inner), st));
    return cms_sign_by(signer, CMS_CONTENT_ENVELOPE, der_bytes(&inner), ret, st);
}

enum code envelope_verify(struct bytes envelope, const struct der_list *roots, int64_t at_ms,
                          struct der *ret_inner, struct der *ret_signer, struct status *st)
{
    return cms_verify(CMS_CONTENT_ENVELOPE, envelope, NULL, roots, PURPOSE_ENVELOPE, at_ms, ret_inner,
                      ret_signer, st);
}

enum code envelope_open(struct bytes inner, const struct key *recipient_key, struct bytes recipient_cert,
                        struct der *ret_plaintext, struct status *st)
{
    AUTO_X509 X509 *recipient = NULL;
    TRY(check_frame(inner, st));
    TRY(ossl_parse_cert(recipient_cert, &recipient, st));
    const uint8_t *at = inner.data;
    AUTO_CMS CMS_ContentInfo *cms = d2i_CMS_ContentInfo(NULL, &at, (long)inner.len);
    if (!cms || at != inner.data + inner.len)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "envelope is not AuthEnvelopedData");
    if (CMS_decrypt_set1_pkey(cms, key_evp(recipient_key), recipient) != 1)
        return ossl_fail(st, CODE_FAILED_PRECONDITION, "cannot open: the envelope was made for another key");
    AUTO_BIO BIO *out = MUST(BIO_new(BIO_s_mem()));
    if (CMS_decrypt(cms, NULL, NULL, NULL, out, CMS_BINARY) != 1)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "envelope was changed: its tag does not fit");
    uint8_t *plain = NULL;
    long len = BIO_get_mem_data(out, &plain);
    if (len <= 0)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "envelope is empty");
    *ret_plaintext = der_dup((struct bytes){plain, (size_t)len});
    OPENSSL_cleanse(plain, (size_t)len);
    ossl_forget();
    return CODE_OK;
}
