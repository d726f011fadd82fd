/* A PROXY header as a balancer sends it, whole and byte by byte: both must say the same. */
#include <stdlib.h>
#include <string.h>

#include "base/cidr.h"
#include "http/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_source whole, part;
    size_t need, need_part = PROXY_FIXED_BYTES;
    enum proxy_result result = proxy_parse(data, size, &whole, &need), last = PROXY_MORE;
    struct cidr cidr;

    if (result == PROXY_COMPLETE && (need > size || need > PROXY_MAX_BYTES))
        abort();
    if (result == PROXY_COMPLETE && whole.known && !cidr_parse(whole.address, &cidr))
        abort();
    size_t len = 0;
    while (last == PROXY_MORE && len < size)
        last = proxy_parse(data, ++len, &part, &need_part);
    if (last != PROXY_MORE && last != result)
        abort();
    if (last == PROXY_COMPLETE && (len != need || strcmp(part.address, whole.address) != 0))
        abort();
    return 0;
}
