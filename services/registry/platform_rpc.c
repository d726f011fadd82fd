/* Border of what concerns the platform as a whole, and of an agent's end. Worker threads. */
#include "base/clock.h"
#include "border.h"
#include "proto/registry.pb-c.h"

static void fill(Clm__PlatformView *view, const struct platform *platform)
{
    view->has_safe_mode = true;
    view->safe_mode = platform->safe_mode;
    view->reason = *platform->reason ? text(platform->reason) : NULL;
    view->changed_by = *platform->by ? text(platform->by) : NULL;
    view->has_changed_at_ms = platform->since_ms >= 0;
    view->changed_at_ms = platform->since_ms >= 0 ? platform->since_ms : 0;
}

/* It concerns every agent, also those outside a grant that is limited to labels. */
static enum code whole_fleet_only(const struct rpc_ctx *ctx, struct status *st)
{
    if (ctx->actor.label_selector && *ctx->actor.label_selector)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "a grant limited to labels does not cover the platform's safe mode");
    return CODE_OK;
}

enum code on_get_platform(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    (void)request;
    const struct worker *worker = ctx->worker;
    struct platform platform;
    TRY(platform_get(worker->db, ctx->arena, &platform, st));
    fill(response, &platform);
    return CODE_OK;
}

static enum code set(struct rpc_ctx *ctx, bool on, const char *reason, void *response, struct status *st)
{
    const struct worker *worker = ctx->worker;
    const struct cause cause = cause_of(ctx);
    struct platform platform;
    TRY(whole_fleet_only(ctx, st));
    TRY(platform_set_safe_mode(worker->db, &cause, on, reason ? reason : "", ctx->arena, &platform, st));
    fill(response, &platform);
    return CODE_OK;
}

enum code on_enter_platform_safe_mode(struct rpc_ctx *ctx, const void *request, void *response,
                                      struct status *st)
{
    return set(ctx, true, ((const Clm__PlatformSafeModeRequest *)request)->reason, response, st);
}

enum code on_leave_platform_safe_mode(struct rpc_ctx *ctx, const void *request, void *response,
                                      struct status *st)
{
    return set(ctx, false, ((const Clm__PlatformSafeModeRequest *)request)->reason, response, st);
}
