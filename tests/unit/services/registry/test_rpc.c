/* The border of requests: handlers as the dispatcher calls them. What needs other services is in the system
 * tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "border.h"
#include "fixture.h"
#include "proto/registry.pb-c.h"

const struct timing *registry_timing(const struct service *service)
{
    (void)service;
    return &fixture_timing;
}

static enum code call(const char *method, const char *selector, const void *request,
                      ProtobufCMessage *response, struct status *st)
{
    struct worker worker = {.db = fixture_db};
    struct rpc_ctx ctx = {
        .arena = fixture_arena,
        .actor = {.id = "api-key:1", .name = "test", .roles = ROLES_ADMIN, .label_selector = selector},
        .sender = "",
        .worker = &worker,
    };
    for (size_t i = 0; i < registry_n_methods; i++)
        if (strcmp(registry_methods[i].name, method) == 0)
            return registry_methods[i].handler(&ctx, request, response, st);
    fail_msg("no method %s", method);
    return CODE_INTERNAL;
}

static struct bytes large_scope(void)
{
    Clm__Scope scope = CLM__SCOPE__INIT;
    scope.n_dns_names = 100;
    scope.dns_names = arena_array(fixture_arena, 100, sizeof(char *));
    for (int i = 0; i < 100; i++)
        scope.dns_names[i] = arena_printf(fixture_arena, "%060d.%060d.%060d.example.com", i, i, i);
    scope.has_version = true;
    scope.version = 1;
    return scope_encode(&scope, fixture_arena);
}

static void register_many(size_t n)
{
    const struct cause cause = fixture_cause(T0);
    for (size_t i = 0; i < n; i++) {
        const struct registration in = {.hostname = arena_printf(fixture_arena, "host%zu", i),
                                        .scope = large_scope()};
        struct agent agent;
        bool needs_token;
        assert_int_equal(
            agent_register(fixture_db, &cause, "", &in, fixture_arena, &agent, &needs_token, NULL), CODE_OK);
    }
}

static void page_of_heavy_agents_is_cut_and_the_next_goes_on(void **state)
{
    (void)state;
    register_many(60);
    Clm__ListAgentsRequest req = CLM__LIST_AGENTS_REQUEST__INIT;
    req.has_page_size = true;
    req.page_size = 500;
    size_t total = 0, pages = 0;
    do {
        Clm__ListAgentsResponse res = CLM__LIST_AGENTS_RESPONSE__INIT;
        struct status st = {0};
        assert_int_equal(call("ListAgents", "", &req, &res.base, &st), CODE_OK);
        assert_true(protobuf_c_message_get_packed_size(&res.base) < WIRE_BODY_MAX);
        assert_true(res.n_agents > 0);
        total += res.n_agents;
        pages++;
        req.page_token = res.next_page_token;
    } while (req.page_token);
    assert_int_equal(total, 60);
    assert_true(pages > 1);
}

static void snapshot_of_heavy_agents_is_cut_and_the_next_goes_on(void **state)
{
    (void)state;
    register_many(60);
    Clm__ListAgentSnapshotRequest req = CLM__LIST_AGENT_SNAPSHOT_REQUEST__INIT;
    size_t total = 0;
    for (bool last = false; !last;) {
        Clm__ListAgentSnapshotResponse res = CLM__LIST_AGENT_SNAPSHOT_RESPONSE__INIT;
        struct status st = {0};
        assert_int_equal(call("ListAgentSnapshot", "", &req, &res.base, &st), CODE_OK);
        assert_true(protobuf_c_message_get_packed_size(&res.base) < WIRE_BODY_MAX);
        total += res.n_agents;
        last = res.last;
        req.after_agent_id = res.agents[res.n_agents - 1]->agent_id;
    }
    assert_int_equal(total, 60);
}

static void snapshot_of_agents_with_many_labels_is_cut_too(void **state)
{
    (void)state;
    enum { AGENTS = 40, LABELS = 60 };
    const struct cause cause = fixture_cause(T0);
    struct label labels[LABELS];
    for (int i = 0; i < LABELS; i++)
        labels[i] = (struct label){arena_printf(fixture_arena, "label-%d", i),
                                   arena_printf(fixture_arena, "%0250d", i)};
    for (int i = 0; i < AGENTS; i++) {
        const struct registration in = {
            .hostname = arena_printf(fixture_arena, "host%d", i), .labels = labels, .n_labels = LABELS};
        struct agent agent;
        bool needs_token;
        assert_int_equal(
            agent_register(fixture_db, &cause, "", &in, fixture_arena, &agent, &needs_token, NULL), CODE_OK);
    }
    Clm__ListAgentSnapshotRequest req = CLM__LIST_AGENT_SNAPSHOT_REQUEST__INIT;
    size_t total = 0;
    for (bool last = false; !last;) {
        Clm__ListAgentSnapshotResponse res = CLM__LIST_AGENT_SNAPSHOT_RESPONSE__INIT;
        struct status st = {0};
        assert_int_equal(call("ListAgentSnapshot", "", &req, &res.base, &st), CODE_OK);
        assert_true(protobuf_c_message_get_packed_size(&res.base) < WIRE_BODY_MAX);
        total += res.n_agents;
        last = res.last;
        req.after_agent_id = res.agents[res.n_agents - 1]->agent_id;
    }
    assert_int_equal(total, AGENTS);
}

static void snapshot_of_one_agent_is_it_alone(void **state)
{
    (void)state;
    char *const id = arena_strdup(fixture_arena, fixture_agent("web1", "prod"));
    (void)fixture_agent("web2", "prod");
    Clm__ListAgentSnapshotRequest req = CLM__LIST_AGENT_SNAPSHOT_REQUEST__INIT;
    Clm__ListAgentSnapshotResponse res = CLM__LIST_AGENT_SNAPSHOT_RESPONSE__INIT;
    struct status st = {0};
    req.agent_id = id;
    assert_int_equal(call("ListAgentSnapshot", "", &req, &res.base, &st), CODE_OK);
    assert_int_equal(res.n_agents, 1);
    assert_string_equal(res.agents[0]->agent_id, id);
    req.agent_id = arena_strdup(fixture_arena, "01890000-0000-7000-8000-000000000000");
    Clm__ListAgentSnapshotResponse none = CLM__LIST_AGENT_SNAPSHOT_RESPONSE__INIT;
    assert_int_equal(call("ListAgentSnapshot", "", &req, &none.base, &st), CODE_OK);
    assert_int_equal(none.n_agents, 0);
    assert_true(none.last);
}

static void states_say_what_a_gateway_needs(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    const struct cause cause = fixture_cause(T0);
    struct agent agent;
    assert_int_equal(agent_disable(fixture_db, &cause, "", id, "stolen", fixture_arena, &agent, NULL),
                     CODE_OK);
    Clm__ListAgentStatesRequest req = CLM__LIST_AGENT_STATES_REQUEST__INIT;
    Clm__ListAgentStatesResponse res = CLM__LIST_AGENT_STATES_RESPONSE__INIT;
    assert_int_equal(call("ListAgentStates", "", &req, &res.base, NULL), CODE_OK);
    assert_int_equal(res.n_states, 1);
    assert_true(res.last);
    assert_string_equal(res.states[0]->agent_id, id);
    assert_true(res.states[0]->disabled);
    assert_string_equal(res.states[0]->reason, "stolen");
    assert_int_equal(res.states[0]->version, 2);
}

static void view_shows_facts_and_times_only_when_there_are_any(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    Clm__GetAgentRequest req = CLM__GET_AGENT_REQUEST__INIT;
    req.agent_id = arena_strdup(fixture_arena, id);
    Clm__AgentView fresh = CLM__AGENT_VIEW__INIT;
    assert_int_equal(call("GetAgent", "", &req, &fresh.base, NULL), CODE_OK);
    assert_false(fresh.has_last_heartbeat_at_ms || fresh.has_bootstrapped_at_ms ||
                 fresh.has_identity_not_after_at_ms);
    assert_null(fresh.facts);
    assert_int_equal(fresh.created_at_ms, T0);
    Clm__HostFacts facts = CLM__HOST_FACTS__INIT;
    facts.os = arena_strdup(fixture_arena, "Debian");
    facts.agent_version = arena_strdup(fixture_arena, "1.0");
    Clm__Heartbeat beat = CLM__HEARTBEAT__INIT, *beats[] = {&beat};
    beat.agent_id = req.agent_id;
    beat.facts = &facts;
    Clm__ReportHeartbeatsRequest report = CLM__REPORT_HEARTBEATS_REQUEST__INIT;
    report.gateway_id = arena_strdup(fixture_arena, "g1");
    report.heartbeats = beats;
    report.n_heartbeats = 1;
    Clm__ReportHeartbeatsResponse none = CLM__REPORT_HEARTBEATS_RESPONSE__INIT;
    assert_int_equal(call("ReportHeartbeats", "", &report, &none.base, NULL), CODE_OK);
    Clm__AgentView seen = CLM__AGENT_VIEW__INIT;
    assert_int_equal(call("GetAgent", "", &req, &seen.base, NULL), CODE_OK);
    assert_int_equal(seen.status, CLM__AGENT__STATUS__ONLINE);
    assert_string_equal(seen.facts->os, "Debian");
    assert_true(seen.has_last_heartbeat_at_ms && seen.has_bootstrapped_at_ms);
}

static void bad_requests_are_refused_before_anything_is_written(void **state)
{
    (void)state;
    Clm__ListAgentsRequest list = CLM__LIST_AGENTS_REQUEST__INIT;
    Clm__ListAgentsResponse agents = CLM__LIST_AGENTS_RESPONSE__INIT;
    list.page_token = arena_strdup(fixture_arena, "' OR 1=1");
    assert_int_equal(call("ListAgents", "", &list, &agents.base, NULL), CODE_INVALID_ARGUMENT);
    list.page_token = NULL;
    list.has_page_size = true;
    list.page_size = 501;
    assert_int_equal(call("ListAgents", "", &list, &agents.base, NULL), CODE_INVALID_ARGUMENT);

    Clm__RegisterAgentRequest reg = CLM__REGISTER_AGENT_REQUEST__INIT;
    Clm__RegisterAgentResponse registered = CLM__REGISTER_AGENT_RESPONSE__INIT;
    reg.hostname = arena_strdup(fixture_arena, "web1");
    reg.has_token_ttl_sec = true;
    reg.token_ttl_sec = 1;
    assert_int_equal(call("RegisterAgent", "", &reg, &registered.base, NULL), CODE_INVALID_ARGUMENT);
    reg.has_token_ttl_sec = false;
    Clm__Label a = CLM__LABEL__INIT, b = CLM__LABEL__INIT, *labels[] = {&a, &b};
    a.name = b.name = arena_strdup(fixture_arena, "env");
    a.value = arena_strdup(fixture_arena, "prod");
    reg.labels = labels;
    reg.n_labels = 2;
    assert_int_equal(call("RegisterAgent", "", &reg, &registered.base, NULL), CODE_INVALID_ARGUMENT);
    reg.n_labels = 1;
    assert_int_equal(call("RegisterAgent", "env=test", &reg, &registered.base, NULL), CODE_PERMISSION_DENIED);
    assert_int_equal(fixture_number("SELECT count(*) FROM agents"), 0);
}

/* If-Match: what is accepted is held to. */
static void every_change_of_an_agent_is_of_the_version_that_was_asked_for(void **state)
{
    (void)state;
    static const char *const methods[] = {"RevokeAgent", "UnfreezeAgent", "EnterSafeMode", "LeaveSafeMode",
                                          "DeleteAgent"};
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        struct status why = {0};
        Clm__AgentRequest req = CLM__AGENT_REQUEST__INIT;
        Clm__AgentView view = CLM__AGENT_VIEW__INIT;
        const char *id = fixture_agent(arena_printf(fixture_arena, "web%zu", i), "prod");
        req.agent_id = arena_strdup(fixture_arena, id);
        req.has_if_version = true;
        req.if_version = 7;
        if (call(methods[i], "", &req, &view.base, &why) != CODE_ABORTED)
            fail_msg("%s: %s", methods[i], why.msg);
        req.if_version = (uint64_t)fixture_get(id).version;
        if (call(methods[i], "", &req, &view.base, &why) != CODE_OK)
            fail_msg("%s: %s", methods[i], why.msg);
    }
    assert_int_equal(fixture_number("SELECT count(*) FROM agents"), ARRAY_LEN(methods) - 1);
}

#define T(name) cmocka_unit_test_setup(name, fixture_reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(page_of_heavy_agents_is_cut_and_the_next_goes_on),
        T(snapshot_of_heavy_agents_is_cut_and_the_next_goes_on),
        T(snapshot_of_agents_with_many_labels_is_cut_too),
        T(snapshot_of_one_agent_is_it_alone),
        T(states_say_what_a_gateway_needs),
        T(view_shows_facts_and_times_only_when_there_are_any),
        T(bad_requests_are_refused_before_anything_is_written),
        T(every_change_of_an_agent_is_of_the_version_that_was_asked_for),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
