/*
 * What this host's servers have: the files that their configurations name, and what its listening sockets
 * serve, under every name that a configuration gives them. See discovery.h.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "kinds/discovery.h"
#include "kinds/installed.h"
#include "kinds/sockets.h"
#include "presets/preset.h"

#define LOOKS_MAX      4096
#define LOCAL_PARALLEL 32

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
    if (look < 0 || fstat(look, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > DISCOVERY_FILE_MAX)
        return NULL;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > DISCOVERY_FILE_MAX)
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

static void add_server_file(struct discovery *d, const Clm__Agent__ServerFacts *server)
{
    size_t len;
    uint8_t *data = read_configured(server->certificate, &len);
    if (!data)
        return;
    findings_add(d->findings, (struct finding){.source = CLM__FOUND_CERTIFICATE__SOURCE__CONFIGURATION,
                                               .path = server->certificate,
                                               .endpoint = server->n_listens ? server->listens[0] : NULL,
                                               .server_name = server->n_names ? server->names[0] : NULL,
                                               .used_by = server->used_by,
                                               .key_path = server->key,
                                               .password = discovery_password(d, server->certificate),
                                               .data = data,
                                               .len = len});
}

/* No scan of files comes across it. */
static void add_secret(struct discovery *d, const struct policy_target *target)
{
    CLEANUP(installed_done) struct installed now = {0};
    struct place_at at = {.target = target, .state_dir = d->run->state_dir, .once = true};
    struct status why;
    if (installed_read(&at, d->run->arena, &now, &why) != CODE_OK)
        return;
    uint8_t *data = malloc(now.pem->len);
    if (!data)
        abort();
    memcpy(data, now.pem->data, now.pem->len);
    findings_add(d->findings, (struct finding){.source = CLM__FOUND_CERTIFICATE__SOURCE__CONFIGURATION,
                                               .path = target->certificate,
                                               .endpoint = target->endpoint,
                                               .server_name = target->server_name,
                                               .used_by = target->preset,
                                               .data = data,
                                               .len = now.pem->len});
}

void discover_configured(struct discovery *d, const char *path)
{
    for (size_t i = 0; i < d->n_server && !discovery_stopped(d); i++) {
        if (!path || strcmp(d->server[i]->certificate, path) == 0)
            add_server_file(d, d->server[i]);
    }
    for (struct policy_target **t = d->run->policy->targets; t && *t && !discovery_stopped(d); t++) {
        if ((*t)->format == STORE_KUBERNETES && (!path || strcmp((*t)->certificate, path) == 0))
            add_secret(d, *t);
    }
    findings_flush(d->findings);
}

void discover_configurations(struct discovery *d)
{
    presets_look(d->run->policy, d->run->arena, on_configuration, d);
}

void discover_configuration_of(struct discovery *d, const struct policy_target *target)
{
    const struct preset *preset = target->preset ? preset_find(target->preset) : NULL;
    char *named[] = {target->configuration, NULL};
    char **confs = !preset ? &named[1] : target->configuration ? named : preset_confs(preset, d->run->arena);
    for (; *confs; confs++) {
        const Clm__Agent__Facts *facts;
        struct status why;
        if (preset_look(preset, *confs, d->run->arena, &facts, &why) != CODE_OK)
            continue;
        for (size_t i = 0; i < facts->n_servers; i++)
            ARENA_PUSH(d->run->arena, d->server, d->n_server, facts->servers[i]);
    }
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
                                              .timeout_ms = DISCOVERY_PROBE_MS,
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
static void plan_local(struct discovery *d, const char *port, struct local_look *looks)
{
    struct listener *list;
    size_t n = sockets_listening("/proc", d->run->arena, &list);
    for (size_t i = 0; i < n; i++) {
        if (port && strcmp(list[i].port, port) != 0)
            continue;
        const char *endpoint = discovery_endpoint(d->run->arena, list[i].host, list[i].port);
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

void discover_sockets(struct discovery *d, const char *port)
{
    int64_t started = clock_wall_ms();
    struct local_look looks = {arena_array(d->run->arena, LOOKS_MAX, sizeof(struct probe)),
                               arena_array(d->run->arena, LOOKS_MAX, sizeof(void *)), 0};
    struct probe_sweep how = {.parallel = LOCAL_PARALLEL, .tick = discovery_goes_on, .arg = d};
    size_t tls = 0;
    plan_local(d, port, &looks);
    probe_sweep(looks.probe, looks.n, &how);
    for (size_t i = 0; i < looks.n; i++) {
        struct probe *probe = &looks.probe[i];
        if (probe->tls) {
            const char *endpoint = discovery_endpoint(d->run->arena, probe->host, probe->port);
            const Clm__Agent__ServerFacts *server = server_of_socket(d, endpoint);
            discovery_served(d, probe,
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
    if (!d->aside)
        task_step(d->run, "listening", true, started, "%zu looks at sockets, %zu speak TLS", looks.n, tls);
}
