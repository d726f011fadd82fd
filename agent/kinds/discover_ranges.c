/* Network ranges that the policy allows: what others serve. See discovery.h. */
#include <string.h>

#include "base/clock.h"
#include "kinds/discovery.h"
#include "kinds/ranges.h"

#define LOOKS_MAX 262144
#define CHUNK     2048
#define PARALLEL  128

struct network {
    const char **host;
    size_t n_host;
    const char **port;
    size_t n_port;
    const char **name; /* the first is none */
    size_t n_name;
};

static enum code plan_network(struct discovery *d, struct network *ret, struct status *st)
{
    const Clm__DiscoverSpec *spec = d->run->spec->discover;
    struct arena *arena = d->run->arena;
    for (size_t i = 0; i < spec->n_ranges; i++)
        TRY(range_expand(spec->ranges[i], arena, &ret->host, &ret->n_host, st));
    for (size_t i = 0; i < ret->n_host; i++)
        TRY(policy_allows_probe(d->run->policy, ret->host[i], st));
    for (size_t i = 0; i < spec->n_ports; i++) {
        if (spec->ports[i] == 0 || spec->ports[i] > 65535)
            return status_set(st, CODE_INVALID_ARGUMENT, "%u is no port", spec->ports[i]);
        ARENA_PUSH(arena, ret->port, ret->n_port, arena_printf(arena, "%u", spec->ports[i]));
    }
    for (size_t i = 0; spec->n_ports == 0 && range_default_ports[i]; i++)
        ARENA_PUSH(arena, ret->port, ret->n_port, arena_printf(arena, "%u", range_default_ports[i]));
    ARENA_PUSH(arena, ret->name, ret->n_name, NULL);
    for (size_t i = 0; i < spec->n_server_names; i++)
        ARENA_PUSH(arena, ret->name, ret->n_name, spec->server_names[i]);
    d->looks_planned = d->looks + ret->n_host * ret->n_port * ret->n_name;
    if (ret->n_host * ret->n_port * ret->n_name > LOOKS_MAX)
        return status_set(st, CODE_RESOURCE_EXHAUSTED,
                          "%zu addresses, %zu ports and %zu names are more than %d looks: name parts of them",
                          ret->n_host, ret->n_port, ret->n_name, LOOKS_MAX);
    return CODE_OK;
}

static struct probe network_probe(const struct network *net, size_t index)
{
    /* Neighbours in this order are different hosts: none of them is asked many times at once. */
    const char *host = net->host[index % net->n_host];
    const char *port = net->port[index / net->n_host % net->n_port];
    const char *name = net->name[index / net->n_host / net->n_port];
    return (struct probe){.host = host,
                          .port = port,
                          .server_name = name                  ? name
                                         : range_is_name(host) ? host
                                                               : NULL,
                          .timeout_ms = DISCOVERY_PROBE_MS,
                          .starttls = starttls_of_port((unsigned)strtoul(port, NULL, 10)),
                          .only_certificate = true};
}

static size_t look_at_chunk(struct discovery *d, struct probe *probes, size_t n)
{
    struct probe_sweep how = {.parallel = PARALLEL,
                              .rate = (unsigned)d->run->policy->probe_rate,
                              .tick = discovery_goes_on,
                              .arg = d};
    size_t named = 0, tls = 0;
    /* Names are resolved in a child of their own, and stand at the front. */
    for (size_t i = 0; i < n; i++) {
        if (range_is_name(probes[i].host)) {
            struct probe swapped = probes[named];
            probes[named++] = probes[i];
            probes[i] = swapped;
        }
    }
    probe_run(probes, named);
    probe_sweep(probes + named, n - named, &how);
    for (size_t i = 0; i < n; i++) {
        if (probes[i].tls)
            discovery_served(d, &probes[i],
                             (struct finding){.source = CLM__FOUND_CERTIFICATE__SOURCE__NETWORK});
        tls += probes[i].tls;
        probe_done(&probes[i]);
    }
    d->looks += n;
    return tls;
}

enum code discover_ranges(struct discovery *d, struct status *st)
{
    struct network net = {0};
    int64_t started = clock_wall_ms();
    TRY(plan_network(d, &net, st));
    size_t total = net.n_host * net.n_port * net.n_name, at = 0, tls = 0;
    struct probe *probes = arena_array(d->run->arena, CHUNK, sizeof(*probes));
    while (at < total && !discovery_stopped(d) && !findings_full(d->findings)) {
        size_t n = total - at < CHUNK ? total - at : CHUNK;
        for (size_t i = 0; i < n; i++)
            probes[i] = network_probe(&net, at + i);
        tls += look_at_chunk(d, probes, n);
        at += n;
    }
    findings_flush(d->findings);
    if (total > 0)
        task_step(d->run, "network", true, started, "%zu looks at %zu hosts, %zu speak TLS", at, net.n_host,
                  tls);
    return CODE_OK;
}
