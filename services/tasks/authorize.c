/*
 * AuthorizeCertificate: bootstrap asks, before it signs a CSR, whether this agent's running RENEW task is for
 * these names. An agent that is disabled meanwhile gets no new certificate.
 */
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "convert.h"
#include "store.h"

static bool spec_names(const struct spec_facts *facts, const char *name)
{
    for (size_t i = 0; i < facts->n_dns_names; i++)
        if (!strcasecmp(facts->dns_names[i], name))
            return true;
    return facts->n_dns_names == 0; /* those of the certificate in place: within the scope */
}

enum code task_authorize_certificate(struct db *db, struct arena *arena, const char *agent_id,
                                     const char *task_id, unsigned attempt, char *const *dns_names,
                                     size_t n_dns_names, uint32_t *ret_life_sec, struct status *st)
{
    struct task task;
    TRY(store_task_get(db, arena, task_id, agent_id, false, &task, st));
    if (task.kind != KIND_RENEW)
        return status_set(st, CODE_PERMISSION_DENIED, "task %s is a %s: only RENEW asks for certificates",
                          task_id, task_kind_name(task.kind));
    if (task.attempt != attempt || (task.state != STATE_LEASED && task.state != STATE_RUNNING))
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "task %s is %s at attempt %u, not running at attempt %u", task_id,
                          task_state_name(task.state), task.attempt, attempt);
    struct agent agent;
    TRY(store_agent_get(db, arena, agent_id, &agent, st));
    if (agent.deleted || !safe_allows(agent.safe_column, SAFE_CHANGE, task.break_glass))
        return status_set(st, CODE_PERMISSION_DENIED, "agent %s is %s: it gets no certificate", agent_id,
                          agent.deleted ? "deleted" : safe_column_name(agent.safe_column));
    struct scope scope;
    struct spec_facts facts;
    TRY(scope_read(agent.scope, arena, &scope, st));
    TRY(spec_read(task.spec, arena, &facts, st));
    for (size_t i = 0; i < n_dns_names; i++) {
        if (!spec_names(&facts, dns_names[i]))
            return status_set(st, CODE_PERMISSION_DENIED, "task %s does not name %s", task_id, dns_names[i]);
        if (!scope_allows_operation(&scope, KIND_RENEW) || !scope_allows_dns_name(&scope, dns_names[i]))
            return status_set(st, CODE_PERMISSION_DENIED, "the agent's scope does not hold the name %s",
                              dns_names[i]);
    }
    if (n_dns_names == 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "no names");
    *ret_life_sec = facts.life_sec;
    return CODE_OK;
}
