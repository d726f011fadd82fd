/* System calls of a traced process that leave a trace: of files, of descriptors, of processes. x86-64 and
 * others. */
#ifndef CLM_TESTS_SUPPORT_SYSCALLS_H
#define CLM_TESTS_SUPPORT_SYSCALLS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
/* after sys/types.h */
#include <sys/ptrace.h>

enum syscall_trace {
    SYSCALL_OTHER,   /* leaves none */
    SYSCALL_WRITES,  /* to a descriptor */
    SYSCALL_NAMES,   /* changes a name, or what stands at one */
    SYSCALL_MAKES,   /* perhaps a file or a directory that was not there */
    SYSCALL_SYNCS,   /* to the disk */
    SYSCALL_PROCESS, /* starts or ends a process */
};
#define SYSCALL_PATH_SIZE 256

/* info: at the entry of the call. */
enum syscall_trace syscall_trace_of(pid_t pid, const struct __ptrace_syscall_info *info);
/* What the call is about, as the kernel names it; "" when that is nothing. rval: of its exit; -1 before. */
void syscall_path(pid_t pid, const struct __ptrace_syscall_info *entry, int64_t rval,
                  char out[SYSCALL_PATH_SIZE]);
const char *syscall_name(uint64_t nr);

#endif
