/*
 * The agent's journal: what it has accepted, is about to do, and has finished. Survives kill -9 and power
 * loss: a record is on disk (fdatasync, checksummed, torn tails cut off at open) before the function returns.
 * Exec owns the directory; the child that runs a task appends STEP records to that task's file meanwhile.
 */
#ifndef CLM_AGENT_JOURNAL_H
#define CLM_AGENT_JOURNAL_H

#include "agent/journal.pb-c.h"
#include "base/arena.h"
#include "base/status.h"

struct journal; /* one file */

/* Opens or makes <dir>/<task>-<attempt>.journal and reads what is there. */
enum code journal_open(const char *dir, const char *task_id, uint32_t attempt, struct journal **ret,
                       struct status *st) MUST_CHECK;
/* Whether there is such a file; makes none. */
bool journal_exists(const char *dir, const char *task_id, uint32_t attempt);
void journal_close(struct journal *journal);
enum code journal_append(struct journal *journal, const Clm__Agent__JournalRecord *record,
                         struct status *st) MUST_CHECK;
/* Shorthand for a STEP; strings may be NULL. */
enum code journal_step(struct journal *journal, const char *step, const char *target, const char *path,
                       const char *other_path, const char *fingerprint, struct status *st) MUST_CHECK;
size_t journal_count(const struct journal *journal);
const Clm__Agent__JournalRecord *journal_get(const struct journal *journal, size_t i); /* oldest first */
/* The last STEP of that name, or NULL. */
const Clm__Agent__JournalRecord *journal_find_step(const struct journal *journal, const char *step);
/* Calls on_file for every (task, attempt) in dir. A file that cannot be read is moved aside with a log line.
 */
enum code journal_scan(const char *dir,
                       enum code (*on_file)(const char *task_id, uint32_t attempt, void *arg,
                                            struct status *st),
                       void *arg, struct status *st) MUST_CHECK;
/* Forgets finished and acknowledged ones older than keep_ms; a pair must stay known while the platform may
 * send it again. Those with large results (over 64 KiB) go after a tenth of it, so that discovery does not
 * fill the disk. */
enum code journal_prune(const char *dir, int64_t keep_ms, struct status *st) MUST_CHECK;

#endif
