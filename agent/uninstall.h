/*
 * `clm-agent uninstall`: says farewell to the platform, signed, and wipes the state directory. What the agent
 * manages stays as it is: certificates and keys go on being served. Run by the host's administrator, while
 * the agent is stopped.
 */
#ifndef CLM_AGENT_UNINSTALL_H
#define CLM_AGENT_UNINSTALL_H

#include "base/status.h"

/* `uninstall [--config F] [--state-dir D] [--yes] [--wait SECONDS] [--force]`; argv[0] is "uninstall".
 * --force: wipe even if the platform cannot be told or a task was interrupted. Exit status: 0 done, 1 failed
 * or refused, 2 wrong arguments.
 */
int uninstall_main(int argc, char **argv);

/* Everything below dir and dir itself: files are overwritten before they are removed; links are not followed,
 * other file systems not entered. A dir that cannot be removed for itself (a mount) stays, empty. */
enum code uninstall_wipe(const char *dir, struct status *st) MUST_CHECK;

#endif
