/*
 * The reasons for safe mode that exec finds, and those that the host's administrator gives or takes by a file
 * (safemarks.h): each is reported, logged when it comes or goes, and noted down. See exec.h.
 */
#include <string.h>
#include <sys/inotify.h>

#include "agent/exec/exec.h"
#include "agent/exec/safemarks.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

/* The file follows the reason. Best effort: a full disk must not keep the agent from being careful. */
static void mark(struct exec *exec, enum safe_reason reason, const char *text)
{
    struct status st;
    bool on = exec->safe_mode.active[reason];
    enum code code = on ? safe_mark_put(exec->state->dir, reason, text, &st)
                        : safe_mark_remove(exec->state->dir, reason, &st);
    if (code == CODE_OK)
        exec->marked[reason] = on;
    else
        log_warn("a reason for safe mode cannot be noted down", "reason", st.msg, NULL);
}

void exec_report(struct exec *exec, enum safe_reason reason, bool bad)
{
    if (!safe_mode_report(&exec->safe_mode, reason, bad, clock_mono_ms()))
        return;
    const struct safe_reason_info *info = safe_reason_info(reason);
    if (exec->safe_mode.active[reason])
        log_error("safe mode: only what changes nothing is done", "reason", info->name, "because",
                  info->means, "it_ends", info->ends, NULL);
    else
        log_info("a reason for safe mode is over", "reason", info->name, "safe_mode",
                 safe_mode_active(&exec->safe_mode) ? "on" : "off", NULL);
    mark(exec, reason, info->means);
    exec_changed(exec);
}

void exec_enter(struct exec *exec, enum safe_reason reason, const char *text)
{
    exec_report(exec, reason, true);
    mark(exec, reason, text);
}

void exec_look_at_marks(struct exec *exec)
{
    for (int i = 0; i < SAFE_AGENT_REASON_COUNT; i++) {
        enum safe_reason reason = (enum safe_reason)i;
        if (safe_reason_info(reason)->exit != SAFE_EXIT_HOST)
            continue;
        bool there = safe_mark_there(exec->state->dir, reason);
        bool was = exec->marked[i];
        exec->marked[i] = there;
        if (there)
            exec_report(exec, reason, true);
        else if (was)
            exec_report(exec, reason, false);
        else if (exec->safe_mode.active[i]) /* it could not be written: nobody has ended it */
            mark(exec, reason, safe_reason_info(reason)->means);
    }
}

static void on_marks_changed(int fd, int events, void *arg)
{
    (void)events;
    char ignored[4096];
    while (read(fd, ignored, sizeof(ignored)) > 0)
        ;
    exec_look_at_marks(arg);
}

/* Without a watch the minute's check sees it, and every delivery. */
void exec_watch_marks(struct exec *exec)
{
    AUTO_FREE char *dir = safe_marks_dir(exec->state->dir);
    struct status st;
    for (int i = 0; i < SAFE_AGENT_REASON_COUNT; i++) /* of a former run */
        if (safe_reason_info((enum safe_reason)i)->exit != SAFE_EXIT_HOST &&
            safe_mark_remove(exec->state->dir, (enum safe_reason)i, &st) != CODE_OK)
            log_warn("a former reason for safe mode stays noted down", "reason", st.msg, NULL);
    exec->marks_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (dir_make(dir, 0700, &st) != CODE_OK || exec->marks_fd < 0 ||
        inotify_add_watch(exec->marks_fd, dir, IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_ONLYDIR) < 0)
        log_warn("changes of safe mode on this host are noticed within a minute only", "directory", dir,
                 NULL);
    else
        exec->marks_watch = loop_watch_new(exec->loop, exec->marks_fd, LOOP_READ, on_marks_changed, exec);
    exec_look_at_marks(exec);
}

/* Whether a root that we hold is valid now: without one nobody can prove to be the platform. */
bool exec_roots_hold(const struct exec *exec)
{
    int64_t now_ms = clock_wall_ms();
    for (size_t i = 0; i < exec->state->roots.n; i++) {
        AUTO_CERT_INFO struct cert_info info = {0};
        struct status st;
        if (cert_read(der_bytes(&exec->state->roots.item[i]), &info, &st) == CODE_OK &&
            info.not_before_ms <= now_ms && now_ms < info.not_after_ms)
            return true;
    }
    return false;
}

void exec_compare_clock(struct exec *exec, int64_t platform_ms)
{
    int64_t skew = clock_wall_ms() - platform_ms;
    bool bad = skew > SAFE_CLOCK_SKEW_MS || skew < -SAFE_CLOCK_SKEW_MS;
    if (bad && !exec->safe_mode.active[SAFE_CLOCK])
        log_error("this host's clock is not the platform's", "ahead_ms", LOG_NUM(skew), NULL);
    exec_report(exec, SAFE_CLOCK, bad);
}
