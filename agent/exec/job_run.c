/* A job at work: which of those that wait begin, and what becomes of the child. See job_parts.h. */
#include <string.h>

#include "agent/exec/job_parts.h"
#include "agent/exec/order.h"
#include "agent/journal.h"
#include "base/clock.h"
#include "base/log.h"

#define RUNS_MAX        3 /* of one attempt whose process died without a word */
#define TASK_TIMEOUT_MS (2 * 60 * 60 * 1000)

static void copy_text(char *out, size_t size, const char *text)
{
    (void)snprintf(out, size, "%s", text ? text : "");
}

static void on_runner_progress(const char *phase, uint32_t permille, const char *message, void *arg)
{
    struct job *job = arg;
    copy_text(job->phase, sizeof(job->phase), phase);
    copy_text(job->message, sizeof(job->message), message);
    job->permille = permille > 1000 ? 1000 : permille;
    exec_progressed(job->exec);
}

static bool job_decode(const struct job *job, struct arena *arena, struct order *ret)
{
    struct status st;
    return order_decode(der_bytes(&job->order), arena, ret, &st) == CODE_OK;
}

/* What it changes is neither done nor undone: it says so itself, or it died again and again in the middle. */
static bool rollback_failed(const struct job *job, const struct runner_result *result)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct order order;
    struct journal *journal;
    struct status st;
    if (!job_decode(job, arena, &order) || safe_action_of_kind((unsigned)order.kind->kind) != SAFE_CHANGE)
        return false;
    if (!result->died)
        return result->data_loss;
    if (journal_open(job->exec->state->journal_dir, job->task_id, job->attempt, &journal, &st) != CODE_OK)
        return true;
    bool begun = journal_find_step(journal, "swap"),
         over = journal_find_step(journal, "commit") || journal_find_step(journal, "rolled-back");
    journal_close(journal);
    return begun && !over;
}

static void report_rollback_failed(struct job *job, const struct runner_result *result)
{
    char text[400];
    (void)snprintf(text, sizeof(text), "task %s: %.300s", job->task_id,
                   result->died ? "its process died in the middle of a change" : result->message);
    exec_enter(job->exec, SAFE_ROLLBACK_FAILED, text);
}

static void on_runner_done(const struct runner_result *result, void *arg)
{
    struct job *job = arg;
    struct exec *exec = job->exec;
    LOG_TRACED(job->traceparent);
    job->state = JOB_WAITING;
    job->sign_id = 0;
    loop_timer_cancel(job->sign_timer);
    bool put_off = exec->stopping && !job->cancel &&
                   (result->died || result->outcome == CLM__RECEIPT__OUTCOME__CANCELLED);
    bool again = put_off || (result->died && job->runs < RUNS_MAX);
    if (!again && rollback_failed(job, result))
        report_rollback_failed(job, result);
    if (again) {
        job->resume = true; /* now, or when the agent starts again */
    } else if (result->died) {
        job_finish(job, CLM__RECEIPT__OUTCOME__FAILED, true,
                   "the task's process died, and again when it was resumed", (struct bytes){NULL, 0});
    } else {
        job_finish(job, result->outcome, result->retryable, result->message, result->result);
    }
    runner_free(TAKE(job->runner));
    exec_changed(exec);
    jobs_start_next(exec);
    exec_job_ended(exec);
}

static bool task_is_running(const struct exec *exec, const char *task_id)
{
    for (const struct job *job = exec->jobs; job; job = job->next) {
        if (job->state == JOB_RUNNING && strcmp(job->task_id, task_id) == 0)
            return true;
    }
    return false;
}

static bool share_a_file(const struct policy_target *a, const struct policy_target *b)
{
    const char *const of_a[] = {a->certificate, a->key, a->chain};
    const char *const of_b[] = {b->certificate, b->key, b->chain};
    for (size_t i = 0; i < ARRAY_LEN(of_a); i++) {
        for (size_t k = 0; k < ARRAY_LEN(of_b); k++) {
            if (of_a[i] && of_b[k] && strcmp(of_a[i], of_b[k]) == 0)
                return true;
        }
    }
    return false;
}

static bool change_the_same(const struct job *a, const struct job *b)
{
    const struct policy *policy = a->exec->policy;
    const struct policy_target *target_a, *target_b;
    struct status ignored;
    if (!a->target[0] || !b->target[0])
        return false;
    return strcmp(a->target, b->target) == 0 ||
           (policy_find_target(policy, a->target, &target_a, &ignored) == CODE_OK &&
            policy_find_target(policy, b->target, &target_b, &ignored) == CODE_OK &&
            share_a_file(target_a, target_b));
}

/* Of two changes of the same files at once each would find the other's and take them for somebody else's. */
static bool target_is_busy(const struct job *job)
{
    for (const struct job *other = job->exec->jobs; other; other = other->next) {
        if (other->state == JOB_RUNNING && change_the_same(job, other))
            return true;
    }
    return false;
}

/* Whether it may have had an effect already: a task that only waited, or prepared, has none. */
static bool has_begun(const struct job *job)
{
    struct journal *journal;
    struct status ignored;
    if (!job->resume && job->runs == 0)
        return false;
    if (journal_open(job->exec->state->journal_dir, job->task_id, job->attempt, &journal, &ignored) !=
        CODE_OK)
        return true;
    bool begun = journal_find_step(journal, "pre") || journal_find_step(journal, "swap");
    journal_close(journal);
    return begun;
}

/* What was begun under a policy that cannot be read any more waits until it can: without its target it would
 * be neither finished nor undone. */
static bool waits_for_policy(const struct job *job)
{
    const struct exec *exec = job->exec;
    const struct policy_target *target;
    struct status ignored;
    return job->target[0] && exec->safe_mode.active[SAFE_INVALID_POLICY] &&
           policy_find_target(exec->policy, job->target, &target, &ignored) != CODE_OK && has_begun(job);
}

/* Safe mode may have begun since it was accepted, or the local policy have changed; what was begun before is
 * finished or undone. */
static bool may_begin(const struct job *job, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    const struct exec *exec = job->exec;
    const struct order_context context = {.policy = exec->policy, .safe_mode = &exec->safe_mode};
    struct order order;
    return has_begun(job) || !job_decode(job, arena, &order) ||
           (policy_allows_operation(exec->policy, (int)order.kind->kind, st) == CODE_OK &&
            order_safe_mode(&context, &order, st) == CODE_OK);
}

static void job_start(struct job *job)
{
    LOG_TRACED(job->traceparent); /* the child's lines carry it, too */
    struct exec *exec = job->exec;
    struct status st;
    struct runner_config config = {.loop = exec->loop,
                                   .state = exec->state,
                                   .policy = exec->policy,
                                   .task_id = job->task_id,
                                   .attempt = job->attempt,
                                   .order = der_bytes(&job->order),
                                   .resume = job->resume,
                                   .timeout_ms = TASK_TIMEOUT_MS,
                                   .on_progress = on_runner_progress,
                                   .on_sign = job_on_sign,
                                   .on_done = on_runner_done,
                                   .arg = job};
    if (!may_begin(job, &st)) {
        job_finish(job, CLM__RECEIPT__OUTCOME__REFUSED, false, st.msg, (struct bytes){NULL, 0});
        return;
    }
    if (job->started_ms == 0)
        job->started_ms = clock_wall_ms();
    job->runs++;
    if (runner_start(&config, &job->runner, &st) != CODE_OK) {
        job_finish(job, CLM__RECEIPT__OUTCOME__FAILED, true, st.msg, (struct bytes){NULL, 0});
        return;
    }
    job->state = JOB_RUNNING;
    log_info(job->resume ? "task resumed" : "task started", "task", job->task_id, "attempt",
             LOG_NUM(job->attempt), NULL);
    if (job->cancel)
        runner_cancel(job->runner);
}

void jobs_start_next(struct exec *exec)
{
    bool started = false;
    for (struct job *job = exec->jobs; job && !exec->stopping; job = job->next) {
        if (jobs_running(exec) >= RUNNING_MAX)
            break;
        /* Two attempts of one task never run side by side, nor two changes of one target. */
        if (job->state != JOB_WAITING || task_is_running(exec, job->task_id) || target_is_busy(job) ||
            waits_for_policy(job))
            continue;
        job_start(job);
        started = true;
    }
    if (started)
        exec_changed(exec);
}

void jobs_cancel(struct exec *exec, const char *task_id)
{
    for (struct job *job = exec->jobs, *next; job; job = next) {
        next = job->next;
        if (strcmp(job->task_id, task_id) != 0 || job->state == JOB_FINISHED || job->cancel)
            continue;
        job->cancel = true;
        if (job->state == JOB_RUNNING)
            runner_cancel(job->runner);
        else if (!job->resume)
            job_finish(job, CLM__RECEIPT__OUTCOME__CANCELLED, false, "cancelled before it began",
                       (struct bytes){NULL, 0});
    }
    exec_changed(exec);
}

void jobs_stop(struct exec *exec, bool kill)
{
    for (struct job *job = exec->jobs; job; job = job->next) {
        if (!job->runner)
            continue;
        if (kill)
            runner_kill(job->runner);
        else
            runner_cancel(job->runner);
    }
}
