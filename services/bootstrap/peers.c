/* Foreign messages in and out: the content of an agent's CMS, and the call to clm-tasks. Worker threads. */
#include "peers.h"

#include "base/clock.h"
#include "border.h"
#include "proto/envelope.pb-c.h"
#include "proto/tasks.pb-c.h"

#define AUTHORIZE_TIMEOUT_MS 5000

static enum signed_purpose purpose_of(const Clm__SignedRequest *in)
{
    if (!in->has_purpose)
        return SIGNED_OTHER;
    switch (in->purpose) {
    case CLM__SIGNED_REQUEST__PURPOSE__CONFIRM:
        return SIGNED_CONFIRM;
    case CLM__SIGNED_REQUEST__PURPOSE__SIGN:
        return SIGNED_SIGN;
    default:
        return SIGNED_OTHER;
    }
}

enum code signed_request_read(struct bytes content, struct arena *arena, struct signed_request *ret,
                              struct status *st)
{
    ProtobufCMessage *message;
    TRY(wire_unpack(&clm__signed_request__descriptor, content.data, content.len, arena, &message, st));
    const Clm__SignedRequest *in = (const Clm__SignedRequest *)message;
    *ret = (struct signed_request){
        .purpose = purpose_of(in),
        .agent_id = in->agent_id ? in->agent_id : "",
        .task_id = in->task_id ? in->task_id : "",
        .generation = in->generation,
        .attempt = in->attempt,
        .csr = {in->csr.data, in->csr.len},
    };
    return CODE_OK;
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
