/*
 * The methods and events of clm-bootstrap: protobuf in, a use case, protobuf out. The edge of the service:
 * what is worth a line in the log is logged here, once. Worker threads.
 */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "border.h"
#include "confirm.h"
#include "crl.h"
#include "enrol.h"
#include "epoch.h"
#include "farewell.h"
#include "identities.h"
#include "projection.h"
#include "proto/bootstrap.pb-c.h"
#include "proto/event.pb-c.h"
#include "renew.h"
#include "safemode/safemode.h"
#include "service_cert.h"
#include "sign.h"
#include "tokens.h"

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

static struct bytes bytes_of(ProtobufCBinaryData in)
{
    return (struct bytes){in.data, in.len};
}

/* The reply is packed while the arena lives; nothing changes what is behind the pointer. */
static ProtobufCBinaryData binary(struct bytes bytes)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)bytes.data, .len = bytes.len};
}

static ProtobufCBinaryData *binary_array(struct arena *arena, const struct bytes *bytes, size_t n)
{
    ProtobufCBinaryData *array = arena_array(arena, n, sizeof(*array));
    for (size_t i = 0; i < n; i++)
        array[i] = binary(bytes[i]);
    return array;
}

static struct app *app_of(const struct request *req)
{
    const struct border *border = req->border;
    return service_state(border->worker->service);
}

void request_init(struct request *req, struct border *border, struct worker *worker,
                  const struct rpc_ctx *rpc, struct arena *arena)
{
    struct app *app = service_state(worker->service);
    *border = (struct border){.worker = worker, .rpc = rpc};
    *req = (struct request){
        .db = worker->db,
        .arena = arena,
        .settings = &app->settings,
        .signer = app->signer,
        .throttle = app->throttle,
        .actor = rpc && rpc->actor.id && rpc->actor.id[0] ? rpc->actor.id : "service:bootstrap",
        .traceparent = rpc ? rpc->traceparent : NULL,
        .border = border,
    };
}

#define BEGIN_REQUEST(ctx)                                                                                   \
    struct request req;                                                                                      \
    struct border border;                                                                                    \
    request_init(&req, &border, (ctx)->worker, ctx, (ctx)->arena)

static void read_scope(struct arena *arena, const Clm__Scope *in, struct scope_row *ret)
{
    if (!in)
        return;
    int64_t *operations = arena_array(arena, in->n_operations + 1, sizeof(*operations));
    for (size_t i = 0; i < in->n_operations; i++)
        operations[i] = (int64_t)in->operations[i];
    ret->scope_version = in->version;
    ret->operations = operations;
    ret->n_operations = in->n_operations;
    ret->paths = (const char *const *)in->paths;
    ret->n_paths = in->n_paths;
    ret->dns_names = (const char *const *)in->dns_names;
    ret->n_dns_names = in->n_dns_names;
}

/* ---- methods ----------------------------------------------------------------------------------------------
 */

static enum code handle_create_token(struct rpc_ctx *ctx, const void *request, void *response,
                                     struct status *st)
{
    const Clm__CreateTokenRequest *in = request;
    Clm__CreateTokenResponse *out = response;
    struct token_order order = {
        .agent_id = or_empty(in->agent_id),
        .hostname = or_empty(in->hostname),
        .hostname_pattern = in->hostname_pattern,
        .source_cidr = in->source_cidr,
        .ttl_sec = in->ttl_sec,
        .id = in->token_id && *in->token_id ? in->token_id : NULL,
    };
    struct token_made made;

    BEGIN_REQUEST(ctx);
    if (!uuid_valid(order.agent_id))
        return status_set(st, CODE_INVALID_ARGUMENT, "CreateTokenRequest.agent_id: expected a UUID");
    read_scope(ctx->arena, in->scope, &order.scope);
    TRY(token_create(&req, &order, &made, st));
    out->token_id = arena_strdup(ctx->arena, made.id);
    if (!made.text)
        return CODE_OK;
    log_info("token created", "token", made.id, "agent", order.agent_id, "actor", req.actor, NULL);

    AUTO_SECRET struct secret *text = made.text;
    out->token = arena_strdup(ctx->arena, (const char *)text->data);
    out->has_not_after_at_ms = 1;
    out->not_after_at_ms = made.not_after_ms;
    out->has_next_generation = 1;
    out->next_generation = made.next_generation;
    return CODE_OK;
}

static void fill_bootstrap_response(struct request *req, const struct enrolled *done,
                                    Clm__BootstrapResponse *out)
{
    const struct settings *settings = req->settings;
    Clm__AgentSettings *agent_settings = arena_alloc(req->arena, sizeof(*agent_settings));

    clm__agent_settings__init(agent_settings);
    agent_settings->has_checkin_interval_ms = 1;
    agent_settings->checkin_interval_ms = settings->checkin_interval_ms;
    out->agent_id = arena_strdup(req->arena, done->agent_id);
    out->has_generation = 1;
    out->generation = done->generation;
    out->n_identity_chain = out->n_task_chain = 2;
    out->identity_chain = binary_array(req->arena, done->identity_chain, 2);
    out->task_chain = binary_array(req->arena, done->task_chain, 2);
    out->n_roots = 1;
    out->roots = binary_array(req->arena, &settings->root, 1);
    out->settings = agent_settings;
    out->trust_domain = arena_strdup(req->arena, settings->trust_domain);
}

static void count_certificate(const char *profile)
{
    metric_add(bootstrap_metrics.certificates, "profile", profile, 1);
}

/* What the throttle holds back is counted, not logged: a flood must not fill the disk. */
static void say_refused(const char *reason, const char *source, enum code code)
{
    metric_add(bootstrap_metrics.tokens_refused, "reason", reason, 1);
    if (code == CODE_UNAUTHENTICATED)
        log_warn("bootstrap token refused", "reason", reason, "source", source, NULL);
}

static enum code handle_bootstrap_agent(struct rpc_ctx *ctx, const void *request, void *response,
                                        struct status *st)
{
    const Clm__BootstrapAgentRequest *in = request;
    struct enrolled done;
    const char *refusal;

    BEGIN_REQUEST(ctx);
    if (!in->request)
        return status_set(st, CODE_INVALID_ARGUMENT, "BootstrapAgentRequest.request: missing");
    const struct enrolment enrolment = {
        .token_secret = or_empty(in->request->token_secret),
        .source = or_empty(in->source),
        .source_proven = in->source_proven,
        .hostname = in->request->facts ? or_empty(in->request->facts->hostname) : "",
        .csrs = {bytes_of(in->request->identity_csr), bytes_of(in->request->task_csr)},
    };
    enum code code = enrol(&req, &enrolment, &done, &refusal, st);
    if (refusal)
        say_refused(refusal, enrolment.source, code);
    TRY(code);
    if (done.issued_now) {
        count_certificate("AGENT");
        log_info("identity issued", "agent", done.agent_id, "generation", LOG_NUM(done.generation), "source",
                 enrolment.source, NULL);
    }
    fill_bootstrap_response(&req, &done, response);
    return CODE_OK;
}

static enum code handle_confirm_identity(struct rpc_ctx *ctx, const void *request, void *response,
                                         struct status *st)
{
    const Clm__ConfirmIdentityRequest *in = request;
    Clm__ConfirmIdentityResponse *out = response;

    BEGIN_REQUEST(ctx);
    if (!uuid_valid(or_empty(in->agent_id)))
        return status_set(st, CODE_INVALID_ARGUMENT, "ConfirmIdentityRequest.agent_id: expected a UUID");
    if (in->generation > INT32_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "ConfirmIdentityRequest.generation: out of range");
    TRY(identity_confirm(&req, in->agent_id, in->generation, bytes_of(in->confirmation),
                         &out->confirmed_generation, st));
    out->has_confirmed_generation = 1;
    return CODE_OK;
}

static enum code handle_say_farewell(struct rpc_ctx *ctx, const void *request, void *response,
                                     struct status *st)
{
    const Clm__SayFarewellRequest *in = request;

    (void)response;
    BEGIN_REQUEST(ctx);
    TRY(identity_farewell(&req, in->agent_id, bytes_of(in->request), st));
    log_info("agent said farewell", "agent", in->agent_id, NULL);
    return CODE_OK;
}

static enum code handle_begin_epoch(struct rpc_ctx *ctx, const void *request, void *response,
                                    struct status *st)
{
    const Clm__BeginEpochRequest *in = request;
    Clm__BeginEpochResponse *out = response;

    BEGIN_REQUEST(ctx);
    if (in->epoch == 0 || in->epoch > INT32_MAX || !in->has_restored_at_ms)
        return status_set(st, CODE_INVALID_ARGUMENT, "BeginEpochRequest: an epoch and its time are needed");
    TRY(epoch_begin(&req, in->epoch, in->restored_at_ms, &out->voided, st));
    out->has_voided = 1;
    log_warn("a new epoch: open tokens are void", "tokens", LOG_NUM(out->voided), "actor", req.actor, NULL);
    return CODE_OK;
}

static enum code handle_renew_identity(struct rpc_ctx *ctx, const void *request, void *response,
                                       struct status *st)
{
    const Clm__RenewIdentityRequest *in = request;
    struct enrolled done;

    BEGIN_REQUEST(ctx);
    if (!uuid_valid(or_empty(in->agent_id)))
        return status_set(st, CODE_INVALID_ARGUMENT, "RenewIdentityRequest.agent_id: expected a UUID");
    TRY(identity_renew(&req, in->agent_id, bytes_of(in->request), &done, st));
    if (done.issued_now) {
        count_certificate("AGENT");
        log_info("identity renewed", "agent", done.agent_id, "generation", LOG_NUM(done.generation), NULL);
    }
    fill_bootstrap_response(&req, &done, response);
    return CODE_OK;
}

static enum code handle_sign_certificate(struct rpc_ctx *ctx, const void *request, void *response,
                                         struct status *st)
{
    const Clm__SignCertificateRequest *in = request;
    Clm__SignCertificateResponse *out = response;
    struct bytes chain[2];

    BEGIN_REQUEST(ctx);
    if (!uuid_valid(or_empty(in->agent_id)))
        return status_set(st, CODE_INVALID_ARGUMENT, "SignCertificateRequest.agent_id: expected a UUID");
    TRY(certificate_sign(&req, in->agent_id, bytes_of(in->request), chain, st));
    count_certificate("MANAGED_SERVER");
    out->has_state = out->has_root = 1;
    out->state = CLM__SIGN_CERTIFICATE_RESPONSE__STATE__ISSUED;
    out->n_chain = 2;
    out->chain = binary_array(ctx->arena, chain, 2);
    out->root = binary(req.settings->root);
    return CODE_OK;
}

static enum code handle_issue_service_certificate(struct rpc_ctx *ctx, const void *request, void *response,
                                                  struct status *st)
{
    const Clm__IssueServiceCertificateRequest *in = request;
    Clm__IssueServiceCertificateResponse *out = response;
    struct bytes chain[2];

    BEGIN_REQUEST(ctx);
    if (!in->has_profile)
        return status_set(st, CODE_INVALID_ARGUMENT, "IssueServiceCertificateRequest.profile: missing");
    enum service_certificate what =
        in->profile == CLM__ISSUE_SERVICE_CERTIFICATE_REQUEST__PROFILE__ENVELOPE      ? SERVICE_ENVELOPE
        : in->profile == CLM__ISSUE_SERVICE_CERTIFICATE_REQUEST__PROFILE__GATEWAY_TLS ? SERVICE_GATEWAY_TLS
                                                                                      : SERVICE_SIGNING;
    TRY(service_certificate_issue(&req, ctx->sender, what, bytes_of(in->csr), chain, st));
    count_certificate(service_certificate_name(what));
    log_info("service certificate issued", "service", ctx->sender, "profile", service_certificate_name(what),
             NULL);
    out->n_chain = 2;
    out->chain = binary_array(ctx->arena, chain, 2);
    return CODE_OK;
}

static enum code handle_get_trust_bundle(struct rpc_ctx *ctx, const void *request, void *response,
                                         struct status *st)
{
    Clm__GetTrustBundleResponse *out = response;
    struct bytes issuers[ISSUING_CA_COUNT];

    (void)request;
    (void)st;
    BEGIN_REQUEST(ctx);
    const struct der_list *list = signer_issuers(app_of(&req)->signer);
    for (size_t i = 0; i < list->n; i++)
        issuers[i] = der_bytes(&list->item[i]);
    out->n_roots = 1;
    out->roots = binary_array(ctx->arena, &req.settings->root, 1);
    out->n_intermediates = list->n;
    out->intermediates = binary_array(ctx->arena, issuers, list->n);
    return CODE_OK;
}

static Clm__Identity *identity_message(struct arena *arena, const struct identity_row *row)
{
    Clm__Identity *out = arena_alloc(arena, sizeof(*out));
    clm__identity__init(out);
    out->agent_id = arena_strdup(arena, row->agent_id);
    out->has_generation = out->has_confirmed = out->has_task_certificate = 1;
    out->has_version = out->has_not_after_at_ms = 1;
    out->generation = row->generation;
    out->confirmed = row->confirmed;
    out->task_certificate = binary(row->task_certificate);
    out->version = row->version;
    out->not_after_at_ms = row->not_after_ms;
    return out;
}

static enum code handle_list_identities(struct rpc_ctx *ctx, const void *request, void *response,
                                        struct status *st)
{
    const Clm__ListIdentitiesRequest *in = request;
    Clm__ListIdentitiesResponse *out = response;
    struct identity_page page;

    BEGIN_REQUEST(ctx);
    TRY(identities_list(&req, or_empty(in->after_agent_id), in->page_size, &page, st));
    out->n_identities = page.n;
    out->identities = arena_array(ctx->arena, page.n + 1, sizeof(*out->identities));
    for (size_t i = 0; i < page.n; i++)
        out->identities[i] = identity_message(ctx->arena, &page.rows[i]);
    out->has_last = 1;
    out->last = page.last;
    return CODE_OK;
}

static void set_time(protobuf_c_boolean *has, int64_t *field, int64_t ms)
{
    *has = ms >= 0;
    *field = ms >= 0 ? ms : 0;
}

static Clm__TokenView__State token_view_state(enum token_state state)
{
    switch (state) {
    case TOKEN_OPEN:
        return CLM__TOKEN_VIEW__STATE__OPEN;
    case TOKEN_BOUND:
        return CLM__TOKEN_VIEW__STATE__BOUND;
    case TOKEN_USED:
        return CLM__TOKEN_VIEW__STATE__USED;
    case TOKEN_REVOKED:
        return CLM__TOKEN_VIEW__STATE__REVOKED;
    default:
        return CLM__TOKEN_VIEW__STATE__EXPIRED;
    }
}

static enum code fill_tokens(struct request *req, const char *agent_id, Clm__ListTokensResponse *out,
                             struct status *st)
{
    struct token_view *tokens;
    size_t n;
    TRY(token_list(req, agent_id, &tokens, &n, st));
    out->n_tokens = n;
    out->tokens = arena_array(req->arena, n + 1, sizeof(*out->tokens));
    for (size_t i = 0; i < n; i++) {
        Clm__TokenView *view = out->tokens[i] = arena_alloc(req->arena, sizeof(*view));
        clm__token_view__init(view);
        view->id = arena_strdup(req->arena, tokens[i].id);
        view->agent_id = arena_strdup(req->arena, agent_id);
        view->hostname = arena_strdup(req->arena, tokens[i].hostname);
        view->created_by = arena_strdup(req->arena, tokens[i].created_by);
        view->hostname_pattern = arena_strdup(req->arena, tokens[i].hostname_pattern);
        view->source_cidr = arena_strdup(req->arena, tokens[i].source_cidr);
        view->has_state = 1;
        view->state = token_view_state(tokens[i].state);
        set_time(&view->has_created_at_ms, &view->created_at_ms, tokens[i].created_at_ms);
        set_time(&view->has_not_after_at_ms, &view->not_after_at_ms, tokens[i].not_after_ms);
        set_time(&view->has_bound_at_ms, &view->bound_at_ms, tokens[i].bound_at_ms);
        set_time(&view->has_used_at_ms, &view->used_at_ms, tokens[i].used_at_ms);
        set_time(&view->has_revoked_at_ms, &view->revoked_at_ms, tokens[i].revoked_at_ms);
    }
    return CODE_OK;
}

static enum code handle_list_tokens(struct rpc_ctx *ctx, const void *request, void *response,
                                    struct status *st)
{
    const Clm__ListTokensRequest *in = request;
    BEGIN_REQUEST(ctx);
    return fill_tokens(&req, in->agent_id, response, st);
}

static enum code handle_revoke_token(struct rpc_ctx *ctx, const void *request, void *response,
                                     struct status *st)
{
    const Clm__RevokeTokenRequest *in = request;
    BEGIN_REQUEST(ctx);
    TRY(token_revoke(&req, in->agent_id, in->token_id, st));
    log_info("token revoked", "token", in->token_id, "agent", in->agent_id, "actor", req.actor, NULL);
    return fill_tokens(&req, in->agent_id, response, st);
}

static Clm__IdentityView__State identity_state(const struct identity_view *view, int64_t now_ms)
{
    if (view->revoked_at_ms >= 0)
        return CLM__IDENTITY_VIEW__STATE__REVOKED;
    if (view->not_after_ms <= now_ms)
        return CLM__IDENTITY_VIEW__STATE__EXPIRED;
    if (view->current)
        return CLM__IDENTITY_VIEW__STATE__CURRENT;
    return view->pending ? CLM__IDENTITY_VIEW__STATE__PENDING : CLM__IDENTITY_VIEW__STATE__SUPERSEDED;
}

static enum code handle_list_agent_identities(struct rpc_ctx *ctx, const void *request, void *response,
                                              struct status *st)
{
    const Clm__ListAgentIdentitiesRequest *in = request;
    Clm__ListAgentIdentitiesResponse *out = response;
    struct identity_view *views;
    size_t n;

    BEGIN_REQUEST(ctx);
    TRY(identities_of_agent(&req, in->agent_id, &views, &n, st));
    out->n_identities = n;
    out->identities = arena_array(ctx->arena, n + 1, sizeof(*out->identities));
    for (size_t i = 0; i < n; i++) {
        Clm__IdentityView *view = out->identities[i] = arena_alloc(ctx->arena, sizeof(*view));
        clm__identity_view__init(view);
        view->has_generation = view->has_state = 1;
        view->generation = views[i].generation;
        view->state = identity_state(&views[i], clock_wall_ms());
        view->serial = arena_strdup(ctx->arena, views[i].serial);
        view->fingerprint_sha256 = arena_strdup(ctx->arena, views[i].fingerprint);
        view->token_id = arena_strdup(ctx->arena, views[i].token_id);
        set_time(&view->has_issued_at_ms, &view->issued_at_ms, views[i].issued_at_ms);
        set_time(&view->has_not_after_at_ms, &view->not_after_at_ms, views[i].not_after_ms);
        set_time(&view->has_confirmed_at_ms, &view->confirmed_at_ms, views[i].confirmed_at_ms);
        set_time(&view->has_revoked_at_ms, &view->revoked_at_ms, views[i].revoked_at_ms);
    }
    return CODE_OK;
}

static enum code handle_get_crl(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__GetCrlRequest *in = request;
    Clm__GetCrlResponse *out = response;
    struct crl_row crl;

    BEGIN_REQUEST(ctx);
    TRY(crl_get(&req, in->issuer, &crl, st));
    out->has_number = out->has_next_update_at_ms = 1;
    out->number = crl.number;
    out->next_update_at_ms = crl.next_update_ms;
    out->has_crl = !in->has_known_number || in->known_number != crl.number;
    if (out->has_crl)
        out->crl = binary(crl.der);
    return CODE_OK;
}

const struct rpc_method bootstrap_methods[] = {
    {"CreateToken", handle_create_token},
    {"BootstrapAgent", handle_bootstrap_agent},
    {"ConfirmIdentity", handle_confirm_identity},
    {"SignCertificate", handle_sign_certificate},
    {"IssueServiceCertificate", handle_issue_service_certificate},
    {"GetTrustBundle", handle_get_trust_bundle},
    {"ListIdentities", handle_list_identities},
    {"RenewIdentity", handle_renew_identity},
    {"SayFarewell", handle_say_farewell},
    {"ListTokens", handle_list_tokens},
    {"RevokeToken", handle_revoke_token},
    {"ListAgentIdentities", handle_list_agent_identities},
    {"GetCrl", handle_get_crl},
    {"BeginEpoch", handle_begin_epoch},
};
const size_t bootstrap_n_methods = ARRAY_LEN(bootstrap_methods);

/* ---- events -----------------------------------------------------------------------------------------------
 */

static enum code apply_agent(struct worker *worker, struct arena *arena, const void *message,
                             struct status *st)
{
    const Clm__Event *event = message;
    struct request req;
    struct border border;

    if (!event->agent || !event->entity_id || !event->has_entity_version)
        return status_set(st, CODE_INVALID_ARGUMENT, "not an agent's event");
    request_init(&req, &border, worker, NULL, arena);
    struct scope_row row = {.agent_id = event->entity_id,
                            .version = event->entity_version,
                            .disabled = event->agent->disabled || event->agent->frozen,
                            .min_generation = event->agent->min_generation,
                            .column = safe_column_of(event->agent->disabled,
                                                     event->agent->status == CLM__AGENT__STATUS__EXPIRED,
                                                     event->agent->frozen, event->agent->safe_mode)};
    read_scope(arena, event->agent->scope, &row);
    TRY(projection_apply(&req, &row, event->agent->deleted, st));
    bool revoked = event->agent->disabled && strcmp(or_empty(event->agent->reason), DISABLED_REVOKED) == 0;
    if (!revoked && !event->agent->deleted)
        return CODE_OK;
    return agent_certificates_revoke(&req, event->entity_id, event->occurred_at_ms,
                                     revoked ? CRL_UNSPECIFIED : CRL_CESSATION, st);
}

const struct event_handler bootstrap_events[] = {
    {.subject = "clm.event.registry.agent.registered", .authority = true, .apply = apply_agent},
    {.subject = "clm.event.registry.agent.changed", .authority = true, .apply = apply_agent},
    {.subject = "clm.event.registry.agent.deleted", .authority = true, .apply = apply_agent},
    {0},
};
