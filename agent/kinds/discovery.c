/* See discovery.h. */
#include "kinds/discovery.h"

#include <string.h>

#include "base/clock.h"
#include "stores/store.h"

#define PROGRESS_MS 1000

/* --- being stopped, and saying how far it is ----------------------------------------------------------- */

bool discovery_stopped(struct discovery *d)
{
    if (!d->cancelled && !d->aside && d->run->cancelled)
        d->cancelled = d->run->cancelled(d->run);
    return d->cancelled;
}

void discovery_report(struct discovery *d, const char *phase, uint64_t done, uint64_t planned,
                      const char *what)
{
    int64_t now = clock_mono_ms();
    if (d->aside || !d->run->progress || now < d->next_progress_ms)
        return;
    d->next_progress_ms = now + PROGRESS_MS;
    uint64_t permille = planned ? done * 900 / planned : 500;
    d->run->progress(d->run, phase, (unsigned)(permille > 900 ? 900 : permille),
                     arena_printf(d->run->arena, "%llu %s, %zu certificates", (unsigned long long)done, what,
                                  d->run->result->n_certificates));
}

bool discovery_goes_on(void *arg)
{
    struct discovery *d = arg;
    discovery_report(d, "looking", d->looks, d->looks_planned, "endpoints looked at");
    return !discovery_stopped(d);
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

static struct secret *password_of_target(const struct discovery *d, const char *path)
{
    struct secret *password = NULL;
    struct status why;
    for (struct policy_target **t = d->run->policy->targets; t && *t && !password; t++) {
        if (strcmp((*t)->certificate, path) == 0 && store_password(*t, &password, &why) != CODE_OK)
            password = NULL;
    }
    return password;
}

static struct secret *password_of_server(const struct discovery *d, const char *path)
{
    const Clm__Agent__ServerFacts *server = server_of_file(d, path);
    struct secret *password = NULL;
    struct status why;
    if (server && server->password)
        return secret_dup(server->password, strlen(server->password));
    if (server && server->password_file &&
        secret_read_file(server->password_file, KEYSTORE_PASSWORD_MAX, true, &password, &why) != CODE_OK)
        password = NULL;
    return password;
}

const struct secret *discovery_password(struct discovery *d, const char *path)
{
    if (d->n_password == DISCOVERY_PASSWORDS_MAX)
        return NULL;
    struct secret *password = password_of_target(d, path);
    if (!password)
        password = password_of_server(d, path);
    if (password)
        d->password[d->n_password++] = password;
    return password;
}

struct discovery *discovery_new(struct task_run *run, size_t max)
{
    struct discovery *d = arena_alloc(run->arena, sizeof(*d));
    d->run = run;
    d->findings = findings_new(run, max, complete, d);
    return d;
}

void discovery_done(struct discovery *d)
{
    for (size_t i = 0; i < d->n_password; i++)
        secret_free(d->password[i]);
    d->n_password = 0;
}

/* --- what is served ------------------------------------------------------------------------------------- */

const char *discovery_endpoint(struct arena *arena, const char *host, const char *port)
{
    return arena_printf(arena, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

void discovery_served(struct discovery *d, const struct probe *probe, struct finding finding)
{
    const struct der *leaf = &probe->chain.item[0];
    uint8_t *data = malloc(leaf->len);
    if (!data)
        abort();
    memcpy(data, leaf->data, leaf->len);
    finding.endpoint = discovery_endpoint(d->run->arena, probe->host, probe->port);
    finding.server_name = probe->server_name;
    finding.data = data;
    finding.len = leaf->len;
    findings_add(d->findings, finding);
}

static int by_fingerprint(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void discovery_mark_served(struct task_run *run)
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
