/* Running what the local policy names: see command.h. The child is the only process that sees argv. */
#include "kinds/command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "kinds/redact.h"
#include "sandbox/sandbox.h"

#define ENVIRONMENT_MAX 64

static const char *const clean_environment[] = {
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "LC_ALL=C.UTF-8"};

static bool same_name(const char *a, const char *b)
{
    size_t len = strcspn(a, "=");
    return strncmp(a, b, len) == 0 && b[len] == '=';
}

/* What is listed comes before what is usual. */
static void fill_environment(const char *const *listed, const char *ret[ENVIRONMENT_MAX + 1])
{
    size_t n = 0, own;
    for (; listed && *listed && n < ENVIRONMENT_MAX - ARRAY_LEN(clean_environment); listed++)
        ret[n++] = *listed;
    own = n;
    for (size_t i = 0; i < ARRAY_LEN(clean_environment); i++) {
        bool known = false;
        for (size_t k = 0; k < own; k++)
            known = known || same_name(clean_environment[i], ret[k]);
        if (!known)
            ret[n++] = clean_environment[i];
    }
    ret[n] = NULL;
}

static void __attribute__((noreturn)) child(const struct command *command, int out)
{
    char *const *argv = command->argv;
    const char *environment[ENVIRONMENT_MAX + 1];
    fill_environment(command->environment, environment);
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || setsid() < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
        _exit(126);
    sandbox_close_fds(NULL, 0);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    /* The task's own limits are soft ones: what a reload starts must not live under them. */
    static const __rlimit_resource_t limited[] = {RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_AS};
    for (size_t i = 0; i < ARRAY_LEN(limited); i++) {
        struct rlimit limit;
        if (getrlimit(limited[i], &limit) == 0) {
            limit.rlim_cur = limit.rlim_max;
            (void)setrlimit(limited[i], &limit);
        }
    }
    if (chdir("/") == 0)
        execve(argv[0], argv, (char *const *)(uintptr_t)environment);
    dprintf(1, "cannot run %s: %s", argv[0], strerror(errno));
    _exit(127);
}

/* Reads what is there; false at the end of the stream. Of what passes the limit the end is kept: it says
 * most. */
static bool drain(int fd, struct buf *out)
{
    char chunk[4096];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        if (n == 0)
            return false;
        size_t len = (size_t)n < out->limit ? (size_t)n : out->limit, room = out->limit - out->len;
        if (len > room)
            buf_consume(out, len - room);
        if (!buf_append(out, chunk + ((size_t)n - len), len))
            return true;
    }
}

static void take_control_characters_out(struct buf *out)
{
    for (size_t i = 0; i < out->len; i++) {
        uint8_t c = out->data[i];
        if ((c < 0x20 && c != '\n' && c != '\t') || c >= 0x7f)
            out->data[i] = '?';
    }
    while (out->len > 0 && out->data[out->len - 1] <= ' ')
        out->data[--out->len] = 0;
}

/* Of a Java exception the frames say least and are most. */
static void take_stack_frames_out(struct buf *out)
{
    char *to = (char *)out->data;
    for (const char *line = buf_text(out); *line;) {
        size_t len = strcspn(line, "\n"), blank = strspn(line, " \t");
        bool frame = line[0] == '\t' &&
                     (strncmp(line + blank, "at ", 3) == 0 || strncmp(line + blank, "... ", 4) == 0);
        len += line[len] == '\n';
        if (!frame) {
            memmove(to, line, len);
            to += len;
        }
        line += len;
    }
    if (out->data) {
        *to = 0;
        out->len = (size_t)(to - (char *)out->data);
    }
}

static void clean(struct buf *out)
{
    take_control_characters_out(out);
    take_stack_frames_out(out);
    redact(out);
}

/* Waits for the end of the process and not of the pipe: a daemon that it left behind may hold the pipe for
 * ever. */
static bool wait_end(int pidfd, int pipe_fd, int64_t timeout_ms, struct buf *out)
{
    int64_t end_ms = clock_mono_ms() + timeout_ms;
    bool open_pipe = true;
    for (;;) {
        int64_t left = end_ms - clock_mono_ms();
        if (left <= 0)
            return false;
        struct pollfd fds[] = {{pidfd, POLLIN, 0}, {open_pipe ? pipe_fd : -1, POLLIN, 0}};
        int n = poll(fds, 2, left > 60000 ? 60000 : (int)left);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0 && fds[1].revents)
            open_pipe = drain(pipe_fd, out);
        if (n > 0 && fds[0].revents)
            return true;
    }
}

/* The last line says most of what a failing tool has to say. */
static const char *end_of(const struct buf *out)
{
    const char *text = buf_text(out);
    size_t len = strlen(text);
    return len > 150 ? text + len - 150 : text;
}

enum code command_run(const struct command *command, struct buf *ret_output, struct status *st)
{
    char *const *argv = command->argv;
    int64_t timeout_ms = command->timeout_ms;
    AUTO_BUF struct buf own = {0};
    struct buf *out = ret_output ? ret_output : &own;
    if (out->limit == 0)
        out->limit = COMMAND_OUTPUT_MAX;
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        return status_errno(st, CODE_RESOURCE_EXHAUSTED, errno, "cannot make a pipe for %s", argv[0]);
    AUTO_CLOSE int read_end = fds[0];
    pid_t pid = fork();
    if (pid == 0)
        child(command, fds[1]);
    (void)close(fds[1]);
    if (pid < 0)
        return status_errno(st, CODE_RESOURCE_EXHAUSTED, errno, "cannot fork for %s", argv[0]);
    AUTO_CLOSE int pidfd = pidfd_open(pid, 0);
    (void)fcntl(read_end, F_SETFL, O_NONBLOCK);
    bool ended = pidfd >= 0 && wait_end(pidfd, read_end, timeout_ms, out);
    if (!ended) {
        (void)kill(-pid, SIGKILL);
        (void)kill(pid, SIGKILL);
    }
    int wstatus = 0;
    while (waitpid(pid, &wstatus, 0) < 0 && errno == EINTR)
        ;
    (void)drain(read_end, out);
    clean(out);
    if (!ended)
        return status_set(st, CODE_DEADLINE_EXCEEDED, "%s did not end within %lld ms and was killed%s%s",
                          argv[0], (long long)timeout_ms, out->len ? ": " : "", end_of(out));
    if (WIFSIGNALED(wstatus))
        return status_set(st, CODE_FAILED_PRECONDITION, "%s was killed by signal %d: %s", argv[0],
                          WTERMSIG(wstatus), end_of(out));
    if (WEXITSTATUS(wstatus) != 0)
        return status_set(st, CODE_FAILED_PRECONDITION, "%s ended with status %d: %s", argv[0],
                          WEXITSTATUS(wstatus), end_of(out));
    return CODE_OK;
}
