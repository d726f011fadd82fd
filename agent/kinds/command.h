/*
 * Runs a program that the local policy names: argv, no shell, a clean environment, its own process group, a
 * deadline, and a bounded copy of what it printed with control characters taken out. Blocking; call from a
 * process with one thread.
 */
#ifndef CLM_AGENT_KINDS_COMMAND_H
#define CLM_AGENT_KINDS_COMMAND_H

#include "base/buf.h"
#include "base/status.h"

#define COMMAND_OUTPUT_MAX 4096

/* OK: it ran and ended with 0. FAILED_PRECONDITION: it ended otherwise, or could not be started; the message
 * has the end of its output. DEADLINE_EXCEEDED: it was killed with its process group. ret_output (may be
 * NULL) receives stdout and stderr together, cut at the buffer's limit (COMMAND_OUTPUT_MAX if 0). */
enum code command_run(char *const *argv, int64_t timeout_ms, struct buf *ret_output,
                      struct status *st) MUST_CHECK;

#endif
