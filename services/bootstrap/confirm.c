/* Confirmation: verified with the very certificate that was issued for that generation, then one statement.
 */
#include "confirm.h"

#include <string.h>

#include "base/clock.h"
#include "epoch.h"
#include "events.h"
#include "peers.h"
#include "pki/cms.h"
#include "projection.h"
#include "store.h"

static enum code verify(struct request *req, const struct identity_row *row, struct bytes confirmation,
                        struct status *st)
{
    AUTO_DER struct der content = {0};
    AUTO_DER struct der signer = {0};
    struct signed_request said;

    TRY(cms_verify(CMS_CONTENT_REQUEST, confirmation, &row->task_certificate, NULL, PURPOSE_AGENT_TASK,
                   clock_wall_ms(), &content, &signer, st));
    TRY(signed_request_read(der_bytes(&content), req->arena, &said, st));
    if (said.purpose != SIGNED_CONFIRM || strcmp(said.agent_id, row->agent_id) != 0 ||
        said.generation != row->generation)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "what was signed is not a confirmation of this generation");
    return CODE_OK;
}

static enum code record(struct request *req, const struct identity_row *row, bool *ret_changed,
                        struct status *st)
{
    struct confirmation done;

    TRY(db_begin(req->db, st));
    CLEANUP(db_scope_end) struct db *tx = req->db;
    TRY(store_identity_confirm(tx, req->arena, row->agent_id, row->generation, clock_wall_ms(), &done, st));
    *ret_changed = done.changed;
    if (!done.changed)
        return CODE_OK;
    TRY(event_identity_confirmed(req, row->agent_id, row->generation, done.version, st));
    if (done.token_id)
        TRY(event_token(req, TOKEN_EVENT_USED, done.token_id, done.token_version, row->agent_id, NULL, NULL,
                        st));
    return db_commit(tx, st);
}

static enum code confirm_known(struct request *req, const char *agent_id, uint32_t generation,
                               struct bytes confirmation, uint32_t *ret_confirmed, struct status *st)
{
    struct identity_row row, confirmed;
    bool changed = false;

    if (store_identity_get(req->db, req->arena, agent_id, generation, &row, st) != CODE_OK)
        return status_wrap(st, "identity %s, generation %u", agent_id, generation);
    if (verify(req, &row, confirmation, st) != CODE_OK)
        return status_wrap(st, "confirmation of agent %s, generation %u", agent_id, generation);

    if (!row.confirmed) {
        TRY(projection_admits(req, agent_id, generation, st));
        TRY(record(req, &row, &changed, st));
    }
    enum code code = store_identity_confirmed(req->db, req->arena, agent_id, &confirmed, st);
    if (code == CODE_NOT_FOUND || (code == CODE_OK && confirmed.generation < generation))
        return status_set(st, CODE_PERMISSION_DENIED,
                          "the token of agent %s was revoked before its identity was confirmed", agent_id);
    TRY(code);
    *ret_confirmed = confirmed.generation;
    return CODE_OK;
}

enum code identity_confirm(struct request *req, const char *agent_id, uint32_t generation,
                           struct bytes confirmation, uint32_t *ret_confirmed, struct status *st)
{
    struct status why;
    bool restored;

    req->actor = arena_printf(req->arena, "agent:%s", agent_id);
    enum code code = confirm_known(req, agent_id, generation, confirmation, ret_confirmed, st);
    if (code != CODE_NOT_FOUND && code != CODE_UNAUTHENTICATED && code != CODE_PERMISSION_DENIED)
        return code;
    /* A database that was restored may know less than the agent's certificates say. */
    TRY(epoch_exists(req, &restored, &why) == CODE_OK ? CODE_OK : status_set(st, why.code, "%s", why.msg));
    if (!restored)
        return code;
    if (identity_adopt(req, agent_id, generation, confirmation, st) != CODE_OK)
        return status_wrap(st, "adoption of agent %s, generation %u", agent_id, generation);
    *ret_confirmed = generation;
    return CODE_OK;
}
