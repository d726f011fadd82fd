/*
 * Renewal. What was signed is verified with the very certificate that was issued for the confirmed
 * generation, which is looked at again under the agent's lock: a generation that was confirmed meanwhile ends
 * the request.
 */
#include "renew.h"

#include <string.h>

#include "base/clock.h"
#include "events.h"
#include "peers.h"
#include "pki/cms.h"
#include "projection.h"

static enum code verify(struct request *req, const struct identity_row *confirmed, struct bytes cms,
                        struct signed_request *ret, struct status *st)
{
    AUTO_DER struct der content = {0};
    AUTO_DER struct der signer = {0};

    TRY(cms_verify(CMS_CONTENT_REQUEST, cms, &confirmed->task_certificate, NULL, PURPOSE_AGENT_TASK,
                   clock_wall_ms(), &content, &signer, st));
    TRY(signed_request_read(der_bytes(&content), req->arena, ret, st));
    if (ret->purpose != SIGNED_RENEW || strcmp(ret->agent_id, confirmed->agent_id) != 0 ||
        ret->generation != confirmed->generation)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "what was signed is not a renewal of this agent's present generation");
    return CODE_OK;
}

static enum code check_allowed(struct request *req, const char *agent_id, struct status *st)
{
    struct agent_scope known;
    enum code code = store_scope_get(req->db, req->arena, agent_id, &known, st);
    if (code == CODE_NOT_FOUND)
        return status_set(st, CODE_PERMISSION_DENIED, "agent %s is not known here", agent_id);
    TRY(code);
    return safe_allows(known.column, SAFE_RENEW_IDENTITY, false)
               ? CODE_OK
               : status_set(st, CODE_PERMISSION_DENIED,
                            "agent %s is %s: its own identity is not renewed; a fresh token is needed",
                            agent_id, safe_column_name(known.column));
}

/* Where the pair goes: the pending one of a renewal is replaced; a token's is left alone. *ret_newest is what
 * was issued after the confirmed one, whose token_id says which; *ret_found false: none to replace. */
static enum code place(struct db *tx, struct arena *arena, const char *agent_id, uint32_t next,
                       const struct identity_row *confirmed, struct identity_row *ret_newest, bool *ret_found,
                       struct status *st)
{
    *ret_found = false;
    if (next == confirmed->generation + 1)
        return CODE_OK;
    TRY(store_identity_get(tx, arena, agent_id, next - 1, ret_newest, st));
    *ret_found = !ret_newest->token_id;
    return CODE_OK;
}

/* A renewal beside a token that is in use would be above the token's generation, and take the identity back
 * from the host that the token is for. When the token's time is over, what it made ends instead. */
static enum code yield_to_token(struct request *req, const struct identity_row *pending, struct status *st)
{
    bool in_use, in_time;
    uint64_t version;
    int64_t now_ms = clock_wall_ms();
    TRY(store_token_in_use(req->db, pending->token_id, now_ms, &in_use, &in_time, st));
    if (!in_use)
        return CODE_OK;
    if (in_time)
        return status_set(st, CODE_UNAVAILABLE,
                          "a fresh token of agent %s is in use by another installation: ask again",
                          pending->agent_id);
    TRY(store_token_revoke(req->db, pending->agent_id, pending->token_id, now_ms, &version, st));
    return version == 0 ? CODE_OK
                        : event_token(req, TOKEN_EVENT_REVOKED, pending->token_id, version, pending->agent_id,
                                      "renewed", NULL, st);
}

static enum code issue(struct request *req, const struct identity_row *confirmed, const struct csr_pair *csrs,
                       const struct csr_pair_keys *keys, struct identity_row *row, bool *ret_issued,
                       struct status *st)
{
    struct identity_row now;
    uint32_t next;
    bool pending;

    TRY(db_begin(req->db, st));
    CLEANUP(db_scope_end) struct db *tx = req->db;
    TRY(store_identity_lock(tx, confirmed->agent_id, &next, st));
    TRY(store_identity_confirmed(tx, req->arena, confirmed->agent_id, &now, st));
    if (now.generation != confirmed->generation)
        return status_set(st, CODE_PERMISSION_DENIED, "generation %u of agent %s is superseded by %u",
                          confirmed->generation, confirmed->agent_id, now.generation);
    TRY(place(tx, req->arena, confirmed->agent_id, next, confirmed, row, &pending, st));
    if (row->token_id)
        TRY(yield_to_token(req, row, st));
    if (pending && memcmp(row->identity_spki, keys->identity_spki, SHA256_SIZE) == 0 &&
        memcmp(row->task_spki, keys->task_spki, SHA256_SIZE) == 0)
        return CODE_OK;
    *row = (struct identity_row){.agent_id = confirmed->agent_id, .generation = pending ? next - 1 : next};
    TRY(issue_pair(req, csrs, keys, row, st));
    if (pending)
        TRY(store_identity_drop(tx, row->agent_id, row->generation, st));
    TRY(store_identity_add(tx, row, &row->version, st));
    TRY(event_identity_issued(req, row, st));
    *ret_issued = true;
    return db_commit(tx, st);
}

enum code identity_renew(struct request *req, const char *agent_id, struct bytes signed_request,
                         struct enrolled *ret, struct status *st)
{
    struct identity_row confirmed, row = {0};
    struct signed_request said;
    struct csr_pair_keys keys;
    bool issued = false;

    if (store_identity_confirmed(req->db, req->arena, agent_id, &confirmed, st) != CODE_OK)
        return status_wrap(st, "confirmed identity of agent %s", agent_id);
    if (verify(req, &confirmed, signed_request, &said, st) != CODE_OK)
        return status_wrap(st, "renewal of agent %s", agent_id);
    TRY(check_allowed(req, agent_id, st));
    TRY(projection_admits(req, agent_id, confirmed.generation, st));
    const struct csr_pair csrs = {said.identity_csr, said.task_csr};
    TRY(csr_pair_read(&csrs, &keys, st));
    req->actor = arena_printf(req->arena, "agent:%s", agent_id);
    TRY(issue(req, &confirmed, &csrs, &keys, &row, &issued, st));
    *ret = (struct enrolled){
        .agent_id = row.agent_id,
        .generation = row.generation,
        .identity_chain = {row.identity_certificate, row.issuer_certificate},
        .task_chain = {row.task_certificate, row.issuer_certificate},
        .issued_now = issued,
    };
    return CODE_OK;
}
