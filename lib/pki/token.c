/* The printed bootstrap token. Secrets pass through wiped buffers only. */
#include "pki/token.h"

#include <ctype.h>
#include <string.h>

#include <arpa/inet.h>

#include "base/endpoint.h"
#include "base/id.h"
#include "pki/ossl.h"

#define PREFIX      "clmt1."
#define PREFIX_LEN  (sizeof(PREFIX) - 1)
#define GATEWAY_MAX (sizeof(((struct token *)0)->gateway) - 1)
#define RAW_MAX     (SHA256_SIZE + TOKEN_SECRET_SIZE + GATEWAY_MAX)

/* "name:443", "192.0.2.1:443" or "[2001:db8::1]:443". */
static bool gateway_valid(const char *gateway)
{
    struct endpoint at;
    struct in6_addr addr;
    if (endpoint_split(gateway, &at, NULL) != CODE_OK || strrchr(gateway, ':')[1] == '0')
        return false;
    if (gateway[0] == '[')
        return inet_pton(AF_INET6, at.host, &addr) == 1;
    if (inet_pton(AF_INET, at.host, &addr) == 1)
        return true;
    for (char *c = at.host; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return at.host[0] != '*' && name_is_dns(at.host);
}

enum code token_make(const uint8_t pin[SHA256_SIZE], const char *gateway, struct token *ret,
                     struct status *st)
{
    if (strlen(gateway) > GATEWAY_MAX || !gateway_valid(gateway))
        return status_set(st, CODE_INVALID_ARGUMENT, "gateway address \"%.80s\": must be host:port", gateway);
    memset(ret, 0, sizeof(*ret));
    memcpy(ret->pin, pin, SHA256_SIZE);
    random_bytes(ret->secret, sizeof(ret->secret));
    (void)snprintf(ret->gateway, sizeof(ret->gateway), "%s", gateway);
    return CODE_OK;
}

struct secret *token_print(const struct token *token)
{
    uint8_t raw[RAW_MAX];
    char text[TOKEN_TEXT_MAX] = PREFIX;
    size_t gateway_len = strlen(token->gateway);
    memcpy(raw, token->pin, SHA256_SIZE);
    memcpy(raw + SHA256_SIZE, token->secret, TOKEN_SECRET_SIZE);
    memcpy(raw + SHA256_SIZE + TOKEN_SECRET_SIZE, token->gateway, gateway_len);
    size_t len = base64url_encode(raw, SHA256_SIZE + TOKEN_SECRET_SIZE + gateway_len, text + PREFIX_LEN,
                                  sizeof(text) - PREFIX_LEN);
    struct secret *printed = secret_dup(text, PREFIX_LEN + len);
    OPENSSL_cleanse(raw, sizeof(raw));
    OPENSSL_cleanse(text, sizeof(text));
    return printed;
}

static enum code decode(const uint8_t *raw, size_t len, struct token *ret, struct status *st)
{
    if (len <= SHA256_SIZE + TOKEN_SECRET_SIZE)
        return status_set(st, CODE_INVALID_ARGUMENT, "bootstrap token is too short: was it cut off?");
    size_t gateway_len = len - SHA256_SIZE - TOKEN_SECRET_SIZE;
    const uint8_t *gateway = raw + SHA256_SIZE + TOKEN_SECRET_SIZE;
    if (gateway_len > GATEWAY_MAX || memchr(gateway, '\0', gateway_len))
        return status_set(st, CODE_INVALID_ARGUMENT, "bootstrap token holds no gateway address");
    memcpy(ret->pin, raw, SHA256_SIZE);
    memcpy(ret->secret, raw + SHA256_SIZE, TOKEN_SECRET_SIZE);
    memcpy(ret->gateway, gateway, gateway_len);
    ret->gateway[gateway_len] = '\0';
    if (!gateway_valid(ret->gateway))
        return status_set(st, CODE_INVALID_ARGUMENT, "bootstrap token holds no gateway address");
    return CODE_OK;
}

enum code token_parse(const struct secret *text, struct token *ret, struct status *st)
{
    uint8_t raw[RAW_MAX];
    size_t len = 0;
    memset(ret, 0, sizeof(*ret));
    if (text->len <= PREFIX_LEN || memcmp(text->data, PREFIX, PREFIX_LEN) != 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "not a bootstrap token: it must begin with \"%s\"",
                          PREFIX);
    if (text->len >= TOKEN_TEXT_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "bootstrap token is longer than %d characters",
                          TOKEN_TEXT_MAX - 1);
    enum code code = CODE_INVALID_ARGUMENT;
    if (base64url_decode((const char *)text->data + PREFIX_LEN, text->len - PREFIX_LEN, raw, sizeof(raw),
                         &len))
        code = decode(raw, len, ret, st);
    else
        (void)status_set(st, code, "bootstrap token is damaged: not base64url");
    OPENSSL_cleanse(raw, sizeof(raw));
    if (code != CODE_OK)
        token_wipe(ret);
    return code;
}

void token_wipe(struct token *token)
{
    OPENSSL_cleanse(token, sizeof(*token));
}

void token_secret_text(const struct token *token, char out[TOKEN_SECRET_TEXT_SIZE])
{
    (void)base64url_encode(token->secret, sizeof(token->secret), out, TOKEN_SECRET_TEXT_SIZE);
}

enum code token_secret_hash(const char *secret_text, uint8_t out[SHA256_SIZE], struct status *st)
{
    uint8_t secret[TOKEN_SECRET_SIZE];
    size_t len = 0;
    size_t text_len = strnlen(secret_text, TOKEN_SECRET_TEXT_SIZE);
    bool good = text_len == TOKEN_SECRET_TEXT_SIZE - 1 &&
                base64url_decode(secret_text, text_len, secret, sizeof(secret), &len) &&
                len == sizeof(secret);
    if (good)
        sha256((struct bytes){secret, sizeof(secret)}, out);
    OPENSSL_cleanse(secret, sizeof(secret));
    if (!good)
        return status_set(st, CODE_INVALID_ARGUMENT, "token secret is not %d bytes of base64url",
                          TOKEN_SECRET_SIZE);
    return CODE_OK;
}
