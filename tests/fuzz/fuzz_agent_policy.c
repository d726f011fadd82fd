/* The administrator's file. What it allows must be complete: no relative path, no command but an absolute
 * one. */
#include <stdlib.h>
#include <string.h>

#include "agent/policy/policy.h"
#include "base/endpoint.h"
#include "proto/common.pb-c.h"
#include "temp_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_be_absolute(const char *path)
{
    if (path && path[0] != '/')
        abort();
}

static void check_target(const struct policy *policy, const struct policy_target *target)
{
    struct status st;
    const struct policy_target *found = NULL;
    struct endpoint at;
    char name[] = "www.example.com", *names[] = {name};
    if (!target->certificate || policy_find_target(policy, target->name, &found, &st) != CODE_OK)
        abort();
    must_be_absolute(target->certificate);
    must_be_absolute(target->key);
    must_be_absolute(target->chain);
    for (struct policy_reload **r = target->reloads; *r; r++) {
        if (!policy_find_reload(policy, (*r)->name))
            abort();
    }
    if (target->endpoint && endpoint_split(target->endpoint, &at, &st) != CODE_OK)
        abort();
    if (policy_allows_names(policy, target, names, 1, &st) == CODE_OK && !target->dns_names &&
        !policy->dns_names)
        abort(); /* nothing written down: nothing allowed */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct status st = {0};
    struct policy *policy = NULL;
    if (policy_load(temp_file("agent.conf", data, size), &policy, &st) != CODE_OK) {
        if (policy || !st.msg[0])
            abort();
        return 0;
    }
    for (struct policy_target **target = policy->targets; target && *target; target++)
        check_target(policy, *target);
    for (struct policy_reload **reload = policy->reloads; reload && *reload; reload++) {
        if (!(*reload)->command || !(*reload)->command[0] || (*reload)->timeout_ms <= 0)
            abort();
        must_be_absolute((*reload)->command[0]);
        if ((*reload)->test)
            must_be_absolute((*reload)->test[0]);
        if ((*reload)->pre)
            must_be_absolute((*reload)->pre[0]);
        if ((*reload)->failure)
            must_be_absolute((*reload)->failure[0]);
    }
    if (!policy->operations && (policy_allows_operation(policy, CLM__TASK__KIND__DEPLOY, &st) == CODE_OK ||
                                policy_allows_operation(policy, CLM__TASK__KIND__RENEW, &st) == CODE_OK))
        abort();
    if (!policy->probe_hosts && policy_allows_probe(policy, "192.0.2.1", &st) == CODE_OK)
        abort();
    if (!policy->discovery_roots && policy_allows_discovery(policy, "/etc/ssl", &st) != CODE_OK)
        abort();
    policy_free(policy);
    return 0;
}
