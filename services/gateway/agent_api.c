/*
 * The agent listener (docs/protocol.md). Who the agent is comes from its TLS certificate, once a connection;
 * whether it may speak is asked of the fleet with each request. What it signed end to end (receipts, CSRs) is
 * only carried here.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "gateway/checkins.h"
#include "gateway/edge.h"
#include "gateway/guests.h"
#include "pki/cert.h"
#include "proto/agent.pb-c.h"
#include "proto/bootstrap.pb-c.h"
#include "proto/tasks.pb-c.h"
#include "wire/wire.h"

#define CALL_TIMEOUT_MS      10000
#define BOOTSTRAP_TIMEOUT_MS 20000
#define PROTOBUF_TYPE        "application/x-protobuf"
#define RESULT_PREFIX        "/agent/v1/tasks/"
#define RESULT_SUFFIX        "/result"

/* ---- answers ---- */

static void answer(struct http_request *request, const ProtobufCMessage *message)
{
    static const struct http_header headers[] = {{"Content-Type", PROTOBUF_TYPE}, {NULL, NULL}};
    AUTO_ARENA struct arena *arena = arena_new();
    const uint8_t *body;
    size_t len;
    wire_pack(message, arena, &body, &len);
    http_respond(request, 200, headers, body, len);
}

static void refuse(struct http_request *request, int http_status, const struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct status told = edge_tell(st);
    Clm__AgentError error = CLM__AGENT_ERROR__INIT;
    error.has_code = true;
    error.code = (uint32_t)told.code;
    error.message = told.msg;
    const uint8_t *body;
    size_t len;
    wire_pack(&error.base, arena, &body, &len);
    struct http_header headers[EDGE_HEADERS_MAX] = {{"Content-Type", PROTOBUF_TYPE}};
    edge_retry_header(st->code, &headers[1]);
    http_respond(request, http_status ? http_status : code_info(st->code)->http_status, headers, body, len);
}

/* ---- calls that are carried on to a service ---- */

struct carried {
    struct http_request *request; /* NULL once the client left */
    void (*convert)(struct http_request *request, const ProtobufCMessage *reply);
    const char *method;
    int64_t began_us; /* monotonic */
    char traceparent[TRACEPARENT_SIZE];
};

static void count(const struct edge *edge, const char *method, enum code code)
{
    metric_add_by(edge->gateway->metric.agent_requests, "method", method, "code", code_name(code), 1);
}

static void on_carried(struct edge *edge, struct arena *arena UNUSED, const ProtobufCMessage *reply,
                       const struct status *st, void *arg)
{
    struct carried *carried = arg;
    if (carried->request) {
        const struct http_connection *connection = http_request_connection(carried->request);
        const struct agent *agent = http_connection_user(connection);
        LOG_TRACED(carried->traceparent);
        log_info("agent call", "path", http_request_path(carried->request), "agent",
                 agent ? agent_id(agent) : NULL, "peer", http_connection_peer(connection), "code",
                 code_name(reply ? CODE_OK : st->code), NULL);
        count(edge, carried->method, reply ? CODE_OK : st->code);
        metric_observe_ms(edge->gateway->metric.agent_ms, "method", carried->method,
                          (double)(clock_mono_us() - carried->began_us) / 1000);
        http_request_set_user(carried->request, NULL);
        if (reply)
            carried->convert(carried->request, reply);
        else
            refuse(carried->request, 0, st);
    }
    free(carried);
}

static void carry(struct edge *edge, struct http_request *request, const struct rpc_call *call,
                  void (*convert)(struct http_request *request, const ProtobufCMessage *reply))
{
    struct carried *carried = calloc(1, sizeof *carried);
    if (!carried)
        abort();
    carried->request = request;
    carried->convert = convert;
    carried->method = call->method;
    carried->began_us = clock_mono_us();
    (void)snprintf(carried->traceparent, sizeof carried->traceparent, "%s", call->traceparent);
    http_request_set_user(request, carried);
    edge_call(edge, call, on_carried, carried);
}

static void convert_same(struct http_request *request, const ProtobufCMessage *reply)
{
    answer(request, reply);
}

static void convert_result(struct http_request *request, const ProtobufCMessage *reply)
{
    Clm__ResultResponse response = CLM__RESULT_RESPONSE__INIT;
    response.has_finished = true;
    response.finished = ((const Clm__SubmitResultResponse *)reply)->finished;
    answer(request, &response.base);
}

static void convert_sign(struct http_request *request, const ProtobufCMessage *reply)
{
    const Clm__SignCertificateResponse *signed_ = (const Clm__SignCertificateResponse *)reply;
    Clm__SignResponse response = CLM__SIGN_RESPONSE__INIT;
    response.has_pending = true;
    response.pending = signed_->state == CLM__SIGN_CERTIFICATE_RESPONSE__STATE__PENDING;
    response.n_chain = signed_->n_chain;
    response.chain = signed_->chain;
    response.has_root = signed_->has_root;
    response.root = signed_->root;
    response.order_id = signed_->order_id;
    response.has_retry_after_ms = signed_->has_retry_after_ms;
    response.retry_after_ms = signed_->retry_after_ms;
    answer(request, &response.base);
}

/* ---- requests ---- */

struct agent_call { /* what a handler gets */
    struct edge *edge;
    struct http_request *request;
    struct agent *agent; /* NULL for the one call without a client certificate */
    struct arena *arena;
    const ProtobufCMessage *body;
    const char *task_id; /* of the path */
    const char *traceparent;
};

static void carry_to_bootstrap(const struct agent_call *call, const char *method,
                               const ProtobufCMessage *request, int64_t timeout_ms,
                               void (*convert)(struct http_request *request, const ProtobufCMessage *reply))
{
    const struct rpc_call rpc = {
        .service = "bootstrap",
        .descriptor = &clm__bootstrap__descriptor,
        .method = method,
        .request = request,
        .timeout_ms = timeout_ms,
        .traceparent = call->traceparent,
    };
    carry(call->edge, call->request, &rpc, convert);
}

static void handle_bootstrap(const struct agent_call *call)
{
    Clm__BootstrapAgentRequest request = CLM__BOOTSTRAP_AGENT_REQUEST__INIT;
    request.request = (Clm__BootstrapRequest *)(uintptr_t)call->body;
    const struct http_connection *connection = http_request_connection(call->request);
    request.source = arena_strdup(call->arena, http_connection_peer(connection));
    request.has_source_proven = true;
    request.source_proven = http_connection_proxied(connection);
    carry_to_bootstrap(call, "BootstrapAgent", &request.base, BOOTSTRAP_TIMEOUT_MS, convert_same);
}

static void handle_checkin(const struct agent_call *call)
{
    agent_checkin(call->agent, call->request, (const Clm__CheckinRequest *)call->body);
}

static void handle_result(const struct agent_call *call)
{
    const Clm__ResultRequest *body = (const Clm__ResultRequest *)call->body;
    Clm__SubmitResultRequest request = CLM__SUBMIT_RESULT_REQUEST__INIT;
    request.agent_id = arena_strdup(call->arena, agent_id(call->agent));
    request.task_id = arena_strdup(call->arena, call->task_id);
    request.has_attempt = body->has_attempt;
    request.attempt = body->attempt;
    request.has_page = body->has_page;
    request.page = body->page;
    request.has_data = body->has_data;
    request.data = body->data;
    request.has_receipt = body->has_receipt;
    request.receipt = body->receipt;
    const struct rpc_call rpc = {
        .service = "tasks",
        .descriptor = &clm__tasks__descriptor,
        .method = "SubmitResult",
        .request = &request.base,
        .timeout_ms = CALL_TIMEOUT_MS,
        .traceparent = call->traceparent,
    };
    carry(call->edge, call->request, &rpc, convert_result);
}

static void handle_sign(const struct agent_call *call)
{
    const Clm__SignRequest *body = (const Clm__SignRequest *)call->body;
    Clm__SignCertificateRequest request = CLM__SIGN_CERTIFICATE_REQUEST__INIT;
    request.agent_id = arena_strdup(call->arena, agent_id(call->agent));
    request.has_request = body->has_request;
    request.request = body->request;
    carry_to_bootstrap(call, "SignCertificate", &request.base, CALL_TIMEOUT_MS, convert_sign);
}

static void handle_renew(const struct agent_call *call)
{
    const Clm__RenewRequest *body = (const Clm__RenewRequest *)call->body;
    Clm__RenewIdentityRequest request = CLM__RENEW_IDENTITY_REQUEST__INIT;
    request.agent_id = arena_strdup(call->arena, agent_id(call->agent));
    request.has_request = body->has_request;
    request.request = body->request;
    carry_to_bootstrap(call, "RenewIdentity", &request.base, BOOTSTRAP_TIMEOUT_MS, convert_same);
}

static void handle_farewell(const struct agent_call *call)
{
    const Clm__FarewellRequest *body = (const Clm__FarewellRequest *)call->body;
    Clm__SayFarewellRequest request = CLM__SAY_FAREWELL_REQUEST__INIT;
    request.agent_id = arena_strdup(call->arena, agent_id(call->agent));
    request.has_request = body->has_request;
    request.request = body->request;
    carry_to_bootstrap(call, "SayFarewell", &request.base, CALL_TIMEOUT_MS, convert_same);
}

static const struct agent_route {
    const char *path; /* RESULT_PREFIX: with a task id and RESULT_SUFFIX behind it */
    const ProtobufCMessageDescriptor *body;
    bool without_certificate;
    void (*handle)(const struct agent_call *call);
} agent_routes[] = {
    {"/agent/v1/checkin", &clm__checkin_request__descriptor, false, handle_checkin},
    {RESULT_PREFIX, &clm__result_request__descriptor, false, handle_result},
    {"/agent/v1/certificates/sign", &clm__sign_request__descriptor, false, handle_sign},
    {"/agent/v1/identity/renew", &clm__renew_request__descriptor, false, handle_renew},
    {"/agent/v1/farewell", &clm__farewell_request__descriptor, false, handle_farewell},
    {"/agent/v1/bootstrap", &clm__bootstrap_request__descriptor, true, handle_bootstrap},
};

static const struct agent_route *find_route(const char *path, char task_id[UUID_TEXT_SIZE])
{
    for (size_t i = 0; i < ARRAY_LEN(agent_routes); i++) {
        const struct agent_route *route = &agent_routes[i];
        if (strcmp(route->path, RESULT_PREFIX) != 0) {
            if (strcmp(route->path, path) == 0)
                return route;
            continue;
        }
        size_t prefix = strlen(RESULT_PREFIX), id = UUID_TEXT_SIZE - 1;
        if (strncmp(path, RESULT_PREFIX, prefix) == 0 &&
            strlen(path) == prefix + id + strlen(RESULT_SUFFIX) &&
            strcmp(path + prefix + id, RESULT_SUFFIX) == 0) {
            (void)snprintf(task_id, UUID_TEXT_SIZE, "%.36s", path + prefix);
            return uuid_valid(task_id) ? route : NULL;
        }
    }
    return NULL;
}

/* Before it was anything that is carried. */
static void turn_away(const struct edge *edge, struct http_request *request, int http_status,
                      const struct status *st)
{
    count(edge, "none", st->code);
    refuse(request, http_status, st);
}

static void on_request(struct http_request *request, void *arg)
{
    struct edge *edge = arg;
    struct agent *agent = http_connection_user(http_request_connection(request));
    struct status st = {0};
    char task_id[UUID_TEXT_SIZE] = "", traceparent[TRACEPARENT_SIZE];
    const char *path = http_request_path(request);
    const struct agent_route *route = find_route(path, task_id);

    if (crls_serve(edge->gateway->crls, request))
        return;
    if (!route) {
        (void)status_set(&st, CODE_NOT_FOUND, "there is nothing at %.100s on the agent listener", path);
        turn_away(edge, request, 0, &st);
        return;
    }
    if (strcmp(http_request_method(request), "POST") != 0) {
        (void)status_set(&st, CODE_INVALID_ARGUMENT, "%.100s takes POST", path);
        turn_away(edge, request, 405, &st);
        return;
    }
    const char *type = http_request_header(request, "Content-Type");
    if (!type || strcasecmp(type, PROTOBUF_TYPE) != 0) {
        (void)status_set(&st, CODE_INVALID_ARGUMENT, "the body must be " PROTOBUF_TYPE);
        turn_away(edge, request, 415, &st);
        return;
    }
    if (!agent && !route->without_certificate) {
        (void)status_set(&st, CODE_UNAUTHENTICATED,
                         "%.100s needs the agent's client certificate; only bootstrap goes without", path);
        refusals_add(edge->gateway->refusals, REFUSAL_AGENT,
                     http_connection_peer(http_request_connection(request)), NULL, st.msg);
        turn_away(edge, request, 0, &st);
        return;
    }
    if (agent &&
        fleet_admit(edge->gateway->fleet, agent_id(agent), agent_generation(agent), &st) != CODE_OK) {
        if (st.code != CODE_UNAVAILABLE)
            refusals_add(edge->gateway->refusals, REFUSAL_AGENT,
                         http_connection_peer(http_request_connection(request)), agent_id(agent), st.msg);
        turn_away(edge, request, 0, &st);
        return;
    }
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *body = NULL;
    size_t len;
    const uint8_t *data = http_request_body(request, &len);
    if (wire_unpack(route->body, data, len, arena, &body, &st) != CODE_OK) {
        turn_away(edge, request, 0, &st);
        return;
    }
    traceparent_child(http_request_header(request, "traceparent"), traceparent);
    const struct agent_call call = {edge, request, agent, arena, body, task_id, traceparent};
    route->handle(&call);
}

/* A request without a carried call is a check-in. */
static void on_gone(struct http_request *request, void *arg UNUSED)
{
    struct carried *carried = http_request_user(request);
    struct agent *agent = http_connection_user(http_request_connection(request));
    if (carried)
        carried->request = NULL;
    else if (agent)
        agent_checkin_gone(agent);
}

static void on_pending_behind(struct http_request *request, void *arg UNUSED)
{
    struct agent *agent = http_connection_user(http_request_connection(request));
    if (agent && !http_request_user(request))
        agent_checkin_release(agent);
}

/* The agent of a connection's certificate; NULL: there is none, or none that can be read. */
static struct agent *connection_agent(struct edge *edge, struct http_connection *connection, bool *ret_bad)
{
    struct status st = {0};
    AUTO_BUF struct buf leaf = {0};
    AUTO_CERT_INFO struct cert_info info = {0};
    struct spiffe_id id;

    *ret_bad = false;
    if (!http_connection_peer_certificate(connection, &leaf))
        return NULL; /* bootstrap: on_request lets nothing else through */
    struct bytes der = {leaf.data, leaf.len};
    *ret_bad = true;
    if (cert_spiffe(der, &id, &st) != CODE_OK || cert_read(der, &info, &st) != CODE_OK)
        return NULL;
    char *end = NULL;
    unsigned long generation = strtoul(info.subject_serial, &end, 10);
    if (end == info.subject_serial || *end || generation > UINT32_MAX)
        return NULL;
    *ret_bad = false;
    return agent_open(edge->checkins, connection, id.name, (uint32_t)generation);
}

static bool on_connection_open(struct http_connection *connection, void *arg)
{
    struct edge *edge = arg;
    bool bad;
    edge_opened(edge, connection, "agents");
    struct agent *agent = connection_agent(edge, connection, &bad);
    http_connection_set_user(connection, agent);
    if (agent)
        return true;
    const char *peer = http_connection_peer(connection);
    if (!guests_enter(edge->agent_guests, peer)) {
        refusals_add(edge->gateway->refusals, REFUSAL_AGENT, peer, NULL,
                     "too many connections without a client certificate");
        return false;
    }
    return !bad;
}

static void on_connection_close(struct http_connection *connection, void *arg)
{
    struct edge *edge = arg;
    edge_closed(edge, "agents");
    struct agent *agent = http_connection_user(connection);
    if (agent)
        agent_close(agent);
    else
        guests_leave(edge->agent_guests, http_connection_peer(connection));
}

const struct http_handler agent_handler = {
    .on_connection_open = on_connection_open,
    .on_connection_close = on_connection_close,
    .on_request = on_request,
    .on_gone = on_gone,
    .on_pending_behind = on_pending_behind,
};
