/* Revocation. The serials are read out of the certificates as they were issued; the list is the signer's. */
#include "crl.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "events.h"
#include "pki/cert.h"

static enum code revoke_one(struct request *req, const struct identity_row *row, struct bytes certificate,
                            int64_t at_ms, enum crl_reason reason, struct status *st)
{
    AUTO_CERT_INFO struct cert_info info = {0};
    TRY(cert_read(certificate, &info, st));
    const struct revoked_row revoked = {
        .issuer = issuing_ca_name(CA_AGENTS),
        .serial = info.serial,
        .agent_id = row->agent_id,
        .reason = reason,
        .revoked_at_ms = at_ms,
        .not_after_ms = info.not_after_ms,
    };
    return store_revoked_add(req->db, &revoked, st);
}

enum code agent_certificates_revoke(struct request *req, const char *agent_id, int64_t at_ms,
                                    enum crl_reason reason, struct status *st)
{
    struct identity_row *rows;
    size_t n;
    TRY(store_identity_history(req->db, req->arena, agent_id, &rows, &n, st));
    for (size_t i = 0; i < n; i++) {
        if (rows[i].issued_at_ms > at_ms || rows[i].not_after_ms <= at_ms)
            continue;
        TRY(revoke_one(req, &rows[i], rows[i].identity_certificate, at_ms, reason, st));
        TRY(revoke_one(req, &rows[i], rows[i].task_certificate, at_ms, reason, st));
    }
    return CODE_OK;
}

/* ---- lists ---- */

static enum code sign(struct request *req, enum issuing_ca ca, uint64_t number, int64_t life_sec,
                      struct crl_row *ret, struct status *st)
{
    AUTO_DER struct der der = {0};
    struct crl_entry *entries;
    struct signer_crl order = {.ca = ca, .number = number, .life_sec = life_sec};
    /* An ended certificate stays for one life more: RFC 5280 section 3.3 wants it on one list after its end.
     */
    TRY(store_revoked_list(req->db, req->arena, issuing_ca_name(ca), number,
                           clock_wall_ms() - life_sec * 1000, &entries, &order.n, st));
    order.entries = entries;
    TRY(signer_sign_crl(req->signer, &order, &der, &ret->this_update_ms, &ret->next_update_ms, st));
    ret->issuer = issuing_ca_name(ca);
    ret->number = number;
    ret->der = bytes_dup(req->arena, der_bytes(&der));
    return CODE_OK;
}

static enum code issue(struct request *req, enum issuing_ca ca, uint64_t number, int64_t life_sec,
                       struct crl_row *ret, struct status *st)
{
    TRY(db_begin(req->db, st));
    CLEANUP(db_scope_end) struct db *tx = req->db;
    TRY(sign(req, ca, number, life_sec, ret, st));
    TRY(store_crl_put(tx, ret, st));
    TRY(event_crl(req, CRL_EVENT_ISSUED, ret, st));
    return db_commit(tx, st);
}

static enum code tell_late(struct request *req, const struct crl_row *crl, struct status *st)
{
    bool first = false;
    TRY(db_begin(req->db, st));
    CLEANUP(db_scope_end) struct db *tx = req->db;
    TRY(store_crl_late(tx, crl->issuer, &first, st));
    if (!first)
        return CODE_OK;
    log_error("a revocation list cannot be renewed", "issuer", crl->issuer, NULL);
    TRY(event_crl(req, CRL_EVENT_LATE, crl, st));
    return db_commit(tx, st);
}

static bool is_due(const struct crl_row *crl, int64_t now_ms)
{
    return crl->unlisted || now_ms >= crl->this_update_ms + (crl->next_update_ms - crl->this_update_ms) / 2;
}

static enum code tend(struct request *req, enum issuing_ca ca, int64_t life_sec, struct crl_times *ret,
                      struct status *st)
{
    struct crl_row crl = {0}, next = {0};
    struct status absent = {0};
    int64_t now_ms = clock_wall_ms();
    enum code code = store_crl_get(req->db, req->arena, issuing_ca_name(ca), &crl, &absent);
    if (code != CODE_OK && code != CODE_NOT_FOUND)
        return status_set(st, code, "%s", absent.msg);
    if (code == CODE_OK)
        *ret = (struct crl_times){crl.this_update_ms, crl.next_update_ms};
    if (code == CODE_OK && !is_due(&crl, now_ms))
        return CODE_OK;
    code = issue(req, ca, crl.number + 1, life_sec, &next, st);
    if (code == CODE_OK) {
        *ret = (struct crl_times){next.this_update_ms, next.next_update_ms};
        return CODE_OK;
    }
    int64_t quarter_ms = (crl.next_update_ms - crl.this_update_ms) / 4;
    struct status told = {0};
    if (crl.number > 0 && !crl.late_told && now_ms >= crl.next_update_ms - quarter_ms &&
        tell_late(req, &crl, &told) != CODE_OK)
        log_warn("cannot tell that a revocation list is late", "why", told.msg, NULL);
    return status_wrap(st, "revocation list of %s", issuing_ca_name(ca));
}

/* One that fails does not keep the others from being made. */
enum code crls_tend(struct request *req, int64_t life_sec, struct crl_times ret[ISSUING_CA_COUNT],
                    struct status *st)
{
    enum code worst = CODE_OK;
    for (size_t ca = 0; ca < ISSUING_CA_COUNT; ca++) {
        struct status one = {0};
        ret[ca] = (struct crl_times){-1, -1};
        if (tend(req, (enum issuing_ca)ca, life_sec, &ret[ca], &one) != CODE_OK)
            worst = status_set(st, one.code, "%s", one.msg);
    }
    return worst;
}

enum code crl_get(struct request *req, const char *issuer, struct crl_row *ret, struct status *st)
{
    return store_crl_get(req->db, req->arena, issuer, ret, st);
}
