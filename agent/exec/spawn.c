/* fork and exec of ourselves. Exec's thread. */
#include "agent/exec/spawn.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "sandbox/sandbox.h"

#define ARGS_MAX 16

static _Noreturn void become(const char *const argv[], int channel, pid_t parent)
{
    char *args[ARGS_MAX] = {(char *)(uintptr_t) "clm-agent"};
    for (size_t i = 0; argv[i] && i + 2 < ARGS_MAX; i++)
        args[i + 1] = (char *)(uintptr_t)argv[i];
    sandbox_reset_signals();
    /* dup2 onto itself would keep close-on-exec. */
    if (channel == SPAWN_CHANNEL_FD)
        channel = dup(channel);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || getppid() != parent ||
        dup2(channel, SPAWN_CHANNEL_FD) != SPAWN_CHANNEL_FD)
        _exit(126);
    sandbox_close_fds((const int[]){SPAWN_CHANNEL_FD}, 1);
    (void)execv("/proc/self/exe", args);
    _exit(127);
}

enum code spawn_self(const char *const argv[], struct spawned *ret, struct status *st)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return status_errno(st, CODE_INTERNAL, errno, "cannot make a socket pair");
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become(argv, pair[1], parent);
    (void)close(pair[1]);
    if (pid < 0) {
        (void)close(pair[0]);
        return status_errno(st, CODE_UNAVAILABLE, errno, "cannot start the %s process", argv[0]);
    }
    *ret = (struct spawned){.pid = pid, .fd = pair[0]};
    return CODE_OK;
}

void spawn_reap(struct spawned *child, bool kill_first)
{
    if (child->pid <= 0)
        return;
    if (kill_first)
        (void)kill(child->pid, SIGKILL);
    while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    child->pid = 0;
}

enum code spawn_find_user(const char *name, uid_t *ret_uid, gid_t *ret_gid, struct status *st)
{
    *ret_uid = (uid_t)-1;
    *ret_gid = (gid_t)-1;
    if (geteuid() != 0)
        return CODE_OK;
    errno = 0;
    const struct passwd *user = getpwnam(name);
    if (!user)
        return status_set(
            st, CODE_NOT_FOUND,
            "there is no user %s for the net process: add it (useradd --system %s) or set net_user in "
            "[agent] of agent.conf",
            name, name);
    if (user->pw_uid == 0)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "net_user %s is root: the net process must be unprivileged", name);
    *ret_uid = user->pw_uid;
    *ret_gid = user->pw_gid;
    return CODE_OK;
}
