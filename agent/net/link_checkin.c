/*
 * Check-ins: what a snapshot of exec's becomes, and what the gateway's answer tells exec. See link_parts.h.
 */
#include "agent/net/link_parts.h"

#include <string.h>

#include "proto/agent.pb-c.h"
#include "wire/wire.h"

#define INTERVAL_MIN_MS 5000
#define HOLD_SLACK_MS   15000
#define DRIFT_AGAIN_MS  (5 * 60 * 1000)
#define CLOCKS_AGREE_MS 2000 /* what wall and monotonic clock may differ by while a check-in is held */
#define EMPTY_HOLD_MS   1000 /* a hold that ends sooner, for no reason of ours, is followed by a pause */

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
    link_tell_state(link, false, false, st->msg);
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
        (void)link_answer_error(response, &st);
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
        link_tell_state(link, true, false, NULL);
    settings_apply(link, answer->settings);
    tell_answer(link, checkin, answer);
    int64_t now = clock_mono_ms();
    if (answer->n_deliveries + answer->n_cancel_task_ids > 0) {
        link_wait_for_exec(link);
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

void checkin_send(struct link *link, struct checkin *checkin)
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
    link_end_holds(link);
    *checkin = (struct checkin){.link = link, .sent_ms = clock_mono_ms(), .sent_wall_ms = body.sent_at_ms};
    link->facts_sent = true;
    link->urgent = false;
    checkin->call = http_client_send(link->client, &request, on_checkin_response, checkin);
}

void checkin_compare_facts(struct link *link, const Clm__HostFacts *facts)
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
