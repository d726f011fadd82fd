/* Border of who may see and do what: requests about grants. Worker threads. */
#include "border.h"
#include "proto/registry.pb-c.h"

static struct worker *worker_of(const struct rpc_ctx *ctx)
{
    return ctx->worker;
}

enum code on_see_agents(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__SeeAgentsRequest *req = request;
    Clm__SeeAgentsResponse *res = response;
    const char **ids;
    TRY(agents_seen(worker_of(ctx)->db, ctx->actor.label_selector, (const char *const *)req->agent_id,
                    req->n_agent_id, ctx->arena, &ids, &res->n_agent_id, st));
    res->agent_id = (char **)(uintptr_t)ids;
    return CODE_OK;
}
