/* What the border files of clm-registry share. */
#ifndef CLM_REGISTRY_BORDER_H
#define CLM_REGISTRY_BORDER_H

#include "registry.h"
#include "service/service.h"

struct registry_config {
    struct service_config base;
    int64_t reattach_window_ms, assertion_life_ms;
};

/* Of the service's configuration; lives as long as the process. */
const struct timing *registry_timing(const struct service *service);
extern const struct rpc_method registry_methods[];
extern const size_t registry_n_methods;
extern const struct event_handler registry_events[];
int command_create_api_key(int argc, char **argv, const void *config);
int command_create_admin_link(int argc, char **argv, const void *config);

/* The default scope: VALIDATE and DISCOVER. Encoded with version 1. */
struct Clm__Scope;
struct bytes scope_encode(const struct Clm__Scope *scope, struct arena *arena);
struct Clm__Scope *scope_decode(struct bytes scope, struct arena *arena);

#endif
