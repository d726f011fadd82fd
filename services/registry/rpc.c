/* Border of requests: the method table, and protobuf ⇄ the registry's structs. Handlers run on worker
 * threads. */
#include <string.h>

#include "alerts.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "border.h"
#include "drift.h"
#include "proto/bootstrap.pb-c.h"
#include "proto/registry.pb-c.h"
#include "proto/tasks.pb-c.h"
#include "safemode/safemode.h"
#include "scope/scope.h"

#define PAGE_DEFAULT       50
#define PAGE_MAX           500
#define STATES_MAX         1000
#define SNAPSHOT_MAX       500
#define PAGE_BYTES_MAX     (400 * 1024) /* a page may be shorter than asked for: bodies have a limit */
#define TOKEN_TTL_DEFAULT  3600
#define TOKEN_TTL_MIN      60
#define TOKEN_TTL_MAX      (7 * 24 * 3600)
#define TOKEN_CALL_MS      10000
#define STATISTICS_CALL_MS 2000

static char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

static struct worker *worker_of(const struct rpc_ctx *ctx)
{
    return ctx->worker;
}

static struct cause cause_of(const struct rpc_ctx *ctx)
{
    return (struct cause){
        .actor = ctx->actor.id,
        .traceparent = ctx->traceparent,
        .now_ms = clock_wall_ms(),
        .timing = registry_timing(worker_of(ctx)->service),
    };
}

/* ---- views
 * -------------------------------------------------------------------------------------------------------- */

static void set_time(protobuf_c_boolean *has, int64_t *field, int64_t ms)
{
    *has = ms >= 0;
    *field = ms >= 0 ? ms : 0;
}

static Clm__Label **labels_of(const struct agent *agent, struct arena *arena)
{
    Clm__Label **out = arena_array(arena, agent->n_labels + 1, sizeof(*out));
    for (size_t i = 0; i < agent->n_labels; i++) {
        out[i] = arena_alloc(arena, sizeof(**out));
        clm__label__init(out[i]);
        out[i]->name = text(agent->labels[i].name);
        out[i]->value = text(agent->labels[i].value);
    }
    return out;
}

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

/* ---- operators
 * ------------------------------------------------------------------------------------------------------ */

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

static enum code on_authenticate(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__AuthenticateRequest *req = request;
    Clm__AuthenticateResponse *res = response;
    struct worker *worker = worker_of(ctx);
    const struct registry_config *config = service_get_config(worker->service);
    int64_t now_ms = clock_wall_ms();
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
    }
    struct bytes assertion;
    TRY(assertion_make(service_identity(worker->service), &actor, config->assertion_life_ms, ctx->arena,
                       &assertion, st));
    res->has_assertion = true;
    res->assertion = (ProtobufCBinaryData){assertion.len, (uint8_t *)(uintptr_t)assertion.data};
    res->actor = text(actor.id);
    res->has_not_after_at_ms = true;
    res->not_after_at_ms = now_ms + config->assertion_life_ms;
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

static enum code on_login(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__LoginRequest *req = request;
    char secret[OPERATOR_SECRET_MAX];
    struct session session;
    TRY(operator_login(worker_of(ctx)->db, req->name, req->password, req->source ? req->source : "",
                       clock_wall_ms(), secret, ctx->arena, &session, st));
    fill_new_session(response, &session, secret, ctx->arena);
    return CODE_OK;
}

static enum code on_redeem_link(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
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

static enum code on_get_session(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
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

static enum code on_list_sessions(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
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

static enum code on_end_session(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__EndSessionRequest *req = request;
    const char *name = NULL;
    struct session session;
    TRY(operator_of(ctx, &name, st));
    TRY(session_end(worker_of(ctx)->db, name, req->session_id, clock_wall_ms(), ctx->arena, &session, st));
    fill_session(response, &session, ctx->arena);
    return CODE_OK;
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
};

static enum code make_token(struct rpc_ctx *ctx, const struct agent *agent, const struct token_wish *wish,
                            Clm__RegisterAgentResponse *res, uint32_t *ret_next_generation, struct status *st)
{
    struct worker *worker = worker_of(ctx);
    Clm__CreateTokenRequest req = CLM__CREATE_TOKEN_REQUEST__INIT;
    req.agent_id = text(agent->id);
    req.hostname = text(agent->hostname);
    req.has_ttl_sec = true;
    req.ttl_sec = wish->ttl_sec;
    req.hostname_pattern = wish->hostname_pattern;
    req.source_cidr = wish->source_cidr;
    req.scope = scope_decode(agent->scope, ctx->arena);
    int64_t left_ms = ctx->deadline_mono_ms - clock_mono_ms();
    const struct rpc_call call = {
        .service = "bootstrap",
        .descriptor = &clm__bootstrap__descriptor,
        .method = "CreateToken",
        .request = &req.base,
        .timeout_ms = left_ms < TOKEN_CALL_MS ? left_ms : TOKEN_CALL_MS,
        .traceparent = ctx->traceparent,
        .assertion = ctx->assertion,
        .authority = true,
    };
    ProtobufCMessage *reply = NULL;
    if (rpc_call(service_bus(worker->service), service_identity(worker->service), &call, ctx->arena, &reply,
                 st) != CODE_OK)
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

static enum code on_register_agent(struct rpc_ctx *ctx, const void *request, void *response,
                                   struct status *st)
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
    const struct token_wish wish = {ttl_sec, req->token_hostname_pattern, req->token_source_cidr};
    uint32_t next;
    return needs_token ? make_token(ctx, agent, &wish, res, &next, st) : CODE_OK;
}

static enum code on_get_agent(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
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

static enum code on_list_agents(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
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

static enum code on_disable_agent(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__DisableAgentRequest *req = request;
    struct cause cause = cause_of(ctx);
    cause.if_version = (int64_t)req->if_version;
    struct agent agent;
    TRY(agent_disable(worker_of(ctx)->db, &cause, ctx->actor.label_selector, req->agent_id,
                      req->reason ? req->reason : "", ctx->arena, &agent, st));
    fill_view(response, &agent, ctx->arena);
    return CODE_OK;
}

static enum code on_enable_agent(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
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

static enum code on_delete_agent(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__AgentRequest *req = request;
    const struct cause cause = cause_of(ctx);
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

static enum code on_set_agent_labels(struct rpc_ctx *ctx, const void *request, void *response,
                                     struct status *st)
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

static enum code on_set_agent_scope(struct rpc_ctx *ctx, const void *request, void *response,
                                    struct status *st)
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

static enum code on_revoke_agent(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
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

static enum code on_unfreeze_agent(struct rpc_ctx *ctx, const void *request, void *response,
                                   struct status *st)
{
    const Clm__AgentRequest *req = request;
    const struct cause cause = cause_of(ctx);
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

static enum code on_enter_safe_mode(struct rpc_ctx *ctx, const void *request, void *response,
                                    struct status *st)
{
    return safe_mode(ctx, request, true, response, st);
}

static enum code on_leave_safe_mode(struct rpc_ctx *ctx, const void *request, void *response,
                                    struct status *st)
{
    return safe_mode(ctx, request, false, response, st);
}

static enum code on_create_agent_token(struct rpc_ctx *ctx, const void *request, void *response,
                                       struct status *st)
{
    const Clm__CreateAgentTokenRequest *req = request;
    Clm__RegisterAgentResponse *res = response;
    uint32_t ttl_sec = req->has_token_ttl_sec ? req->token_ttl_sec : TOKEN_TTL_DEFAULT, next;
    if (ttl_sec < TOKEN_TTL_MIN || ttl_sec > TOKEN_TTL_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "tokenTtlSec: between %d and %d", TOKEN_TTL_MIN,
                          TOKEN_TTL_MAX);
    const struct cause cause = cause_of(ctx);
    struct agent *agent = arena_alloc(ctx->arena, sizeof(*agent));
    TRY(agent_get(worker_of(ctx)->db, ctx->actor.label_selector, req->agent_id, ctx->arena, agent, st));
    TRY(agent_may_have_token(agent, req->has_force && req->force, cause.now_ms, st));
    const struct token_wish wish = {ttl_sec, req->token_hostname_pattern, req->token_source_cidr};
    TRY(make_token(ctx, agent, &wish, res, &next, st));
    TRY(agent_readmit(worker_of(ctx)->db, &cause, ctx->actor.label_selector, req->agent_id, next, ctx->arena,
                      agent, st));
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
    int64_t left_ms = ctx->deadline_mono_ms - clock_mono_ms();
    const struct rpc_call call = {
        .service = "bootstrap",
        .descriptor = &clm__bootstrap__descriptor,
        .method = method,
        .request = request,
        .timeout_ms = left_ms < TOKEN_CALL_MS ? left_ms : TOKEN_CALL_MS,
        .traceparent = ctx->traceparent,
        .assertion = ctx->assertion,
        .authority = authority,
    };
    return rpc_call(service_bus(worker->service), service_identity(worker->service), &call, ctx->arena, ret,
                    st);
}

static enum code on_list_agent_tokens(struct rpc_ctx *ctx, const void *request, void *response,
                                      struct status *st)
{
    const Clm__AgentRequest *req = request;
    Clm__ListTokensRequest ask = CLM__LIST_TOKENS_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    ask.agent_id = req->agent_id;
    TRY(ask_bootstrap(ctx, req->agent_id, "ListTokens", &ask.base, false, &reply, st));
    *(Clm__ListTokensResponse *)response = *(const Clm__ListTokensResponse *)reply;
    return CODE_OK;
}

static enum code on_list_agent_identities(struct rpc_ctx *ctx, const void *request, void *response,
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

static enum code on_revoke_agent_token(struct rpc_ctx *ctx, const void *request, void *response,
                                       struct status *st)
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

static enum code on_report_superseded(struct rpc_ctx *ctx, const void *request, void *response,
                                      struct status *st)
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
    struct worker *worker = worker_of(ctx);
    int64_t left_ms = ctx->deadline_mono_ms - clock_mono_ms();
    const struct rpc_call call = {
        .service = "tasks",
        .descriptor = &clm__tasks__descriptor,
        .method = method,
        .request = request,
        .timeout_ms = left_ms < most_ms ? left_ms : most_ms,
        .traceparent = ctx->traceparent,
        .assertion = ctx->assertion,
        .authority = authority,
    };
    return rpc_call(service_bus(worker->service), service_identity(worker->service), &call, ctx->arena, ret,
                    st);
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

static enum code on_get_agent_jobs(struct rpc_ctx *ctx, const void *request, void *response,
                                   struct status *st)
{
    const Clm__AgentRequest *req = request;
    struct agent agent;
    ProtobufCMessage *reply = NULL;
    TRY(agent_get(worker_of(ctx)->db, ctx->actor.label_selector, req->agent_id, ctx->arena, &agent, st));
    Clm__GetAgentJobsRequest ask = CLM__GET_AGENT_JOBS_REQUEST__INIT;
    ask.agent_id = req->agent_id;
    TRY(ask_tasks(ctx, "GetAgentJobs", &ask.base, true, TOKEN_CALL_MS, &reply, st));
    *(Clm__AgentJobs *)response = *(const Clm__AgentJobs *)reply;
    return CODE_OK;
}

static enum code on_get_dashboard(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
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

/* ---- gateways and projections
 * ----------------------------------------------------------------------------------------- */

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

static enum code on_report_heartbeats(struct rpc_ctx *ctx, const void *request, void *response,
                                      struct status *st)
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

static enum code on_list_agent_states(struct rpc_ctx *ctx, const void *request, void *response,
                                      struct status *st)
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

static enum code on_list_agent_snapshot(struct rpc_ctx *ctx, const void *request, void *response,
                                        struct status *st)
{
    const Clm__ListAgentSnapshotRequest *req = request;
    Clm__ListAgentSnapshotResponse *res = response;
    size_t size = page_size(req->has_page_size, req->page_size, SNAPSHOT_MAX);
    struct agent *agents;
    size_t n, bytes = 0;
    TRY(agents_page(worker_of(ctx)->db, req->after_agent_id, size + 1, ctx->arena, &agents, &n, st));
    res->agents = arena_array(ctx->arena, n + 1, sizeof(*res->agents));
    while (res->n_agents < n && res->n_agents < size) {
        const struct agent *agent = &agents[res->n_agents];
        bytes += agent->scope.len + 512;
        if (res->n_agents > 0 && bytes > PAGE_BYTES_MAX)
            break;
        Clm__AgentSnapshot *s = res->agents[res->n_agents++] = arena_alloc(ctx->arena, sizeof(*s));
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

const struct rpc_method registry_methods[] = {
    {"Authenticate", on_authenticate},
    {"RegisterAgent", on_register_agent},
    {"GetAgent", on_get_agent},
    {"ListAgents", on_list_agents},
    {"DisableAgent", on_disable_agent},
    {"EnableAgent", on_enable_agent},
    {"GetDashboard", on_get_dashboard},
    {"GetAgentJobs", on_get_agent_jobs},
    {"Login", on_login},
    {"RedeemLink", on_redeem_link},
    {"GetSession", on_get_session},
    {"ListSessions", on_list_sessions},
    {"EndSession", on_end_session},
    {"SeeAgents", on_see_agents},
    {"SetAgentLabels", on_set_agent_labels},
    {"SetAgentScope", on_set_agent_scope},
    {"ListOperators", on_list_operators},
    {"GetOperator", on_get_operator},
    {"CreateOperator", on_create_operator},
    {"InviteOperator", on_invite_operator},
    {"SetOperatorGrant", on_set_operator_grant},
    {"DisableOperator", on_disable_operator},
    {"EnableOperator", on_enable_operator},
    {"ListOperatorSessions", on_list_operator_sessions},
    {"EndOperatorSessions", on_end_operator_sessions},
    {"ListApiKeys", on_list_api_keys},
    {"GetApiKey", on_get_api_key},
    {"CreateApiKey", on_create_api_key},
    {"RevokeApiKey", on_revoke_api_key},
    {"ReportHeartbeats", on_report_heartbeats},
    {"ListAgentStates", on_list_agent_states},
    {"ListAgentSnapshot", on_list_agent_snapshot},
    {"ListAudit", on_list_audit},
    {"GetAuditHead", on_get_audit_head},
    {"ListAuditHeads", on_list_audit_heads},
    {"GetAuditProof", on_get_audit_proof},
    {"GetAuditConsistency", on_get_audit_consistency},
    {"ListFleetHeads", on_list_fleet_heads},
    {"GetFleetConsistency", on_get_fleet_consistency},
    {"DeclareRestored", on_declare_restored},
    {"CosignHead", on_cosign_head},
    {"ListCosignatures", on_list_cosignatures},
    {"ReportRefusals", on_report_refusals},
    {"ListAlerts", on_list_alerts},
    {"AcknowledgeAlert", on_acknowledge_alert},
    {"ResolveAlert", on_resolve_alert},
    {"ListActivity", on_list_activity},
    {"RevokeAgent", on_revoke_agent},
    {"UnfreezeAgent", on_unfreeze_agent},
    {"EnterSafeMode", on_enter_safe_mode},
    {"LeaveSafeMode", on_leave_safe_mode},
    {"CreateAgentToken", on_create_agent_token},
    {"ListAgentTokens", on_list_agent_tokens},
    {"RevokeAgentToken", on_revoke_agent_token},
    {"ListAgentIdentities", on_list_agent_identities},
    {"ReportSuperseded", on_report_superseded},
    {"DeleteAgent", on_delete_agent},
    {"GetPlatform", on_get_platform},
    {"EnterPlatformSafeMode", on_enter_platform_safe_mode},
    {"LeavePlatformSafeMode", on_leave_platform_safe_mode},
    {"GetAgentMetrics", on_get_agent_metrics},
    {"ListCertificates", on_list_certificates},
};
const size_t registry_n_methods = ARRAY_LEN(registry_methods);
