/*
 * The signer process. The peer is the bootstrap service, which counts as hostile here: what it sends is
 * bounded, unpacked with a budget, and held against the profiles. Nothing it says makes this process sign
 * outside them.
 */
#include "signer.h"

#include <signal.h>
#include <string.h>

#include "base/log.h"
#include "ca.h"
#include "frame.h"
#include "revoked_record.h"
#include "sandbox/sandbox.h"
#include "services/bootstrap/signer.pb-c.h"
#include "wire/wire.h"

_Static_assert((int)PROFILE_AGENT_IDENTITY == CLM__SIGNER__PROFILE__AGENT_IDENTITY &&
                   (int)PROFILE_BUS_TLS == CLM__SIGNER__PROFILE__BUS_TLS,
               "profiles.h and signer.proto have the same numbers");

static enum code send_message(int fd, const ProtobufCMessage *message, struct arena *arena, struct status *st)
{
    const uint8_t *data;
    size_t len;
    wire_pack(message, arena, &data, &len);
    return frame_send(fd, data, len, st);
}

static ProtobufCBinaryData binary(const struct der *der)
{
    return (ProtobufCBinaryData){.data = der->data, .len = der->len};
}

static enum code say_hello(int fd, struct ca_set *set, const struct status *loaded, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    Clm__Signer__Hello hello = CLM__SIGNER__HELLO__INIT;
    ProtobufCBinaryData issuers[ISSUING_CA_COUNT];
    char message[sizeof(loaded->msg)];

    hello.has_code = 1;
    hello.code = loaded->code;
    if (loaded->code == CODE_OK) {
        hello.has_root = 1;
        hello.root = binary(&set->root);
        for (size_t ca = 0; ca < ISSUING_CA_COUNT; ca++)
            issuers[ca] = binary(&set->certificate[ca]);
        hello.issuers = issuers;
        hello.n_issuers = ISSUING_CA_COUNT;
        hello.trust_domain = set->trust_domain;
    } else {
        memcpy(message, loaded->msg, sizeof(message));
        hello.message = message;
    }
    return send_message(fd, &hello.base, arena, st);
}

static enum code issue(struct ca_set *set, const Clm__Signer__IssueRequest *in, struct der *ret,
                       struct status *st)
{
    const struct profile_info *row = profile_info((enum profile)in->profile);

    if (!in->has_profile || !row)
        return status_set(st, CODE_INVALID_ARGUMENT, "unknown profile");
    if (row->init_only)
        return status_set(st, CODE_PERMISSION_DENIED, "profile %s: only clm-bootstrap init may use it",
                          row->name);
    struct profile_request request = {
        .profile = (enum profile)in->profile,
        .csr = {in->csr.data, in->csr.len},
        .subject = in->subject ? in->subject : "",
        .generation = in->generation,
        .life_sec = in->life_sec,
    };
    return profile_issue(set, &request, ret, st);
}

/* Records of the request into entries; the arena's. */
static enum code read_revoked(const Clm__Signer__CrlRequest *in, struct arena *arena, struct crl_request *ret,
                              struct status *st)
{
    size_t n = 0;
    for (size_t i = 0; i < in->n_revoked; i++) {
        if (in->revoked[i].len % REVOKED_RECORD_BYTES != 0)
            return status_set(st, CODE_INVALID_ARGUMENT, "revoked: not whole records");
        n += in->revoked[i].len / REVOKED_RECORD_BYTES;
    }
    if (n > CRL_ENTRIES_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "%zu revoked certificates: at most %u fit a list", n,
                          CRL_ENTRIES_MAX);
    struct crl_entry *entries = arena_array(arena, n + 1, sizeof(*entries));
    for (size_t i = 0; i < in->n_revoked; i++) {
        for (size_t at = 0; at < in->revoked[i].len; at += REVOKED_RECORD_BYTES)
            revoked_record_read(in->revoked[i].data + at, &entries[ret->n++]);
    }
    ret->entries = entries;
    return CODE_OK;
}

static enum code sign_crl(struct ca_set *set, const Clm__Signer__CrlRequest *in, struct arena *arena,
                          Clm__Signer__Response *response, struct status *st)
{
    struct crl_request request = {.number = in->number};
    AUTO_DER struct der der = {0};
    if (!in->has_issuer)
        return status_set(st, CODE_INVALID_ARGUMENT, "no such issuing CA");
    TRY(read_revoked(in, arena, &request, st));
    TRY(profile_crl(set, (enum issuing_ca)in->issuer, &request, in->life_sec, &der, st));
    response->n_crl = (der.len + CRL_PIECE_BYTES - 1) / CRL_PIECE_BYTES;
    response->crl = arena_array(arena, response->n_crl, sizeof(*response->crl));
    for (size_t i = 0; i < response->n_crl; i++) {
        size_t at = i * CRL_PIECE_BYTES, left = der.len - at;
        size_t len = left < CRL_PIECE_BYTES ? left : CRL_PIECE_BYTES;
        response->crl[i] = (ProtobufCBinaryData){len, arena_dup(arena, der.data + at, len)};
    }
    response->has_this_update_at_ms = response->has_next_update_at_ms = 1;
    response->this_update_at_ms = request.this_update_ms;
    response->next_update_at_ms = request.next_update_ms;
    return CODE_OK;
}

static enum code sign_certificates(struct ca_set *set, const Clm__Signer__Request *in, struct arena *arena,
                                   Clm__Signer__Response *response, struct status *st)
{
    if (in->n_issue > SIGNER_ISSUE_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "more than %d certificates", SIGNER_ISSUE_MAX);
    ProtobufCBinaryData *certificates = arena_array(arena, in->n_issue, sizeof(*certificates));
    for (size_t i = 0; i < in->n_issue; i++) {
        AUTO_DER struct der cert = {0};
        response->has_failed = 1;
        response->failed = (uint32_t)i;
        TRY(issue(set, in->issue[i], &cert, st));
        certificates[i] = (ProtobufCBinaryData){cert.len, arena_dup(arena, cert.data, cert.len)};
    }
    response->has_failed = 0;
    response->certificate = certificates;
    response->n_certificate = in->n_issue;
    return CODE_OK;
}

static enum code answer(int fd, struct ca_set *set, const uint8_t *data, size_t len, struct arena *arena,
                        struct status *st)
{
    ProtobufCMessage *message;
    Clm__Signer__Response response = CLM__SIGNER__RESPONSE__INIT;
    struct status refused = {0};

    enum code code = wire_unpack(&clm__signer__request__descriptor, data, len, arena, &message, &refused);
    if (code == CODE_OK) {
        const Clm__Signer__Request *request = (const Clm__Signer__Request *)message;
        if (!request->n_issue == !request->crl)
            code = status_set(&refused, CODE_INVALID_ARGUMENT, "the request must be one of issue and crl");
        else if (request->n_issue > 0)
            code = sign_certificates(set, request, arena, &response, &refused);
        else
            code = sign_crl(set, request->crl, arena, &response, &refused);
    }
    response.has_code = 1;
    response.code = code;
    if (code != CODE_OK)
        response.message = refused.msg;
    return send_message(fd, &response.base, arena, st);
}

static enum code serve(int fd, struct ca_set *set, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    for (;;) {
        const uint8_t *data;
        size_t len;
        arena_reset(arena);
        TRY(frame_receive(fd, arena, &data, &len, st));
        TRY(answer(fd, set, data, len, arena, st));
    }
}

static enum code confine(int fd, struct status *st)
{
    const struct sandbox_limits limits = {.open_files = SIGNER_FD + 1, .file_bytes = 0};
    sandbox_close_fds(&fd, 1);
    TRY(sandbox_limit(&limits, st));
    return sandbox_enter(SANDBOX_SIGNER, st);
}

int signer_run(int fd, const char *ca_dir, const char *crl_url)
{
    AUTO_CA_SET struct ca_set set = {0};
    struct status loaded = {0}, st = {0};

    /* The end of this process is the closing of the socket alone: a Ctrl-C for the group lets the service
     * finish. */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    secret_harden_process();

    (void)snprintf(set.crl_url, sizeof(set.crl_url), "%s", crl_url ? crl_url : "");
    if (set.crl_url[0] && !crl_url_valid(set.crl_url))
        (void)status_set(&loaded, CODE_INVALID_ARGUMENT, "the address of revocation lists is none");
    else if (ca_load(ca_dir, &set, &loaded) == CODE_OK && confine(fd, &loaded) != CODE_OK)
        (void)status_wrap(&loaded, "the signer cannot confine itself");
    if (say_hello(fd, &set, &loaded, &st) != CODE_OK || loaded.code != CODE_OK)
        return 1; /* the service logs what Hello says */

    enum code code = serve(fd, &set, &st);
    if (code != CODE_UNAVAILABLE)
        log_error("the signer stops", "reason", st.msg, NULL);
    return code == CODE_UNAVAILABLE ? 0 : 1;
}
