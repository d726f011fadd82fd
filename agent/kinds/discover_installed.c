/*
 * What became of a deployment, for the inventory: the certificates that lie at the target now, and what the
 * sockets of its server serve. The rows are those that DISCOVER would have. Runs in a task's child, after the
 * transaction.
 */
#include <string.h>

#include "base/endpoint.h"
#include "kinds/discovery.h"
#include "kinds/installed.h"

#define ROWS_MAX 400

static void add_pem(struct discovery *d, const struct secret *pem, struct finding finding)
{
    finding.data = malloc(pem->len + 1);
    if (!finding.data)
        abort();
    memcpy(finding.data, pem->data, pem->len);
    finding.len = pem->len;
    findings_add(d->findings, finding);
}

static bool add_files(struct discovery *d, const struct policy_target *target)
{
    CLEANUP(installed_done) struct installed now = {0};
    struct place_at at = {.target = target, .state_dir = d->run->state_dir, .once = true};
    struct status why;
    if (installed_read(&at, d->run->arena, &now, &why) != CODE_OK)
        return false;
    struct finding finding = {.source = CLM__FOUND_CERTIFICATE__SOURCE__FILE,
                              .path = target->certificate,
                              .used_by = target->preset,
                              .key_path = target_is_bundle(target) ? NULL : target->key,
                              .alias = now.alias};
    add_pem(d, now.own, finding);
    finding.path = target->chain;
    if (now.apart)
        add_pem(d, now.apart, finding);
    return true;
}

/* The server answers on the port that the target's endpoint has, or, without one, on those that its
 * configuration gives the certificate. */
static void add_sockets(struct discovery *d, const struct policy_target *target)
{
    struct endpoint at;
    struct status why;
    size_t mine = 0;
    for (size_t i = 0; i < d->n_server; i++) {
        if (strcmp(d->server[i]->certificate, target->certificate) == 0)
            d->server[mine++] = d->server[i];
    }
    d->n_server = mine;
    if (target->endpoint) {
        if (endpoint_split(target->endpoint, &at, &why) == CODE_OK)
            discover_sockets(d, at.port_text);
        return;
    }
    for (size_t i = 0; i < mine; i++) {
        for (size_t l = 0; l < d->server[i]->n_listens; l++) {
            if (endpoint_split(d->server[i]->listens[l], &at, &why) == CODE_OK)
                discover_sockets(d, at.port_text);
        }
    }
}

void discover_installed(struct task_run *run, const struct policy_target *target,
                        Clm__Receipt__Outcome outcome)
{
    if (outcome != CLM__RECEIPT__OUTCOME__SUCCEEDED && outcome != CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED)
        return;
    struct discovery *d = discovery_new(run, ROWS_MAX);
    d->aside = true;
    discover_configuration_of(d, target);
    if (target->format == STORE_KUBERNETES || add_files(d, target)) {
        discover_configured(d, target->certificate);
        add_sockets(d, target);
        discovery_mark_served(run);
    }
    discovery_done(d);
}
