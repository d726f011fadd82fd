/* Calls to other services. Worker threads. */
#include "peers.h"

#include "base/clock.h"
#include "border.h"
#include "proto/tasks.pb-c.h"

#define AUTHORIZE_TIMEOUT_MS 5000

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

    int64_t left_ms = border->rpc->deadline_mono_ms - clock_mono_ms();
    const struct rpc_call call = {
        .service = "tasks",
        .descriptor = &clm__tasks__descriptor,
        .method = "AuthorizeCertificate",
        .request = &out.base,
        .timeout_ms = left_ms < AUTHORIZE_TIMEOUT_MS ? left_ms : AUTHORIZE_TIMEOUT_MS,
        .traceparent = req->traceparent,
        .authority = true,
    };
    struct service *service = border->worker->service;
    TRY(rpc_call(service_bus(service), service_identity(service), &call, req->arena, &reply, st));
    *ret_life_sec = ((const Clm__AuthorizeCertificateResponse *)reply)->life_sec;
    return CODE_OK;
}
