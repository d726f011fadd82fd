/*
 * Life of a check-in (struct agent.state): NONE → QUEUED (wants leases) → ASKED (in the lease request under
 * way) → HELD → … → NONE, answered. A wake while ASKED asks once more, because the task may be younger than
 * the statement that looked. What would end the hold while ASKED waits for the answer, so that no lease is
 * handed to nobody.
 */
#include "gateway/checkins.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "gateway/batch.h"
#include "gateway/edge.h"
#include "proto/bootstrap.pb-c.h"
#include "proto/registry.pb-c.h"
#include "proto/tasks.pb-c.h"

#define BUCKETS_MIN          256
#define BATCH_MAX            1000
#define HEARTBEATS_QUEUE_MAX 100000
#define HEARTBEAT_PERIOD_MS  1000
#define LEASE_PAUSE_MS       100
#define CALL_TIMEOUT_MS      5000
#define RETRY_MS             1000
#define HOLD_JITTER_PERCENT  10

enum checkin_state { CHECKIN_NONE, CHECKIN_QUEUED, CHECKIN_ASKED, CHECKIN_HELD };

struct agent {
    struct agent *next_in_bucket;
    struct agent *prev, *next; /* in the lease queue, while QUEUED */
    struct checkins *checkins;
    struct http_connection *connection;
    char id[UUID_TEXT_SIZE];
    uint32_t generation;
    bool first_done; /* this connection's first check-in was leased for */

    struct http_request *request; /* the check-in, unless NONE */
    enum checkin_state state;
    bool wake_again, ending, safe_mode, confirming;
    uint32_t free_slots;
    uint64_t audit_size; /* of the newest head of the audit log that it has, and its tree; "": not said */
    char audit_tree[UUID_TEXT_SIZE];
    uint32_t confirmed; /* to be told with the answer; valid if has_confirmed */
    bool has_confirmed;
    int64_t cosigned_at_ms; /* to be told with the next answer; 0: nothing */
    bool cosigning;
    size_t asked_index;       /* in checkins.asked, while ASKED */
    struct arena *held_arena; /* of held, NULL if the agent holds nothing */
    Clm__HeldTask **held;
    size_t n_held;
    struct loop_timer *hold_timer;
};

struct heartbeat_batch {
    struct arena *arena;
    Clm__Heartbeat **items;
    size_t n, cap;
};

struct checkins {
    struct edge *edge;
    struct agent **buckets;
    size_t n_buckets, n_agents, n_held;

    struct agent *queue_first, *queue_last;
    size_t n_queued;
    struct agent **asked; /* of the lease request under way; NULL where the agent went */
    size_t n_asked;
    struct batch *leases;

    struct heartbeat_batch beats; /* collecting */
    struct heartbeat_batch in_flight;
    struct batch *heartbeats;
    struct loop_timer *period;
};

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

/* The one place where a check-in changes its state. */
static void set_state(struct agent *agent, enum checkin_state state)
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
    set_state(agent, CHECKIN_NONE);
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

static void answer(struct agent *agent, const Clm__AgentDeliveries *work)
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
        answer(agent, NULL);
}

void agent_checkin_gone(struct agent *agent)
{
    checkin_end(agent);
}

/* ---- leases ---- */

static bool wants_leases(const struct agent *agent)
{
    return agent->free_slots > 0 || agent->n_held > 0 || !agent->first_done;
}

static void on_leases(struct edge *edge, struct arena *arena UNUSED, const ProtobufCMessage *reply,
                      const struct status *st, void *arg UNUSED)
{
    struct checkins *checkins = edge->checkins;
    const Clm__LeaseTasksResponse *response = (const Clm__LeaseTasksResponse *)reply;

    if (!response) {
        log_debug("no leases", "reason", st->msg, NULL);
        for (size_t i = 0; i < checkins->n_asked; i++) {
            struct agent *agent = checkins->asked[i];
            if (!agent)
                continue;
            set_state(agent, CHECKIN_QUEUED);
            if (agent->ending && !agent->confirming)
                answer(agent, NULL);
        }
        checkins->n_asked = 0;
        batch_sent(checkins->leases, checkins->n_queued > 0, RETRY_MS);
        return;
    }

    for (size_t i = 0; i < response->n_agents; i++) {
        const Clm__AgentDeliveries *work = response->agents[i];
        struct agent *agent = work->agent_id ? checkins->buckets[bucket_of(checkins, work->agent_id)] : NULL;
        while (agent && (agent->state != CHECKIN_ASKED || strcmp(agent->id, work->agent_id) != 0))
            agent = agent->next_in_bucket;
        if (agent) {
            agent->first_done = true;
            answer(agent, work);
        }
    }
    for (size_t i = 0; i < checkins->n_asked; i++) {
        struct agent *agent = checkins->asked[i];
        if (!agent)
            continue;
        agent->first_done = true;
        if (agent->wake_again && !agent->ending) {
            agent->wake_again = false;
            set_state(agent, CHECKIN_QUEUED);
        } else {
            set_state(agent, CHECKIN_HELD);
            if (agent->ending && !agent->confirming)
                answer(agent, NULL);
        }
    }
    checkins->n_asked = 0;
    batch_sent(checkins->leases, checkins->n_queued > 0, 0);
}

static void send_leases(void *arg)
{
    struct checkins *checkins = arg;
    AUTO_ARENA struct arena *arena = arena_new();
    size_t n = checkins->n_queued < BATCH_MAX ? checkins->n_queued : BATCH_MAX;
    Clm__LeaseRequest *rows = arena_array(arena, n, sizeof *rows);
    Clm__LeaseRequest **list = arena_array(arena, n, sizeof(Clm__LeaseRequest *));

    assert(checkins->n_asked == 0);
    for (size_t i = 0; i < n; i++) {
        struct agent *agent = checkins->queue_first;
        set_state(agent, CHECKIN_ASKED);
        agent->asked_index = i;
        checkins->asked[i] = agent;
        checkins->n_asked++;
        clm__lease_request__init(&rows[i]);
        rows[i].agent_id = agent->id;
        rows[i].has_generation = true;
        rows[i].generation = agent->generation;
        rows[i].has_free_slots = true;
        rows[i].free_slots = agent->free_slots;
        rows[i].n_held = agent->n_held;
        rows[i].held = agent->held;
        rows[i].has_first_of_connection = true;
        rows[i].first_of_connection = !agent->first_done;
        rows[i].has_safe_mode = true;
        rows[i].safe_mode = agent->safe_mode;
        list[i] = &rows[i];
    }
    if (n == 0) { /* they all left meanwhile */
        batch_sent(checkins->leases, false, 0);
        return;
    }
    metric_observe_ms(checkins->edge->gateway->metric.lease_batch, NULL, NULL, (double)n);

    Clm__LeaseTasksRequest request = CLM__LEASE_TASKS_REQUEST__INIT;
    request.gateway_id = arena_strdup(arena, service_instance_id(checkins->edge->gateway->service));
    request.n_agents = n;
    request.agents = list;
    const struct rpc_call call = {
        .service = "tasks",
        .descriptor = &clm__tasks__descriptor,
        .method = "LeaseTasks",
        .request = &request.base,
        .timeout_ms = CALL_TIMEOUT_MS,
    };
    edge_call(checkins->edge, &call, on_leases, NULL);
}

static void want_leases(struct agent *agent, bool urgent)
{
    set_state(agent, CHECKIN_QUEUED);
    batch_wake(agent->checkins->leases, urgent);
}

void checkins_wake(struct checkins *checkins, const char *id)
{
    for (struct agent *agent = checkins->buckets[bucket_of(checkins, id)]; agent;
         agent = agent->next_in_bucket) {
        if (strcmp(agent->id, id) != 0)
            continue;
        if (agent->state == CHECKIN_HELD) {
            want_leases(agent, true);
        } else if (agent->state != CHECKIN_NONE) {
            agent->wake_again = agent->state == CHECKIN_ASKED;
            batch_wake(checkins->leases, true);
        }
    }
}

void checkins_cut(struct checkins *checkins, const char *id)
{
    struct fleet *fleet = checkins->edge->gateway->fleet;
    for (struct agent *agent = checkins->buckets[bucket_of(checkins, id)]; agent;
         agent = agent->next_in_bucket) {
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

/* ---- heartbeats ---- */

static void batch_reset(struct heartbeat_batch *beats)
{
    arena_free(beats->arena);
    *beats = (struct heartbeat_batch){.arena = arena_new()};
}

static void batch_add(struct heartbeat_batch *beats, Clm__Heartbeat *beat)
{
    if (beats->n == beats->cap) {
        size_t cap = beats->cap ? beats->cap * 2 : 64;
        Clm__Heartbeat **items = arena_array(beats->arena, cap, sizeof *items);
        if (beats->n)
            memcpy(items, beats->items, beats->n * sizeof(Clm__Heartbeat *));
        beats->items = items;
        beats->cap = cap;
    }
    beats->items[beats->n++] = beat;
}

/* Copies by packing: the check-in's memory is the request's. */
static Clm__Heartbeat *heartbeat_copy(struct arena *arena, const Clm__Heartbeat *beat)
{
    AUTO_ARENA struct arena *scratch = arena_new();
    const uint8_t *data;
    size_t len;
    ProtobufCMessage *copy = NULL;
    struct status st;
    wire_pack(&beat->base, scratch, &data, &len);
    return wire_unpack(&clm__heartbeat__descriptor, data, len, arena, &copy, &st) == CODE_OK
               ? (Clm__Heartbeat *)copy
               : NULL;
}

static void on_heartbeats_sent(struct edge *edge, struct arena *arena UNUSED, const ProtobufCMessage *reply,
                               const struct status *st, void *arg UNUSED)
{
    struct checkins *checkins = edge->checkins;
    if (!reply && code_info(st->code)->retryable &&
        checkins->beats.n + checkins->in_flight.n < HEARTBEATS_QUEUE_MAX) {
        for (size_t i = 0; i < checkins->in_flight.n; i++) {
            Clm__Heartbeat *copy = heartbeat_copy(checkins->beats.arena, checkins->in_flight.items[i]);
            if (copy)
                batch_add(&checkins->beats, copy);
        }
    }
    if (!reply)
        log_debug("heartbeats not taken", "count", LOG_NUM(checkins->in_flight.n), "reason", st->msg, NULL);
    batch_reset(&checkins->in_flight);
    batch_sent(checkins->heartbeats, checkins->beats.n > 0, reply ? 0 : RETRY_MS);
}

static void send_heartbeats(void *arg)
{
    struct checkins *checkins = arg;
    struct service *service = checkins->edge->gateway->service;
    struct heartbeat_batch empty = checkins->in_flight;
    checkins->in_flight = checkins->beats;
    checkins->beats = empty;

    if (checkins->in_flight.n > BATCH_MAX) { /* the rest goes with the next one */
        for (size_t i = BATCH_MAX; i < checkins->in_flight.n; i++) {
            Clm__Heartbeat *copy = heartbeat_copy(checkins->beats.arena, checkins->in_flight.items[i]);
            if (copy)
                batch_add(&checkins->beats, copy);
        }
        checkins->in_flight.n = BATCH_MAX;
    }
    metric_observe_ms(checkins->edge->gateway->metric.heartbeat_batch, NULL, NULL,
                      (double)checkins->in_flight.n);

    char gateway_id[UUID_TEXT_SIZE];
    (void)snprintf(gateway_id, sizeof gateway_id, "%s", service_instance_id(service));
    Clm__ReportHeartbeatsRequest request = CLM__REPORT_HEARTBEATS_REQUEST__INIT;
    request.gateway_id = gateway_id;
    request.epoch = checkins->edge->gateway->epoch;
    request.n_heartbeats = checkins->in_flight.n;
    request.heartbeats = checkins->in_flight.items;
    const struct rpc_call call = {
        .service = "registry",
        .descriptor = &clm__registry__descriptor,
        .method = "ReportHeartbeats",
        .request = &request.base,
        .timeout_ms = CALL_TIMEOUT_MS,
    };
    edge_call(checkins->edge, &call, on_heartbeats_sent, NULL);
}

/* The registry wants to hear us every second, also when no agent spoke. */
static void on_period(void *arg)
{
    struct checkins *checkins = arg;
    struct gateway *gateway = checkins->edge->gateway;
    loop_timer_set(checkins->period, HEARTBEAT_PERIOD_MS);
    batch_wake(checkins->heartbeats, false);
    char index[16];
    (void)snprintf(index, sizeof index, "%u", checkins->edge->index);
    metric_set(gateway->metric.connections, "edge", index, (double)checkins->n_agents);
    metric_set(gateway->metric.held, "edge", index, (double)checkins->n_held);
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
    Clm__Heartbeat *copy =
        checkins->beats.n < HEARTBEATS_QUEUE_MAX ? heartbeat_copy(checkins->beats.arena, &beat) : NULL;
    if (copy)
        batch_add(&checkins->beats, copy);
    batch_wake(checkins->heartbeats, false);
}

/* ---- confirmation of an identity ---- */

/* The connection may be gone when the answer comes: it is found again by address and id. */
struct confirm {
    struct agent *agent;
    char id[UUID_TEXT_SIZE];
    int64_t made_at_ms; /* of a co-signature */
};

static struct confirm *confirm_new(struct agent *agent)
{
    struct confirm *confirm = calloc(1, sizeof *confirm);
    if (!confirm)
        abort();
    confirm->agent = agent;
    (void)snprintf(confirm->id, sizeof confirm->id, "%s", agent->id);
    return confirm;
}

static struct agent *confirm_agent(const struct checkins *checkins, const struct confirm *confirm)
{
    struct agent *agent = checkins->buckets[bucket_of(checkins, confirm->id)];
    while (agent && agent != confirm->agent)
        agent = agent->next_in_bucket;
    return agent;
}

static void on_confirmed(struct edge *edge, struct arena *arena UNUSED, const ProtobufCMessage *reply,
                         const struct status *st, void *arg)
{
    struct confirm *confirm = arg;
    struct checkins *checkins = edge->checkins;
    struct agent *agent = confirm_agent(checkins, confirm);
    if (!reply)
        log_warn("identity is not confirmed", "agent", confirm->id, "reason", st->msg, NULL);
    free(confirm);
    if (!agent || !agent->confirming)
        return;
    agent->confirming = false;
    if (agent->state == CHECKIN_NONE)
        return;
    if (reply) {
        agent->has_confirmed = true;
        agent->confirmed = ((const Clm__ConfirmIdentityResponse *)reply)->confirmed_generation;
        agent_checkin_release(agent);
    } else if (agent->ending) {
        agent_checkin_release(agent);
    } else {
        loop_timer_set(agent->hold_timer, RETRY_MS); /* the next check-in brings the confirmation again */
    }
}

static void confirm_identity(struct agent *agent, ProtobufCBinaryData confirmation)
{
    struct confirm *confirm = confirm_new(agent);
    agent->confirming = true;
    Clm__ConfirmIdentityRequest request = CLM__CONFIRM_IDENTITY_REQUEST__INIT;
    request.agent_id = agent->id;
    request.has_generation = true;
    request.generation = agent->generation;
    request.has_confirmation = true;
    request.confirmation = confirmation;
    const struct rpc_call call = {
        .service = "bootstrap",
        .descriptor = &clm__bootstrap__descriptor,
        .method = "ConfirmIdentity",
        .request = &request.base,
        .timeout_ms = CALL_TIMEOUT_MS,
    };
    edge_call(agent->checkins->edge, &call, on_confirmed, confirm);
}

/* ---- co-signature of a head of the audit log ---- */

/* What the registry refuses for good is answered, too: the agent would send it for ever. */
static void on_cosigned(struct edge *edge, struct arena *arena UNUSED, const ProtobufCMessage *reply,
                        const struct status *st, void *arg)
{
    struct confirm *confirm = arg;
    struct agent *agent = confirm_agent(edge->checkins, confirm);
    bool again = !reply && code_info(st->code)->retryable;
    if (!reply)
        log_warn("the co-signature of an agent is not taken", "agent", confirm->id, "reason", st->msg, NULL);
    if (agent) {
        agent->cosigning = false;
        if (!again)
            agent->cosigned_at_ms = confirm->made_at_ms;
    }
    free(confirm);
}

static void cosign(struct agent *agent, Clm__SignedCosignature *cosignature)
{
    struct confirm *confirm = confirm_new(agent);
    confirm->made_at_ms = cosignature->made_at_ms;
    agent->cosigning = true;
    Clm__CosignHeadRequest request = CLM__COSIGN_HEAD_REQUEST__INIT;
    request.agent_id = agent->id;
    request.cosignature = cosignature;
    const struct rpc_call call = {
        .service = "registry",
        .descriptor = &clm__registry__descriptor,
        .method = "CosignHead",
        .request = &request.base,
        .timeout_ms = CALL_TIMEOUT_MS,
    };
    edge_call(agent->checkins->edge, &call, on_cosigned, confirm);
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
        confirm_identity(agent, body->confirmation);
    if (body->cosignature && !agent->cosigning && agent->cosigned_at_ms != body->cosignature->made_at_ms)
        cosign(agent, body->cosignature);

    agent->ending = hold_ms == 0 || edge->stopping;
    if (wants_leases(agent)) {
        want_leases(agent, agent->ending);
    } else {
        set_state(agent, CHECKIN_HELD);
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

struct checkins *checkins_new(struct edge *edge)
{
    struct checkins *checkins = calloc(1, sizeof *checkins);
    if (!checkins)
        abort();
    checkins->edge = edge;
    rehash(checkins);
    checkins->asked = calloc(BATCH_MAX, sizeof(struct agent *));
    if (!checkins->asked)
        abort();
    batch_reset(&checkins->beats);
    batch_reset(&checkins->in_flight);
    checkins->leases = batch_new(edge->loop, LEASE_PAUSE_MS, send_leases, checkins);
    checkins->heartbeats = batch_new(edge->loop, HEARTBEAT_PERIOD_MS, send_heartbeats, checkins);
    checkins->period = loop_timer_new(edge->loop, on_period, checkins);
    loop_timer_set(checkins->period, 0);
    return checkins;
}

void checkins_free(struct checkins *checkins)
{
    if (!checkins)
        return;
    assert(checkins->n_agents == 0);
    batch_free(checkins->leases);
    batch_free(checkins->heartbeats);
    loop_timer_free(checkins->period);
    arena_free(checkins->beats.arena);
    arena_free(checkins->in_flight.arena);
    free(checkins->asked);
    free(checkins->buckets);
    free(checkins);
}
