/* SHA-256, through OpenSSL. */
#ifndef CLM_PKI_DIGEST_H
#define CLM_PKI_DIGEST_H

#include "pki/der.h"

#define SHA256_SIZE     32
#define SHA256_HEX_SIZE 65

void sha256(struct bytes data, uint8_t out[SHA256_SIZE]);
void sha256_hex(struct bytes data, char out[SHA256_HEX_SIZE]);

/* Incremental, for what is larger than memory. */
struct sha256_ctx;
struct sha256_ctx *sha256_ctx_new(void);
void sha256_ctx_add(struct sha256_ctx *ctx, struct bytes data);
void sha256_ctx_free(struct sha256_ctx *ctx, uint8_t out[SHA256_SIZE]); /* out may be NULL */

#endif
