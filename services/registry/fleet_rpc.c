/* What gateways and other services tell and ask of the whole fleet. Handlers run on worker threads. */
#include <string.h>

#include "base/clock.h"
#include "border.h"
#include "drift.h"
#include "proto/registry.pb-c.h"

#define STATES_MAX   1000
#define SNAPSHOT_MAX 500

static struct heartbeat heartbeat_of(const Clm__Heartbeat *in, struct arena *arena)
{
    struct heartbeat out = {
        .agent_id = in->agent_id,
        .generation = in->has_generation ? in->generation : 0,
        .received_at_ms = in->has_received_at_ms ? in->received_at_ms : 0,
        .clock_skew_ms = in->has_clock_skew_ms ? in->clock_skew_ms : 0,
        .interval_ms = in->has_interval_ms ? in->interval_ms : 0,
        .instance_id = in->instance_id,
        .boot_id = in->boot_id,
        .safe_mode = in->has_safe_mode && in->safe_mode,
        .safe_mode_reason = in->safe_mode_reason,
        .audit_problem = in->audit_problem && *in->audit_problem ? in->audit_problem : NULL,
        .metrics = metrics_of(in->metrics, arena),
    };
    if (in->facts) {
        wire_pack(&in->facts->base, arena, &out.facts.data, &out.facts.len);
        if (!out.facts.data)
            out.facts.data = (const uint8_t *)"";
        out.agent_version = in->facts->agent_version;
    }
    return out;
}

/* An agent's last word of a batch is what holds. */
static bool has_later(const Clm__ReportHeartbeatsRequest *req, size_t index)
{
    for (size_t i = index + 1; i < req->n_heartbeats; i++) {
        if (req->heartbeats[i]->drift &&
            strcmp(req->heartbeats[i]->agent_id, req->heartbeats[index]->agent_id) == 0)
            return true;
    }
    return false;
}

static enum code report_drifts(struct rpc_ctx *ctx, const Clm__ReportHeartbeatsRequest *req,
                               struct status *st)
{
    size_t n_agents = 0, n_drifts = 0, room = 0;
    for (size_t i = 0; i < req->n_heartbeats; i++)
        room += req->heartbeats[i]->drift ? req->heartbeats[i]->drift->n_drifts : 0;
    const char **agents = arena_array(ctx->arena, req->n_heartbeats + 1, sizeof(*agents));
    struct drift *drifts = arena_array(ctx->arena, room + 1, sizeof(*drifts));
    for (size_t i = 0; i < req->n_heartbeats; i++) {
        const Clm__Heartbeat *beat = req->heartbeats[i];
        if (!beat->drift || has_later(req, i))
            continue;
        agents[n_agents++] = beat->agent_id;
        for (size_t k = 0; k < beat->drift->n_drifts; k++) {
            const Clm__Drift *drift = beat->drift->drifts[k];
            drifts[n_drifts++] =
                (struct drift){beat->agent_id, drift->target, drift->reason ? drift->reason : ""};
        }
    }
    const struct cause cause = {.now_ms = clock_wall_ms(),
                                .timing = registry_timing(worker_of(ctx)->service)};
    return drifts_report(worker_of(ctx)->db, &cause, agents, n_agents, drifts, n_drifts, ctx->arena, st);
}

enum code on_report_heartbeats(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    (void)response;
    const Clm__ReportHeartbeatsRequest *req = request;
    struct heartbeat *beats = arena_array(ctx->arena, req->n_heartbeats + 1, sizeof(*beats));
    for (size_t i = 0; i < req->n_heartbeats; i++)
        beats[i] = heartbeat_of(req->heartbeats[i], ctx->arena);
    struct worker *worker = worker_of(ctx);
    TRY(take_reports(worker, req->heartbeats, req->n_heartbeats, ctx->arena, st));
    TRY(heartbeats_report(worker->db, registry_timing(worker->service), clock_wall_ms(), req->gateway_id,
                          req->epoch ? req->epoch : "", beats, req->n_heartbeats, ctx->arena, st));
    return report_drifts(ctx, req, st);
}

static size_t page_size(bool has, uint32_t asked, size_t max)
{
    return has && asked > 0 && asked < max ? asked : max;
}

enum code on_list_agent_states(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__ListAgentStatesRequest *req = request;
    Clm__ListAgentStatesResponse *res = response;
    size_t size = page_size(req->has_page_size, req->page_size, STATES_MAX);
    struct agent *agents;
    size_t n;
    TRY(agents_page(worker_of(ctx)->db, req->after_agent_id, size + 1, ctx->arena, &agents, &n, st));
    res->has_last = true;
    res->last = n <= size;
    res->n_states = n <= size ? n : size;
    res->states = arena_array(ctx->arena, res->n_states + 1, sizeof(*res->states));
    for (size_t i = 0; i < res->n_states; i++) {
        Clm__AgentState *s = res->states[i] = arena_alloc(ctx->arena, sizeof(*s));
        clm__agent_state__init(s);
        s->agent_id = text(agents[i].id);
        s->has_status = s->has_disabled = s->has_min_generation = s->has_version = true;
        s->status = (Clm__Agent__Status)agents[i].status;
        s->disabled = agents[i].disabled;
        s->min_generation = (uint32_t)agents[i].min_generation;
        s->version = (uint64_t)agents[i].version;
        s->reason = text(agent_reason(&agents[i]));
    }
    return CODE_OK;
}

/* One more than fit tells that there are more. */
static enum code snapshot_rows(struct rpc_ctx *ctx, const Clm__ListAgentSnapshotRequest *req, size_t max,
                               struct agent **ret, size_t *ret_n, struct status *st)
{
    struct db *db = worker_of(ctx)->db;
    if (!req->agent_id)
        return agents_page(db, req->after_agent_id, max, ctx->arena, ret, ret_n, st);
    *ret = arena_alloc(ctx->arena, sizeof(**ret));
    enum code code = agent_get(db, "", req->agent_id, ctx->arena, *ret, st);
    *ret_n = code == CODE_OK;
    return code == CODE_NOT_FOUND ? CODE_OK : code;
}

enum code on_list_agent_snapshot(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__ListAgentSnapshotRequest *req = request;
    Clm__ListAgentSnapshotResponse *res = response;
    size_t size = page_size(req->has_page_size, req->page_size, SNAPSHOT_MAX);
    struct agent *agents;
    size_t n, bytes = 0;
    TRY(snapshot_rows(ctx, req, size + 1, &agents, &n, st));
    res->agents = arena_array(ctx->arena, n + 1, sizeof(*res->agents));
    for (; res->n_agents < n && res->n_agents < size; res->n_agents++) {
        const struct agent *agent = &agents[res->n_agents];
        Clm__AgentSnapshot *s = res->agents[res->n_agents] = arena_alloc(ctx->arena, sizeof(*s));
        clm__agent_snapshot__init(s);
        s->agent_id = text(agent->id);
        s->hostname = text(agent->hostname);
        s->has_version = s->has_status = s->has_safe_mode = s->has_disabled = s->has_min_generation = true;
        s->version = (uint64_t)agent->version;
        s->status = (Clm__Agent__Status)agent->status;
        s->safe_mode = agent_in_safe_mode(agent) || agent->status == AGENT_SAFE_MODE;
        s->reason = text(agent_reason(agent));
        s->has_frozen = true;
        s->frozen = agent_frozen(agent);
        s->disabled = agent->disabled;
        s->min_generation = (uint32_t)agent->min_generation;
        s->scope = scope_decode(agent->scope, ctx->arena);
        s->agent_version = text(agent->agent_version);
        s->labels = labels_of(agent, ctx->arena);
        s->n_labels = agent->n_labels;
        bytes += clm__agent_snapshot__get_packed_size(s) + 4;
        if (res->n_agents > 0 && bytes > PAGE_BYTES_MAX)
            break;
    }
    res->has_last = true;
    res->last = res->n_agents == n;
    struct platform platform;
    TRY(platform_get(worker_of(ctx)->db, ctx->arena, &platform, st));
    res->has_platform_safe_mode = res->has_platform_version = true;
    res->platform_safe_mode = platform.safe_mode;
    res->platform_version = (uint64_t)platform.version;
    return CODE_OK;
}

enum code on_report_superseded(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    (void)response;
    const Clm__ReportSupersededRequest *req = request;
    struct cause cause = cause_of(ctx);
    cause.actor = "";
    struct superseded *seen = arena_array(ctx->arena, req->n_seen + 1, sizeof(*seen));
    for (size_t i = 0; i < req->n_seen; i++)
        seen[i] = (struct superseded){req->seen[i]->agent_id, req->seen[i]->generation};
    return agents_superseded(worker_of(ctx)->db, &cause, seen, req->n_seen, ctx->arena, st);
}
