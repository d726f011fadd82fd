/*
 * The printed bootstrap token: `clmt1.<base64url of: pin 32 | secret 32 | gateway "host:port">`.
 * Only SHA-256(secret) is ever stored. The pin is the SHA-256 of the root CA's SubjectPublicKeyInfo, so that
 * a host never trusts on first use.
 */
#ifndef CLM_PKI_TOKEN_H
#define CLM_PKI_TOKEN_H

#include "base/secret.h"
#include "base/status.h"
#include "pki/digest.h"

#define TOKEN_SECRET_SIZE      32
#define TOKEN_SECRET_TEXT_SIZE 44 /* base64url + NUL: BootstrapRequest.token_secret */
#define TOKEN_TEXT_MAX         512

struct token {
    uint8_t pin[SHA256_SIZE];
    uint8_t secret[TOKEN_SECRET_SIZE];
    char gateway[256]; /* "host:port" */
};

/* Fills in a new random secret. gateway must be host:port. */
enum code token_make(const uint8_t pin[SHA256_SIZE], const char *gateway, struct token *ret,
                     struct status *st) MUST_CHECK;
struct secret *token_print(const struct token *token);
enum code token_parse(const struct secret *text, struct token *ret, struct status *st) MUST_CHECK;
void token_wipe(struct token *token);
void token_secret_text(const struct token *token, char out[TOKEN_SECRET_TEXT_SIZE]);
/* SHA-256 of the decoded secret text; INVALID_ARGUMENT if it is not 32 bytes of base64url. */
enum code token_secret_hash(const char *secret_text, uint8_t out[SHA256_SIZE], struct status *st) MUST_CHECK;

#endif
