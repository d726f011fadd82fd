/* Where to connect to, as configurations, tokens and the platform write it: "host:port". Pure. */
#ifndef CLM_BASE_ENDPOINT_H
#define CLM_BASE_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct endpoint {
    char host[256]; /* a name or an address, that without brackets */
    char port_text[6];
    uint16_t port; /* 1 to 65535 */
};

/* "host:port", "192.0.2.7:port" or "[IPv6]:port"; INVALID_ARGUMENT for anything else. What the host is made
 * of is for the caller to look at. ret is as it was when it fails. */
enum code endpoint_split(const char *text, struct endpoint *ret, struct status *st) MUST_CHECK;

/* An IPv4 or IPv6 address, without brackets. */
bool host_is_address(const char *host);

#endif
