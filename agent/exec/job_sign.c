/*
 * The certificate that a job asks for: its CSR goes out under the task key, what comes back is held against
 * it. See job_parts.h.
 */
#include "agent/exec/job_parts.h"
#include "agent/exec/receipt.h"
#include "agent/exec/trust.h"
#include "base/clock.h"
#include "base/log.h"

#define SIGN_RETRY_MIN   200
#define SIGN_RETRY_MAX   60000
#define SIGN_RETRY_USUAL 2000

void job_sign_send(struct job *job)
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

void job_sign_resend(void *arg)
{
    struct job *job = arg;
    if (job->sign_id)
        job_sign_send(job);
}

void job_on_sign(struct bytes csr, void *arg)
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
