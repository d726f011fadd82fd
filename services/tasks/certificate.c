/*
 * The envelope certificate: a new key each time, a CSR for this service's SPIFFE id, a chain from bootstrap,
 * checked before it is used. Runs on a periodic thread of each replica.
 */
#include "app.h"
#include "base/clock.h"
#include "base/log.h"
#include "envelope.h"
#include "proto/bootstrap.pb-c.h"

static enum code make_csr(struct service *service, const struct key *key, struct der *ret, struct status *st)
{
    char uri[400];
    spiffe_format(service_trust_domain(service), "service", "tasks", uri);
    struct pki_names names = {.uri = {uri}, .n_uri = 1}; /* borrowed: not for pki_names_done */
    return csr_make(key, NULL, &names, ret, st);
}

static enum code check_chain(struct service *service, const struct der_list *chain, struct status *st)
{
    struct der_list intermediates = {.n = chain->n - 1}; /* borrows */
    for (size_t i = 0; i < intermediates.n; i++)
        intermediates.item[i] = chain->item[i + 1];
    return chain_verify(der_bytes(&chain->item[0]), &intermediates, service_roots(service), PURPOSE_ENVELOPE,
                        clock_wall_ms(), st);
}

enum code certificate_renew_when_due(struct worker *worker, struct status *st)
{
    struct service *service = worker->service;
    struct envelope_signer *signer = app_of(worker)->tasks.signer;
    if (!envelope_signer_is_due(signer, clock_wall_ms()))
        return CODE_OK;
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der csr = {0};
    AUTO_DER_LIST struct der_list chain = {0};
    TRY(key_generate(KEY_EC_P256, &key, st));
    TRY(make_csr(service, key, &csr, st));
    if (service_certificate(service, CLM__ISSUE_SERVICE_CERTIFICATE_REQUEST__PROFILE__ENVELOPE,
                            der_bytes(&csr), &chain, st) != CODE_OK)
        return status_wrap(st, "envelope certificate");
    TRY(check_chain(service, &chain, st));
    TRY(envelope_signer_set(signer, &key, &chain, st));
    log_info("envelope certificate is in use", NULL);
    return CODE_OK;
}
