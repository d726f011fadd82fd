/*
 * What exec wants sent: receipts, requests for certificates, renewals of the identity, a farewell. Each is
 * kept until it is answered for good, and one of them is in flight at a time. One row a kind. See
 * link_parts.h.
 */
#include "agent/net/link_parts.h"

#include <string.h>

#include "proto/agent.pb-c.h"
#include "wire/wire.h"

#define CALL_TIMEOUT_MS 30000
#define QUEUE_MAX       64
#define RENEWAL_MAX     (512u * 1024u)

enum request_kind { REQUEST_RESULT, REQUEST_SIGN, REQUEST_RENEW, REQUEST_FAREWELL };

struct request {
    struct request *next;
    enum request_kind kind;
    char task_id[UUID_TEXT_SIZE], traceparent[TRACEPARENT_SIZE]; /* "": of no task */
    uint32_t attempt, page;
    uint64_t sign_id;
    uint8_t *body;
    size_t body_len;
    unsigned failures;
    int64_t due_ms; /* monotonic */
};

/* How exec hears of an answer: refused says why, or is NULL and the body is the answer. */
typedef void request_tell(struct link *link, const struct request *request, const struct status *refused,
                          struct bytes body);

static void tell_result(struct link *link, const struct request *request, const struct status *refused,
                        struct bytes body UNUSED)
{
    Clm__Agent__ResultAnswer answer = CLM__AGENT__RESULT_ANSWER__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    answer.task_id = (char *)(uintptr_t)request->task_id;
    answer.has_attempt = answer.has_page = answer.has_acknowledged = 1;
    answer.attempt = request->attempt;
    answer.page = request->page;
    answer.acknowledged = !refused;
    answer.message = refused ? (char *)(uintptr_t)refused->msg : NULL;
    frame.result_answer = &answer;
    link->config.on_frame(&frame, link->config.arg);
}

static void tell_sign(struct link *link, const struct request *request, const struct status *refused,
                      struct bytes body)
{
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *msg = NULL;
    struct status st = refused ? *refused : (struct status){0};
    if (!refused &&
        wire_unpack(&clm__sign_response__descriptor, body.data, body.len, arena, &msg, &st) != CODE_OK)
        msg = NULL;
    Clm__Agent__SignAnswer answer = CLM__AGENT__SIGN_ANSWER__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    answer.has_id = answer.has_code = 1;
    answer.id = request->sign_id;
    answer.code = msg ? CODE_OK : (uint32_t)st.code;
    answer.message = msg ? NULL : st.msg;
    answer.response = (Clm__SignResponse *)msg;
    frame.sign_answer = &answer;
    link->config.on_frame(&frame, link->config.arg);
}

/* exec reads the body: what it trusts is its own to say. */
static void tell_renew(struct link *link, const struct request *request UNUSED, const struct status *refused,
                       struct bytes body)
{
    struct status st = refused ? *refused : (struct status){0};
    bool fits = !refused && body.len > 0 && body.len <= RENEWAL_MAX;
    if (!refused && !fits)
        (void)status_set(&st, CODE_INTERNAL, "the gateway's answer to a renewal has %zu bytes", body.len);
    Clm__Agent__RenewAnswer answer = CLM__AGENT__RENEW_ANSWER__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    answer.has_code = 1;
    answer.code = (uint32_t)st.code;
    answer.message = fits ? NULL : st.msg;
    answer.has_body = fits;
    if (fits)
        answer.body = (ProtobufCBinaryData){body.len, (uint8_t *)(uintptr_t)body.data};
    frame.renew_answer = &answer;
    link->config.on_frame(&frame, link->config.arg);
}

static void tell_farewell(struct link *link, const struct request *request UNUSED,
                          const struct status *refused, struct bytes body UNUSED)
{
    Clm__Agent__FarewellAnswer answer = CLM__AGENT__FAREWELL_ANSWER__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    struct status st = refused ? *refused : (struct status){0};
    answer.has_code = 1;
    answer.code = (uint32_t)st.code;
    answer.message = st.msg;
    frame.farewell_answer = &answer;
    link->config.on_frame(&frame, link->config.arg);
}

static const struct request_row {
    const char *path; /* NULL: the task's */
    /* 401 and 403 are no answer: a disabled agent's receipts are kept until it may speak again. */
    bool outlasts_refusal;
    request_tell *tell;
} rows[] = {
    [REQUEST_RESULT] = {.tell = tell_result, .outlasts_refusal = true, .path = NULL},
    [REQUEST_SIGN] = {.tell = tell_sign, .path = "/agent/v1/certificates/sign"},
    [REQUEST_RENEW] = {.tell = tell_renew, .path = "/agent/v1/identity/renew"},
    [REQUEST_FAREWELL] = {.tell = tell_farewell, .path = "/agent/v1/farewell"},
};

/* ---- the queue --------------------------------------------------------------------------------------------
 */

static void request_free(struct request *request)
{
    if (!request)
        return;
    free(request->body);
    free(request);
}

static void queue_remove(struct link *link, struct request *request)
{
    for (struct request **at = &link->queue; *at; at = &(*at)->next) {
        if (*at == request) {
            *at = request->next;
            link->n_queue--;
            return;
        }
    }
}

static enum code queue_add(struct link *link, struct request *request, struct status *st)
{
    if (link->n_queue >= QUEUE_MAX) {
        request_free(request);
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "%d requests are waiting for the gateway", QUEUE_MAX);
    }
    struct request **at = &link->queue;
    while (*at)
        at = &(*at)->next;
    *at = request;
    link->n_queue++;
    link_pump(link);
    return CODE_OK;
}

/* traceparent may be NULL. What is none is not passed on: a header is made of it. */
static struct request *request_new(enum request_kind kind, const ProtobufCMessage *body,
                                   const char *traceparent)
{
    char trace_id[TRACE_ID_SIZE];
    struct request *request = calloc(1, sizeof(*request));
    if (!request)
        abort();
    request->kind = kind;
    if (traceparent_trace_id(traceparent, trace_id))
        memcpy(request->traceparent, traceparent, TRACEPARENT_SIZE);
    request->body_len = protobuf_c_message_get_packed_size(body);
    request->body = malloc(request->body_len + 1);
    if (!request->body)
        abort();
    (void)protobuf_c_message_pack(body, request->body);
    return request;
}

struct request *request_first_due(struct link *link, int64_t now_ms, int64_t *ret_next_ms)
{
    for (struct request *request = link->queue; request; request = request->next) {
        if (request->due_ms <= now_ms)
            return request;
        if (request->due_ms < *ret_next_ms)
            *ret_next_ms = request->due_ms;
    }
    return NULL;
}

void requests_free(struct link *link)
{
    while (link->queue) {
        struct request *request = link->queue;
        queue_remove(link, request);
        request_free(request);
    }
}

/* ---- sending ----------------------------------------------------------------------------------------------
 */

static void answered(struct link *link, struct request *request, const struct http_response *response)
{
    const struct request_row *row = &rows[request->kind];
    struct status st;
    struct bytes body;
    body.data = http_response_body(response, &body.len);
    int http_status = http_response_status(response);
    bool refused = http_status / 100 != 2;
    if (refused) {
        enum code code = link_answer_error(response, &st);
        bool forbidden = code == CODE_UNAUTHENTICATED || code == CODE_PERMISSION_DENIED;
        if (code_info(code)->retryable || (forbidden && row->outlasts_refusal)) {
            int64_t pause_ms =
                link_pause_ms(http_status, http_response_retry_after_ms(response, 0), request->failures++);
            request->due_ms = clock_mono_ms() + pause_ms;
            return;
        }
    }
    row->tell(link, request, refused ? &st : NULL, body);
    queue_remove(link, request);
    request_free(request);
    link_wait_for_exec(link);
}

static void on_response(const struct http_response *response, const struct status *st, void *arg)
{
    (void)st; /* the connection's end is told by on_closed */
    struct link *link = arg;
    struct request *request = TAKE(link->sending);
    link->request_call = NULL;
    if (response)
        answered(link, request, response);
    loop_timer_set(link->pump_timer, 0);
}

void request_send(struct link *link, struct request *request)
{
    char path[sizeof("/agent/v1/tasks//result") + UUID_TEXT_SIZE];
    if (rows[request->kind].path)
        (void)snprintf(path, sizeof(path), "%s", rows[request->kind].path);
    else
        (void)snprintf(path, sizeof(path), "/agent/v1/tasks/%s/result", request->task_id);
    const bool traced = *request->traceparent;
    const struct http_header headers[] = {
        {"Content-Type", PROTOBUF_TYPE},
        {traced ? "traceparent" : NULL, traced ? request->traceparent : NULL},
        {NULL, NULL}};
    struct http_client_request http = {.method = "POST",
                                       .path = path,
                                       .headers = headers,
                                       .body = request->body,
                                       .body_len = request->body_len,
                                       .timeout_ms = CALL_TIMEOUT_MS};
    link_end_holds(link);
    link->sending = request;
    link->request_call = http_client_send(link->client, &http, on_response, link);
}

/* ---- for net ----------------------------------------------------------------------------------------------
 */

enum code link_send_result(struct link *link, const Clm__Agent__Result *result, struct status *st)
{
    if (!result->task_id || !uuid_valid(result->task_id) || !result->request)
        return status_set(st, CODE_INVALID_ARGUMENT, "a result without task id or request");
    for (struct request *request = link->queue; request; request = request->next) {
        if (request->kind == REQUEST_RESULT && strcmp(request->task_id, result->task_id) == 0 &&
            request->attempt == result->request->attempt && request->page == result->request->page)
            return CODE_OK;
    }
    struct request *request = request_new(REQUEST_RESULT, &result->request->base, result->traceparent);
    memcpy(request->task_id, result->task_id, UUID_TEXT_SIZE);
    request->attempt = result->request->attempt;
    request->page = result->request->page;
    return queue_add(link, request, st);
}

enum code link_send_sign(struct link *link, const Clm__Agent__Sign *sign, struct status *st)
{
    if (!sign->has_id || !sign->has_request)
        return status_set(st, CODE_INVALID_ARGUMENT, "a sign request without id or request");
    Clm__SignRequest body = CLM__SIGN_REQUEST__INIT;
    body.has_request = 1;
    body.request = sign->request;
    struct request *request = request_new(REQUEST_SIGN, &body.base, sign->traceparent);
    request->sign_id = sign->id;
    return queue_add(link, request, st);
}

enum code link_send_renew(struct link *link, const Clm__Agent__Renew *renew, struct status *st)
{
    if (!renew->has_request)
        return status_set(st, CODE_INVALID_ARGUMENT, "a renewal without its request");
    /* exec asks anew: the former is void */
    for (struct request *request = link->queue, *next; request; request = next) {
        next = request->next;
        if (request->kind == REQUEST_RENEW && request != link->sending) {
            queue_remove(link, request);
            request_free(request);
        }
    }
    Clm__RenewRequest body = CLM__RENEW_REQUEST__INIT;
    body.has_request = 1;
    body.request = renew->request;
    return queue_add(link, request_new(REQUEST_RENEW, &body.base, NULL), st);
}

enum code link_send_farewell(struct link *link, const Clm__Agent__Farewell *farewell, struct status *st)
{
    if (!farewell->has_request)
        return status_set(st, CODE_INVALID_ARGUMENT, "a farewell without its request");
    Clm__FarewellRequest body = CLM__FAREWELL_REQUEST__INIT;
    body.has_request = 1;
    body.request = farewell->request;
    return queue_add(link, request_new(REQUEST_FAREWELL, &body.base, NULL), st);
}
