/* Limits, user, descriptors and the NET and SIGNER profiles; each in a child that says how it went. */
#include "cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/sandbox.h"

/* Wait status of a child that runs the check; the check returns the line that failed, 0 if none did. */
static int in_child(int (*check)(void))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(check());
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    return how;
}

#define NEED(cond)                                                                                           \
    do {                                                                                                     \
        if (!(cond))                                                                                         \
            return __LINE__ & 0xff ? __LINE__ & 0xff : 1;                                                    \
    } while (0)

static void assert_passes(int (*check)(void))
{
    int how = in_child(check);
    if (!WIFEXITED(how) || WEXITSTATUS(how) != 0)
        fail_msg("wait status %#x: line %d modulo 256", (unsigned)how,
                 WIFEXITED(how) ? WEXITSTATUS(how) : -1);
}

static int limits_check(void)
{
    struct status st;
    struct rlimit got;
    NEED(sandbox_limit(&(struct sandbox_limits){.cpu_sec = 5, .open_files = 20, .file_bytes = 4096}, &st) ==
         CODE_OK);
    NEED(getrlimit(RLIMIT_CPU, &got) == 0 && got.rlim_cur == 5 && got.rlim_max == 5);
    NEED(getrlimit(RLIMIT_NOFILE, &got) == 0 && got.rlim_max == 20);
    NEED(getrlimit(RLIMIT_FSIZE, &got) == 0 && got.rlim_max == 4096);
    return 0;
}

static void limits_are_set_hard(void **state UNUSED)
{
    assert_passes(limits_check);
}

static int raise_check(void)
{
    struct status st;
    if (geteuid() == 0)
        NEED(sandbox_drop_user(65534, 65534, &st) == CODE_OK);
    NEED(sandbox_limit(&(struct sandbox_limits){.open_files = 20}, &st) == CODE_OK);
    NEED(sandbox_limit(&(struct sandbox_limits){.open_files = 30}, &st) == CODE_PERMISSION_DENIED);
    NEED(strstr(st.msg, "open files") != NULL);
    return 0;
}

static void limit_cannot_be_raised_again(void **state UNUSED)
{
    assert_passes(raise_check);
}

static int drop_check(void)
{
    struct status st;
    gid_t groups[1];
    if (geteuid() != 0) {
        NEED(sandbox_drop_user(geteuid(), getegid(), &st) == CODE_OK);
        NEED(sandbox_drop_user(geteuid() + 1, getegid(), &st) == CODE_PERMISSION_DENIED);
        return 0;
    }
    NEED(sandbox_drop_user(65534, 65534, &st) == CODE_OK);
    NEED(getuid() == 65534 && geteuid() == 65534 && getgid() == 65534 && getegid() == 65534);
    NEED(getgroups(1, groups) == 0);
    NEED(setuid(0) != 0 && setgid(0) != 0);
    NEED(prctl(PR_CAPBSET_READ, 0, 0, 0, 0) == 0);
    NEED(sandbox_drop_user(65534, 65534, &st) == CODE_OK); /* again: a no-op */
    NEED(sandbox_drop_user(65533, 65533, &st) == CODE_PERMISSION_DENIED);
    return 0;
}

static void dropped_user_cannot_come_back(void **state UNUSED)
{
    assert_passes(drop_check);
}

static int close_check(void)
{
    int fds[40];
    for (int i = 0; i < 40; i++)
        NEED((fds[i] = fcntl(2, F_DUPFD, 3)) >= 0);
    int keep[] = {fds[30], -1, fds[5], fds[5]};
    sandbox_close_fds(keep, 4);
    for (int i = 0; i < 40; i++)
        NEED((fcntl(fds[i], F_GETFD) >= 0) == (i == 30 || i == 5));
    NEED(fcntl(0, F_GETFD) >= 0 && fcntl(1, F_GETFD) >= 0 && fcntl(2, F_GETFD) >= 0);
    sandbox_close_fds(NULL, 0);
    NEED(fcntl(fds[30], F_GETFD) < 0 && fcntl(2, F_GETFD) >= 0);
    return 0;
}

static void all_but_the_kept_descriptors_are_closed(void **state UNUSED)
{
    assert_passes(close_check);
}

static int signer_check(void)
{
    struct status st;
    char got[8];
    int pair[2];
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    NEED(sandbox_enter(SANDBOX_SIGNER, &st) == CODE_OK);
    NEED(send(pair[0], "key", 3, MSG_NOSIGNAL) == 3);
    struct pollfd pfd = {.fd = pair[1], .events = POLLIN};
    NEED(poll(&pfd, 1, 1000) == 1);
    NEED(read(pair[1], got, sizeof(got)) == 3);
    NEED(open("/etc/passwd", O_RDONLY) < 0 && errno == ENOENT);
    NEED(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM);
    return 0;
}

static void signer_talks_on_its_socket_and_nothing_else(void **state UNUSED)
{
    assert_passes(signer_check);
}

static void *in_thread(void *arg)
{
    return arg;
}

static int net_check(void)
{
    struct status st;
    pthread_t thread;
    void *got = NULL;
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    NEED(sandbox_enter(SANDBOX_NET, &st) == CODE_OK);
    NEED(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    NEED(fd >= 0 && bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(fd, 1) == 0);
    NEED(open("/etc/passwd", O_RDONLY) >= 0);
    NEED(pthread_create(&thread, NULL, in_thread, &st) == 0);
    NEED(pthread_join(thread, &got) == 0 && got == &st);
    NEED(fork() < 0);
    NEED(kill(getppid(), 0) != 0);
    return 0;
}

static void net_has_sockets_files_and_threads_but_no_processes(void **state UNUSED)
{
    assert_passes(net_check);
}

static enum sandbox_profile profile;
static int attack;

static int attack_check(void)
{
    struct status st;
    char *const argv[] = {NULL};
    NEED(sandbox_enter(profile, &st) == CODE_OK);
    if (attack == 0)
        (void)execve("/bin/true", argv, argv);
    else if (attack == 1)
        (void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    else
        NEED(setuid(getuid()) == 0);
    return 0;
}

static void attacks_kill_in_every_profile(void **state UNUSED)
{
    for (profile = SANDBOX_PARSER; profile <= SANDBOX_NET; profile++) {
        for (attack = 0; attack < 3; attack++) {
            int how = in_child(attack_check);
            if (!WIFSIGNALED(how) || WTERMSIG(how) != SIGSYS)
                fail_msg("profile %d, attack %d: wait status %#x", (int)profile, attack, (unsigned)how);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_set_hard),
        cmocka_unit_test(limit_cannot_be_raised_again),
        cmocka_unit_test(dropped_user_cannot_come_back),
        cmocka_unit_test(all_but_the_kept_descriptors_are_closed),
        cmocka_unit_test(signer_talks_on_its_socket_and_nothing_else),
        cmocka_unit_test(net_has_sockets_files_and_threads_but_no_processes),
        cmocka_unit_test(attacks_kill_in_every_profile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
