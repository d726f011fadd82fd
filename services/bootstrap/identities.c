/* Pages of identities. */
#include "identities.h"

enum code identities_list(struct request *req, const char *after_agent_id, uint32_t page_size,
                          struct identity_page *ret, struct status *st)
{
    if (after_agent_id[0] && !uuid_valid(after_agent_id))
        return status_set(st, CODE_INVALID_ARGUMENT, "afterAgentId is no agent's id");
    if (page_size == 0 || page_size > IDENTITIES_PAGE_MAX)
        page_size = IDENTITIES_PAGE_MAX;
    return store_identity_page(req->db, req->arena, after_agent_id, page_size, &ret->rows, &ret->n,
                               &ret->last, st);
}

#define HISTORY_MAX 100

enum code identities_of_agent(struct request *req, const char *agent_id, struct identity_view **ret,
                              size_t *ret_n, struct status *st)
{
    return store_identity_views(req->db, req->arena, agent_id, HISTORY_MAX, ret, ret_n, st);
}
