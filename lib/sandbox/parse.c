/*
 * One hostile input, one child: parsed without privileges, files, network or time to spare. The parent only
 * copies bytes from a pipe. Call from a process with one thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/clock.h"
#include "sandbox/sandbox.h"

#define PARSER_MEMORY_BYTES (512ul * 1024 * 1024)
#define OUT_FD              3

typedef int parse_fn(void *arg, const void *in, size_t in_len, int out_fd);

struct job {
    parse_fn *parse;
    void *arg;
    const void *in;
    size_t in_len;
    uid_t uid;
    unsigned long cpu_sec;
};

/* Nothing of the parent's standard descriptors: a taken-over parser must not write the parent's log. */
static bool detach_standard_fds(void)
{
    int null = open("/dev/null", O_RDWR);
    bool done = null >= 0 && dup2(null, 0) == 0 && dup2(null, 1) == 1;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    done = done && dup2(null, 2) == 2;
#endif
    return done;
}

static enum code confine(const struct job *job, int out_fd, struct status *st)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return status_errno(st, CODE_INTERNAL, errno, "cannot prepare the parser");
    sandbox_reset_signals();
    if (!detach_standard_fds() || (out_fd != OUT_FD && dup2(out_fd, OUT_FD) < 0))
        return status_errno(st, CODE_INTERNAL, errno, "cannot prepare the parser's descriptors");
    sandbox_close_fds((const int[]){OUT_FD}, 1);
    if (job->uid != (uid_t)-1 && geteuid() == 0)
        TRY(sandbox_drop_user(job->uid, (gid_t)job->uid, st));
    /* With the user both are forgotten. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return status_errno(st, CODE_INTERNAL, errno, "cannot prepare the parser");
    struct sandbox_limits limits = {.memory_bytes = PARSER_MEMORY_BYTES,
                                    .cpu_sec = job->cpu_sec,
                                    .file_bytes = 1,
                                    .open_files = OUT_FD + 1};
    TRY(sandbox_limit(&limits, st));
    return sandbox_enter(SANDBOX_PARSER, st);
}

#define EXIT_NOT_CONFINED 125

static _Noreturn void run_child(const struct job *job, int out_fd)
{
    struct status st;
    if (confine(job, out_fd, &st) != CODE_OK) {
        (void)!write(OUT_FD, st.msg, strlen(st.msg));
        _exit(EXIT_NOT_CONFINED);
    }
    _exit(job->parse(job->arg, job->in, job->in_len, OUT_FD) == 0 ? 0 : 1);
}

/* Copies until the child closes its end. */
static enum code collect(int fd, size_t max_out, int64_t deadline_us, int64_t timeout_ms, struct buf *out,
                         struct status *st)
{
    uint8_t chunk[16 * 1024];
    for (;;) {
        int64_t left_ms = (deadline_us - clock_mono_us() + 999) / 1000;
        struct pollfd pfd = {.fd = fd, .events = POLLIN};
        int ready = left_ms > 0 ? poll(&pfd, 1, left_ms > INT32_MAX ? INT32_MAX : (int)left_ms) : 0;
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            return status_set(st, CODE_INVALID_ARGUMENT, "the parser was stopped: not done after %lld ms",
                              (long long)timeout_ms);
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return status_errno(st, CODE_INTERNAL, errno, "cannot read from the parser");
        if (n == 0)
            return CODE_OK;
        if ((size_t)n > max_out - out->len || !buf_append(out, chunk, (size_t)n))
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "the parser was stopped: more than %zu bytes of output", max_out);
    }
}

static enum code reap(pid_t child, const struct buf *out, struct status *st)
{
    int how = 0;
    pid_t got;
    do {
        got = waitpid(child, &how, 0);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return status_errno(st, CODE_INTERNAL, errno, "cannot wait for the parser");
    if (WIFSIGNALED(how))
        return status_set(st, CODE_INVALID_ARGUMENT, "the parser was killed (signal %d, %s)", WTERMSIG(how),
                          strsignal(WTERMSIG(how)));
    if (WEXITSTATUS(how) == EXIT_NOT_CONFINED)
        return status_set(st, CODE_INTERNAL, "the parser could not be confined: %.150s", buf_text(out));
    if (WEXITSTATUS(how) != 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "the parser gave the input up");
    return CODE_OK;
}

enum code sandbox_parse_start(int (*parse)(void *arg, const void *in, size_t in_len, int out_fd), void *arg,
                              const void *in, size_t in_len, size_t max_out, int64_t timeout_ms, uid_t uid,
                              struct sandbox_job *ret, struct status *st)
{
    const struct job job = {parse, arg, in, in_len, uid, (unsigned long)(timeout_ms / 1000 + 1)};
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        return status_errno(st, CODE_RESOURCE_EXHAUSTED, errno, "cannot make a pipe for the parser");
    pid_t child = fork();
    if (child == 0)
        run_child(&job, fds[1]);
    (void)close(fds[1]);
    if (child < 0) {
        (void)close(fds[0]);
        return status_errno(st, CODE_RESOURCE_EXHAUSTED, errno, "cannot start a parser");
    }
    *ret = (struct sandbox_job){child, fds[0], clock_mono_us() + timeout_ms * 1000, timeout_ms, max_out};
    return CODE_OK;
}

enum code sandbox_parse_end(struct sandbox_job *job, struct buf *ret_out, struct status *st)
{
    AUTO_CLOSE int from_child = job->fd;
    AUTO_BUF struct buf out = {0};
    buf_init(&out, job->max_out ? job->max_out : 1);
    struct status collected;
    enum code code = collect(from_child, job->max_out, job->end_us, job->timeout_ms, &out, &collected);
    /* After its end of the pipe is closed an honest child has already called _exit, which a signal cannot
     * change. */
    (void)kill(job->pid, SIGKILL);
    struct status reaped;
    enum code end = reap(job->pid, &out, &reaped);
    if (code != CODE_OK)
        return status_set(st, code, "%s", collected.msg);
    if (end != CODE_OK)
        return status_set(st, end, "%s", reaped.msg);
    if (out.len > 0 && !buf_append(ret_out, out.data, out.len))
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "the parser's %zu bytes do not fit", out.len);
    return CODE_OK;
}

enum code sandbox_parse(int (*parse)(void *arg, const void *in, size_t in_len, int out_fd), void *arg,
                        const void *in, size_t in_len, size_t max_out, int64_t timeout_ms, uid_t uid,
                        struct buf *ret_out, struct status *st)
{
    struct sandbox_job job;
    TRY(sandbox_parse_start(parse, arg, in, in_len, max_out, timeout_ms, uid, &job, st));
    return sandbox_parse_end(&job, ret_out, st);
}
