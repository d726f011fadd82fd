/* What cannot be meant is refused with its section, its key and what is wrong. See parts.h. */
#include "policy/parts.h"

#include <string.h>

#include "base/endpoint.h"
#include "scope/scope.h"

static enum code check_operations(const struct policy *policy, struct status *st)
{
    for (char **op = policy->operations; op && *op; op++) {
        if (!operation_is_known(*op))
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "[policy] operations: \"%.40s\" is none of deploy, renew, validate, discover",
                              *op);
    }
    return CODE_OK;
}

enum code policy_check_names(const char *section, char *const *names, struct status *st)
{
    for (char *const *name = names; name && *name; name++) {
        if (!dns_pattern_valid(*name))
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "[%s] dns_names: \"%.80s\" is neither a name nor *.name nor an address",
                              section, *name);
    }
    return CODE_OK;
}

enum code policy_check_proxy(const struct policy *policy, struct status *st)
{
    struct endpoint at;
    if (policy->proxy && endpoint_split(policy->proxy, &at, st) != CODE_OK)
        return status_wrap(st, "[agent] proxy");
    if (policy->proxy_user && (!policy->proxy || strpbrk(policy->proxy_user, ":\r\n")))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "[agent] proxy_user: needs \"proxy\", and has no ':' in it (RFC 7617)");
    if (policy->proxy_password_file && !policy->proxy_user)
        return status_set(st, CODE_INVALID_ARGUMENT, "[agent] proxy_password_file: needs \"proxy_user\"");
    return CODE_OK;
}

enum code policy_check(struct policy *policy, struct status *st)
{
    for (struct policy_reload **r = policy->reloads; r && *r; r++)
        TRY(reload_split(*r, st));
    TRY(policy_check_proxy(policy, st));
    TRY(check_operations(policy, st));
    TRY(policy_check_names("policy", policy->dns_names, st));
    for (char **root = policy->discovery_roots; root && *root; root++) {
        if ((*root)[0] != '/')
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "[policy] discovery_roots: \"%.80s\" is not absolute", *root);
    }
    for (struct policy_target **t = policy->targets; t && *t; t++)
        TRY(target_check(policy, *t, st));
    return CODE_OK;
}
