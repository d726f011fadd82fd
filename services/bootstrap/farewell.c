/* A farewell is verified with the very certificate that was issued for the confirmed generation; then it is
 * one event. */
#include "farewell.h"

#include <string.h>

#include "base/clock.h"
#include "events.h"
#include "peers.h"
#include "pki/cms.h"
#include "store.h"

static enum code verify(struct request *req, const struct identity_row *confirmed, struct bytes cms,
                        struct status *st)
{
    AUTO_DER struct der content = {0};
    AUTO_DER struct der signer = {0};
    struct signed_request said;

    TRY(cms_verify(CMS_CONTENT_REQUEST, cms, &confirmed->task_certificate, NULL, PURPOSE_AGENT_TASK,
                   clock_wall_ms(), &content, &signer, st));
    TRY(signed_request_read(der_bytes(&content), req->arena, &said, st));
    if (said.purpose != SIGNED_FAREWELL || strcmp(said.agent_id, confirmed->agent_id) != 0 ||
        said.generation != confirmed->generation)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "what was signed is not a farewell of this agent's present generation");
    return CODE_OK;
}

enum code identity_farewell(struct request *req, const char *agent_id, struct bytes signed_request,
                            struct status *st)
{
    struct identity_row confirmed;

    if (store_identity_confirmed(req->db, req->arena, agent_id, &confirmed, st) != CODE_OK)
        return status_wrap(st, "confirmed identity of agent %s", agent_id);
    if (verify(req, &confirmed, signed_request, st) != CODE_OK)
        return status_wrap(st, "farewell of agent %s", agent_id);
    req->actor = arena_printf(req->arena, "agent:%s", agent_id);
    TRY(db_begin(req->db, st));
    CLEANUP(db_scope_end) struct db *tx = req->db;
    TRY(event_identity_farewell(req, &confirmed, st));
    return db_commit(tx, st);
}
