/*
 * Enrolment. The order of locks is agent, then token, as in confirm.c. The signer is asked while both are
 * held: a certificate that was issued is one that was recorded.
 */
#include "enrol.h"

#include <string.h>

#include "base/clock.h"
#include "events.h"
#include "pki/token.h"
#include "store.h"

#define REFUSED "the bootstrap token is not valid"

struct csr_pair {
    uint8_t identity_spki[SHA256_SIZE], task_spki[SHA256_SIZE];
};

/* token->id is NULL for a secret that nobody made. */
static enum code refuse(struct request *req, const struct enrolment *in, const struct token_row *token,
                        const char *reason, const char **ret_refusal, struct status *st)
{
    uint64_t version = 1;

    *ret_refusal = reason;
    if (!throttle_count(req->throttle, in->source))
        return status_set(st, CODE_RESOURCE_EXHAUSTED,
                          "too many attempts with tokens that are not valid; wait a minute");
    TRY(db_begin(req->db, st));
    CLEANUP(db_scope_end) struct db *tx = req->db;
    if (token->id)
        TRY(store_token_touch(tx, token->id, &version, st));
    TRY(event_token(req, TOKEN_EVENT_REFUSED, token->id, version, token->agent_id, reason, in->source, st));
    TRY(db_commit(tx, st));
    return status_set(st, CODE_UNAUTHENTICATED, REFUSED);
}

static enum code read_csr(struct bytes csr, const char *what, uint8_t ret_spki[SHA256_SIZE],
                          struct status *st)
{
    AUTO_CSR_INFO struct csr_info info = {0};
    if (csr_verify(csr, &info, st) != CODE_OK)
        return status_wrap(st, "%s", what);
    if (info.key_type != KEY_EC_P256)
        return status_set(st, CODE_INVALID_ARGUMENT, "%s: the key must be EC P-256", what);
    sha256(der_bytes(&info.spki), ret_spki);
    return CODE_OK;
}

static enum code read_csrs(const struct enrolment *in, struct csr_pair *ret, struct status *st)
{
    TRY(read_csr(in->identity_csr, "identity CSR", ret->identity_spki, st));
    TRY(read_csr(in->task_csr, "task CSR", ret->task_spki, st));
    if (memcmp(ret->identity_spki, ret->task_spki, SHA256_SIZE) == 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "the identity key and the task key must be two keys");
    return CODE_OK;
}

static enum code issue_one(struct request *req, enum profile profile, struct bytes csr,
                           const struct identity_row *row, struct bytes *ret, struct bytes *ret_issuer,
                           struct status *st)
{
    AUTO_DER struct der cert = {0};
    AUTO_DER struct der issuer = {0};
    struct profile_request request = {
        .profile = profile,
        .csr = csr,
        .subject = row->agent_id,
        .generation = row->generation,
        .life_sec = req->settings->identity_life_sec,
    };
    TRY(signer_issue(req->signer, &request, &cert, &issuer, st));
    *ret = bytes_dup(req->arena, der_bytes(&cert));
    *ret_issuer = bytes_dup(req->arena, der_bytes(&issuer));
    return CODE_OK;
}

static enum code issue_pair(struct request *req, const struct enrolment *in, const struct csr_pair *keys,
                            struct identity_row *row, struct status *st)
{
    AUTO_CERT_INFO struct cert_info info = {0};
    struct bytes issuer;

    TRY(issue_one(req, PROFILE_AGENT_IDENTITY, in->identity_csr, row, &row->identity_certificate, &issuer,
                  st));
    TRY(issue_one(req, PROFILE_AGENT_TASK, in->task_csr, row, &row->task_certificate,
                  &row->issuer_certificate, st));
    TRY(cert_read(row->identity_certificate, &info, st));
    row->identity_spki = keys->identity_spki;
    row->task_spki = keys->task_spki;
    row->serial = arena_strdup(req->arena, info.serial);
    row->fingerprint = arena_strdup(req->arena, info.fingerprint);
    row->not_after_ms = info.not_after_ms;
    row->issued_at_ms = clock_wall_ms();
    return CODE_OK;
}

/* *ret_bound false: the token is not for these keys; nothing was changed. */
static enum code bind_and_issue(struct request *req, const struct enrolment *in,
                                const struct token_row *token, const uint8_t hash[SHA256_SIZE],
                                const struct csr_pair *keys, struct identity_row *row, bool *ret_bound,
                                bool *ret_issued, struct status *st)
{
    uint32_t generation;

    TRY(db_begin(req->db, st));
    CLEANUP(db_scope_end) struct db *tx = req->db;
    TRY(store_identity_lock(tx, token->agent_id, &generation, st));
    TRY(store_token_bind(tx, hash, keys->identity_spki, keys->task_spki, clock_wall_ms(), ret_bound, st));
    if (!*ret_bound)
        return CODE_OK;

    enum code code = store_identity_of_token(tx, req->arena, token->id, row, st);
    *ret_issued = code == CODE_NOT_FOUND;
    if (*ret_issued) {
        *row = (struct identity_row){
            .agent_id = token->agent_id, .token_id = token->id, .generation = generation};
        TRY(issue_pair(req, in, keys, row, st));
        TRY(store_identity_add(tx, row, &row->version, st));
        TRY(event_identity_issued(req, row, st));
    } else {
        TRY(code);
    }
    return db_commit(tx, st);
}

enum code enrol(struct request *req, const struct enrolment *in, struct enrolled *ret,
                const char **ret_refusal, struct status *st)
{
    uint8_t hash[SHA256_SIZE];
    struct token_row token = {.state = TOKEN_UNKNOWN};
    struct csr_pair keys;
    struct identity_row row = {0};
    bool bound = false, issued = false;

    *ret_refusal = NULL;
    req->source = in->source;
    if (token_secret_hash(in->token_secret, hash, st) == CODE_OK)
        TRY(store_token_find(req->db, req->arena, hash, clock_wall_ms(), &token, st));
    if (token.state != TOKEN_OPEN && token.state != TOKEN_BOUND)
        return refuse(req, in, &token, token_state_name(token.state), ret_refusal, st);

    TRY(read_csrs(in, &keys, st));
    req->actor = arena_printf(req->arena, "agent:%s", token.agent_id);
    TRY(bind_and_issue(req, in, &token, hash, &keys, &row, &bound, &issued, st));
    if (!bound) {
        /* Somebody was faster, or it ended meanwhile. A token that still stands is bound to other keys. */
        TRY(store_token_find(req->db, req->arena, hash, clock_wall_ms(), &token, st));
        bool second_key = token.state == TOKEN_BOUND || token.state == TOKEN_OPEN;
        return refuse(req, in, &token, second_key ? "second_key" : token_state_name(token.state), ret_refusal,
                      st);
    }
    *ret = (struct enrolled){
        .agent_id = row.agent_id,
        .generation = row.generation,
        .identity_chain = {row.identity_certificate, row.issuer_certificate},
        .task_chain = {row.task_certificate, row.issuer_certificate},
        .issued_now = issued,
    };
    return CODE_OK;
}
