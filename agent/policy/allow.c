/* What the local policy allows. What is not written down is forbidden, except looking at this host. */
#include "policy/parts.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "base/endpoint.h"
#include "proto/common.pb-c.h"
#include "scope/scope.h"

static const char *const operation_names[] = {
    [CLM__TASK__KIND__DEPLOY] = "deploy",
    [CLM__TASK__KIND__RENEW] = "renew",
    [CLM__TASK__KIND__VALIDATE] = "validate",
    [CLM__TASK__KIND__DISCOVER] = "discover",
};

/* Looked at when discovery_roots is not set: where a Debian host keeps certificates. */
static const char *const default_roots[] = {"/etc", "/opt", "/srv", "/usr/local", NULL};

bool operation_is_known(const char *name)
{
    for (size_t i = 1; i < ARRAY_LEN(operation_names); i++) {
        if (strcmp(name, operation_names[i]) == 0)
            return true;
    }
    return false;
}

enum code policy_allows_operation(const struct policy *policy, int task_kind, struct status *st)
{
    if (task_kind < 1 || (size_t)task_kind >= ARRAY_LEN(operation_names))
        return status_set(st, CODE_UNIMPLEMENTED, "this agent does not know task kind %d", task_kind);
    const char *name = operation_names[task_kind];
    for (char **op = policy->operations; op && *op; op++) {
        if (strcmp(*op, name) == 0)
            return CODE_OK;
    }
    if (!policy->operations &&
        (task_kind == CLM__TASK__KIND__VALIDATE || task_kind == CLM__TASK__KIND__DISCOVER))
        return CODE_OK;
    return status_set(st, CODE_PERMISSION_DENIED,
                      "local policy forbids %s: add \"%s\" to operations in [policy] of %s", name, name,
                      policy->path);
}

enum code policy_allows_names(const struct policy *policy, const struct policy_target *target,
                              char *const *names, size_t n, struct status *st)
{
    bool own = target && target->dns_names;
    char *const *patterns = own ? target->dns_names : policy->dns_names;
    for (size_t i = 0; i < n; i++) {
        bool allowed = false;
        for (char *const *p = patterns; p && *p && !allowed; p++)
            allowed = dns_name_matches(*p, names[i]);
        if (!allowed)
            return status_set(st, CODE_PERMISSION_DENIED,
                              "local policy forbids the name %.80s: add it to dns_names in [%s%s] of %s",
                              names[i], own ? "target " : "policy", own ? target->name : "", policy->path);
    }
    return CODE_OK;
}

struct address {
    int family;
    uint8_t bytes[16];
    size_t len;
};

static bool address_parse(const char *text, struct address *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->family = strchr(text, ':') ? AF_INET6 : AF_INET;
    ret->len = ret->family == AF_INET6 ? 16 : 4;
    return inet_pton(ret->family, text, ret->bytes) == 1;
}

static bool bits_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    if (memcmp(a, b, bits / 8) != 0)
        return false;
    return bits % 8 == 0 || ((a[bits / 8] ^ b[bits / 8]) >> (8 - bits % 8)) == 0;
}

/* "10.1.0.0/16" against an address. */
static bool range_holds(const char *range, const struct address *address)
{
    const char *slash = strchr(range, '/');
    char text[INET6_ADDRSTRLEN];
    struct address net;
    if (!slash || (size_t)(slash - range) >= sizeof(text) || !slash[1] || strlen(slash + 1) > 3 ||
        slash[1 + strspn(slash + 1, "0123456789")])
        return false;
    memcpy(text, range, (size_t)(slash - range));
    text[slash - range] = 0;
    unsigned bits = (unsigned)strtoul(slash + 1, NULL, 10);
    return address_parse(text, &net) && net.family == address->family && bits <= net.len * 8 &&
           bits_equal(net.bytes, address->bytes, bits);
}

static bool address_is_local(const struct address *address)
{
    static const uint8_t loopback6[16] = {[15] = 1};
    if (address->family == AF_INET && address->bytes[0] == 127)
        return true;
    if (address->family == AF_INET6 && memcmp(address->bytes, loopback6, 16) == 0)
        return true;
    struct ifaddrs *list = NULL;
    if (getifaddrs(&list) != 0)
        return false;
    bool found = false;
    for (struct ifaddrs *i = list; i && !found; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != address->family)
            continue;
        const void *bytes = address->family == AF_INET
                                ? (const void *)&((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr
                                : (const void *)&((struct sockaddr_in6 *)(void *)i->ifa_addr)->sin6_addr;
        found = memcmp(bytes, address->bytes, address->len) == 0;
    }
    freeifaddrs(list);
    return found;
}

static bool host_is_this(const char *host)
{
    struct address address;
    if (address_parse(host, &address))
        return address_is_local(&address);
    char own[256] = "";
    (void)gethostname(own, sizeof(own) - 1);
    return strcasecmp(host, "localhost") == 0 || (own[0] && strcasecmp(host, own) == 0);
}

static bool probe_listed(const struct policy *policy, const char *host)
{
    struct address address;
    bool is_address = address_parse(host, &address);
    for (char **p = policy->probe_hosts; p && *p; p++) {
        if (strcasecmp(*p, host) == 0 || dns_name_matches(*p, host) ||
            (is_address && range_holds(*p, &address)))
            return true;
    }
    /* Writing an endpoint into a target is allowing to look at it. */
    for (struct policy_target **t = policy->targets; t && *t; t++) {
        struct endpoint at;
        if ((*t)->endpoint && endpoint_split((*t)->endpoint, &at, NULL) == CODE_OK &&
            strcasecmp(at.host, host) == 0)
            return true;
    }
    return false;
}

enum code policy_allows_probe(const struct policy *policy, const char *host, struct status *st)
{
    if (probe_listed(policy, host) || host_is_this(host))
        return CODE_OK;
    return status_set(st, CODE_PERMISSION_DENIED,
                      "local policy forbids connecting to %.100s: add it to probe_hosts in [policy] of %s",
                      host, policy->path);
}

enum code policy_allows_fetch(const struct policy *policy, const char *host, struct status *st)
{
    for (char **p = policy->fetch_hosts; p && *p; p++) {
        if (strcasecmp(*p, host) == 0 || dns_name_matches(*p, host))
            return CODE_OK;
    }
    return status_set(st, CODE_PERMISSION_DENIED,
                      "local policy forbids asking %.100s: add it to fetch_hosts in [policy] of %s", host,
                      policy->path);
}

const char *const *policy_discovery_roots(const struct policy *policy)
{
    return policy->discovery_roots ? (const char *const *)policy->discovery_roots : default_roots;
}

static bool path_is_plain(const char *path)
{
    if (path[0] != '/')
        return false;
    for (const char *at = path; *at; at++) {
        if (at[0] != '/')
            continue;
        size_t n = strcspn(at + 1, "/");
        if ((n == 1 && at[1] == '.') || (n == 2 && at[1] == '.' && at[2] == '.'))
            return false;
    }
    return true;
}

const char *policy_discovery_root_of(const struct policy *policy, const char *path)
{
    const char *longest = NULL;
    size_t most = 0;
    for (const char *const *allowed = policy_discovery_roots(policy); *allowed; allowed++) {
        size_t n = strlen(*allowed);
        while (n > 1 && (*allowed)[n - 1] == '/')
            n--;
        bool holds = n == 1 || (strncmp(path, *allowed, n) == 0 && (!path[n] || path[n] == '/'));
        if (!holds || n < most)
            continue;
        longest = *allowed;
        most = n;
    }
    return longest;
}

enum code policy_allows_discovery(const struct policy *policy, const char *root, struct status *st)
{
    if (!path_is_plain(root))
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.100s\" is not an absolute path without . and ..",
                          root);
    if (policy_discovery_root_of(policy, root))
        return CODE_OK;
    return status_set(st, CODE_PERMISSION_DENIED,
                      "local policy forbids searching %.80s: add it to discovery_roots in [policy] of %s",
                      root, policy->path);
}
