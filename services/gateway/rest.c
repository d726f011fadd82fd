/*
 * The operator listener: one REST call is route → credential → role → arguments → bus → JSON. A call whose
 * client left meanwhile is finished and its answer dropped: its op outlives the request and loses the pointer
 * in on_gone.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/id.h"
#include "base/log.h"
#include "bus/access.h"
#include "gateway/console.h"
#include "gateway/edge.h"
#include "gateway/routes.h"
#include "gateway/sessions.h"
#include "proto/registry.pb-c.h"
#include "wire/wire.h"

#define CALL_TIMEOUT_MS 10000
#define API_KEY_MAX     256
#define COOKIE          "__Host-clm-session"
#define COOKIE_RULES    "Path=/; Secure; HttpOnly; SameSite=Strict"
#define COOKIE_LIFE_SEC "43200" /* the registry ends it then, too */
#define SESSION_MAX     64
#define CURRENT         "current"
#define OPENAPI_PATH    "/api/v1/openapi.json"

struct op { /* one REST call */
    struct edge *edge;
    struct http_request *request; /* NULL once the client left */
    struct route_match match;
    struct arena *arena;
    char session_id[UUID_TEXT_SIZE]; /* of the caller's console session; "" for an API key */
    char traceparent[TRACEPARENT_SIZE], trace_id[TRACE_ID_SIZE];
    char actor[96]; /* "" until it is known */
};

static void op_free(struct op *op)
{
    if (op->request)
        http_request_set_user(op->request, NULL);
    arena_free(op->arena);
    free(op);
}

static void count(struct op *op, int status)
{
    char text[8];
    (void)snprintf(text, sizeof text, "%d", status);
    metric_add(op->edge->gateway->metric.requests, "status", text, 1);
}

static void note_refusal(struct op *op, const struct status *st)
{
    bool login = st->code == CODE_UNAUTHENTICATED;
    if (login || st->code == CODE_PERMISSION_DENIED)
        refusals_add(op->edge->gateway->refusals, login ? REFUSAL_LOGIN : REFUSAL_PERMISSION,
                     http_connection_peer(http_request_connection(op->request)), op->actor, st->msg);
}

/* Answers with a problem and ends the call. http_status 0: the code's own. */
static void op_refuse(struct op *op, int http_status, const struct status *st, const char *header,
                      const char *value)
{
    if (op->request) {
        struct http_header headers[EDGE_HEADERS_MAX] = {{"Cache-Control", "no-store"},
                                                        {"X-Request-Id", op->trace_id}};
        size_t n = 2;
        note_refusal(op, st);
        if (header)
            headers[n++] = (struct http_header){header, value};
        edge_retry_header(st->code, &headers[n]);
        int status = http_status ? http_status : code_info(st->code)->http_status;
        count(op, status);
        if (status >= 500)
            log_warn("REST call failed", "method", http_request_method(op->request), "path",
                     http_request_path(op->request), "trace", op->trace_id, "reason", st->msg, NULL);
        struct status told = edge_tell(st);
        http_respond_problem(op->request, http_status, &told, headers);
        op->request = NULL;
    }
    op_free(op);
}

/* cookie: a Set-Cookie to send; NULL for none. */
static void op_answer(struct op *op, int status, const char *cookie, const void *body, size_t len)
{
    if (op->request) {
        const struct http_header headers[] = {
            {"Content-Type", "application/json"},   {"Cache-Control", "no-store"},
            {"X-Content-Type-Options", "nosniff"},  {"X-Request-Id", op->trace_id},
            {cookie ? "Set-Cookie" : NULL, cookie}, {NULL, NULL},
        };
        count(op, status);
        http_respond(op->request, status, headers, body, len);
        op->request = NULL;
    }
    op_free(op);
}

static void on_reply(struct edge *edge, struct arena *arena UNUSED, const ProtobufCMessage *reply,
                     const struct status *st, void *arg)
{
    struct op *op = arg;
    if (!reply) {
        op_refuse(op, 0, st, NULL, NULL);
        return;
    }
    AUTO_BUF struct buf json = {0};
    struct status wst = {0};
    char cookie[256] = "";
    enum route_session session = op->match.route->session;
    if (session == ROUTE_SESSION_BEGIN) {
        const Clm__NewSession *begun = (const Clm__NewSession *)reply;
        (void)snprintf(cookie, sizeof cookie, COOKIE "=%.*s; " COOKIE_RULES "; Max-Age=" COOKIE_LIFE_SEC,
                       SESSION_MAX, begun->secret);
        reply = &begun->session->base;
    } else if (session == ROUTE_SESSION_END) {
        const Clm__SessionView *ended = (const Clm__SessionView *)reply;
        session_forget(edge->sessions, ended->id);
        if (strcmp(ended->id, op->session_id) == 0)
            (void)snprintf(cookie, sizeof cookie, COOKIE "=; " COOKIE_RULES "; Max-Age=0");
    }
    buf_init(&json, 4 * WIRE_BODY_MAX);
    if (json_write(reply, &json, &wst) != CODE_OK)
        op_refuse(op, 0, &wst, NULL, NULL);
    else
        op_answer(op, op->match.route->success, *cookie ? cookie : NULL, json.data, json.len);
    explicit_bzero(cookie, sizeof cookie);
}

/* ---- arguments ---- */

struct binding {
    struct op *op;
    ProtobufCMessage *message;
    struct status st;
};

static bool on_param(const char *name, const char *value, void *arg)
{
    struct binding *binding = arg;
    for (size_t i = 0; i < binding->op->match.n_params; i++) {
        if (strcmp(binding->op->match.params[i].name, name) == 0) {
            (void)status_set(&binding->st, CODE_INVALID_ARGUMENT,
                             "%.64s: belongs into the path, not the query", name);
            return false;
        }
    }
    return json_set_field(binding->message, name, value, binding->op->arena, &binding->st) == CODE_OK;
}

/* The field that a body may have set already, as text; NULL if it is not set or no string. */
static const char *text_field(const ProtobufCMessage *message, const char *json_name)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        char name[64];
        json_field_name(field, name);
        if (strcmp(name, json_name) == 0 && field->type == PROTOBUF_C_TYPE_STRING &&
            field->label != PROTOBUF_C_LABEL_REPEATED)
            return *(char *const *)((const char *)message + field->offset);
    }
    return NULL;
}

static enum code bind_path(struct op *op, ProtobufCMessage *message, struct status *st)
{
    for (size_t i = 0; i < op->match.n_params; i++) {
        const char *name = op->match.params[i].name, *value = op->match.params[i].value;
        if (strcmp(name, "sessionId") == 0 && strcmp(value, CURRENT) == 0) {
            if (!*op->session_id)
                return status_set(st, CODE_FAILED_PRECONDITION, "an API key has no session");
            value = op->session_id;
        }
        const char *present = text_field(message, name);
        if (present && strcmp(present, value) != 0)
            return status_set(st, CODE_INVALID_ARGUMENT, "%s: the body says otherwise than the path", name);
        TRY(json_set_field(message, name, value, op->arena, st));
    }
    return CODE_OK;
}

/* Without a balancer that says where connections come from, each host would seem to come from it. */
static enum code check_token_bounds(struct op *op, const ProtobufCMessage *message, struct status *st)
{
    if (text_field(message, "tokenSourceCidr") && op->edge->gateway->n_proxies == 0)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "tokenSourceCidr: the gateway knows sources for certain only by the PROXY protocol "
                          "of its balancers; set [gateway] proxy_protocol_from first");
    return CODE_OK;
}

/* Where a sign-in comes from is our word, not the client's. */
static enum code set_source(struct op *op, ProtobufCMessage *message, struct status *st)
{
    if (text_field(message, "source"))
        return status_set(st, CODE_INVALID_ARGUMENT, "source: the gateway sets it");
    return json_set_field(message, "source", http_connection_peer(http_request_connection(op->request)),
                          op->arena, st);
}

/* Sets *http_status where the code's own is not exact enough. */
static enum code read_arguments(struct op *op, ProtobufCMessage **ret, int *http_status, struct status *st)
{
    const struct route *route = op->match.route;
    const ProtobufCMessageDescriptor *desc = route_request(route);
    ProtobufCMessage *message = NULL;

    if (strcmp(route->method, "POST") == 0) {
        size_t len;
        const char *body = (const char *)http_request_body(op->request, &len);
        const char *type = http_request_header(op->request, "Content-Type");
        if (len > 0 && (!type || strncasecmp(type, "application/json", 16) != 0 ||
                        (type[16] != '\0' && type[16] != ';' && type[16] != ' '))) {
            *http_status = 415;
            return status_set(st, CODE_INVALID_ARGUMENT, "the body must be application/json");
        }
        if (*http_request_query(op->request))
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "%s takes its arguments in the body, not in the query", route->path);
        TRY(json_parse(desc, body, len, op->arena, &message, st));
        const char *key = http_request_header(op->request, "Idempotency-Key");
        if (key && protobuf_c_message_descriptor_get_field_by_name(desc, "idempotency_key"))
            TRY(json_set_field(message, "idempotencyKey", key, op->arena, st));
    } else {
        struct binding binding = {.op = op};
        TRY(json_parse(desc, "", 0, op->arena, &message, st));
        binding.message = message;
        if (!http_request_params(op->request, on_param, &binding)) {
            if (binding.st.code != CODE_OK)
                return status_set(st, binding.st.code, "%s", binding.st.msg);
            return status_set(st, CODE_INVALID_ARGUMENT, "the query is malformed");
        }
    }
    TRY(bind_path(op, message, st));
    TRY(json_check_message(message, st));
    TRY(check_token_bounds(op, message, st));
    *ret = message;
    return CODE_OK;
}

/* ---- the call ---- */

static void op_call(struct op *op, struct bytes assertion)
{
    const struct route *route = op->match.route;
    const struct method_access *access = method_access_find(route->service, route->rpc);
    struct status st = {0};
    int http_status = 0;
    ProtobufCMessage *message = NULL;
    enum code code = read_arguments(op, &message, &http_status, &st);
    if (code == CODE_OK && route->session == ROUTE_SESSION_BEGIN)
        code = set_source(op, message, &st);
    if (code != CODE_OK) {
        op_refuse(op, http_status, &st, NULL, NULL);
        return;
    }
    const struct rpc_call call = {
        .service = route->service,
        .descriptor = route->descriptor,
        .method = route->rpc,
        .request = message,
        .timeout_ms = CALL_TIMEOUT_MS,
        .traceparent = op->traceparent,
        .assertion = assertion,
        .authority = access->senders != SENDER_ANY,
    };
    edge_call(op->edge, &call, on_reply, op);
}

static void on_session(const struct session *session, const struct status *session_st, void *arg)
{
    struct op *op = arg;
    struct status st = {0};

    if (!op->request) {
        op_free(op);
        return;
    }
    if (!session) {
        bool unauthenticated = session_st->code == CODE_UNAUTHENTICATED;
        op_refuse(op, 0, session_st, unauthenticated ? "WWW-Authenticate" : NULL,
                  "Bearer realm=\"clm\", error=\"invalid_token\"");
        return;
    }
    (void)snprintf(op->actor, sizeof op->actor, "%s", session->actor);
    const struct route *route = op->match.route;
    if (!route) { /* the OpenAPI document */
        const struct buf *openapi = &op->edge->gateway->openapi;
        op_answer(op, 200, NULL, openapi->data, openapi->len);
        return;
    }
    const struct method_access *access = method_access_find(route->service, route->rpc);
    if (!(session->roles & access->roles)) {
        (void)status_set(&st, CODE_PERMISSION_DENIED, "%s %s needs the role %s", route->method, route->path,
                         roles_least_name(access->roles));
        op_refuse(op, 0, &st, NULL, NULL);
        return;
    }
    (void)snprintf(op->session_id, sizeof op->session_id, "%s", session->id);
    op_call(op, session->assertion);
}

/* "Bearer <key>" → key; NULL if it is not of that form. */
static const char *bearer(const struct http_request *request)
{
    const char *value = http_request_header(request, "Authorization");
    if (!value || http_request_header_count(request, "Authorization") != 1 ||
        strncasecmp(value, "Bearer ", 7) != 0)
        return NULL;
    value += 7;
    size_t len = strlen(value);
    return len > 0 && len <= API_KEY_MAX ? value : NULL;
}

/* The secret of a console session out of the Cookie field; false if there is none of the right form. */
static bool cookie_secret(const struct http_request *request, char out[SESSION_MAX + 1])
{
    const char *at = http_request_header(request, "Cookie");
    if (!at || http_request_header_count(request, "Cookie") != 1)
        return false;
    while (*at) {
        at += strspn(at, "; ");
        size_t len = strcspn(at, ";");
        if (len > strlen(COOKIE) && strncmp(at, COOKIE "=", strlen(COOKIE) + 1) == 0) {
            size_t n = len - strlen(COOKIE) - 1;
            if (n == 0 || n > SESSION_MAX)
                return false;
            memcpy(out, at + strlen(COOKIE) + 1, n);
            out[n] = '\0';
            return true;
        }
        at += len;
    }
    return false;
}

/* A browser adds cookies to requests that another site made: what changes something must show that the
 * console made it. Another site's page cannot set this field without our leave, and says its own origin. */
static bool console_made(const struct http_request *request)
{
    const char *csrf = http_request_header(request, "X-Clm-Csrf");
    const char *site = http_request_header(request, "Sec-Fetch-Site");
    const char *origin = http_request_header(request, "Origin");
    const char *host = http_request_header(request, "Host");
    return csrf && strcmp(csrf, "1") == 0 && (!site || strcmp(site, "same-origin") == 0) &&
           (!origin || (host && strncmp(origin, "https://", 8) == 0 && strcasecmp(origin + 8, host) == 0));
}

static void authenticate(struct op *op)
{
    struct edge *edge = op->edge;
    const struct http_request *request = op->request;
    const struct route *route = op->match.route;
    const char *source = http_connection_peer(http_request_connection(request));
    struct status st = {0};
    char secret[SESSION_MAX + 1];
    const char *key = bearer(request);
    bool begins = route && route->session == ROUTE_SESSION_BEGIN;
    if (key && !begins) {
        session_find(edge->sessions, CREDENTIAL_API_KEY, key, source, on_session, op);
        return;
    }
    bool cookie = !begins && !http_request_header(request, "Authorization") && cookie_secret(request, secret);
    if (!cookie && !begins) {
        (void)status_set(&st, CODE_UNAUTHENTICATED, "send an API key: \"Authorization: Bearer clm_…\"");
        op_refuse(op, 0, &st, "WWW-Authenticate", "Bearer realm=\"clm\"");
        return;
    }
    if (strcmp(http_request_method(request), "GET") != 0 && !console_made(request)) {
        (void)status_set(&st, CODE_PERMISSION_DENIED,
                         "a session's requests that change something need X-Clm-Csrf: 1 and the same origin");
        op_refuse(op, 0, &st, NULL, NULL);
    } else if (begins) {
        op_call(op, (struct bytes){0});
    } else {
        session_find(edge->sessions, CREDENTIAL_SESSION, secret, source, on_session, op);
        explicit_bzero(secret, sizeof secret);
    }
}

static void on_request(struct http_request *request, void *arg)
{
    struct edge *edge = arg;
    if (console_serve(request))
        return;
    struct status st = {0};
    struct op *op = calloc(1, sizeof *op);
    if (!op)
        abort();
    op->edge = edge;
    op->request = request;
    op->arena = arena_new();
    http_request_set_user(request, op);
    traceparent_child(http_request_header(request, "traceparent"), op->traceparent);
    (void)traceparent_trace_id(op->traceparent, op->trace_id);

    const char *method = http_request_method(request), *path = http_request_path(request);
    bool openapi = strcmp(path, OPENAPI_PATH) == 0;
    route_find(method, path, &op->match);
    if (openapi)
        op->match.path_known = true;
    if (!op->match.path_known) {
        (void)status_set(&st, CODE_NOT_FOUND,
                         "there is nothing at %.100s; GET " OPENAPI_PATH " lists what is", path);
        op_refuse(op, 0, &st, NULL, NULL);
        return;
    }
    if (openapi ? strcmp(method, "GET") != 0 : op->match.route == NULL) {
        (void)status_set(&st, CODE_INVALID_ARGUMENT, "%.100s does not take %.16s", path, method);
        op_refuse(op, 405, &st, "Allow", openapi || strcmp(method, "POST") == 0 ? "GET" : "GET, POST");
        return;
    }
    authenticate(op);
}

static void on_gone(struct http_request *request, void *arg UNUSED)
{
    struct op *op = http_request_user(request);
    if (op)
        op->request = NULL;
}

const struct http_handler operator_handler = {
    .on_request = on_request,
    .on_gone = on_gone,
};
