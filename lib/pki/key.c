/*
 * Private keys over EVP_PKEY. Encodings live in struct secret or OpenSSL's own buffers that it wipes.
 * A key is used by one thread at a time.
 */
#include "pki/key.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>

#include "pki/ossl.h"

#define SECURE_BYTES  (64 * 1024)
#define SECURE_LEAST  32
#define KEY_MAX_BYTES (64 * 1024)
/* 16 MiB of memory a try: what OpenSSL reads back without being told to allow more. */
#define SCRYPT_N 16384
#define SCRYPT_R 8
#define SCRYPT_P 1

struct key {
    EVP_PKEY *evp;
};

static const struct {
    const char *algorithm; /* as EVP_PKEY_Q_keygen names it; NULL: not one to be made */
    const char *curve;
    size_t bits;
} kinds[] = {
    [KEY_EC_P256] = {"EC", "P-256", 0},   [KEY_EC_P384] = {"EC", "P-384", 0},
    [KEY_RSA_2048] = {"RSA", NULL, 2048}, [KEY_RSA_3072] = {"RSA", NULL, 3072},
    [KEY_ED25519] = {"ED25519", NULL, 0}, [KEY_OTHER] = {NULL, NULL, 0},
};
_Static_assert(ARRAY_LEN(kinds) == KEY_OTHER + 1, "a row for each key type");

void key_lock_memory(void)
{
    /* Room for some twenty RSA keys; OpenSSL fails, and does not fall back, when it is full. */
    (void)CRYPTO_secure_malloc_init(SECURE_BYTES, SECURE_LEAST);
}

struct key *key_wrap(EVP_PKEY *pkey)
{
    struct key *key = MUST(malloc(sizeof(*key)));
    key->evp = pkey;
    return key;
}

enum code key_generate(enum key_type type, struct key **ret, struct status *st)
{
    EVP_PKEY *pkey = NULL;
    if (!kinds[type].algorithm)
        return status_set(st, CODE_INVALID_ARGUMENT, "no key of that type can be made");
    if (kinds[type].curve)
        pkey = EVP_PKEY_Q_keygen(NULL, NULL, kinds[type].algorithm, kinds[type].curve);
    else if (kinds[type].bits)
        pkey = EVP_PKEY_Q_keygen(NULL, NULL, kinds[type].algorithm, kinds[type].bits);
    else
        pkey = EVP_PKEY_Q_keygen(NULL, NULL, kinds[type].algorithm);
    if (!pkey)
        return ossl_fail(st, CODE_INTERNAL, "cannot make a key");
    *ret = key_wrap(pkey);
    return CODE_OK;
}

void key_free(struct key *key)
{
    if (!key)
        return;
    EVP_PKEY_free(key->evp);
    free(key);
}

enum key_type key_type(const struct key *key)
{
    return ossl_key_type(key->evp);
}

struct evp_pkey_st *key_evp(const struct key *key)
{
    return key->evp;
}

DEFINE_CLEANUP(p8, PKCS8_PRIV_KEY_INFO *, PKCS8_PRIV_KEY_INFO_free)
DEFINE_CLEANUP(x509_sig, X509_SIG *, X509_SIG_free)

static bool write_encrypted(BIO *bio, PKCS8_PRIV_KEY_INFO *p8, const struct secret *passphrase)
{
    X509_ALGOR *pbe = PKCS5_pbe2_set_scrypt(EVP_aes_256_cbc(), NULL, 16, NULL, SCRYPT_N, SCRYPT_R, SCRYPT_P);
    if (!pbe)
        return false;
    CLEANUP(cleanup_x509_sig)
    X509_SIG *sig = PKCS8_set0_pbe((const char *)passphrase->data, (int)passphrase->len, p8, pbe);
    if (!sig) {
        X509_ALGOR_free(pbe);
        return false;
    }
    return PEM_write_bio_PKCS8(bio, sig) == 1;
}

enum code key_to_pem(const struct key *key, const struct secret *passphrase, struct secret **ret,
                     struct status *st)
{
    if (passphrase && (passphrase->len == 0 || passphrase->len > 1024))
        return status_set(st, CODE_INVALID_ARGUMENT, "passphrase of %zu bytes: must be 1 to 1024",
                          passphrase->len);
    /* Wiped when freed, as a plain memory BIO is not. */
    AUTO_BIO BIO *bio = MUST(BIO_new(BIO_s_secmem()));
    CLEANUP(cleanup_p8) PKCS8_PRIV_KEY_INFO *p8 = EVP_PKEY2PKCS8(key->evp);
    bool done = p8 && (passphrase ? write_encrypted(bio, p8, passphrase)
                                  : PEM_write_bio_PKCS8_PRIV_KEY_INFO(bio, p8) == 1);
    char *pem = NULL;
    long len = done ? BIO_get_mem_data(bio, &pem) : 0;
    if (len <= 0)
        return ossl_fail(st, CODE_INTERNAL, "cannot encode a private key");
    *ret = secret_dup(pem, (size_t)len);
    return CODE_OK;
}

struct asked {
    const struct secret *passphrase;
    bool asked;
};

static int on_passphrase(char *out, int size, int writing UNUSED, void *arg)
{
    struct asked *asked = arg;
    asked->asked = true;
    if (!asked->passphrase || asked->passphrase->len > (size_t)size)
        return -1;
    memcpy(out, asked->passphrase->data, asked->passphrase->len);
    return (int)asked->passphrase->len;
}

static bool looks_like_pem(const struct secret *encoded)
{
    static const char begin[] = "-----BEGIN ";
    return memmem(encoded->data, encoded->len, begin, sizeof(begin) - 1) != NULL;
}

static EVP_PKEY *parse_der(BIO *bio, const struct secret *encoded, struct asked *asked)
{
    const uint8_t *at = encoded->data;
    EVP_PKEY *pkey = d2i_AutoPrivateKey(NULL, &at, (long)encoded->len);
    if (pkey && at != encoded->data + encoded->len) {
        EVP_PKEY_free(pkey);
        return NULL;
    }
    if (pkey)
        return pkey;
    ossl_forget();
    pkey = d2i_PKCS8PrivateKey_bio(bio, NULL, on_passphrase, asked);
    if (pkey && BIO_pending(bio) != 0) {
        EVP_PKEY_free(pkey);
        return NULL;
    }
    return pkey;
}

enum code key_parse(const struct secret *encoded, const struct secret *passphrase, struct key **ret,
                    struct status *st)
{
    if (encoded->len == 0 || encoded->len > KEY_MAX_BYTES)
        return status_set(st, CODE_INVALID_ARGUMENT, "private key of %zu bytes: must be 1 to %d",
                          encoded->len, KEY_MAX_BYTES);
    struct asked asked = {passphrase, false};
    AUTO_BIO BIO *bio = MUST(BIO_new_mem_buf(encoded->data, (int)encoded->len));
    EVP_PKEY *pkey = looks_like_pem(encoded) ? PEM_read_bio_PrivateKey(bio, NULL, on_passphrase, &asked)
                                             : parse_der(bio, encoded, &asked);
    if (pkey) {
        ossl_forget();
        *ret = key_wrap(pkey);
        return CODE_OK;
    }
    ossl_forget();
    if (asked.asked && !passphrase)
        return status_set(st, CODE_PERMISSION_DENIED, "private key is encrypted and no passphrase was given");
    if (asked.asked)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "private key does not open: wrong passphrase, or damaged");
    return status_set(st, CODE_INVALID_ARGUMENT, "not a private key in PEM or DER");
}

enum code key_spki(const struct key *key, struct der *ret, struct status *st)
{
    if (!OSSL_TO_DER(i2d_PUBKEY, key->evp, ret))
        return ossl_fail(st, CODE_INTERNAL, "cannot encode a public key");
    return CODE_OK;
}

bool key_matches_cert(const struct key *key, struct bytes cert_der)
{
    AUTO_X509 X509 *cert = NULL;
    struct status st;
    if (ossl_parse_cert(cert_der, &cert, &st) != CODE_OK)
        return false;
    EVP_PKEY *pkey = X509_get0_pubkey(cert);
    bool match = pkey && EVP_PKEY_eq(key->evp, pkey) == 1;
    ossl_forget();
    return match;
}

enum code key_sign(const struct key *key, struct bytes data, struct der *ret, struct status *st)
{
    AUTO_EVP_MD_CTX EVP_MD_CTX *ctx = MUST(EVP_MD_CTX_new());
    size_t len = 0;
    if (EVP_DigestSignInit(ctx, NULL, ossl_key_digest(key->evp), NULL, key->evp) != 1 ||
        EVP_DigestSign(ctx, NULL, &len, data.data, data.len) != 1)
        return ossl_fail(st, CODE_INTERNAL, "cannot sign");
    AUTO_DER struct der signature = {MUST(malloc(len)), len};
    if (EVP_DigestSign(ctx, signature.data, &signature.len, data.data, data.len) != 1)
        return ossl_fail(st, CODE_INTERNAL, "cannot sign");
    *ret = (struct der){TAKE(signature.data), signature.len};
    return CODE_OK;
}
