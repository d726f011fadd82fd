/*
 * What the parts of a job share; nobody else includes it. A job is one (task, attempt) from its delivery
 * until its receipt is acknowledged: WAITING → RUNNING → FINISHED → (acknowledged: gone from memory, known on
 * disk until pruned) The table of jobs is in job.c, how one comes in job_deliver.c, its child in job_run.c,
 * the certificate that a RENEW asks for in job_sign.c, its end in job_receipt.c.
 */
#ifndef CLM_AGENT_EXEC_JOB_PARTS_H
#define CLM_AGENT_EXEC_JOB_PARTS_H

#include "agent/exec/job.h"
#include "agent/exec/runner.h"

#define JOBS_MAX    64 /* known and not yet acknowledged */
#define RUNNING_MAX 4  /* at a time */

enum job_state { JOB_WAITING, JOB_RUNNING, JOB_FINISHED };

/* What exec answers for orders that are not genuine or cannot be opened is `fleeting`: a receipt without a
 * journal, so that a forged delivery cannot use up the (task, attempt) that the genuine one needs. */
struct job {
    struct job *next;
    struct exec *exec;
    char task_id[UUID_TEXT_SIZE], traceparent[TRACEPARENT_SIZE]; /* "": not known */
    char target[65]; /* of the local policy, that it changes; "": none */
    uint32_t attempt, lease;
    enum job_state state;
    struct der order; /* encoded TaskOrder; not of FINISHED */
    bool resume, cancel, fleeting;
    unsigned runs;
    int64_t started_ms;
    char phase[65], message[257];
    uint32_t permille;
    struct runner *runner;
    /* a certificate asked for */
    uint64_t sign_id; /* 0: none under way */
    struct der sign_csr, sign_request;
    struct loop_timer *sign_timer;
    /* FINISHED */
    struct der receipt, result;
    uint32_t page; /* the one under way, from 1 */
    bool sent;     /* it is with net */
};

/* job.c */
struct job *job_find(const struct exec *exec, const char *task_id, uint32_t attempt);
struct job *job_new(struct exec *exec, const char *task_id, uint32_t attempt, uint32_t lease);
void job_set_trace(struct job *job, const char *traceparent);
struct order;
/* What the table has to know of an order: its trace, and the target that it changes. */
void job_take_order(struct job *job, const struct order *order);
void job_remove(struct job *job);

/* job_receipt.c */
enum code job_journal_accepted(struct job *job, struct status *st) MUST_CHECK;
/* Signs, journals and sends its receipt. */
void job_finish(struct job *job, Clm__Receipt__Outcome outcome, bool retryable, const char *message,
                struct bytes result);
/* Sends what is finished, oldest first, a few pages at a time. */
void jobs_send_results(struct exec *exec);

/* job_sign.c */
void job_on_sign(struct bytes csr, void *job); /* of the runner */
void job_sign_send(struct job *job);
void job_sign_resend(void *job); /* of its timer */

#endif
