/* Worker threads. */
#include "epoch.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "events.h"
#include "peers.h"
#include "pki/cms.h"
#include "projection.h"
#include "store.h"

#define VOID_BATCH 500

/* ---- tokens ---- */

static enum code void_batch(struct request *req, int64_t restored_at_ms, size_t *ret_n, struct status *st)
{
    struct voided_token *tokens;
    TRY(db_begin(req->db, st));
    CLEANUP(db_scope_end) struct db *tx = req->db;
    TRY(store_tokens_void(tx, req->arena, restored_at_ms, clock_wall_ms(), VOID_BATCH, &tokens, ret_n, st));
    for (size_t i = 0; i < *ret_n; i++)
        TRY(event_token(req, TOKEN_EVENT_REVOKED, tokens[i].id, tokens[i].version, tokens[i].agent_id,
                        "restored", NULL, st));
    return db_commit(tx, st);
}

enum code epoch_begin(struct request *req, uint64_t epoch, int64_t restored_at_ms, uint32_t *ret_voided,
                      struct status *st)
{
    size_t n = VOID_BATCH;
    *ret_voided = 0;
    TRY(store_epoch_put(req->db, epoch, restored_at_ms, st));
    while (n == VOID_BATCH) {
        TRY(void_batch(req, restored_at_ms, &n, st));
        *ret_voided += (uint32_t)n;
    }
    return CODE_OK;
}

enum code epoch_exists(struct request *req, bool *ret, struct status *st)
{
    int64_t restored_at_ms;
    TRY(store_epoch_get(req->db, &restored_at_ms, st));
    *ret = restored_at_ms >= 0;
    return CODE_OK;
}

/* ---- adoption ---- */

static enum code check_certificate(struct bytes cert, enum pki_purpose purpose, const char *agent_id,
                                   uint32_t generation, int64_t restored_at_ms, struct cert_info *ret,
                                   struct status *st)
{
    struct spiffe_id id;
    char serial[16];
    TRY(cert_spiffe(cert, &id, st));
    TRY(cert_read(cert, ret, st));
    (void)snprintf(serial, sizeof(serial), "%u", generation);
    if (strcmp(id.kind, "agent") != 0 || strcmp(id.name, agent_id) != 0 ||
        strcmp(ret->subject_serial, serial) != 0)
        return status_set(st, CODE_PERMISSION_DENIED, "the %s certificate is not agent %s's of generation %u",
                          purpose == PURPOSE_AGENT_TASK ? "task" : "identity", agent_id, generation);
    if (ret->not_before_ms > restored_at_ms)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "the certificate was issued after the restore, and is not known here");
    return CODE_OK;
}

static void spki_of(const struct cert_info *info, struct arena *arena, const uint8_t **ret)
{
    uint8_t *bytes = arena_alloc(arena, SHA256_SIZE);
    if (!hex_decode(info->spki_sha256, bytes, SHA256_SIZE))
        memset(bytes, 0, SHA256_SIZE);
    *ret = bytes;
}

/* What was signed, by whom, and both chains. Everything is copied into the row. */
static enum code verify(struct request *req, const char *agent_id, uint32_t generation,
                        struct bytes confirmation, int64_t restored_at_ms, struct identity_row *ret,
                        struct status *st)
{
    AUTO_DER struct der content = {0};
    AUTO_DER struct der signer = {0};
    AUTO_DER_LIST struct der_list roots = {0};
    AUTO_DER_LIST struct der_list above = {0};
    AUTO_CERT_INFO struct cert_info task = {0};
    AUTO_CERT_INFO struct cert_info identity = {0};
    struct signed_request said;
    TRY(der_list_add(&roots, req->settings->root, st));
    TRY(cms_verify(CMS_CONTENT_REQUEST, confirmation, NULL, &roots, PURPOSE_AGENT_TASK, clock_wall_ms(),
                   &content, &signer, st));
    TRY(signed_request_read(der_bytes(&content), req->arena, &said, st));
    if (said.purpose != SIGNED_CONFIRM || strcmp(said.agent_id, agent_id) != 0 ||
        said.generation != generation || said.n_identity_chain < 2)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "what was signed is not a confirmation of this generation with its certificates");
    for (size_t i = 1; i < said.n_identity_chain; i++)
        TRY(der_list_add(&above, said.identity_chain[i], st));
    TRY(chain_verify(said.identity_chain[0], &above, &roots, PURPOSE_AGENT_IDENTITY, clock_wall_ms(), st));
    TRY(check_certificate(der_bytes(&signer), PURPOSE_AGENT_TASK, agent_id, generation, restored_at_ms, &task,
                          st));
    TRY(check_certificate(said.identity_chain[0], PURPOSE_AGENT_IDENTITY, agent_id, generation,
                          restored_at_ms, &identity, st));
    *ret = (struct identity_row){
        .agent_id = agent_id,
        .generation = generation,
        .identity_certificate = bytes_dup(req->arena, said.identity_chain[0]),
        .task_certificate = bytes_dup(req->arena, der_bytes(&signer)),
        .issuer_certificate = bytes_dup(req->arena, said.identity_chain[1]),
        .serial = arena_strdup(req->arena, identity.serial),
        .fingerprint = arena_strdup(req->arena, identity.fingerprint),
        .not_after_ms = identity.not_after_ms,
        .issued_at_ms = identity.not_before_ms,
    };
    spki_of(&identity, req->arena, &ret->identity_spki);
    spki_of(&task, req->arena, &ret->task_spki);
    return CODE_OK;
}

/* In place of whatever this database has pending. */
static enum code record(struct request *req, struct identity_row *row, int64_t restored_at_ms,
                        struct status *st)
{
    bool is_void;
    struct identity_row confirmed;
    struct confirmation done;
    uint32_t next;
    TRY(db_begin(req->db, st));
    CLEANUP(db_scope_end) struct db *tx = req->db;
    TRY(store_identity_lock(tx, row->agent_id, &next, st));
    enum code code = store_identity_confirmed(tx, req->arena, row->agent_id, &confirmed, st);
    if (code == CODE_OK && confirmed.generation >= row->generation)
        return status_set(st, CODE_PERMISSION_DENIED, "generation %u of agent %s is superseded by %u",
                          row->generation, row->agent_id, confirmed.generation);
    if (code != CODE_OK && code != CODE_NOT_FOUND)
        return code;
    TRY(store_identity_is_void(tx, row, restored_at_ms, &is_void, st));
    if (is_void)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "the token of generation %u of agent %s was revoked before it was confirmed",
                          row->generation, row->agent_id);
    TRY(store_identity_drop(tx, row->agent_id, row->generation, st));
    TRY(store_identity_add(tx, row, &row->version, st));
    TRY(event_identity_issued(req, row, st));
    TRY(store_identity_confirm(tx, req->arena, row->agent_id, row->generation, clock_wall_ms(), &done, st));
    TRY(event_identity_adopted(req, row, done.version, st));
    TRY(event_identity_confirmed(req, row->agent_id, row->generation, done.version, st));
    return db_commit(tx, st);
}

enum code identity_adopt(struct request *req, const char *agent_id, uint32_t generation,
                         struct bytes confirmation, struct status *st)
{
    struct identity_row row;
    int64_t restored_at_ms;
    TRY(store_epoch_get(req->db, &restored_at_ms, st));
    if (restored_at_ms < 0)
        return status_set(st, CODE_PERMISSION_DENIED, "generation %u of agent %s was never issued here",
                          generation, agent_id);
    TRY(verify(req, agent_id, generation, confirmation, restored_at_ms, &row, st));
    TRY(projection_admits(req, agent_id, generation, st));
    TRY(record(req, &row, restored_at_ms, st));
    log_warn("an identity that was issued after the backup is adopted", "agent", agent_id, "generation",
             LOG_NUM(generation), NULL);
    return CODE_OK;
}
