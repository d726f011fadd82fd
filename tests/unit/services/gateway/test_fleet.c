/* fleet.c with fakes for bus and service: events and ticks are handed in by the test, the snapshot is what it
 * says. */
#include "cmocka_all.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/fleet.h"
#include "proto/event.pb-c.h"
#include "proto/registry.pb-c.h"
#include "service/service.h"

#define AGENT "018f0000-0000-7000-8000-000000000001"
#define OTHER "018f0000-0000-7000-8000-000000000002"

/* ---- fakes ---- */

static void (*send_event)(const struct event_message *event, void *arg);
static void (*send_tick)(const char *subject, const void *data, size_t len, void *arg);
static void *fleet_arg;
static bool signature_holds;
static atomic_bool registry_away;
static const char *signer;
static Clm__AgentState *snapshot[3000];
static size_t n_snapshot;
static atomic_uint snapshot_calls;
static pthread_mutex_t snapshot_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t snapshot_done = PTHREAD_COND_INITIALIZER;

struct bus *service_bus(const struct service *service UNUSED)
{
    return NULL;
}

struct bus_identity *service_identity(const struct service *service UNUSED)
{
    return NULL;
}

enum code events_watch(struct bus *bus UNUSED, const char *subject,
                       void (*on_event)(const struct event_message *, void *), void *arg,
                       struct bus_sub **ret UNUSED, struct status *st UNUSED)
{
    assert_string_equal(subject, "clm.event.registry.agent.>");
    send_event = on_event;
    fleet_arg = arg;
    return CODE_OK;
}

enum code bus_subscribe(struct bus *bus UNUSED, const char *subject UNUSED,
                        void (*on_message)(const char *, const void *, size_t, void *), void *arg UNUSED,
                        struct bus_sub **ret UNUSED, struct status *st UNUSED)
{
    send_tick = on_message;
    return CODE_OK;
}

void bus_unsubscribe(struct bus_sub *sub UNUSED)
{
}

static uint64_t losses;

uint64_t bus_sub_losses(const struct bus_sub *sub UNUSED)
{
    return losses;
}

enum code authority_verify(struct bus_identity *identity UNUSED, struct bytes authority UNUSED,
                           const char *subject UNUSED, const char *message_id UNUSED,
                           struct bytes body UNUSED, struct arena *arena UNUSED, char ret_service[64],
                           struct status *st)
{
    if (!signature_holds)
        return status_set(st, CODE_PERMISSION_DENIED, "forged");
    (void)snprintf(ret_service, 64, "%s", signer);
    return CODE_OK;
}

/* Pages of 1000, as the registry would give them. */
enum code rpc_call(struct bus *bus UNUSED, struct bus_identity *identity UNUSED, const struct rpc_call *call,
                   struct arena *arena, ProtobufCMessage **ret, struct status *st)
{
    if (registry_away)
        return status_set(st, CODE_UNAVAILABLE, "no registry");
    const Clm__ListAgentStatesRequest *request = (const Clm__ListAgentStatesRequest *)call->request;
    Clm__ListAgentStatesResponse *page = arena_alloc(arena, sizeof *page);
    clm__list_agent_states_response__init(page);
    size_t from = 0;
    while (request->after_agent_id && from < n_snapshot &&
           strcmp(snapshot[from]->agent_id, request->after_agent_id) <= 0)
        from++;
    page->states = &snapshot[from];
    page->n_states = n_snapshot - from < request->page_size ? n_snapshot - from : request->page_size;
    page->has_last = true;
    page->last = from + page->n_states == n_snapshot;
    *ret = &page->base;
    pthread_mutex_lock(&snapshot_mutex);
    atomic_fetch_add(&snapshot_calls, 1);
    pthread_cond_signal(&snapshot_done);
    pthread_mutex_unlock(&snapshot_mutex);
    return CODE_OK;
}

/* ---- the fleet under test ---- */

static char cut[64];
static unsigned n_cuts;

static void on_cut(const char *agent_id, void *arg UNUSED)
{
    (void)snprintf(cut, sizeof cut, "%s", agent_id);
    n_cuts++;
}

static void tick(void)
{
    send_tick("clm.tick.registry", "0", 1, fleet_arg);
}

static const char *disabled_reason = "because";

static void event(const char *agent_id, uint64_t version, bool disabled, uint32_t min_generation)
{
    AUTO_ARENA struct arena *arena = arena_new();
    Clm__AgentChanged change = CLM__AGENT_CHANGED__INIT;
    Clm__Event message = CLM__EVENT__INIT;
    change.has_disabled = true;
    change.disabled = disabled;
    change.has_min_generation = true;
    change.min_generation = min_generation;
    change.reason = arena_strdup(arena, disabled_reason);
    message.id = arena_strdup(arena, OTHER);
    message.subject = arena_strdup(arena, "clm.event.registry.agent.changed");
    message.entity_id = arena_strdup(arena, agent_id);
    message.has_entity_version = true;
    message.entity_version = version;
    message.has_occurred_at_ms = true;
    message.occurred_at_ms = 1;
    message.agent = &change;
    const uint8_t *data;
    size_t len;
    wire_pack(&message.base, arena, &data, &len);
    const struct event_message raw = {
        .id = OTHER, .subject = "clm.event.registry.agent.changed", .body = {data, len}};
    send_event(&raw, fleet_arg);
}

static void until_ready(struct fleet *fleet)
{
    char why[128];
    while (!fleet_ready(fleet, why))
        sched_yield();
}

/* Waits on the condition that the snapshot was read; the table is merged right after, before loaded is set.
 */
static struct fleet *started(void)
{
    struct status st = {0};
    signature_holds = true;
    signer = "registry";
    registry_away = false;
    n_cuts = 0;
    atomic_store(&snapshot_calls, 0);
    struct fleet *fleet = fleet_new(NULL, on_cut, NULL);
    assert_int_equal(fleet_start(fleet, &st), CODE_OK);
    pthread_mutex_lock(&snapshot_mutex);
    while (atomic_load(&snapshot_calls) * 1000 < n_snapshot || atomic_load(&snapshot_calls) == 0)
        pthread_cond_wait(&snapshot_done, &snapshot_mutex);
    pthread_mutex_unlock(&snapshot_mutex);
    tick();
    until_ready(fleet);
    return fleet;
}

static void finish(struct fleet *fleet)
{
    fleet_stop(fleet);
    fleet_free(fleet);
    n_snapshot = 0;
    clock_real();
}

static Clm__AgentState *state_of(const char *agent_id, uint64_t version, bool disabled)
{
    static Clm__AgentState rows[ARRAY_LEN(snapshot)];
    static char ids[ARRAY_LEN(snapshot)][64];
    Clm__AgentState *row = &rows[n_snapshot];
    clm__agent_state__init(row);
    (void)snprintf(ids[n_snapshot], sizeof ids[0], "%s", agent_id);
    row->agent_id = ids[n_snapshot];
    row->has_version = row->has_disabled = row->has_min_generation = true;
    row->version = version;
    row->disabled = disabled;
    return row;
}

static void nobody_is_admitted_before_the_first_snapshot(void **state)
{
    (void)state;
    struct status st = {0};
    struct fleet *fleet = fleet_new(NULL, on_cut, NULL);
    assert_int_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_UNAVAILABLE);
    fleet_free(fleet);
}

static void snapshot_of_many_pages_is_read_whole(void **state)
{
    (void)state;
    struct status st = {0};
    for (unsigned i = 0; i < 2500; i++) {
        char id[37];
        (void)snprintf(id, sizeof id, "018f0000-0000-7000-8000-%012u", i);
        Clm__AgentState *row = state_of(id, 1, i == 2499);
        snapshot[n_snapshot++] = row;
    }
    struct fleet *fleet = started();
    assert_int_equal(fleet_count(fleet), 2500);
    assert_int_equal(fleet_admit(fleet, "018f0000-0000-7000-8000-000000002498", 0, &st), CODE_OK);
    assert_int_equal(fleet_admit(fleet, "018f0000-0000-7000-8000-000000002499", 0, &st),
                     CODE_PERMISSION_DENIED);
    finish(fleet);
}

static void unknown_agent_is_not_admitted(void **state)
{
    (void)state;
    struct status st = {0};
    struct fleet *fleet = started();
    assert_int_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_UNAUTHENTICATED);
    event(AGENT, 1, false, 0);
    assert_int_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_OK);
    finish(fleet);
}

static void disabling_cuts_once_and_is_told_with_its_reason(void **state)
{
    (void)state;
    struct status st = {0};
    struct fleet *fleet = started();
    event(AGENT, 1, false, 0);
    event(AGENT, 2, true, 0);
    assert_int_equal(n_cuts, 1);
    assert_string_equal(cut, AGENT);
    event(AGENT, 3, true, 0);
    assert_int_equal(n_cuts, 1);
    assert_int_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_PERMISSION_DENIED);
    assert_non_null(strstr(st.msg, "because"));
    finish(fleet);
}

static void who_is_turned_away_is_told_the_way_back(void **state)
{
    (void)state;
    static const struct {
        const char *reason, *way;
    } cases[] = {{"stolen", "an operator has to enable it"},
                 {"", "an operator has to enable it"},
                 {"deleted", "register this host anew"},
                 {"farewell", "a fresh token is needed"},
                 {"revoked", "a fresh token is needed"}};
    struct status st = {0};
    struct fleet *fleet = started();
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        disabled_reason = cases[i].reason;
        event(AGENT, i + 1, true, 0);
        assert_int_not_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_OK);
        assert_non_null(strstr(st.msg, cases[i].way));
    }
    disabled_reason = "because";
    finish(fleet);
}

static void older_version_changes_nothing(void **state)
{
    (void)state;
    struct status st = {0};
    struct fleet *fleet = started();
    event(AGENT, 5, true, 0);
    event(AGENT, 4, false, 0);
    assert_int_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_PERMISSION_DENIED);
    event(AGENT, 6, false, 0);
    assert_int_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_OK);
    finish(fleet);
}

static void superseded_generation_is_refused_and_cut(void **state)
{
    (void)state;
    struct status st = {0};
    struct fleet *fleet = started();
    event(AGENT, 1, false, 0);
    event(AGENT, 2, false, 1);
    assert_int_equal(n_cuts, 1);
    assert_int_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_UNAUTHENTICATED);
    assert_int_equal(fleet_admit(fleet, AGENT, 1, &st), CODE_OK);
    finish(fleet);
}

static void event_without_the_registrys_signature_changes_nothing(void **state)
{
    (void)state;
    struct status st = {0};
    struct fleet *fleet = started();
    event(AGENT, 1, true, 0);
    signature_holds = false;
    event(AGENT, 2, false, 0);
    signature_holds = true;
    signer = "gateway";
    event(AGENT, 3, false, 0);
    assert_int_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_PERMISSION_DENIED);
    finish(fleet);
}

static void bytes_that_are_no_event_change_nothing(void **state)
{
    (void)state;
    struct fleet *fleet = started();
    const struct event_message raw = {.id = OTHER,
                                      .subject = "clm.event.registry.agent.changed",
                                      .body = {(const uint8_t *)"\xff\xff\xff", 3}};
    send_event(&raw, fleet_arg);
    assert_int_equal(fleet_count(fleet), 0);
    finish(fleet);
}

static void silent_registry_closes_the_door(void **state)
{
    (void)state;
    struct status st = {0};
    snapshot[0] = state_of(AGENT, 1, false);
    n_snapshot = 1;
    struct fleet *fleet = started();
    clock_fake(clock_wall_ms());
    tick();
    assert_int_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_OK);
    clock_advance(5001);
    assert_int_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_UNAVAILABLE);
    registry_away = true;
    tick();
    assert_int_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_UNAVAILABLE);
    registry_away = false;
    until_ready(fleet);
    assert_int_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_OK);
    finish(fleet);
}

/* Shorter than a silence that anybody would notice. */
static void what_was_lost_on_the_bus_is_read_anew_before_anybody_is_let_in(void **state)
{
    (void)state;
    struct status st = {0};
    snapshot[0] = state_of(AGENT, 1, false);
    n_snapshot = 1;
    struct fleet *fleet = started();
    assert_int_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_OK);
    snapshot[0] = state_of(AGENT, 2, true); /* its event was lost */
    tick();
    assert_int_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_OK);
    losses++;
    tick();
    assert_int_not_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_OK);
    until_ready(fleet);
    assert_int_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_PERMISSION_DENIED);
    assert_string_equal(cut, AGENT);
    finish(fleet);
}

static void who_was_deleted_unheard_is_cut_and_who_came_meanwhile_is_not(void **state)
{
    (void)state;
    struct status st = {0};
    snapshot[0] = state_of(AGENT, 1, false);
    n_snapshot = 1;
    struct fleet *fleet = started();
    n_snapshot = 0;
    losses++;
    tick();
    until_ready(fleet);
    assert_int_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_PERMISSION_DENIED);
    assert_non_null(strstr(st.msg, "register this host anew"));
    assert_string_equal(cut, AGENT);
    assert_int_equal(n_cuts, 1);
    losses++;
    tick();
    until_ready(fleet);
    assert_int_equal(n_cuts, 1);
    event(AGENT, 2, false, 0); /* a restored platform may know it again */
    assert_int_equal(fleet_admit(fleet, AGENT, 0, &st), CODE_OK);
    finish(fleet);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_is_admitted_before_the_first_snapshot),
        cmocka_unit_test(snapshot_of_many_pages_is_read_whole),
        cmocka_unit_test(unknown_agent_is_not_admitted),
        cmocka_unit_test(disabling_cuts_once_and_is_told_with_its_reason),
        cmocka_unit_test(who_is_turned_away_is_told_the_way_back),
        cmocka_unit_test(older_version_changes_nothing),
        cmocka_unit_test(superseded_generation_is_refused_and_cut),
        cmocka_unit_test(event_without_the_registrys_signature_changes_nothing),
        cmocka_unit_test(bytes_that_are_no_event_change_nothing),
        cmocka_unit_test(silent_registry_closes_the_door),
        cmocka_unit_test(what_was_lost_on_the_bus_is_read_anew_before_anybody_is_let_in),
        cmocka_unit_test(who_was_deleted_unheard_is_cut_and_who_came_meanwhile_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
