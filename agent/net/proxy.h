/* The proxy on the way to the gateway, as exec told of it; net's own copy, the password in locked memory. */
#ifndef CLM_AGENT_NET_PROXY_H
#define CLM_AGENT_NET_PROXY_H

#include "agent/ipc.pb-c.h"
#include "base/endpoint.h"
#include "http/client.h"

struct net_proxy { /* zeroed: none */
    struct endpoint at;
    char *user;
    struct secret *password;
    struct http_proxy http;
};

/* told NULL: none. What was there is forgotten. */
enum code net_proxy_set(struct net_proxy *proxy, const Clm__Agent__Proxy *told, struct status *st) MUST_CHECK;
/* NULL: none. Borrowed. */
const struct http_proxy *net_proxy_get(const struct net_proxy *proxy);
void net_proxy_done(struct net_proxy *proxy);

#endif
