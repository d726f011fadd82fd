/* See cidr.h. */
#include "base/cidr.h"

#include <arpa/inet.h>
#include <string.h>

#define V4_BITS 96 /* what every mapped IPv4 address begins with: RFC 4291 section 2.5.5.2 */

static const uint8_t mapped[V4_BITS / 8] = {[10] = 0xff, [11] = 0xff};

static bool address_read(const char *text, uint8_t out[16], bool *ret_v4)
{
    memcpy(out, mapped, sizeof(mapped));
    *ret_v4 = inet_pton(AF_INET, text, out + sizeof(mapped)) == 1;
    return *ret_v4 || inet_pton(AF_INET6, text, out) == 1;
}

/* One to three digits and nothing else. */
static bool bits_read(const char *text, unsigned max, unsigned *ret)
{
    size_t len = strspn(text, "0123456789");
    *ret = 0;
    if (len == 0 || len > 3 || text[len])
        return false;
    for (; *text; text++)
        *ret = *ret * 10 + (unsigned)(*text - '0');
    return *ret <= max;
}

static bool host_bits_clear(const struct cidr *cidr)
{
    for (unsigned bit = cidr->bits; bit < 128; bit++) {
        if (cidr->address[bit / 8] & (0x80u >> (bit % 8)))
            return false;
    }
    return true;
}

bool cidr_parse(const char *text, struct cidr *ret)
{
    char address[INET6_ADDRSTRLEN];
    size_t len = strcspn(text, "/");
    bool v4;
    if (len >= sizeof(address))
        return false;
    memcpy(address, text, len);
    address[len] = '\0';
    if (!address_read(address, ret->address, &v4))
        return false;
    ret->bits = 128;
    if (!text[len])
        return true;
    if (!bits_read(text + len + 1, v4 ? 32 : 128, &ret->bits))
        return false;
    ret->bits += v4 ? V4_BITS : 0;
    return host_bits_clear(ret);
}

bool cidr_holds(const struct cidr *cidr, const char *address)
{
    uint8_t bytes[16];
    bool v4;
    if (!address_read(address, bytes, &v4) || memcmp(bytes, cidr->address, cidr->bits / 8) != 0)
        return false;
    unsigned left = cidr->bits % 8;
    return left == 0 || ((bytes[cidr->bits / 8] ^ cidr->address[cidr->bits / 8]) >> (8 - left)) == 0;
}

bool cidr_any_holds(const struct cidr *cidrs, size_t n, const char *address)
{
    for (size_t i = 0; i < n; i++) {
        if (cidr_holds(&cidrs[i], address))
            return true;
    }
    return false;
}

bool cidr_source(const char *address, uint8_t ret[16])
{
    bool v4;
    if (!address_read(address, ret, &v4)) {
        memset(ret, 0, 16);
        return false;
    }
    if (memcmp(ret, mapped, sizeof(mapped)) != 0)
        memset(ret + 8, 0, 8);
    return true;
}
