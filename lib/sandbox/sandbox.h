/*
 * Confinement of a process: no_new_privs, user switch, resource limits, seccomp filters (libseccomp) by
 * profile. Call from a process with a single thread. A filter answers EPERM, and kills for what can only be
 * an attack.
 */
#ifndef CLM_SANDBOX_SANDBOX_H
#define CLM_SANDBOX_SANDBOX_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/status.h"

struct buf;

enum sandbox_profile {
    SANDBOX_PARSER, /* memory and the descriptors it has: no files, no network, no processes */
    SANDBOX_SIGNER, /* as PARSER, plus the poll family and messages on the sockets it has */
    SANDBOX_NET,    /* sockets and its own files; no exec, ptrace, mount, setuid … */
};

struct sandbox_limits { /* 0: leave as it is */
    unsigned long memory_bytes, cpu_sec, file_bytes;
    unsigned open_files, processes;
};

/* PERMISSION_DENIED if a hard limit would have to be raised. Memory is address space: left alone under
 * AddressSanitizer, whose shadow needs terabytes of it. */
enum code sandbox_limit(const struct sandbox_limits *limits, struct status *st) MUST_CHECK;
/* Drops to uid/gid with no supplementary groups and no capabilities; a no-op if already that user.
 * PERMISSION_DENIED if we are neither root nor that user. */
enum code sandbox_drop_user(uid_t uid, gid_t gid, struct status *st) MUST_CHECK;
enum code sandbox_enter(enum sandbox_profile profile, struct status *st) MUST_CHECK;
/* Of a freshly forked child: default signal handlers, nothing blocked. */
void sandbox_reset_signals(void);
/* Closes every descriptor but those in keep[] (sorted or not) and 0–2. */
void sandbox_close_fds(const int *keep, unsigned n);

/*
 * Runs `parse(arg, in, out_fd)` in a forked child in SANDBOX_PARSER (as `uid` when we are root; (uid_t)-1
 * keeps the user), gives it the input by memory, and appends what it writes to out_fd to *ret_out. The child
 * has no other descriptor than out_fd, which it must not close; opening a file answers ENOENT, anything else
 * EPERM. INVALID_ARGUMENT, with *ret_out as it was: parse returned non-zero, crashed, was killed by the
 * filter or a limit
 * ("the parser was killed (signal …)"), wrote more than max_out bytes, or took longer than timeout_ms.
 * The process must not wait for children it does not know (waitpid(-1)), nor ignore SIGCHLD.
 */
enum code sandbox_parse(int (*parse)(void *arg, const void *in, size_t in_len, int out_fd), void *arg,
                        const void *in, size_t in_len, size_t max_out, int64_t timeout_ms, uid_t uid,
                        struct buf *ret_out, struct status *st) MUST_CHECK;

/* The same in two steps, so that several can be at work: each start must be followed by its end, which waits
 * until the child is done. arg and in are borrowed until the start returns. */
struct sandbox_job {
    pid_t pid;
    int fd;
    int64_t end_us, timeout_ms;
    size_t max_out;
};
enum code sandbox_parse_start(int (*parse)(void *arg, const void *in, size_t in_len, int out_fd), void *arg,
                              const void *in, size_t in_len, size_t max_out, int64_t timeout_ms, uid_t uid,
                              struct sandbox_job *ret, struct status *st) MUST_CHECK;
enum code sandbox_parse_end(struct sandbox_job *job, struct buf *ret_out, struct status *st) MUST_CHECK;

#endif
