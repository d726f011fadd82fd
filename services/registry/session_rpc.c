/* Logins, sessions and API keys: who asks. Handlers run on worker threads. */
#include <string.h>

#include "base/clock.h"
#include "border.h"
#include "proto/registry.pb-c.h"

#define OPERATOR_PREFIX "operator:" /* of an actor's id */

Clm__Role *roles_of(unsigned bits, struct arena *arena, size_t *ret_n)
{
    Clm__Role *roles = arena_array(arena, 32, sizeof(*roles));
    *ret_n = 0;
    for (unsigned i = 0; i < 32; i++)
        if (bits & ROLE_BIT(i))
            roles[(*ret_n)++] = (Clm__Role)i;
    return roles;
}

/* What is said of a credential holds no longer than the credential itself: gateways keep it for a while. */
static int64_t life_of(int64_t usual_ms, int64_t now_ms, int64_t expires_at_ms)
{
    return expires_at_ms >= 0 && expires_at_ms - now_ms < usual_ms ? expires_at_ms - now_ms : usual_ms;
}

enum code on_authenticate(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__AuthenticateRequest *req = request;
    Clm__AuthenticateResponse *res = response;
    struct worker *worker = worker_of(ctx);
    const struct registry_config *config = service_get_config(worker->service);
    int64_t now_ms = clock_wall_ms(), expires_at_ms;
    struct actor actor;
    if (!req->api_key == !req->session_secret)
        return status_set(st, CODE_INVALID_ARGUMENT, "either an API key or a session, and not both");
    if (req->api_key) {
        struct api_key key;
        TRY(api_key_check(worker->db, req->api_key, now_ms, ctx->arena, &key, st));
        actor = (struct actor){
            .id = arena_printf(ctx->arena, "api-key:%s", key.id),
            .name = key.name,
            .roles = key.roles,
            .label_selector = key.label_selector,
        };
        expires_at_ms = key.expires_at_ms;
    } else {
        struct session session;
        TRY(session_check(worker->db, req->session_secret, now_ms, ctx->arena, &session, st));
        actor = (struct actor){
            .id = arena_printf(ctx->arena, OPERATOR_PREFIX "%s", session.who.name),
            .name = session.who.name,
            .roles = session.who.roles,
            .label_selector = session.who.label_selector,
        };
        res->session_id = text(session.id);
        expires_at_ms = session.expires_at_ms;
    }
    struct bytes assertion;
    int64_t life_ms = life_of(config->assertion_life_ms, now_ms, expires_at_ms);
    TRY(assertion_make(service_identity(worker->service), &actor, life_ms, ctx->arena, &assertion, st));
    res->has_assertion = true;
    res->assertion = (ProtobufCBinaryData){assertion.len, (uint8_t *)(uintptr_t)assertion.data};
    res->actor = text(actor.id);
    res->has_not_after_at_ms = true;
    res->not_after_at_ms = now_ms + life_ms;
    res->roles = roles_of(actor.roles, ctx->arena, &res->n_roles);
    res->label_selector = text(actor.label_selector);
    return CODE_OK;
}

static void fill_session(Clm__SessionView *view, const struct session *session, struct arena *arena)
{
    view->id = text(session->id);
    view->name = text(session->who.name);
    view->roles = roles_of(session->who.roles, arena, &view->n_roles);
    view->source = text(session->source);
    set_time(&view->has_created_at_ms, &view->created_at_ms, session->created_at_ms);
    set_time(&view->has_last_used_at_ms, &view->last_used_at_ms, session->last_used_at_ms);
    set_time(&view->has_not_after_at_ms, &view->not_after_at_ms, session->expires_at_ms);
}

static void fill_new_session(Clm__NewSession *res, const struct session *session, const char *secret,
                             struct arena *arena)
{
    res->secret = arena_strdup(arena, secret);
    res->session = arena_alloc(arena, sizeof(*res->session));
    clm__session_view__init(res->session);
    fill_session(res->session, session, arena);
}

enum code on_login(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__LoginRequest *req = request;
    char secret[OPERATOR_SECRET_MAX];
    struct session session;
    TRY(operator_login(worker_of(ctx)->db, req->name, req->password, req->source ? req->source : "",
                       clock_wall_ms(), secret, ctx->arena, &session, st));
    fill_new_session(response, &session, secret, ctx->arena);
    return CODE_OK;
}

enum code on_redeem_link(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__RedeemLinkRequest *req = request;
    char secret[OPERATOR_SECRET_MAX];
    struct session session;
    TRY(operator_link_redeem(worker_of(ctx)->db, req->link, req->name, req->password,
                             req->source ? req->source : "", clock_wall_ms(), secret, ctx->arena, &session,
                             st));
    fill_new_session(response, &session, secret, ctx->arena);
    return CODE_OK;
}

/* The operator's name of the assertion; those with an API key have no sessions. */
static enum code operator_of(const struct rpc_ctx *ctx, const char **ret, struct status *st)
{
    size_t n = strlen(OPERATOR_PREFIX);
    if (strncmp(ctx->actor.id, OPERATOR_PREFIX, n) != 0)
        return status_set(st, CODE_FAILED_PRECONDITION, "an API key has no sessions");
    *ret = ctx->actor.id + n;
    return CODE_OK;
}

enum code on_get_session(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__GetSessionRequest *req = request;
    const char *name = NULL;
    struct session session;
    TRY(operator_of(ctx, &name, st));
    TRY(session_get(worker_of(ctx)->db, name, req->session_id, clock_wall_ms(), ctx->arena, &session, st));
    fill_session(response, &session, ctx->arena);
    return CODE_OK;
}

void sessions_fill(Clm__ListSessionsResponse *res, const struct session *sessions, size_t n,
                   struct arena *arena)
{
    res->n_sessions = n;
    res->sessions = arena_array(arena, n + 1, sizeof(*res->sessions));
    for (size_t i = 0; i < n; i++) {
        res->sessions[i] = arena_alloc(arena, sizeof(**res->sessions));
        clm__session_view__init(res->sessions[i]);
        fill_session(res->sessions[i], &sessions[i], arena);
    }
}

enum code on_list_sessions(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    (void)request;
    const char *name = NULL;
    struct session *sessions;
    size_t n;
    TRY(operator_of(ctx, &name, st));
    TRY(session_list(worker_of(ctx)->db, name, clock_wall_ms(), ctx->arena, &sessions, &n, st));
    sessions_fill(response, sessions, n, ctx->arena);
    return CODE_OK;
}

enum code on_end_session(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__EndSessionRequest *req = request;
    const char *name = NULL;
    struct session session;
    TRY(operator_of(ctx, &name, st));
    TRY(session_end(worker_of(ctx)->db, name, req->session_id, clock_wall_ms(), ctx->arena, &session, st));
    fill_session(response, &session, ctx->arena);
    return CODE_OK;
}
