/* exec's thread; the commands in a process of their own, beside a running agent. */
#include "agent/exec/safemarks.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/policy/policy.h"
#include "base/clock.h"
#include "base/file.h"

#define LINE_MAX_BYTES    1024
#define DEFAULT_STATE_DIR "/var/lib/clm-agent"

char *safe_marks_dir(const char *state_dir)
{
    char *path;
    if (asprintf(&path, "%s/safe-mode", state_dir) < 0)
        abort();
    return path;
}

static char *path_of(const char *state_dir, enum safe_reason reason)
{
    char *path;
    if (asprintf(&path, "%s/safe-mode/%s", state_dir, safe_reason_info(reason)->name) < 0)
        abort();
    return path;
}

enum code safe_mark_put(const char *state_dir, enum safe_reason reason, const char *text, struct status *st)
{
    AUTO_FREE char *dir = safe_marks_dir(state_dir);
    AUTO_FREE char *path = path_of(state_dir, reason);
    AUTO_FREE char *line = NULL;
    char at[CLOCK_RFC3339_SIZE];
    clock_format_rfc3339(clock_wall_ms(), at);
    if (asprintf(&line, "%s %.900s\n", at, text) < 0)
        abort();
    TRY(dir_make(dir, 0700, st));
    return file_write_atomic(path, line, strlen(line), 0600, st);
}

enum code safe_mark_remove(const char *state_dir, enum safe_reason reason, struct status *st)
{
    AUTO_FREE char *path = path_of(state_dir, reason);
    if (unlink(path) != 0 && errno != ENOENT)
        return status_errno(st, CODE_PERMISSION_DENIED, errno, "cannot remove %s", path);
    return CODE_OK;
}

bool safe_mark_there(const char *state_dir, enum safe_reason reason)
{
    AUTO_FREE char *path = path_of(state_dir, reason);
    struct stat info;
    /* What cannot be looked at counts as there: leaving is what needs proof. */
    return lstat(path, &info) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

enum code safe_mark_read(const char *state_dir, enum safe_reason reason, struct buf *ret, struct status *st)
{
    AUTO_FREE char *path = path_of(state_dir, reason);
    buf_reset(ret);
    TRY(file_read(path, LINE_MAX_BYTES, ret, st));
    while (ret->len > 0 && ret->data[ret->len - 1] == '\n')
        ret->len--;
    return CODE_OK;
}

/* ---- the commands -----------------------------------------------------------------------------------------
 */

/* Never made here: a directory in the wrong place would look like success. */
static enum code find_state(const char *config_path, const char *state_dir, char **ret, struct status *st)
{
    struct policy *policy = NULL;
    struct status ignored;
    if (!state_dir) {
        (void)policy_load_or_none(config_path, &policy, &ignored);
        state_dir = policy->state_dir;
    }
    *ret = strdup(state_dir ? state_dir : DEFAULT_STATE_DIR);
    policy_free(policy);
    if (!*ret)
        abort();
    if (access(*ret, F_OK) != 0)
        return status_set(st, CODE_NOT_FOUND,
                          "there is no state directory %s: name the agent's with --state-dir", *ret);
    return CODE_OK;
}

static int failed(const char *command, const struct status *st)
{
    (void)fprintf(stderr, "clm-agent %s: %s\n", command, st->msg);
    return 1;
}

int safe_mode_enter_main(const char *config_path, const char *state_dir, const char *why)
{
    AUTO_FREE char *dir = NULL;
    struct status st;
    if (find_state(config_path, state_dir, &dir, &st) != CODE_OK ||
        safe_mark_put(dir, SAFE_LOCAL, why ? why : "asked for on this host", &st) != CODE_OK)
        return failed("safe-mode", &st);
    (void)puts("safe mode is on: this agent changes nothing until `clm-agent leave-safe-mode`");
    return 0;
}

static void print_remaining(const char *dir)
{
    for (int i = 0; i < SAFE_AGENT_REASON_COUNT; i++) {
        const struct safe_reason_info *info = safe_reason_info((enum safe_reason)i);
        if (info->exit != SAFE_EXIT_HOST && safe_mark_there(dir, (enum safe_reason)i))
            (void)printf("still in safe mode, %s: %s; it ends %s\n", info->name, info->means, info->ends);
    }
}

int safe_mode_leave_main(const char *config_path, const char *state_dir)
{
    AUTO_FREE char *dir = NULL;
    struct status st;
    bool was = false;
    if (find_state(config_path, state_dir, &dir, &st) != CODE_OK)
        return failed("leave-safe-mode", &st);
    for (int i = 0; i < SAFE_AGENT_REASON_COUNT; i++) {
        const struct safe_reason_info *info = safe_reason_info((enum safe_reason)i);
        if (info->exit != SAFE_EXIT_HOST || !safe_mark_there(dir, (enum safe_reason)i))
            continue;
        if (safe_mark_remove(dir, (enum safe_reason)i, &st) != CODE_OK)
            return failed("leave-safe-mode", &st);
        (void)printf("%s is over\n", info->name);
        was = true;
    }
    if (!was)
        (void)puts("nothing that this command could end held");
    print_remaining(dir);
    return 0;
}
