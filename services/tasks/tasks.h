/*
 * The service's own nouns. Border files (rpc.c, convert.c) turn protobuf into these; use cases know nothing
 * else. Text and bytes are borrowed from the request's arena unless said otherwise.
 */
#ifndef CLM_TASKS_TASKS_H
#define CLM_TASKS_TASKS_H

#include "base/arena.h"
#include "base/id.h"
#include "base/status.h"
#include "pki/der.h"
#include "safemode/safemode.h"
#include "scope/scope.h"
#include "state.h"

struct db;
struct envelope_signer;

/* A row of tasks. Times are Unix ms, -1 when there is none. */
struct task {
    char id[UUID_TEXT_SIZE], agent_id[UUID_TEXT_SIZE];
    enum task_kind kind;
    enum task_state state;
    struct bytes spec; /* encoded TaskSpec: exact bytes */
    unsigned attempt, lease, max_attempts, priority;
    uint64_t version;
    const char *created_by, *traceparent, *phase, *message; /* NULL when absent */
    int64_t created_at_ms, leased_at_ms, started_at_ms, finished_at_ms, deadline_at_ms;
    int64_t progress_permille; /* -1 when absent */
    bool cancel_requested, break_glass;
    struct bytes result; /* encoded TaskResult; only store_task_get fills it */
};

/* What a specification names that a scope speaks about. */
struct spec_facts {
    enum task_kind kind;
    char *const *paths; /* files */
    size_t n_paths;
    char *const *roots; /* directories to search */
    size_t n_roots;
    char *const *dns_names;
    size_t n_dns_names;
    uint32_t life_sec;  /* 0: the issuer's */
    const char *target; /* what it is about, for people: a target, a file, an endpoint; NULL */
};

struct new_task {
    const char *agent_id;
    const char *selector; /* labels that the operator's grant is limited to; NULL or "": the whole fleet */
    struct bytes spec;
    const char *idempotency_key; /* NULL: none */
    struct bytes request;        /* the whole request as it came, to tell a repetition from another request */
    unsigned priority, max_attempts;
    int64_t deadline_sec, not_before_at_ms; /* -1: at once */
    const char *const *after;
    size_t n_after;
    bool break_glass; /* the caller is an admin */
    const char *created_by, *traceparent;
};

struct task_filter {
    const char *selector; /* as of new_task */
    const char *agent_id; /* NULL: any */
    const int64_t *states, *kinds;
    size_t n_states, n_kinds; /* 0: any */
    const char *before_id;    /* NULL: from the newest */
    unsigned limit;
};

/* What a VALIDATE found. */
struct report {
    struct task task;
    int verdict; /* Check.Outcome */
    struct bytes result;
};
struct report_filter {
    const char *selector, *agent_id, *before_id; /* as of task_filter */
    const int64_t *verdicts;
    size_t n_verdicts; /* 0: any */
    unsigned limit;
};

struct held_task {
    const char *agent_id, *task_id, *phase, *message;
    unsigned attempt;
    int64_t progress_permille, started_at_ms; /* -1 when absent */
};

struct lease_request { /* one agent's check-in */
    const char *agent_id;
    unsigned generation, free_slots;
    bool first_of_connection, safe_mode;
    const struct held_task *held;
    size_t n_held;
};

struct delivery {
    const char *agent_id, *task_id;
    unsigned attempt, lease;
    struct bytes envelope;
};

struct lease_answer {
    struct delivery *deliveries;
    size_t n_deliveries;
    struct task_ref *cancels;
    size_t n_cancels;
};

struct task_ref {
    const char *agent_id, *task_id;
};

/* One execution that ended with a receipt. */
struct attempt {
    unsigned attempt;
    int outcome; /* of enum outcome */
    int64_t ended_at_ms;
    struct bytes result; /* encoded TaskResult; empty: none */
};

/* What is put into an envelope. */
struct order {
    const struct task *task;
    unsigned generation, lease;
    bool safe_mode;     /* its agent is in safe mode */
    struct bytes scope; /* encoded Scope */
    uint64_t epoch;     /* of the platform: see proto/envelope.proto */
    int64_t not_before_ms, not_after_ms;
};

enum outcome { /* the numbers of Receipt.Outcome */
               OUTCOME_SUCCEEDED = 1,
               OUTCOME_INSTALLED_UNVERIFIED,
               OUTCOME_FAILED,
               OUTCOME_CANCELLED,
               OUTCOME_REFUSED,
               OUTCOME_CANNOT_OPEN,
               OUTCOME_NOT_GENUINE,
};

struct receipt {
    const char *agent_id, *task_id, *message; /* message may be NULL */
    unsigned attempt, generation, pages;
    enum outcome outcome;
    bool retryable;
    int64_t started_at_ms; /* by the agent's clock; -1 when absent */
    struct bytes result_sha256;
};

struct result_submission {
    const char *agent_id, *task_id;
    unsigned attempt, page;
    bool has_data;
    struct bytes data, receipt; /* receipt empty: more pages follow */
};

/* What projection.c keeps of an agent; text and scope point into the arena. */
struct agent {
    uint64_t version; /* store_agent_put has its own */
    unsigned status;  /* Agent.Status */
    enum safe_column safe_column;
    const char *reason; /* of the status; "" */
    bool deleted;
    unsigned min_generation;
    struct bytes scope;
    const char **label_names, **label_values; /* store_agent_get leaves them out */
    size_t n_labels;
};

/* The running service, shared by all workers. */
struct tasks {
    struct envelope_signer *signer;
    const struct der_list *roots; /* of agents' certificates */
    int64_t lease_expiry_ms;      /* leased, not listed: delivered again */
    int64_t lease_return_ms;      /* not heard of: back to READY */
    bool projection_complete;     /* atomic */
    /* After commit: these agents have something to fetch. */
    void (*wake)(struct tasks *tasks, const char *const *agent_ids, size_t n);
    /* Asks the registry for one agent, for what the projection may lack; NULL in tests. */
    enum code (*fetch_agent)(struct tasks *tasks, struct db *db, struct arena *arena, const char *agent_id,
                             struct status *st);
    void *service; /* struct service, for the two above */
};

/* One transition, for its event. subject is the last part: clm.event.tasks.task.<subject>. */
struct change {
    const char *subject, *task_id, *agent_id, *message, *traceparent, *actor;
    enum task_kind kind;
    enum task_state state;
    unsigned attempt;
    uint64_t version;
    struct bytes receipt_sha256;
    const char *signer_sha256; /* of a receipt: fingerprint of the certificate that it was verified with */
    bool refused;              /* FAILED because the host refused it */
    bool break_glass;
    bool served_not_intended; /* the endpoint serves another certificate than it should */
    const char *target;       /* what the task is about; NULL */
};
struct change task_change(const struct task *task, const char *subject, const char *actor);

/* ---- use cases, one file each. Each runs its own transaction on db.
 * ---------------------------------------- */

enum code task_create(struct tasks *tasks, struct db *db, struct arena *arena, const struct new_task *request,
                      struct task *ret, struct status *st) MUST_CHECK;
enum code task_get(struct db *db, struct arena *arena, const char *task_id, struct task *ret,
                   struct status *st) MUST_CHECK;
/* Whether a grant with this selector covers the agent. */
enum code grant_check(struct db *db, struct arena *arena, const char *selector, const char *agent_id,
                      bool *ret_covered, struct status *st) MUST_CHECK;
/* NOT_FOUND unless the selector covers the task's agent. */
enum code task_seen(struct db *db, struct arena *arena, const char *selector, const char *task_id,
                    struct status *st) MUST_CHECK;
/* The attempts that ended, in order. */
enum code task_attempts(struct db *db, struct arena *arena, const char *task_id, struct attempt **ret,
                        size_t *ret_n, struct status *st) MUST_CHECK;
/* At most filter->limit tasks, newest first; *ret_more when there are older ones. */
enum code task_list(struct db *db, struct arena *arena, const struct task_filter *filter, struct task **ret,
                    size_t *ret_n, bool *ret_more, struct status *st) MUST_CHECK;
/* Reports, newest first. */
enum code reports_list(struct db *db, struct arena *arena, const struct report_filter *filter,
                       struct report **ret, size_t *ret_n, bool *ret_more, struct status *st) MUST_CHECK;
enum code task_cancel(struct tasks *tasks, struct db *db, struct arena *arena, const char *task_id,
                      const char *actor, struct task *ret, struct status *st) MUST_CHECK;
/* Of an agent that is no more; inside the caller's transaction. */
enum code tasks_cancel_of_agent(struct db *tx, struct arena *arena, const char *agent_id, const char *why,
                                struct status *st) MUST_CHECK;
/* What ended other than well becomes the next attempt, due at once. FAILED_PRECONDITION for anything else. */
enum code task_retry(struct tasks *tasks, struct db *db, struct arena *arena, const char *task_id,
                     const char *actor, struct task *ret, struct status *st) MUST_CHECK;
/* ---- what became of tasks (statistics.c): kept by triggers as they end */

struct task_period {
    int64_t at_ms, n[STATE_COUNT + 1]; /* by terminal state */
};
#define STATISTICS_HOURS 24
#define STATISTICS_DAYS  30
/* Periods without an end are left out; oldest first; at most STATISTICS_HOURS + 1 and STATISTICS_DAYS + 1. */
enum code tasks_statistics(struct db *db, struct arena *arena, int64_t now_ms, struct task_period **ret_hours,
                           size_t *ret_n_hours, struct task_period **ret_days, size_t *ret_n_days,
                           struct status *st) MUST_CHECK;
struct task_counts {
    int64_t n[STATE_COUNT + 1]; /* by state: now; of terminal states, those of the last STATISTICS_HOURS */
};
enum code tasks_by_state(struct db *db, struct arena *arena, int64_t now_ms, struct task_counts *ret,
                         struct status *st) MUST_CHECK;
struct job_statistics {
    enum task_kind kind;
    int64_t succeeded, unverified, failed, cancelled, expired, timed, total_ms, longest_ms;
    const char *last_task_id, *last_message;
    enum task_state last_state;
    int64_t last_finished_at_ms, last_ms; /* last_ms -1: it never began */
};
enum code tasks_agent_jobs(struct db *db, struct arena *arena, const char *agent_id,
                           struct job_statistics **ret, size_t *ret_n, struct status *st) MUST_CHECK;
/* One row for each period and state again; forgets what is old. Once a minute. */
enum code tasks_statistics_fold(struct db *db, struct arena *arena, int64_t now_ms,
                                struct status *st) MUST_CHECK;

/* The database is a backup's: leases that were given before are void. *ret_voided counts them. */
enum code tasks_begin_epoch(struct tasks *tasks, struct db *db, struct arena *arena, uint64_t epoch,
                            int64_t restored_at_ms, uint32_t *ret_voided, struct status *st) MUST_CHECK;
enum code task_lease(struct tasks *tasks, struct db *db, struct arena *arena,
                     const struct lease_request *requests, size_t n, struct lease_answer *ret,
                     struct status *st) MUST_CHECK;
/* *ret_finished: a receipt was taken, now or before. */
enum code task_submit_result(struct tasks *tasks, struct db *db, struct arena *arena,
                             const struct result_submission *submission, bool *ret_finished,
                             struct status *st) MUST_CHECK;
enum code task_authorize_certificate(struct db *db, struct arena *arena, const char *agent_id,
                                     const char *task_id, unsigned attempt, char *const *dns_names,
                                     size_t n_dns_names, uint32_t *ret_life_sec,
                                     struct status *st) MUST_CHECK;
/* Periodic work of one replica: due tasks become READY, late ones EXPIRED, lost leases return. */
enum code task_sweep(struct tasks *tasks, struct db *db, struct arena *arena, struct status *st) MUST_CHECK;

/* PERMISSION_DENIED naming what the scope lacks (scope_check.c). */
enum code scope_check_spec(const struct scope *scope, const struct spec_facts *spec,
                           struct status *st) MUST_CHECK;

#endif
