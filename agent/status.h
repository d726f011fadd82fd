/* `clm-agent status`: what the state directory says, for the host's administrator. Starts and changes
 * nothing. */
#ifndef CLM_AGENT_STATUS_H
#define CLM_AGENT_STATUS_H

#include <stdbool.h>

struct agent_state;

/* Whether a process holds the state directory. */
bool agent_is_running(const struct agent_state *state);
/* Prints to stdout. 0: enrolled; 1: not, or unreadable. */
int agent_status_main(const char *config_path, const char *state_dir);

#endif
