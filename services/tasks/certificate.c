/*
 * The envelope certificate: a new key each time, a CSR for this service's SPIFFE id, a chain from bootstrap,
 * checked before it is used. Runs on a periodic thread of each replica.
 */
#include <stdlib.h>
#include <string.h>

#include "app.h"
#include "base/clock.h"
#include "base/log.h"
#include "envelope.h"
#include "proto/bootstrap.pb-c.h"

#define ISSUE_TIMEOUT_MS 10000

static enum code make_csr(struct service *service, const struct key *key, struct der *ret, struct status *st)
{
    char uri[400];
    spiffe_format(service_trust_domain(service), "service", "tasks", uri);
    struct pki_names names = {.uri = {uri}, .n_uri = 1}; /* borrowed: not for pki_names_done */
    return csr_make(key, NULL, &names, ret, st);
}

static enum code ask(struct service *service, struct arena *arena, struct bytes csr, struct der_list *ret,
                     struct status *st)
{
    Clm__IssueServiceCertificateRequest request = CLM__ISSUE_SERVICE_CERTIFICATE_REQUEST__INIT;
    request.has_profile = 1;
    request.profile = CLM__ISSUE_SERVICE_CERTIFICATE_REQUEST__PROFILE__ENVELOPE;
    request.has_csr = 1;
    request.csr = (ProtobufCBinaryData){.len = csr.len, .data = arena_dup(arena, csr.data, csr.len)};
    const struct rpc_call call = {
        .service = "bootstrap",
        .descriptor = &clm__bootstrap__descriptor,
        .method = "IssueServiceCertificate",
        .request = &request.base,
        .timeout_ms = ISSUE_TIMEOUT_MS,
        .authority = true,
    };
    ProtobufCMessage *msg;
    TRY(rpc_call(service_bus(service), service_identity(service), &call, arena, &msg, st));
    const Clm__IssueServiceCertificateResponse *reply = (const Clm__IssueServiceCertificateResponse *)msg;
    if (reply->n_chain == 0 || reply->n_chain > DER_LIST_MAX)
        return status_set(st, CODE_INTERNAL, "bootstrap answered with %zu certificates", reply->n_chain);
    for (size_t i = 0; i < reply->n_chain; i++) {
        ret->item[i].data = malloc(reply->chain[i].len);
        if (!ret->item[i].data)
            abort();
        memcpy(ret->item[i].data, reply->chain[i].data, reply->chain[i].len);
        ret->item[i].len = reply->chain[i].len;
        ret->n++;
    }
    return CODE_OK;
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
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der csr = {0};
    AUTO_DER_LIST struct der_list chain = {0};
    TRY(key_generate(KEY_EC_P256, &key, st));
    TRY(make_csr(service, key, &csr, st));
    if (ask(service, arena, der_bytes(&csr), &chain, st) != CODE_OK)
        return status_wrap(st, "envelope certificate");
    TRY(check_chain(service, &chain, st));
    TRY(envelope_signer_set(signer, &key, &chain, st));
    log_info("envelope certificate is in use", NULL);
    return CODE_OK;
}
