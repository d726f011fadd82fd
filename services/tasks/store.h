/*
 * All SQL of the service. Every function runs on the caller's session and, unless it says otherwise, inside
 * the caller's transaction. Updates are guarded by the sources of state.h's table, so a lost race changes
 * nothing and says so.
 */
#ifndef CLM_TASKS_STORE_H
#define CLM_TASKS_STORE_H

#include "base/embed.h"
#include "db/db.h"
#include "scope/selector.h"
#include "tasks.h"

extern const struct embed tasks_migrations[];

/* ---- tasks
 * ------------------------------------------------------------------------------------------------- */

/* *ret_fresh false: a task with this creator and idempotency key was there, and *ret is that one;
 * ALREADY_EXISTS when it was made by a different request. */
enum code store_task_insert(struct db *db, struct arena *arena, const char *id, enum task_kind kind,
                            const struct new_task *task, int64_t now_ms, struct task *ret, bool *ret_fresh,
                            struct status *st) MUST_CHECK;
/* The task that this creator made with this idempotency key; NOT_FOUND; ALREADY_EXISTS as above. */
enum code store_task_repeated(struct db *db, struct arena *arena, const struct new_task *task,
                              struct task *ret, struct status *st) MUST_CHECK;
/* NOT_FOUND. agent_id may be NULL; for_update locks the row. */
enum code store_task_get(struct db *db, struct arena *arena, const char *id, const char *agent_id,
                         bool for_update, struct task *ret, struct status *st) MUST_CHECK;
enum code store_task_list(struct db *db, struct arena *arena, const struct task_filter *filter,
                          struct task **ret, size_t *ret_n, struct status *st) MUST_CHECK;
/* How many of ids are no tasks, and how many are over without having SUCCEEDED: nothing will ever come after
 * those. */
enum code store_check_predecessors(struct db *db, struct arena *arena, const char *const *ids, size_t n,
                                   size_t *ret_unknown, size_t *ret_failed, struct status *st) MUST_CHECK;

struct ending {
    enum task_state state;
    const char *message;   /* NULL: none */
    struct bytes result;   /* empty: none */
    int verdict;           /* Check.Outcome: the worst of a VALIDATE's checks; 0: no report */
    int64_t started_at_ms; /* as the agent says, or -1; never before the task was made nor after now */
    int64_t now_ms;
};
/* ABORTED when the task is not in a state from which it may go there, or not at this attempt any more. */
enum code store_task_finish(struct db *db, struct arena *arena, const struct task *task,
                            const struct ending *ending, struct task *ret, struct status *st) MUST_CHECK;
/* To SCHEDULED: next_attempt is the same when the lease only returns. */
enum code store_task_reschedule(struct db *db, struct arena *arena, const struct task *task,
                                unsigned next_attempt, int64_t not_before_ms, const char *message,
                                struct task *ret, struct status *st) MUST_CHECK;
/* Out of a terminal state other than SUCCEEDED, to as much time as the task had at first. */
enum code store_task_retry(struct db *db, struct arena *arena, const struct task *task, int64_t now_ms,
                           struct task *ret, struct status *st) MUST_CHECK;
enum code store_attempts(struct db *db, struct arena *arena, const char *task_id, size_t max,
                         struct attempt **ret, size_t *ret_n, struct status *st) MUST_CHECK;
enum code store_task_request_cancel(struct db *db, struct arena *arena, const struct task *task,
                                    struct task *ret, struct status *st) MUST_CHECK;

/* ---- reports (store_report.c) ---- */

enum code store_reports_select(struct db *db, struct arena *arena, const struct report_filter *filter,
                               struct report **ret, size_t *ret_n, struct status *st) MUST_CHECK;

/* ---- leases, for up to 1,000 agents a statement
 * -------------------------------------------------------------- */

struct candidate {
    struct task task; /* spec, attempt, lease, deadline as locked */
    unsigned generation;
    struct bytes task_certificate, scope;
    bool redelivered, safe_mode;
    uint64_t epoch; /* of the platform */
};
/* What the agents list becomes RUNNING, with its progress. *ret: those that were not RUNNING before. */
enum code store_mark_held(struct db *db, struct arena *arena, const struct held_task *held, size_t n,
                          int64_t now_ms, struct task **ret, size_t *ret_n, struct status *st) MUST_CHECK;
/* Locks what the agents may have now, at most `max` rows; sessions that ask at once never get the same task.
 */
enum code store_lease_candidates(struct db *db, struct arena *arena, const struct lease_request *requests,
                                 size_t n, int64_t lost_before_ms, int64_t now_ms, unsigned max,
                                 struct candidate **ret, size_t *ret_n, struct status *st) MUST_CHECK;
/* lease + 1 with its envelope; ret_versions[i] is the task's new version. */
enum code store_lease_take(struct db *db, struct arena *arena, const struct candidate *candidates,
                           const struct bytes *envelopes, size_t n, int64_t now_ms, uint64_t *ret_versions,
                           struct status *st) MUST_CHECK;
/* What these agents should stop: asked to be cancelled and held, or held though it was cancelled. */
enum code store_list_cancels(struct db *db, struct arena *arena, const struct lease_request *requests,
                             size_t n, struct task_ref **ret, size_t *ret_n, struct status *st) MUST_CHECK;
/* Agents of the given that have a READY task. */
enum code store_agents_with_ready(struct db *db, struct arena *arena, const char *const *agent_ids, size_t n,
                                  const char ***ret, size_t *ret_n, struct status *st) MUST_CHECK;

/* ---- safe mode
 * ---------------------------------------------------------------------------------------------- */

/* Greater versions only. */
enum code store_platform_put(struct db *db, struct arena *arena, bool safe_mode, uint64_t version,
                             struct status *st) MUST_CHECK;
enum code store_epoch_put(struct db *db, struct arena *arena, uint64_t epoch, struct status *st) MUST_CHECK;
/* *ret_id NULL: this agent has no released task that is not over, but the very one that is asked for again.
 */
enum code store_break_glass_open(struct db *db, struct arena *arena, const struct new_task *task,
                                 const char **ret_id, struct status *st) MUST_CHECK;
/* Whether a report of an order that was not genuine is told: once a minute and agent. */
enum code store_order_report_due(struct db *db, struct arena *arena, const char *agent_id, int64_t now_ms,
                                 bool *ret_due, struct status *st) MUST_CHECK;
/* All that is not over, → CANCELLED. */
enum code store_cancel_of_agent(struct db *db, struct arena *arena, const char *agent_id, int64_t now_ms,
                                const char *message, struct task **ret, size_t *ret_n,
                                struct status *st) MUST_CHECK;

/* ---- results
 * ------------------------------------------------------------------------------------------------ */

enum code store_page_put(struct db *db, struct arena *arena, const struct result_submission *page,
                         int64_t now_ms, struct status *st) MUST_CHECK;
/* The pages of one attempt in order; FAILED_PRECONDITION naming the first of `pages` that is missing. */
enum code store_pages_get(struct db *db, struct arena *arena, const char *task_id, unsigned attempt,
                          unsigned pages, struct bytes *ret, struct status *st) MUST_CHECK;
enum code store_pages_delete(struct db *db, struct arena *arena, const char *task_id, unsigned attempt,
                             struct status *st) MUST_CHECK;
/* *ret_fresh false: this very receipt was stored before. */
enum code store_receipt_put(struct db *db, struct arena *arena, const struct receipt *receipt,
                            struct bytes cms, struct bytes sha256, bool late, struct bytes result,
                            int64_t now_ms, bool *ret_fresh, struct status *st) MUST_CHECK;
enum code store_receipt_exists(struct db *db, struct arena *arena, const char *task_id, unsigned attempt,
                               struct bytes sha256, bool *ret_exists, struct status *st) MUST_CHECK;

/* Leases that were given before `before_ms` return, with a number that no delivery had; at most 1,000. */
enum code store_void_leases(struct db *db, struct arena *arena, int64_t before_ms, int64_t now_ms,
                            struct task **ret, size_t *ret_n, struct status *st) MUST_CHECK;

enum code store_task_periods(struct db *db, struct arena *arena, int64_t period, int64_t from_ms,
                             struct task_period **ret, size_t *ret_n, struct status *st) MUST_CHECK;
enum code store_open_tasks(struct db *db, int64_t ret[STATE_COUNT + 1], struct status *st) MUST_CHECK;
enum code store_agent_jobs(struct db *db, struct arena *arena, const char *agent_id,
                           struct job_statistics **ret, size_t *ret_n, struct status *st) MUST_CHECK;
enum code store_tallies_fold(struct db *db, struct arena *arena, int64_t hours_from_ms, int64_t days_from_ms,
                             struct status *st) MUST_CHECK;

/* ---- sweep: each at most 1,000 rows; the changed tasks
 * ------------------------------------------------------- */

/* SCHEDULED whose time has come and whose predecessors SUCCEEDED → READY. */
enum code store_ready_due(struct db *db, struct arena *arena, int64_t now_ms, struct task **ret,
                          size_t *ret_n, struct status *st) MUST_CHECK;
/* The same, of those alone that come after this task. */
enum code store_ready_followers(struct db *db, struct arena *arena, const char *task_id, int64_t now_ms,
                                struct task **ret, size_t *ret_n, struct status *st) MUST_CHECK;
/* SCHEDULED after a task that ended otherwise → CANCELLED. */
enum code store_cancel_orphans(struct db *db, struct arena *arena, int64_t now_ms, struct task **ret,
                               size_t *ret_n, struct status *st) MUST_CHECK;
enum code store_expire_late(struct db *db, struct arena *arena, int64_t now_ms, struct task **ret,
                            size_t *ret_n, struct status *st) MUST_CHECK;
/* Not heard of since lost_before → READY, or CANCELLED if that was asked for. */
enum code store_return_lost(struct db *db, struct arena *arena, int64_t lost_before_ms, int64_t now_ms,
                            struct task **ret, size_t *ret_n, struct status *st) MUST_CHECK;
/* Pages whose receipt never came. */
enum code store_drop_old_pages(struct db *db, struct arena *arena, int64_t before_ms,
                               struct status *st) MUST_CHECK;

/* ---- projection: greater versions only
 * ---------------------------------------------------------------------- */

enum code store_agent_put(struct db *db, struct arena *arena, const char *agent_id, uint64_t version,
                          const struct agent *agent, const char *agent_version, struct status *st) MUST_CHECK;
/* NOT_FOUND */
/* Whether the agent's labels hold; false for an agent that is not there. */
enum code store_agent_covered(struct db *db, struct arena *arena, const struct label_terms *terms,
                              const char *agent_id, bool *ret, struct status *st) MUST_CHECK;
enum code store_agent_get(struct db *db, struct arena *arena, const char *agent_id, struct agent *ret,
                          struct status *st) MUST_CHECK;
enum code store_identity_put(struct db *db, struct arena *arena, const char *agent_id, unsigned generation,
                             struct bytes task_certificate, bool confirmed, uint64_t version,
                             struct status *st) MUST_CHECK;
enum code store_identity_confirm(struct db *db, struct arena *arena, const char *agent_id,
                                 unsigned generation, uint64_t version, struct status *st) MUST_CHECK;
/* Which generation of this agent has this task certificate; NOT_FOUND. Generations more than one below the
 * confirmed one are not known any more. */
enum code store_identity_find(struct db *db, struct arena *arena, const char *agent_id,
                              struct bytes task_certificate, unsigned *ret_generation,
                              struct status *st) MUST_CHECK;
/* The newest generation that is known of this agent; -1: none. */
enum code store_identity_newest(struct db *db, struct arena *arena, const char *agent_id,
                                int64_t *ret_generation, struct status *st) MUST_CHECK;

/* ---- events
 * ------------------------------------------------------------------------------------------------- */

struct packed_event {
    const char *id, *subject;
    struct bytes body;
};
enum code store_events_add(struct db *db, struct arena *arena, const struct packed_event *events, size_t n,
                           struct status *st) MUST_CHECK;

#endif
