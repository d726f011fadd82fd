#include "cmocka_all.h"

#include <string.h>

#include "bus/access.h"
#include "bus/bus.h"
#include "gateway/routes.h"
#include "wire/wire.h"

static void every_route_names_a_method_that_operators_may_call(void **state)
{
    (void)state;
    for (const struct route *route = routes; route->method; route++) {
        assert_non_null(protobuf_c_service_descriptor_get_method_by_name(route->descriptor, route->rpc));
        const struct method_access *access = method_access_find(route->service, route->rpc);
        assert_non_null(access);
        /* Only who begins a session has no role yet. */
        assert_int_equal(access->roles == 0, route->session == ROUTE_SESSION_BEGIN);
        assert_true(strcmp(route->method, "GET") == 0 || strcmp(route->method, "POST") == 0);
        assert_in_range(route->success, 200, 201);
        assert_non_null(route->summary);
        assert_non_null(route->tag);
    }
}

/* What changes something must carry the gateway's own signature: a forged request on the bus has none. */
static void every_changing_route_demands_the_senders_signature(void **state)
{
    (void)state;
    for (const struct route *route = routes; route->method; route++) {
        if (strcmp(route->method, "POST") == 0)
            assert_int_not_equal(method_access_find(route->service, route->rpc)->senders, SENDER_ANY);
    }
}

/* A client that heard no answer may ask again: whatever makes something, or shows a secret once, takes a key.
 * Who begins a session has nobody that the key could be theirs. */
static void everything_that_creates_takes_an_idempotency_key(void **state)
{
    (void)state;
    static const char *const secrets[] = {"token", "link", "key"};
    size_t n = 0;
    for (const struct route *route = routes; route->method; route++) {
        if (strcmp(route->method, "POST") != 0 || route->session == ROUTE_SESSION_BEGIN)
            continue;
        bool creates = route->success == 201;
        for (size_t i = 0; i < ARRAY_LEN(secrets); i++)
            creates |=
                protobuf_c_message_descriptor_get_field_by_name(route_response(route), secrets[i]) != NULL;
        bool takes =
            protobuf_c_message_descriptor_get_field_by_name(route_request(route), "idempotency_key") != NULL;
        if (creates != takes)
            fail_msg("%s", route->path);
        n += creates;
    }
    assert_int_equal(n, 6);
}

static void every_path_parameter_is_a_field_of_its_request(void **state)
{
    (void)state;
    for (const struct route *route = routes; route->method; route++) {
        const ProtobufCMessageDescriptor *request = route_request(route);
        for (const char *open = strchr(route->path, '{'); open; open = strchr(open + 1, '{')) {
            bool found = false;
            for (unsigned i = 0; i < request->n_fields; i++) {
                char name[64];
                json_field_name(&request->fields[i], name);
                found |= strncmp(open + 1, name, strlen(name)) == 0 && open[1 + strlen(name)] == '}';
            }
            assert_true(found);
        }
    }
}

static void path_parameters_are_bound_by_name(void **state)
{
    (void)state;
    struct route_match match;
    route_find("GET", "/api/v1/agents/018f0000-0000-7000-8000-000000000001", &match);
    assert_non_null(match.route);
    assert_string_equal(match.route->rpc, "GetAgent");
    assert_int_equal(match.n_params, 1);
    assert_string_equal(match.params[0].name, "agentId");
    assert_string_equal(match.params[0].value, "018f0000-0000-7000-8000-000000000001");
}

static void verb_is_told_apart_from_the_resource(void **state)
{
    (void)state;
    struct route_match match;
    route_find("POST", "/api/v1/agents/x:disable", &match);
    assert_non_null(match.route);
    assert_string_equal(match.route->rpc, "DisableAgent");
    assert_string_equal(match.params[0].value, "x");
    route_find("GET", "/api/v1/agents/x:disable", &match);
    assert_null(match.route);
    assert_true(match.path_known);
}

static void method_that_a_path_does_not_take_is_known_from_a_missing_path(void **state)
{
    (void)state;
    struct route_match match;
    route_find("DELETE", "/api/v1/agents", &match);
    assert_null(match.route);
    assert_true(match.path_known);
    assert_string_equal(route_allows(&match), "GET, POST");
    route_find("POST", "/api/v1/dashboard", &match);
    assert_string_equal(route_allows(&match), "GET");
    route_find("GET", "/api/v1/agents/x:disable", &match);
    assert_string_equal(route_allows(&match), "POST");
    route_find("GET", "/api/v1/nothing", &match);
    assert_null(match.route);
    assert_false(match.path_known);
}

static void near_misses_match_nothing(void **state)
{
    (void)state;
    static const char *const paths[] = {"/api/v1/agents/",
                                        "/api/v1/agents/a/b",
                                        "/api/v1/agents/:disable",
                                        "/api/v1/agents/a:no",
                                        "/api/v1",
                                        "/api/v1/agentsx",
                                        "",
                                        "/"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct route_match match;
        route_find("GET", paths[i], &match);
        assert_false(match.path_known);
    }
}

static void overlong_parameter_matches_nothing(void **state)
{
    (void)state;
    char path[600] = "/api/v1/tasks/";
    memset(path + strlen(path), 'a', 500);
    struct route_match match;
    route_find("GET", path, &match);
    assert_false(match.path_known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_names_a_method_that_operators_may_call),
        cmocka_unit_test(every_changing_route_demands_the_senders_signature),
        cmocka_unit_test(everything_that_creates_takes_an_idempotency_key),
        cmocka_unit_test(every_path_parameter_is_a_field_of_its_request),
        cmocka_unit_test(path_parameters_are_bound_by_name),
        cmocka_unit_test(verb_is_told_apart_from_the_resource),
        cmocka_unit_test(method_that_a_path_does_not_take_is_known_from_a_missing_path),
        cmocka_unit_test(near_misses_match_nothing),
        cmocka_unit_test(overlong_parameter_matches_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
