/*
 * cutter AT REPORT PREFIX... -- PROGRAM ARGS...
 *
 * Runs a program and kills it, with the children that it forked, at the AT-th instant that counts: right
 * before or right after a system call that leaves a trace at a path with one of the prefixes, or starts
 * another program, once something was written to a path of the first prefix. AT 0: never. What was seen goes
 * to the file REPORT, a line an instant, at the end. A child that becomes another program is let go.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/syscalls.h"

#define PROCESSES_MAX 256
#define EVENTS_MAX    8192

struct traced {
    pid_t pid; /* 0: free */
    struct __ptrace_syscall_info call;
    enum syscall_trace trace;
    char path[SYSCALL_PATH_SIZE]; /* "": this call does not count */
};

static struct traced processes[PROCESSES_MAX];
static char **prefixes; /* NULL-ended */
static unsigned long at, seen;
static FILE *report;
static bool counting;
static pid_t first;

static void die(const char *what)
{
    (void)fprintf(stderr, "cutter: %s: %s\n", what, strerror(errno));
    exit(2);
}

static struct traced *traced_of(pid_t pid)
{
    struct traced *free_one = NULL;
    for (size_t i = 0; i < PROCESSES_MAX; i++) {
        if (processes[i].pid == pid)
            return &processes[i];
        if (processes[i].pid == 0 && !free_one)
            free_one = &processes[i];
    }
    if (!free_one)
        die("too many processes");
    *free_one = (struct traced){.pid = pid};
    return free_one;
}

static void on_term(int number)
{
    if (first > 0)
        (void)kill(first, number);
}

static bool below(const char *path, const char *prefix)
{
    return strncmp(path, prefix, strlen(prefix)) == 0;
}

static void cut(void)
{
    int status;
    pid_t pid;
    for (size_t i = 0; i < PROCESSES_MAX; i++) {
        if (processes[i].pid > 0)
            (void)kill(processes[i].pid, SIGKILL);
    }
    while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
        if (pid > 0 && WIFSTOPPED(status)) /* one that was just forked */
            (void)kill(pid, SIGKILL);
    }
    (void)fclose(report);
    exit(42);
}

static void instant(const struct traced *process, const char *when)
{
    (void)fprintf(report, "%lu %s %s %s\n", ++seen, when, syscall_name(process->call.entry.nr),
                  process->path);
    if (seen == at)
        cut();
}

static bool counts(struct traced *process)
{
    for (char **prefix = prefixes; *prefix; prefix++) {
        if (below(process->path, *prefix)) {
            counting = counting || (prefix == prefixes && process->trace == SYSCALL_WRITES);
            return counting;
        }
    }
    /* What exec tells net: reports among it. */
    bool told = process->pid == first && process->trace == SYSCALL_WRITES && below(process->path, "socket:");
    return counting && (told || (process->trace == SYSCALL_PROCESS && process->path[0]));
}

static void on_call(struct traced *process)
{
    struct __ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, process->pid, (void *)sizeof(info), &info) <= 0)
        return;
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
        process->call = info;
        process->trace = syscall_trace_of(process->pid, &info);
        process->path[0] = 0;
        if (process->trace != SYSCALL_OTHER)
            syscall_path(process->pid, &info, -1, process->path);
        if (process->path[0] && !counts(process))
            process->path[0] = 0;
        if (process->path[0])
            instant(process, "before");
    } else if (info.op == PTRACE_SYSCALL_INFO_EXIT && process->path[0]) {
        instant(process, "after");
        process->path[0] = 0;
    }
}

/* One stop of one process; the signal that it is to get. */
static int on_stop(struct traced *process, int status)
{
    int number = WSTOPSIG(status), event = status >> 16;
    if (number == (SIGTRAP | 0x80)) {
        on_call(process);
        return 0;
    }
    if (event == PTRACE_EVENT_EXEC && process->pid != first) {
        pid_t pid = process->pid;
        process->pid = 0;
        (void)ptrace(PTRACE_DETACH, pid, NULL, NULL);
        return -1;
    }
    return event || number == SIGSTOP || number == SIGTRAP ? 0 : number;
}

static void follow(void)
{
    for (int status;;) {
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid < 0)
            return;
        struct traced *process = traced_of(pid);
        if (!WIFSTOPPED(status)) {
            process->pid = 0;
            if (pid == first)
                return;
            continue;
        }
        int number = on_stop(process, status);
        if (number >= 0)
            (void)ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(intptr_t)number);
    }
}

int main(int argc, char **argv)
{
    int status, program = 3;
    while (program < argc && strcmp(argv[program], "--") != 0)
        program++;
    if (program + 1 >= argc) {
        (void)fprintf(stderr, "usage: cutter AT REPORT PREFIX... -- PROGRAM ARGS...\n");
        return 2;
    }
    at = strtoul(argv[1], NULL, 10);
    report = fopen(argv[2], "we");
    if (!report)
        die(argv[2]);
    prefixes = &argv[3];
    argv[program] = NULL;
    first = fork();
    if (first == 0) {
        (void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        (void)raise(SIGSTOP);
        (void)execv(argv[program + 1], &argv[program + 1]);
        _exit(127);
    }
    (void)signal(SIGTERM, on_term);
    if (waitpid(first, &status, 0) != first || !WIFSTOPPED(status))
        die("the program does not stop");
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
                   PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    if (ptrace(PTRACE_SETOPTIONS, first, NULL, (void *)options) != 0)
        die("ptrace");
    (void)traced_of(first);
    (void)ptrace(PTRACE_SYSCALL, first, NULL, NULL);
    follow();
    (void)fclose(report);
    return 0;
}
