/*
 * What a check-in brings for others: the confirmation of an identity for bootstrap, the co-signature of a
 * head of the audit log for the registry. Their answers go with the check-in's. See checkins_parts.h.
 */
#include <stdlib.h>

#include "base/log.h"
#include "gateway/checkins_parts.h"
#include "proto/bootstrap.pb-c.h"
#include "proto/registry.pb-c.h"

/* The connection may be gone when the answer comes: it is found again by address and id. */
struct proof {
    struct agent *agent;
    char id[UUID_TEXT_SIZE];
    int64_t made_at_ms; /* of a co-signature */
};

static struct proof *proof_new(struct agent *agent)
{
    struct proof *proof = calloc(1, sizeof *proof);
    if (!proof)
        abort();
    proof->agent = agent;
    (void)snprintf(proof->id, sizeof proof->id, "%s", agent->id);
    return proof;
}

static struct agent *proof_agent(const struct checkins *checkins, const struct proof *proof)
{
    struct agent *agent = checkins_bucket(checkins, proof->id);
    while (agent && agent != proof->agent)
        agent = agent->next_in_bucket;
    return agent;
}

static void on_confirmed(struct edge *edge, struct arena *arena UNUSED, const ProtobufCMessage *reply,
                         const struct status *st, void *arg)
{
    struct proof *proof = arg;
    struct checkins *checkins = edge->checkins;
    struct agent *agent = proof_agent(checkins, proof);
    if (!reply)
        log_warn("identity is not confirmed", "agent", proof->id, "reason", st->msg, NULL);
    free(proof);
    if (!agent || !agent->confirming)
        return;
    agent->confirming = false;
    if (agent->state == CHECKIN_NONE)
        return;
    if (reply) {
        agent->has_confirmed = true;
        agent->confirmed = ((const Clm__ConfirmIdentityResponse *)reply)->confirmed_generation;
        agent_checkin_release(agent);
    } else if (agent->ending) {
        agent_checkin_release(agent);
    } else {
        loop_timer_set(agent->hold_timer, RETRY_MS); /* the next check-in brings the confirmation again */
    }
}

void checkin_confirm(struct agent *agent, ProtobufCBinaryData confirmation)
{
    struct proof *proof = proof_new(agent);
    agent->confirming = true;
    Clm__ConfirmIdentityRequest request = CLM__CONFIRM_IDENTITY_REQUEST__INIT;
    request.agent_id = agent->id;
    request.has_generation = true;
    request.generation = agent->generation;
    request.has_confirmation = true;
    request.confirmation = confirmation;
    const struct rpc_call call = {
        .service = "bootstrap",
        .descriptor = &clm__bootstrap__descriptor,
        .method = "ConfirmIdentity",
        .request = &request.base,
        .timeout_ms = CALL_TIMEOUT_MS,
    };
    edge_call(agent->checkins->edge, &call, on_confirmed, proof);
}

/* What the registry refuses for good is answered, too: the agent would send it for ever. */
static void on_cosigned(struct edge *edge, struct arena *arena UNUSED, const ProtobufCMessage *reply,
                        const struct status *st, void *arg)
{
    struct proof *proof = arg;
    struct agent *agent = proof_agent(edge->checkins, proof);
    bool again = !reply && code_info(st->code)->retryable;
    if (!reply)
        log_warn("the co-signature of an agent is not taken", "agent", proof->id, "reason", st->msg, NULL);
    if (agent) {
        agent->cosigning = false;
        if (!again)
            agent->cosigned_at_ms = proof->made_at_ms;
    }
    free(proof);
}

void checkin_cosign(struct agent *agent, Clm__SignedCosignature *cosignature)
{
    struct proof *proof = proof_new(agent);
    proof->made_at_ms = cosignature->made_at_ms;
    agent->cosigning = true;
    Clm__CosignHeadRequest request = CLM__COSIGN_HEAD_REQUEST__INIT;
    request.agent_id = agent->id;
    request.cosignature = cosignature;
    const struct rpc_call call = {
        .service = "registry",
        .descriptor = &clm__registry__descriptor,
        .method = "CosignHead",
        .request = &request.base,
        .timeout_ms = CALL_TIMEOUT_MS,
    };
    edge_call(agent->checkins->edge, &call, on_cosigned, proof);
}
