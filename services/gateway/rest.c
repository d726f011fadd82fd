/*
 * The operator listener: one REST call is route → credential → role → arguments → bus → JSON. A call whose
 * client left meanwhile is finished and its answer dropped: its op outlives the request and loses the pointer
 * in on_gone.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "bus/access.h"
#include "gateway/console.h"
#include "gateway/docs.h"
#include "gateway/edge.h"
#include "gateway/problem.h"
#include "gateway/routes.h"
#include "gateway/sessions.h"
#include "gateway/streams.h"
#include "proto/event.pb-c.h"
#include "proto/registry.pb-c.h"
#include "wire/wire.h"

#define CALL_TIMEOUT_MS 10000
#define API_KEY_MAX     256
#define COOKIE          "__Host-clm-session"
#define COOKIE_RULES    "Path=/; Secure; HttpOnly; SameSite=Strict"
#define COOKIE_LIFE_SEC "43200" /* the registry ends it then, too */
#define SESSION_MAX     64
#define CURRENT         "current"
#define ETAG_SIZE       32
#define OPENAPI_PATH    "/api/v1/openapi.json"

struct op { /* one REST call */
    struct edge *edge;
    struct http_request *request; /* NULL once the client left */
    struct route_match match;
    struct arena *arena;
    struct stream *stream;           /* of a call that watches; it uses the request then */
    char session_id[UUID_TEXT_SIZE]; /* of the caller's console session; "" for an API key */
    char traceparent[TRACEPARENT_SIZE], trace_id[TRACE_ID_SIZE];
    char actor[96];                 /* "" until it is known */
    char rate[48], rate_policy[48]; /* values of their fields; "" until the actor is known */
    uint32_t rate_reset_sec;
    bool if_match;
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

#define HEADERS_MAX 20

/* What every answer carries. */
static size_t common_headers(const struct op *op, struct http_header headers[HEADERS_MAX])
{
    const struct http_header all[] = {
        {"Cache-Control", "no-store"},
        {"X-Content-Type-Options", "nosniff"},
        {"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
        {"Strict-Transport-Security", "max-age=31536000"},
        {"Referrer-Policy", "no-referrer"},
        {"X-Request-Id", op->trace_id},
    };
    size_t n = ARRAY_LEN(all);
    memcpy(headers, all, sizeof all);
    if (*op->rate) {
        headers[n++] = (struct http_header){"RateLimit-Policy", op->rate_policy};
        headers[n++] = (struct http_header){"RateLimit", op->rate};
    }
    return n;
}

/* Answers with a problem and ends the call. http_status 0: the code's own. */
static void op_refuse(struct op *op, int http_status, const struct status *st, const char *header,
                      const char *value)
{
    if (op->request) {
        AUTO_BUF struct buf body = {0};
        struct http_header headers[HEADERS_MAX] = {{0}};
        size_t n = common_headers(op, headers);
        note_refusal(op, st);
        headers[n++] = (struct http_header){"Content-Type", "application/problem+json"};
        if (header)
            headers[n++] = (struct http_header){header, value};
        else
            edge_retry_header(st->code, &headers[n]);
        int status = http_status ? http_status : code_info(st->code)->http_status;
        count(op, status);
        if (status >= 500)
            log_warn("REST call failed", "method", http_request_method(op->request), "path",
                     http_request_path(op->request), "trace", op->trace_id, "reason", st->msg, NULL);
        struct status told = edge_tell(st);
        buf_init(&body, 16 * 1024);
        if (!problem_write(&body, status, &told, op->trace_id))
            abort();
        http_respond(op->request, status, headers, body.data, body.len);
        op->request = NULL;
    }
    op_free(op);
}

/* cookie: a Set-Cookie to send; etag: an entity tag; NULL for none. */
static void op_answer(struct op *op, int status, const char *cookie, const char *etag, const void *body,
                      size_t len)
{
    if (op->request) {
        struct http_header headers[HEADERS_MAX] = {{0}};
        size_t n = common_headers(op, headers);
        if (status != 304)
            headers[n++] = (struct http_header){"Content-Type", "application/json"};
        if (cookie)
            headers[n++] = (struct http_header){"Set-Cookie", cookie};
        if (etag)
            headers[n++] = (struct http_header){"ETag", etag};
        count(op, status);
        http_respond(op->request, status, headers, body, len);
        op->request = NULL;
    }
    op_free(op);
}

/* ---- versions ---- */

/* The entity tag of a view: its version; "" if it has none. */
static void etag_of(const ProtobufCMessage *view, char etag[ETAG_SIZE])
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(view->descriptor, "version");
    etag[0] = '\0';
    if (field && field->type == PROTOBUF_C_TYPE_UINT64)
        (void)snprintf(etag, ETAG_SIZE, "\"%" PRIu64 "\"",
                       *(const uint64_t *)((const char *)view + field->offset));
}

/* Whether the client of a GET has this very state already (RFC 9110 section 13.1.2). */
static bool is_known(const struct op *op, const char *etag)
{
    const char *known = op->request ? http_request_header(op->request, "If-None-Match") : NULL;
    return *etag && known && strcmp(op->match.route->method, "GET") == 0 &&
           (strcmp(known, "*") == 0 || strstr(known, etag));
}

/* If-Match becomes the request's if_version; "*" is what every call means without it. */
static enum code bind_if_match(struct op *op, ProtobufCMessage *message, struct status *st)
{
    const char *value = http_request_header(op->request, "If-Match");
    if (!value || strcmp(value, "*") == 0)
        return CODE_OK;
    if (!protobuf_c_message_descriptor_get_field_by_name(message->descriptor, "if_version"))
        return status_set(st, CODE_INVALID_ARGUMENT, "this call does not take If-Match");
    char digits[32];
    size_t len = strlen(value);
    if (len < 3 || len > 22 || value[0] != '"' || value[len - 1] != '"' ||
        strspn(value + 1, "0123456789") != len - 2)
        return status_set(st, CODE_INVALID_ARGUMENT, "If-Match: expected the ETag of an earlier answer");
    memcpy(digits, value + 1, len - 2);
    digits[len - 2] = '\0';
    op->if_match = true;
    return json_set_field(message, "ifVersion", digits, op->arena, st);
}

static void forget_everywhere(struct gateway *gateway)
{
    for (size_t i = 0; i < gateway->n_edges; i++)
        if (gateway->edges[i])
            edge_post_forget(gateway->edges[i]);
}

static void on_reply(struct edge *edge, struct arena *arena UNUSED, const ProtobufCMessage *reply,
                     const struct status *st, void *arg)
{
    struct op *op = arg;
    if (!reply) {
        op_refuse(op, op->if_match && st->code == CODE_ABORTED ? 412 : 0, st, NULL, NULL);
        return;
    }
    AUTO_BUF struct buf json = {0};
    struct status wst = {0};
    char cookie[256] = "", etag[ETAG_SIZE];
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
    } else if (session == ROUTE_GRANT_CHANGE) {
        forget_everywhere(edge->gateway);
    }
    etag_of(reply, etag);
    buf_init(&json, 4 * WIRE_BODY_MAX);
    if (is_known(op, etag))
        op_answer(op, 304, NULL, etag, NULL, 0);
    else if (json_write(reply, &json, &wst) != CODE_OK)
        op_refuse(op, 0, &wst, NULL, NULL);
    else
        op_answer(op, op->match.route->success, *cookie ? cookie : NULL, *etag ? etag : NULL, json.data,
                  json.len);
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
    TRY(bind_if_match(op, message, st));
    TRY(json_check_message(message, st));
    TRY(check_token_bounds(op, message, st));
    *ret = message;
    return CODE_OK;
}

/* ---- watching ---- */

static void on_stream_end(void *arg)
{
    struct op *op = arg;
    op->request = NULL;
    op_free(op);
}

/* The header goes before the parameter: a browser that comes again sends the URL that it began with. */
static enum code set_last_event_id(struct op *op, Clm__WatchEventsRequest *asked, struct status *st)
{
    const char *text = http_request_header(op->request, "Last-Event-ID");
    uint64_t id = asked->last_event_id;
    if (text && *text && !last_event_id_read(text, &id))
        return status_set(st, CODE_INVALID_ARGUMENT, "Last-Event-ID: expected the id of an event");
    if (id >= INT64_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "lastEventId: expected the id of an event");
    asked->has_last_event_id = asked->has_last_event_id || (text && *text);
    asked->last_event_id = id;
    return CODE_OK;
}

static void op_watch(struct op *op, const struct session *session, enum credential_kind kind,
                     const char *credential)
{
    struct status st = {0};
    int http_status = 0;
    ProtobufCMessage *message = NULL;
    enum code code = read_arguments(op, &message, &http_status, &st);
    if (code == CODE_OK)
        code = set_last_event_id(op, (Clm__WatchEventsRequest *)message, &st);
    if (code == CODE_OK) {
        const struct stream_start start = {
            .request = op->request,
            .trace_id = op->trace_id,
            .source = http_connection_peer(http_request_connection(op->request)),
            .asked = (const Clm__WatchEventsRequest *)message,
            .credential_kind = kind,
            .credential = credential,
            .session = session,
            .on_end = on_stream_end,
            .arg = op,
        };
        code = stream_open(op->edge->streams, &start, &op->stream, &st);
    }
    if (code != CODE_OK)
        op_refuse(op, http_status, &st, NULL, NULL);
    else
        count(op, 200);
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

/* The stream keeps the credential: it asks about it again. */
static void watch(struct op *op, const struct session *session)
{
    char secret[SESSION_MAX + 1] = "";
    const char *key = bearer(op->request);
    bool cookie = !key && cookie_secret(op->request, secret);
    op_watch(op, session, cookie ? CREDENTIAL_SESSION : CREDENTIAL_API_KEY, cookie ? secret : key);
    explicit_bzero(secret, sizeof secret);
}

/* What describes the API, beside what the routes are. */
enum document { NO_DOCUMENT, DOCUMENT_OPENAPI, DOCUMENT_PAGE, DOCUMENT_CSS };

static enum document document_find(const char *path)
{
    if (strcmp(path, OPENAPI_PATH) == 0)
        return DOCUMENT_OPENAPI;
    if (strcmp(path, "/api/docs") == 0)
        return DOCUMENT_PAGE;
    return strcmp(path, "/api/docs.css") == 0 ? DOCUMENT_CSS : NO_DOCUMENT;
}

static void answer_document(struct op *op)
{
    const struct gateway *gateway = op->edge->gateway;
    const char *type = "application/json";
    const void *data = gateway->openapi.data;
    size_t len = gateway->openapi.len;
    struct http_header headers[HEADERS_MAX] = {{0}};
    size_t n = common_headers(op, headers);
    switch (document_find(http_request_path(op->request))) {
    case DOCUMENT_PAGE:
        type = "text/html; charset=utf-8";
        data = gateway->docs.data;
        len = gateway->docs.len;
        break;
    case DOCUMENT_CSS:
        type = "text/css; charset=utf-8";
        data = docs_css;
        len = strlen(docs_css);
        break;
    default:
        break;
    }
    for (size_t i = 0; i < n; i++) /* the page has a style of ours, and no script */
        if (strcmp(headers[i].name, "Content-Security-Policy") == 0)
            headers[i].value = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
                               "frame-ancestors 'none'";
    headers[n++] = (struct http_header){"Content-Type", type};
    count(op, 200);
    http_respond(op->request, 200, headers, data, len);
    op->request = NULL;
    op_free(op);
}

/* False when the actor's budget is used up (draft-ietf-httpapi-ratelimit-headers). */
static bool take_rate(struct op *op)
{
    struct rate rate;
    bool good = rates_take(op->edge->gateway->rates, op->actor, clock_mono_ms(), &rate);
    op->rate_reset_sec = rate.reset_sec;
    (void)snprintf(op->rate_policy, sizeof op->rate_policy, "\"actor\";q=%" PRIu32 ";w=%d", rate.quota,
                   RATE_WINDOW_SEC);
    (void)snprintf(op->rate, sizeof op->rate, "\"actor\";r=%" PRIu32 ";t=%" PRIu32, rate.left,
                   rate.reset_sec);
    return good;
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
    if (!take_rate(op)) {
        char wait[16];
        (void)snprintf(wait, sizeof wait, "%u", op->rate_reset_sec);
        (void)status_set(&st, CODE_RESOURCE_EXHAUSTED,
                         "that was too many requests in a minute; go on in %u s", op->rate_reset_sec);
        op_refuse(op, 0, &st, "Retry-After", wait);
        return;
    }
    const struct route *route = op->match.route;
    if (!route) {
        answer_document(op);
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
    if (route->stream)
        watch(op, session);
    else
        op_call(op, session->assertion);
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
    if (crls_serve(edge->gateway->crls, request) || console_serve(request))
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
    bool document = document_find(path) != NO_DOCUMENT;
    route_find(method, path, &op->match);
    if (document)
        op->match.path_known = true;
    if (!op->match.path_known) {
        (void)status_set(&st, CODE_NOT_FOUND,
                         "there is nothing at %.100s; GET " OPENAPI_PATH " lists what is", path);
        op_refuse(op, 0, &st, NULL, NULL);
        return;
    }
    if (document ? strcmp(method, "GET") != 0 : op->match.route == NULL) {
        (void)status_set(&st, CODE_INVALID_ARGUMENT, "%.100s does not take %.16s", path, method);
        op_refuse(op, 405, &st, "Allow", document || strcmp(method, "POST") == 0 ? "GET" : "GET, POST");
        return;
    }
    authenticate(op);
}

static void on_gone(struct http_request *request, void *arg UNUSED)
{
    struct op *op = http_request_user(request);
    if (!op)
        return;
    op->request = NULL;
    if (op->stream) {
        stream_gone(op->stream);
        op_free(op);
    }
}

static void on_writable(struct http_request *request, void *arg UNUSED)
{
    struct op *op = http_request_user(request);
    if (op && op->stream)
        stream_writable(op->stream);
}

const struct http_handler operator_handler = {
    .on_request = on_request,
    .on_gone = on_gone,
    .on_writable = on_writable,
};
