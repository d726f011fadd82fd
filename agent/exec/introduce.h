/*
 * What exec tells net so that it can connect: who it is, whom it trusts, where the gateway is, and the proxy
 * on the way there, whose password is read from its file at each introduction.
 */
#ifndef CLM_AGENT_EXEC_INTRODUCE_H
#define CLM_AGENT_EXEC_INTRODUCE_H

#include "agent/exec/state.h"
#include "agent/ipc.pb-c.h"
#include "agent/policy/policy.h"
#include "base/secret.h"

/* The gateway of the policy, or the one of the token. */
const char *gateway_of(const struct agent_state *state, const struct policy *policy);

struct proxy_message {
    Clm__Agent__Proxy message;
    struct secret *password; /* NULL: none */
};
/* *ret borrows from policy. `address` stays NULL where the policy has no proxy. An error is about the file of
 * the password. Free with proxy_message_done. */
enum code proxy_message_fill(const struct policy *policy, struct proxy_message *ret,
                             struct status *st) MUST_CHECK;
void proxy_message_done(struct proxy_message *proxy);

struct introduction {
    Clm__Agent__Identity identity;
    ProtobufCBinaryData chain[DER_LIST_MAX], roots[DER_LIST_MAX];
    struct proxy_message proxy;
};
/* *ret borrows from state and policy. Where the password of the proxy cannot be read, *ret_proxy_problem says
 * why ("" otherwise), and the introduction has the proxy without it: its 407 then says the rest. Free with
 * introduction_done. */
void introduce(const struct agent_state *state, const struct policy *policy, struct introduction *ret,
               struct status *ret_proxy_problem);
void introduction_done(struct introduction *introduction);

#endif
