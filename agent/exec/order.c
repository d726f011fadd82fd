/*
 * Verification of orders. The confined child sees the envelope and, by memory, the roots and the task key; it
 * answers with one byte and a text or the plaintext. Everything here runs in exec; nothing here has an
 * effect.
 */
#include "agent/exec/order.h"

#include <inttypes.h>
#include <string.h>

#include "base/file.h"
#include "pki/cms.h"
#include "sandbox/sandbox.h"
#include "scope/scope.h"
#include "wire/wire.h"

#define OPEN_TIMEOUT_MS 5000
#define TASKS_SERVICE   "tasks"

/* ---- in the confined child --------------------------------------------------------------------------------
 */

enum { ANSWER_PLAIN = 'P', ANSWER_NOT_GENUINE = 'N', ANSWER_CANNOT_OPEN = 'C' };

/* Only the tasks service's envelope certificate signs orders, in our trust domain. */
static enum code signer_check(struct bytes signer, const char *trust_domain, struct status *st)
{
    struct spiffe_id id;
    TRY(cert_spiffe(signer, &id, st));
    if (strcmp(id.trust_domain, trust_domain) != 0 || strcmp(id.kind, "service") != 0 ||
        strcmp(id.name, TASKS_SERVICE) != 0)
        return status_set(st, CODE_PERMISSION_DENIED, "signed by %s/%s of %s, not by the tasks service",
                          id.kind, id.name, id.trust_domain);
    return CODE_OK;
}

static enum code envelope_read(const struct order_context *context, struct bytes envelope,
                               struct der *ret_plain, bool *ret_genuine, struct status *st)
{
    AUTO_DER struct der inner = {0}, signer = {0};
    *ret_genuine = false;
    TRY(envelope_verify(envelope, &context->state->roots, context->now_ms, &inner, &signer, st));
    TRY(signer_check(der_bytes(&signer), context->state->trust_domain, st));
    *ret_genuine = true;
    const struct agent_state *state = context->state;
    enum code code = envelope_open(der_bytes(&inner), state->task_key, der_bytes(&state->task_chain.item[0]),
                                   ret_plain, st);
    if (code == CODE_FAILED_PRECONDITION && state->old_task_key)
        code = envelope_open(der_bytes(&inner), state->old_task_key,
                             der_bytes(&state->old_task_chain.item[0]), ret_plain, st);
    return code;
}

static int parse_envelope(void *arg, const void *in, size_t in_len, int out_fd)
{
    AUTO_DER struct der plain = {0};
    struct status st = {0}, out_st;
    bool genuine;
    enum code code = envelope_read(arg, (struct bytes){in, in_len}, &plain, &genuine, &st);
    char answer = code == CODE_OK                               ? ANSWER_PLAIN
                  : genuine && code == CODE_FAILED_PRECONDITION ? ANSWER_CANNOT_OPEN
                                                                : ANSWER_NOT_GENUINE;
    const void *body = code == CODE_OK ? (const void *)plain.data : st.msg;
    size_t body_len = code == CODE_OK ? plain.len : strlen(st.msg);
    if (fd_write_all(out_fd, &answer, 1, &out_st) != CODE_OK ||
        fd_write_all(out_fd, body, body_len, &out_st) != CODE_OK)
        return 1;
    return 0;
}

/* ---- in exec ----------------------------------------------------------------------------------------------
 */

static enum order_verdict not_genuine(struct status *why, const char *reason)
{
    struct status copy;
    (void)status_set(&copy, CODE_PERMISSION_DENIED, "%s", reason);
    (void)status_set(why, CODE_PERMISSION_DENIED, "the order is not genuine: %s", copy.msg);
    return ORDER_NOT_GENUINE;
}

static enum code order_unpack(struct bytes plain, struct arena *arena, struct order *ret, struct status *st)
{
    ProtobufCMessage *msg;
    TRY(wire_unpack(&clm__task_order__descriptor, plain.data, plain.len, arena, &msg, st));
    ret->order = (const Clm__TaskOrder *)msg;
    ret->plain = plain;
    return CODE_OK;
}

static enum code spec_unpack(struct arena *arena, struct order *ret, struct status *st)
{
    ProtobufCMessage *msg;
    TRY(wire_unpack(&clm__task_spec__descriptor, ret->order->spec.data, ret->order->spec.len, arena, &msg,
                    st));
    ret->spec = (const Clm__TaskSpec *)msg;
    ret->kind = task_kind_find((int)ret->spec->kind);
    if (!ret->kind)
        return status_set(st, CODE_UNIMPLEMENTED, "this agent has no task kind %d", (int)ret->spec->kind);
    return CODE_OK;
}

/* Fields 1–6, before anything else of the order is looked at. */
static enum code binding_check(const struct order_context *context, const Clm__Delivery *delivery,
                               const Clm__TaskOrder *order, struct status *st)
{
    const struct agent_state *state = context->state;
    if (!order->agent_id || strcmp(order->agent_id, state->agent_id) != 0)
        return status_set(st, CODE_PERMISSION_DENIED, "it is for another agent");
    bool old = state->old_task_key && order->generation == state->old_generation;
    if (!order->has_generation || (order->generation != state->generation && !old))
        return status_set(st, CODE_PERMISSION_DENIED,
                          "it is for generation %" PRIu32 ", this agent has %" PRIu32, order->generation,
                          state->generation);
    if (!order->has_not_before_at_ms || context->now_ms < order->not_before_at_ms)
        return status_set(st, CODE_PERMISSION_DENIED, "it is not valid yet");
    if (!order->has_not_after_at_ms || context->now_ms > order->not_after_at_ms)
        return status_set(st, CODE_PERMISSION_DENIED, "it is no longer valid");
    if (!order->task_id || strcmp(order->task_id, delivery->task_id) != 0)
        return status_set(st, CODE_PERMISSION_DENIED, "it is for another task than the delivery says");
    if (!order->has_attempt || order->attempt != delivery->attempt)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "it is for attempt %" PRIu32 ", the delivery says %" PRIu32, order->attempt,
                          delivery->attempt);
    return CODE_OK;
}

struct scope_mark order_scope(const struct order *order)
{
    const Clm__TaskOrder *message = order->order;
    return (struct scope_mark){.epoch = message->platform_epoch,
                               .version = message->scope ? message->scope->version : 0};
}

static enum code scope_age_check(const struct order_context *context, const struct order *order,
                                 struct status *st)
{
    const struct scope_mark seen = order_scope(order);
    return scope_mark_check(context->scope_mark, &seen, st);
}

static enum code scope_check(const Clm__TaskOrder *order, const struct task_kind *kind, struct status *st)
{
    struct scope scope = {0};
    for (size_t i = 0; order->scope && i < order->scope->n_operations; i++) {
        if ((unsigned)order->scope->operations[i] < 32)
            scope.operations |= SCOPE_OPERATION(order->scope->operations[i]);
    }
    if (!scope_allows_operation(&scope, (unsigned)kind->kind))
        return status_set(st, CODE_PERMISSION_DENIED, "the agent's scope does not allow %s", kind->name);
    return CODE_OK;
}

/* What the platform signed about this agent counts beside what the agent knows of itself. */
enum code order_safe_mode(const struct order_context *context, const struct order *order, struct status *st)
{
    enum safe_column column = safe_mode_column(context->safe_mode);
    if (order->order->safe_mode)
        column = safe_strictest(column, SAFE_SAFE_MODE);
    enum safe_action action = safe_action_of_kind((unsigned)order->kind->kind);
    const char *reason = safe_mode_reason(context->safe_mode);
    if (!safe_allows(column, action, order->order->break_glass != 0))
        return status_set(st, CODE_FAILED_PRECONDITION, "the agent is in safe mode (%s): %s is not allowed",
                          reason ? reason : "asked for by the platform", order->kind->name);
    if (safe_verdict(column, action) == SAFE_BREAK_GLASS && !context->policy->break_glass)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "local policy forbids changes in safe mode (%s), also one that an admin released: "
                          "set \"break_glass = yes\" in [policy] of %s",
                          reason ? reason : "asked for by the platform", context->policy->path);
    return CODE_OK;
}

/* The checks after decryption: fields 1–6, then age and content of the scope, local policy, safe mode. */
static enum order_verdict plain_check(const struct order_context *context, const Clm__Delivery *delivery,
                                      struct bytes plain, struct arena *arena, struct order *ret,
                                      struct status *why)
{
    struct status st;
    if (order_unpack(plain, arena, ret, &st) != CODE_OK ||
        binding_check(context, delivery, ret->order, &st) != CODE_OK)
        return not_genuine(why, st.msg);
    if (spec_unpack(arena, ret, why) != CODE_OK || scope_age_check(context, ret, why) != CODE_OK ||
        scope_check(ret->order, ret->kind, why) != CODE_OK ||
        policy_allows_operation(context->policy, (int)ret->kind->kind, why) != CODE_OK ||
        order_safe_mode(context, ret, why) != CODE_OK)
        return ORDER_REFUSED;
    return ORDER_RUN;
}

enum order_verdict order_open(const struct order_context *context, const Clm__Delivery *delivery,
                              struct arena *arena, struct order *ret, struct status *why)
{
    struct status st;
    if (delivery->envelope.len > CMS_ENVELOPE_MAX)
        return not_genuine(why, "the envelope is too large");
    AUTO_BUF struct buf out;
    buf_init(&out, CMS_ENVELOPE_MAX + 1);
    struct order_context copy = *context;
    if (sandbox_parse(parse_envelope, &copy, delivery->envelope.data, delivery->envelope.len,
                      CMS_ENVELOPE_MAX + 1, OPEN_TIMEOUT_MS, context->parser_uid, &out, &st) != CODE_OK)
        return not_genuine(why, st.msg);
    if (out.len < 1)
        return not_genuine(why, "the parser gave no answer");
    const char *text = buf_text(&out) + 1;
    switch (out.data[0]) {
    case ANSWER_PLAIN:
        break;
    case ANSWER_CANNOT_OPEN:
        (void)status_set(why, CODE_FAILED_PRECONDITION, "cannot open the envelope: %s", text);
        return ORDER_CANNOT_OPEN;
    default:
        return not_genuine(why, text);
    }
    size_t len = out.len - 1;
    struct bytes plain = {arena_dup(arena, out.data + 1, len), len};
    return plain_check(context, delivery, plain, arena, ret, why);
}

enum code order_decode(struct bytes plain, struct arena *arena, struct order *ret, struct status *st)
{
    TRY(order_unpack(plain, arena, ret, st));
    return spec_unpack(arena, ret, st);
}
