/* Border of who may see and do what: operators, API keys, requests about grants. Worker threads. */
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "border.h"
#include "grants.h"
#include "pki/digest.h"
#include "proto/registry.pb-c.h"

#define PAGE_DEFAULT 50
#define PAGE_MAX     500

enum code on_see_agents(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__SeeAgentsRequest *req = request;
    Clm__SeeAgentsResponse *res = response;
    const char **ids;
    TRY(agents_seen(worker_of(ctx)->db, ctx->actor.label_selector, (const char *const *)req->agent_id,
                    req->n_agent_id, ctx->arena, &ids, &res->n_agent_id, st));
    res->agent_id = (char **)(uintptr_t)ids;
    return CODE_OK;
}

/* ---- what all of the following share ---- */

/* Whoever is limited to labels would give away more than they have. */
static enum code begin(const struct rpc_ctx *ctx, struct cause *ret, struct status *st)
{
    if (ctx->actor.label_selector && *ctx->actor.label_selector)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "a grant limited to labels does not cover operators and API keys");
    *ret = (struct cause){
        .actor = ctx->actor.id,
        .traceparent = ctx->traceparent,
        .now_ms = clock_wall_ms(),
        .timing = registry_timing(worker_of(ctx)->service),
    };
    return CODE_OK;
}

static enum code page_size(bool has, uint32_t asked, size_t *ret, struct status *st)
{
    *ret = has && asked > 0 ? asked : PAGE_DEFAULT;
    if (*ret > PAGE_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "pageSize: at most %d", PAGE_MAX);
    return CODE_OK;
}

static enum code grant_read(const Clm__Role *roles, size_t n, const char *selector, struct grant *ret,
                            struct status *st)
{
    *ret = (struct grant){.selector = selector ? selector : ""};
    for (size_t i = 0; i < n; i++)
        ret->roles |= ROLE_BIT(roles[i]);
    if (strlen(ret->selector) > 1000)
        return status_set(st, CODE_INVALID_ARGUMENT, "labelSelector: longer than 1000 bytes");
    return CODE_OK;
}

/* ---- operators ---- */

static void operator_fill(Clm__OperatorView *view, const struct operator_entry *entry, struct arena *arena)
{
    view->id = text(entry->id);
    view->name = text(entry->who.name);
    view->roles = roles_of(entry->who.roles, arena, &view->n_roles);
    view->label_selector = text(entry->who.label_selector);
    view->has_state = true;
    view->state = (Clm__OperatorView__State)entry->state;
    set_time(&view->has_created_at_ms, &view->created_at_ms, entry->created_at_ms);
    set_time(&view->has_last_login_at_ms, &view->last_login_at_ms, entry->last_login_at_ms);
    set_time(&view->has_disabled_at_ms, &view->disabled_at_ms, entry->disabled_at_ms);
    set_time(&view->has_link_not_after_at_ms, &view->link_not_after_at_ms, entry->link_not_after_ms);
}

enum code on_list_operators(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__ListOperatorsRequest *req = request;
    Clm__ListOperatorsResponse *res = response;
    const char *after = req->page_token && *req->page_token ? req->page_token : NULL;
    struct operator_entry *entries;
    struct cause cause;
    size_t size, n;
    TRY(begin(ctx, &cause, st));
    TRY(page_size(req->has_page_size, req->page_size, &size, st));
    if (after && !uuid_valid(after))
        return status_set(st, CODE_INVALID_ARGUMENT, "pageToken: not one that a list gave");
    TRY(operators_list(worker_of(ctx)->db, after, size + 1, cause.now_ms, ctx->arena, &entries, &n, st));
    res->operators = arena_array(ctx->arena, n + 1, sizeof(*res->operators));
    for (size_t i = 0; i < n && i < size; i++) {
        Clm__OperatorView *view = res->operators[res->n_operators++] = arena_alloc(ctx->arena, sizeof(*view));
        clm__operator_view__init(view);
        operator_fill(view, &entries[i], ctx->arena);
    }
    if (n > size)
        res->next_page_token = text(entries[size - 1].id);
    return CODE_OK;
}

enum code on_get_operator(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__OperatorRequest *req = request;
    struct operator_entry entry;
    struct cause cause;
    TRY(begin(ctx, &cause, st));
    TRY(operator_get(worker_of(ctx)->db, req->operator_id, cause.now_ms, ctx->arena, &entry, st));
    operator_fill(response, &entry, ctx->arena);
    return CODE_OK;
}

static void invitation_fill(Clm__Invitation *res, const struct operator_entry *entry, const char *link,
                            struct arena *arena)
{
    res->operator_ = arena_alloc(arena, sizeof(*res->operator_));
    clm__operator_view__init(res->operator_);
    operator_fill(res->operator_, entry, arena);
    if (!*link)
        return;
    res->link = arena_strdup(arena, link);
    set_time(&res->has_link_not_after_at_ms, &res->link_not_after_at_ms, entry->link_not_after_ms);
}

enum code on_create_operator(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__CreateOperatorRequest *req = request;
    char link[OPERATOR_SECRET_MAX];
    struct operator_entry entry;
    struct grant grant;
    struct cause cause;
    TRY(begin(ctx, &cause, st));
    TRY(grant_read(req->roles, req->n_roles, req->label_selector, &grant, st));
    cause.once = once_of(&req->base, ctx->arena);
    TRY(operator_invite(worker_of(ctx)->db, &cause, req->name, &grant,
                        req->has_link_ttl_sec ? req->link_ttl_sec : INVITE_TTL_DEFAULT_SEC, link, ctx->arena,
                        &entry, st));
    invitation_fill(response, &entry, link, ctx->arena);
    return CODE_OK;
}

enum code on_invite_operator(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__InviteOperatorRequest *req = request;
    char link[OPERATOR_SECRET_MAX];
    struct operator_entry entry;
    struct cause cause;
    TRY(begin(ctx, &cause, st));
    cause.once = once_of(&req->base, ctx->arena);
    TRY(operator_invite_again(worker_of(ctx)->db, &cause, req->operator_id,
                              req->has_link_ttl_sec ? req->link_ttl_sec : INVITE_TTL_DEFAULT_SEC, link,
                              ctx->arena, &entry, st));
    invitation_fill(response, &entry, link, ctx->arena);
    return CODE_OK;
}

enum code on_set_operator_grant(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__SetOperatorGrantRequest *req = request;
    struct operator_entry entry;
    struct grant grant;
    struct cause cause;
    TRY(begin(ctx, &cause, st));
    TRY(grant_read(req->roles, req->n_roles, req->label_selector, &grant, st));
    TRY(operator_set_grant(worker_of(ctx)->db, &cause, req->operator_id, &grant, ctx->arena, &entry, st));
    operator_fill(response, &entry, ctx->arena);
    return CODE_OK;
}

static enum code set_disabled(struct rpc_ctx *ctx, const Clm__OperatorRequest *req, bool disabled,
                              void *response, struct status *st)
{
    struct operator_entry entry;
    struct cause cause;
    TRY(begin(ctx, &cause, st));
    TRY(operator_set_disabled(worker_of(ctx)->db, &cause, req->operator_id, disabled, ctx->arena, &entry,
                              st));
    operator_fill(response, &entry, ctx->arena);
    return CODE_OK;
}

enum code on_disable_operator(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    return set_disabled(ctx, request, true, response, st);
}

enum code on_enable_operator(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    return set_disabled(ctx, request, false, response, st);
}

enum code on_list_operator_sessions(struct rpc_ctx *ctx, const void *request, void *response,
                                    struct status *st)
{
    const Clm__OperatorRequest *req = request;
    struct session *sessions;
    struct cause cause;
    size_t n;
    TRY(begin(ctx, &cause, st));
    TRY(operator_sessions(worker_of(ctx)->db, req->operator_id, cause.now_ms, ctx->arena, &sessions, &n, st));
    sessions_fill(response, sessions, n, ctx->arena);
    return CODE_OK;
}

enum code on_end_operator_sessions(struct rpc_ctx *ctx, const void *request, void *response,
                                   struct status *st)
{
    const Clm__OperatorRequest *req = request;
    struct operator_entry entry;
    struct cause cause;
    TRY(begin(ctx, &cause, st));
    TRY(operator_end_sessions(worker_of(ctx)->db, &cause, req->operator_id, ctx->arena, &entry, st));
    operator_fill(response, &entry, ctx->arena);
    return CODE_OK;
}

/* ---- API keys ---- */

static void key_fill(Clm__ApiKeyView *view, const struct api_key_entry *entry, struct arena *arena)
{
    view->id = text(entry->key.id);
    view->name = text(entry->key.name);
    view->roles = roles_of(entry->key.roles, arena, &view->n_roles);
    view->label_selector = text(entry->key.label_selector);
    view->created_by = text(entry->created_by);
    set_time(&view->has_created_at_ms, &view->created_at_ms, entry->created_at_ms);
    set_time(&view->has_expires_at_ms, &view->expires_at_ms, entry->expires_at_ms);
    set_time(&view->has_revoked_at_ms, &view->revoked_at_ms, entry->revoked_at_ms);
    set_time(&view->has_last_used_at_ms, &view->last_used_at_ms, entry->last_used_at_ms);
}

enum code on_list_api_keys(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__ListApiKeysRequest *req = request;
    Clm__ListApiKeysResponse *res = response;
    const char *after = req->page_token && *req->page_token ? req->page_token : NULL;
    struct api_key_entry *entries;
    struct cause cause;
    size_t size, n;
    TRY(begin(ctx, &cause, st));
    TRY(page_size(req->has_page_size, req->page_size, &size, st));
    TRY(api_keys_list(worker_of(ctx)->db, req->ended != 0, after, size + 1, cause.now_ms, ctx->arena,
                      &entries, &n, st));
    res->api_keys = arena_array(ctx->arena, n + 1, sizeof(*res->api_keys));
    for (size_t i = 0; i < n && i < size; i++) {
        Clm__ApiKeyView *view = res->api_keys[res->n_api_keys++] = arena_alloc(ctx->arena, sizeof(*view));
        clm__api_key_view__init(view);
        key_fill(view, &entries[i], ctx->arena);
    }
    if (n > size)
        res->next_page_token = text(entries[size - 1].key.id);
    return CODE_OK;
}

enum code on_get_api_key(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__ApiKeyRequest *req = request;
    struct api_key_entry entry;
    struct cause cause;
    TRY(begin(ctx, &cause, st));
    TRY(api_key_get(worker_of(ctx)->db, req->api_key_id, ctx->arena, &entry, st));
    key_fill(response, &entry, ctx->arena);
    return CODE_OK;
}

enum code on_create_api_key(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__CreateApiKeyRequest *req = request;
    Clm__NewApiKey *res = response;
    char key[API_KEY_TEXT_MAX];
    struct api_key_entry entry;
    struct grant grant;
    struct cause cause;
    TRY(begin(ctx, &cause, st));
    TRY(grant_read(req->roles, req->n_roles, req->label_selector, &grant, st));
    int64_t expires_at_ms =
        req->has_expires_at_ms ? req->expires_at_ms : cause.now_ms + API_KEY_TTL_DEFAULT_MS;
    cause.once = once_of(&req->base, ctx->arena);
    TRY(api_key_issue(worker_of(ctx)->db, &cause, req->name, &grant, expires_at_ms, key, ctx->arena, &entry,
                      st));
    res->api_key = arena_alloc(ctx->arena, sizeof(*res->api_key));
    clm__api_key_view__init(res->api_key);
    key_fill(res->api_key, &entry, ctx->arena);
    res->key = *key ? arena_strdup(ctx->arena, key) : NULL;
    return CODE_OK;
}

enum code on_revoke_api_key(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__ApiKeyRequest *req = request;
    struct api_key_entry entry;
    struct cause cause;
    TRY(begin(ctx, &cause, st));
    TRY(api_key_revoke(worker_of(ctx)->db, &cause, req->api_key_id, ctx->arena, &entry, st));
    key_fill(response, &entry, ctx->arena);
    return CODE_OK;
}
