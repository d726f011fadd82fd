/*
 * The state of the link is what is in flight: at most two check-ins (one held, an urgent one behind it ends
 * the hold) and one request of the queue. A new check-in is sent only when the queue has nothing that is due,
 * so that it never tells less than exec already knows; after an answer that exec must hear of, it waits for
 * exec's next snapshot (bounded). See link_parts.h.
 */
#include "agent/net/link_parts.h"

#include <string.h>

#include "agent/facts.h"
#include "pki/cert.h"
#include "proto/agent.pb-c.h"
#include "wire/wire.h"

#define INTERVAL_DEFAULT_MS 30000
#define EXEC_WAIT_MS        200
#define BACKOFF_BASE_MS     500
#define BACKOFF_CAP_MS      60000
#define REFUSED_PAUSE_MS    (5 * 60 * 1000)
#define RESPONSE_MAX        (2u * 1024u * 1024u)

static void link_connect(struct link *link);

/* ---- telling exec -----------------------------------------------------------------------------------------
 */

void link_tell_state(struct link *link, bool connected, bool untrusted, const char *message)
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

int64_t with_jitter(int64_t ms)
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

enum code link_answer_error(const struct http_response *response, struct status *st)
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

void link_wait_for_exec(struct link *link)
{
    int64_t until = clock_mono_ms() + EXEC_WAIT_MS;
    if (link->next_checkin_ms > until)
        return;
    link->waiting_for_exec = true;
    link->next_checkin_ms = until;
}

void link_end_holds(struct link *link)
{
    for (size_t i = 0; i < ARRAY_LEN(link->checkin); i++)
        link->checkin[i].ended_by_us = true;
}

/* ---- what to send next ------------------------------------------------------------------------------------
 */

static struct checkin *free_checkin(struct link *link)
{
    return !link->checkin[0].call ? &link->checkin[0] : !link->checkin[1].call ? &link->checkin[1] : NULL;
}

void link_pump(struct link *link)
{
    if (!link->client || !link->snapshot)
        return;
    int64_t now = clock_mono_ms(), next = INT64_MAX;
    struct request *request = link->sending ? NULL : request_first_due(link, now, &next);
    if (request)
        request_send(link, request);
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
    link_pump(arg);
}

void link_set_snapshot(struct link *link, const Clm__Agent__Snapshot *snapshot)
{
    size_t len = clm__agent__snapshot__get_packed_size(snapshot);
    uint8_t *packed = malloc(len + 1);
    if (!packed)
        abort();
    (void)clm__agent__snapshot__pack(snapshot, packed);
    bool same = link->snapshot && len == link->snapshot_len && memcmp(packed, link->snapshot, len) == 0;
    checkin_compare_facts(link, snapshot->facts);
    free(link->snapshot);
    link->snapshot = packed;
    link->snapshot_len = len;
    link->urgent = link->urgent || (snapshot->urgent && !same); /* told twice is still one piece of news */
    if (link->waiting_for_exec) {
        link->waiting_for_exec = false;
        link->next_checkin_ms = 0;
    }
    link_pump(link);
}

/* ---- connecting -------------------------------------------------------------------------------------------
 */

static void on_closed(const struct status *st, void *arg)
{
    struct link *link = arg;
    struct status why = *st; /* st ends with the client */
    http_client_free(TAKE(link->client));
    memset(link->checkin, 0, sizeof(link->checkin));
    link->request_call = NULL;
    link->sending = NULL;
    bool refused = why.code == CODE_UNAUTHENTICATED || why.code == CODE_PERMISSION_DENIED;
    int64_t delay = link->failures == 0 && !refused ? (int64_t)random_below(BACKOFF_BASE_MS)
                                                    : link_pause_ms(0, 0, link->failures);
    /* Only an operator or a new certificate ends a refusal; still, the first few tries are quick. */
    if (refused && link->failures > 5)
        delay = link_pause_ms(403, 0, link->failures);
    if (link->failures < 30)
        link->failures++;
    link_tell_state(link, false, why.code == CODE_PERMISSION_DENIED, why.msg);
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
    link_pump(link);
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
    link->request_call = NULL;
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
    requests_free(link);
    free(link->snapshot);
    buf_done(&link->facts);
    free(link);
}
