/* See watch.h. */
#include "agent/exec/watch.h"
#include "agent/exec/job.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "agent/exec/spawn.h"
#include "agent/ipc.h"
#include "agent/kinds/drift.h"
#include "base/clock.h"
#include "base/log.h"
#include "sandbox/sandbox.h"
#include "wire/wire.h"

#define SOON_MS    500  /* after the last change of a file */
#define AGAIN_MS   2000 /* until what differs is looked at a second time */
#define BUSY_MS    1000
#define SLACK      2   /* 1 / SLACK of the interval: it may be so much longer or shorter */
#define CHECK_SEC  120 /* processor time of a check */
#define DIRS_MAX   192
#define REPORT_MAX (64 * 1024)
#define FILE_EVENTS                                                                                          \
    (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)
#define DIR_GONE (IN_Q_OVERFLOW | IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF)

struct report { /* a copy */
    struct arena *arena;
    const Clm__DriftReport *msg; /* NULL: none */
};

struct watch {
    struct exec *exec;
    int inotify;
    struct loop_watch *ready;
    struct loop_timer *timer;
    struct spawned child;
    struct ipc *ipc;
    struct report seen; /* what the last check said */
    struct report told;
    int64_t checked_ms; /* monotonic: when the last check ended */
    bool again;         /* something happened while a check was at work */
};

/* --- the child ---------------------------------------------------------------------------------------- */

static _Noreturn void child_main(const struct watch *watch, int fd, pid_t parent)
{
    struct exec *exec = watch->exec;
    struct status st;
    struct arena *arena = arena_new();
    Clm__DriftReport report;
    struct rlimit limit = {CHECK_SEC, CHECK_SEC};
    state_forget_key(exec->state);
    sandbox_reset_signals();
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || getppid() != parent)
        _exit(126);
    (void)setrlimit(RLIMIT_CPU, &limit);
    sandbox_close_fds((const int[]){fd}, 1);
    drift_check(exec->policy, exec->state->dir, watch->seen.msg, arena, &report);
    _exit(ipc_write(fd, &report.base, REPORT_MAX, &st) == CODE_OK ? 0 : 1);
}

/* --- on the loop -------------------------------------------------------------------------------------- */

static void next_in(struct watch *watch, int64_t ms)
{
    loop_timer_set(watch->timer, ms);
}

static void next_round(struct watch *watch)
{
    const struct policy *policy = watch->exec->policy;
    if (policy->watch_interval_ms > 0 && policy->targets && policy->targets[0])
        next_in(watch, policy->watch_interval_ms + policy->watch_interval_ms / SLACK);
}

static void log_changes(const Clm__DriftReport *from, const Clm__DriftReport *to)
{
    for (size_t i = 0; i < to->n_drifts; i++)
        log_warn("what is served is not what was intended", "target", to->drifts[i]->target, "reason",
                 to->drifts[i]->reason, NULL);
    if (from && from->n_drifts > 0 && to->n_drifts == 0)
        log_info("what is served is what was intended again", NULL);
}

static void report_done(struct report *report)
{
    if (report->arena)
        arena_free(report->arena);
    *report = (struct report){0};
}

static void report_keep(struct report *report, const Clm__DriftReport *said)
{
    struct report copy = {.arena = arena_new()};
    ProtobufCMessage *msg;
    const uint8_t *packed;
    size_t len;
    wire_pack(&said->base, copy.arena, &packed, &len);
    if (wire_unpack(&clm__drift_report__descriptor, packed, len, copy.arena, &msg, NULL) == CODE_OK)
        copy.msg = (const Clm__DriftReport *)(const void *)msg;
    report_done(report);
    *report = copy;
}

static bool says(const struct report *report, const Clm__DriftReport *other)
{
    AUTO_ARENA struct arena *arena = arena_new();
    const uint8_t *a, *b;
    size_t a_len, b_len;
    if (!report->msg)
        return false;
    wire_pack(&report->msg->base, arena, &a, &a_len);
    wire_pack(&other->base, arena, &b, &b_len);
    return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

static void tell(struct watch *watch, const Clm__DriftReport *report)
{
    log_changes(watch->told.msg, report);
    report_keep(&watch->told, report);
    exec_changed(watch->exec);
}

/* What differs, and what does not any more, is told when it was seen twice: in between a server may have had
 * processes of both kinds. */
static void on_report(const ProtobufCMessage *msg, void *arg)
{
    struct watch *watch = arg;
    const Clm__DriftReport *report = (const Clm__DriftReport *)msg;
    bool twice = says(&watch->seen, report);
    bool first = !watch->told.msg && report->n_drifts == 0;
    report_keep(&watch->seen, report);
    if (says(&watch->told, report))
        next_round(watch);
    else if (twice || first)
        tell(watch, report);
    else
        next_in(watch, AGAIN_MS);
}

static void on_closed(const struct status *why, void *arg)
{
    (void)why;
    struct watch *watch = arg;
    ipc_free(TAKE(watch->ipc));
    spawn_reap(&watch->child, true);
    watch->checked_ms = clock_mono_ms();
    if (watch->again)
        next_in(watch, SOON_MS);
    else if (!loop_timer_pending(watch->timer))
        next_round(watch);
    watch->again = false;
}

static void start_check(struct watch *watch)
{
    struct exec *exec = watch->exec;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        next_round(watch);
        return;
    }
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        child_main(watch, pair[1], parent);
    (void)close(pair[1]);
    if (pid < 0) {
        (void)close(pair[0]);
        next_round(watch);
        return;
    }
    watch->child = (struct spawned){.pid = pid, .fd = pair[0]};
    struct ipc_config config = {.fd = pair[0],
                                .desc = &clm__drift_report__descriptor,
                                .max_frame = REPORT_MAX,
                                .on_frame = on_report,
                                .on_closed = on_closed,
                                .arg = watch};
    watch->ipc = ipc_new(exec->loop, &config);
}

static void watch_dirs(struct watch *watch)
{
    unsigned left = watch->inotify >= 0 ? DIRS_MAX : 0;
    for (struct policy_target **t = watch->exec->policy->targets; t && *t; t++) {
        const char *const paths[] = {(*t)->certificate, (*t)->key, (*t)->chain, (*t)->password_file};
        for (size_t i = 0; i < ARRAY_LEN(paths) && left > 0; i++) {
            const char *slash = paths[i] ? strrchr(paths[i], '/') : NULL;
            if (!slash)
                continue;
            char dir[4096];
            int n =
                snprintf(dir, sizeof(dir), "%.*s", slash == paths[i] ? 1 : (int)(slash - paths[i]), paths[i]);
            if (n > 0 && (size_t)n < sizeof(dir) && inotify_add_watch(watch->inotify, dir, FILE_EVENTS) >= 0)
                left--;
        }
    }
}

static void on_timer(void *arg)
{
    struct watch *watch = arg;
    const struct policy *policy = watch->exec->policy;
    if (watch->ipc || !policy->targets || !policy->targets[0] || watch->exec->stopping)
        return;
    watch_dirs(watch); /* those that took another's place, too */
    if (jobs_running(watch->exec) > 0)
        next_in(watch, BUSY_MS);
    else
        start_check(watch);
}

void watch_soon(struct watch *watch)
{
    const struct policy *policy = watch->exec->policy;
    if (policy->watch_interval_ms <= 0 || !policy->targets || !policy->targets[0])
        return;
    watch->again = watch->ipc != NULL;
    if (!watch->ipc)
        next_in(watch, SOON_MS);
}

void watch_awake(struct watch *watch)
{
    const struct policy *policy = watch->exec->policy;
    int64_t interval_ms = policy->watch_interval_ms;
    if (interval_ms > 0 && !watch->ipc && watch->checked_ms > 0 &&
        clock_mono_ms() - watch->checked_ms >= interval_ms - interval_ms / SLACK)
        on_timer(watch);
}

/* --- files -------------------------------------------------------------------------------------------- */

static bool is_ours(const struct policy *policy, const char *name)
{
    for (struct policy_target **t = policy->targets; t && *t; t++) {
        const char *const paths[] = {(*t)->certificate, (*t)->key, (*t)->chain, (*t)->password_file};
        for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
            const char *slash = paths[i] ? strrchr(paths[i], '/') : NULL;
            if (slash && strcmp(slash + 1, name) == 0)
                return true;
        }
    }
    return false;
}

static void on_files(int fd, int events, void *arg)
{
    (void)events;
    struct watch *watch = arg;
    char buffer[8192] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n = read(fd, buffer, sizeof(buffer));
    bool ours = false;
    for (ssize_t at = 0; n > 0 && at < n;) {
        const struct inotify_event *event = (const struct inotify_event *)(const void *)(buffer + at);
        ours =
            ours || (event->mask & DIR_GONE) || (event->len > 0 && is_ours(watch->exec->policy, event->name));
        at += (ssize_t)(sizeof(*event) + event->len);
    }
    if (ours)
        watch_soon(watch);
}

void watch_policy_changed(struct watch *watch)
{
    loop_watch_free(watch->ready);
    watch->ready = NULL;
    if (watch->inotify >= 0)
        (void)close(watch->inotify);
    watch->inotify = -1;
    if (watch->exec->policy->watch_interval_ms > 0) {
        watch->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (watch->inotify >= 0) {
            watch_dirs(watch);
            watch->ready = loop_watch_new(watch->exec->loop, watch->inotify, LOOP_READ, on_files, watch);
        }
    }
    watch_soon(watch);
}

struct watch *watch_new(struct exec *exec)
{
    struct watch *watch = calloc(1, sizeof(*watch));
    if (!watch)
        abort();
    watch->exec = exec;
    watch->inotify = -1;
    watch->timer = loop_timer_new(exec->loop, on_timer, watch);
    watch_policy_changed(watch);
    return watch;
}

const Clm__DriftReport *watch_report(const struct watch *watch)
{
    return watch ? watch->told.msg : NULL;
}

void watch_free(struct watch *watch)
{
    if (!watch)
        return;
    if (watch->ipc) {
        ipc_free(watch->ipc);
        spawn_reap(&watch->child, true);
    }
    loop_watch_free(watch->ready);
    if (watch->inotify >= 0)
        (void)close(watch->inotify);
    loop_timer_free(watch->timer);
    report_done(&watch->seen);
    report_done(&watch->told);
    free(watch);
}
