/*
 * The seccomp filters, as one table: system call × profile. What is not in a profile's column is refused with
 * EPERM; files answer ENOENT in the profiles that have none, because libraries (OpenSSL's configuration, NSS)
 * treat a missing file as normal and a forbidden one as fatal; what only an attack would call kills the
 * process.
 */
#include "sandbox/filter.h"

#include <asm/ioctls.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

#include <seccomp.h>

enum { P = 1 << SANDBOX_PARSER, S = 1 << SANDBOX_SIGNER, N = 1 << SANDBOX_NET, ALL = P | S | N };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SAN = ALL }; /* what only the sanitizers' runtime needs */
#else
enum { SAN = 0 };
#endif

struct rule {
    int syscall;
    unsigned profiles;
};

static const struct rule allowed[] = {
    /* descriptors that are there */
    {SCMP_SYS(read), ALL},
    {SCMP_SYS(write), ALL},
    {SCMP_SYS(readv), ALL},
    {SCMP_SYS(writev), ALL},
    {SCMP_SYS(close), ALL},
    {SCMP_SYS(lseek), ALL},
    {SCMP_SYS(fstat), ALL},
    {SCMP_SYS(pread64), N},
    {SCMP_SYS(pwrite64), N},
    {SCMP_SYS(preadv), N},
    {SCMP_SYS(pwritev), N},
    {SCMP_SYS(fcntl), S | N},
    {SCMP_SYS(dup), N},
    {SCMP_SYS(dup2), N},
    {SCMP_SYS(dup3), N},
    {SCMP_SYS(close_range), N},
    /* memory; mmap and mprotect have their own rules */
    {SCMP_SYS(brk), ALL},
    {SCMP_SYS(munmap), ALL},
    {SCMP_SYS(mremap), ALL},
    {SCMP_SYS(madvise), ALL},
    {SCMP_SYS(mlock), ALL},
    {SCMP_SYS(mlock2), ALL},
    {SCMP_SYS(munlock), ALL},
    {SCMP_SYS(msync), N},
    /* time, randomness, the end */
    {SCMP_SYS(clock_gettime), ALL},
    {SCMP_SYS(clock_getres), ALL},
    {SCMP_SYS(gettimeofday), ALL},
    {SCMP_SYS(time), ALL},
    {SCMP_SYS(getrandom), ALL},
    {SCMP_SYS(exit), ALL},
    {SCMP_SYS(exit_group), ALL},
    {SCMP_SYS(nanosleep), N},
    {SCMP_SYS(clock_nanosleep), N},
    /* signals and locks within the process */
    {SCMP_SYS(futex), ALL},
    {SCMP_SYS(rt_sigaction), ALL},
    {SCMP_SYS(rt_sigprocmask), ALL},
    {SCMP_SYS(rt_sigreturn), ALL},
    {SCMP_SYS(restart_syscall), ALL},
    {SCMP_SYS(sigaltstack), SAN | N},
    {SCMP_SYS(sched_yield), ALL},
    {SCMP_SYS(rt_sigpending), N},
    {SCMP_SYS(rt_sigsuspend), N},
    {SCMP_SYS(rt_sigtimedwait), N},
    {SCMP_SYS(signalfd4), N},
    /* who and what we are */
    {SCMP_SYS(getpid), ALL},
    {SCMP_SYS(gettid), ALL},
    {SCMP_SYS(getuid), ALL},
    {SCMP_SYS(geteuid), ALL},
    {SCMP_SYS(getgid), ALL},
    {SCMP_SYS(getegid), ALL},
    {SCMP_SYS(getrusage), ALL},
    {SCMP_SYS(sched_getaffinity), SAN | N},
    {SCMP_SYS(getppid), S | N},
    {SCMP_SYS(getresuid), N},
    {SCMP_SYS(getresgid), N},
    {SCMP_SYS(getgroups), N},
    {SCMP_SYS(getpriority), N},
    {SCMP_SYS(uname), N},
    {SCMP_SYS(sysinfo), N},
    {SCMP_SYS(times), N},
    /* waiting for events, and messages on sockets that are there */
    {SCMP_SYS(poll), S | N},
    {SCMP_SYS(ppoll), S | N},
    {SCMP_SYS(select), S | N},
    {SCMP_SYS(pselect6), S | N},
    {SCMP_SYS(epoll_create1), S | N},
    {SCMP_SYS(epoll_ctl), S | N},
    {SCMP_SYS(epoll_wait), S | N},
    {SCMP_SYS(epoll_pwait), S | N},
    {SCMP_SYS(epoll_pwait2), S | N},
    {SCMP_SYS(sendto), S | N},
    {SCMP_SYS(recvfrom), S | N},
    {SCMP_SYS(sendmsg), S | N},
    {SCMP_SYS(recvmsg), S | N},
    {SCMP_SYS(shutdown), S | N},
    {SCMP_SYS(eventfd2), N},
    {SCMP_SYS(timerfd_create), N},
    {SCMP_SYS(timerfd_settime), N},
    {SCMP_SYS(timerfd_gettime), N},
    {SCMP_SYS(pipe), N},
    {SCMP_SYS(pipe2), N},
    /* new sockets */
    {SCMP_SYS(socket), N},
    {SCMP_SYS(socketpair), N},
    {SCMP_SYS(connect), N},
    {SCMP_SYS(bind), N},
    {SCMP_SYS(listen), N},
    {SCMP_SYS(accept), N},
    {SCMP_SYS(accept4), N},
    {SCMP_SYS(getsockname), N},
    {SCMP_SYS(getpeername), N},
    {SCMP_SYS(setsockopt), N},
    {SCMP_SYS(getsockopt), N},
    {SCMP_SYS(sendmmsg), N},
    {SCMP_SYS(recvmmsg), N},
    /* files, as far as the user's rights go */
    {SCMP_SYS(open), N},
    {SCMP_SYS(openat), N},
    {SCMP_SYS(openat2), N},
    {SCMP_SYS(creat), N},
    {SCMP_SYS(stat), N},
    {SCMP_SYS(lstat), N},
    {SCMP_SYS(newfstatat), N},
    {SCMP_SYS(statx), N},
    {SCMP_SYS(statfs), N},
    {SCMP_SYS(fstatfs), N},
    {SCMP_SYS(access), N},
    {SCMP_SYS(faccessat), N},
    {SCMP_SYS(faccessat2), N},
    {SCMP_SYS(readlink), N},
    {SCMP_SYS(readlinkat), N},
    {SCMP_SYS(getdents64), N},
    {SCMP_SYS(getcwd), N},
    {SCMP_SYS(rename), N},
    {SCMP_SYS(renameat), N},
    {SCMP_SYS(renameat2), N},
    {SCMP_SYS(unlink), N},
    {SCMP_SYS(unlinkat), N},
    {SCMP_SYS(mkdir), N},
    {SCMP_SYS(mkdirat), N},
    {SCMP_SYS(rmdir), N},
    {SCMP_SYS(ftruncate), N},
    {SCMP_SYS(fallocate), N},
    {SCMP_SYS(fadvise64), N},
    {SCMP_SYS(fsync), N},
    {SCMP_SYS(fdatasync), N},
    {SCMP_SYS(flock), N},
    {SCMP_SYS(chmod), N},
    {SCMP_SYS(fchmod), N},
    {SCMP_SYS(fchmodat), N},
    {SCMP_SYS(umask), N},
    /* threads; clone has its own rule */
    {SCMP_SYS(set_robust_list), N},
    {SCMP_SYS(get_robust_list), N},
    {SCMP_SYS(rseq), N},
    {SCMP_SYS(set_tid_address), N},
    {SCMP_SYS(membarrier), N},
    {SCMP_SYS(prctl), SAN | N},
};

/* No files: not there rather than forbidden. */
static const struct rule absent[] = {
    {SCMP_SYS(open), P | S},       {SCMP_SYS(openat), P | S},   {SCMP_SYS(openat2), P | S},
    {SCMP_SYS(stat), P | S},       {SCMP_SYS(lstat), P | S},    {SCMP_SYS(newfstatat), P | S},
    {SCMP_SYS(statx), P | S},      {SCMP_SYS(access), P | S},   {SCMP_SYS(faccessat), P | S},
    {SCMP_SYS(faccessat2), P | S}, {SCMP_SYS(readlink), P | S}, {SCMP_SYS(readlinkat), P | S},
};

/* Nothing honest in these processes asks for this. */
static const struct rule fatal[] = {
    {SCMP_SYS(execve), ALL},
    {SCMP_SYS(execveat), ALL},
    {SCMP_SYS(ptrace), ALL},
    {SCMP_SYS(process_vm_readv), ALL},
    {SCMP_SYS(process_vm_writev), ALL},
    {SCMP_SYS(mount), ALL},
    {SCMP_SYS(umount2), ALL},
    {SCMP_SYS(pivot_root), ALL},
    {SCMP_SYS(chroot), ALL},
    {SCMP_SYS(setns), ALL},
    {SCMP_SYS(unshare), ALL},
    {SCMP_SYS(bpf), ALL},
    {SCMP_SYS(perf_event_open), ALL},
    {SCMP_SYS(userfaultfd), ALL},
    {SCMP_SYS(kexec_load), ALL},
    {SCMP_SYS(init_module), ALL},
    {SCMP_SYS(finit_module), ALL},
    {SCMP_SYS(delete_module), ALL},
    {SCMP_SYS(add_key), ALL},
    {SCMP_SYS(request_key), ALL},
    {SCMP_SYS(keyctl), ALL},
    {SCMP_SYS(io_uring_setup), ALL},
    {SCMP_SYS(setuid), ALL},
    {SCMP_SYS(setgid), ALL},
    {SCMP_SYS(setresuid), ALL},
    {SCMP_SYS(setresgid), ALL},
    {SCMP_SYS(setgroups), ALL},
    {SCMP_SYS(capset), ALL},
    {SCMP_SYS(reboot), ALL},
    {SCMP_SYS(swapon), ALL},
    {SCMP_SYS(vmsplice), ALL},
    {SCMP_SYS(personality), ALL},
};

static int add_rules(scmp_filter_ctx ctx, uint32_t action, const struct rule *rules, size_t n,
                     unsigned profile)
{
    for (size_t i = 0; i < n; i++) {
        if (!(rules[i].profiles & profile))
            continue;
        int rc = seccomp_rule_add(ctx, action, rules[i].syscall, 0);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* Memory that was written is never executed; NET may map libraries (NSS modules). */
static int add_memory_rules(scmp_filter_ctx ctx, unsigned profile)
{
    if (profile & N) {
        int rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                                  SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC | PROT_WRITE, PROT_EXEC));
        if (rc != 0)
            return rc;
    }
    int rc =
        seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (rc != 0)
        return rc;
    return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                            SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
}

/* Threads but no processes: glibc falls back from clone3, whose flags a filter cannot see, on ENOSYS. */
static int add_thread_rules(scmp_filter_ctx ctx, unsigned profile)
{
    if (!(profile & N))
        return 0;
    int rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (rc != 0)
        return rc;
    return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                            SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_VM | CLONE_THREAD, CLONE_VM | CLONE_THREAD));
}

/* abort() and friends: signals to the own process only. Limits may be read, not set. */
static int add_self_rules(scmp_filter_ctx ctx, unsigned profile)
{
    int rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                              SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1, SCMP_A2(SCMP_CMP_EQ, 0));
    if (rc == 0 && (profile & N))
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, FIONREAD));
    if (rc == 0 && (profile & N))
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, FIONBIO));
    return rc;
}

int filter_load(enum sandbox_profile which)
{
    unsigned profile = 1u << which;
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!ctx)
        return -ENOMEM;
    /* Binary search over the calls instead of a list of up to a hundred comparisons. */
    int rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (rc == 0)
        rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (rc == 0)
        rc = add_rules(ctx, SCMP_ACT_ALLOW, allowed, ARRAY_LEN(allowed), profile);
    if (rc == 0)
        rc = add_rules(ctx, SCMP_ACT_ERRNO(ENOENT), absent, ARRAY_LEN(absent), profile);
    if (rc == 0)
        rc = add_rules(ctx, SCMP_ACT_KILL_PROCESS, fatal, ARRAY_LEN(fatal), profile);
    if (rc == 0)
        rc = add_memory_rules(ctx, profile);
    if (rc == 0)
        rc = add_thread_rules(ctx, profile);
    if (rc == 0)
        rc = add_self_rules(ctx, profile);
    if (rc == 0)
        rc = seccomp_load(ctx);
    seccomp_release(ctx);
    return rc;
}
