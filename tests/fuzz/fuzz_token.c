/* A bootstrap token as somebody pasted it. What is accepted names a gateway and survives printing. */
#include <stdlib.h>
#include <string.h>

#include "pki/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct status st;
    struct token token;
    struct token back;
    AUTO_SECRET struct secret *text = secret_dup(data, size);
    if (token_parse(text, &token, &st) == CODE_OK) {
        if (!strchr(token.gateway, ':') || strpbrk(token.gateway, " \r\n/@"))
            abort();
        AUTO_SECRET struct secret *printed = token_print(&token);
        if (token_parse(printed, &back, &st) != CODE_OK || memcmp(&back, &token, sizeof(back)) != 0)
            abort();
    }
    uint8_t hash[SHA256_SIZE];
    char line[128];
    size_t len = size < sizeof(line) - 1 ? size : sizeof(line) - 1;
    if (len > 0)
        memcpy(line, data, len);
    line[len] = '\0';
    if (token_secret_hash(line, hash, &st) == CODE_OK && strlen(line) != TOKEN_SECRET_TEXT_SIZE - 1)
        abort();
    return 0;
}
