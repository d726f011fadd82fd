/* See syscalls.h. */
#include "support/syscalls.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define NO_PATH (-1)

/* Where a call says what it is about: a descriptor, or a name below one. */
static const struct row {
    uint64_t nr;
    const char *name;
    enum syscall_trace trace;
    int fd, path; /* arguments; NO_PATH: none */
} rows[] = {
    {SYS_write, "write", SYSCALL_WRITES, 0, NO_PATH},
    {SYS_writev, "writev", SYSCALL_WRITES, 0, NO_PATH},
    {SYS_pwrite64, "pwrite", SYSCALL_WRITES, 0, NO_PATH},
    {SYS_sendto, "sendto", SYSCALL_WRITES, 0, NO_PATH},
    {SYS_sendmsg, "sendmsg", SYSCALL_WRITES, 0, NO_PATH},
    {SYS_ftruncate, "ftruncate", SYSCALL_WRITES, 0, NO_PATH},
    {SYS_fchmod, "fchmod", SYSCALL_WRITES, 0, NO_PATH},
    {SYS_fchown, "fchown", SYSCALL_WRITES, 0, NO_PATH},
    {SYS_fsetxattr, "fsetxattr", SYSCALL_WRITES, 0, NO_PATH},
    {SYS_fsync, "fsync", SYSCALL_SYNCS, 0, NO_PATH},
    {SYS_fdatasync, "fdatasync", SYSCALL_SYNCS, 0, NO_PATH},
    {SYS_openat, "openat", SYSCALL_MAKES, 0, 1},
    {SYS_openat2, "openat2", SYSCALL_MAKES, 0, 1},
    {SYS_mkdirat, "mkdirat", SYSCALL_MAKES, 0, 1},
    {SYS_renameat, "renameat", SYSCALL_NAMES, 2, 3},
    {SYS_renameat2, "renameat2", SYSCALL_NAMES, 2, 3},
    {SYS_linkat, "linkat", SYSCALL_NAMES, 2, 3},
    {SYS_symlinkat, "symlinkat", SYSCALL_NAMES, 1, 2},
    {SYS_unlinkat, "unlinkat", SYSCALL_NAMES, 0, 1},
    {SYS_clone, "clone", SYSCALL_PROCESS, NO_PATH, NO_PATH},
    {SYS_clone3, "clone3", SYSCALL_PROCESS, NO_PATH, NO_PATH},
    {SYS_execve, "execve", SYSCALL_PROCESS, NO_PATH, 0},
    {SYS_kill, "kill", SYSCALL_PROCESS, NO_PATH, NO_PATH},
#ifdef SYS_open /* not everywhere: the newer calls do */
    {SYS_open, "open", SYSCALL_MAKES, NO_PATH, 0},
    {SYS_mkdir, "mkdir", SYSCALL_MAKES, NO_PATH, 0},
    {SYS_rename, "rename", SYSCALL_NAMES, NO_PATH, 1},
    {SYS_link, "link", SYSCALL_NAMES, NO_PATH, 1},
    {SYS_unlink, "unlink", SYSCALL_NAMES, NO_PATH, 0},
    {SYS_rmdir, "rmdir", SYSCALL_NAMES, NO_PATH, 0},
    {SYS_chmod, "chmod", SYSCALL_NAMES, NO_PATH, 0},
    {SYS_fork, "fork", SYSCALL_PROCESS, NO_PATH, NO_PATH},
    {SYS_vfork, "vfork", SYSCALL_PROCESS, NO_PATH, NO_PATH},
#endif
};

static const struct row *row_of(uint64_t nr)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].nr == nr)
            return &rows[i];
    }
    return NULL;
}

static bool peek(pid_t pid, uint64_t from, void *to, size_t len)
{
    struct iovec here = {to, len}, there = {(void *)(uintptr_t)from, len};
    return process_vm_readv(pid, &here, 1, &there, 1, 0) > 0;
}

/* Opening without O_CREAT leaves nothing. */
static bool may_make(pid_t pid, const struct __ptrace_syscall_info *info)
{
    struct open_how how = {0};
    if (info->entry.nr == SYS_openat2)
        return peek(pid, info->entry.args[2], &how, sizeof(how)) && (how.flags & O_CREAT);
    if (info->entry.nr == SYS_openat)
        return info->entry.args[2] & O_CREAT;
#ifdef SYS_open
    if (info->entry.nr == SYS_open)
        return info->entry.args[1] & O_CREAT;
#endif
    return true;
}

enum syscall_trace syscall_trace_of(pid_t pid, const struct __ptrace_syscall_info *info)
{
    const struct row *row = row_of(info->entry.nr);
    if (!row || (row->trace == SYSCALL_MAKES && !may_make(pid, info)))
        return SYSCALL_OTHER;
    return row->trace;
}

const char *syscall_name(uint64_t nr)
{
    const struct row *row = row_of(nr);
    return row ? row->name : "?";
}

static void descriptor_path(pid_t pid, int fd, char out[SYSCALL_PATH_SIZE])
{
    char link[64];
    if (fd == AT_FDCWD)
        (void)snprintf(link, sizeof(link), "/proc/%d/cwd", (int)pid);
    else
        (void)snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)pid, fd);
    ssize_t n = readlink(link, out, SYSCALL_PATH_SIZE - 1);
    out[n > 0 ? n : 0] = 0;
}

void syscall_path(pid_t pid, const struct __ptrace_syscall_info *entry, int64_t rval,
                  char out[SYSCALL_PATH_SIZE])
{
    const struct row *row = row_of(entry->entry.nr);
    char dir[SYSCALL_PATH_SIZE] = "", name[SYSCALL_PATH_SIZE / 2] = "";
    out[0] = 0;
    if (!row)
        return;
    bool opened = row->trace == SYSCALL_MAKES && strncmp(row->name, "open", 4) == 0 && rval >= 0;
    if (opened) {
        descriptor_path(pid, (int)rval, out);
        return;
    }
    if (row->path != NO_PATH) {
        (void)peek(pid, entry->entry.args[row->path], name, sizeof(name) - 1);
        name[sizeof(name) - 1] = 0;
    }
    if (row->fd != NO_PATH && name[0] != '/')
        descriptor_path(pid, (int)entry->entry.args[row->fd], dir);
    (void)snprintf(out, SYSCALL_PATH_SIZE, "%.*s%s%s", (int)(SYSCALL_PATH_SIZE / 2 - 2), dir,
                   dir[0] && name[0] ? "/" : "", name);
}
