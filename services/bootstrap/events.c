/* Builds the events. Runs on a worker thread, inside the transaction that makes the event true. */
#include "events.h"

#include "border.h"
#include "pki/cert.h"
#include "proto/event.pb-c.h"

#define SUBJECT "clm.event.bootstrap."

/* The entity of a refusal that concerns no token at all. */
#define NO_TOKEN "00000000-0000-0000-0000-000000000000"

static const char *const token_subjects[] = {
    [TOKEN_EVENT_CREATED] = SUBJECT "token.created",
    [TOKEN_EVENT_USED] = SUBJECT "token.used",
    [TOKEN_EVENT_REFUSED] = SUBJECT "token.refused",
    [TOKEN_EVENT_REVOKED] = SUBJECT "token.revoked",
};

static char *copy(struct request *req, const char *text)
{
    return arena_strdup(req->arena, text);
}

static enum code emit(struct request *req, const char *subject, const char *entity_id, uint64_t version,
                      Clm__Event *event, struct status *st)
{
    struct border *border = req->border;
    event->subject = copy(req, subject);
    event->entity_id = copy(req, entity_id);
    event->has_entity_version = 1;
    event->entity_version = version;
    event->actor = copy(req, req->actor);
    event->traceparent = copy(req, req->traceparent);
    event->source = copy(req, req->source);
    return service_emit(border->worker, event, req->arena, st);
}

enum code event_token(struct request *req, enum token_event what, const char *token_id, uint64_t version,
                      const char *agent_id, const char *reason, const char *source, struct status *st)
{
    Clm__TokenEvent token = CLM__TOKEN_EVENT__INIT;
    Clm__Event event = CLM__EVENT__INIT;

    token.agent_id = copy(req, agent_id);
    token.reason = copy(req, reason);
    token.source = source && source[0] ? copy(req, source) : NULL;
    event.token = &token;
    return emit(req, token_subjects[what], token_id ? token_id : NO_TOKEN, version, &event, st);
}

static ProtobufCBinaryData binary(struct request *req, struct bytes bytes)
{
    return (ProtobufCBinaryData){.data = arena_dup(req->arena, bytes.data, bytes.len), .len = bytes.len};
}

static enum code emit_issued(struct request *req, const char *subject, const struct identity_row *row,
                             uint64_t version, struct status *st)
{
    Clm__IdentityIssued issued = CLM__IDENTITY_ISSUED__INIT;
    Clm__Event event = CLM__EVENT__INIT;

    issued.has_generation = 1;
    issued.generation = row->generation;
    issued.has_identity_certificate = issued.has_task_certificate = 1;
    issued.identity_certificate = binary(req, row->identity_certificate);
    issued.task_certificate = binary(req, row->task_certificate);
    issued.has_not_after_at_ms = 1;
    issued.not_after_at_ms = row->not_after_ms;
    issued.fingerprint_sha256 = copy(req, row->fingerprint);
    issued.serial = copy(req, row->serial);
    issued.has_by_token = 1;
    issued.by_token = row->token_id != NULL;
    event.identity_issued = &issued;
    return emit(req, subject, row->agent_id, version, &event, st);
}

enum code event_identity_issued(struct request *req, const struct identity_row *row, struct status *st)
{
    return emit_issued(req, SUBJECT "identity.issued", row, row->version, st);
}

enum code event_identity_adopted(struct request *req, const struct identity_row *row, uint64_t version,
                                 struct status *st)
{
    return emit_issued(req, SUBJECT "identity.adopted", row, version, st);
}

enum code event_identity_confirmed(struct request *req, const char *agent_id, uint32_t generation,
                                   uint64_t version, struct status *st)
{
    Clm__IdentityConfirmed confirmed = CLM__IDENTITY_CONFIRMED__INIT;
    Clm__Event event = CLM__EVENT__INIT;

    confirmed.has_generation = 1;
    confirmed.generation = generation;
    event.identity_confirmed = &confirmed;
    return emit(req, SUBJECT "identity.confirmed", agent_id, version, &event, st);
}

enum code event_identity_farewell(struct request *req, const struct identity_row *row, struct status *st)
{
    Clm__IdentityFarewell farewell = CLM__IDENTITY_FAREWELL__INIT;
    Clm__Event event = CLM__EVENT__INIT;

    farewell.has_generation = 1;
    farewell.generation = row->generation;
    event.identity_farewell = &farewell;
    return emit(req, SUBJECT "identity.farewell", row->agent_id, row->version, &event, st);
}

static void fill_names(struct request *req, const struct pki_names *names, Clm__CertificateInfo *info)
{
    info->dns_names = arena_array(req->arena, names->n_dns + names->n_ip + 1, sizeof(char *));
    for (size_t i = 0; i < names->n_dns; i++)
        info->dns_names[info->n_dns_names++] = copy(req, names->dns[i]);
    for (size_t i = 0; i < names->n_ip; i++)
        info->dns_names[info->n_dns_names++] = copy(req, names->ip[i]);
}

static void fill_info(struct request *req, const struct cert_info *cert, Clm__CertificateInfo *info)
{
    info->subject = copy(req, cert->subject);
    info->issuer = copy(req, cert->issuer);
    info->serial = copy(req, cert->serial);
    fill_names(req, &cert->names, info);
    info->has_not_before_at_ms = info->has_not_after_at_ms = 1;
    info->not_before_at_ms = cert->not_before_ms;
    info->not_after_at_ms = cert->not_after_ms;
    info->fingerprint_sha256 = copy(req, cert->fingerprint);
    info->key_type = copy(req, cert->key_name);
    info->signature_algorithm = copy(req, cert->signature_algorithm);
    info->has_is_ca = info->has_self_signed = 1;
    info->is_ca = cert->is_ca;
    info->self_signed = cert->self_signed;
}

enum code event_certificate_issued(struct request *req, const char *agent_id, const char *task_id,
                                   struct bytes certificate, struct status *st)
{
    AUTO_CERT_INFO struct cert_info cert = {0};
    Clm__CertificateIssued issued = CLM__CERTIFICATE_ISSUED__INIT;
    Clm__CertificateInfo info = CLM__CERTIFICATE_INFO__INIT;
    Clm__Event event = CLM__EVENT__INIT;

    TRY(cert_read(certificate, &cert, st));
    fill_info(req, &cert, &info);
    issued.agent_id = copy(req, agent_id);
    issued.task_id = copy(req, task_id);
    issued.certificate = &info;
    event.certificate_issued = &issued;
    return emit(req, SUBJECT "certificate.issued", cert.serial, 1, &event, st);
}

enum code event_crl(struct request *req, enum crl_event what, const struct crl_row *crl, struct status *st)
{
    Clm__Event event = CLM__EVENT__INIT;
    return emit(req, what == CRL_EVENT_LATE ? SUBJECT "crl.late" : SUBJECT "crl.issued", crl->issuer,
                crl->number, &event, st);
}
