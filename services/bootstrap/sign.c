/*
 * Managed certificates from the platform's own CA. Four independent gates: the agent's signature, its scope
 * as this service knows it, the tasks service's word for the task, and the signer's profile.
 */
#include "sign.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "events.h"
#include "peers.h"
#include "pki/cms.h"
#include "projection.h"
#include "scope/scope.h"
#include "store.h"

#define TASK_KIND_RENEW 2u /* Task.Kind */
#define KEYS_PER_ATTEMPT_MAX                                                                                 \
    4u /* an agent that lost its journal makes a new key; one that makes many is broken */

static enum code verify(struct request *req, const char *agent_id, struct bytes cms,
                        struct signed_request *ret, struct status *st)
{
    struct identity_row identity;
    AUTO_DER struct der content = {0};
    AUTO_DER struct der signer = {0};

    /* Between its move to the next generation and the confirmation an agent signs with the new key already.
     */
    AUTO_DER struct der claimed = {0};
    TRY(cms_claimed_signer(cms, &claimed, st));
    enum code code = store_identity_signer(req->db, req->arena, agent_id, der_bytes(&claimed), &identity, st);
    if (code == CODE_NOT_FOUND)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "the request is not signed by agent %s's present task key", agent_id);
    TRY(code);
    TRY(cms_verify(CMS_CONTENT_REQUEST, cms, &identity.task_certificate, NULL, PURPOSE_AGENT_TASK,
                   clock_wall_ms(), &content, &signer, st));
    TRY(signed_request_read(der_bytes(&content), req->arena, ret, st));
    if (ret->purpose != SIGNED_SIGN || strcmp(ret->agent_id, agent_id) != 0 ||
        ret->generation != identity.generation)
        return status_set(
            st, CODE_PERMISSION_DENIED,
            "what was signed is not a request of this agent's present generation for a certificate");
    if (!uuid_valid(ret->task_id) || ret->attempt == 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "the request names no task and attempt");
    return CODE_OK;
}

/* By what this service knows of the agent, as of *ret_version (0: nothing). */
static enum code check_scope(struct request *req, const char *agent_id, const struct pki_names *names,
                             uint64_t *ret_version, struct status *st)
{
    struct agent_scope known = {0};

    enum code code = store_scope_get(req->db, req->arena, agent_id, &known, st);
    *ret_version = known.version;
    if (code == CODE_NOT_FOUND)
        return status_set(st, CODE_PERMISSION_DENIED, "no scope is known for agent %s", agent_id);
    TRY(code);
    /* Whether an admin released the change, the tasks service knows. */
    if (!safe_allows(known.column, SAFE_CHANGE, true))
        return status_set(st, CODE_PERMISSION_DENIED, "agent %s is %s: no certificate is signed for it",
                          agent_id, safe_column_name(known.column));
    struct scope scope = {
        .operations = known.operations, .dns_names = known.dns_names, .n_dns_names = known.n_dns_names};
    if (!scope_allows_operation(&scope, TASK_KIND_RENEW))
        return status_set(st, CODE_PERMISSION_DENIED, "the scope of agent %s does not allow RENEW", agent_id);
    for (size_t i = 0; i < names->n_dns; i++) {
        if (!scope_allows_dns_name(&scope, names->dns[i]))
            return status_set(st, CODE_PERMISSION_DENIED, "\"%.100s\" is outside the scope of agent %s",
                              names->dns[i], agent_id);
    }
    for (size_t i = 0; i < names->n_ip; i++) {
        if (!scope_allows_dns_name(&scope, names->ip[i]))
            return status_set(st, CODE_PERMISSION_DENIED, "%s is outside the scope of agent %s", names->ip[i],
                              agent_id);
    }
    return CODE_OK;
}

/* The event of a wider scope or of an enabling may still be on its way here: a refusal by what is older than
 * the registry's row is not the last word, and the agent asks again. Without the registry it is. */
static enum code check_scope_now(struct request *req, const char *agent_id, const struct pki_names *names,
                                 struct status *st)
{
    uint64_t known, now;
    struct status ignored;

    enum code code = check_scope(req, agent_id, names, &known, st);
    if (code == CODE_PERMISSION_DENIED && registry_agent_version(req, agent_id, &now, &ignored) == CODE_OK &&
        now > known)
        return status_set(st, CODE_UNAVAILABLE, "a change of agent %s is on its way here: ask again",
                          agent_id);
    return code;
}

/* A certificate that covers the gateway's name would let a host pass for the gateway before every other host.
 */
static enum code check_not_ours(const struct settings *settings, const char *name, struct status *st)
{
    bool ours = dns_name_matches(name, settings->gateway_host);
    for (size_t i = 0; i < settings->n_reserved_names; i++)
        ours = ours || dns_name_matches(name, settings->reserved_names[i]);
    return ours ? status_set(st, CODE_PERMISSION_DENIED, "\"%.100s\" is a name of the platform's own servers",
                             name)
                : CODE_OK;
}

static enum code check_names(const struct settings *settings, const struct pki_names *names,
                             struct status *st)
{
    if (names->n_uri > 0 || names->n_dns + names->n_ip == 0)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "the CSR's subjectAltName must hold DNS names or addresses and nothing else");
    for (size_t i = 0; i < names->n_dns; i++)
        TRY(check_not_ours(settings, names->dns[i], st));
    for (size_t i = 0; i < names->n_ip; i++)
        TRY(check_not_ours(settings, names->ip[i], st));
    return CODE_OK;
}

static enum code authorize(struct request *req, const struct signed_request *said,
                           const struct pki_names *names, int64_t *ret_life_sec, struct status *st)
{
    char *all[ARRAY_LEN(names->dns) + ARRAY_LEN(names->ip)];
    uint32_t life_sec = 0;
    size_t n = 0;

    for (size_t i = 0; i < names->n_dns; i++)
        all[n++] = names->dns[i];
    for (size_t i = 0; i < names->n_ip; i++)
        all[n++] = names->ip[i];
    if (tasks_authorize_certificate(req, said, all, n, &life_sec, st) != CODE_OK)
        return status_wrap(st, "task %s, attempt %u", said->task_id, said->attempt);
    *ret_life_sec = req->settings->certificate_life_sec;
    if (life_sec > 0 && life_sec < *ret_life_sec)
        *ret_life_sec = life_sec;
    return CODE_OK;
}

static enum code issue(struct request *req, const struct signed_request *said, int64_t life_sec,
                       struct certificate_row *row, struct status *st)
{
    AUTO_DER struct der cert = {0};
    size_t failed;
    AUTO_CERT_INFO struct cert_info info = {0};
    struct profile_request request = {
        .profile = PROFILE_MANAGED_SERVER, .csr = said->csr, .subject = "", .life_sec = life_sec};

    TRY(signer_issue(req->signer, &request, 1, &cert, &failed, st));
    TRY(cert_read(der_bytes(&cert), &info, st));
    row->certificate = bytes_dup(req->arena, der_bytes(&cert));
    row->issuer_certificate = bytes_dup(req->arena, signer_issuer(req->signer, PROFILE_MANAGED_SERVER));
    row->serial = arena_strdup(req->arena, info.serial);
    row->not_after_ms = info.not_after_ms;
    row->issued_at_ms = clock_wall_ms();
    return CODE_OK;
}

/* What was issued for this key before, and whether there are too many others. */
static enum code find_before(struct request *req, const struct signed_request *said,
                             const uint8_t spki[SHA256_SIZE], struct certificate_row *ret, bool *ret_found,
                             struct status *st)
{
    uint32_t others;

    enum code code =
        store_certificate_find(req->db, req->arena, said->task_id, said->attempt, spki, ret, &others, st);
    *ret_found = code == CODE_OK;
    if (code == CODE_NOT_FOUND && others >= KEYS_PER_ATTEMPT_MAX)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "attempt %u of task %s has certificates for %u keys already", said->attempt,
                          said->task_id, others);
    if (code == CODE_OK && strcmp(ret->agent_id, said->agent_id) != 0)
        return status_set(st, CODE_PERMISSION_DENIED, "task %s is another agent's", said->task_id);
    return code == CODE_NOT_FOUND ? CODE_OK : code;
}

/* Under the agent's lock, so that two deliveries of one request cannot both issue. */
static enum code issue_once(struct request *req, const struct signed_request *said,
                            const uint8_t spki[SHA256_SIZE], int64_t life_sec, struct certificate_row *row,
                            struct status *st)
{
    uint32_t next_generation;
    bool found;

    TRY(db_begin(req->db, st));
    CLEANUP(db_scope_end) struct db *tx = req->db;
    TRY(store_identity_lock(tx, said->agent_id, &next_generation, st));
    TRY(find_before(req, said, spki, row, &found, st));
    if (found)
        return CODE_OK;
    *row = (struct certificate_row){
        .task_id = said->task_id, .attempt = said->attempt, .agent_id = said->agent_id, .spki = spki};
    TRY(issue(req, said, life_sec, row, st));
    TRY(store_certificate_add(tx, row, st));
    TRY(event_certificate_issued(req, said->agent_id, said->task_id, row->certificate, st));
    return db_commit(tx, st);
}

enum code certificate_sign(struct request *req, const char *agent_id, struct bytes signed_request,
                           struct bytes ret_chain[2], struct status *st)
{
    struct signed_request said;
    struct certificate_row row;
    AUTO_CSR_INFO struct csr_info csr = {0};
    uint8_t spki[SHA256_SIZE];
    int64_t life_sec = 0;
    bool found;

    TRY(verify(req, agent_id, signed_request, &said, st));
    TRY(csr_verify(said.csr, &csr, st));
    TRY(check_names(req->settings, &csr.names, st));
    TRY(check_scope_now(req, agent_id, &csr.names, st));
    TRY(projection_admits(req, agent_id, said.generation, st));

    req->actor = arena_printf(req->arena, "agent:%s", agent_id);
    sha256(der_bytes(&csr.spki), spki);
    TRY(find_before(req, &said, spki, &row, &found, st));
    if (!found) {
        TRY(authorize(req, &said, &csr.names, &life_sec, st));
        TRY(issue_once(req, &said, spki, life_sec, &row, st));
        log_info("certificate issued", "agent", agent_id, "task", said.task_id, "serial", row.serial, NULL);
    }
    ret_chain[0] = row.certificate;
    ret_chain[1] = row.issuer_certificate;
    return CODE_OK;
}
