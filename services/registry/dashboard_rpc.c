/* The dashboard, and what it and an agent's page ask of clm-tasks. Handlers run on worker threads. */
#include "alerts.h"
#include "base/clock.h"
#include "base/log.h"
#include "border.h"
#include "proto/registry.pb-c.h"
#include "proto/tasks.pb-c.h"

#define STATISTICS_CALL_MS 2000
#define JOBS_CALL_MS       10000

static void set_count(protobuf_c_boolean *has, uint32_t *field, int64_t n)
{
    *has = true;
    *field = n > 0 ? (uint32_t)n : 0;
}

static void fill_ends(Clm__Dashboard *res, const struct dashboard *d, struct arena *arena)
{
    res->n_identities_by_end = res->n_certificates_by_end = DASHBOARD_ENDS;
    res->identities_by_end = arena_array(arena, DASHBOARD_ENDS, sizeof(*res->identities_by_end));
    res->certificates_by_end = arena_array(arena, DASHBOARD_ENDS, sizeof(*res->certificates_by_end));
    for (size_t i = 0; i < DASHBOARD_ENDS; i++) {
        Clm__IdentityEnds *identities = res->identities_by_end[i] = arena_alloc(arena, sizeof(*identities));
        Clm__CertificateEnds *certificates = res->certificates_by_end[i] =
            arena_alloc(arena, sizeof(*certificates));
        clm__identity_ends__init(identities);
        clm__certificate_ends__init(certificates);
        identities->has_within_sec = certificates->has_within_sec = dashboard_end_sec[i] >= 0;
        if (identities->has_within_sec)
            identities->within_sec = certificates->within_sec = (uint32_t)dashboard_end_sec[i];
        set_count(&identities->has_n, &identities->n, d->ends[i]);
        set_count(&certificates->has_n, &certificates->n, d->certificates[i].n);
        set_count(&certificates->has_served, &certificates->served, d->certificates[i].served);
    }
}

static void fill_kept(Clm__Dashboard *res, const struct dashboard *d, struct arena *arena)
{
    set_count(&res->has_in_safe_mode, &res->in_safe_mode, d->in_safe_mode);
    fill_ends(res, d, arena);
    res->versions = arena_array(arena, d->n_versions + 1, sizeof(*res->versions));
    for (size_t i = 0; i < d->n_versions; i++) {
        Clm__VersionCount *version = res->versions[res->n_versions++] = arena_alloc(arena, sizeof(*version));
        clm__version_count__init(version);
        version->version = text(d->versions[i].version);
        set_count(&version->has_n, &version->n, d->versions[i].n);
    }
    res->open_alerts_by_kind =
        arena_array(arena, ARRAY_LEN(d->open_by_kind), sizeof(*res->open_alerts_by_kind));
    for (size_t kind = 1; kind < ARRAY_LEN(d->open_by_kind); kind++) {
        if (d->open_by_kind[kind] == 0)
            continue;
        Clm__AlertCount *count = res->open_alerts_by_kind[res->n_open_alerts_by_kind++] =
            arena_alloc(arena, sizeof(*count));
        clm__alert_count__init(count);
        count->has_kind = true;
        count->kind = (Clm__Alert__Kind)kind;
        set_count(&count->has_n, &count->n, d->open_by_kind[kind]);
    }
}

static enum code ask_tasks(struct rpc_ctx *ctx, const char *method, const ProtobufCMessage *request,
                           bool authority, int64_t most_ms, ProtobufCMessage **ret, struct status *st)
{
    const struct rpc_call call = {
        .service = "tasks",
        .descriptor = &clm__tasks__descriptor,
        .method = method,
        .request = request,
        .timeout_ms = most_ms,
        .authority = authority,
    };
    return worker_call(worker_of(ctx), ctx, &call, ret, st);
}

/* The fleet is shown without them if the tasks service is away, or does not say them to this operator. */
static void fill_tasks(struct rpc_ctx *ctx, Clm__Dashboard *res)
{
    const Clm__GetTaskStatisticsRequest ask = CLM__GET_TASK_STATISTICS_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    struct status why = {0};
    if (ask_tasks(ctx, "GetTaskStatistics", &ask.base, false, STATISTICS_CALL_MS, &reply, &why) == CODE_OK)
        res->tasks = (Clm__TaskStatistics *)reply;
    else
        log_debug("the dashboard has no tasks", "reason", why.msg, NULL);
}

enum code on_get_agent_jobs(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__AgentRequest *req = request;
    struct agent agent;
    ProtobufCMessage *reply = NULL;
    TRY(agent_get(worker_of(ctx)->db, ctx->actor.label_selector, req->agent_id, ctx->arena, &agent, st));
    Clm__GetAgentJobsRequest ask = CLM__GET_AGENT_JOBS_REQUEST__INIT;
    ask.agent_id = req->agent_id;
    TRY(ask_tasks(ctx, "GetAgentJobs", &ask.base, true, JOBS_CALL_MS, &reply, st));
    *(Clm__AgentJobs *)response = *(const Clm__AgentJobs *)reply;
    return CODE_OK;
}

enum code on_get_dashboard(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    (void)request;
    Clm__Dashboard *res = response;
    struct dashboard d;
    TRY(dashboard_get(worker_of(ctx)->db, ctx->actor.label_selector, clock_wall_ms(), ctx->arena, &d, st));
    set_count(&res->has_total, &res->total, d.total);
    set_count(&res->has_online, &res->online, d.count[AGENT_ONLINE]);
    set_count(&res->has_offline, &res->offline, d.count[AGENT_OFFLINE]);
    set_count(&res->has_disabled, &res->disabled, d.count[AGENT_DISABLED]);
    set_count(&res->has_expired, &res->expired, d.count[AGENT_EXPIRED]);
    set_count(&res->has_safe_mode, &res->safe_mode, d.count[AGENT_SAFE_MODE]);
    set_count(&res->has_bootstrapping, &res->bootstrapping, d.count[AGENT_BOOTSTRAPPING]);
    set_count(&res->has_identities_expiring, &res->identities_expiring, d.identities_expiring);
    fill_kept(res, &d, ctx->arena);
    fill_tasks(ctx, res);
    res->n_recent_activity = d.n_recent;
    res->recent_activity = arena_array(ctx->arena, d.n_recent + 1, sizeof(*res->recent_activity));
    for (size_t i = 0; i < d.n_recent; i++) {
        Clm__Activity *a = res->recent_activity[i] = arena_alloc(ctx->arena, sizeof(*a));
        clm__activity__init(a);
        activity_fill(a, &d.recent[i]);
    }
    set_count(&res->has_open_alerts, &res->open_alerts, d.open_alerts);
    res->n_recent_alerts = d.n_alerts;
    res->recent_alerts = arena_array(ctx->arena, d.n_alerts + 1, sizeof(*res->recent_alerts));
    for (size_t i = 0; i < d.n_alerts; i++) {
        res->recent_alerts[i] = arena_alloc(ctx->arena, sizeof(**res->recent_alerts));
        clm__alert__init(res->recent_alerts[i]);
        alert_fill(res->recent_alerts[i], &d.alerts[i]);
    }
    return CODE_OK;
}
