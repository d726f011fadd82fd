/* Pure functions; any thread. */
#include "pki/password.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <string.h>

#include "base/id.h"
#include "pki/ossl.h"

#define LOG2_N     15 /* N = 32,768 */
#define BLOCK      8
#define PARALLEL   1
#define SALT_SIZE  16
#define HASH_SIZE  32
#define MEMORY_MAX (64u * 1024 * 1024)

static bool derive(struct bytes password, const uint8_t salt[SALT_SIZE], unsigned log2_n, unsigned block,
                   unsigned parallel, uint8_t out[HASH_SIZE])
{
    EVP_KDF *kdf = MUST(EVP_KDF_fetch(NULL, "SCRYPT", NULL));
    EVP_KDF_CTX *ctx = MUST(EVP_KDF_CTX_new(kdf));
    uint64_t n = UINT64_C(1) << log2_n, memory = MEMORY_MAX;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD, (void *)(uintptr_t)password.data,
                                          password.len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)salt, SALT_SIZE),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &n),
        OSSL_PARAM_construct_uint(OSSL_KDF_PARAM_SCRYPT_R, &block),
        OSSL_PARAM_construct_uint(OSSL_KDF_PARAM_SCRYPT_P, &parallel),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_MAXMEM, &memory),
        OSSL_PARAM_construct_end(),
    };
    bool ok = EVP_KDF_derive(ctx, out, HASH_SIZE, params) == 1;
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return ok;
}

enum code password_hash(struct bytes password, char out[PASSWORD_HASH_SIZE], struct status *st)
{
    uint8_t salt[SALT_SIZE], hash[HASH_SIZE];
    char salt_text[32], hash_text[48];
    random_bytes(salt, sizeof(salt));
    if (!derive(password, salt, LOG2_N, BLOCK, PARALLEL, hash))
        return ossl_fail(st, CODE_INTERNAL, "scrypt");
    (void)base64url_encode(salt, sizeof(salt), salt_text, sizeof(salt_text));
    (void)base64url_encode(hash, sizeof(hash), hash_text, sizeof(hash_text));
    (void)snprintf(out, PASSWORD_HASH_SIZE, "scrypt$%d$%d$%d$%s$%s", LOG2_N, BLOCK, PARALLEL, salt_text,
                   hash_text);
    OPENSSL_cleanse(hash, sizeof(hash));
    return CODE_OK;
}

struct parsed {
    unsigned log2_n, block, parallel;
    uint8_t salt[SALT_SIZE], hash[HASH_SIZE];
};

static bool parse(const char *text, struct parsed *ret)
{
    char salt[32], hash[48];
    size_t n;
    int end = 0;
    /* NOLINTNEXTLINE(cert-err34-c): the ranges are checked below, and what does not fit them is no hash. */
    if (sscanf(text, "scrypt$%2u$%2u$%2u$%31[^$]$%47s%n", &ret->log2_n, &ret->block, &ret->parallel, salt,
               hash, &end) != 5 ||
        text[end] != '\0')
        return false;
    return ret->log2_n >= 14 && ret->log2_n <= LOG2_N && ret->block == BLOCK && ret->parallel >= 1 &&
           ret->parallel <= 4 && base64url_decode(salt, strlen(salt), ret->salt, sizeof(ret->salt), &n) &&
           n == SALT_SIZE && base64url_decode(hash, strlen(hash), ret->hash, sizeof(ret->hash), &n) &&
           n == HASH_SIZE;
}

bool password_right(struct bytes password, const char *hash)
{
    struct parsed parsed = {.log2_n = LOG2_N, .block = BLOCK, .parallel = PARALLEL};
    bool known = hash && parse(hash, &parsed);
    if (hash && !known)
        parsed = (struct parsed){.log2_n = LOG2_N, .block = BLOCK, .parallel = PARALLEL};
    uint8_t derived[HASH_SIZE];
    if (!derive(password, parsed.salt, parsed.log2_n, parsed.block, parsed.parallel, derived)) {
        ossl_forget();
        return false;
    }
    bool equal = CRYPTO_memcmp(derived, parsed.hash, HASH_SIZE) == 0;
    OPENSSL_cleanse(derived, sizeof(derived));
    return equal && known;
}
