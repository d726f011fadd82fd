/*
 * Runs a program that the local policy names: argv, no shell, a clean environment, its own process group, a
 * deadline, and a bounded copy of what it printed, without control characters, stack traces, keys and
 * passwords. Blocking; call from a process with one thread.
 */
#ifndef CLM_AGENT_KINDS_COMMAND_H
#define CLM_AGENT_KINDS_COMMAND_H

#include "base/buf.h"
#include "base/status.h"

#define COMMAND_OUTPUT_MAX 4096

struct command {                    /* borrowed */
    char *const *argv;              /* an absolute program and its arguments */
    const char *const *environment; /* NAME=value beside the clean ones; NULL-ended; NULL for none */
    int64_t timeout_ms;
};

/* OK: it ran and ended with 0. FAILED_PRECONDITION: it ended otherwise, or could not be started; the message
 * has the end of its output. DEADLINE_EXCEEDED: it was killed with its process group. ret_output (may be
 * NULL) receives the end of stdout and stderr together, redacted (redact.h), within the buffer's limit
 * (COMMAND_OUTPUT_MAX if 0). */
enum code command_run(const struct command *command, struct buf *ret_output, struct status *st) MUST_CHECK;

#endif
