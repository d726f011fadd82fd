/* Border of metrics: protobuf ⇄ the registry's structs. Handlers run on worker threads. */
#include "base/clock.h"
#include "border.h"
#include "metrics.h"
#include "proto/registry.pb-c.h"

#define PERMILLE_MAX 1000
#define MILLI_MAX    1000000000

/* What a host says of itself is not to overflow a sum. */
static int64_t bounded(bool has, uint64_t value, int64_t max)
{
    return !has ? -1 : value > (uint64_t)max ? max : (int64_t)value;
}

const struct metrics_sample *metrics_of(const Clm__HostMetrics *in, struct arena *arena)
{
    if (!in)
        return NULL;
    struct metrics_sample *out = arena_alloc(arena, sizeof(*out));
    *out = (struct metrics_sample){
        .cpu_permille = bounded(in->has_cpu_permille, in->cpu_permille, PERMILLE_MAX),
        .load1_milli = bounded(in->has_load1_milli, in->load1_milli, MILLI_MAX),
        .memory_used = bounded(in->has_memory_used_bytes, in->memory_used_bytes, INT64_MAX),
        .memory_total = bounded(in->has_memory_total_bytes, in->memory_total_bytes, INT64_MAX),
        .disk_used = bounded(in->has_disk_used_bytes, in->disk_used_bytes, INT64_MAX),
        .disk_total = bounded(in->has_disk_total_bytes, in->disk_total_bytes, INT64_MAX),
        .uptime_sec = bounded(in->has_uptime_sec, in->uptime_sec, INT64_MAX),
    };
    wire_pack(&in->base, arena, &out->encoded.data, &out->encoded.len);
    if (!out->encoded.data)
        out->encoded.data = (const uint8_t *)"";
    return out;
}

static Clm__HostMetrics *decode(struct bytes encoded, struct arena *arena)
{
    ProtobufCMessage *msg = NULL;
    if (!encoded.data ||
        wire_unpack(&clm__host_metrics__descriptor, encoded.data, encoded.len, arena, &msg, NULL) != CODE_OK)
        return NULL;
    return (Clm__HostMetrics *)msg;
}

enum code metrics_fill_view(struct db *db, Clm__AgentView *view, struct arena *arena, struct status *st)
{
    struct bytes latest;
    int64_t at_ms;
    TRY(metrics_latest(db, view->id, clock_wall_ms(), arena, &latest, &at_ms, st));
    view->metrics = decode(latest, arena);
    view->has_metrics_at_ms = view->metrics != NULL;
    view->metrics_at_ms = view->metrics ? at_ms : 0;
    return CODE_OK;
}

static void set_u32(protobuf_c_boolean *has, uint32_t *field, int64_t value)
{
    *has = value >= 0;
    *field = value >= 0 ? (uint32_t)value : 0;
}

static void set_u64(protobuf_c_boolean *has, uint64_t *field, int64_t value)
{
    *has = value >= 0;
    *field = value >= 0 ? (uint64_t)value : 0;
}

static void fill_point(Clm__MetricsPoint *out, const struct metrics_point *p)
{
    clm__metrics_point__init(out);
    bool cpu = p->cpu_samples > 0, load = p->load_max >= 0 && p->samples > 0;
    out->has_begins_at_ms = true;
    out->begins_at_ms = p->at_ms;
    set_u32(&out->has_samples, &out->samples, p->samples);
    set_u32(&out->has_cpu_permille, &out->cpu_permille, cpu ? p->cpu_sum / p->cpu_samples : -1);
    set_u32(&out->has_cpu_max_permille, &out->cpu_max_permille, cpu ? p->cpu_max : -1);
    set_u32(&out->has_load1_milli, &out->load1_milli, load ? p->load_sum / p->samples : -1);
    set_u32(&out->has_load1_max_milli, &out->load1_max_milli, p->load_max);
    set_u64(&out->has_memory_used_bytes, &out->memory_used_bytes, p->memory_used);
    set_u64(&out->has_memory_total_bytes, &out->memory_total_bytes, p->memory_total);
    set_u64(&out->has_disk_used_bytes, &out->disk_used_bytes, p->disk_used);
    set_u64(&out->has_disk_total_bytes, &out->disk_total_bytes, p->disk_total);
    set_u64(&out->has_uptime_sec, &out->uptime_sec, p->uptime_sec);
}

enum code on_get_agent_metrics(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__GetAgentMetricsRequest *req = request;
    Clm__AgentMetrics *res = response;
    struct worker *worker = ctx->worker;
    struct metrics_history history;
    TRY(metrics_get(worker->db, ctx->actor.label_selector, req->agent_id,
                    req->has_period_sec ? req->period_sec : 0, clock_wall_ms(), ctx->arena, &history, st));
    res->latest = decode(history.latest, ctx->arena);
    res->has_latest_at_ms = res->latest != NULL;
    res->latest_at_ms = history.latest_at_ms;
    res->has_step_sec = true;
    res->step_sec = (uint32_t)history.step_sec;
    res->n_points = history.n;
    res->points = arena_array(ctx->arena, history.n + 1, sizeof(*res->points));
    for (size_t i = 0; i < history.n; i++) {
        res->points[i] = arena_alloc(ctx->arena, sizeof(**res->points));
        fill_point(res->points[i], &history.points[i]);
    }
    return CODE_OK;
}
