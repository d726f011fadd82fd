/*
 * A job's end: its receipt, signed with the task key, is in the journal before it is sent, and is sent until
 * it is acknowledged. See job_parts.h.
 */
#include <string.h>

#include "agent/exec/job_parts.h"
#include "agent/exec/receipt.h"
#include "agent/journal.h"
#include "base/clock.h"
#include "base/log.h"

#define RESULTS_IN_FLIGHT 4 /* pages with net: what its channel can hold */

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

void jobs_send_results(struct exec *exec)
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

enum code job_journal_accepted(struct job *job, struct status *st)
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

void job_finish(struct job *job, Clm__Receipt__Outcome outcome, bool retryable, const char *message,
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
    jobs_send_results(exec);
    exec_changed(exec);
    exec_job_ended(exec);
}
