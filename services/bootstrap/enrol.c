/*
 * Enrolment. The order of locks is agent, then token, as in confirm.c. The signer is asked while both are
 * held: a certificate that was issued is one that was recorded.
 */
#include "enrol.h"

#include <string.h>

#include "base/cidr.h"
#include "base/clock.h"
#include "events.h"
#include "issue_pair.h"
#include "pki/token.h"
#include "scope/scope.h"
#include "store.h"

#define REFUSED "the bootstrap token is not valid"

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

/* Why the token is not for who shows it; NULL: it is. */
static const char *out_of_bounds(const struct token_row *token, const struct enrolment *in)
{
    struct cidr cidr;
    if (token->hostname_pattern && !hostname_matches(token->hostname_pattern, in->hostname))
        return "hostname";
    if (token->source_cidr &&
        (!in->source_proven || !cidr_parse(token->source_cidr, &cidr) || !cidr_holds(&cidr, in->source)))
        return "source";
    return NULL;
}

/* *ret_bound false: the token is not for these keys; nothing was changed. */
static enum code bind_and_issue(struct request *req, const struct enrolment *in,
                                const struct token_row *token, const uint8_t hash[SHA256_SIZE],
                                const struct csr_pair_keys *keys, struct identity_row *row, bool *ret_bound,
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
        TRY(issue_pair(req, &in->csrs, keys, row, st));
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
    struct csr_pair_keys keys;
    struct identity_row row = {0};
    bool bound = false, issued = false;

    *ret_refusal = NULL;
    req->source = in->source;
    if (token_secret_hash(in->token_secret, hash, st) == CODE_OK)
        TRY(store_token_find(req->db, req->arena, hash, clock_wall_ms(), &token, st));
    if (token.state != TOKEN_OPEN && token.state != TOKEN_BOUND)
        return refuse(req, in, &token, token_state_name(token.state), ret_refusal, st);
    const char *outside = out_of_bounds(&token, in);
    if (outside)
        return refuse(req, in, &token, outside, ret_refusal, st);

    TRY(csr_pair_read(&in->csrs, &keys, st));
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
