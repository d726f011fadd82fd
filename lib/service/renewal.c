/*
 * The process's own certificates: where they come from, and their renewal by clm-bootstrap at half life. One
 * thread for all of them. What the CA gave is kept beside the state, so a restart goes on with it; the files
 * of the configuration are looked at again and again, so replacing one of another CA works without a restart,
 * too. Nothing here is needed to reach the bus or the database: their credentials are passwords.
 */
#include <limits.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/id.h"
#include "base/log.h"
#include "proto/bootstrap.pb-c.h"
#include "service/internal.h"

#define LOOK_MS          10000  /* for files that were replaced */
#define BACKDATE_MS      300000 /* the CA's, for clocks that differ: not a part of the life */
#define ISSUE_TIMEOUT_MS 10000
#define RETRY_MAX_MS     60000

static enum pki_purpose purpose_of(const struct renewal *renewal)
{
    return renewal->tls ? PURPOSE_TLS_SERVER : PURPOSE_SERVICE;
}

static bool is_ours(const struct service *service, const struct credential *credential)
{
    struct spiffe_id id;
    struct status st = {0};
    return cert_spiffe(der_bytes(&credential->chain.item[0]), &id, &st) == CODE_OK &&
           strcmp(id.kind, "service") == 0 && strcmp(id.name, service->descriptor->name) == 0;
}

static enum code check(const struct service *service, const struct renewal *renewal,
                       const struct credential *credential, struct status *st)
{
    struct der_list rest = credential_intermediates(credential);
    if (!is_ours(service, credential))
        return status_set(st, CODE_UNAUTHENTICATED, "it is not a certificate of service %s",
                          service->descriptor->name);
    return chain_verify(der_bytes(&credential->chain.item[0]), &rest, &service->roots, purpose_of(renewal),
                        clock_wall_ms(), st);
}

/* ---- where it comes from ---- */

/* False without a state directory. */
static bool state_path(const struct service *service, const struct renewal *renewal, char out[PATH_MAX])
{
    const struct service_config *config = service->config;
    return config->state_dir &&
           (size_t)snprintf(out, PATH_MAX, "%s/%s.pem", config->state_dir, renewal->name) < PATH_MAX;
}

/* What the CA gave this process earlier; false if there is nothing that may be used. */
static bool read_kept(const struct service *service, const struct renewal *renewal, struct credential *ret)
{
    char path[PATH_MAX];
    struct status st = {0};
    if (!state_path(service, renewal, path))
        return false;
    enum code code = credential_read(path, path, ret, &st);
    if (code == CODE_OK)
        code = check(service, renewal, ret, &st);
    if (code == CODE_OK)
        return true;
    if (code != CODE_NOT_FOUND)
        log_debug("a renewed certificate is not used", "path", path, "why", st.msg, NULL);
    credential_done(ret);
    return false;
}

/* Key and certificate are two files: who replaces them may do so between the two looks. */
static enum code read_files(const struct renewal *renewal, struct credential *ret, struct status *st)
{
    enum code code = credential_read(renewal->key_path, renewal->certificate_path, ret, st);
    return code == CODE_INVALID_ARGUMENT
               ? credential_read(renewal->key_path, renewal->certificate_path, ret, st)
               : code;
}

/* The younger of both. A certificate in the configured files that is not the platform's own is never
 * replaced: somebody wants it. */
static enum code pick(const struct service *service, const struct renewal *renewal, struct credential *ret,
                      struct status *st)
{
    AUTO_CREDENTIAL struct credential kept = {0};
    TRY(read_files(renewal, ret, st));
    if (!is_ours(service, ret) || !read_kept(service, renewal, &kept) ||
        kept.not_before_ms <= ret->not_before_ms)
        return CODE_OK;
    credential_done(ret);
    *ret = kept;
    kept = (struct credential){0};
    return CODE_OK;
}

/* ---- using ---- */

/* Up to a tenth of the life later than half of it: replicas that started together do not ask together. */
static int64_t due_at(const struct credential *credential)
{
    int64_t from = credential->not_before_ms + BACKDATE_MS;
    if (from >= credential->not_after_ms)
        from = credential->not_before_ms;
    int64_t life = credential->not_after_ms - from;
    uint32_t jitter;
    random_bytes(&jitter, sizeof(jitter));
    return from + life / 2 + (int64_t)((double)life / 10 * jitter / UINT32_MAX);
}

static enum code use(struct service *service, struct own *own, struct credential *credential,
                     struct status *st)
{
    TRY(own->renewal.use(service, credential, own->renewal.arg, st));
    (void)pthread_mutex_lock(&service->mutex);
    credential_done(&own->current);
    own->current = *credential;
    *credential = (struct credential){0};
    own->ours = is_ours(service, &own->current);
    own->due_wall_ms = due_at(&own->current);
    (void)pthread_mutex_unlock(&service->mutex);
    metric_set(frame_metrics.certificate_ends, "name", own->renewal.name,
               (double)own->current.not_after_ms / 1000);
    return CODE_OK;
}

enum code service_renewal(struct service *service, const struct renewal *renewal, struct status *st)
{
    AUTO_CREDENTIAL struct credential credential = {0};
    struct own *own = NULL;
    for (size_t i = 0; i < service->n_own && !own; i++) /* start is called again after a failure */
        own = strcmp(service->own[i].renewal.name, renewal->name) == 0 ? &service->own[i] : NULL;
    if (!own && service->n_own == SERVICE_RENEWALS_MAX)
        return status_set(st, CODE_INTERNAL, "%s: too many certificates", renewal->name);
    if (!own)
        own = &service->own[service->n_own++];
    own->renewal = *renewal;
    TRY(pick(service, renewal, &credential, st));
    return use(service, own, &credential, st);
}

/* ---- renewing ---- */

static enum code make_csr(const struct own *own, const struct key *key, struct der *ret, struct status *st)
{
    AUTO_CERT_INFO struct cert_info info = {0};
    TRY(cert_read(der_bytes(&own->current.chain.item[0]), &info, st));
    return csr_make(key, NULL, &info.names, ret, st);
}

enum code service_certificate(struct service *service, int profile, struct bytes csr, struct der_list *ret,
                              struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    Clm__IssueServiceCertificateRequest request = CLM__ISSUE_SERVICE_CERTIFICATE_REQUEST__INIT;
    ProtobufCMessage *msg;
    request.has_profile = request.has_csr = true;
    request.profile = (Clm__IssueServiceCertificateRequest__Profile)profile;
    request.csr = (ProtobufCBinaryData){csr.len, arena_dup(arena, csr.data, csr.len)};
    const struct rpc_call call = {
        .service = "bootstrap",
        .descriptor = &clm__bootstrap__descriptor,
        .method = "IssueServiceCertificate",
        .request = &request.base,
        .timeout_ms = ISSUE_TIMEOUT_MS,
        .authority = true,
    };
    TRY(rpc_call(service->bus, service->identity, &call, arena, &msg, st));
    const Clm__IssueServiceCertificateResponse *reply = (const Clm__IssueServiceCertificateResponse *)msg;
    if (reply->n_chain == 0)
        return status_set(st, CODE_INTERNAL, "bootstrap answered without a certificate");
    for (size_t i = 0; i < reply->n_chain; i++)
        TRY(der_list_add(ret, (struct bytes){reply->chain[i].data, reply->chain[i].len}, st));
    return CODE_OK;
}

static enum code ask(struct service *service, const struct renewal *renewal, struct bytes csr,
                     struct der_list *ret, struct status *st)
{
    TRY(service_certificate(service,
                            renewal->tls ? CLM__ISSUE_SERVICE_CERTIFICATE_REQUEST__PROFILE__GATEWAY_TLS
                                         : CLM__ISSUE_SERVICE_CERTIFICATE_REQUEST__PROFILE__SERVICE,
                            csr, ret, st));
    /* Agents that have only a token check its pin against the root that a gateway shows. */
    for (size_t i = 0; renewal->tls && i < service->roots.n; i++)
        TRY(der_list_add(ret, der_bytes(&service->roots.item[i]), st));
    return CODE_OK;
}

static enum code keep(const struct service *service, const struct renewal *renewal,
                      const struct credential *credential, struct status *st)
{
    char path[PATH_MAX];
    if (!state_path(service, renewal, path))
        return CODE_OK;
    return credential_write(credential, path, st);
}

static enum code renew(struct service *service, struct own *own, struct status *st)
{
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der csr = {0};
    AUTO_DER_LIST struct der_list chain = {0};
    AUTO_CREDENTIAL struct credential next = {0};
    AUTO_SECRET struct secret *pem = NULL;
    TRY(key_generate(KEY_EC_P256, &key, st));
    TRY(make_csr(own, key, &csr, st));
    TRY(ask(service, &own->renewal, der_bytes(&csr), &chain, st));
    TRY(key_to_pem(key, NULL, &pem, st));
    TRY(credential_make(TAKE(pem), &chain, &next, st));
    if (check(service, &own->renewal, &next, st) != CODE_OK)
        return status_wrap(st, "what the CA gave");
    /* Without a place to keep it the process goes on with it, and begins with the files again. */
    struct status kept = {0};
    if (keep(service, &own->renewal, &next, &kept) != CODE_OK)
        log_warn("a renewed certificate is not kept over a restart", "certificate", own->renewal.name, "why",
                 kept.msg, NULL);
    TRY(use(service, own, &next, st));
    log_info("certificate renewed", "certificate", own->renewal.name, NULL);
    return CODE_OK;
}

bool renewal_takes_up(const struct own *own, const struct credential *found, bool found_is_ours)
{
    if (!own->ours || !found_is_ours)
        return !credential_same(found, &own->current);
    return own->said != CODE_OK && found->not_before_ms > own->current.not_before_ms;
}

static void look(struct service *service, struct own *own)
{
    AUTO_CREDENTIAL struct credential found = {0};
    struct status st = {0};
    if (pick(service, &own->renewal, &found, &st) != CODE_OK) {
        log_debug("a certificate's files cannot be read", "certificate", own->renewal.name, "why", st.msg,
                  NULL);
        return;
    }
    if (!renewal_takes_up(own, &found, is_ours(service, &found)))
        return;
    if (use(service, own, &found, &st) == CODE_OK)
        log_info("a replaced certificate is in use", "certificate", own->renewal.name, NULL);
    else
        log_warn("a replaced certificate cannot be used", "certificate", own->renewal.name, "why", st.msg,
                 NULL);
}

/* The wall clock says when the next look or renewal is; it goes on while a machine sleeps. */
static void tend(struct service *service, struct own *own)
{
    struct status st = {0};
    int64_t now_ms = clock_wall_ms();
    if (now_ms >= own->look_wall_ms || own->look_wall_ms > now_ms + LOOK_MS) {
        own->look_wall_ms = now_ms + LOOK_MS;
        look(service, own);
    }
    if (!own->ours || now_ms < own->due_wall_ms)
        return;
    enum code code = renew(service, own, &st);
    if (code == CODE_OK) {
        own->said = CODE_OK;
        return;
    }
    if (code != own->said)
        log_warn("a certificate is not renewed yet", "certificate", own->renewal.name, "why", st.msg, NULL);
    own->said = code;
    int64_t left_ms = own->current.not_after_ms - now_ms, retry_ms = left_ms / 20;
    own->due_wall_ms = now_ms + (retry_ms < RETRY_MS       ? RETRY_MS
                                 : retry_ms > RETRY_MAX_MS ? RETRY_MAX_MS
                                                           : retry_ms);
}

static void *renewals_main(void *arg)
{
    struct service *service = arg;
    do {
        for (size_t i = 0; i < service->n_own; i++)
            tend(service, &service->own[i]);
    } while (!service_wait(service, RENEWAL_LOOK_MS));
    return NULL;
}

enum code renewals_start(struct service *service, struct status *st)
{
    if (pthread_create(&service->renewals, NULL, renewals_main, service) != 0)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "no thread for renewals");
    service->renewing = true;
    return CODE_OK;
}

void renewals_stop(struct service *service)
{
    if (service->renewing)
        (void)pthread_join(service->renewals, NULL);
    service->renewing = false;
}

void renewals_free(struct service *service)
{
    for (size_t i = 0; i < service->n_own; i++)
        credential_done(&service->own[i].current);
    service->n_own = 0;
}

void service_own_credential(const struct service *service, struct credential *ret)
{
    struct service *s = (struct service *)(uintptr_t)service;
    (void)pthread_mutex_lock(&s->mutex);
    credential_copy(&s->own[0].current, ret);
    (void)pthread_mutex_unlock(&s->mutex);
}
