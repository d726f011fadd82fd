/* Applies what the registry says of an agent, by version. */
#include "projection.h"

#include "base/clock.h"

enum code projection_apply(struct request *req, const struct scope_row *row, bool deleted, struct status *st)
{
    if (!uuid_valid(row->agent_id) || row->version == 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "an agent's event without its id or version");
    if (!deleted)
        return store_scope_apply(req->db, row, st);
    TRY(store_tokens_void_of_agent(req->db, row->agent_id, clock_wall_ms(), st));
    struct scope_row gone = {.agent_id = row->agent_id,
                             .version = row->version,
                             .scope_version = row->scope_version,
                             .disabled = true,
                             .column = SAFE_DISABLED};
    return store_scope_apply(req->db, &gone, st);
}
