/* Agents: registered, listed, changed, and their tokens and identities. Handlers run on worker threads. */
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "border.h"
#include "proto/bootstrap.pb-c.h"
#include "proto/registry.pb-c.h"
#include "safemode/safemode.h"
#include "scope/scope.h"

#define PAGE_DEFAULT      50
#define PAGE_MAX          500
#define TOKEN_TTL_DEFAULT 3600
#define TOKEN_TTL_MIN     60
#define TOKEN_TTL_MAX     (7 * 24 * 3600)
#define TOKEN_CALL_MS     10000

#define DAY_MS (24LL * 3600 * 1000)

/* Whole days, rounded down: 0 is less than a day, -1 less than a day since. */
static int32_t days_until(int64_t at_ms)
{
    int64_t left = at_ms - clock_wall_ms();
    return (int32_t)(left >= 0 ? left / DAY_MS : -((-left + DAY_MS - 1) / DAY_MS));
}

static void fill_view(Clm__AgentView *view, const struct agent *agent, struct arena *arena)
{
    view->id = text(agent->id);
    view->hostname = text(agent->hostname);
    view->has_status = true;
    view->status = (Clm__Agent__Status)agent->status;
    view->has_safe_mode = true;
    view->safe_mode = agent_in_safe_mode(agent) || agent->status == AGENT_SAFE_MODE;
    const char *reason = agent_reason(agent);
    view->reason = *reason ? text(reason) : NULL;
    const struct safe_reason_info *info = agent->status == AGENT_SAFE_MODE ? safe_reason_find(reason) : NULL;
    view->safe_mode_ends = info ? text(info->ends) : NULL;
    set_time(&view->has_status_since_at_ms, &view->status_since_at_ms, agent->status_since_ms);
    view->labels = labels_of(agent, arena);
    view->n_labels = agent->n_labels;
    view->scope = scope_decode(agent->scope, arena);
    set_time(&view->has_created_at_ms, &view->created_at_ms, agent->created_at_ms);
    set_time(&view->has_bootstrapped_at_ms, &view->bootstrapped_at_ms, agent->bootstrapped_at_ms);
    set_time(&view->has_last_heartbeat_at_ms, &view->last_heartbeat_at_ms, agent->last_heartbeat_at_ms);
    view->has_generation = agent->identity_generation >= 0;
    view->generation = (uint32_t)agent->generation;
    view->identity_fingerprint_sha256 = text(agent->identity_fingerprint);
    set_time(&view->has_identity_not_after_at_ms, &view->identity_not_after_at_ms,
             agent->identity_not_after_ms);
    ProtobufCMessage *facts = NULL;
    if (agent->facts.data && wire_unpack(&clm__host_facts__descriptor, agent->facts.data, agent->facts.len,
                                         arena, &facts, NULL) == CODE_OK)
        view->facts = (Clm__HostFacts *)facts;
    view->has_identity_days_left = agent->identity_not_after_ms >= 0;
    view->identity_days_left = days_until(agent->identity_not_after_ms);
    view->has_clock_skew_ms = agent->last_heartbeat_at_ms >= 0;
    view->clock_skew_ms = agent->clock_skew_ms;
    view->has_version = true;
    view->version = (uint64_t)agent->version;
}

static struct bytes requested_scope(const Clm__Scope *asked, struct arena *arena)
{
    static const Clm__Task__Kind harmless[] = {CLM__TASK__KIND__VALIDATE, CLM__TASK__KIND__DISCOVER};
    Clm__Scope scope = CLM__SCOPE__INIT;
    if (asked) {
        scope = *asked;
    } else {
        scope.n_operations = ARRAY_LEN(harmless);
        scope.operations = (Clm__Task__Kind *)(uintptr_t)harmless;
    }
    scope.has_version = true;
    scope.version = 1;
    return scope_encode(&scope, arena);
}

/* What an operator says of a token. */
struct token_wish {
    uint32_t ttl_sec;
    char *hostname_pattern, *source_cidr; /* NULL: none */
    const char *id;                       /* NULL: a new one each time */
};

static enum code call_bootstrap(struct rpc_ctx *ctx, const char *method, const ProtobufCMessage *request,
                                bool authority, ProtobufCMessage **ret, struct status *st)
{
    const struct rpc_call call = {
        .service = "bootstrap",
        .descriptor = &clm__bootstrap__descriptor,
        .method = method,
        .request = request,
        .timeout_ms = TOKEN_CALL_MS,
        .authority = authority,
    };
    return worker_call(worker_of(ctx), ctx, &call, ret, st);
}

static enum code make_token(struct rpc_ctx *ctx, const struct agent *agent, const struct token_wish *wish,
                            Clm__RegisterAgentResponse *res, uint32_t *ret_next_generation, struct status *st)
{
    Clm__CreateTokenRequest req = CLM__CREATE_TOKEN_REQUEST__INIT;
    req.agent_id = text(agent->id);
    req.hostname = text(agent->hostname);
    req.has_ttl_sec = true;
    req.ttl_sec = wish->ttl_sec;
    req.hostname_pattern = wish->hostname_pattern;
    req.source_cidr = wish->source_cidr;
    req.token_id = text(wish->id);
    req.scope = scope_decode(agent->scope, ctx->arena);
    ProtobufCMessage *reply = NULL;
    if (call_bootstrap(ctx, "CreateToken", &req.base, true, &reply, st) != CODE_OK)
        return status_wrap(
            st, "agent %s is registered, but its token was not made; repeat with the same idempotency key",
            agent->id);
    const Clm__CreateTokenResponse *token = (const Clm__CreateTokenResponse *)reply;
    *ret_next_generation = token->next_generation;
    res->token = token->token;
    res->token_id = token->token_id;
    res->has_token_not_after_at_ms = token->has_not_after_at_ms;
    res->token_not_after_at_ms = token->not_after_at_ms;
    return CODE_OK;
}

enum code on_register_agent(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__RegisterAgentRequest *req = request;
    Clm__RegisterAgentResponse *res = response;
    uint32_t ttl_sec = req->has_token_ttl_sec ? req->token_ttl_sec : TOKEN_TTL_DEFAULT;
    if (ttl_sec < TOKEN_TTL_MIN || ttl_sec > TOKEN_TTL_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "tokenTtlSec: between %d and %d", TOKEN_TTL_MIN,
                          TOKEN_TTL_MAX);
    struct label *labels = arena_array(ctx->arena, req->n_labels + 1, sizeof(*labels));
    for (size_t i = 0; i < req->n_labels; i++)
        labels[i] = (struct label){req->labels[i]->name, req->labels[i]->value ? req->labels[i]->value : ""};
    const struct registration in = {
        .hostname = req->hostname,
        .labels = labels,
        .n_labels = req->n_labels,
        .scope = requested_scope(req->scope, ctx->arena),
        .idempotency_key = req->idempotency_key && *req->idempotency_key ? req->idempotency_key : NULL,
    };
    const struct cause cause = cause_of(ctx);
    struct agent *agent = arena_alloc(ctx->arena, sizeof(*agent));
    bool needs_token;
    TRY(agent_register(worker_of(ctx)->db, &cause, ctx->actor.label_selector, &in, ctx->arena, agent,
                       &needs_token, st));
    res->agent = arena_alloc(ctx->arena, sizeof(*res->agent));
    clm__agent_view__init(res->agent);
    fill_view(res->agent, agent, ctx->arena);
    const struct token_wish wish = {ttl_sec, req->token_hostname_pattern, req->token_source_cidr, NULL};
    uint32_t next;
    return needs_token ? make_token(ctx, agent, &wish, res, &next, st) : CODE_OK;
}

enum code on_get_agent(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__GetAgentRequest *req = request;
    struct agent agent;
    TRY(agent_get(worker_of(ctx)->db, ctx->actor.label_selector, req->agent_id, ctx->arena, &agent, st));
    fill_view(response, &agent, ctx->arena);
    return metrics_fill_view(worker_of(ctx)->db, response, ctx->arena, st);
}

/* "<sort>|<key>|<id>" in base64url; by id the token is the id. */
static enum code place_read(const char *token, const struct agent_filter *filter, struct arena *arena,
                            struct agent_place *ret, struct status *st)
{
    *ret = (struct agent_place){0};
    if (!token || !*token)
        return CODE_OK;
    size_t len = 0, size = strlen(token) / 4 * 3 + 4;
    char *text_ = arena_alloc(arena, size);
    char *first = NULL, *second = NULL;
    if (filter->sort == AGENTS_BY_ID && uuid_valid(token)) {
        ret->id = token;
        return CODE_OK;
    }
    if (base64url_decode(token, strlen(token), (uint8_t *)text_, size - 1, &len)) {
        text_[len] = '\0';
        first = strlen(text_) == len ? strchr(text_, '|') : NULL;
        second = first ? strrchr(text_, '|') : NULL;
    }
    if (!second || second == first || first != text_ + 1 || text_[0] != '0' + (char)filter->sort ||
        !uuid_valid(second + 1))
        return status_set(st, CODE_INVALID_ARGUMENT, "pageToken: not one that this list gave");
    *second = '\0';
    *ret = (struct agent_place){.key = first + 1, .id = second + 1};
    return CODE_OK;
}

static char *place_write(const struct agent *last, const struct agent_filter *filter, struct arena *arena)
{
    struct agent_place place = agent_place_of(last, filter->sort, arena);
    if (filter->sort == AGENTS_BY_ID)
        return text(place.id);
    const char *plain = arena_printf(arena, "%d|%s|%s", (int)filter->sort, place.key, place.id);
    size_t size = strlen(plain) * 4 / 3 + 5;
    char *out = arena_alloc(arena, size);
    (void)base64url_encode(plain, strlen(plain), out, size);
    return out;
}

enum code on_list_agents(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__ListAgentsRequest *req = request;
    Clm__ListAgentsResponse *res = response;
    size_t size = req->has_page_size && req->page_size > 0 ? req->page_size : PAGE_DEFAULT;
    if (size > PAGE_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "pageSize: at most %d", PAGE_MAX);
    struct agent_filter filter = {
        .selector = ctx->actor.label_selector,
        .search = req->search,
        .labels = (const char *const *)req->label,
        .n_labels = req->n_label,
        .version = req->version,
        .expires_before_ms = req->expires_before_at_ms,
        .sort =
            req->has_sort ? (enum agent_sort)(req->sort - CLM__LIST_AGENTS_REQUEST__SORT__ID) : AGENTS_BY_ID,
        .descending = req->descending != 0,
    };
    for (size_t i = 0; i < req->n_status; i++)
        filter.status_bits |= 1u << (unsigned)req->status[i];
    struct agent_place after;
    struct agent *agents;
    size_t n;
    TRY(place_read(req->page_token, &filter, ctx->arena, &after, st));
    TRY(agents_list(worker_of(ctx)->db, &filter, &after, size + 1, ctx->arena, &agents, &n, st));
    res->agents = arena_array(ctx->arena, n + 1, sizeof(*res->agents));
    for (size_t bytes = 0; res->n_agents < n && res->n_agents < size; res->n_agents++) {
        Clm__AgentView *view = arena_alloc(ctx->arena, sizeof(*view));
        clm__agent_view__init(view);
        fill_view(view, &agents[res->n_agents], ctx->arena);
        bytes += clm__agent_view__get_packed_size(view);
        if (res->n_agents > 0 && bytes > PAGE_BYTES_MAX)
            break;
        res->agents[res->n_agents] = view;
    }
    if (res->n_agents < n)
        res->next_page_token = place_write(&agents[res->n_agents - 1], &filter, ctx->arena);
    return CODE_OK;
}

enum code on_disable_agent(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__DisableAgentRequest *req = request;
    struct cause cause = cause_of(ctx);
    cause.if_version = (int64_t)req->if_version;
    struct agent agent;
    const char *reason = req->reason ? req->reason : "";
    TRY(disabled_reason_check(reason, st));
    TRY(agent_disable(worker_of(ctx)->db, &cause, ctx->actor.label_selector, req->agent_id, reason,
                      ctx->arena, &agent, st));
    fill_view(response, &agent, ctx->arena);
    return CODE_OK;
}

enum code on_enable_agent(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__EnableAgentRequest *req = request;
    struct cause cause = cause_of(ctx);
    cause.if_version = (int64_t)req->if_version;
    struct agent agent;
    TRY(agent_enable(worker_of(ctx)->db, &cause, ctx->actor.label_selector, req->agent_id, ctx->arena, &agent,
                     st));
    fill_view(response, &agent, ctx->arena);
    return CODE_OK;
}

enum code on_delete_agent(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__AgentRequest *req = request;
    struct cause cause = cause_of(ctx);
    cause.if_version = (int64_t)req->if_version;
    struct agent agent;
    TRY(agent_delete(worker_of(ctx)->db, &cause, ctx->actor.label_selector, req->agent_id, ctx->arena, &agent,
                     st));
    fill_view(response, &agent, ctx->arena);
    return CODE_OK;
}

/* ---- labels and scope ---- */

static enum code labels_read(Clm__Label *const *in, size_t n, struct arena *arena, struct label **ret)
{
    *ret = arena_array(arena, n + 1, sizeof(**ret));
    for (size_t i = 0; i < n; i++)
        (*ret)[i] = (struct label){in[i]->name, in[i]->value ? in[i]->value : ""};
    return CODE_OK;
}

enum code on_set_agent_labels(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__SetAgentLabelsRequest *req = request;
    struct cause cause = cause_of(ctx);
    cause.if_version = (int64_t)req->if_version;
    struct label *labels;
    struct agent agent;
    TRY(labels_read(req->labels, req->n_labels, ctx->arena, &labels));
    TRY(agent_set_labels(worker_of(ctx)->db, &cause, ctx->actor.label_selector, req->agent_id, labels,
                         req->n_labels, ctx->arena, &agent, st));
    fill_view(response, &agent, ctx->arena);
    return CODE_OK;
}

struct wanted_scope {
    const Clm__Scope *scope;
    bool may_widen;
};

static struct scope scope_of(const Clm__Scope *in)
{
    struct scope scope = {.paths = in->paths,
                          .n_paths = in->n_paths,
                          .dns_names = in->dns_names,
                          .n_dns_names = in->n_dns_names};
    for (size_t i = 0; i < in->n_operations; i++)
        scope.operations |= SCOPE_OPERATION(in->operations[i]);
    return scope;
}

static enum code derive_scope(struct bytes now, void *arg, struct arena *arena, struct bytes *ret,
                              struct status *st)
{
    const struct wanted_scope *wanted = arg;
    const Clm__Scope *present = scope_decode(now, arena);
    const struct scope outer = scope_of(present), inner = scope_of(wanted->scope);
    if (!wanted->may_widen && !scope_covers(&outer, &inner))
        return status_set(st, CODE_PERMISSION_DENIED,
                          "this widens what the agent may be asked; that needs the role admin");
    Clm__Scope next = *wanted->scope;
    next.has_version = true;
    next.version = present->version + 1;
    *ret = scope_encode(&next, arena);
    return CODE_OK;
}

enum code on_set_agent_scope(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__SetAgentScopeRequest *req = request;
    struct cause cause = cause_of(ctx);
    cause.if_version = (int64_t)req->if_version;
    struct wanted_scope wanted = {req->scope, (ctx->actor.roles & ROLES_ADMIN) != 0};
    const struct scope_change change = {derive_scope, &wanted};
    struct agent agent;
    if (req->scope->has_version)
        return status_set(st, CODE_INVALID_ARGUMENT, "scope.version: the platform counts it");
    TRY(agent_set_scope(worker_of(ctx)->db, &cause, ctx->actor.label_selector, req->agent_id, &change,
                        ctx->arena, &agent, st));
    fill_view(response, &agent, ctx->arena);
    return CODE_OK;
}

enum code on_revoke_agent(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__AgentRequest *req = request;
    struct cause cause = cause_of(ctx);
    cause.if_version = (int64_t)req->if_version;
    struct agent agent;
    TRY(agent_disable(worker_of(ctx)->db, &cause, ctx->actor.label_selector, req->agent_id, "revoked",
                      ctx->arena, &agent, st));
    fill_view(response, &agent, ctx->arena);
    return CODE_OK;
}

enum code on_unfreeze_agent(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__AgentRequest *req = request;
    struct cause cause = cause_of(ctx);
    cause.if_version = (int64_t)req->if_version;
    struct agent agent;
    TRY(agent_unfreeze(worker_of(ctx)->db, &cause, ctx->actor.label_selector, req->agent_id, ctx->arena,
                       &agent, st));
    fill_view(response, &agent, ctx->arena);
    return CODE_OK;
}

static enum code safe_mode(struct rpc_ctx *ctx, const Clm__AgentRequest *req, bool on, void *response,
                           struct status *st)
{
    struct cause cause = cause_of(ctx);
    cause.if_version = (int64_t)req->if_version;
    struct agent agent;
    TRY(agent_set_safe_mode(worker_of(ctx)->db, &cause, ctx->actor.label_selector, req->agent_id, on,
                            ctx->arena, &agent, st));
    fill_view(response, &agent, ctx->arena);
    return CODE_OK;
}

enum code on_enter_safe_mode(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    return safe_mode(ctx, request, true, response, st);
}

enum code on_leave_safe_mode(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    return safe_mode(ctx, request, false, response, st);
}

enum code on_create_agent_token(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__CreateAgentTokenRequest *req = request;
    Clm__RegisterAgentResponse *res = response;
    uint32_t ttl_sec = req->has_token_ttl_sec ? req->token_ttl_sec : TOKEN_TTL_DEFAULT, next;
    if (ttl_sec < TOKEN_TTL_MIN || ttl_sec > TOKEN_TTL_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "tokenTtlSec: between %d and %d", TOKEN_TTL_MIN,
                          TOKEN_TTL_MAX);
    struct db *db = worker_of(ctx)->db;
    const char *selector = ctx->actor.label_selector;
    struct cause cause = cause_of(ctx);
    struct agent *agent = arena_alloc(ctx->arena, sizeof(*agent));
    struct token_wish wish = {ttl_sec, req->token_hostname_pattern, req->token_source_cidr, NULL};
    cause.once = once_of(&req->base, ctx->arena);
    TRY(agent_token_begin(db, &cause, selector, req->agent_id, req->has_force && req->force, ctx->arena,
                          agent, &wish.id, st));
    TRY(make_token(ctx, agent, &wish, res, &next, st));
    if (res->token) /* one that was used, or revoked, lets nobody in again */
        TRY(agent_readmit(db, &cause, selector, req->agent_id, next, ctx->arena, agent, st));
    res->agent = arena_alloc(ctx->arena, sizeof(*res->agent));
    clm__agent_view__init(res->agent);
    fill_view(res->agent, agent, ctx->arena);
    return CODE_OK;
}

/* The operator's grant is the registry's to check; tokens and identities are bootstrap's. *ret: the reply. */
static enum code ask_bootstrap(struct rpc_ctx *ctx, const char *agent_id, const char *method,
                               const ProtobufCMessage *request, bool authority, ProtobufCMessage **ret,
                               struct status *st)
{
    struct worker *worker = worker_of(ctx);
    struct agent agent;
    TRY(agent_get(worker->db, ctx->actor.label_selector, agent_id, ctx->arena, &agent, st));
    return call_bootstrap(ctx, method, request, authority, ret, st);
}

enum code on_list_agent_tokens(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__AgentRequest *req = request;
    Clm__ListTokensRequest ask = CLM__LIST_TOKENS_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    ask.agent_id = req->agent_id;
    TRY(ask_bootstrap(ctx, req->agent_id, "ListTokens", &ask.base, false, &reply, st));
    *(Clm__ListTokensResponse *)response = *(const Clm__ListTokensResponse *)reply;
    return CODE_OK;
}

enum code on_list_agent_identities(struct rpc_ctx *ctx, const void *request, void *response,
                                   struct status *st)
{
    const Clm__AgentRequest *req = request;
    Clm__ListAgentIdentitiesRequest ask = CLM__LIST_AGENT_IDENTITIES_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    ask.agent_id = req->agent_id;
    TRY(ask_bootstrap(ctx, req->agent_id, "ListAgentIdentities", &ask.base, false, &reply, st));
    *(Clm__ListAgentIdentitiesResponse *)response = *(const Clm__ListAgentIdentitiesResponse *)reply;
    return CODE_OK;
}

enum code on_revoke_agent_token(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__RevokeAgentTokenRequest *req = request;
    Clm__RevokeTokenRequest ask = CLM__REVOKE_TOKEN_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    ask.agent_id = req->agent_id;
    ask.token_id = req->token_id;
    TRY(ask_bootstrap(ctx, req->agent_id, "RevokeToken", &ask.base, true, &reply, st));
    *(Clm__ListTokensResponse *)response = *(const Clm__ListTokensResponse *)reply;
    return CODE_OK;
}
