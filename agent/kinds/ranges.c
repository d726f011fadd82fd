/* See ranges.h. */
#include "kinds/ranges.h"

#include <arpa/inet.h>
#include <string.h>

#include "kinds/confine.h"

const unsigned range_default_ports[] = {443, 8443, 465, 587, 25, 636, 389, 993, 143, 995, 110, 5432, 0};

bool range_is_name(const char *text)
{
    size_t len = strlen(text);
    return len > 0 && len <= 253 && !strchr(text, ':') && text[0] != '.' && text[0] != '-' &&
           text[strspn(text, "0123456789./")] != 0 &&
           !text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.")];
}

static enum code add(const char *text, struct arena *arena, const char ***list, size_t *n, struct status *st)
{
    if (*n >= RANGES_ADDRESSES_MAX)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "the ranges hold more than %d addresses",
                          RANGES_ADDRESSES_MAX);
    ARENA_PUSH(arena, *list, *n, arena_strdup(arena, text));
    return CODE_OK;
}

/* Counts up in the last `bits` bits. */
static bool next_address(uint8_t *bytes, size_t len, unsigned bits)
{
    for (size_t i = len; i-- > 0 && bits > 0; bits -= bits > 8 ? 8 : bits) {
        unsigned mask = bits >= 8 ? 0xffu : (1u << bits) - 1;
        unsigned up = (bytes[i] & mask) + 1;
        bytes[i] = (uint8_t)((bytes[i] & ~mask) | (up & mask));
        if (up <= mask)
            return true;
    }
    return false;
}

enum code range_expand(const char *range, struct arena *arena, const char ***list, size_t *n,
                       struct status *st)
{
    uint8_t bytes[16];
    char text[INET6_ADDRSTRLEN];
    const char *slash = strchr(range, '/');
    int family = strchr(range, ':') ? AF_INET6 : AF_INET;
    size_t len = family == AF_INET6 ? 16 : 4, head = slash ? (size_t)(slash - range) : strlen(range);
    if (range_is_name(range))
        return add(range, arena, list, n, st);
    unsigned long prefix = len * 8;
    bool number =
        !slash || (slash[1] && strlen(slash + 1) <= 3 && !slash[1 + strspn(slash + 1, "0123456789")]);
    if (slash && number)
        prefix = strtoul(slash + 1, NULL, 10);
    if (head >= sizeof(text) || !number || prefix > len * 8)
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.80s\" is neither an address nor a range nor a name",
                          range);
    memcpy(text, range, head);
    text[head] = 0;
    if (inet_pton(family, text, bytes) != 1)
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.80s\" is neither an address nor a range nor a name",
                          range);
    unsigned bits = (unsigned)(len * 8 - prefix);
    if (bits > 16)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "%.80s holds more than %d addresses: name parts of it",
                          range, RANGES_ADDRESSES_MAX);
    /* From the first of the range, whichever of it was written. */
    for (unsigned i = 0; i < bits; i++)
        bytes[len - 1 - i / 8] &= (uint8_t) ~(1u << i % 8);
    do {
        if (!inet_ntop(family, bytes, text, sizeof(text)))
            return status_set(st, CODE_INTERNAL, "cannot write an address");
        TRY(add(text, arena, list, n, st));
    } while (next_address(bytes, len, bits));
    return CODE_OK;
}
