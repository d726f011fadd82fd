/* Messages that borrow; exec's thread. */
#include "agent/exec/introduce.h"

#include <string.h>

#define PASSWORD_MAX 1024

const char *gateway_of(const struct agent_state *state, const struct policy *policy)
{
    return policy && policy->gateway ? policy->gateway : state->gateway;
}

enum code proxy_message_fill(const struct policy *policy, struct proxy_message *ret, struct status *st)
{
    clm__agent__proxy__init(&ret->message);
    ret->password = NULL;
    if (!policy || !policy->proxy)
        return CODE_OK;
    ret->message.address = policy->proxy;
    ret->message.user = policy->proxy_user;
    if (!policy->proxy_password_file)
        return CODE_OK;
    TRY(secret_read_file(policy->proxy_password_file, PASSWORD_MAX, true, &ret->password, st));
    ret->message.password = (char *)ret->password->data;
    return CODE_OK;
}

void proxy_message_done(struct proxy_message *proxy)
{
    secret_free(TAKE(proxy->password));
}

static void borrow(const struct der_list *list, ProtobufCBinaryData *ret)
{
    for (size_t i = 0; i < list->n; i++)
        ret[i] = (ProtobufCBinaryData){list->item[i].len, list->item[i].data};
}

void introduce(const struct agent_state *state, const struct policy *policy, struct introduction *ret,
               struct status *ret_proxy_problem)
{
    Clm__Agent__Identity *identity = &ret->identity;
    clm__agent__identity__init(identity);
    borrow(&state->identity_chain, ret->chain);
    borrow(&state->roots, ret->roots);
    identity->agent_id = (char *)(uintptr_t)state->agent_id;
    identity->has_generation = 1;
    identity->generation = state->generation;
    identity->n_chain = state->identity_chain.n;
    identity->chain = ret->chain;
    identity->n_roots = state->roots.n;
    identity->roots = ret->roots;
    identity->gateway = (char *)(uintptr_t)gateway_of(state, policy);
    *ret_proxy_problem = (struct status){0};
    if (proxy_message_fill(policy, &ret->proxy, ret_proxy_problem) != CODE_OK)
        proxy_message_done(&ret->proxy);
    identity->proxy = ret->proxy.message.address ? &ret->proxy.message : NULL;
}

void introduction_done(struct introduction *introduction)
{
    proxy_message_done(&introduction->proxy);
}
