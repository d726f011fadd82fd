/*
 * From a delivery to an order that may run: who signed it, is it for us, may we. What comes from the bus is
 * hostile until this says otherwise. Foreign CMS is opened in a confined child (sandbox_parse).
 */
#ifndef CLM_AGENT_EXEC_ORDER_H
#define CLM_AGENT_EXEC_ORDER_H

#include "agent/exec/safemode.h"
#include "agent/exec/scopemark.h"
#include "agent/exec/state.h"
#include "agent/kinds/kind.h"

enum order_verdict {
    ORDER_RUN,
    ORDER_REFUSED,     /* authentic and for us, but not allowed here: final for this attempt */
    ORDER_NOT_GENUINE, /* not signed by the platform, altered, or not for this agent, attempt or time */
    ORDER_CANNOT_OPEN, /* genuine, but made for another key of ours */
};

struct order_context {
    const struct agent_state *state;
    const struct policy *policy;
    const struct safe_mode *safe_mode;
    const struct scope_mark *scope_mark; /* the newest scope that was seen */
    int64_t now_ms;
    uid_t parser_uid; /* (uid_t)-1: ours */
};

struct order {
    const Clm__TaskOrder *order;
    const Clm__TaskSpec *spec;
    const struct task_kind *kind;
    struct bytes plain; /* encoded TaskOrder, for the journal */
};

/* What the verdict was goes to why->msg, fit to be signed into a receipt. Memory from the arena. */
enum order_verdict order_open(const struct order_context *context, const Clm__Delivery *delivery,
                              struct arena *arena, struct order *ret, struct status *why);

/* The scope that this order came with. */
struct scope_mark order_scope(const struct order *order);

/* The last of its checks alone: for an order that was accepted and has not begun. FAILED_PRECONDITION, or
 * PERMISSION_DENIED where only the local policy is in the way of a released task. */
enum code order_safe_mode(const struct order_context *context, const struct order *order,
                          struct status *st) MUST_CHECK;

/* A TaskOrder from the journal, which passed all checks when it was written. */
enum code order_decode(struct bytes plain, struct arena *arena, struct order *ret,
                       struct status *st) MUST_CHECK;

#endif
