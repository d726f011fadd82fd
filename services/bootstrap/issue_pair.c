/* The two certificates of one generation, for enrolment and for renewal. Worker threads. */
#include "issue_pair.h"

#include <string.h>

#include "base/clock.h"

/* The proof that the host has the key is checked where it counts, by the signer. */
static enum code read_csr(struct bytes csr, const char *what, uint8_t ret_spki[SHA256_SIZE],
                          struct status *st)
{
    struct bytes spki;
    if (csr_p256_spki(csr, &spki, st) != CODE_OK)
        return status_wrap(st, "%s", what);
    sha256(spki, ret_spki);
    return CODE_OK;
}

enum code csr_pair_read(const struct csr_pair *in, struct csr_pair_keys *ret, struct status *st)
{
    TRY(read_csr(in->identity, "identity CSR", ret->identity_spki, st));
    TRY(read_csr(in->task, "task CSR", ret->task_spki, st));
    if (memcmp(ret->identity_spki, ret->task_spki, SHA256_SIZE) == 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "the identity key and the task key must be two keys");
    return CODE_OK;
}

enum code issue_pair(struct request *req, const struct csr_pair *in, const struct csr_pair_keys *keys,
                     struct identity_row *row, struct status *st)
{
    struct cert_brief info;
    struct profile_request requests[] = {{.profile = PROFILE_AGENT_IDENTITY, .csr = in->identity},
                                         {.profile = PROFILE_AGENT_TASK, .csr = in->task}};
    struct bytes *const certificates[] = {&row->identity_certificate, &row->task_certificate};
    struct der made[ARRAY_LEN(requests)] = {0};
    size_t failed;

    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        requests[i].subject = row->agent_id;
        requests[i].generation = row->generation;
        requests[i].life_sec = req->settings->identity_life_sec;
    }
    if (signer_issue(req->signer, requests, ARRAY_LEN(requests), made, &failed, st) != CODE_OK)
        return status_wrap(st, "%s CSR", failed == 0 ? "identity" : "task");
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        *certificates[i] = bytes_dup(req->arena, der_bytes(&made[i]));
        der_done(&made[i]);
    }
    row->issuer_certificate = bytes_dup(req->arena, signer_issuer(req->signer, PROFILE_AGENT_TASK));
    TRY(cert_read_brief(row->identity_certificate, &info, st));
    row->identity_spki = keys->identity_spki;
    row->task_spki = keys->task_spki;
    row->serial = arena_strdup(req->arena, info.serial);
    row->fingerprint = arena_strdup(req->arena, info.fingerprint);
    row->not_after_ms = info.not_after_ms;
    row->issued_at_ms = clock_wall_ms();
    return CODE_OK;
}
