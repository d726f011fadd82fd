/* See endpoint.h. */
#include "base/endpoint.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

enum code endpoint_split(const char *text, struct endpoint *ret, struct status *st)
{
    const char *colon = strrchr(text, ':');
    const char *start = text, *end = colon;
    if (colon && text[0] == '[' && colon > text && colon[-1] == ']') {
        start++;
        end--;
    } else if (colon && memchr(text, ':', (size_t)(colon - text))) {
        colon = NULL; /* an IPv6 address without its brackets */
    }
    size_t len = colon ? (size_t)(end - start) : 0;
    size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;
    long port = digits > 0 && digits <= 5 && !colon[1 + digits] ? strtol(colon + 1, NULL, 10) : 0;
    if (len == 0 || len >= sizeof(ret->host) || port < 1 || port > 65535)
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.80s\" is not host:port (IPv6 as [address]:port)",
                          text);
    memcpy(ret->host, start, len);
    ret->host[len] = '\0';
    (void)snprintf(ret->port_text, sizeof(ret->port_text), "%ld", port);
    ret->port = (uint16_t)port;
    return CODE_OK;
}

bool host_is_address(const char *host)
{
    unsigned char bytes[16];
    return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}
