/* Children of exec that are the same binary started anew: no byte of exec's memory is in them. */
#ifndef CLM_AGENT_EXEC_SPAWN_H
#define CLM_AGENT_EXEC_SPAWN_H

#include <sys/types.h>

#include "base/status.h"

#define SPAWN_CHANNEL_FD 3

struct spawned {
    pid_t pid;
    int fd; /* our end of its channel */
};

/* argv[0] is the hidden command ("net", "enrol"); the child finds its channel at SPAWN_CHANNEL_FD and is
 * killed when we die. */
enum code spawn_self(const char *const argv[], struct spawned *ret, struct status *st) MUST_CHECK;
/* Waits for it; kills first if asked. */
void spawn_reap(struct spawned *child, bool kill_first);

/* The user that net runs as: (uid_t)-1 when we are not root. NOT_FOUND names the missing user. */
enum code spawn_find_user(const char *name, uid_t *ret_uid, gid_t *ret_gid, struct status *st) MUST_CHECK;

#endif
