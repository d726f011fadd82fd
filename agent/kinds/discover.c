/*
 * DISCOVER: which certificates are on this host, which file serves which name on which socket, what other
 * hosts serve. Files below the policy's roots (walk.c; content decides), configurations of known servers
 * (presets/), the listening sockets of this host with the processes that own them (sockets.c), and network
 * ranges that the policy allows (ranges.c). Foreign bytes are parsed in confined children (findings.c). Reads
 * only; can be cancelled at any time. Runs in a task's child.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "kinds/findings.h"
#include "kinds/kinds.h"
#include "kinds/probe.h"
#include "kinds/ranges.h"
#include "kinds/sockets.h"
#include "kinds/walk.h"
#include "presets/preset.h"

#define FILE_BYTES_MAX   (4 * 1024 * 1024)
#define LOOKS_MAX        4096   /* at sockets of this host */
#define RANGE_LOOKS_MAX  262144 /* at others */
#define RANGE_CHUNK      2048
#define RANGE_PARALLEL   128
#define LOCAL_PARALLEL   32
#define PROBE_TIMEOUT_MS 2000
#define PROGRESS_MS      1000
#define DEFAULT_MAX      10000
#define PASSWORDS_MAX    64
#define SEEN_FILE        "discovery.seen"
#define WALK_WAIT_MS     250

struct discovery {
    struct task_run *run;
    struct findings *findings;
    Clm__Agent__ServerFacts **server; /* of all configurations */
    size_t n_server;
    struct walk_counts counts;
    struct secret *password[PASSWORDS_MAX]; /* of keystores, as their servers' configurations have them */
    size_t n_password;
    size_t looks, looks_planned;
    int64_t next_progress_ms;
    bool cancelled;
};

/* --- being stopped, and saying how far it is ----------------------------------------------------------- */

static bool stopped(struct discovery *d)
{
    if (!d->cancelled && d->run->cancelled)
        d->cancelled = d->run->cancelled(d->run);
    return d->cancelled;
}

/* done of planned; planned 0: nobody knows. */
static void report(struct discovery *d, const char *phase, uint64_t done, uint64_t planned, const char *what)
{
    int64_t now = clock_mono_ms();
    if (!d->run->progress || now < d->next_progress_ms)
        return;
    d->next_progress_ms = now + PROGRESS_MS;
    uint64_t permille = planned ? done * 900 / planned : 500;
    d->run->progress(d->run, phase, (unsigned)(permille > 900 ? 900 : permille),
                     arena_printf(d->run->arena, "%llu %s, %zu certificates", (unsigned long long)done, what,
                                  d->run->result->n_certificates));
}

/* --- what else is known of a find ----------------------------------------------------------------------- */

static const Clm__Agent__ServerFacts *server_of_file(const struct discovery *d, const char *path)
{
    for (size_t i = 0; path && i < d->n_server; i++) {
        if (strcmp(d->server[i]->certificate, path) == 0)
            return d->server[i];
    }
    return NULL;
}

static void complete(struct finding *finding, void *arg)
{
    const Clm__Agent__ServerFacts *server = server_of_file(arg, finding->path);
    if (!server)
        return;
    if (!finding->used_by)
        finding->used_by = server->used_by;
    if (!finding->key_path)
        finding->key_path = server->key;
}

/* NULL: none is known. */
static const struct secret *password_of(struct discovery *d, const char *path)
{
    const Clm__Agent__ServerFacts *server = server_of_file(d, path);
    if (!server || !server->password || d->n_password == PASSWORDS_MAX)
        return NULL;
    d->password[d->n_password] = secret_dup(server->password, strlen(server->password));
    return d->password[d->n_password++];
}

/* --- files -------------------------------------------------------------------------------------------- */

static void on_found(struct discovery *d, struct walk_found *found)
{
    struct finding finding = {.source = CLM__FOUND_CERTIFICATE__SOURCE__FILE,
                              .path = arena_strdup(d->run->arena, found->path),
                              .password = password_of(d, found->path),
                              .data = found->data,
                              .len = found->len,
                              .remember = found->settled,
                              .key = found->key};
    free(found->path);
    if (found->known)
        findings_add_known(d->findings, finding);
    else
        findings_add(d->findings, finding);
}

/* Reads what the walk finds until it is over; false when it was stopped. */
static bool gather(struct discovery *d, struct walk *walk, uint64_t expected)
{
    int64_t next_look_ms = 0;
    for (;;) {
        struct walk_found found;
        enum walk_state state = walk_next(walk, WALK_WAIT_MS, &found);
        if (state == WALK_END)
            return true;
        if (state == WALK_FOUND)
            on_found(d, &found);
        if (clock_mono_ms() < next_look_ms)
            continue;
        next_look_ms = clock_mono_ms() + WALK_WAIT_MS;
        if (stopped(d) || findings_full(d->findings))
            return false;
        d->counts = walk_counts(walk);
        report(d, "files", d->counts.files, expected, "files looked through");
    }
}

/* All that is known now: files in which nothing is, and those in which something was found. */
static void remember(struct discovery *d, const struct walk *walk, const struct seen *former,
                     const char *path)
{
    size_t n_keys, n_found;
    const struct seen_key *keys = walk_keys(walk, &n_keys);
    const struct seen_entry *found = findings_remembered(d->findings, &n_found);
    struct seen_entry *all = calloc(n_keys + n_found + 1, sizeof(*all));
    if (!all)
        abort();
    for (size_t i = 0; i < n_keys; i++)
        all[i].key = keys[i];
    if (n_found)
        memcpy(all + n_keys, found, n_found * sizeof(*all));
    (void)seen_save(former, all, n_keys + n_found, path);
    free(all);
}

static enum code scan_files(struct discovery *d, const char *const *roots, struct status *st)
{
    struct walk walk;
    int64_t started = clock_wall_ms();
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    const char *path = arena_printf(d->run->arena, "%s/" SEEN_FILE, d->run->state_dir);
    struct seen *seen = seen_load(path);
    enum code code = walk_start(&walk, roots, seen, cpus > 0 ? 2 * (unsigned)cpus : 1, st);
    bool whole = code == CODE_OK && gather(d, &walk, seen_count(seen));
    whole = walk_stop(&walk) && whole;
    if (code == CODE_OK) {
        d->counts = walk_counts(&walk);
        findings_flush(d->findings);
        if (whole)
            remember(d, &walk, seen, path);
        task_step(d->run, "files", whole || d->cancelled || findings_full(d->findings), started,
                  "%llu files looked through, %llu of them unchanged, %llu unreadable",
                  (unsigned long long)d->counts.files, (unsigned long long)d->counts.unchanged,
                  (unsigned long long)d->counts.unreadable);
    }
    walk_done(&walk);
    seen_free(seen);
    return code;
}

static enum code scan_roots(struct discovery *d, struct status *st)
{
    const Clm__DiscoverSpec *spec = d->run->spec->discover;
    if (spec->n_roots == 0)
        return scan_files(d, policy_discovery_roots(d->run->policy), st);
    const char **roots = arena_array(d->run->arena, spec->n_roots + 1, sizeof(*roots));
    for (size_t i = 0; i < spec->n_roots; i++) {
        TRY(policy_allows_discovery(d->run->policy, spec->roots[i], st));
        roots[i] = spec->roots[i];
    }
    return scan_files(d, roots, st);
}

/* --- configurations ----------------------------------------------------------------------------------- */

static void on_configuration(void *arg, const struct preset *preset, const char *conf,
                             const Clm__Agent__Facts *facts, const struct status *st)
{
    struct discovery *d = arg;
    for (size_t i = 0; facts && i < facts->n_servers; i++)
        ARENA_PUSH(d->run->arena, d->server, d->n_server, facts->servers[i]);
    task_step(d->run, "configurations", facts != NULL, clock_wall_ms(), "%s: %s", preset->name,
              facts ? arena_printf(d->run->arena, "%zu TLS servers in %s", facts->n_servers, conf) : st->msg);
}

/* Links are followed here: the server follows them, and its configuration is the administrator's. NULL if it
 * is no regular file of a fitting size. */
static uint8_t *read_configured(const char *path, size_t *ret_len)
{
    struct stat info;
    AUTO_CLOSE int look = open(path, O_PATH | O_CLOEXEC);
    if (look < 0 || fstat(look, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > FILE_BYTES_MAX)
        return NULL;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > FILE_BYTES_MAX)
        return NULL;
    uint8_t *data = malloc((size_t)info.st_size + 1);
    if (!data)
        abort();
    if (fd_read_all(fd, data, (size_t)info.st_size, NULL) != CODE_OK) {
        free(data);
        return NULL;
    }
    *ret_len = (size_t)info.st_size;
    return data;
}

static void add_configured(struct discovery *d)
{
    for (size_t i = 0; i < d->n_server && !stopped(d); i++) {
        const Clm__Agent__ServerFacts *server = d->server[i];
        size_t len;
        uint8_t *data = read_configured(server->certificate, &len);
        if (!data)
            continue;
        findings_add(d->findings, (struct finding){.source = CLM__FOUND_CERTIFICATE__SOURCE__CONFIGURATION,
                                                   .path = server->certificate,
                                                   .endpoint = server->n_listens ? server->listens[0] : NULL,
                                                   .server_name = server->n_names ? server->names[0] : NULL,
                                                   .used_by = server->used_by,
                                                   .key_path = server->key,
                                                   .password = password_of(d, server->certificate),
                                                   .data = data,
                                                   .len = len});
    }
    findings_flush(d->findings);
}

/* --- endpoints ---------------------------------------------------------------------------------------- */

static const char *endpoint_text(struct arena *arena, const char *host, const char *port)
{
    return arena_printf(arena, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

static void add_served(struct discovery *d, const struct probe *probe, struct finding finding)
{
    const struct der *leaf = &probe->chain.item[0];
    uint8_t *data = malloc(leaf->len);
    if (!data)
        abort();
    memcpy(data, leaf->data, leaf->len);
    finding.endpoint = endpoint_text(d->run->arena, probe->host, probe->port);
    finding.server_name = probe->server_name;
    finding.data = data;
    finding.len = leaf->len;
    findings_add(d->findings, finding);
}

/* --- listening sockets -------------------------------------------------------------------------------- */

static bool listens_at(const Clm__Agent__ServerFacts *server, const char *endpoint)
{
    for (size_t l = 0; l < server->n_listens; l++) {
        if (strcmp(server->listens[l], endpoint) == 0)
            return true;
    }
    return false;
}

static const Clm__Agent__ServerFacts *server_of_socket(const struct discovery *d, const char *endpoint)
{
    for (size_t s = 0; s < d->n_server; s++) {
        if (listens_at(d->server[s], endpoint))
            return d->server[s];
    }
    return NULL;
}

struct local_look {
    struct probe *probe;
    const struct listener **of; /* each probe's */
    size_t n;
};

static void plan(struct local_look *looks, const struct listener *listener, const char *name,
                 enum starttls starttls)
{
    if (looks->n >= LOOKS_MAX)
        return;
    looks->of[looks->n] = listener;
    looks->probe[looks->n++] = (struct probe){.host = listener->host,
                                              .port = listener->port,
                                              .server_name = name,
                                              .timeout_ms = PROBE_TIMEOUT_MS,
                                              .starttls = starttls,
                                              .only_certificate = true};
}

/* As its configuration says, or as is usual. */
static enum starttls starttls_of(const Clm__Agent__ServerFacts *server, const struct listener *listener)
{
    enum starttls starttls = STARTTLS_NONE;
    if (!server)
        return starttls_of_port((unsigned)strtoul(listener->port, NULL, 10));
    if (server->starttls)
        (void)starttls_find(server->starttls, &starttls);
    return starttls;
}

/* Every socket without a name, and with each that a configuration gives it. */
static void plan_local(struct discovery *d, struct local_look *looks)
{
    struct listener *list;
    size_t n = sockets_listening("/proc", d->run->arena, &list);
    for (size_t i = 0; i < n; i++) {
        const char *endpoint = endpoint_text(d->run->arena, list[i].host, list[i].port);
        enum starttls starttls = starttls_of(server_of_socket(d, endpoint), &list[i]);
        plan(looks, &list[i], NULL, starttls);
        for (size_t s = 0; s < d->n_server; s++) {
            const Clm__Agent__ServerFacts *server = d->server[s];
            for (size_t k = 0; k < server->n_names && listens_at(server, endpoint); k++) {
                if (server->names[k][0] != '*')
                    plan(looks, &list[i], server->names[k], starttls);
            }
        }
    }
}

static bool keep_looking(void *arg)
{
    struct discovery *d = arg;
    report(d, "looking", d->looks, d->looks_planned, "endpoints looked at");
    return !stopped(d);
}

static void look_at_sockets(struct discovery *d)
{
    int64_t started = clock_wall_ms();
    struct local_look looks = {arena_array(d->run->arena, LOOKS_MAX, sizeof(struct probe)),
                               arena_array(d->run->arena, LOOKS_MAX, sizeof(void *)), 0};
    struct probe_sweep how = {.parallel = LOCAL_PARALLEL, .tick = keep_looking, .arg = d};
    size_t tls = 0;
    plan_local(d, &looks);
    probe_sweep(looks.probe, looks.n, &how);
    for (size_t i = 0; i < looks.n; i++) {
        struct probe *probe = &looks.probe[i];
        if (probe->tls) {
            const char *endpoint = endpoint_text(d->run->arena, probe->host, probe->port);
            const Clm__Agent__ServerFacts *server = server_of_socket(d, endpoint);
            add_served(d, probe,
                       (struct finding){.source = CLM__FOUND_CERTIFICATE__SOURCE__LISTENER,
                                        .used_by = server ? server->used_by : NULL,
                                        .process = looks.of[i]->process,
                                        .pid = looks.of[i]->pid});
            tls++;
        }
        probe_done(probe);
    }
    findings_flush(d->findings);
    d->looks += looks.n;
    task_step(d->run, "listening", true, started, "%zu looks at sockets, %zu speak TLS", looks.n, tls);
}

/* --- networks ----------------------------------------------------------------------------------------- */

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
    if (ret->n_host * ret->n_port * ret->n_name > RANGE_LOOKS_MAX)
        return status_set(st, CODE_RESOURCE_EXHAUSTED,
                          "%zu addresses, %zu ports and %zu names are more than %d looks: name parts of them",
                          ret->n_host, ret->n_port, ret->n_name, RANGE_LOOKS_MAX);
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
                          .timeout_ms = PROBE_TIMEOUT_MS,
                          .starttls = starttls_of_port((unsigned)strtoul(port, NULL, 10)),
                          .only_certificate = true};
}

static size_t look_at_chunk(struct discovery *d, struct probe *probes, size_t n)
{
    struct probe_sweep how = {.parallel = RANGE_PARALLEL,
                              .rate = (unsigned)d->run->policy->probe_rate,
                              .tick = keep_looking,
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
            add_served(d, &probes[i], (struct finding){.source = CLM__FOUND_CERTIFICATE__SOURCE__NETWORK});
        tls += probes[i].tls;
        probe_done(&probes[i]);
    }
    d->looks += n;
    return tls;
}

static enum code look_at_networks(struct discovery *d, struct status *st)
{
    struct network net = {0};
    int64_t started = clock_wall_ms();
    TRY(plan_network(d, &net, st));
    size_t total = net.n_host * net.n_port * net.n_name, at = 0, tls = 0;
    struct probe *probes = arena_array(d->run->arena, RANGE_CHUNK, sizeof(*probes));
    while (at < total && !stopped(d) && !findings_full(d->findings)) {
        size_t n = total - at < RANGE_CHUNK ? total - at : RANGE_CHUNK;
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

/* --- the whole ---------------------------------------------------------------------------------------- */

static int by_fingerprint(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What a socket of this host serves is served, wherever else it lies. */
static void mark_served(struct task_run *run)
{
    Clm__TaskResult *result = run->result;
    const char **served = arena_array(run->arena, result->n_certificates + 1, sizeof(*served));
    size_t n = 0;
    for (size_t i = 0; i < result->n_certificates; i++) {
        if (result->certificates[i]->source == CLM__FOUND_CERTIFICATE__SOURCE__LISTENER)
            served[n++] = result->certificates[i]->certificate->fingerprint_sha256;
    }
    qsort(served, n, sizeof(*served), by_fingerprint);
    for (size_t i = 0; i < result->n_certificates; i++) {
        Clm__FoundCertificate *found = result->certificates[i];
        const char *fingerprint = found->certificate->fingerprint_sha256;
        found->has_served = true;
        found->served = n > 0 && bsearch(&fingerprint, served, n, sizeof(*served), by_fingerprint);
    }
}

static void finish(struct discovery *d, bool listening)
{
    Clm__TaskResult *result = d->run->result;
    if (listening)
        mark_served(d->run);
    result->has_truncated = result->has_files_scanned = result->has_files_unreadable = true;
    result->has_files_unchanged = result->has_keystores_sealed = result->has_endpoints_looked_at = true;
    result->truncated = findings_full(d->findings) || d->counts.full;
    result->files_scanned = (uint32_t)d->counts.files;
    result->files_unreadable = (uint32_t)d->counts.unreadable + findings_unreadable(d->findings);
    result->files_unchanged = (uint32_t)d->counts.unchanged;
    result->keystores_sealed = findings_sealed(d->findings);
    result->endpoints_looked_at = (uint32_t)d->looks;
    task_message(d->run, "%zu certificates%s%s", result->n_certificates,
                 result->truncated ? " (there are more)" : "",
                 result->keystores_sealed
                     ? arena_printf(d->run->arena, "; %u keystores want a password", result->keystores_sealed)
                     : "");
}

enum code discover_run(struct task_run *run, Clm__Receipt__Outcome *ret_outcome, struct status *st)
{
    const Clm__DiscoverSpec *spec = run->spec->discover;
    if (!spec)
        return status_set(st, CODE_INVALID_ARGUMENT, "the task has no discover specification");
    struct discovery *d = arena_alloc(run->arena, sizeof(*d));
    bool listening = !spec->has_listening || spec->listening;
    bool files = !spec->has_files || spec->files;
    bool bounded = spec->has_max_certificates && spec->max_certificates > 0;
    size_t max = bounded && spec->max_certificates < DEFAULT_MAX ? spec->max_certificates : DEFAULT_MAX;
    d->run = run;
    d->findings = findings_new(run, max, complete, d);
    if (!spec->has_configurations || spec->configurations)
        presets_look(run->policy, run->arena, on_configuration, d);
    /* What is served comes first: it is what must not fall under the limit. */
    if (listening && !stopped(d))
        look_at_sockets(d);
    add_configured(d);
    if (!stopped(d))
        TRY(look_at_networks(d, st));
    if (files && !stopped(d))
        TRY(scan_roots(d, st));
    for (size_t i = 0; i < d->n_password; i++)
        secret_free(d->password[i]);
    finish(d, listening);
    *ret_outcome = d->cancelled ? CLM__RECEIPT__OUTCOME__CANCELLED : CLM__RECEIPT__OUTCOME__SUCCEEDED;
    return CODE_OK;
}
