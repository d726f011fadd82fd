/* Confining the calling process: limits, user, descriptors, seccomp. One-way, in processes with one thread.
 */
#include "sandbox/sandbox.h"

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "sandbox/filter.h"

#define FIRST_FREE_FD 3

static enum code set_limit(__rlimit_resource_t resource, const char *name, unsigned long value,
                           struct status *st)
{
    struct rlimit limit = {value, value};
    if (value == 0)
        return CODE_OK;
    if (setrlimit(resource, &limit) != 0)
        return status_errno(st, CODE_PERMISSION_DENIED, errno, "cannot limit %s to %lu", name, value);
    return CODE_OK;
}

enum code sandbox_limit(const struct sandbox_limits *limits, struct status *st)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    TRY(set_limit(RLIMIT_AS, "memory", limits->memory_bytes, st));
#endif
    TRY(set_limit(RLIMIT_CPU, "processor time", limits->cpu_sec, st));
    TRY(set_limit(RLIMIT_FSIZE, "file size", limits->file_bytes, st));
    TRY(set_limit(RLIMIT_NOFILE, "open files", limits->open_files, st));
    return set_limit(RLIMIT_NPROC, "processes", limits->processes, st);
}

static void drop_bounding_set(void)
{
    for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

static enum code drop_capabilities(struct status *st)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0, 0, 0}};
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capset, &header, none) != 0)
        return status_errno(st, CODE_INTERNAL, errno, "cannot drop capabilities");
    return CODE_OK;
}

enum code sandbox_drop_user(uid_t uid, gid_t gid, struct status *st)
{
    if (getuid() == uid && geteuid() == uid && getgid() == gid && getegid() == gid && uid != 0)
        return CODE_OK;
    drop_bounding_set();
    if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
        return status_errno(st, CODE_PERMISSION_DENIED, errno, "cannot become user %u, group %u", uid, gid);
    TRY(drop_capabilities(st));
    if (uid != 0 && setuid(0) == 0)
        return status_set(st, CODE_INTERNAL, "became root again after dropping to user %u", uid);
    return CODE_OK;
}

enum code sandbox_enter(enum sandbox_profile profile, struct status *st)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return status_errno(st, CODE_INTERNAL, errno, "cannot set no_new_privs");
    int rc = filter_load(profile);
    if (rc != 0)
        return status_errno(st, CODE_INTERNAL, -rc, "cannot load the seccomp filter");
    return CODE_OK;
}

static void close_between(unsigned first, unsigned last)
{
    if (first > last || syscall(SYS_close_range, first, last, 0) == 0)
        return;
    /* Kernels before 5.9. */
    long open_max = sysconf(_SC_OPEN_MAX);
    unsigned end = open_max > 0 && (unsigned)open_max - 1 < last ? (unsigned)open_max - 1 : last;
    for (unsigned fd = first; fd <= end; fd++)
        (void)close((int)fd);
}

void sandbox_reset_signals(void)
{
    sigset_t none;
    (void)sigemptyset(&none);
    for (int sig = 1; sig < NSIG; sig++) {
#if defined(__SANITIZE_ADDRESS__)
        /* AddressSanitizer's handlers turn a fault into its report. */
        if (sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE)
            continue;
#endif
        (void)signal(sig, SIG_DFL);
    }
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

void sandbox_close_fds(const int *keep, unsigned n)
{
    unsigned low = FIRST_FREE_FD;
    for (;;) {
        unsigned next = ~0u;
        for (unsigned i = 0; i < n; i++)
            if (keep[i] >= 0 && (unsigned)keep[i] >= low && (unsigned)keep[i] < next)
                next = (unsigned)keep[i];
        if (next == ~0u)
            break;
        if (next > low)
            close_between(low, next - 1);
        low = next + 1;
    }
    close_between(low, ~0u);
}
