/* Copies, and forgets. */
#include "agent/net/proxy.h"

#include <stdlib.h>
#include <string.h>

void net_proxy_done(struct net_proxy *proxy)
{
    free(proxy->user);
    secret_free(proxy->password);
    *proxy = (struct net_proxy){0};
}

enum code net_proxy_set(struct net_proxy *proxy, const Clm__Agent__Proxy *told, struct status *st)
{
    net_proxy_done(proxy);
    if (!told || !told->address)
        return CODE_OK;
    if (endpoint_split(told->address, &proxy->at, st) != CODE_OK) {
        proxy->at.host[0] = '\0';
        return status_wrap(st, "the proxy");
    }
    if (told->user && !(proxy->user = strdup(told->user)))
        abort();
    if (told->password)
        proxy->password = secret_dup(told->password, strlen(told->password));
    proxy->http = (struct http_proxy){
        .host = proxy->at.host, .port = proxy->at.port, .user = proxy->user, .password = proxy->password};
    return CODE_OK;
}

const struct http_proxy *net_proxy_get(const struct net_proxy *proxy)
{
    return proxy->at.host[0] ? &proxy->http : NULL;
}
