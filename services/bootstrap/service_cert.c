/* Service certificates. The signer's profile checks the CSR's name against the caller's. */
#include "service_cert.h"

#include "events.h"

#define ENVELOPE_LIFE_SEC (24 * 60 * 60)

static const struct {
    enum profile profile;
    bool envelope_life;
} rows[] = {
    [SERVICE_SIGNING] = {PROFILE_SERVICE, false},
    [SERVICE_ENVELOPE] = {PROFILE_ENVELOPE, true},
    [SERVICE_GATEWAY_TLS] = {PROFILE_GATEWAY_TLS, false},
};

const char *service_certificate_name(enum service_certificate what)
{
    return profile_info(rows[what].profile)->name;
}

enum code service_certificate_issue(struct request *req, const char *service, enum service_certificate what,
                                    struct bytes csr, struct bytes ret_chain[2], struct status *st)
{
    AUTO_DER struct der cert = {0};
    size_t failed;
    struct profile_request request = {
        .profile = rows[what].profile,
        .csr = csr,
        .subject = service,
        .life_sec = rows[what].envelope_life ? ENVELOPE_LIFE_SEC : req->settings->service_life_sec,
    };

    req->actor = arena_printf(req->arena, "service:%s", service);
    TRY(db_begin(req->db, st));
    CLEANUP(db_scope_end) struct db *tx = req->db;
    TRY(signer_issue(req->signer, &request, 1, &cert, &failed, st));
    TRY(event_certificate_issued(req, NULL, NULL, der_bytes(&cert), st));
    TRY(db_commit(tx, st));
    ret_chain[0] = bytes_dup(req->arena, der_bytes(&cert));
    ret_chain[1] = bytes_dup(req->arena, signer_issuer(req->signer, request.profile));
    return CODE_OK;
}
