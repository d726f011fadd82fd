/* Events and snapshots of other services, with their answers made here. */
#include "fixture.h"

#include "app.h"
#include "proto/bootstrap.pb-c.h"
#include "proto/event.pb-c.h"
#include "proto/registry.pb-c.h"

static struct app app_here;
static struct worker worker;
static char later[16][UUID_TEXT_SIZE];
static size_t n_later;

/* ---- what projection.c asks of the process
 * ------------------------------------------------------------------ */

struct app *app_of(const struct worker *ignored)
{
    (void)ignored;
    return &app_here;
}

void wake_later(struct app *ignored, const char *agent_id)
{
    (void)ignored;
    memcpy(later[n_later++], agent_id, UUID_TEXT_SIZE);
}

struct bus *service_bus(const struct service *service)
{
    (void)service;
    return NULL;
}

struct bus_identity *service_identity(const struct service *service)
{
    (void)service;
    return NULL;
}

/* Three agents, two a page, with one identity each; ids end in 1, 2, 3. */
#define PEERS 3
static char peer_ids[PEERS][UUID_TEXT_SIZE];
static enum code next_failure;
static unsigned calls;

static Clm__AgentSnapshot *snapshot_row(size_t i)
{
    Clm__AgentSnapshot *row = arena_alloc(arena, sizeof(*row));
    clm__agent_snapshot__init(row);
    row->agent_id = peer_ids[i];
    row->has_version = row->has_status = 1;
    row->version = 7;
    row->status = CLM__AGENT__STATUS__ONLINE;
    return row;
}

static Clm__Identity *identity_row(size_t i)
{
    Clm__Identity *row = arena_alloc(arena, sizeof(*row));
    clm__identity__init(row);
    row->agent_id = peer_ids[i];
    row->has_generation = row->has_confirmed = row->has_version = row->has_task_certificate = 1;
    row->confirmed = 1;
    row->version = 3;
    row->task_certificate = (ProtobufCBinaryData){.len = 4, .data = (uint8_t *)arena_strdup(arena, "cert")};
    return row;
}

static size_t first_after(const char *after)
{
    size_t i = 0;
    while (after && *after && i < PEERS && strcmp(peer_ids[i], after) <= 0)
        i++;
    return i;
}

enum code rpc_call(struct bus *bus, struct bus_identity *identity, const struct rpc_call *call,
                   struct arena *into, ProtobufCMessage **ret, struct status *why)
{
    (void)bus;
    (void)identity;
    calls++;
    if (next_failure != CODE_OK)
        return status_set(why, next_failure, "nobody serves it");
    if (!strcmp(call->method, "ListAgentSnapshot")) {
        const Clm__ListAgentSnapshotRequest *in = (const Clm__ListAgentSnapshotRequest *)call->request;
        Clm__ListAgentSnapshotResponse *out = arena_alloc(into, sizeof(*out));
        clm__list_agent_snapshot_response__init(out);
        out->agents = arena_array(into, PEERS, sizeof(*out->agents));
        size_t i = first_after(in->after_agent_id), most = in->page_size < 2 ? in->page_size : 2;
        if (in->agent_id)
            for (i = 0, most = 1; i < PEERS && strcmp(peer_ids[i], in->agent_id) != 0; i++)
                continue;
        for (; i < PEERS && out->n_agents < most; i++)
            out->agents[out->n_agents++] = snapshot_row(i);
        out->has_last = 1;
        out->last = i == PEERS;
        *ret = &out->base;
        return CODE_OK;
    }
    assert_string_equal(call->method, "ListIdentities");
    const Clm__ListIdentitiesRequest *in = (const Clm__ListIdentitiesRequest *)call->request;
    Clm__ListIdentitiesResponse *out = arena_alloc(into, sizeof(*out));
    clm__list_identities_response__init(out);
    out->identities = arena_array(into, PEERS, sizeof(*out->identities));
    size_t i = first_after(in->after_agent_id);
    for (; i < PEERS && out->n_identities < 2; i++)
        out->identities[out->n_identities++] = identity_row(i);
    out->has_last = 1;
    out->last = i == PEERS;
    *ret = &out->base;
    return CODE_OK;
}

/* ---- tests
 * ----------------------------------------------------------------------------------------------------- */

static int setup(void **state)
{
    (void)fixture_setup(state);
    app_here = (struct app){.tasks = app};
    worker.db = db;
    n_later = calls = 0;
    next_failure = CODE_OK;
    for (int i = 0; i < PEERS; i++)
        (void)snprintf(peer_ids[i], UUID_TEXT_SIZE, "01890000-0000-7000-8000-0000000000%d0", i + 1);
    return 0;
}

static enum code apply(const char *subject, Clm__Event *event)
{
    for (const struct event_handler *h = tasks_events; h->subject; h++) {
        if (!strcmp(h->subject, subject)) {
            assert_true(h->authority);
            return h->apply(&worker, arena, event, &st);
        }
    }
    fail_msg("no handler for %s", subject);
    return CODE_INTERNAL;
}

static Clm__Event event_of(const char *agent_id, uint64_t version)
{
    Clm__Event event = CLM__EVENT__INIT;
    event.entity_id = arena_strdup(arena, agent_id);
    event.has_entity_version = 1;
    event.entity_version = version;
    return event;
}

static void events_make_and_change_an_agent(void **state)
{
    (void)state;
    Clm__AgentChanged changed = CLM__AGENT_CHANGED__INIT;
    Clm__Scope scope = CLM__SCOPE__INIT;
    Clm__Task__Kind kinds[] = {CLM__TASK__KIND__RENEW};
    scope.operations = kinds;
    scope.n_operations = 1;
    changed.has_status = 1;
    changed.status = CLM__AGENT__STATUS__ONLINE;
    changed.scope = &scope;
    Clm__Event event = event_of(AGENT_A, 2);
    event.agent = &changed;
    assert_ok(apply("clm.event.registry.agent.registered", &event));
    struct agent agent;
    assert_ok(store_agent_get(db, arena, AGENT_A, &agent, &st));
    assert_int_equal(agent.safe_column, SAFE_ONLINE);
    assert_true(agent.scope.len > 0);
    assert_int_equal(n_later, 1);
    changed.has_disabled = changed.disabled = 1;
    event.entity_version = 1; /* older */
    assert_ok(apply("clm.event.registry.agent.changed", &event));
    assert_ok(store_agent_get(db, arena, AGENT_A, &agent, &st));
    assert_int_equal(agent.safe_column, SAFE_ONLINE);
    event.entity_version = 3;
    assert_ok(apply("clm.event.registry.agent.changed", &event));
    assert_ok(store_agent_get(db, arena, AGENT_A, &agent, &st));
    assert_int_equal(agent.safe_column, SAFE_DISABLED);
}

static void a_deleted_agents_tasks_are_cancelled(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    struct task leased = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    (void)fixture_lease(AGENT_A);
    struct task waiting = fixture_task(AGENT_A, CLM__TASK__KIND__VALIDATE);
    Clm__AgentChanged changed = CLM__AGENT_CHANGED__INIT;
    changed.has_deleted = changed.deleted = changed.has_disabled = changed.disabled = 1;
    Clm__Event event = event_of(AGENT_A, 1000);
    event.agent = &changed;
    assert_ok(apply("clm.event.registry.agent.deleted", &event));
    assert_int_equal(fixture_get(leased.id).state, STATE_CANCELLED);
    assert_int_equal(fixture_get(waiting.id).state, STATE_CANCELLED);
    assert_string_equal(fixture_get(waiting.id).message, "its agent was deleted");
    assert_int_equal(
        fixture_count("SELECT count(*) FROM outbox WHERE subject = 'clm.event.tasks.task.finished'"), 2);
    fixture_agent_free(&a);
}

static void the_platforms_flag_counts_at_once_and_by_version(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    struct agent agent;
    Clm__PlatformChanged platform = CLM__PLATFORM_CHANGED__INIT;
    platform.has_safe_mode = platform.safe_mode = 1;
    Clm__Event event = event_of("platform", 4);
    event.platform = &platform;
    assert_ok(apply("clm.event.registry.platform.changed", &event));
    assert_ok(store_agent_get(db, arena, AGENT_A, &agent, &st));
    assert_int_equal(agent.safe_column, SAFE_SAFE_MODE);
    platform.safe_mode = 0;
    event.entity_version = 3; /* older */
    assert_ok(apply("clm.event.registry.platform.changed", &event));
    assert_ok(store_agent_get(db, arena, AGENT_A, &agent, &st));
    assert_int_equal(agent.safe_column, SAFE_SAFE_MODE);
    event.entity_version = 5;
    assert_ok(apply("clm.event.registry.platform.changed", &event));
    assert_ok(store_agent_get(db, arena, AGENT_A, &agent, &st));
    assert_int_equal(agent.safe_column, SAFE_ONLINE);
    event.platform = NULL;
    assert_int_equal(apply("clm.event.registry.platform.changed", &event), CODE_INVALID_ARGUMENT);
    fixture_agent_free(&a);
}

static void identity_counts_when_it_is_confirmed(void **state)
{
    (void)state;
    Clm__IdentityIssued issued = CLM__IDENTITY_ISSUED__INIT;
    Clm__IdentityConfirmed confirmed = CLM__IDENTITY_CONFIRMED__INIT;
    issued.has_generation = issued.has_task_certificate = confirmed.has_generation = 1;
    issued.task_certificate = (ProtobufCBinaryData){.len = 4, .data = (uint8_t *)arena_strdup(arena, "cert")};
    Clm__Event event = event_of(AGENT_A, 1);
    event.identity_issued = &issued;
    assert_ok(apply("clm.event.bootstrap.identity.issued", &event));
    assert_int_equal(fixture_count("SELECT count(*) FROM identities WHERE confirmed"), 0);
    Clm__Event second = event_of(AGENT_A, 2);
    second.identity_confirmed = &confirmed;
    assert_ok(apply("clm.event.bootstrap.identity.confirmed", &second));
    assert_int_equal(fixture_count("SELECT count(*) FROM identities WHERE confirmed"), 1);
    assert_int_equal(n_later, 1);
}

static void disabled(const char *agent_id, uint64_t version, const char *reason, bool deleted)
{
    Clm__AgentChanged changed = CLM__AGENT_CHANGED__INIT;
    changed.has_disabled = changed.disabled = changed.has_deleted = 1;
    changed.deleted = deleted;
    changed.reason = arena_strdup(arena, reason);
    Clm__Event event = event_of(agent_id, version);
    event.agent = &changed;
    assert_ok(
        apply(deleted ? "clm.event.registry.agent.deleted" : "clm.event.registry.agent.changed", &event));
}

/* Who is disabled may be enabled; who is gone takes nothing any more. */
static void tasks_of_an_agent_that_is_gone_are_cancelled(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A), b = fixture_agent(AGENT_B);
    struct task of_a = fixture_task(AGENT_A, CLM__TASK__KIND__VALIDATE),
                of_b = fixture_task(AGENT_B, CLM__TASK__KIND__VALIDATE);
    disabled(AGENT_A, 10, "stolen", false);
    assert_int_equal(fixture_get(of_a.id).state, STATE_READY);
    disabled(AGENT_A, 11, "farewell", false);
    assert_int_equal(fixture_get(of_a.id).state, STATE_CANCELLED);
    assert_string_equal(fixture_get(of_a.id).message, "its agent was removed from its host");
    assert_int_equal(fixture_get(of_b.id).state, STATE_READY);
    disabled(AGENT_B, 10, "deleted", true);
    assert_int_equal(fixture_get(of_b.id).state, STATE_CANCELLED);
    assert_int_equal(
        fixture_count("SELECT count(*) FROM outbox WHERE subject = 'clm.event.tasks.task.finished'"), 2);
    fixture_agent_free(&a);
    fixture_agent_free(&b);
}

/* Replicas read one durable: an event may come when what followed it has been applied. */
static void old_farewell_does_not_cancel_what_was_made_after_the_return(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    Clm__AgentChanged back = CLM__AGENT_CHANGED__INIT;
    Clm__Event event = event_of(AGENT_A, 12);
    back.has_status = 1;
    back.status = CLM__AGENT__STATUS__ONLINE;
    event.agent = &back;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__VALIDATE);
    assert_ok(apply("clm.event.registry.agent.changed", &event));
    disabled(AGENT_A, 11, "farewell", false);
    assert_int_equal(fixture_get(task.id).state, STATE_READY);
    fixture_agent_free(&a);
}

static void event_without_its_body_can_never_be_applied(void **state)
{
    (void)state;
    Clm__Event empty = event_of(AGENT_A, 1);
    for (const struct event_handler *h = tasks_events; h->subject; h++)
        assert_int_equal(apply(h->subject, &empty), CODE_INVALID_ARGUMENT);
    Clm__AgentChanged changed = CLM__AGENT_CHANGED__INIT;
    Clm__Event nobody = event_of("nobody", 1);
    nobody.agent = &changed;
    assert_int_equal(apply("clm.event.registry.agent.changed", &nobody), CODE_INVALID_ARGUMENT);
}

static void snapshot_reads_every_page_and_then_rests(void **state)
{
    (void)state;
    next_failure = CODE_UNAVAILABLE;
    assert_int_equal(projection_snapshot_when_due(&worker, &st), CODE_UNAVAILABLE);
    assert_false(app_here.tasks.projection_complete);
    next_failure = CODE_OK;
    calls = 0;
    assert_ok(projection_snapshot_when_due(&worker, &st));
    assert_true(app_here.tasks.projection_complete);
    assert_int_equal(calls, 4);
    assert_int_equal(fixture_count("SELECT count(*) FROM agents"), PEERS);
    assert_int_equal(fixture_count("SELECT count(*) FROM identities WHERE confirmed"), PEERS);
    assert_ok(projection_snapshot_when_due(&worker, &st));
    assert_int_equal(calls, 4);
    clock_advance(600000);
    assert_ok(projection_snapshot_when_due(&worker, &st));
    assert_int_equal(calls, 8);
}

static void one_agent_is_fetched_alone(void **state)
{
    (void)state;
    struct agent agent;
    app_here.tasks.service = NULL;
    for (int i = 0; i < PEERS; i++) {
        assert_ok(projection_fetch_agent(&app_here.tasks, db, arena, peer_ids[i], &st));
        assert_ok(store_agent_get(db, arena, peer_ids[i], &agent, &st));
        assert_int_equal(fixture_count("SELECT count(*) FROM agents"), i + 1);
    }
    assert_ok(projection_fetch_agent(&app_here.tasks, db, arena, NO_TASK, &st));
    assert_int_equal(store_agent_get(db, arena, NO_TASK, &agent, &st), CODE_NOT_FOUND);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(events_make_and_change_an_agent),
        T(a_deleted_agents_tasks_are_cancelled),
        T(the_platforms_flag_counts_at_once_and_by_version),
        T(identity_counts_when_it_is_confirmed),
        T(tasks_of_an_agent_that_is_gone_are_cancelled),
        T(old_farewell_does_not_cancel_what_was_made_after_the_return),
        T(event_without_its_body_can_never_be_applied),
        T(snapshot_reads_every_page_and_then_rests),
        T(one_agent_is_fetched_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
