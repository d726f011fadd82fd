/*
 * Private to lib/pki: what every file here does with OpenSSL. Its objects never leave this library; its error
 * queue is read and emptied in one function only.
 */
#ifndef CLM_PKI_OSSL_H
#define CLM_PKI_OSSL_H

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/cms.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "pki/cert.h"

static inline void x509_stack_free(STACK_OF(X509) * stack)
{
    sk_X509_pop_free(stack, X509_free);
}
static inline void extensions_free(X509_EXTENSIONS *list)
{
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
}
static inline void general_names_free(GENERAL_NAMES *names)
{
    GENERAL_NAMES_free(names);
}
static inline void ossl_mem_free(uint8_t *p)
{
    OPENSSL_free(p);
}

DEFINE_CLEANUP(x509, X509 *, X509_free)
DEFINE_CLEANUP(x509_req, X509_REQ *, X509_REQ_free)
DEFINE_CLEANUP(x509_store, X509_STORE *, X509_STORE_free)
DEFINE_CLEANUP(x509_store_ctx, X509_STORE_CTX *, X509_STORE_CTX_free)
DEFINE_CLEANUP(x509_stack, STACK_OF(X509) *, x509_stack_free)
DEFINE_CLEANUP(x509_name, X509_NAME *, X509_NAME_free)
DEFINE_CLEANUP(evp_pkey, EVP_PKEY *, EVP_PKEY_free)
DEFINE_CLEANUP(evp_pkey_ctx, EVP_PKEY_CTX *, EVP_PKEY_CTX_free)
DEFINE_CLEANUP(evp_md_ctx, EVP_MD_CTX *, EVP_MD_CTX_free)
DEFINE_CLEANUP(bio, BIO *, BIO_free_all)
DEFINE_CLEANUP(bn, BIGNUM *, BN_free)
DEFINE_CLEANUP(cms, CMS_ContentInfo *, CMS_ContentInfo_free)
DEFINE_CLEANUP(asn1_object, ASN1_OBJECT *, ASN1_OBJECT_free)
DEFINE_CLEANUP(extensions, X509_EXTENSIONS *, extensions_free)
DEFINE_CLEANUP(general_names, GENERAL_NAMES *, general_names_free)
DEFINE_CLEANUP(ossl_mem, uint8_t *, ossl_mem_free)

#define AUTO_X509           CLEANUP(cleanup_x509)
#define AUTO_X509_REQ       CLEANUP(cleanup_x509_req)
#define AUTO_X509_STORE     CLEANUP(cleanup_x509_store)
#define AUTO_X509_STORE_CTX CLEANUP(cleanup_x509_store_ctx)
#define AUTO_X509_STACK     CLEANUP(cleanup_x509_stack)
#define AUTO_X509_NAME      CLEANUP(cleanup_x509_name)
#define AUTO_EVP_PKEY       CLEANUP(cleanup_evp_pkey)
#define AUTO_EVP_PKEY_CTX   CLEANUP(cleanup_evp_pkey_ctx)
#define AUTO_EVP_MD_CTX     CLEANUP(cleanup_evp_md_ctx)
#define AUTO_BIO            CLEANUP(cleanup_bio)
#define AUTO_BN             CLEANUP(cleanup_bn)
#define AUTO_CMS            CLEANUP(cleanup_cms)
#define AUTO_ASN1_OBJECT    CLEANUP(cleanup_asn1_object)
#define AUTO_EXTENSIONS     CLEANUP(cleanup_extensions)
#define AUTO_GENERAL_NAMES  CLEANUP(cleanup_general_names)
#define AUTO_OSSL_MEM       CLEANUP(cleanup_ossl_mem)

/* For calls that fail only when memory is out. */
#define MUST(expr)                                                                                           \
    __extension__({                                                                                          \
        __typeof__(expr) must_ = (expr);                                                                     \
        if (!must_)                                                                                          \
            abort();                                                                                         \
        must_;                                                                                               \
    })

/* OpenSSL object → struct der through its i2d function; false if OpenSSL cannot encode it. */
#define OSSL_TO_DER(i2d, obj, ret)                                                                           \
    __extension__({                                                                                          \
        int to_der_len_ = i2d((obj), NULL);                                                                  \
        bool to_der_ok_ = to_der_len_ > 0;                                                                   \
        if (to_der_ok_) {                                                                                    \
            uint8_t *to_der_at_ = MUST(malloc((size_t)to_der_len_));                                         \
            (ret)->data = to_der_at_;                                                                        \
            (ret)->len = (size_t)to_der_len_;                                                                \
            to_der_ok_ = i2d((obj), &to_der_at_) == to_der_len_;                                             \
        }                                                                                                    \
        to_der_ok_;                                                                                          \
    })

/* Status from the message and the first (deepest) reason in OpenSSL's queue, which is empty afterwards. */
enum code ossl_fail(struct status *st, enum code code, const char *fmt, ...) PRINTF(3, 4);
/* Empties the queue after a failure that is an answer and no error. */
void ossl_forget(void);

/* SHA-256, fetched once a process. */
const EVP_MD *ossl_sha256(void);

/* One certificate, whole: at most CERT_MAX_BYTES, nothing after it. */
enum code ossl_parse_cert(struct bytes der, X509 **ret, struct status *st) MUST_CHECK;
/* Its key cannot be had: several times as fast. */
enum code ossl_parse_cert_undecoded(struct bytes der, X509 **ret, struct status *st) MUST_CHECK;
enum code ossl_parse_certs(const struct der_list *list, STACK_OF(X509) * *ret, struct status *st) MUST_CHECK;
enum code ossl_cert_der(const X509 *cert, struct der *ret, struct status *st) MUST_CHECK;
/* "CN=…,O=…" (RFC 4514), cut with "..." if longer; "(empty)" for an empty name. */
void ossl_name_text(const X509_NAME *name, char *out, size_t out_size);
/* Unix milliseconds; false if the time is malformed. */
bool ossl_time_ms(const ASN1_TIME *time, int64_t *ret_ms);

/* Whether it is a SubjectPublicKeyInfo of P-256 with an uncompressed point, which need not be on the curve.
 */
bool ossl_p256_point(struct bytes spki, struct bytes *ret);
/* SubjectPublicKeyInfo → key. P-256 points take a way past OpenSSL's decoder, which costs seven times more.
 */
enum code ossl_parse_spki(struct bytes der, EVP_PKEY **ret, struct status *st) MUST_CHECK;
/* "EC P-256", "RSA 2048", "Ed25519" … */
void ossl_key_name(const EVP_PKEY *pkey, char out[32]);
enum key_type ossl_key_type(const EVP_PKEY *pkey);
/* OK for P-256, P-384, RSA of 2,048 to 8,192 bits and Ed25519; INVALID_ARGUMENT for the rest. */
enum code ossl_key_acceptable(const EVP_PKEY *pkey, struct status *st) MUST_CHECK;
/* Digest for signatures made with this key; NULL for Ed25519. */
const EVP_MD *ossl_key_digest(const EVP_PKEY *pkey);

/* lib/pki/key.c */
struct key *key_wrap(EVP_PKEY *pkey /* taken */);

/* lib/pki/names.c: subjectAltName ⇄ struct pki_names. */
enum code names_to_san(const struct pki_names *names, GENERAL_NAMES **ret, struct status *st) MUST_CHECK;
/* Strict: every entry must be a valid DNS name, URI or IP address, within the limits. */
enum code names_from_san_strict(const GENERAL_NAMES *san, struct pki_names *ret,
                                struct status *st) MUST_CHECK;
/* Lenient, for other people's certificates: what is no printable name is left out, as is what passes the
 * limits. */
void names_from_san_lenient(const GENERAL_NAMES *san, struct pki_names *ret);
bool name_is_dns(
    const char *name); /* lower-case LDH labels, wildcard as left-most label only (RFC 1123, RFC 6125) */

/* lib/pki/chain.c: as chain_verify, over parsed certificates. *ret_until_ms (may be NULL): the earliest end
 * in the chain that was built. */
enum code chain_verify_x509(X509 *leaf, STACK_OF(X509) * intermediates, const STACK_OF(X509) * roots,
                            enum pki_purpose purpose, int64_t at_ms, int64_t *ret_until_ms,
                            struct status *st) MUST_CHECK;
/* Key usage, EKU and (own purposes) SPIFFE id of a leaf. */
enum code purpose_check(X509 *leaf, enum pki_purpose purpose, struct status *st) MUST_CHECK;
/* Whether `at_ms` lies within the certificate's life. */
enum code validity_check(const X509 *cert, int64_t at_ms, struct status *st) MUST_CHECK;

/* lib/pki/spiffe.c */
enum code spiffe_of_x509(const X509 *cert, struct spiffe_id *ret, struct status *st) MUST_CHECK;

/* lib/pki/oids.c: the one table of our own object identifiers. */
ASN1_OBJECT *oid_of_purpose(enum pki_purpose purpose); /* caller frees; NULL for PURPOSE_ANY */
bool purpose_is_own(enum pki_purpose purpose);

/* lib/pki/strict.c: DER as X.690 section 10 wants it, read before OpenSSL does. */
/* Definite, minimal lengths, primitive strings, exactly one element and nothing after it, at most 24 deep and
 * 4,096 elements. */
enum code strict_check(struct bytes der, const char *what, struct status *st) MUST_CHECK;
enum { /* identifier octets */
       DER_INTEGER = 0x02,
       DER_BIT_STRING = 0x03,
       DER_OCTET_STRING = 0x04,
       DER_OID = 0x06,
       DER_SEQUENCE = 0x30,
       DER_SET = 0x31,
       DER_CONTEXT_0 = 0x80,
       DER_CONTEXT_0_CONSTRUCTED = 0xa0,
       DER_CONTEXT_1_CONSTRUCTED = 0xa1,
};
/* Takes the next bytes off *at if they are exactly these. */
bool strict_exact(struct bytes *at, const uint8_t *wanted, size_t len);
/* Takes the next element off *at, whose identifier octet (class, form, tag) must be this one; ret_body and
 * ret_whole may be NULL and are borrowed. */
bool strict_next(struct bytes *at, uint8_t identifier, struct bytes *ret_body, struct bytes *ret_whole);

#endif
