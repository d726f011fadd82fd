/*
 * What this service must know of agents without asking: fed by the registry's and bootstrap's events, and by
 * paged snapshots at start and now and then, in case an event was missed. Rows take greater versions only, so
 * the order in which the two arrive does not matter. A missing row refuses.
 */
#include <string.h>

#include "app.h"
#include "base/clock.h"
#include "base/log.h"
#include "proto/bootstrap.pb-c.h"
#include "proto/event.pb-c.h"
#include "proto/registry.pb-c.h"
#include "safemode/safemode.h"
#include "store.h"

#define SNAPSHOT_INTERVAL_MS (10 * 60 * 1000)
#define SNAPSHOT_TIMEOUT_MS  10000
#define FETCH_TIMEOUT_MS     2000 /* a person waits */
#define SNAPSHOT_PAGE        500

static struct bytes pack_scope(const Clm__Scope *scope, struct arena *arena)
{
    struct bytes packed = {0};
    if (scope)
        wire_pack(&scope->base, arena, &packed.data, &packed.len);
    return packed;
}

static void set_labels(struct agent *agent, Clm__Label *const *labels, size_t n, struct arena *arena)
{
    agent->label_names = arena_array(arena, n + 1, sizeof(*agent->label_names));
    agent->label_values = arena_array(arena, n + 1, sizeof(*agent->label_values));
    agent->n_labels = n;
    for (size_t i = 0; i < n; i++) {
        agent->label_names[i] = labels[i]->name;
        agent->label_values[i] = labels[i]->value ? labels[i]->value : "";
    }
}

/* ---- events
 * ------------------------------------------------------------------------------------------------- */

/* Why nobody will ever take what waits for this agent; NULL: somebody may. An event may come again, or late,
 * when the agent has returned: then it is not what is known of the agent now. */
static const char *is_over(const Clm__AgentChanged *changed)
{
    if (changed->deleted)
        return "its agent was deleted";
    return changed->disabled && changed->reason && strcmp(changed->reason, DISABLED_FAREWELL) == 0
               ? "its agent was removed from its host"
               : NULL;
}

static enum code apply_agent(struct worker *worker, struct arena *arena, const void *message,
                             struct status *st)
{
    const Clm__Event *event = message;
    const Clm__AgentChanged *changed = event->agent;
    if (!changed || !uuid_valid(event->entity_id))
        return status_set(st, CODE_INVALID_ARGUMENT, "an agent's event without the agent");
    struct agent agent = {
        .status = changed->has_status ? (unsigned)changed->status : CLM__AGENT__STATUS__BOOTSTRAPPING,
        .safe_column = safe_column_of(changed->disabled, changed->status == CLM__AGENT__STATUS__EXPIRED,
                                      changed->frozen, changed->safe_mode),
        .reason = changed->reason,
        .deleted = changed->deleted != 0,
        .min_generation = changed->min_generation,
        .scope = pack_scope(changed->scope, arena),
    };
    set_labels(&agent, changed->labels, changed->n_labels, arena);
    TRY(store_agent_put(worker->db, arena, event->entity_id, event->entity_version, &agent,
                        changed->agent_version, st));
    const char *over = is_over(changed);
    if (over)
        TRY(store_agent_get(worker->db, arena, event->entity_id, &agent, st));
    if (over && agent.version == event->entity_version)
        TRY(tasks_cancel_of_agent(worker->db, arena, event->entity_id, over, st));
    wake_later(app_of(worker), event->entity_id);
    return CODE_OK;
}

static enum code apply_issued(struct worker *worker, struct arena *arena, const void *message,
                              struct status *st)
{
    const Clm__Event *event = message;
    const Clm__IdentityIssued *issued = event->identity_issued;
    if (!issued || !uuid_valid(event->entity_id))
        return status_set(st, CODE_INVALID_ARGUMENT, "an identity's event without the identity");
    struct bytes certificate = {issued->task_certificate.data, issued->task_certificate.len};
    return store_identity_put(worker->db, arena, event->entity_id, issued->generation, certificate, false,
                              event->entity_version, st);
}

static enum code apply_confirmed(struct worker *worker, struct arena *arena, const void *message,
                                 struct status *st)
{
    const Clm__Event *event = message;
    if (!event->identity_confirmed || !uuid_valid(event->entity_id))
        return status_set(st, CODE_INVALID_ARGUMENT, "an identity's event without the identity");
    TRY(store_identity_confirm(worker->db, arena, event->entity_id, event->identity_confirmed->generation,
                               event->entity_version, st));
    wake_later(app_of(worker), event->entity_id);
    return CODE_OK;
}

/* The flag counts for every agent at once; what each of them became follows, agent by agent. */
static enum code apply_platform(struct worker *worker, struct arena *arena, const void *message,
                                struct status *st)
{
    const Clm__Event *event = message;
    if (!event->platform || !event->platform->has_safe_mode)
        return status_set(st, CODE_INVALID_ARGUMENT, "the platform's event without its flag");
    return store_platform_put(worker->db, arena, event->platform->safe_mode != 0, event->entity_version, st);
}

const struct event_handler tasks_events[] = {
    {.subject = "clm.event.registry.agent.deleted", .authority = true, .apply = apply_agent},
    {.subject = "clm.event.registry.platform.changed", .authority = true, .apply = apply_platform},
    {.subject = "clm.event.registry.agent.registered", .authority = true, .apply = apply_agent},
    {.subject = "clm.event.registry.agent.changed", .authority = true, .apply = apply_agent},
    {.subject = "clm.event.bootstrap.identity.issued", .authority = true, .apply = apply_issued},
    {.subject = "clm.event.bootstrap.identity.confirmed", .authority = true, .apply = apply_confirmed},
    {0},
};

/* ---- snapshots
 * ---------------------------------------------------------------------------------------------- */

static enum code put_snapshot(struct db *db, struct arena *arena, const Clm__AgentSnapshot *row,
                              struct status *st)
{
    struct agent agent = {
        .status = row->has_status ? (unsigned)row->status : CLM__AGENT__STATUS__BOOTSTRAPPING,
        .safe_column = safe_column_of(row->disabled, row->status == CLM__AGENT__STATUS__EXPIRED, row->frozen,
                                      row->safe_mode),
        .reason = row->reason,
        .min_generation = row->min_generation,
        .scope = pack_scope(row->scope, arena),
    };
    set_labels(&agent, row->labels, row->n_labels, arena);
    return store_agent_put(db, arena, row->agent_id, row->version, &agent, row->agent_version, st);
}

static enum code agents_ask(struct service *service, struct db *db, struct arena *arena,
                            const Clm__ListAgentSnapshotRequest *request,
                            const Clm__ListAgentSnapshotResponse **ret, struct status *st)
{
    const struct rpc_call call = {
        .service = "registry",
        .descriptor = &clm__registry__descriptor,
        .method = "ListAgentSnapshot",
        .request = &request->base,
        .timeout_ms = request->agent_id ? FETCH_TIMEOUT_MS : SNAPSHOT_TIMEOUT_MS,
    };
    ProtobufCMessage *msg;
    TRY(rpc_call(service_bus(service), service_identity(service), &call, arena, &msg, st));
    *ret = (const Clm__ListAgentSnapshotResponse *)msg;
    for (size_t i = 0; i < (*ret)->n_agents; i++)
        TRY(put_snapshot(db, arena, (*ret)->agents[i], st));
    if ((*ret)->has_platform_version)
        return store_platform_put(db, arena, (*ret)->platform_safe_mode != 0, (*ret)->platform_version, st);
    return CODE_OK;
}

static enum code snapshot_agents(struct service *service, struct db *db, struct status *st)
{
    char after[UUID_TEXT_SIZE] = "";
    for (;;) {
        AUTO_ARENA struct arena *arena = arena_new();
        const Clm__ListAgentSnapshotResponse *page;
        Clm__ListAgentSnapshotRequest request = CLM__LIST_AGENT_SNAPSHOT_REQUEST__INIT;
        request.after_agent_id = *after ? after : NULL;
        request.has_page_size = 1;
        request.page_size = SNAPSHOT_PAGE;
        TRY(agents_ask(service, db, arena, &request, &page, st));
        if (page->last || page->n_agents == 0)
            return CODE_OK;
        memcpy(after, page->agents[page->n_agents - 1]->agent_id, UUID_TEXT_SIZE);
    }
}

static enum code identities_page(struct service *service, struct db *db, struct arena *arena,
                                 const char *after, const Clm__ListIdentitiesResponse **ret,
                                 struct status *st)
{
    Clm__ListIdentitiesRequest request = CLM__LIST_IDENTITIES_REQUEST__INIT;
    request.after_agent_id = arena_strdup(arena, after);
    request.has_page_size = 1;
    request.page_size = SNAPSHOT_PAGE;
    const struct rpc_call call = {
        .service = "bootstrap",
        .descriptor = &clm__bootstrap__descriptor,
        .method = "ListIdentities",
        .request = &request.base,
        .timeout_ms = SNAPSHOT_TIMEOUT_MS,
    };
    ProtobufCMessage *msg;
    TRY(rpc_call(service_bus(service), service_identity(service), &call, arena, &msg, st));
    *ret = (const Clm__ListIdentitiesResponse *)msg;
    for (size_t i = 0; i < (*ret)->n_identities; i++) {
        const Clm__Identity *row = (*ret)->identities[i];
        struct bytes certificate = {row->task_certificate.data, row->task_certificate.len};
        TRY(store_identity_put(db, arena, row->agent_id, row->generation, certificate, row->confirmed != 0,
                               row->version, st));
    }
    return CODE_OK;
}

static enum code snapshot_identities(struct service *service, struct db *db, struct status *st)
{
    char after[UUID_TEXT_SIZE] = "";
    for (;;) {
        AUTO_ARENA struct arena *arena = arena_new();
        const Clm__ListIdentitiesResponse *page;
        TRY(identities_page(service, db, arena, *after ? after : NULL, &page, st));
        if (page->last || page->n_identities == 0)
            return CODE_OK;
        memcpy(after, page->identities[page->n_identities - 1]->agent_id, UUID_TEXT_SIZE);
    }
}

enum code projection_snapshot_when_due(struct worker *worker, struct status *st)
{
    struct app *app = app_of(worker);
    bool complete = __atomic_load_n(&app->tasks.projection_complete, __ATOMIC_ACQUIRE);
    if (complete && clock_mono_ms() < app->snapshot_due_mono_ms)
        return CODE_OK;
    if (snapshot_agents(worker->service, worker->db, st) != CODE_OK)
        return status_wrap(st, "snapshot of the agents");
    if (snapshot_identities(worker->service, worker->db, st) != CODE_OK)
        return status_wrap(st, "snapshot of the identities");
    app->snapshot_due_mono_ms = clock_mono_ms() + SNAPSHOT_INTERVAL_MS;
    if (!complete)
        log_info("projection of the agents is complete", NULL);
    __atomic_store_n(&app->tasks.projection_complete, true, __ATOMIC_RELEASE);
    return CODE_OK;
}

enum code projection_fetch_agent(struct tasks *tasks, struct db *db, struct arena *arena,
                                 const char *agent_id, struct status *st)
{
    const Clm__ListAgentSnapshotResponse *page;
    Clm__ListAgentSnapshotRequest request = CLM__LIST_AGENT_SNAPSHOT_REQUEST__INIT;
    request.agent_id = arena_strdup(arena, agent_id);
    return agents_ask(tasks->service, db, arena, &request, &page, st);
}
