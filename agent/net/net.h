/* The net process: unprivileged, holds the connection and the identity key; knows no task key and no target.
 */
#ifndef CLM_AGENT_NET_NET_H
#define CLM_AGENT_NET_NET_H

#include <sys/types.h>

/* Runs until exec closes the channel. dir: its own state directory; uid (uid_t)-1: stays who it is.
 * Returns the exit status. */
int net_main(int channel_fd, const char *dir, uid_t uid, gid_t gid);

#endif
