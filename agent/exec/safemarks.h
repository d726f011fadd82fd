/*
 * Reasons for safe mode as files, <state>/safe-mode/<REASON>: what the host's administrator asks for, and
 * what only they may end, survives a restart there and is seen by `clm-agent status`. A file holds one line
 * for people; that it is there is what counts.
 */
#ifndef CLM_AGENT_EXEC_SAFEMARKS_H
#define CLM_AGENT_EXEC_SAFEMARKS_H

#include "base/buf.h"
#include "safemode/safemode.h"

/* <state>/safe-mode; to be freed. */
char *safe_marks_dir(const char *state_dir);
enum code safe_mark_put(const char *state_dir, enum safe_reason reason, const char *text,
                        struct status *st) MUST_CHECK;
/* OK also if it was not there. */
enum code safe_mark_remove(const char *state_dir, enum safe_reason reason, struct status *st) MUST_CHECK;
bool safe_mark_there(const char *state_dir, enum safe_reason reason);
/* Its line, without the end; NOT_FOUND. */
enum code safe_mark_read(const char *state_dir, enum safe_reason reason, struct buf *ret,
                         struct status *st) MUST_CHECK;

/* `clm-agent safe-mode` and `clm-agent leave-safe-mode`; the running agent sees it at once. state_dir NULL:
 * the policy's. Return the exit status. */
int safe_mode_enter_main(const char *config_path, const char *state_dir, const char *why);
int safe_mode_leave_main(const char *config_path, const char *state_dir);

#endif
