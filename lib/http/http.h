/* What server and client share: limits, header fields, reason phrases. */
#ifndef CLM_HTTP_HTTP_H
#define CLM_HTTP_HTTP_H

#include <stddef.h>
#include <stdint.h>

/* A field to send; arrays end with a row whose name is NULL. Framing fields (Content-Length,
 * Transfer-Encoding, Connection, Date) are the layer's own and must not be among them. */
struct http_header {
    const char *name, *value;
};

/* What a peer may send in one message. 0 takes the default. */
struct http_limits {
    size_t head_bytes; /* start line and fields; 16 KiB, at most 64 KiB */
    size_t url_bytes;  /* request target; 4 KiB */
    size_t headers;    /* fields; 64 */
    size_t body_bytes; /* 512 KiB */
};

const char *http_reason(int status); /* "Not Found"; "Unknown" for a number without a phrase */

#endif
