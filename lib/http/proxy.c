/* See proxy.h. Strict: what a balancer never sends is refused, so that nothing is guessed about a source. */
#include "http/proxy.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/cleanup.h"

enum { COMMAND_LOCAL = 0x20, COMMAND_PROXY = 0x21 }; /* version in the high half */
enum { TCP_V4 = 0x11, TCP_V6 = 0x21, UNSPECIFIED = 0x00 };

static const uint8_t signature[12] = "\r\n\r\n\0\r\nQUIT\n";

static const struct {
    uint8_t family;
    int af;
    size_t bytes; /* both addresses and ports */
} families[] = {{TCP_V4, AF_INET, 12}, {TCP_V6, AF_INET6, 36}, {UNSPECIFIED, AF_UNSPEC, 0}};

static size_t length_of(const uint8_t *data)
{
    return (size_t)data[14] << 8 | data[15];
}

/* Type, two octets of length, value: they must fill the rest exactly. */
static bool tlvs_are_whole(const uint8_t *data, size_t len)
{
    while (len > 0) {
        if (len < 3)
            return false;
        size_t value = (size_t)data[1] << 8 | data[2];
        if (value > len - 3)
            return false;
        data += 3 + value;
        len -= 3 + value;
    }
    return true;
}

static bool source_read(const uint8_t *data, size_t len, struct proxy_source *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        if (data[13] != families[i].family)
            continue;
        const uint8_t *rest = data + PROXY_FIXED_BYTES;
        size_t left = len - PROXY_FIXED_BYTES;
        if (left < families[i].bytes)
            return false;
        if (families[i].af == AF_UNSPEC)
            return true; /* the rest is to be skipped, whatever it is */
        ret->known = data[12] == COMMAND_PROXY;
        if (!ret->known)
            return true;
        static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
        bool v4_in_v6 = families[i].af == AF_INET6 && memcmp(rest, mapped, sizeof(mapped)) == 0;
        (void)inet_ntop(v4_in_v6 ? AF_INET : families[i].af, v4_in_v6 ? rest + 12 : rest, ret->address,
                        sizeof(ret->address));
        return tlvs_are_whole(rest + families[i].bytes, left - families[i].bytes);
    }
    return false;
}

enum proxy_result proxy_parse(const uint8_t *data, size_t len, struct proxy_source *ret, size_t *ret_need)
{
    *ret = (struct proxy_source){0};
    *ret_need = PROXY_FIXED_BYTES;
    if (memcmp(data, signature, len < sizeof(signature) ? len : sizeof(signature)) != 0)
        return PROXY_MALFORMED;
    if (len > 12 && data[12] != COMMAND_LOCAL && data[12] != COMMAND_PROXY)
        return PROXY_MALFORMED;
    if (len < PROXY_FIXED_BYTES)
        return PROXY_MORE;
    *ret_need += length_of(data);
    if (*ret_need > PROXY_MAX_BYTES)
        return PROXY_MALFORMED;
    if (len < *ret_need)
        return PROXY_MORE;
    return source_read(data, *ret_need, ret) ? PROXY_COMPLETE : PROXY_MALFORMED;
}
