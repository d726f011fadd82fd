/* Address ranges, "10.1.0.0/16", "2001:db8::/32". Pure; IPv4 is kept as its mapped IPv6 form. */
#ifndef CLM_BASE_CIDR_H
#define CLM_BASE_CIDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cidr {
    uint8_t address[16];
    unsigned bits; /* of the 128 */
};

/* With a prefix length, or a lone address for just itself. False for anything else, also for host bits that
 * are set: "10.1.2.3/16" is more likely a mistake than a range. */
bool cidr_parse(const char *text, struct cidr *ret);
/* The textual address; false if it is none. */
bool cidr_holds(const struct cidr *cidr, const char *address);
bool cidr_any_holds(const struct cidr *cidrs, size_t n, const char *address);

/* What counts as one source: an IPv4 address; of an IPv6 address its network of 64 bits, within which a host
 * has as many addresses as it likes (RFC 4291 section 2.5.1). False if the text is no address; *ret is all
 * zero then. */
bool cidr_source(const char *address, uint8_t ret[16]);

#endif
