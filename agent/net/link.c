/*
 * The state of the link is what is in flight: at most two check-ins (one held, an urgent one behind it ends
 * the hold) and one request of the queue. A new check-in is sent only when the queue has nothing that is due,
 * so that it never tells less than exec already knows; after an answer that exec must hear of, it waits for
 * exec's next snapshot (bounded). All on net's loop; the gateway's bytes pass wire_unpack before anything
 * else.
 */
#include "agent/net/link.h"

#include <assert.h>
#include <string.h>

#include "agent/facts.h"
#include "agent/metrics.h"
#include "agent/net/proxy.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "http/client.h"
#include "pki/cert.h"
#include "pki/digest.h"
#include "proto/agent.pb-c.h"
#include "wire/wire.h"

#define INTERVAL_DEFAULT_MS 30000
#define INTERVAL_MIN_MS     5000
#define INTERVAL_MAX_MS     (60 * 60 * 1000)
#define HOLD_SLACK_MS       15000
#define DRIFT_AGAIN_MS      (5 * 60 * 1000)
#define CALL_TIMEOUT_MS     30000
#define EXEC_WAIT_MS        200
#define CLOCKS_AGREE_MS     2000 /* what wall and monotonic clock may differ by while a check-in is held */
#define EMPTY_HOLD_MS       1000 /* a hold that ends sooner, for no reason of ours, is followed by a pause */
#define BACKOFF_BASE_MS     500
#define BACKOFF_CAP_MS      60000
#define REFUSED_PAUSE_MS    (5 * 60 * 1000)
#define QUEUE_MAX           64
#define RENEWAL_MAX         (512u * 1024u)
#define RESPONSE_MAX        (2u * 1024u * 1024u)
#define PROTOBUF_TYPE       "application/x-protobuf"

enum item_kind { ITEM_RESULT, ITEM_SIGN, ITEM_RENEW, ITEM_FAREWELL };

struct item { /* a request of exec's, kept until it is answered for good */
    struct item *next;
    enum item_kind kind;
    char task_id[UUID_TEXT_SIZE], traceparent[TRACEPARENT_SIZE]; /* "": of no task */
    uint32_t attempt, page;
    uint64_t sign_id;
    uint8_t *body;
    size_t body_len;
    unsigned failures;
    int64_t due_ms; /* monotonic */
};

struct checkin { /* one in flight */
    struct link *link;
    struct http_call *call;
    int64_t sent_ms, sent_wall_ms;
    bool ended_by_us; /* something was sent behind it */
};

struct link {
    struct loop *loop;
    struct link_config config;
    struct endpoint gateway;
    uint32_t generation;
    struct tls_context *tls;
    struct net_proxy proxy;
    struct http_client *client;
    struct loop_timer *connect_timer, *pump_timer;
    unsigned failures;       /* of connecting or checking in, in a row */
    int64_t next_checkin_ms; /* monotonic */
    bool connected, waiting_for_exec, urgent, facts_sent, drift_sent;
    uint8_t drift_digest[SHA256_SIZE]; /* of what was sent last */
    int64_t drift_sent_ms;
    int64_t interval_ms;
    char instance_id[UUID_TEXT_SIZE], boot_id[64];
    uint8_t *snapshot; /* packed Snapshot; NULL before the first */
    size_t snapshot_len;
    struct buf
        facts; /* packed, of the last snapshot: they are sent once a connection and when they changed */
    struct metrics metrics;
    struct checkin checkin[2];
    struct http_call *item_call;
    struct item *queue; /* the one in flight is `sending` */
    struct item *sending;
    size_t n_queue;
};

static void pump(struct link *link);
static void link_connect(struct link *link);

/* ---- telling exec -----------------------------------------------------------------------------------------
 */

static void tell_link_state(struct link *link, bool connected, bool untrusted, const char *message)
{
    Clm__Agent__LinkState state = CLM__AGENT__LINK_STATE__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    state.has_connected = 1;
    state.connected = connected;
    state.message = (char *)(uintptr_t)message;
    state.has_untrusted = 1;
    state.untrusted = untrusted;
    frame.link = &state;
    link->connected = connected;
    link->config.on_frame(&frame, link->config.arg);
}

/* ---- pauses -----------------------------------------------------------------------------------------------
 */

static int64_t with_jitter(int64_t ms)
{
    return ms + random_below((uint32_t)(ms / 2 + 1));
}

int64_t link_pause_ms(int http_status, int64_t retry_after_ms, unsigned failures)
{
    if (http_status == 401 || http_status == 403)
        return with_jitter(REFUSED_PAUSE_MS);
    if (retry_after_ms > 0)
        return with_jitter(retry_after_ms > INTERVAL_MAX_MS ? INTERVAL_MAX_MS : retry_after_ms);
    return BACKOFF_BASE_MS / 2 + backoff_full_jitter_ms(failures, BACKOFF_BASE_MS, BACKOFF_CAP_MS);
}

/* What an answer that is not 2xx says: AgentError's code, or one made of the HTTP status. */
static enum code answer_error(const struct http_response *response, struct status *st)
{
    int http_status = http_response_status(response);
    AUTO_ARENA struct arena *arena = arena_new();
    size_t len;
    const uint8_t *body = http_response_body(response, &len);
    ProtobufCMessage *msg;
    struct status ignored;
    if (len > 0 && wire_unpack(&clm__agent_error__descriptor, body, len, arena, &msg, &ignored) == CODE_OK) {
        const Clm__AgentError *error = (const Clm__AgentError *)msg;
        const struct code_info *info = code_info((enum code)error->code);
        if (info->code != CODE_OK && error->code == (uint32_t)info->code)
            return status_set(st, info->code, "%s", error->message ? error->message : info->title);
    }
    enum code code = http_status == 429 || http_status >= 500 ? CODE_UNAVAILABLE
                     : http_status == 401                     ? CODE_UNAUTHENTICATED
                     : http_status == 403                     ? CODE_PERMISSION_DENIED
                     : http_status == 404                     ? CODE_NOT_FOUND
                                                              : CODE_INVALID_ARGUMENT;
    return status_set(st, code, "the gateway answered %d %s", http_status, http_reason(http_status));
}

/* ---- requests of exec -------------------------------------------------------------------------------------
 */

static void item_free(struct item *item)
{
    if (!item)
        return;
    free(item->body);
    free(item);
}

static void queue_remove(struct link *link, struct item *item)
{
    for (struct item **at = &link->queue; *at; at = &(*at)->next) {
        if (*at == item) {
            *at = item->next;
            link->n_queue--;
            return;
        }
    }
}

static void item_done_result(struct link *link, const struct item *item, bool acknowledged,
                             const char *message)
{
    Clm__Agent__ResultAnswer answer = CLM__AGENT__RESULT_ANSWER__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    answer.task_id = (char *)(uintptr_t)item->task_id;
    answer.has_attempt = answer.has_page = answer.has_acknowledged = 1;
    answer.attempt = item->attempt;
    answer.page = item->page;
    answer.acknowledged = acknowledged;
    answer.message = (char *)(uintptr_t)message;
    frame.result_answer = &answer;
    link->config.on_frame(&frame, link->config.arg);
}

static void item_done_sign(struct link *link, const struct item *item, const struct status *st,
                           Clm__SignResponse *response)
{
    Clm__Agent__SignAnswer answer = CLM__AGENT__SIGN_ANSWER__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    answer.has_id = answer.has_code = 1;
    answer.id = item->sign_id;
    answer.code = response ? CODE_OK : (uint32_t)st->code;
    answer.message = response ? NULL : (char *)(uintptr_t)st->msg;
    answer.response = response;
    frame.sign_answer = &answer;
    link->config.on_frame(&frame, link->config.arg);
}

static void item_done_renew(struct link *link, const struct status *st, const uint8_t *body, size_t len)
{
    Clm__Agent__RenewAnswer answer = CLM__AGENT__RENEW_ANSWER__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    answer.has_code = 1;
    answer.code = body ? CODE_OK : (uint32_t)st->code;
    answer.message = body ? NULL : (char *)(uintptr_t)st->msg;
    answer.has_body = body != NULL;
    answer.body = (ProtobufCBinaryData){len, (uint8_t *)(uintptr_t)body};
    frame.renew_answer = &answer;
    link->config.on_frame(&frame, link->config.arg);
}

static void item_done_farewell(struct link *link, const struct status *st)
{
    Clm__Agent__FarewellAnswer answer = CLM__AGENT__FAREWELL_ANSWER__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    answer.has_code = 1;
    answer.code = (uint32_t)st->code;
    answer.message = (char *)(uintptr_t)st->msg;
    frame.farewell_answer = &answer;
    link->config.on_frame(&frame, link->config.arg);
}

/* The next check-in waits for what exec makes of this; a longer pause stays. */
static void wait_for_exec(struct link *link)
{
    int64_t until = clock_mono_ms() + EXEC_WAIT_MS;
    if (link->next_checkin_ms > until)
        return;
    link->waiting_for_exec = true;
    link->next_checkin_ms = until;
}

static void item_finish(struct link *link, struct item *item)
{
    queue_remove(link, item);
    item_free(item);
    wait_for_exec(link);
}

static void item_later(struct item *item, int http_status, int64_t retry_after_ms)
{
    item->due_ms = clock_mono_ms() + link_pause_ms(http_status, retry_after_ms, item->failures);
    item->failures++;
}

static void item_answered(struct link *link, struct item *item, const struct http_response *response)
{
    struct status st;
    if (http_response_status(response) / 100 != 2) {
        enum code code = answer_error(response, &st);
        /* A disabled agent's receipts are kept until it may speak again; a refused CSR is an answer. */
        bool wait =
            code_info(code)->retryable ||
            (item->kind == ITEM_RESULT && (code == CODE_UNAUTHENTICATED || code == CODE_PERMISSION_DENIED));
        if (wait) {
            item_later(item, http_response_status(response), http_response_retry_after_ms(response, 0));
            return;
        }
        if (item->kind == ITEM_RESULT)
            item_done_result(link, item, false, st.msg);
        else if (item->kind == ITEM_RENEW)
            item_done_renew(link, &st, NULL, 0);
        else if (item->kind == ITEM_FAREWELL)
            item_done_farewell(link, &st);
        else
            item_done_sign(link, item, &st, NULL);
        item_finish(link, item);
        return;
    }
    if (item->kind == ITEM_RESULT) {
        item_done_result(link, item, true, NULL);
        item_finish(link, item);
        return;
    }
    if (item->kind == ITEM_FAREWELL) {
        struct status ok = {0};
        item_done_farewell(link, &ok);
        item_finish(link, item);
        return;
    }
    AUTO_ARENA struct arena *arena = arena_new();
    size_t len;
    const uint8_t *body = http_response_body(response, &len);
    if (item->kind == ITEM_RENEW) { /* exec reads it: what it trusts is its own to say */
        bool fits = len > 0 && len <= RENEWAL_MAX;
        if (!fits)
            (void)status_set(&st, CODE_INTERNAL, "the gateway's answer to a renewal has %zu bytes", len);
        item_done_renew(link, &st, fits ? body : NULL, fits ? len : 0);
        item_finish(link, item);
        return;
    }
    ProtobufCMessage *msg = NULL;
    if (wire_unpack(&clm__sign_response__descriptor, body, len, arena, &msg, &st) != CODE_OK)
        msg = NULL;
    item_done_sign(link, item, &st, (Clm__SignResponse *)msg);
    item_finish(link, item);
}

static void on_item_response(const struct http_response *response, const struct status *st, void *arg)
{
    (void)st; /* the connection's end is told by on_closed */
    struct link *link = arg;
    struct item *item = TAKE(link->sending);
    link->item_call = NULL;
    if (response)
        item_answered(link, item, response);
    loop_timer_set(link->pump_timer, 0);
}

static void item_send(struct link *link, struct item *item)
{
    static const char *const paths[] = {[ITEM_SIGN] = "/agent/v1/certificates/sign",
                                        [ITEM_RENEW] = "/agent/v1/identity/renew",
                                        [ITEM_FAREWELL] = "/agent/v1/farewell"};
    char path[sizeof("/agent/v1/tasks//result") + UUID_TEXT_SIZE];
    if (item->kind == ITEM_RESULT)
        (void)snprintf(path, sizeof(path), "/agent/v1/tasks/%s/result", item->task_id);
    else
        (void)snprintf(path, sizeof(path), "%s", paths[item->kind]);
    const bool traced = *item->traceparent;
    const struct http_header headers[] = {{"Content-Type", PROTOBUF_TYPE},
                                          {traced ? "traceparent" : NULL, traced ? item->traceparent : NULL},
                                          {NULL, NULL}};
    struct http_client_request request = {.method = "POST",
                                          .path = path,
                                          .headers = headers,
                                          .body = item->body,
                                          .body_len = item->body_len,
                                          .timeout_ms = CALL_TIMEOUT_MS};
    for (size_t i = 0; i < ARRAY_LEN(link->checkin); i++)
        link->checkin[i].ended_by_us = true;
    link->sending = item;
    link->item_call = http_client_send(link->client, &request, on_item_response, link);
}

static enum code queue_add(struct link *link, struct item *item, struct status *st)
{
    if (link->n_queue >= QUEUE_MAX) {
        item_free(item);
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "%d requests are waiting for the gateway", QUEUE_MAX);
    }
    struct item **at = &link->queue;
    while (*at)
        at = &(*at)->next;
    *at = item;
    link->n_queue++;
    pump(link);
    return CODE_OK;
}

/* traceparent may be NULL. What is none is not passed on: a header is made of it. */
static struct item *item_new(enum item_kind kind, const ProtobufCMessage *body, const char *traceparent)
{
    char trace_id[TRACE_ID_SIZE];
    struct item *item = calloc(1, sizeof(*item));
    if (!item)
        abort();
    item->kind = kind;
    if (traceparent_trace_id(traceparent, trace_id))
        memcpy(item->traceparent, traceparent, TRACEPARENT_SIZE);
    item->body_len = protobuf_c_message_get_packed_size(body);
    item->body = malloc(item->body_len + 1);
    if (!item->body)
        abort();
    (void)protobuf_c_message_pack(body, item->body);
    return item;
}

enum code link_send_result(struct link *link, const Clm__Agent__Result *result, struct status *st)
{
    if (!result->task_id || !uuid_valid(result->task_id) || !result->request)
        return status_set(st, CODE_INVALID_ARGUMENT, "a result without task id or request");
    for (struct item *item = link->queue; item; item = item->next) {
        if (item->kind == ITEM_RESULT && strcmp(item->task_id, result->task_id) == 0 &&
            item->attempt == result->request->attempt && item->page == result->request->page)
            return CODE_OK;
    }
    struct item *item = item_new(ITEM_RESULT, &result->request->base, result->traceparent);
    memcpy(item->task_id, result->task_id, UUID_TEXT_SIZE);
    item->attempt = result->request->attempt;
    item->page = result->request->page;
    return queue_add(link, item, st);
}

enum code link_send_sign(struct link *link, const Clm__Agent__Sign *sign, struct status *st)
{
    if (!sign->has_id || !sign->has_request)
        return status_set(st, CODE_INVALID_ARGUMENT, "a sign request without id or request");
    Clm__SignRequest body = CLM__SIGN_REQUEST__INIT;
    body.has_request = 1;
    body.request = sign->request;
    struct item *item = item_new(ITEM_SIGN, &body.base, sign->traceparent);
    item->sign_id = sign->id;
    return queue_add(link, item, st);
}

enum code link_send_renew(struct link *link, const Clm__Agent__Renew *renew, struct status *st)
{
    if (!renew->has_request)
        return status_set(st, CODE_INVALID_ARGUMENT, "a renewal without its request");
    for (struct item *item = link->queue, *next; item; item = next) { /* exec asks anew: the former is void */
        next = item->next;
        if (item->kind == ITEM_RENEW && item != link->sending) {
            queue_remove(link, item);
            item_free(item);
        }
    }
    Clm__RenewRequest body = CLM__RENEW_REQUEST__INIT;
    body.has_request = 1;
    body.request = renew->request;
    return queue_add(link, item_new(ITEM_RENEW, &body.base, NULL), st);
}

enum code link_send_farewell(struct link *link, const Clm__Agent__Farewell *farewell, struct status *st)
{
    if (!farewell->has_request)
        return status_set(st, CODE_INVALID_ARGUMENT, "a farewell without its request");
    Clm__FarewellRequest body = CLM__FAREWELL_REQUEST__INIT;
    body.has_request = 1;
    body.request = farewell->request;
    return queue_add(link, item_new(ITEM_FAREWELL, &body.base, NULL), st);
}

/* ---- check-ins --------------------------------------------------------------------------------------------
 */

static void settings_apply(struct link *link, const Clm__AgentSettings *settings)
{
    if (!settings || !settings->has_checkin_interval_ms)
        return;
    int64_t ms = settings->checkin_interval_ms;
    link->interval_ms = ms < INTERVAL_MIN_MS ? INTERVAL_MIN_MS : ms > INTERVAL_MAX_MS ? INTERVAL_MAX_MS : ms;
}

bool link_time_counts(int64_t held_mono_ms, int64_t held_wall_ms)
{
    int64_t apart = held_wall_ms - held_mono_ms;
    return apart <= CLOCKS_AGREE_MS && apart >= -CLOCKS_AGREE_MS;
}

/* One frame each, so that none is larger than the channel's limit. */
static void tell_answer(struct link *link, const struct checkin *checkin,
                        const Clm__CheckinResponse *response)
{
    if (response->has_platform_time_at_ms || response->has_confirmed_generation) {
        Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
        frame.has_platform_time_at_ms =
            response->has_platform_time_at_ms &&
            link_time_counts(clock_mono_ms() - checkin->sent_ms, clock_wall_ms() - checkin->sent_wall_ms);
        frame.platform_time_at_ms = response->platform_time_at_ms;
        frame.has_confirmed_generation = response->has_confirmed_generation;
        frame.confirmed_generation = response->confirmed_generation;
        link->config.on_frame(&frame, link->config.arg);
    }
    if (response->n_audit_heads > 0 || response->has_cosigned_at_ms || response->want_audit_held) {
        Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
        frame.has_cosigned_at_ms = response->has_cosigned_at_ms;
        frame.cosigned_at_ms = response->cosigned_at_ms;
        frame.has_want_audit_held = response->has_want_audit_held;
        frame.want_audit_held = response->want_audit_held;
        frame.n_audit_heads = response->n_audit_heads;
        frame.audit_heads = response->audit_heads;
        link->config.on_frame(&frame, link->config.arg);
    }
    for (size_t i = 0; i < response->n_cancel_task_ids; i++) {
        Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
        frame.cancel_task_id = response->cancel_task_ids[i];
        link->config.on_frame(&frame, link->config.arg);
    }
    for (size_t i = 0; i < response->n_deliveries; i++) {
        Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
        frame.delivery = response->deliveries[i];
        link->config.on_frame(&frame, link->config.arg);
    }
}

static void checkin_failed(struct link *link, int http_status, int64_t retry_after_ms,
                           const struct status *st)
{
    link->next_checkin_ms = clock_mono_ms() + link_pause_ms(http_status, retry_after_ms, link->failures);
    link->waiting_for_exec = false;
    if (link->failures < 30)
        link->failures++;
    tell_link_state(link, false, false, st->msg);
}

static void checkin_answered(struct link *link, const struct checkin *checkin,
                             const struct http_response *response)
{
    struct status st;
    AUTO_ARENA struct arena *arena = arena_new();
    size_t len;
    const uint8_t *body = http_response_body(response, &len);
    ProtobufCMessage *msg;
    if (http_response_status(response) != 200) {
        (void)answer_error(response, &st);
        checkin_failed(link, http_response_status(response), http_response_retry_after_ms(response, 0), &st);
        return;
    }
    if (wire_unpack(&clm__checkin_response__descriptor, body, len, arena, &msg, &st) != CODE_OK) {
        checkin_failed(link, 0, 0, &st);
        return;
    }
    const Clm__CheckinResponse *answer = (const Clm__CheckinResponse *)msg;
    link->failures = 0;
    if (!link->connected)
        tell_link_state(link, true, false, NULL);
    settings_apply(link, answer->settings);
    tell_answer(link, checkin, answer);
    int64_t now = clock_mono_ms();
    if (answer->n_deliveries + answer->n_cancel_task_ids > 0) {
        wait_for_exec(link);
    } else if (!checkin->ended_by_us && now - checkin->sent_ms < EMPTY_HOLD_MS) {
        link->waiting_for_exec = true; /* news of exec's end the pause */
        link->next_checkin_ms = now + with_jitter(EMPTY_HOLD_MS / 2);
    }
}

static void on_checkin_response(const struct http_response *response, const struct status *st, void *arg)
{
    (void)st;
    struct checkin *checkin = arg;
    struct link *link = checkin->link;
    checkin->call = NULL;
    if (response)
        checkin_answered(link, checkin, response);
    loop_timer_set(link->pump_timer, 0);
}

/* News, and now and then what is known already, should it have been lost on its way. */
static Clm__DriftReport *drift_due(struct link *link, Clm__DriftReport *drift)
{
    AUTO_ARENA struct arena *arena = arena_new();
    const uint8_t *packed;
    size_t len;
    uint8_t digest[SHA256_SIZE];
    if (!drift)
        return NULL;
    wire_pack(&drift->base, arena, &packed, &len);
    sha256((struct bytes){packed, len}, digest);
    int64_t now = clock_mono_ms();
    if (link->drift_sent && memcmp(digest, link->drift_digest, sizeof(digest)) == 0 &&
        now - link->drift_sent_ms < DRIFT_AGAIN_MS)
        return NULL;
    memcpy(link->drift_digest, digest, sizeof(digest));
    link->drift_sent = true;
    link->drift_sent_ms = now;
    return drift;
}

static void checkin_send(struct link *link, struct checkin *checkin)
{
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *msg;
    struct status st;
    if (wire_unpack(&clm__agent__snapshot__descriptor, link->snapshot, link->snapshot_len, arena, &msg,
                    &st) != CODE_OK)
        return;
    Clm__Agent__Snapshot *snapshot = (Clm__Agent__Snapshot *)msg;
    Clm__CheckinRequest body = CLM__CHECKIN_REQUEST__INIT;
    body.has_generation = body.has_sent_at_ms = body.has_hold_ms = 1;
    body.generation = link->generation;
    body.instance_id = link->instance_id;
    body.boot_id = link->boot_id;
    body.sent_at_ms = clock_wall_ms();
    body.hold_ms = (uint32_t)link->interval_ms;
    body.facts = link->facts_sent ? NULL : snapshot->facts;
    body.has_free_slots = snapshot->has_free_slots;
    body.free_slots = snapshot->free_slots;
    body.n_held = snapshot->n_held;
    body.held = snapshot->held;
    body.has_safe_mode = snapshot->has_safe_mode;
    body.safe_mode = snapshot->safe_mode;
    body.safe_mode_reason = snapshot->safe_mode_reason;
    body.has_confirmation = snapshot->has_confirmation;
    body.confirmation = snapshot->confirmation;
    body.has_audit_size = snapshot->has_audit_size;
    body.audit_size = snapshot->audit_size;
    body.audit_problem = snapshot->audit_problem;
    Clm__HostMetrics metrics;
    if (snapshot->metrics && metrics_sample(&link->metrics, clock_mono_ms(), &metrics))
        body.metrics = &metrics;
    body.cosignature = snapshot->cosignature;
    body.drift = drift_due(link, snapshot->drift);
    body.audit_tree_id = snapshot->audit_tree_id;
    body.audit_held = snapshot->audit_held;
    const uint8_t *data;
    size_t len;
    wire_pack(&body.base, arena, &data, &len);
    static const struct http_header headers[] = {{"Content-Type", PROTOBUF_TYPE}, {NULL, NULL}};
    struct http_client_request request = {.method = "POST",
                                          .path = "/agent/v1/checkin",
                                          .headers = headers,
                                          .body = data,
                                          .body_len = len,
                                          .timeout_ms = link->interval_ms + HOLD_SLACK_MS};
    for (size_t i = 0; i < ARRAY_LEN(link->checkin); i++)
        link->checkin[i].ended_by_us = true;
    *checkin = (struct checkin){.link = link, .sent_ms = clock_mono_ms(), .sent_wall_ms = body.sent_at_ms};
    link->facts_sent = true;
    link->urgent = false;
    checkin->call = http_client_send(link->client, &request, on_checkin_response, checkin);
}

/* ---- what to send next ------------------------------------------------------------------------------------
 */

static struct item *first_due(struct link *link, int64_t now_ms, int64_t *ret_next_ms)
{
    for (struct item *item = link->queue; item; item = item->next) {
        if (item->due_ms <= now_ms)
            return item;
        if (item->due_ms < *ret_next_ms)
            *ret_next_ms = item->due_ms;
    }
    return NULL;
}

static struct checkin *free_checkin(struct link *link)
{
    return !link->checkin[0].call ? &link->checkin[0] : !link->checkin[1].call ? &link->checkin[1] : NULL;
}

static void pump(struct link *link)
{
    if (!link->client || !link->snapshot)
        return;
    int64_t now = clock_mono_ms(), next = INT64_MAX;
    struct item *item = link->sending ? NULL : first_due(link, now, &next);
    if (item)
        item_send(link, item);
    bool in_flight = link->checkin[0].call || link->checkin[1].call;
    struct checkin *checkin = free_checkin(link);
    if (!link->sending && checkin) {
        if (!in_flight && link->next_checkin_ms > now)
            next = link->next_checkin_ms < next ? link->next_checkin_ms : next;
        else if (!in_flight || link->urgent)
            checkin_send(link, checkin);
    }
    if (next != INT64_MAX)
        loop_timer_set(link->pump_timer, next - now);
}

static void on_pump_timer(void *arg)
{
    pump(arg);
}

static void facts_compare(struct link *link, const Clm__HostFacts *facts)
{
    AUTO_ARENA struct arena *arena = arena_new();
    const uint8_t *data = NULL;
    size_t len = 0;
    if (facts)
        wire_pack(&facts->base, arena, &data, &len);
    if (len == link->facts.len && (len == 0 || memcmp(data, link->facts.data, len) == 0))
        return;
    buf_reset(&link->facts);
    link->facts_sent = !buf_append(&link->facts, data, len);
}

void link_set_snapshot(struct link *link, const Clm__Agent__Snapshot *snapshot)
{
    size_t len = clm__agent__snapshot__get_packed_size(snapshot);
    uint8_t *packed = malloc(len + 1);
    if (!packed)
        abort();
    (void)clm__agent__snapshot__pack(snapshot, packed);
    bool same = link->snapshot && len == link->snapshot_len && memcmp(packed, link->snapshot, len) == 0;
    facts_compare(link, snapshot->facts);
    free(link->snapshot);
    link->snapshot = packed;
    link->snapshot_len = len;
    link->urgent = link->urgent || (snapshot->urgent && !same); /* told twice is still one piece of news */
    if (link->waiting_for_exec) {
        link->waiting_for_exec = false;
        link->next_checkin_ms = 0;
    }
    pump(link);
}

/* ---- connecting -------------------------------------------------------------------------------------------
 */

static void on_closed(const struct status *st, void *arg)
{
    struct link *link = arg;
    struct status why = *st; /* st ends with the client */
    http_client_free(TAKE(link->client));
    memset(link->checkin, 0, sizeof(link->checkin));
    link->item_call = NULL;
    link->sending = NULL;
    bool refused = why.code == CODE_UNAUTHENTICATED || why.code == CODE_PERMISSION_DENIED;
    int64_t delay = link->failures == 0 && !refused ? (int64_t)random_below(BACKOFF_BASE_MS)
                                                    : link_pause_ms(0, 0, link->failures);
    /* Only an operator or a new certificate ends a refusal; still, the first few tries are quick. */
    if (refused && link->failures > 5)
        delay = link_pause_ms(403, 0, link->failures);
    if (link->failures < 30)
        link->failures++;
    tell_link_state(link, false, why.code == CODE_PERMISSION_DENIED, why.msg);
    loop_timer_set(link->connect_timer, delay);
}

static void link_connect(struct link *link)
{
    struct http_client_config config = {.host = link->gateway.host,
                                        .port = link->gateway.port,
                                        .proxy = net_proxy_get(&link->proxy),
                                        .tls = link->tls,
                                        .limits = {.body_bytes = RESPONSE_MAX},
                                        .on_closed = on_closed,
                                        .arg = link};
    link->facts_sent = false;
    link->drift_sent = false;
    link->next_checkin_ms = 0;
    link->waiting_for_exec = false;
    link->client = http_client_new(link->loop, &config);
    pump(link);
}

static void on_connect_timer(void *arg)
{
    struct link *link = arg;
    if (!link->client && link->tls)
        link_connect(link);
}

static enum code list_pem(ProtobufCBinaryData *const items, size_t n, struct buf *ret, struct status *st)
{
    AUTO_DER_LIST struct der_list list = {0};
    for (size_t i = 0; i < n; i++)
        TRY(der_list_add(&list, (struct bytes){items[i].data, items[i].len}, st));
    return certs_to_pem(&list, ret, st);
}

enum code link_set_identity(struct link *link, const Clm__Agent__Identity *identity, const struct secret *key,
                            struct status *st)
{
    AUTO_BUF struct buf chain = {0};
    AUTO_BUF struct buf roots = {0};
    if (endpoint_split(identity->gateway ? identity->gateway : "", &link->gateway, st) != CODE_OK)
        return status_wrap(st, "the gateway's address");
    TRY(net_proxy_set(&link->proxy, identity->proxy, st));
    TRY(list_pem(identity->chain, identity->n_chain, &chain, st));
    TRY(list_pem(identity->roots, identity->n_roots, &roots, st));
    struct tls_client_config config = {.ca = roots.data,
                                       .ca_len = roots.len,
                                       .chain = chain.data,
                                       .chain_len = chain.len,
                                       .key = key,
                                       .min_version = TLS_1_3};
    struct tls_context *tls;
    TRY(tls_client_new(&config, &tls, st));
    http_client_free(TAKE(link->client));
    memset(link->checkin, 0, sizeof(link->checkin));
    link->item_call = NULL;
    link->sending = NULL;
    tls_context_free(link->tls);
    link->tls = tls;
    link->generation = identity->generation;
    link->failures = 0;
    link_connect(link);
    return CODE_OK;
}

struct link *link_new(struct loop *loop, const struct link_config *config)
{
    struct link *link = calloc(1, sizeof(*link));
    if (!link)
        abort();
    link->loop = loop;
    link->config = *config;
    link->interval_ms = INTERVAL_DEFAULT_MS;
    link->connect_timer = loop_timer_new(loop, on_connect_timer, link);
    link->pump_timer = loop_timer_new(loop, on_pump_timer, link);
    uuid_v7(link->instance_id);
    facts_boot_id(link->boot_id);
    return link;
}

void link_free(struct link *link)
{
    if (!link)
        return;
    http_client_free(link->client);
    tls_context_free(link->tls);
    net_proxy_done(&link->proxy);
    loop_timer_free(link->connect_timer);
    loop_timer_free(link->pump_timer);
    while (link->queue) {
        struct item *item = link->queue;
        link->queue = item->next;
        item_free(item);
    }
    free(link->snapshot);
    buf_done(&link->facts);
    free(link);
}
