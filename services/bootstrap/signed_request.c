/* What an agent's task key has signed: the content of a verified CMS. Worker threads. */
#include "peers.h"
#include "proto/envelope.pb-c.h"
#include "wire/wire.h"

static enum signed_purpose purpose_of(const Clm__SignedRequest *in)
{
    if (!in->has_purpose)
        return SIGNED_OTHER;
    switch (in->purpose) {
    case CLM__SIGNED_REQUEST__PURPOSE__CONFIRM:
        return SIGNED_CONFIRM;
    case CLM__SIGNED_REQUEST__PURPOSE__SIGN:
        return SIGNED_SIGN;
    case CLM__SIGNED_REQUEST__PURPOSE__RENEW_IDENTITY:
        return SIGNED_RENEW;
    case CLM__SIGNED_REQUEST__PURPOSE__FAREWELL:
        return SIGNED_FAREWELL;
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
        .identity_csr = {in->identity_csr.data, in->identity_csr.len},
        .task_csr = {in->task_csr.data, in->task_csr.len},
        .n_identity_chain = in->n_identity_chain,
        .identity_chain = arena_array(arena, in->n_identity_chain + 1, sizeof(struct bytes)),
    };
    for (size_t i = 0; i < in->n_identity_chain; i++)
        ret->identity_chain[i] = (struct bytes){in->identity_chain[i].data, in->identity_chain[i].len};
    return CODE_OK;
}
