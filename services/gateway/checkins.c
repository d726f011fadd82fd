/* The table of agents, the check-ins that come in, and what they are answered. See checkins_parts.h. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "gateway/checkins_parts.h"

#define BUCKETS_MIN         256
#define HOLD_JITTER_PERCENT 10

/* ---- the table of agents ---- */

static size_t bucket_of(const struct checkins *checkins, const char *id)
{
    uint64_t hash = 1469598103934665603u; /* FNV-1a over an id that we issued */
    for (const char *p = id; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 1099511628211u;
    return (size_t)hash & (checkins->n_buckets - 1);
}

static void rehash(struct checkins *checkins)
{
    struct agent **old = checkins->buckets;
    size_t n_old = checkins->n_buckets;
    checkins->n_buckets = n_old ? n_old * 2 : BUCKETS_MIN;
    checkins->buckets = calloc(checkins->n_buckets, sizeof *checkins->buckets);
    if (!checkins->buckets)
        abort();
    for (size_t i = 0; i < n_old; i++) {
        for (struct agent *agent = old[i], *next; agent; agent = next) {
            next = agent->next_in_bucket;
            struct agent **bucket = &checkins->buckets[bucket_of(checkins, agent->id)];
            agent->next_in_bucket = *bucket;
            *bucket = agent;
        }
    }
    free(old);
}

struct agent *checkins_bucket(const struct checkins *checkins, const char *id)
{
    return checkins->buckets[bucket_of(checkins, id)];
}

struct agent *agent_open(struct checkins *checkins, struct http_connection *connection, const char *id,
                         uint32_t generation)
{
    if (checkins->n_agents >= checkins->n_buckets)
        rehash(checkins);
    struct agent *agent = calloc(1, sizeof *agent);
    if (!agent)
        abort();
    agent->checkins = checkins;
    agent->connection = connection;
    agent->generation = generation;
    (void)snprintf(agent->id, sizeof agent->id, "%s", id);
    struct agent **bucket = &checkins->buckets[bucket_of(checkins, id)];
    agent->next_in_bucket = *bucket;
    *bucket = agent;
    checkins->n_agents++;
    return agent;
}

static void queue_remove(struct agent *agent)
{
    struct checkins *checkins = agent->checkins;
    *(agent->prev ? &agent->prev->next : &checkins->queue_first) = agent->next;
    *(agent->next ? &agent->next->prev : &checkins->queue_last) = agent->prev;
    agent->prev = agent->next = NULL;
    checkins->n_queued--;
}

static void queue_append(struct agent *agent)
{
    struct checkins *checkins = agent->checkins;
    agent->prev = checkins->queue_last;
    agent->next = NULL;
    *(checkins->queue_last ? &checkins->queue_last->next : &checkins->queue_first) = agent;
    checkins->queue_last = agent;
    checkins->n_queued++;
}

void checkin_set_state(struct agent *agent, enum checkin_state state)
{
    struct checkins *checkins = agent->checkins;
    if (agent->state == CHECKIN_QUEUED)
        queue_remove(agent);
    else if (agent->state == CHECKIN_ASKED)
        checkins->asked[agent->asked_index] = NULL;
    else if (agent->state == CHECKIN_HELD)
        checkins->n_held--;
    agent->state = state;
    if (state == CHECKIN_QUEUED)
        queue_append(agent);
    else if (state == CHECKIN_HELD)
        checkins->n_held++;
}

/* Forgets the check-in; its request is answered or gone. */
static void checkin_end(struct agent *agent)
{
    checkin_set_state(agent, CHECKIN_NONE);
    agent->request = NULL;
    agent->wake_again = agent->ending = agent->has_confirmed = false;
    if (agent->hold_timer)
        loop_timer_cancel(agent->hold_timer);
    arena_free(agent->held_arena);
    agent->held_arena = NULL;
    agent->held = NULL;
    agent->n_held = 0;
}

void agent_close(struct agent *agent)
{
    struct checkins *checkins = agent->checkins;
    checkin_end(agent);
    struct agent **link = &checkins->buckets[bucket_of(checkins, agent->id)];
    while (*link != agent)
        link = &(*link)->next_in_bucket;
    *link = agent->next_in_bucket;
    checkins->n_agents--;
    if (agent->hold_timer)
        loop_timer_free(agent->hold_timer);
    free(agent);
}

const char *agent_id(const struct agent *agent)
{
    return agent->id;
}

uint32_t agent_generation(const struct agent *agent)
{
    return agent->generation;
}

/* ---- answering ---- */

void checkin_answer(struct agent *agent, const Clm__AgentDeliveries *work)
{
    struct edge *edge = agent->checkins->edge;
    AUTO_ARENA struct arena *arena = arena_new();
    Clm__AgentSettings settings = CLM__AGENT_SETTINGS__INIT;
    settings.has_checkin_interval_ms = true;
    settings.checkin_interval_ms = (uint32_t)edge->gateway->config->checkin_interval_ms;
    Clm__CheckinResponse response = CLM__CHECKIN_RESPONSE__INIT;
    response.settings = &settings;
    response.has_platform_time_at_ms = true;
    response.platform_time_at_ms = clock_wall_ms();
    response.has_confirmed_generation = agent->has_confirmed;
    response.confirmed_generation = agent->confirmed;
    response.has_cosigned_at_ms = agent->cosigned_at_ms > 0;
    response.cosigned_at_ms = agent->cosigned_at_ms;
    agent->cosigned_at_ms = 0;
    response.want_audit_held = heads_behind(edge->gateway->heads, agent->audit_tree, agent->audit_size);
    response.has_want_audit_held = response.want_audit_held;
    heads_after(edge->gateway->heads, agent->audit_tree, agent->audit_size, arena, &response.audit_heads,
                &response.n_audit_heads);
    if (work) {
        response.n_deliveries = work->n_deliveries;
        response.deliveries = work->deliveries;
        response.n_cancel_task_ids = work->n_cancel_task_ids;
        response.cancel_task_ids = work->cancel_task_ids;
        metric_add(edge->gateway->metric.deliveries, NULL, NULL, (double)work->n_deliveries);
    }
    const uint8_t *body;
    size_t len;
    wire_pack(&response.base, arena, &body, &len);
    struct http_request *request = agent->request;
    checkin_end(agent);
    static const struct http_header headers[] = {{"Content-Type", "application/x-protobuf"}, {NULL, NULL}};
    http_respond(request, 200, headers, body, len);
}

static void on_hold_over(void *arg)
{
    agent_checkin_release(arg);
}

void agent_checkin_release(struct agent *agent)
{
    if (agent->state == CHECKIN_NONE)
        return;
    if (agent->state == CHECKIN_ASKED || agent->confirming)
        agent->ending = true;
    else
        checkin_answer(agent, NULL);
}

void agent_checkin_gone(struct agent *agent)
{
    checkin_end(agent);
}

static bool wants_leases(const struct agent *agent)
{
    return agent->free_slots > 0 || agent->n_held > 0 || !agent->first_done;
}

void checkins_cut(struct checkins *checkins, const char *id)
{
    struct fleet *fleet = checkins->edge->gateway->fleet;
    for (struct agent *agent = checkins_bucket(checkins, id); agent; agent = agent->next_in_bucket) {
        struct status st = {0};
        if (strcmp(agent->id, id) == 0 && fleet_admit(fleet, id, agent->generation, &st) != CODE_OK) {
            log_info("connection of an agent is cut", "agent", id, "reason", st.msg, NULL);
            http_connection_close(agent->connection);
        }
    }
}

void checkins_release_all(struct checkins *checkins)
{
    for (size_t i = 0; i < checkins->n_buckets; i++) {
        for (struct agent *agent = checkins->buckets[i]; agent; agent = agent->next_in_bucket)
            agent_checkin_release(agent);
    }
}

static void add_heartbeat(struct agent *agent, const Clm__CheckinRequest *body)
{
    struct checkins *checkins = agent->checkins;
    int64_t now = clock_wall_ms();
    Clm__Heartbeat beat = CLM__HEARTBEAT__INIT;
    beat.agent_id = agent->id;
    beat.has_generation = true;
    beat.generation = agent->generation;
    beat.instance_id = body->instance_id;
    beat.boot_id = body->boot_id;
    beat.has_received_at_ms = true;
    beat.received_at_ms = now;
    beat.has_clock_skew_ms = body->has_sent_at_ms;
    beat.clock_skew_ms = body->sent_at_ms - now;
    beat.has_safe_mode = true;
    beat.safe_mode = body->safe_mode;
    beat.safe_mode_reason = body->safe_mode_reason;
    beat.facts = body->facts;
    beat.audit_problem = body->audit_problem;
    beat.audit_held = body->audit_held;
    beat.metrics = body->metrics;
    beat.drift = body->drift;
    beat.has_interval_ms = true;
    beat.interval_ms = (uint32_t)checkins->edge->gateway->config->checkin_interval_ms;
    heartbeats_add(checkins->heartbeats, &beat);
}

/* ---- a check-in comes in ---- */

static void keep_held_tasks(struct agent *agent, const Clm__CheckinRequest *body)
{
    if (body->n_held == 0)
        return;
    AUTO_ARENA struct arena *scratch = arena_new();
    Clm__CheckinRequest only = CLM__CHECKIN_REQUEST__INIT;
    only.n_held = body->n_held;
    only.held = body->held;
    only.has_generation = body->has_generation;
    only.generation = body->generation;
    only.instance_id = body->instance_id;
    only.boot_id = body->boot_id;
    only.has_sent_at_ms = body->has_sent_at_ms;
    only.sent_at_ms = body->sent_at_ms;
    const uint8_t *data;
    size_t len;
    ProtobufCMessage *copy = NULL;
    struct status st;
    wire_pack(&only.base, scratch, &data, &len);
    agent->held_arena = arena_new();
    if (wire_unpack(&clm__checkin_request__descriptor, data, len, agent->held_arena, &copy, &st) != CODE_OK) {
        log_warn("held tasks of a check-in are dropped", "agent", agent->id, "reason", st.msg, NULL);
        return;
    }
    agent->n_held = ((Clm__CheckinRequest *)copy)->n_held;
    agent->held = ((Clm__CheckinRequest *)copy)->held;
}

void agent_checkin(struct agent *agent, struct http_request *request, const Clm__CheckinRequest *body)
{
    struct edge *edge = agent->checkins->edge;
    int64_t hold_ms = edge->gateway->config->checkin_interval_ms;
    if (body->has_hold_ms && body->hold_ms < hold_ms)
        hold_ms = body->hold_ms;
    int64_t jitter_ms = hold_ms * HOLD_JITTER_PERCENT / 100;
    hold_ms -= jitter_ms > 0 ? (int64_t)random_below((uint32_t)jitter_ms) : 0;

    assert(agent->state == CHECKIN_NONE);
    metric_add(edge->gateway->metric.checkins, NULL, NULL, 1);
    agent->request = request;
    agent->free_slots = body->free_slots;
    agent->safe_mode = body->safe_mode;
    agent->audit_size = body->has_audit_size ? body->audit_size : 0;
    (void)snprintf(agent->audit_tree, sizeof agent->audit_tree, "%s",
                   body->audit_tree_id ? body->audit_tree_id : "");
    keep_held_tasks(agent, body);
    add_heartbeat(agent, body);
    if (body->has_confirmation && body->confirmation.len > 0 && !agent->confirming)
        checkin_confirm(agent, body->confirmation);
    if (body->cosignature && !agent->cosigning && agent->cosigned_at_ms != body->cosignature->made_at_ms)
        checkin_cosign(agent, body->cosignature);

    agent->ending = hold_ms == 0 || edge->stopping;
    if (wants_leases(agent)) {
        checkin_want_leases(agent, agent->ending);
    } else {
        checkin_set_state(agent, CHECKIN_HELD);
        if (agent->ending) {
            agent_checkin_release(agent);
            return;
        }
    }
    if (agent->ending)
        return;
    if (!agent->hold_timer)
        agent->hold_timer = loop_timer_new(edge->loop, on_hold_over, agent);
    loop_timer_set(agent->hold_timer, hold_ms);
}

/* ---- life ---- */

static void on_period(void *arg)
{
    struct checkins *checkins = arg;
    struct gateway *gateway = checkins->edge->gateway;
    loop_timer_set(checkins->period, HEARTBEAT_PERIOD_MS);
    heartbeats_due(checkins->heartbeats);
    char index[16];
    (void)snprintf(index, sizeof index, "%u", checkins->edge->index);
    metric_set(gateway->metric.connections, "edge", index, (double)checkins->n_agents);
    metric_set(gateway->metric.held, "edge", index, (double)checkins->n_held);
}

struct checkins *checkins_new(struct edge *edge)
{
    struct checkins *checkins = calloc(1, sizeof *checkins);
    if (!checkins)
        abort();
    checkins->edge = edge;
    rehash(checkins);
    leases_start(checkins);
    checkins->heartbeats = heartbeats_new(edge);
    checkins->period = loop_timer_new(edge->loop, on_period, checkins);
    loop_timer_set(checkins->period, 0);
    return checkins;
}

void checkins_free(struct checkins *checkins)
{
    if (!checkins)
        return;
    assert(checkins->n_agents == 0);
    leases_stop(checkins);
    heartbeats_free(checkins->heartbeats);
    loop_timer_free(checkins->period);
    free(checkins->buckets);
    free(checkins);
}
