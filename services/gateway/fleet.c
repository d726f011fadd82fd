/*
 * An open-addressing table of agent states under a read-write lock, fed by two threads: NATS callbacks
 * (events, ticks) and the snapshot thread, which reads all pages whenever something may have been missed: at
 * the start, after the bus was away or dropped something, after a silent registry.
 */
#include "gateway/fleet.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "bus/bus.h"
#include "proto/event.pb-c.h"
#include "proto/registry.pb-c.h"
#include "safemode/safemode.h"
#include "service/service.h"

#define TICK_MAX_AGE_MS     5000
#define SUPERSEDED_EVERY_MS 60000
#define SNAPSHOT_PAGE       1000
#define SNAPSHOT_TIMEOUT_MS 5000
#define SNAPSHOT_RETRY_MS   1000
#define NEVER               (INT64_MIN / 2)

struct fleet_entry {
    char agent_id[UUID_TEXT_SIZE]; /* "" marks a free slot; entries are never removed, only overwritten */
    bool disabled;
    uint32_t min_generation;
    uint32_t round; /* in which it was heard of last */
    uint64_t version;
    int64_t superseded_told_ms; /* monotonic; 0: never */
    char reason[96];
};

struct fleet {
    struct service *service;
    void (*on_cut)(const char *agent_id, void *arg);
    void *arg;

    pthread_rwlock_t lock; /* of the table */
    struct fleet_entry *slots;
    size_t n_slots, n_used;
    uint32_t round; /* of snapshots */

    pthread_mutex_t mutex; /* of what follows, with the condition that wakes the snapshot thread */
    pthread_cond_t wake;
    bool stopping, stale;

    atomic_bool loaded; /* nothing was missed since */
    _Atomic int64_t tick_mono_ms;
    uint64_t losses; /* of events, as counted at the last tick; its thread's */
    pthread_t thread;
    bool thread_started;
    struct bus_sub *events, *tick;
};

static size_t slot_of(const struct fleet *fleet, const char *agent_id)
{
    uint64_t hash = 1469598103934665603u; /* FNV-1a; ids are ours, not a peer's choice */
    for (const char *p = agent_id; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 1099511628211u;
    size_t i = (size_t)hash & (fleet->n_slots - 1);
    while (fleet->slots[i].agent_id[0] && strcmp(fleet->slots[i].agent_id, agent_id) != 0)
        i = (i + 1) & (fleet->n_slots - 1);
    return i;
}

static void grow(struct fleet *fleet)
{
    struct fleet_entry *old = fleet->slots;
    size_t n_old = fleet->n_slots;
    fleet->n_slots = n_old ? n_old * 2 : 1024;
    fleet->slots = calloc(fleet->n_slots, sizeof *fleet->slots);
    if (!fleet->slots)
        abort();
    for (size_t i = 0; i < n_old; i++) {
        if (old[i].agent_id[0])
            fleet->slots[slot_of(fleet, old[i].agent_id)] = old[i];
    }
    free(old);
}

/* Takes over a state if it is newer than ours. */
static void merge(struct fleet *fleet, const char *agent_id, uint64_t version, bool disabled,
                  uint32_t min_generation, const char *reason)
{
    bool cut = false;
    pthread_rwlock_wrlock(&fleet->lock);
    if (fleet->n_used * 4 >= fleet->n_slots * 3)
        grow(fleet);
    struct fleet_entry *entry = &fleet->slots[slot_of(fleet, agent_id)];
    if (!entry->agent_id[0]) {
        (void)snprintf(entry->agent_id, sizeof entry->agent_id, "%s", agent_id);
        fleet->n_used++;
    } else if (version <= entry->version) {
        entry->round = fleet->round;
        pthread_rwlock_unlock(&fleet->lock);
        return;
    }
    entry->round = fleet->round;
    cut = (disabled && !entry->disabled) || min_generation > entry->min_generation;
    entry->version = version;
    entry->disabled = disabled;
    entry->min_generation = min_generation;
    (void)snprintf(entry->reason, sizeof entry->reason, "%s", reason ? reason : "");
    pthread_rwlock_unlock(&fleet->lock);
    if (cut)
        fleet->on_cut(agent_id, fleet->arg);
}

static void on_event(const struct event_message *message, void *arg)
{
    struct fleet *fleet = arg;
    struct status st = {0};
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *base = NULL;
    char origin[64] = "";

    if (authority_verify(service_identity(fleet->service), message->authority, message->subject, message->id,
                         message->body, arena, origin, &st) != CODE_OK ||
        strcmp(origin, "registry") != 0) {
        log_warn("agent event without the registry's signature is ignored", "subject", message->subject,
                 "reason", st.msg, NULL);
        return;
    }
    if (wire_unpack(&clm__event__descriptor, message->body.data, message->body.len, arena, &base, &st) !=
        CODE_OK) {
        log_warn("agent event cannot be read", "subject", message->subject, "reason", st.msg, NULL);
        return;
    }
    const Clm__Event *event = (const Clm__Event *)base;
    if (!event->agent || !event->entity_id || !uuid_valid(event->entity_id))
        return;
    merge(fleet, event->entity_id, event->entity_version, event->agent->disabled || event->agent->deleted,
          event->agent->min_generation, event->agent->reason);
}

/* Something may have been missed, a revocation perhaps: nobody is let in before a snapshot says so. */
static void mark_stale(struct fleet *fleet)
{
    pthread_mutex_lock(&fleet->mutex);
    fleet->stale = true;
    atomic_store(&fleet->loaded, false);
    pthread_cond_signal(&fleet->wake);
    pthread_mutex_unlock(&fleet->mutex);
}

static void on_tick(const char *subject UNUSED, const void *data UNUSED, size_t len UNUSED, void *arg)
{
    struct fleet *fleet = arg;
    int64_t now = clock_mono_ms();
    int64_t before = atomic_exchange(&fleet->tick_mono_ms, now);
    uint64_t losses = bus_sub_losses(fleet->events);
    bool silent = before != NEVER && now - before > TICK_MAX_AGE_MS;
    if (silent || losses != fleet->losses)
        mark_stale(fleet);
    fleet->losses = losses;
}

static void begin_round(struct fleet *fleet)
{
    pthread_rwlock_wrlock(&fleet->lock);
    fleet->round++;
    pthread_rwlock_unlock(&fleet->lock);
}

/* Whom neither a page nor an event of this round has named is no longer there, and we missed its end. */
static void drop_missing(struct fleet *fleet)
{
    size_t n = 0;
    pthread_rwlock_wrlock(&fleet->lock);
    char(*gone)[UUID_TEXT_SIZE] = calloc(fleet->n_used + 1, sizeof *gone);
    if (!gone)
        abort();
    for (size_t i = 0; i < fleet->n_slots; i++) {
        struct fleet_entry *entry = &fleet->slots[i];
        if (!entry->agent_id[0] || entry->round == fleet->round ||
            (entry->disabled && strcmp(entry->reason, DISABLED_DELETED) == 0))
            continue;
        entry->disabled = true;
        (void)snprintf(entry->reason, sizeof entry->reason, "%s", DISABLED_DELETED);
        memcpy(gone[n++], entry->agent_id, UUID_TEXT_SIZE);
    }
    pthread_rwlock_unlock(&fleet->lock);
    for (size_t i = 0; i < n; i++)
        fleet->on_cut(gone[i], fleet->arg);
    free(gone);
}

static enum code load_snapshot(struct fleet *fleet, struct status *st)
{
    char after[UUID_TEXT_SIZE] = "";
    begin_round(fleet);
    for (;;) {
        AUTO_ARENA struct arena *arena = arena_new();
        ProtobufCMessage *base = NULL;
        Clm__ListAgentStatesRequest request = CLM__LIST_AGENT_STATES_REQUEST__INIT;
        request.after_agent_id = after[0] ? after : NULL;
        request.has_page_size = true;
        request.page_size = SNAPSHOT_PAGE;
        const struct rpc_call call = {
            .service = "registry",
            .descriptor = &clm__registry__descriptor,
            .method = "ListAgentStates",
            .request = &request.base,
            .timeout_ms = SNAPSHOT_TIMEOUT_MS,
        };
        TRY(rpc_call(service_bus(fleet->service), service_identity(fleet->service), &call, arena, &base, st));
        const Clm__ListAgentStatesResponse *page = (const Clm__ListAgentStatesResponse *)base;
        for (size_t i = 0; i < page->n_states; i++) {
            const Clm__AgentState *state = page->states[i];
            merge(fleet, state->agent_id, state->version, state->disabled, state->min_generation,
                  state->reason);
        }
        if (page->last || page->n_states == 0) {
            drop_missing(fleet);
            return CODE_OK;
        }
        (void)snprintf(after, sizeof after, "%s", page->states[page->n_states - 1]->agent_id);
    }
}

static void *snapshot_thread(void *arg)
{
    struct fleet *fleet = arg;
    bool complained = false;

    pthread_mutex_lock(&fleet->mutex);
    while (!fleet->stopping) {
        if (!fleet->stale) {
            pthread_cond_wait(&fleet->wake, &fleet->mutex);
            continue;
        }
        fleet->stale = false;
        pthread_mutex_unlock(&fleet->mutex);

        struct status st = {0};
        enum code code = load_snapshot(fleet, &st);
        if (code == CODE_OK) {
            log_info("agent states loaded", "agents", LOG_NUM(fleet_count(fleet)), NULL);
            complained = false;
        } else if (!complained) {
            log_warn("agent states cannot be loaded yet", "reason", st.msg, NULL);
            complained = true;
        }

        pthread_mutex_lock(&fleet->mutex);
        if (code == CODE_OK && !fleet->stale) /* else more was missed meanwhile */
            atomic_store(&fleet->loaded, true);
        if (code != CODE_OK && !fleet->stopping) {
            fleet->stale = true;
            struct timespec until;
            (void)clock_gettime(CLOCK_REALTIME, &until);
            until.tv_sec += SNAPSHOT_RETRY_MS / 1000;
            (void)pthread_cond_timedwait(&fleet->wake, &fleet->mutex, &until);
        }
    }
    pthread_mutex_unlock(&fleet->mutex);
    return NULL;
}

struct fleet *fleet_new(struct service *service, void (*on_cut)(const char *agent_id, void *arg), void *arg)
{
    struct fleet *fleet = calloc(1, sizeof *fleet);
    if (!fleet)
        abort();
    fleet->service = service;
    fleet->on_cut = on_cut;
    fleet->arg = arg;
    fleet->stale = true;
    atomic_store(&fleet->tick_mono_ms, NEVER);
    pthread_rwlock_init(&fleet->lock, NULL);
    pthread_mutex_init(&fleet->mutex, NULL);
    pthread_cond_init(&fleet->wake, NULL);
    grow(fleet);
    return fleet;
}

enum code fleet_start(struct fleet *fleet, struct status *st)
{
    struct bus *bus = service_bus(fleet->service);
    TRY(events_watch(bus, "clm.event.registry.agent.>", on_event, fleet, &fleet->events, st));
    fleet->losses = bus_sub_losses(fleet->events);
    TRY(bus_subscribe(bus, BUS_SUBJECT_TICK, on_tick, fleet, &fleet->tick, st));
    if (pthread_create(&fleet->thread, NULL, snapshot_thread, fleet) != 0)
        return status_set(st, CODE_INTERNAL, "cannot start the snapshot thread");
    fleet->thread_started = true;
    return CODE_OK;
}

void fleet_stop(struct fleet *fleet)
{
    bus_unsubscribe(TAKE(fleet->tick)); /* it looks at the other one */
    bus_unsubscribe(TAKE(fleet->events));
    pthread_mutex_lock(&fleet->mutex);
    fleet->stopping = true;
    pthread_cond_signal(&fleet->wake);
    pthread_mutex_unlock(&fleet->mutex);
    if (fleet->thread_started)
        pthread_join(fleet->thread, NULL);
    fleet->thread_started = false;
}

void fleet_free(struct fleet *fleet)
{
    if (!fleet)
        return;
    pthread_cond_destroy(&fleet->wake);
    pthread_mutex_destroy(&fleet->mutex);
    pthread_rwlock_destroy(&fleet->lock);
    free(fleet->slots);
    free(fleet);
}

bool fleet_ready(struct fleet *fleet, char why[128])
{
    if (!atomic_load(&fleet->loaded)) {
        (void)snprintf(why, 128, "agent states are not loaded yet");
        return false;
    }
    if (clock_mono_ms() - atomic_load(&fleet->tick_mono_ms) > TICK_MAX_AGE_MS) {
        (void)snprintf(why, 128, "the registry has not been heard for %d s", TICK_MAX_AGE_MS / 1000);
        return false;
    }
    return true;
}

/* From being disabled for this reason. */
static const char *way_back(const char *reason)
{
    if (strcmp(reason, DISABLED_DELETED) == 0)
        return "register this host anew, or `clm-agent uninstall` it";
    if (strcmp(reason, DISABLED_FAREWELL) == 0)
        return "a fresh token is needed";
    return "an operator has to enable it";
}

enum code fleet_admit(struct fleet *fleet, const char *agent_id, uint32_t generation, struct status *st)
{
    char why[128];
    if (!fleet_ready(fleet, why))
        return status_set(st, CODE_UNAVAILABLE, "the gateway is not ready: %s; try again", why);

    enum code code = CODE_OK;
    pthread_rwlock_rdlock(&fleet->lock);
    const struct fleet_entry *entry = &fleet->slots[slot_of(fleet, agent_id)];
    if (!entry->agent_id[0])
        code = status_set(st, CODE_UNAUTHENTICATED, "agent %s is not registered here", agent_id);
    else if (entry->disabled && strcmp(entry->reason, DISABLED_REVOKED) == 0)
        code = status_set(st, CODE_UNAUTHENTICATED,
                          "the identity of agent %s is revoked; a fresh token is needed", agent_id);
    else if (!safe_allows(safe_column_of(entry->disabled, false, false, false), SAFE_CHECKIN, false))
        code = status_set(st, CODE_PERMISSION_DENIED, "agent %s is disabled%s%s; %s", agent_id,
                          entry->reason[0] ? ": " : "", entry->reason, way_back(entry->reason));
    else if (generation < entry->min_generation)
        code = status_set(st, CODE_UNAUTHENTICATED,
                          "identity generation %" PRIu32 " of agent %s is superseded by %" PRIu32
                          "; a fresh token is needed",
                          generation, agent_id, entry->min_generation);
    pthread_rwlock_unlock(&fleet->lock);
    return code;
}

bool fleet_superseded_due(struct fleet *fleet, const char *agent_id, uint32_t generation)
{
    int64_t now = clock_mono_ms();
    pthread_rwlock_wrlock(&fleet->lock);
    struct fleet_entry *entry = &fleet->slots[slot_of(fleet, agent_id)];
    bool due = entry->agent_id[0] && !entry->disabled && generation < entry->min_generation &&
               (entry->superseded_told_ms == 0 || now - entry->superseded_told_ms > SUPERSEDED_EVERY_MS);
    if (due)
        entry->superseded_told_ms = now;
    pthread_rwlock_unlock(&fleet->lock);
    return due;
}

size_t fleet_count(struct fleet *fleet)
{
    pthread_rwlock_rdlock(&fleet->lock);
    size_t n = fleet->n_used;
    pthread_rwlock_unlock(&fleet->lock);
    return n;
}
