/* DEPLOY: installs a certificate for a key that is on this host. Runs in a task's child. */
#include <string.h>

#include "base/clock.h"
#include "stores/store.h"
#include "transaction/transaction.h"

/* Another key than the target's own must itself be a target's: the platform names no other file. */
static enum code find_key(struct task_run *run, const struct policy_target *target, const char *path,
                          struct secret **ret, struct status *st)
{
    *ret = NULL;
    if (!path || !path[0] || strcmp(path, target_key_path(target)) == 0)
        return CODE_OK;
    bool known = false;
    for (struct policy_target **t = run->policy->targets; t && *t; t++)
        known = known || strcmp(target_key_path(*t), path) == 0;
    if (!known)
        return status_set(st, CODE_PERMISSION_DENIED, "local policy has no target with the key %.100s in %s",
                          path, run->policy->path);
    TRY(task_scope_path(run, path, st));
    TRY(store_read(path, ret, NULL, st));
    if (!*ret)
        return status_set(st, CODE_NOT_FOUND, "there is no key at %.150s", path);
    return CODE_OK;
}

enum code deploy_run(struct task_run *run, Clm__Receipt__Outcome *ret_outcome, struct status *st)
{
    const Clm__DeploySpec *spec = run->spec->deploy;
    const struct policy_target *target;
    AUTO_SECRET struct secret *key = NULL;
    if (!spec)
        return status_set(st, CODE_INVALID_ARGUMENT, "the task has no deploy specification");
    if (task_find_target(run, spec->target, &target, st) != CODE_OK)
        return transaction_stranded(run, st);
    if (transaction_begun(run)) {
        TRY(transaction_resume(run, target, ret_outcome, st));
        discover_installed(run, target, *ret_outcome);
        return CODE_OK;
    }
    transaction_forget(run, target);
    if (!spec->chain_pem || !spec->chain_pem[0])
        return status_set(st, CODE_INVALID_ARGUMENT, "the task has no certificate chain");
    TRY(find_key(run, target, spec->key_path, &key, st));
    struct change change = {
        .target = target,
        .chain_pem = {(const uint8_t *)spec->chain_pem, strlen(spec->chain_pem)},
        .key = key,
    };
    TRY(transaction_run(run, &change, ret_outcome, st));
    discover_installed(run, target, *ret_outcome);
    return CODE_OK;
}
