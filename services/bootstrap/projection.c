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

enum code projection_admits(struct request *req, const char *agent_id, uint32_t generation, struct status *st)
{
    struct agent_scope known = {0};
    enum code code = store_scope_get(req->db, req->arena, agent_id, &known, st);
    if (code != CODE_OK && code != CODE_NOT_FOUND)
        return code;
    return generation >= known.min_generation
               ? CODE_OK
               : status_set(st, CODE_PERMISSION_DENIED,
                            "generation %u of agent %s is superseded by %u; a fresh token is needed",
                            generation, agent_id, known.min_generation);
}
