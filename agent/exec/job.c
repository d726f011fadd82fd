/*
 * A job is one (task, attempt) from its delivery until its receipt is acknowledged:
 *   WAITING → RUNNING → FINISHED → (acknowledged: gone from memory, known on disk until pruned)
 * What exec answers for orders that are not genuine or cannot be opened is `fleeting`: a receipt without a
 * journal, so that a forged delivery cannot use up the (task, attempt) that the genuine one needs.
 */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "agent/exec/exec.h"
#include "agent/exec/order.h"
#include "agent/exec/receipt.h"
#include "agent/exec/runner.h"
#include "agent/exec/trust.h"
#include "agent/journal.h"
#include "base/clock.h"
#include "base/log.h"

#define RUNS_MAX          3 /* of one attempt whose process died without a word */
#define TASK_TIMEOUT_MS   (2 * 60 * 60 * 1000)
#define RESULTS_IN_FLIGHT 4 /* pages with net: what its channel can hold */
#define SIGN_RETRY_MIN    200
#define SIGN_RETRY_MAX    60000
#define SIGN_RETRY_USUAL  2000

enum job_state { JOB_WAITING, JOB_RUNNING, JOB_FINISHED };

struct job {
    struct job *next;
    struct exec *exec;
    char task_id[UUID_TEXT_SIZE], traceparent[TRACEPARENT_SIZE]; /* "": not known */
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

static void job_finish(struct job *job, Clm__Receipt__Outcome outcome, bool retryable, const char *message,
                       struct bytes result);

/* ---- the table --------------------------------------------------------------------------------------------
 */

static struct job *job_find(const struct exec *exec, const char *task_id, uint32_t attempt)
{
    for (struct job *job = exec->jobs; job; job = job->next) {
        if (job->attempt == attempt && strcmp(job->task_id, task_id) == 0)
            return job;
    }
    return NULL;
}

static void job_sign_resend(void *arg);

static struct job *job_new(struct exec *exec, const char *task_id, uint32_t attempt, uint32_t lease)
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

static void job_set_trace(struct job *job, const char *traceparent)
{
    char trace_id[TRACE_ID_SIZE];
    if (traceparent_trace_id(traceparent, trace_id))
        memcpy(job->traceparent, traceparent, TRACEPARENT_SIZE);
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

static void job_remove(struct job *job)
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

/* ---- receipts ---------------------------------------------------------------------------------------------
 */

static void job_send_page(struct job *job)
{
    Clm__ResultRequest request;
    Clm__Agent__Result result = CLM__AGENT__RESULT__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    result_page(job->attempt, der_bytes(&job->result), der_bytes(&job->receipt), job->page, &request);
    result.task_id = job->task_id;
    result.request = &request;
    result.traceparent = job->traceparent;
    frame.result = &result;
    exec_send(job->exec, &frame);
    job->sent = true;
}

/* Sends what is finished, oldest first, a few pages at a time. */
static void results_pump(struct exec *exec)
{
    size_t in_flight = 0;
    for (const struct job *job = exec->jobs; job; job = job->next)
        in_flight += job->sent;
    for (struct job *job = exec->jobs; job && exec->net_ipc && in_flight < RESULTS_IN_FLIGHT;
         job = job->next) {
        /* Without a receipt: it could not be signed. */
        if (job->state != JOB_FINISHED || job->sent || job->receipt.len == 0)
            continue;
        job_send_page(job);
        in_flight++;
    }
}

static enum code journal_record(struct job *job, Clm__Agent__JournalRecord *record, struct status *st)
{
    struct journal *journal;
    record->has_type = record->has_at_ms = 1;
    record->at_ms = clock_wall_ms();
    TRY(journal_open(job->exec->state->journal_dir, job->task_id, job->attempt, &journal, st));
    enum code code = journal_append(journal, record, st);
    journal_close(journal);
    return code;
}

static enum code journal_finished(struct job *job, struct status *st)
{
    Clm__Agent__JournalRecord record = CLM__AGENT__JOURNAL_RECORD__INIT;
    record.type = CLM__AGENT__JOURNAL_RECORD__TYPE__FINISHED;
    record.has_receipt = record.has_result = 1;
    record.receipt = (ProtobufCBinaryData){job->receipt.len, job->receipt.data};
    record.result = (ProtobufCBinaryData){job->result.len, job->result.data};
    return journal_record(job, &record, st);
}

static enum code journal_accepted(struct job *job, struct status *st)
{
    Clm__Agent__JournalRecord record = CLM__AGENT__JOURNAL_RECORD__INIT;
    record.type = CLM__AGENT__JOURNAL_RECORD__TYPE__ACCEPTED;
    record.has_order = record.has_lease = 1;
    record.order = (ProtobufCBinaryData){job->order.len, job->order.data};
    record.lease = job->lease;
    return journal_record(job, &record, st);
}

static const char *outcome_name(Clm__Receipt__Outcome outcome)
{
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value(&clm__receipt__outcome__descriptor, (int)outcome);
    return value ? value->name : "?";
}

static void job_finish(struct job *job, Clm__Receipt__Outcome outcome, bool retryable, const char *message,
                       struct bytes result)
{
    LOG_TRACED(job->traceparent);
    struct status st;
    char text[1025];
    (void)snprintf(text, sizeof(text), "%s", message ? message : "");
    for (char *p = text; *p; p++) {
        if (*p < 0x20 || *p > 0x7e) /* a reason may quote foreign certificates */
            *p = '?';
    }
    Clm__Receipt receipt = CLM__RECEIPT__INIT;
    receipt.task_id = job->task_id;
    receipt.has_attempt = receipt.has_lease = receipt.has_outcome = receipt.has_retryable = 1;
    receipt.has_started_at_ms = receipt.has_finished_at_ms = 1;
    receipt.attempt = job->attempt;
    receipt.lease = job->lease;
    receipt.outcome = outcome;
    receipt.retryable = retryable;
    receipt.message = text;
    receipt.finished_at_ms = clock_wall_ms();
    receipt.started_at_ms = job->started_ms ? job->started_ms : receipt.finished_at_ms;
    job->state = JOB_FINISHED;
    job->page = 1;
    job->sign_id = 0;
    loop_timer_cancel(job->sign_timer);
    der_replace(&job->result, result);
    if (receipt_sign(job->exec->state, &receipt, result, &job->receipt, &st) != CODE_OK) {
        log_error("a receipt cannot be signed", "task", job->task_id, "reason", st.msg, NULL);
        return; /* stays listed as held; the next start of the agent resumes it */
    }
    if (!job->fleeting && journal_finished(job, &st) != CODE_OK) {
        log_error("a result cannot be journalled", "task", job->task_id, "reason", st.msg, NULL);
        exec_report(job->exec, SAFE_STATE_FULL, true);
    }
    log_info("task finished", "task", job->task_id, "attempt", LOG_NUM(job->attempt), "outcome",
             outcome_name(outcome), "message", text, NULL);
    job_send_page(job);
}

void jobs_result_answer(struct exec *exec, const Clm__Agent__ResultAnswer *answer)
{
    struct status st;
    struct job *job = answer->task_id ? job_find(exec, answer->task_id, answer->attempt) : NULL;
    if (!job || job->state != JOB_FINISHED || answer->page != job->page)
        return;
    LOG_TRACED(job->traceparent);
    if (answer->acknowledged && job->page < result_pages(job->result.len)) {
        job->page++;
        job_send_page(job);
        return; /* the page takes the place of the former one */
    }
    Clm__Agent__JournalRecord record = CLM__AGENT__JOURNAL_RECORD__INIT;
    record.type = CLM__AGENT__JOURNAL_RECORD__TYPE__ACKNOWLEDGED;
    record.message = answer->acknowledged ? NULL : answer->message;
    if (!job->fleeting && journal_record(job, &record, &st) != CODE_OK)
        log_error("an acknowledgement cannot be journalled", "task", job->task_id, "reason", st.msg, NULL);
    if (answer->acknowledged)
        log_info("receipt acknowledged", "task", job->task_id, "attempt", LOG_NUM(job->attempt), NULL);
    else
        log_error("the platform refused a receipt", "task", job->task_id, "attempt", LOG_NUM(job->attempt),
                  "reason", answer->message, NULL);
    job_remove(job);
    results_pump(exec);
    exec_changed(exec);
    exec_job_ended(exec);
}

/* ---- certificates asked for -------------------------------------------------------------------------------
 */

static void job_sign_send(struct job *job)
{
    Clm__Agent__Sign sign = CLM__AGENT__SIGN__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    sign.has_id = sign.has_request = 1;
    sign.id = job->sign_id;
    sign.request = (ProtobufCBinaryData){job->sign_request.len, job->sign_request.data};
    sign.traceparent = job->traceparent;
    frame.sign = &sign;
    exec_send(job->exec, &frame);
}

static void job_sign_resend(void *arg)
{
    struct job *job = arg;
    if (job->sign_id)
        job_sign_send(job);
}

static void on_runner_sign(struct bytes csr, void *arg)
{
    struct job *job = arg;
    struct status st;
    der_replace(&job->sign_csr, csr);
    if (request_sign(job->exec->state, CLM__SIGNED_REQUEST__PURPOSE__SIGN, job->task_id, job->attempt, csr,
                     &job->sign_request, &st) != CODE_OK) {
        runner_issued(job->runner, NULL, (struct bytes){NULL, 0}, &st);
        return;
    }
    job->sign_id = ++job->exec->next_sign_id;
    job_sign_send(job);
}

static int64_t sign_retry_ms(const Clm__SignResponse *response)
{
    int64_t ms = response->has_retry_after_ms ? response->retry_after_ms : SIGN_RETRY_USUAL;
    return ms < SIGN_RETRY_MIN ? SIGN_RETRY_MIN : ms > SIGN_RETRY_MAX ? SIGN_RETRY_MAX : ms;
}

/* What came through net and the gateway is believed only if it is for our CSR and chains to our roots. */
static enum code sign_verified(struct job *job, const Clm__SignResponse *response, struct bytes *ret_root,
                               struct status *st)
{
    size_t root;
    const struct exec *exec = job->exec;
    TRY(trust_check_issued(exec->state, der_bytes(&job->sign_csr), response, clock_wall_ms(),
                           exec->parser_uid, &root, st));
    *ret_root = der_bytes(&exec->state->roots.item[root]);
    return CODE_OK;
}

void jobs_sign_answer(struct exec *exec, const Clm__Agent__SignAnswer *answer)
{
    struct job *job = exec->jobs;
    while (job && (job->sign_id == 0 || job->sign_id != answer->id))
        job = job->next;
    if (!job || !job->runner)
        return;
    LOG_TRACED(job->traceparent);
    struct status st;
    struct bytes root = {NULL, 0};
    const Clm__SignResponse *response = answer->code == CODE_OK ? answer->response : NULL;
    if (response && response->pending) {
        loop_timer_set(job->sign_timer, sign_retry_ms(response));
        return;
    }
    if (!response)
        (void)status_set(&st,
                         answer->code == CODE_OK ? CODE_INTERNAL : code_info((enum code)answer->code)->code,
                         "%s", answer->message ? answer->message : "the platform gave no certificate");
    else if (sign_verified(job, response, &root, &st) != CODE_OK)
        response = NULL;
    if (!response)
        log_warn("no certificate for a task", "task", job->task_id, "reason", st.msg, NULL);
    job->sign_id = 0;
    runner_issued(job->runner, response, root, &st);
}

/* ---- running ----------------------------------------------------------------------------------------------
 */

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

/* Safe mode may have begun since it was accepted; what was begun before is finished or undone. */
static bool may_begin(const struct job *job, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    const struct exec *exec = job->exec;
    const struct order_context context = {.policy = exec->policy, .safe_mode = &exec->safe_mode};
    struct order order;
    return job->resume || job->runs > 0 || !job_decode(job, arena, &order) ||
           order_safe_mode(&context, &order, st) == CODE_OK;
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
                                   .on_sign = on_runner_sign,
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
        if (jobs_running(exec) >= EXEC_TASKS_MAX)
            break;
        /* Two attempts of one task never run side by side. */
        if (job->state != JOB_WAITING || task_is_running(exec, job->task_id))
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

/* ---- deliveries -------------------------------------------------------------------------------------------
 */

struct known {
    bool there; /* false: there is no file, or an empty one */
    bool acknowledged;
    uint32_t lease; /* under which it was accepted */
};

static void job_trace_from(struct job *job, struct bytes plain)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct order order;
    struct status ignored;
    if (order_decode(plain, arena, &order, &ignored) == CODE_OK)
        job_set_trace(job, order.order->traceparent);
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
    } else if (accepted && !finished) {
        job = job_new(exec, task_id, attempt, accepted->lease);
        job->resume = true;
        job->started_ms = accepted->at_ms;
        der_replace(&job->order, (struct bytes){accepted->order.data, accepted->order.len});
    }
    if (job && accepted)
        job_trace_from(job, (struct bytes){accepted->order.data, accepted->order.len});
    journal_close(journal);
    return CODE_OK;
}

static enum code recover_one(const char *task_id, uint32_t attempt, void *arg, struct status *st)
{
    struct known known;
    return job_from_journal(arg, task_id, attempt, false, &known, st);
}

enum code jobs_recover(struct exec *exec, struct status *st)
{
    TRY(journal_scan(exec->state->journal_dir, recover_one, exec, st));
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
    job_set_trace(job, order->order->traceparent);
    if (note_scope(exec, order, &st) == CODE_OK && journal_accepted(job, &st) == CODE_OK)
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
    if (exec->n_jobs >= EXEC_JOBS_MAX) {
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
    results_pump(exec);
    jobs_start_next(exec);
    exec_changed(exec);
}

void jobs_net_is_back(struct exec *exec)
{
    for (struct job *job = exec->jobs; job; job = job->next) {
        job->sent = false;
        if (job->sign_id && !loop_timer_pending(job->sign_timer))
            job_sign_send(job);
    }
    results_pump(exec);
}

void jobs_snapshot(const struct exec *exec, struct arena *arena, Clm__Agent__Snapshot *snapshot)
{
    snapshot->held = arena_array(arena, exec->n_jobs + 1, sizeof(*snapshot->held));
    for (const struct job *job = exec->jobs; job && snapshot->n_held < EXEC_JOBS_MAX; job = job->next) {
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
    snapshot->free_slots =
        exec->stopping || busy >= EXEC_TASKS_MAX || exec->n_jobs + EXEC_TASKS_MAX >= EXEC_JOBS_MAX
            ? 0
            : (uint32_t)(EXEC_TASKS_MAX - busy);
}
