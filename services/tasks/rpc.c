/* The method table, and nothing but conversion: protobuf → the service's structs → a use case → protobuf.
 * Worker threads. */
#include <string.h>

#include "app.h"
#include "base/clock.h"
#include "proto/tasks.pb-c.h"
#include "state.h"
#include "wire/wire.h"

#define PAGE_DEFAULT 50u
#define PAGE_MAX     500u
#define REPLY_MAX_BYTES                                                                                      \
    (400u * 1024)             /* of what varies in size; the rest of a bus message is for the rest           \
                               */
#define TASK_SIZE_GUESS 1024u /* a TaskView without specification and result */
/* The two and the longest specification are a reply. */
#define RESULT_MAX_BYTES (REPLY_MAX_BYTES - 128u * 1024)
#define STEPS_MAX_BYTES  (96u * 1024) /* of all former attempts */
#define DEFAULT_PRIORITY 5u
#define DEFAULT_DEADLINE 86400
#define DEFAULT_ATTEMPTS 3u

static struct worker *worker_of(const struct rpc_ctx *ctx)
{
    return ctx->worker;
}

/* ---- task → TaskView
 * ---------------------------------------------------------------------------------------- */

static void set_time(protobuf_c_boolean *has, int64_t *field, int64_t ms)
{
    *has = ms >= 0;
    *field = ms >= 0 ? ms : 0;
}

static enum code view_fill(Clm__TaskView *view, const struct task *task, struct arena *arena,
                           struct status *st)
{
    ProtobufCMessage *spec;
    TRY(wire_unpack(&clm__task_spec__descriptor, task->spec.data, task->spec.len, arena, &spec, st));
    view->id = arena_strdup(arena, task->id);
    view->agent_id = arena_strdup(arena, task->agent_id);
    view->has_kind = view->has_state = view->has_attempt = view->has_lease = view->has_max_attempts = 1;
    view->kind = (Clm__Task__Kind)task->kind;
    view->state = (Clm__Task__State)task->state;
    view->spec = (Clm__TaskSpec *)spec;
    view->attempt = task->attempt;
    view->lease = task->lease;
    view->max_attempts = task->max_attempts;
    view->has_priority = view->has_version = view->has_cancel_requested = 1;
    view->priority = task->priority;
    view->version = task->version;
    view->cancel_requested = task->cancel_requested;
    view->has_break_glass = task->break_glass;
    view->break_glass = task->break_glass;
    view->created_by = arena_strdup(arena, task->created_by);
    set_time(&view->has_created_at_ms, &view->created_at_ms, task->created_at_ms);
    set_time(&view->has_leased_at_ms, &view->leased_at_ms, task->leased_at_ms);
    set_time(&view->has_started_at_ms, &view->started_at_ms, task->started_at_ms);
    set_time(&view->has_finished_at_ms, &view->finished_at_ms, task->finished_at_ms);
    set_time(&view->has_deadline_at_ms, &view->deadline_at_ms, task->deadline_at_ms);
    if (!task_state_is_terminal(task->state)) { /* where it was last seen says nothing of what is over */
        view->phase = arena_strdup(arena, task->phase);
        view->has_progress_permille = task->progress_permille >= 0;
        view->progress_permille = task->progress_permille >= 0 ? (uint32_t)task->progress_permille : 0;
    }
    view->message = arena_strdup(arena, task->message);
    return CODE_OK;
}

/* A result may be larger than a reply: certificates, then checks, then steps are left out from the end, and
 * it says so. */
static void result_fit(Clm__TaskResult *result)
{
    size_t *const lists[] = {&result->n_certificates, &result->n_checks, &result->n_steps};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        while (*lists[i] > 0 && clm__task_result__get_packed_size(result) > RESULT_MAX_BYTES) {
            *lists[i] -= *lists[i] / 8 + 1;
            result->has_truncated = result->truncated = 1;
        }
}

static enum code view_fill_result(Clm__TaskView *view, const struct task *task, struct arena *arena,
                                  struct status *st)
{
    if (task->result.len == 0)
        return CODE_OK;
    ProtobufCMessage *msg;
    TRY(wire_unpack(&clm__task_result__descriptor, task->result.data, task->result.len, arena, &msg, st));
    view->result = (Clm__TaskResult *)msg;
    result_fit(view->result);
    return CODE_OK;
}

/* ---- operators
 * ------------------------------------------------------------------------------------------------ */

static enum code create_task(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__CreateTaskRequest *in = request;
    bool break_glass = in->break_glass != 0;
    if (break_glass && !(ctx->actor.roles & ROLES_ADMIN))
        return status_set(st, CODE_PERMISSION_DENIED, "breakGlass: only an admin may release a change");
    struct new_task task = {
        .break_glass = break_glass,
        .agent_id = in->agent_id,
        .idempotency_key = in->idempotency_key,
        .priority = in->has_priority ? in->priority : DEFAULT_PRIORITY,
        .max_attempts = in->has_max_attempts ? in->max_attempts : DEFAULT_ATTEMPTS,
        .deadline_sec = in->has_deadline_sec ? in->deadline_sec : DEFAULT_DEADLINE,
        .not_before_at_ms = in->has_not_before_at_ms ? in->not_before_at_ms : -1,
        .after = (const char *const *)in->after,
        .n_after = in->n_after,
        .selector = ctx->actor.label_selector,
        .created_by = ctx->actor.id,
        .traceparent = ctx->traceparent,
    };
    wire_pack(&in->spec->base, ctx->arena, &task.spec.data, &task.spec.len);
    wire_pack(&in->base, ctx->arena, &task.request.data, &task.request.len);
    struct worker *worker = worker_of(ctx);
    struct task made;
    TRY(task_create(&app_of(worker)->tasks, worker->db, ctx->arena, &task, &made, st));
    return view_fill(response, &made, ctx->arena, st);
}

/* The first ones, as far as they fit. */
static void steps_fit(Clm__TaskAttempt *attempt, size_t *left)
{
    size_t n = 0;
    for (; n < attempt->n_steps; n++) {
        size_t size = clm__step__get_packed_size(attempt->steps[n]) + 4;
        if (size > *left)
            break;
        *left -= size;
    }
    attempt->n_steps = n;
}

/* Steps only: checks and certificates of former attempts would not fit. */
static enum code view_fill_attempts(Clm__TaskView *view, const struct attempt *attempts, size_t n,
                                    struct arena *arena, struct status *st)
{
    view->attempts = arena_array(arena, n + 1, sizeof(*view->attempts));
    for (size_t i = 0; i < n; i++) {
        Clm__TaskAttempt *to = view->attempts[view->n_attempts++] = arena_alloc(arena, sizeof(*to));
        clm__task_attempt__init(to);
        to->has_attempt = to->has_outcome = 1;
        to->attempt = attempts[i].attempt;
        to->outcome = (Clm__TaskAttempt__Outcome)attempts[i].outcome;
        set_time(&to->has_ended_at_ms, &to->ended_at_ms, attempts[i].ended_at_ms);
        if (attempts[i].result.len == 0)
            continue;
        ProtobufCMessage *msg;
        TRY(wire_unpack(&clm__task_result__descriptor, attempts[i].result.data, attempts[i].result.len, arena,
                        &msg, st));
        to->n_steps = ((Clm__TaskResult *)msg)->n_steps;
        to->steps = ((Clm__TaskResult *)msg)->steps;
    }
    size_t left = STEPS_MAX_BYTES;
    for (size_t i = n; i-- > 0;) /* the newest say most */
        steps_fit(view->attempts[i], &left);
    return CODE_OK;
}

static enum code get_task(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__GetTaskRequest *in = request;
    struct task task;
    TRY(task_seen(worker_of(ctx)->db, ctx->arena, ctx->actor.label_selector, in->task_id, st));
    TRY(task_get(worker_of(ctx)->db, ctx->arena, in->task_id, &task, st));
    struct attempt *attempts;
    size_t n;
    TRY(view_fill(response, &task, ctx->arena, st));
    TRY(task_attempts(worker_of(ctx)->db, ctx->arena, in->task_id, &attempts, &n, st));
    TRY(view_fill_attempts(response, attempts, n, ctx->arena, st));
    return view_fill_result(response, &task, ctx->arena, st);
}

static enum code page_token_read(const char *token, struct arena *arena, const char **ret, struct status *st)
{
    *ret = NULL;
    if (!token || !*token)
        return CODE_OK;
    uint8_t id[UUID_TEXT_SIZE] = {0};
    size_t len;
    if (!base64url_decode(token, strlen(token), id, sizeof(id) - 1, &len) || !uuid_valid((const char *)id))
        return status_set(st, CODE_INVALID_ARGUMENT, "pageToken: not one that this service gave");
    *ret = arena_strdup(arena, (const char *)id);
    return CODE_OK;
}

static char *page_token_write(const char *id, struct arena *arena)
{
    char token[64];
    (void)base64url_encode(id, strlen(id), token, sizeof(token));
    return arena_strdup(arena, token);
}

static enum code list_tasks(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__ListTasksRequest *in = request;
    Clm__ListTasksResponse *out = response;
    if (in->has_page_size && (in->page_size < 1 || in->page_size > PAGE_MAX))
        return status_set(st, CODE_INVALID_ARGUMENT, "pageSize: 1 to %u", PAGE_MAX);
    int64_t *states = arena_array(ctx->arena, in->n_state, sizeof(*states)),
            *kinds = arena_array(ctx->arena, in->n_kind, sizeof(*kinds));
    for (size_t i = 0; i < in->n_state; i++)
        states[i] = in->state[i];
    for (size_t i = 0; i < in->n_kind; i++)
        kinds[i] = in->kind[i];
    struct task_filter filter = {
        .selector = ctx->actor.label_selector,
        .agent_id = in->agent_id,
        .states = states,
        .n_states = in->n_state,
        .kinds = kinds,
        .n_kinds = in->n_kind,
        .limit = in->has_page_size ? in->page_size : PAGE_DEFAULT,
    };
    TRY(page_token_read(in->page_token, ctx->arena, &filter.before_id, st));
    struct task *tasks;
    size_t n, bytes = 0;
    bool more;
    TRY(task_list(worker_of(ctx)->db, ctx->arena, &filter, &tasks, &n, &more, st));
    out->tasks = arena_array(ctx->arena, n, sizeof(*out->tasks));
    for (size_t i = 0; i < n; i++) {
        bytes += TASK_SIZE_GUESS + tasks[i].spec.len;
        if (i > 0 && bytes > REPLY_MAX_BYTES) {
            more = true;
            break;
        }
        Clm__TaskView *view = arena_alloc(ctx->arena, sizeof(*view));
        clm__task_view__init(view);
        TRY(view_fill(view, &tasks[i], ctx->arena, st));
        out->tasks[out->n_tasks++] = view;
    }
    if (more && out->n_tasks > 0)
        out->next_page_token = page_token_write(out->tasks[out->n_tasks - 1]->id, ctx->arena);
    return CODE_OK;
}

static enum code cancel_task(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__CancelTaskRequest *in = request;
    struct worker *worker = worker_of(ctx);
    struct task task;
    TRY(task_seen(worker->db, ctx->arena, ctx->actor.label_selector, in->task_id, st));
    TRY(task_cancel(&app_of(worker)->tasks, worker->db, ctx->arena, in->task_id, ctx->actor.id, &task, st));
    return view_fill(response, &task, ctx->arena, st);
}

static enum code retry_task(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__RetryTaskRequest *in = request;
    struct worker *worker = worker_of(ctx);
    struct task task;
    TRY(task_seen(worker->db, ctx->arena, ctx->actor.label_selector, in->task_id, st));
    TRY(task_retry(&app_of(worker)->tasks, worker->db, ctx->arena, in->task_id, ctx->actor.id, &task, st));
    return view_fill(response, &task, ctx->arena, st);
}

static void count(protobuf_c_boolean *has, uint32_t *field, int64_t n)
{
    *has = 1;
    *field = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

static Clm__TaskPeriod **periods_of(const struct task_period *periods, size_t n, struct arena *arena)
{
    Clm__TaskPeriod **out = arena_array(arena, n + 1, sizeof(*out));
    for (size_t i = 0; i < n; i++) {
        Clm__TaskPeriod *period = out[i] = arena_alloc(arena, sizeof(*period));
        clm__task_period__init(period);
        set_time(&period->has_begins_at_ms, &period->begins_at_ms, periods[i].at_ms);
        count(&period->has_succeeded, &period->succeeded, periods[i].n[STATE_SUCCEEDED]);
        count(&period->has_installed_unverified, &period->installed_unverified,
              periods[i].n[STATE_INSTALLED_UNVERIFIED]);
        count(&period->has_failed, &period->failed, periods[i].n[STATE_FAILED]);
        count(&period->has_cancelled, &period->cancelled, periods[i].n[STATE_CANCELLED]);
        count(&period->has_expired, &period->expired, periods[i].n[STATE_EXPIRED]);
    }
    return out;
}

static enum code get_task_statistics(struct rpc_ctx *ctx, const void *request, void *response,
                                     struct status *st)
{
    (void)request;
    Clm__TaskStatistics *out = response;
    struct task_period *hours, *days;
    if (ctx->actor.label_selector && *ctx->actor.label_selector)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "a grant limited to labels does not cover the fleet's tasks");
    TRY(tasks_statistics(worker_of(ctx)->db, ctx->arena, clock_wall_ms(), &hours, &out->n_hours, &days,
                         &out->n_days, st));
    out->hours = periods_of(hours, out->n_hours, ctx->arena);
    out->days = periods_of(days, out->n_days, ctx->arena);
    return CODE_OK;
}

static void count64(protobuf_c_boolean *has, uint64_t *field, int64_t n)
{
    *has = 1;
    *field = n > 0 ? (uint64_t)n : 0;
}

static Clm__JobStatistics *job_of(const struct job_statistics *job, struct arena *arena)
{
    Clm__JobStatistics *out = arena_alloc(arena, sizeof(*out));
    clm__job_statistics__init(out);
    out->has_kind = out->has_last_state = 1;
    out->kind = (Clm__Task__Kind)job->kind;
    count64(&out->has_succeeded, &out->succeeded, job->succeeded);
    count64(&out->has_installed_unverified, &out->installed_unverified, job->unverified);
    count64(&out->has_failed, &out->failed, job->failed);
    count64(&out->has_cancelled, &out->cancelled, job->cancelled);
    count64(&out->has_expired, &out->expired, job->expired);
    if (job->timed > 0) {
        count64(&out->has_mean_ms, &out->mean_ms, job->total_ms / job->timed);
        count64(&out->has_longest_ms, &out->longest_ms, job->longest_ms);
    }
    out->last_task_id = (char *)(uintptr_t)job->last_task_id;
    out->last_state = (Clm__Task__State)job->last_state;
    set_time(&out->has_last_finished_at_ms, &out->last_finished_at_ms, job->last_finished_at_ms);
    if (job->last_ms >= 0)
        count64(&out->has_last_ms, &out->last_ms, job->last_ms);
    out->last_message = (char *)(uintptr_t)job->last_message;
    return out;
}

/* The registry asks, and has checked that this operator may see the agent. */
static enum code get_agent_jobs(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__GetAgentJobsRequest *in = request;
    Clm__AgentJobs *out = response;
    struct job_statistics *jobs;
    TRY(tasks_agent_jobs(worker_of(ctx)->db, ctx->arena, in->agent_id, &jobs, &out->n_jobs, st));
    out->jobs = arena_array(ctx->arena, out->n_jobs + 1, sizeof(*out->jobs));
    for (size_t i = 0; i < out->n_jobs; i++)
        out->jobs[i] = job_of(&jobs[i], ctx->arena);
    return CODE_OK;
}

static enum code begin_epoch(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__BeginEpochRequest *in = request;
    Clm__BeginEpochResponse *out = response;
    struct worker *worker = worker_of(ctx);
    if (!in->has_restored_at_ms || in->epoch == 0 || in->epoch > INT64_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "BeginEpochRequest: epoch and restored_at_ms are needed");
    TRY(tasks_begin_epoch(&app_of(worker)->tasks, worker->db, ctx->arena, in->epoch, in->restored_at_ms,
                          &out->voided, st));
    out->has_voided = 1;
    return CODE_OK;
}

/* ---- gateways
 * --------------------------------------------------------------------------------------------------- */

static void read_checkin(const Clm__LeaseRequest *in, struct lease_request *ret, struct arena *arena)
{
    struct held_task *held = arena_array(arena, in->n_held, sizeof(*held));
    for (size_t i = 0; i < in->n_held; i++) {
        const Clm__HeldTask *h = in->held[i];
        held[i] = (struct held_task){
            .agent_id = in->agent_id,
            .task_id = h->task_id,
            .phase = h->phase,
            .message = h->message,
            .attempt = h->attempt,
            .progress_permille = h->has_progress_permille
                                     ? (int64_t)(h->progress_permille > 1000 ? 1000 : h->progress_permille)
                                     : -1,
            .started_at_ms = h->has_started_at_ms ? h->started_at_ms : -1,
        };
    }
    *ret = (struct lease_request){
        .agent_id = in->agent_id,
        .generation = in->generation,
        .free_slots = in->free_slots,
        .first_of_connection = in->first_of_connection != 0,
        .safe_mode = in->safe_mode != 0,
        .held = held,
        .n_held = in->n_held,
    };
}

/* The row of this agent, made at its first mention; order of the request. */
static Clm__AgentDeliveries *row_of(Clm__AgentDeliveries **rows, const Clm__LeaseTasksRequest *in,
                                    const char *agent_id, size_t capacity, struct arena *arena)
{
    for (size_t i = 0; i < in->n_agents; i++) {
        if (strcmp(in->agents[i]->agent_id, agent_id) != 0)
            continue;
        if (!rows[i]) {
            rows[i] = arena_alloc(arena, sizeof(*rows[i]));
            clm__agent_deliveries__init(rows[i]);
            rows[i]->agent_id = arena_strdup(arena, agent_id);
            rows[i]->deliveries = arena_array(arena, capacity, sizeof(*rows[i]->deliveries));
            rows[i]->cancel_task_ids = arena_array(arena, capacity, sizeof(*rows[i]->cancel_task_ids));
        }
        return rows[i];
    }
    return NULL;
}

#define PER_AGENT_MAX 64u /* limits.c: AgentDeliveries */

static void write_answer(const struct lease_answer *answer, const Clm__LeaseTasksRequest *in,
                         Clm__LeaseTasksResponse *out, struct arena *arena)
{
    Clm__AgentDeliveries **rows = arena_array(arena, in->n_agents, sizeof(*rows));
    for (size_t i = 0; i < answer->n_deliveries; i++) {
        const struct delivery *from = &answer->deliveries[i];
        Clm__AgentDeliveries *row = row_of(rows, in, from->agent_id, PER_AGENT_MAX, arena);
        if (!row || row->n_deliveries == PER_AGENT_MAX)
            continue;
        Clm__Delivery *to = arena_alloc(arena, sizeof(*to));
        clm__delivery__init(to);
        to->task_id = arena_strdup(arena, from->task_id);
        to->has_attempt = to->has_lease = to->has_envelope = 1;
        to->attempt = from->attempt;
        to->lease = from->lease;
        to->envelope = (ProtobufCBinaryData){.len = from->envelope.len,
                                             .data = (uint8_t *)(uintptr_t)from->envelope.data};
        row->deliveries[row->n_deliveries++] = to;
    }
    for (size_t i = 0; i < answer->n_cancels; i++) {
        Clm__AgentDeliveries *row = row_of(rows, in, answer->cancels[i].agent_id, PER_AGENT_MAX, arena);
        if (row && row->n_cancel_task_ids < PER_AGENT_MAX)
            row->cancel_task_ids[row->n_cancel_task_ids++] = arena_strdup(arena, answer->cancels[i].task_id);
    }
    out->agents = arena_array(arena, in->n_agents, sizeof(*out->agents));
    for (size_t i = 0; i < in->n_agents; i++)
        if (rows[i])
            out->agents[out->n_agents++] = rows[i];
}

static enum code lease_tasks(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__LeaseTasksRequest *in = request;
    struct lease_request *requests = arena_array(ctx->arena, in->n_agents, sizeof(*requests));
    for (size_t i = 0; i < in->n_agents; i++)
        read_checkin(in->agents[i], &requests[i], ctx->arena);
    struct worker *worker = worker_of(ctx);
    struct lease_answer answer;
    TRY(task_lease(&app_of(worker)->tasks, worker->db, ctx->arena, requests, in->n_agents, &answer, st));
    write_answer(&answer, in, response, ctx->arena);
    return CODE_OK;
}

static enum code submit_result(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__SubmitResultRequest *in = request;
    Clm__SubmitResultResponse *out = response;
    const struct result_submission submission = {
        .agent_id = in->agent_id,
        .task_id = in->task_id,
        .attempt = in->attempt,
        .page = in->page,
        .has_data = in->has_data && (in->data.len > 0 || in->page > 0),
        .data = {in->data.data, in->data.len},
        .receipt = {in->receipt.data, in->receipt.len},
    };
    struct worker *worker = worker_of(ctx);
    bool finished;
    TRY(task_submit_result(&app_of(worker)->tasks, worker->db, ctx->arena, &submission, &finished, st));
    out->has_finished = 1;
    out->finished = finished;
    return CODE_OK;
}

/* ---- bootstrap
 * --------------------------------------------------------------------------------------------------- */

static enum code authorize_certificate(struct rpc_ctx *ctx, const void *request, void *response,
                                       struct status *st)
{
    const Clm__AuthorizeCertificateRequest *in = request;
    Clm__AuthorizeCertificateResponse *out = response;
    TRY(task_authorize_certificate(worker_of(ctx)->db, ctx->arena, in->agent_id, in->task_id, in->attempt,
                                   in->dns_names, in->n_dns_names, &out->life_sec, st));
    out->has_life_sec = out->life_sec > 0;
    return CODE_OK;
}

const struct rpc_method tasks_methods[] = {
    {"CreateTask", create_task},      {"GetTask", get_task},
    {"ListTasks", list_tasks},        {"CancelTask", cancel_task},
    {"RetryTask", retry_task},        {"LeaseTasks", lease_tasks},
    {"SubmitResult", submit_result},  {"AuthorizeCertificate", authorize_certificate},
    {"ListReports", list_reports},    {"GetTaskStatistics", get_task_statistics},
    {"GetAgentJobs", get_agent_jobs}, {"BeginEpoch", begin_epoch},
};
const size_t tasks_n_methods = ARRAY_LEN(tasks_methods);
