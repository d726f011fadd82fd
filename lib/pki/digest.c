/* SHA-256 in one go and in pieces. */
#include "pki/digest.h"

#include "base/id.h"
#include "pki/ossl.h"

struct sha256_ctx {
    EVP_MD_CTX *md;
};

void sha256(struct bytes data, uint8_t out[SHA256_SIZE])
{
    if (EVP_Digest(data.data, data.len, out, NULL, ossl_sha256(), NULL) != 1)
        abort();
}

void sha256_hex(struct bytes data, char out[SHA256_HEX_SIZE])
{
    uint8_t digest[SHA256_SIZE];
    sha256(data, digest);
    hex_encode(digest, sizeof(digest), out);
}

struct sha256_ctx *sha256_ctx_new(void)
{
    struct sha256_ctx *ctx = MUST(malloc(sizeof(*ctx)));
    ctx->md = MUST(EVP_MD_CTX_new());
    if (EVP_DigestInit_ex(ctx->md, ossl_sha256(), NULL) != 1)
        abort();
    return ctx;
}

void sha256_ctx_add(struct sha256_ctx *ctx, struct bytes data)
{
    if (EVP_DigestUpdate(ctx->md, data.data, data.len) != 1)
        abort();
}

void sha256_ctx_free(struct sha256_ctx *ctx, uint8_t out[SHA256_SIZE])
{
    if (!ctx)
        return;
    if (out && EVP_DigestFinal_ex(ctx->md, out, NULL) != 1)
        abort();
    EVP_MD_CTX_free(ctx->md);
    free(ctx);
}
