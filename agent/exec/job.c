/* The table of jobs, in the order of their delivery. See job_parts.h. */
#include <string.h>

#include "agent/exec/job_parts.h"
#include "agent/exec/order.h"

struct job *job_find(const struct exec *exec, const char *task_id, uint32_t attempt)
{
    for (struct job *job = exec->jobs; job; job = job->next) {
        if (job->attempt == attempt && strcmp(job->task_id, task_id) == 0)
            return job;
    }
    return NULL;
}

struct job *job_new(struct exec *exec, const char *task_id, uint32_t attempt, uint32_t lease)
{
    struct job *job = calloc(1, sizeof(*job));
    if (!job)
        abort();
    job->exec = exec;
    memcpy(job->task_id, task_id, UUID_TEXT_SIZE - 1);
    job->attempt = attempt;
    job->lease = lease;
    job->sign_timer = loop_timer_new(exec->loop, job_sign_resend, job);
    struct job **at = &exec->jobs;
    while (*at)
        at = &(*at)->next;
    *at = job;
    exec->n_jobs++;
    return job;
}

void job_set_trace(struct job *job, const char *traceparent)
{
    char trace_id[TRACE_ID_SIZE];
    if (traceparent_trace_id(traceparent, trace_id))
        memcpy(job->traceparent, traceparent, TRACEPARENT_SIZE);
}

void job_take_order(struct job *job, const struct order *order)
{
    const Clm__TaskSpec *spec = order->spec;
    const char *target = NULL;
    job_set_trace(job, order->order->traceparent);
    if (order->kind->kind == CLM__TASK__KIND__DEPLOY && spec->deploy)
        target = spec->deploy->target;
    else if (order->kind->kind == CLM__TASK__KIND__RENEW && spec->renew)
        target = spec->renew->target;
    (void)snprintf(job->target, sizeof(job->target), "%s", target ? target : "");
}

static void job_free(struct job *job)
{
    runner_free(job->runner);
    loop_timer_free(job->sign_timer);
    der_done(&job->order);
    der_done(&job->sign_csr);
    der_done(&job->sign_request);
    der_done(&job->receipt);
    der_done(&job->result);
    free(job);
}

void job_remove(struct job *job)
{
    struct exec *exec = job->exec;
    for (struct job **at = &exec->jobs; *at; at = &(*at)->next) {
        if (*at == job) {
            *at = job->next;
            exec->n_jobs--;
            break;
        }
    }
    job_free(job);
}

size_t jobs_running(const struct exec *exec)
{
    size_t n = 0;
    for (const struct job *job = exec->jobs; job; job = job->next)
        n += job->state == JOB_RUNNING;
    return n;
}

size_t jobs_unsent(const struct exec *exec)
{
    size_t n = 0;
    for (const struct job *job = exec->jobs; job; job = job->next)
        n += job->state == JOB_FINISHED;
    return n;
}

static size_t jobs_waiting(const struct exec *exec)
{
    size_t n = 0;
    for (const struct job *job = exec->jobs; job; job = job->next)
        n += job->state == JOB_WAITING;
    return n;
}

void jobs_free(struct exec *exec)
{
    while (exec->jobs)
        job_remove(exec->jobs);
}

void jobs_net_is_back(struct exec *exec)
{
    for (struct job *job = exec->jobs; job; job = job->next) {
        job->sent = false;
        if (job->sign_id && !loop_timer_pending(job->sign_timer))
            job_sign_send(job);
    }
    jobs_send_results(exec);
}

void jobs_snapshot(const struct exec *exec, struct arena *arena, Clm__Agent__Snapshot *snapshot)
{
    snapshot->held = arena_array(arena, exec->n_jobs + 1, sizeof(*snapshot->held));
    for (const struct job *job = exec->jobs; job && snapshot->n_held < JOBS_MAX; job = job->next) {
        Clm__HeldTask *held = arena_alloc(arena, sizeof(*held));
        clm__held_task__init(held);
        held->task_id = arena_strdup(arena, job->task_id);
        held->has_attempt = held->has_lease = held->has_progress_permille = 1;
        held->attempt = job->attempt;
        held->lease = job->lease;
        held->progress_permille = job->permille;
        held->phase = arena_strdup(arena, job->state == JOB_WAITING ? "waiting" : job->phase);
        held->message = arena_strdup(arena, job->message);
        held->has_started_at_ms = job->started_ms != 0;
        held->started_at_ms = job->started_ms;
        snapshot->held[snapshot->n_held++] = held;
    }
    size_t busy = jobs_running(exec) + jobs_waiting(exec);
    snapshot->has_free_slots = 1;
    snapshot->free_slots = exec->stopping || busy >= RUNNING_MAX || exec->n_jobs + RUNNING_MAX >= JOBS_MAX
                               ? 0
                               : (uint32_t)(RUNNING_MAX - busy);
}
