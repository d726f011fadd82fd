/* Leases: one request for all check-ins that want some, as soon as the former one is answered. See
 * checkins_parts.h. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "gateway/checkins_parts.h"

#define LEASE_PAUSE_MS 100

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
            checkin_set_state(agent, CHECKIN_QUEUED);
            if (agent->ending && !agent->confirming)
                checkin_answer(agent, NULL);
        }
        checkins->n_asked = 0;
        batch_sent(checkins->leases, checkins->n_queued > 0, RETRY_MS);
        return;
    }

    for (size_t i = 0; i < response->n_agents; i++) {
        const Clm__AgentDeliveries *work = response->agents[i];
        struct agent *agent = work->agent_id ? checkins_bucket(checkins, work->agent_id) : NULL;
        while (agent && (agent->state != CHECKIN_ASKED || strcmp(agent->id, work->agent_id) != 0))
            agent = agent->next_in_bucket;
        if (agent) {
            agent->first_done = true;
            checkin_answer(agent, work);
        }
    }
    for (size_t i = 0; i < checkins->n_asked; i++) {
        struct agent *agent = checkins->asked[i];
        if (!agent)
            continue;
        agent->first_done = true;
        if (agent->wake_again && !agent->ending) {
            agent->wake_again = false;
            checkin_set_state(agent, CHECKIN_QUEUED);
        } else {
            checkin_set_state(agent, CHECKIN_HELD);
            if (agent->ending && !agent->confirming)
                checkin_answer(agent, NULL);
        }
    }
    checkins->n_asked = 0;
    batch_sent(checkins->leases, checkins->n_queued > 0, 0);
}

static void fill_row(Clm__LeaseRequest *row, struct agent *agent)
{
    clm__lease_request__init(row);
    row->agent_id = agent->id;
    row->has_generation = true;
    row->generation = agent->generation;
    row->has_free_slots = true;
    row->free_slots = agent->free_slots;
    row->n_held = agent->n_held;
    row->held = agent->held;
    row->has_first_of_connection = true;
    row->first_of_connection = !agent->first_done;
    row->has_safe_mode = true;
    row->safe_mode = agent->safe_mode;
}

/* As many of the queue as go into one request; one always does. */
static size_t take_queued(struct checkins *checkins, Clm__LeaseRequest *rows, Clm__LeaseRequest **list,
                          size_t max)
{
    size_t n = 0, bytes = 0;
    while (n < max) {
        struct agent *agent = checkins->queue_first;
        fill_row(&rows[n], agent);
        bytes += protobuf_c_message_get_packed_size(&rows[n].base) + BATCH_FRAME_BYTES;
        if (n > 0 && bytes > BATCH_BYTES)
            break;
        checkin_set_state(agent, CHECKIN_ASKED);
        agent->asked_index = n;
        checkins->asked[n] = agent;
        checkins->n_asked++;
        list[n] = &rows[n];
        n++;
    }
    return n;
}

static void send_leases(void *arg)
{
    struct checkins *checkins = arg;
    AUTO_ARENA struct arena *arena = arena_new();
    size_t max = checkins->n_queued < BATCH_MAX ? checkins->n_queued : BATCH_MAX;
    Clm__LeaseRequest *rows = arena_array(arena, max, sizeof *rows);
    Clm__LeaseRequest **list = arena_array(arena, max, sizeof(Clm__LeaseRequest *));

    assert(checkins->n_asked == 0);
    size_t n = take_queued(checkins, rows, list, max);
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

void checkin_want_leases(struct agent *agent, bool urgent)
{
    checkin_set_state(agent, CHECKIN_QUEUED);
    batch_wake(agent->checkins->leases, urgent);
}

void checkins_wake(struct checkins *checkins, const char *id)
{
    for (struct agent *agent = checkins_bucket(checkins, id); agent; agent = agent->next_in_bucket) {
        if (strcmp(agent->id, id) != 0)
            continue;
        if (agent->state == CHECKIN_HELD) {
            checkin_want_leases(agent, true);
        } else if (agent->state != CHECKIN_NONE) {
            agent->wake_again = agent->state == CHECKIN_ASKED;
            batch_wake(checkins->leases, true);
        }
    }
}

void leases_start(struct checkins *checkins)
{
    checkins->asked = calloc(BATCH_MAX, sizeof(struct agent *));
    if (!checkins->asked)
        abort();
    checkins->leases = batch_new(checkins->edge->loop, LEASE_PAUSE_MS, send_leases, checkins);
}

void leases_stop(struct checkins *checkins)
{
    batch_free(checkins->leases);
    free(checkins->asked);
}
