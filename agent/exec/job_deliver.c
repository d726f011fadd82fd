/*
 * How a job comes: out of a delivery that is held against the journal and then judged (order.h), or out of
 * the journal of a former run. See job_parts.h.
 */
#include <string.h>

#include "agent/exec/job_parts.h"
#include "agent/exec/order.h"
#include "agent/journal.h"
#include "base/clock.h"
#include "base/log.h"

struct known {
    bool there; /* false: there is no file, or an empty one */
    bool acknowledged;
    uint32_t lease; /* under which it was accepted */
};

static void job_take_plain(struct job *job, struct bytes plain)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct order order;
    struct status ignored;
    if (order_decode(plain, arena, &order, &ignored) == CODE_OK)
        job_take_order(job, &order);
}

/* What the journal knows of a pair: a job for what is not over, or for what must be told again. */
static enum code job_from_journal(struct exec *exec, const char *task_id, uint32_t attempt, bool tell_again,
                                  struct known *ret, struct status *st)
{
    struct journal *journal;
    const Clm__Agent__JournalRecord *accepted = NULL, *finished = NULL;
    bool acknowledged = false;
    *ret = (struct known){0};
    if (!journal_exists(exec->state->journal_dir, task_id, attempt))
        return CODE_OK;
    TRY(journal_open(exec->state->journal_dir, task_id, attempt, &journal, st));
    for (size_t i = 0; i < journal_count(journal); i++) {
        const Clm__Agent__JournalRecord *record = journal_get(journal, i);
        if (record->type == CLM__AGENT__JOURNAL_RECORD__TYPE__ACCEPTED)
            accepted = record;
        else if (record->type == CLM__AGENT__JOURNAL_RECORD__TYPE__FINISHED)
            finished = record;
        else if (record->type == CLM__AGENT__JOURNAL_RECORD__TYPE__ACKNOWLEDGED)
            acknowledged = true;
    }
    *ret = (struct known){accepted || finished, finished && acknowledged, accepted ? accepted->lease : 0};
    struct job *job = NULL;
    if (finished && (!acknowledged || tell_again)) {
        job = job_new(exec, task_id, attempt, accepted ? accepted->lease : 0);
        job->state = JOB_FINISHED;
        job->page = 1;
        der_replace(&job->receipt, (struct bytes){finished->receipt.data, finished->receipt.len});
        der_replace(&job->result, (struct bytes){finished->result.data, finished->result.len});
    } else if (accepted && !finished && !acknowledged) {
        job = job_new(exec, task_id, attempt, accepted->lease);
        job->resume = true;
        job->started_ms = accepted->at_ms;
        der_replace(&job->order, (struct bytes){accepted->order.data, accepted->order.len});
    }
    if (job && accepted)
        job_take_plain(job, (struct bytes){accepted->order.data, accepted->order.len});
    journal_close(journal);
    return CODE_OK;
}

static enum code recover_one(const char *task_id, uint32_t attempt, void *arg, struct status *st)
{
    struct known known;
    return job_from_journal(arg, task_id, attempt, false, &known, st);
}

static bool came_later(const struct job *a, const struct job *b)
{
    return a->started_ms != b->started_ms ? a->started_ms > b->started_ms
                                          : strcmp(a->task_id, b->task_id) > 0;
}

/* A directory has no order, and what was wanted last must not be overtaken by what was wanted before. */
static void sort_by_acceptance(struct exec *exec)
{
    struct job *sorted = NULL;
    while (exec->jobs) {
        struct job *job = exec->jobs, **at = &sorted;
        exec->jobs = job->next;
        while (*at && !came_later(*at, job))
            at = &(*at)->next;
        job->next = *at;
        *at = job;
    }
    exec->jobs = sorted;
}

enum code jobs_recover(struct exec *exec, struct status *st)
{
    TRY(journal_scan(exec->state->journal_dir, recover_one, exec, st));
    sort_by_acceptance(exec);
    for (const struct job *job = exec->jobs; job; job = job->next) {
        LOG_TRACED(job->traceparent);
        log_info(job->state == JOB_FINISHED ? "a receipt is still to be delivered"
                                            : "a task was cut off and is resumed",
                 "task", job->task_id, "attempt", LOG_NUM(job->attempt), NULL);
    }
    return CODE_OK;
}

static void refuse(struct exec *exec, const Clm__Delivery *delivery, enum order_verdict verdict,
                   const char *traceparent, const struct status *why)
{
    LOG_TRACED(traceparent);
    static const Clm__Receipt__Outcome outcomes[] = {
        [ORDER_REFUSED] = CLM__RECEIPT__OUTCOME__REFUSED,
        [ORDER_NOT_GENUINE] = CLM__RECEIPT__OUTCOME__NOT_GENUINE,
        [ORDER_CANNOT_OPEN] = CLM__RECEIPT__OUTCOME__CANNOT_OPEN,
    };
    struct job *job = job_new(exec, delivery->task_id, delivery->attempt, delivery->lease);
    job->fleeting = verdict != ORDER_REFUSED;
    job_set_trace(job, traceparent);
    log_warn("an order is refused", "task", job->task_id, "attempt", LOG_NUM(job->attempt), "reason",
             why->msg, NULL);
    job_finish(job, outcomes[verdict], false, why->msg, (struct bytes){NULL, 0});
}

static enum code note_scope(struct exec *exec, const struct order *order, struct status *st)
{
    const struct scope_mark seen = order_scope(order);
    return scope_mark_raise(&exec->scope_mark, exec->state, &seen, st);
}

static void accept(struct exec *exec, const Clm__Delivery *delivery, const struct order *order)
{
    struct status st;
    struct job *job = job_new(exec, delivery->task_id, delivery->attempt, delivery->lease);
    der_replace(&job->order, order->plain);
    job_take_order(job, order);
    if (note_scope(exec, order, &st) == CODE_OK && job_journal_accepted(job, &st) == CODE_OK)
        return;
    /* Nothing is begun that could not be found again, or under a scope that could be taken back. */
    exec_report(exec, SAFE_STATE_FULL, true);
    job->fleeting = true;
    job_finish(job, CLM__RECEIPT__OUTCOME__FAILED, true, st.msg, (struct bytes){NULL, 0});
}

static enum order_verdict judge(const struct exec *exec, const Clm__Delivery *delivery, struct arena *arena,
                                struct order *ret, struct status *why)
{
    struct order_context context = {.state = exec->state,
                                    .policy = exec->policy,
                                    .safe_mode = &exec->safe_mode,
                                    .scope_mark = &exec->scope_mark,
                                    .now_ms = clock_wall_ms(),
                                    .parser_uid = exec->parser_uid};
    return order_open(&context, delivery, arena, ret, why);
}

/* The platform has this attempt's receipt. It may ask again, but under a new lease: an envelope of an old one
 * was kept by somebody on the way. */
static bool is_replayed(const struct exec *exec, const Clm__Delivery *delivery, const struct known *known,
                        struct status *why)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct order order;
    enum order_verdict verdict = judge(exec, delivery, arena, &order, why);
    if (verdict == ORDER_NOT_GENUINE)
        return true;
    if (verdict == ORDER_CANNOT_OPEN || order.order->lease > known->lease)
        return false;
    (void)status_set(why, CODE_PERMISSION_DENIED,
                     "the order is not genuine: it was replayed, this attempt is over and acknowledged");
    return true;
}

static void deliver_new(struct exec *exec, const Clm__Delivery *delivery)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct order order;
    struct status why;
    struct status st;
    enum order_verdict verdict = judge(exec, delivery, arena, &order, &why);
    if (verdict == ORDER_RUN) {
        accept(exec, delivery, &order);
        return;
    }
    /* What is refused by its content is the platform's word all the same. */
    if (verdict == ORDER_REFUSED && note_scope(exec, &order, &st) != CODE_OK)
        log_error("which scope was seen cannot be noted", "reason", st.msg, NULL);
    refuse(exec, delivery, verdict, verdict == ORDER_REFUSED ? order.order->traceparent : NULL, &why);
}

void jobs_deliver(struct exec *exec, const Clm__Delivery *delivery)
{
    struct status st;
    struct known known;
    struct job *job = job_find(exec, delivery->task_id, delivery->attempt);
    if (exec->stopping)
        return;
    exec_look_at_marks(exec);
    if (job && !job->fleeting) {
        job->lease = delivery->lease;
        return; /* it runs, or its receipt is on the way */
    }
    if (job)
        job_remove(job); /* judged anew: this envelope may be the genuine one */
    if (exec->n_jobs >= JOBS_MAX) {
        log_warn("a delivery is left alone: too many tasks are here", "task", delivery->task_id, NULL);
        return;
    }
    if (job_from_journal(exec, delivery->task_id, delivery->attempt, true, &known, &st) != CODE_OK) {
        log_error("a delivery cannot be looked up in the journal", "task", delivery->task_id, "reason",
                  st.msg, NULL);
        exec_report(exec, SAFE_STATE_FULL, true);
        return;
    }
    if (!known.there) {
        deliver_new(exec, delivery);
    } else if (known.acknowledged && is_replayed(exec, delivery, &known, &st)) {
        job_remove(job_find(exec, delivery->task_id, delivery->attempt));
        refuse(exec, delivery, ORDER_NOT_GENUINE, NULL, &st);
    }
    jobs_send_results(exec);
    jobs_start_next(exec);
    exec_changed(exec);
}
