/*
 * Internal to lib/http: the PROXY protocol, version 2 (haproxy.org, proxy-protocol.txt, section 2.2), by
 * which a balancer says whose connection it forwards. Version 1 is not spoken. A pure function over bytes
 * that have come so far; nothing behind the header is looked at.
 */
#ifndef CLM_HTTP_PROXY_H
#define CLM_HTTP_PROXY_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROXY_FIXED_BYTES 16u  /* signature, command, family, length */
#define PROXY_MAX_BYTES   552u /* with addresses and TLVs; more is no balancer's */

struct proxy_source {
    bool known;                     /* false: LOCAL or unspecified, the balancer speaks for itself */
    char address[INET6_ADDRSTRLEN]; /* when known */
};

enum proxy_result {
    PROXY_MORE,      /* *ret_need bytes are needed before it can be read */
    PROXY_COMPLETE,  /* *ret_need bytes were the header */
    PROXY_MALFORMED, /* not a header, or one that is not allowed here */
};
enum proxy_result proxy_parse(const uint8_t *data, size_t len, struct proxy_source *ret, size_t *ret_need);

#endif
