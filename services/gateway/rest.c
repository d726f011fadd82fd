/*
 * The operator listener: one REST call is route → credential → role → arguments → bus → JSON. A call whose
 * client left meanwhile is finished and its answer dropped: its op outlives the request and loses the pointer
 * in on_gone.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "bus/access.h"
#include "gateway/console.h"
#include "gateway/guests.h"
#include "gateway/rest_parts.h"
#include "gateway/streams.h"
#include "proto/event.pb-c.h"
#include "proto/registry.pb-c.h"
#include "wire/wire.h"

#define CALL_TIMEOUT_MS 10000
#define COOKIE_RULES    "Path=/; Secure; HttpOnly; SameSite=Strict"
#define COOKIE_LIFE_SEC "43200" /* the registry ends it then, too */

static void forget_everywhere(struct gateway *gateway)
{
    for (size_t i = 0; i < gateway->n_edges; i++)
        if (gateway->edges[i])
            edge_post_forget(gateway->edges[i]);
}

#define CHALLENGE "Bearer realm=\"clm\", error=\"invalid_token\""

/* A session is remembered for some seconds after it has ended. Who is told that there is none is not told
 * that nothing was found, but that nobody is signed in. */
static void refuse(struct op *op, const struct status *st)
{
    struct status ended;
    if (!op->own_session || st->code != CODE_NOT_FOUND) {
        op_refuse(op, op->if_match && st->code == CODE_ABORTED ? 412 : 0, st, NULL, NULL);
        return;
    }
    session_forget(op->edge->sessions, op->session_id);
    (void)status_set(&ended, CODE_UNAUTHENTICATED, "the session has ended: sign in again");
    op_refuse(op, 0, &ended, "WWW-Authenticate", CHALLENGE);
}

static void on_reply(struct edge *edge, struct arena *arena UNUSED, const ProtobufCMessage *reply,
                     const struct status *st, void *arg)
{
    struct op *op = arg;
    if (!reply) {
        refuse(op, st);
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
    buf_init(&json, 4 * WIRE_BODY_MAX);
    if (json_write(reply, &json, &wst) != CODE_OK) {
        op_refuse(op, 0, &wst, NULL, NULL);
        explicit_bzero(cookie, sizeof cookie);
        return;
    }
    etag_of(reply, &json, etag);
    if (etag_is_known(op, etag))
        op_answer(op, 304, NULL, etag, NULL, 0);
    else
        op_answer(op, op->match.route->success, *cookie ? cookie : NULL, *etag ? etag : NULL, json.data,
                  json.len);
    explicit_bzero(cookie, sizeof cookie);
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
    enum code code = op_arguments(op, &message, &http_status, &st);
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
        op_count(op, 200);
}

/* ---- the call ---- */

static void op_call(struct op *op, struct bytes assertion)
{
    const struct route *route = op->match.route;
    const struct method_access *access = method_access_find(route->service, route->rpc);
    struct status st = {0};
    int http_status = 0;
    ProtobufCMessage *message = NULL;
    enum code code = op_arguments(op, &message, &http_status, &st);
    if (code == CODE_OK && route->session == ROUTE_SESSION_BEGIN)
        code = op_set_source(op, message, &st);
    if (code == CODE_OK)
        code = json_check_whole(message, &st);
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

/* The stream keeps the credential: it asks about it again. */
static void watch(struct op *op, const struct session *session)
{
    char secret[SESSION_MAX + 1] = "";
    const char *key = request_bearer(op->request);
    bool cookie = !key && request_cookie(op->request, secret);
    op_watch(op, session, cookie ? CREDENTIAL_SESSION : CREDENTIAL_API_KEY, cookie ? secret : key);
    explicit_bzero(secret, sizeof secret);
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
        op_refuse(op, 0, session_st, unauthenticated ? "WWW-Authenticate" : NULL, CHALLENGE);
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
        document_answer(op);
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

static void authenticate(struct op *op)
{
    struct edge *edge = op->edge;
    const struct http_request *request = op->request;
    const struct route *route = op->match.route;
    const char *source = http_connection_peer(http_request_connection(request));
    struct status st = {0};
    char secret[SESSION_MAX + 1];
    const char *key = request_bearer(request);
    bool begins = route && route->session == ROUTE_SESSION_BEGIN;
    if (key && !begins) {
        session_find(edge->sessions, CREDENTIAL_API_KEY, key, source, on_session, op);
        return;
    }
    bool cookie =
        !begins && !http_request_header(request, "Authorization") && request_cookie(request, secret);
    if (!cookie && !begins) {
        (void)status_set(&st, CODE_UNAUTHENTICATED, "send an API key: \"Authorization: Bearer clm_…\"");
        op_refuse(op, 0, &st, "WWW-Authenticate", "Bearer realm=\"clm\"");
        return;
    }
    if (strcmp(http_request_method(request), "GET") != 0 && !request_is_ours(request)) {
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
    op->began_us = clock_mono_us();
    op->arena = arena_new();
    http_request_set_user(request, op);
    traceparent_child(http_request_header(request, "traceparent"), op->traceparent);
    (void)traceparent_trace_id(op->traceparent, op->trace_id);

    const char *method = http_request_method(request), *path = http_request_path(request);
    bool document = document_is(path);
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
        op_refuse(op, 405, &st, "Allow", document ? "GET" : route_allows(&op->match));
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

static bool on_connection_open(struct http_connection *connection, void *arg)
{
    struct edge *edge = arg;
    edge_opened(edge, connection, "operators");
    const char *peer = http_connection_peer(connection);
    if (guests_enter(edge->operator_guests, peer))
        return true;
    refusals_add(edge->gateway->refusals, REFUSAL_LOGIN, peer, NULL,
                 "too many connections from one source at once");
    return false;
}

static void on_connection_close(struct http_connection *connection, void *arg)
{
    struct edge *edge = arg;
    edge_closed(edge, "operators");
    guests_leave(edge->operator_guests, http_connection_peer(connection));
}

const struct http_handler operator_handler = {
    .on_connection_open = on_connection_open,
    .on_connection_close = on_connection_close,
    .on_request = on_request,
    .on_gone = on_gone,
    .on_writable = on_writable,
};
