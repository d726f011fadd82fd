/* Calls to other services. Worker threads. */
#include "peers.h"

#include <string.h>

#include "base/clock.h"
#include "border.h"
#include "proto/registry.pb-c.h"
#include "proto/tasks.pb-c.h"

#define AUTHORIZE_TIMEOUT_MS 5000
#define REGISTRY_TIMEOUT_MS  2000

static int64_t timeout_ms(const struct border *border, int64_t most_ms)
{
    int64_t left_ms = border->rpc->deadline_mono_ms - clock_mono_ms();
    return left_ms < most_ms ? left_ms : most_ms;
}

enum code tasks_authorize_certificate(struct request *req, const struct signed_request *signed_request,
                                      char *const *names, size_t n_names, uint32_t *ret_life_sec,
                                      struct status *st)
{
    const struct border *border = req->border;
    ProtobufCMessage *reply;
    Clm__AuthorizeCertificateRequest out = CLM__AUTHORIZE_CERTIFICATE_REQUEST__INIT;

    out.agent_id = arena_strdup(req->arena, signed_request->agent_id);
    out.task_id = arena_strdup(req->arena, signed_request->task_id);
    out.has_attempt = 1;
    out.attempt = signed_request->attempt;
    out.n_dns_names = n_names;
    out.dns_names = arena_array(req->arena, n_names + 1, sizeof(char *));
    for (size_t i = 0; i < n_names; i++)
        out.dns_names[i] = names[i];

    const struct rpc_call call = {
        .service = "tasks",
        .descriptor = &clm__tasks__descriptor,
        .method = "AuthorizeCertificate",
        .request = &out.base,
        .timeout_ms = timeout_ms(border, AUTHORIZE_TIMEOUT_MS),
        .traceparent = req->traceparent,
        .authority = true,
    };
    struct service *service = border->worker->service;
    TRY(rpc_call(service_bus(service), service_identity(service), &call, req->arena, &reply, st));
    *ret_life_sec = ((const Clm__AuthorizeCertificateResponse *)reply)->life_sec;
    return CODE_OK;
}

enum code registry_agent_version(struct request *req, const char *agent_id, uint64_t *ret, struct status *st)
{
    const struct border *border = req->border;
    ProtobufCMessage *reply;
    Clm__ListAgentSnapshotRequest out = CLM__LIST_AGENT_SNAPSHOT_REQUEST__INIT;

    out.agent_id = arena_strdup(req->arena, agent_id);
    const struct rpc_call call = {
        .service = "registry",
        .descriptor = &clm__registry__descriptor,
        .method = "ListAgentSnapshot",
        .request = &out.base,
        .timeout_ms = timeout_ms(border, REGISTRY_TIMEOUT_MS),
        .traceparent = req->traceparent,
    };
    struct service *service = border->worker->service;
    TRY(rpc_call(service_bus(service), service_identity(service), &call, req->arena, &reply, st));
    const Clm__ListAgentSnapshotResponse *found = (const Clm__ListAgentSnapshotResponse *)reply;
    if (found->n_agents != 1 || strcmp(found->agents[0]->agent_id, agent_id) != 0)
        return status_set(st, CODE_NOT_FOUND, "the registry has no agent %s", agent_id);
    *ret = found->agents[0]->version;
    return CODE_OK;
}
