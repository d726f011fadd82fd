/* The services' contracts, who may call them, who does, and what REST shows of them. */
#include "cmocka_all.h"

#include "bus/access.h"
#include "bus/bus.h"
#include "gateway/routes.h"
#include "proto/bootstrap.pb-c.h"
#include "proto/registry.pb-c.h"
#include "proto/tasks.pb-c.h"

static const struct {
    const char *name;
    const ProtobufCServiceDescriptor *descriptor;
} services[] = {
    {"registry", &clm__registry__descriptor},
    {"bootstrap", &clm__bootstrap__descriptor},
    {"tasks", &clm__tasks__descriptor},
};
#define SERVICES (sizeof(services) / sizeof(services[0]))

static bool method_exists(const char *service, const char *method)
{
    for (size_t i = 0; i < SERVICES; i++)
        if (strcmp(services[i].name, service) == 0)
            return protobuf_c_service_descriptor_get_method_by_name(services[i].descriptor, method) != NULL;
    return false;
}

static void every_method_has_an_access_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < SERVICES; i++) {
        for (unsigned m = 0; m < services[i].descriptor->n_methods; m++) {
            const char *name = services[i].descriptor->methods[m].name;
            if (!method_access_find(services[i].name, name))
                fail_msg("%s.%s has no row in lib/bus/access.c", services[i].name, name);
        }
    }
}

static void every_access_row_is_a_method_and_stands_once(void **state)
{
    (void)state;
    const struct method_access *row;
    size_t n = 0;
    for (; (row = method_access_at(n)); n++) {
        if (!method_exists(row->service, row->method))
            fail_msg("lib/bus/access.c names %s.%s, which no contract has", row->service, row->method);
        assert_ptr_equal(method_access_find(row->service, row->method), row);
    }
    assert_true(n > 0);
}

static void every_call_of_a_bus_user_is_a_method(void **state)
{
    (void)state;
    for (const struct bus_user *user = bus_users; user->name; user++) {
        for (size_t i = 0; i < BUS_SUBJECTS_MAX && user->call[i]; i++) {
            char service[64];
            size_t len = strcspn(user->call[i], ".");
            (void)snprintf(service, sizeof(service), "%.*s", (int)len, user->call[i]);
            if (!method_exists(service, user->call[i] + len + 1))
                fail_msg("%s may call %s, which no contract has", user->name, user->call[i]);
        }
    }
}

static bool may_call(const struct bus_user *user, const char *service, const char *method)
{
    char call[128];
    (void)snprintf(call, sizeof(call), "%s.%s", service, method);
    for (size_t i = 0; user && i < BUS_SUBJECTS_MAX && user->call[i]; i++)
        if (strcmp(user->call[i], call) == 0)
            return true;
    return false;
}

/* A sender that must sign but has no right on the bus, or the other way round, could never be served. */
static void whoever_must_sign_a_request_may_also_send_it(void **state)
{
    (void)state;
    static const struct {
        unsigned bit;
        const char *user;
    } senders[] = {{SENDER_GATEWAY, "gateway"},
                   {SENDER_REGISTRY, "registry"},
                   {SENDER_BOOTSTRAP, "bootstrap"},
                   {SENDER_TASKS, "tasks"}};
    const struct method_access *row;
    for (size_t n = 0; (row = method_access_at(n)); n++) {
        for (size_t i = 0; i < sizeof(senders) / sizeof(senders[0]) && row->senders; i++) {
            if (strcmp(senders[i].user, row->service) == 0)
                continue; /* its own methods it calls without the bus */
            bool may = may_call(bus_user_find(senders[i].user), row->service, row->method);
            if (may != ((row->senders & senders[i].bit) != 0))
                fail_msg("%s.%s: %s %s send it, but its signature is %s", row->service, row->method,
                         senders[i].user, may ? "may" : "may not", may ? "not accepted" : "accepted");
        }
    }
}

static void every_route_is_a_method_for_operators_that_the_gateway_may_call(void **state)
{
    (void)state;
    for (const struct route *route = routes; route->method; route++) {
        const struct method_access *access = method_access_find(route->service, route->rpc);
        assert_true(method_exists(route->service, route->rpc));
        assert_non_null(access);
        if ((access->roles == 0) !=
            (route->session == ROUTE_SESSION_BEGIN)) /* only who signs in has none yet */
            fail_msg("%s %s: %s.%s asks for the wrong role", route->method, route->path, route->service,
                     route->rpc);
        assert_true(may_call(bus_user_find("gateway"), route->service, route->rpc));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_method_has_an_access_row),
        cmocka_unit_test(every_access_row_is_a_method_and_stands_once),
        cmocka_unit_test(every_call_of_a_bus_user_is_a_method),
        cmocka_unit_test(whoever_must_sign_a_request_may_also_send_it),
        cmocka_unit_test(every_route_is_a_method_for_operators_that_the_gateway_may_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
