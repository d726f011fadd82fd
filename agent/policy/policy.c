/*
 * Reads the local policy. Runs in exec (and in `clm-agent setup`), once at start or when told to read again;
 * read-only afterwards, so a task's child sees the policy it was forked with.
 */
#include "policy/parts.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/endpoint.h"

/* Whoever may write the file, or replace it in its directory, may run commands as this process. */
static enum code check_owner(const char *path, const char *shown, bool is_dir, struct status *st)
{
    struct stat info;
    if (lstat(path, &info) != 0)
        return status_errno(st, errno == ENOENT ? CODE_NOT_FOUND : CODE_PERMISSION_DENIED, errno,
                            "cannot read the local policy %s", shown);
    if (is_dir ? !S_ISDIR(info.st_mode) : !S_ISREG(info.st_mode))
        return status_set(st, CODE_PERMISSION_DENIED, "%s is not a %s: give the local policy's real path",
                          path, is_dir ? "directory" : "regular file");
    if (info.st_uid != 0 && info.st_uid != geteuid())
        return status_set(st, CODE_PERMISSION_DENIED, "%s belongs to user %u and not to root: chown root %s",
                          path, (unsigned)info.st_uid, path);
    bool sticky = is_dir && (info.st_mode & S_ISVTX);
    if ((info.st_mode & (S_IWGRP | S_IWOTH)) && !sticky)
        return status_set(st, CODE_PERMISSION_DENIED, "%s may be written by others: chmod go-w %s", path,
                          path);
    return CODE_OK;
}

/* *ret: its real directory, and its own name. */
static enum code find_file(const char *path, char **ret, struct status *st)
{
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *given = !slash ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    AUTO_FREE char *dir = realpath(must(given), NULL);
    if (!dir)
        return status_errno(st, errno == ENOENT ? CODE_NOT_FOUND : CODE_PERMISSION_DENIED, errno,
                            "cannot read the local policy %s", path);
    AUTO_FREE char *real = NULL;
    if (asprintf(&real, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, slash ? slash + 1 : path) < 0)
        abort();
    TRY(check_owner(dir, path, true, st));
    TRY(check_owner(real, path, false, st));
    *ret = TAKE(real);
    return CODE_OK;
}

enum code policy_load(const char *path, struct policy **ret, struct status *st)
{
    AUTO_FREE char *real = NULL;
    TRY(find_file(path, &real, st));
    struct policy *policy = must(calloc(1, sizeof(*policy)));
    policy->path = TAKE(real);
    enum code code = config_load(&policy_schema, policy->path, policy, st);
    if (code == CODE_OK) {
        code = policy_check(policy, st);
        if (code != CODE_OK)
            status_wrap(st, "%s", strrchr(policy->path, '/') + 1);
    }
    if (code != CODE_OK) {
        policy_free(policy);
        return code;
    }
    *ret = policy;
    return CODE_OK;
}

static struct policy *policy_none(const char *path)
{
    struct status ignored;
    AUTO_FREE char *real = NULL;
    struct policy *policy = must(calloc(1, sizeof(*policy)));
    policy->targets = must(calloc(1, sizeof(*policy->targets)));
    policy->reloads = must(calloc(1, sizeof(*policy->reloads)));
    policy->path = must(strdup(path));
    config_salvage(policy_schema.keys, "agent", find_file(path, &real, &ignored) == CODE_OK ? real : NULL,
                   policy);
    if (policy_check_proxy(policy, &ignored) != CODE_OK) {
        free(TAKE(policy->proxy));
        free(TAKE(policy->proxy_user));
        free(TAKE(policy->proxy_password_file));
    }
    return policy;
}

enum code policy_load_or_none(const char *path, struct policy **ret, struct status *st)
{
    enum code code = policy_load(path, ret, st);
    if (code != CODE_OK)
        *ret = policy_none(path);
    return code;
}

void policy_free(struct policy *policy)
{
    if (!policy)
        return;
    policy_conf_done(policy);
    free(policy->path);
    free(policy);
}

enum starttls policy_target_starttls(const struct policy_target *target)
{
    struct endpoint at;
    enum starttls starttls;
    if (target->starttls && starttls_find(target->starttls, &starttls))
        return starttls;
    if (!target->endpoint || endpoint_split(target->endpoint, &at, NULL) != CODE_OK)
        return STARTTLS_NONE;
    return starttls_of_port(at.port);
}

enum code policy_find_target(const struct policy *policy, const char *name, const struct policy_target **ret,
                             struct status *st)
{
    for (struct policy_target **t = policy->targets; name && t && *t; t++) {
        if (strcmp((*t)->name, name) == 0) {
            *ret = *t;
            return CODE_OK;
        }
    }
    return status_set(
        st, CODE_PERMISSION_DENIED,
        "local policy has no target \"%.60s\": add [target %.60s] to %s, or run clm-agent setup",
        name ? name : "", name && *name ? name : "NAME", policy->path);
}

const struct policy_reload *policy_find_reload(const struct policy *policy, const char *name)
{
    for (struct policy_reload **r = policy->reloads; r && *r; r++) {
        if (strcmp((*r)->name, name) == 0)
            return *r;
    }
    return NULL;
}
