/*
 * The TCP sockets on which this host listens, and the processes that own them, from /proc. What belongs to
 * other users can only be told apart by root. Reads only; runs in a task's child.
 */
#ifndef CLM_AGENT_KINDS_SOCKETS_H
#define CLM_AGENT_KINDS_SOCKETS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/arena.h"

#define SOCKETS_MAX 1024

struct listener {
    const char *host, *port; /* as one connects to it from here: 0.0.0.0 is 127.0.0.1 */
    const char *process;     /* its name; NULL: not known */
    pid_t pid;
    unsigned long inode;
};

/* proc is "/proc", or what a test puts in its place. At most SOCKETS_MAX; memory from the arena. */
size_t sockets_listening(const char *proc, struct arena *arena, struct listener **ret);

#endif
