/*
 * Reads on in the stream of events where the relay noted that nobody has looked (lost.h). Each event counts
 * by the registry's signature; one without is no event of ours, whatever it says.
 */
#include "lost.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "border.h"
#include "proto/event.pb-c.h"

#define SUBJECT  "clm.event.registry.agent.*"
#define BATCH    500
#define ROUND_MS 5000

static enum code read_agent(struct worker *worker, const struct event_message *message, struct arena *arena,
                            struct lost_event *ret, struct status *st)
{
    const struct Clm__Event *event;
    TRY(service_event_open(worker->service, message, true, arena, &event, st));
    const Clm__AgentChanged *agent = event->agent;
    if (!agent || !uuid_valid(event->entity_id) || event->entity_version > INT64_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "an agent's event without the agent");
    *ret = (struct lost_event){
        .event_id = message->id,
        .agent = {.agent_id = event->entity_id,
                  .disabled_reason = !agent->disabled ? NULL
                                     : agent->reason  ? agent->reason
                                                      : "",
                  .frozen_reason = agent->frozen_reason ? agent->frozen_reason : "",
                  .min_generation = agent->min_generation,
                  .version = (int64_t)event->entity_version,
                  .deleted = agent->deleted},
    };
    return CODE_OK;
}

/* Up to BATCH events from *place on. */
static enum code read_batch(struct worker *worker, uint64_t *place, struct lost_event *events, size_t *ret_n,
                            bool *ret_ended, struct arena *arena, struct status *st)
{
    *ret_n = 0;
    *ret_ended = false;
    for (size_t i = 0; i < BATCH; i++) {
        struct event_message message;
        struct status why = {0};
        enum code code = events_read(service_bus(worker->service), SUBJECT, *place, arena, &message, st);
        if (code == CODE_NOT_FOUND) {
            *ret_ended = true;
            return CODE_OK;
        }
        TRY(code);
        *place = message.stream_seq + 1;
        if (read_agent(worker, &message, arena, &events[*ret_n], &why) == CODE_OK)
            (*ret_n)++;
        else
            log_warn("an event in the stream is not the registry's", "event", message.id, "why", why.msg,
                     NULL);
    }
    return CODE_OK;
}

static enum code look_once(struct worker *worker, struct lost_place *place, bool *ret_ended,
                           struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct lost_event events[BATCH];
    size_t n, n_lost;
    int64_t from = place->unchecked_from;
    uint64_t next = (uint64_t)from;
    TRY(read_batch(worker, &next, events, &n, ret_ended, arena, st));
    TRY(lost_take(worker->db, events, n, from, (int64_t)next, *ret_ended, arena, &n_lost, st));
    bool first = place->n_lost == 0;
    TRY(lost_place_get(worker->db, place, st));
    if (first && n_lost > 0)
        log_error(
            "the stream of events has events of agents that this database does not know: was it restored?",
            "events", LOG_NUM(place->n_lost), NULL);
    return CODE_OK;
}

enum code lost_look(struct worker *worker, int64_t until_mono_ms, bool *ret_ended, struct status *st)
{
    struct lost_place place;
    TRY(lost_place_get(worker->db, &place, st));
    *ret_ended = place.unchecked_from < 0;
    while (!*ret_ended && clock_mono_ms() < until_mono_ms) {
        TRY(look_once(worker, &place, ret_ended, st));
        *ret_ended = *ret_ended || place.unchecked_from < 0;
    }
    return CODE_OK;
}

enum code lost_work(struct worker *worker, struct status *st)
{
    bool ended;
    if (!bus_ready(service_bus(worker->service)))
        return CODE_OK; /* readiness says it */
    return lost_look(worker, clock_mono_ms() + ROUND_MS, &ended, st);
}
