/* OpenSSL's error queue, parsing and naming helpers. Any thread; holds no state but one fetched digest. */
#include "pki/ossl.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/provider.h>

#include "base/clock.h"

#define RSA_MIN_BITS 2048
#define RSA_MAX_BITS 8192

enum code ossl_fail(struct status *st, enum code code, const char *fmt, ...)
{
    char msg[sizeof(st->msg)];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(msg, sizeof(msg), fmt, args);
    va_end(args);

    unsigned long first = ERR_get_error();
    const char *reason = first ? ERR_reason_error_string(first) : NULL;
    ERR_clear_error();
    if (reason)
        return status_set(st, code, "%s: %s", msg, reason);
    return status_set(st, code, "%s", msg);
}

void ossl_forget(void)
{
    ERR_clear_error();
}

static pthread_once_t digest_once = PTHREAD_ONCE_INIT;
static EVP_MD *digest_sha256;

static void fetch_digest(void)
{
    digest_sha256 = MUST(EVP_MD_fetch(NULL, "SHA2-256", NULL));
}

const EVP_MD *ossl_sha256(void)
{
    (void)pthread_once(&digest_once, fetch_digest);
    return digest_sha256;
}

/* into: where it goes; NULL: a new one. */
static enum code parse_cert(struct bytes der, X509 *into, X509 **ret, struct status *st)
{
    AUTO_X509 X509 *cert = into;
    if (der.len == 0 || der.len > CERT_MAX_BYTES)
        return status_set(st, CODE_INVALID_ARGUMENT, "certificate of %zu bytes: must be 1 to %d", der.len,
                          CERT_MAX_BYTES);
    const uint8_t *at = der.data;
    /* Not d2i_X509, which reads the extensions of what it is given to fill in. */
    if (!ASN1_item_d2i((ASN1_VALUE **)&cert, &at, (long)der.len, ASN1_ITEM_rptr(X509)))
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "not a DER certificate");
    if (at != der.data + der.len)
        return status_set(st, CODE_INVALID_ARGUMENT, "certificate followed by %zu stray bytes",
                          (size_t)(der.data + der.len - at));
    /* A certificate with an unknown kind of key is still a certificate. */
    ossl_forget();
    *ret = TAKE(cert);
    return CODE_OK;
}

enum code ossl_parse_cert(struct bytes der, X509 **ret, struct status *st)
{
    return parse_cert(der, NULL, ret, st);
}

static pthread_once_t keyless_once = PTHREAD_ONCE_INIT;
static OSSL_LIB_CTX *keyless; /* knows no kind of key, so that none is decoded */

static void make_keyless(void)
{
    keyless = MUST(OSSL_LIB_CTX_new());
    (void)MUST(OSSL_PROVIDER_load(keyless, "null"));
}

enum code ossl_parse_cert_undecoded(struct bytes der, X509 **ret, struct status *st)
{
    (void)pthread_once(&keyless_once, make_keyless);
    return parse_cert(der, MUST(X509_new_ex(keyless, NULL)), ret, st);
}

enum code ossl_parse_certs(const struct der_list *list, STACK_OF(X509) * *ret, struct status *st)
{
    AUTO_X509_STACK STACK_OF(X509) *stack = MUST(sk_X509_new_null());
    for (size_t i = 0; list && i < list->n; i++) {
        X509 *cert = NULL;
        if (ossl_parse_cert(der_bytes(&list->item[i]), &cert, st) != CODE_OK)
            return status_wrap(st, "certificate %zu of %zu", i + 1, list->n);
        if (sk_X509_push(stack, cert) <= 0)
            abort();
    }
    *ret = TAKE(stack);
    return CODE_OK;
}

enum code ossl_cert_der(const X509 *cert, struct der *ret, struct status *st)
{
    if (!OSSL_TO_DER(i2d_X509, cert, ret))
        return ossl_fail(st, CODE_INTERNAL, "cannot encode a certificate");
    return CODE_OK;
}

void ossl_name_text(const X509_NAME *name, char *out, size_t out_size)
{
    AUTO_BIO BIO *bio = MUST(BIO_new(BIO_s_mem()));
    char *text = NULL;
    long len = 0;
    if (X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0)
        len = BIO_get_mem_data(bio, &text);
    ossl_forget();
    if (len <= 0) {
        (void)snprintf(out, out_size, "(empty)");
    } else if ((size_t)len < out_size) {
        memcpy(out, text, (size_t)len);
        out[len] = '\0';
    } else {
        (void)snprintf(out, out_size, "%.*s...", (int)out_size - 4, text);
    }
}

bool ossl_time_ms(const ASN1_TIME *time, int64_t *ret_ms)
{
    struct tm tm;
    if (!time || ASN1_TIME_to_tm(time, &tm) != 1) {
        ossl_forget();
        return false;
    }
    *ret_ms = (int64_t)timegm(&tm) * 1000;
    return true;
}

/* SubjectPublicKeyInfo of an uncompressed P-256 point, up to the point (RFC 5480). */
static const uint8_t p256_prefix[] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48,
                                      0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
                                      0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00};
#define P256_POINT_SIZE 65

static pthread_once_t p256_once = PTHREAD_ONCE_INIT;
static EVP_PKEY *p256_parameters; /* the curve, without a point; only ever copied */

static void make_p256_parameters(void)
{
    char group[] = "P-256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_end(),
    };
    AUTO_EVP_PKEY_CTX EVP_PKEY_CTX *ctx = MUST(EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL));
    if (EVP_PKEY_fromdata_init(ctx) <= 0 ||
        EVP_PKEY_fromdata(ctx, &p256_parameters, EVP_PKEY_KEY_PARAMETERS, params) <= 0)
        abort();
}

/* A copy of the curve and the point put into it: a quarter of the cost of making the curve each time. The
 * point must be on it. */
static EVP_PKEY *p256_from_point(const uint8_t *point)
{
    (void)pthread_once(&p256_once, make_p256_parameters);
    AUTO_EVP_PKEY EVP_PKEY *pkey = MUST(EVP_PKEY_dup(p256_parameters));
    if (EVP_PKEY_set1_encoded_public_key(pkey, point, P256_POINT_SIZE) != 1)
        return NULL;
    return TAKE(pkey);
}

bool ossl_p256_point(struct bytes spki, struct bytes *ret)
{
    if (spki.len != sizeof(p256_prefix) + P256_POINT_SIZE ||
        memcmp(spki.data, p256_prefix, sizeof(p256_prefix)) != 0 || spki.data[sizeof(p256_prefix)] != 0x04)
        return false;
    *ret = (struct bytes){spki.data + sizeof(p256_prefix), P256_POINT_SIZE};
    return true;
}

enum code ossl_parse_spki(struct bytes der, EVP_PKEY **ret, struct status *st)
{
    if (der.len == 0 || der.len > CERT_MAX_BYTES)
        return status_set(st, CODE_INVALID_ARGUMENT, "public key of %zu bytes", der.len);
    AUTO_EVP_PKEY EVP_PKEY *pkey = NULL;
    struct bytes point;
    if (ossl_p256_point(der, &point)) {
        pkey = p256_from_point(point.data);
    } else {
        const uint8_t *at = der.data;
        pkey = d2i_PUBKEY(NULL, &at, (long)der.len);
        if (pkey && at != der.data + der.len)
            return status_set(st, CODE_INVALID_ARGUMENT, "public key followed by stray bytes");
    }
    if (!pkey)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "not a public key");
    *ret = TAKE(pkey);
    return CODE_OK;
}

static bool group_is(const EVP_PKEY *pkey, const char *name)
{
    char group[64] = "";
    size_t len = 0;
    if (EVP_PKEY_get_group_name(pkey, group, sizeof(group), &len) != 1) {
        ossl_forget();
        return false;
    }
    return strcmp(group, name) == 0;
}

enum key_type ossl_key_type(const EVP_PKEY *pkey)
{
    switch (EVP_PKEY_get_base_id(pkey)) {
    case EVP_PKEY_EC:
        if (group_is(pkey, "prime256v1"))
            return KEY_EC_P256;
        return group_is(pkey, "secp384r1") ? KEY_EC_P384 : KEY_OTHER;
    case EVP_PKEY_RSA:
        if (EVP_PKEY_get_bits(pkey) == 2048)
            return KEY_RSA_2048;
        return EVP_PKEY_get_bits(pkey) == 3072 ? KEY_RSA_3072 : KEY_OTHER;
    case EVP_PKEY_ED25519:
        return KEY_ED25519;
    default:
        return KEY_OTHER;
    }
}

void ossl_key_name(const EVP_PKEY *pkey, char out[32])
{
    char group[64] = "";
    size_t len = 0;
    switch (EVP_PKEY_get_base_id(pkey)) {
    case EVP_PKEY_EC:
        if (EVP_PKEY_get_group_name(pkey, group, sizeof(group), &len) != 1)
            (void)snprintf(group, sizeof(group), "unknown curve");
        ossl_forget();
        if (strcmp(group, "prime256v1") == 0)
            (void)snprintf(out, 32, "EC P-256");
        else if (strcmp(group, "secp384r1") == 0)
            (void)snprintf(out, 32, "EC P-384");
        else if (strcmp(group, "secp521r1") == 0)
            (void)snprintf(out, 32, "EC P-521");
        else
            (void)snprintf(out, 32, "EC %.28s", group);
        break;
    case EVP_PKEY_RSA:
        (void)snprintf(out, 32, "RSA %d", EVP_PKEY_get_bits(pkey));
        break;
    case EVP_PKEY_ED25519:
        (void)snprintf(out, 32, "Ed25519");
        break;
    default: {
        const char *name = EVP_PKEY_get0_type_name(pkey);
        (void)snprintf(out, 32, "%.31s", name ? name : "unknown");
    }
    }
}

enum code ossl_key_acceptable(const EVP_PKEY *pkey, struct status *st)
{
    enum key_type type = ossl_key_type(pkey);
    if (type != KEY_OTHER)
        return CODE_OK;
    char name[32];
    ossl_key_name(pkey, name);
    int bits = EVP_PKEY_get_bits(pkey);
    if (EVP_PKEY_get_base_id(pkey) == EVP_PKEY_RSA) {
        if (bits >= RSA_MIN_BITS && bits <= RSA_MAX_BITS)
            return CODE_OK;
        return status_set(st, CODE_INVALID_ARGUMENT, "%s key: RSA must have %d to %d bits", name,
                          RSA_MIN_BITS, RSA_MAX_BITS);
    }
    return status_set(st, CODE_INVALID_ARGUMENT,
                      "%s key: use P-256, P-384, Ed25519 or RSA of at least %d bits", name, RSA_MIN_BITS);
}

const EVP_MD *ossl_key_digest(const EVP_PKEY *pkey)
{
    switch (EVP_PKEY_get_base_id(pkey)) {
    case EVP_PKEY_ED25519:
    case EVP_PKEY_ED448:
        return NULL;
    default:
        return ossl_sha256();
    }
}
