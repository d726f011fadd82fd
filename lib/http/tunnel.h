/*
 * Internal to lib/http: asks an HTTP proxy for a tunnel (CONNECT, RFC 9110 section 9.3.6) on a connection
 * that is being made, and hands the socket over once the proxy says yes. The proxy is named in what goes
 * wrong, with what to do about it.
 */
#ifndef CLM_HTTP_TUNNEL_H
#define CLM_HTTP_TUNNEL_H

#include "http/client.h"
#include "http/conn.h"

struct tunnel;

struct tunnel_config {
    const struct http_proxy *proxy; /* borrowed while the tunnel lives */
    const char *host;               /* where the tunnel is to lead */
    uint16_t port;
    void (*on_ready)(int fd, void *arg); /* the socket is the callee's; the tunnel may be freed inside */
    void (*on_failed)(const struct status *st, void *arg); /* the tunnel may be freed inside */
    void *arg;
};

/* fd: a TCP connect to the proxy is under way; taken. */
struct tunnel *tunnel_new(struct loop *loop, int fd, const struct tunnel_config *config);
void tunnel_free(struct tunnel *tunnel); /* NULL is fine */

#endif
