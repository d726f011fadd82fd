/* Requests and replies through a real nats-server with the permissions of users.c. */
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "proto/registry.pb-c.h"
#include "support/identity.h"
#include "support/methods.h"
#include "support/nats.h"

static atomic_int n_handled;
static struct rpc_delivery *held;
static sem_t held_sem;
static enum { SERVE, HOLD, REFUSE, SLOW_THREAD } mode;
static struct rpc_server *server;
static struct bus *registry_bus, *gateway_bus;
static char seen_actor[64], seen_sender[64];

static void wait_sem(sem_t *sem)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    assert_int_equal(sem_timedwait(sem, &until), 0);
}

static enum code on_get(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    const Clm__GetAgentRequest *req = request;
    Clm__AgentView *view = response;
    n_handled++;
    (void)snprintf(seen_actor, sizeof(seen_actor), "%s", ctx->actor.id);
    if (strcmp(req->agent_id, "0198c0de-0000-7000-8000-00000000dead") == 0)
        return status_set(st, CODE_NOT_FOUND, "agent: no such\nagent");
    view->id = req->agent_id;
    view->hostname = arena_strdup(ctx->arena, "web1");
    return CODE_OK;
}

static enum code on_disable(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    (void)st;
    const Clm__DisableAgentRequest *req = request;
    Clm__AgentView *view = response;
    n_handled++;
    (void)snprintf(seen_sender, sizeof(seen_sender), "%s", ctx->sender);
    view->id = req->agent_id;
    return CODE_OK;
}

static enum code on_other(struct rpc_ctx *ctx, const void *request, void *response, struct status *st)
{
    (void)ctx;
    (void)request;
    (void)response;
    (void)st;
    n_handled++;
    return CODE_OK;
}

static const struct rpc_method rows[] = {{"GetAgent", on_get}, {"DisableAgent", on_disable}};
static const struct rpc_method *methods;

static void on_delivery(struct rpc_delivery *delivery, void *arg)
{
    (void)arg;
    if (mode == HOLD) {
        held = delivery;
        (void)sem_post(&held_sem);
        return;
    }
    if (mode == REFUSE) {
        rpc_refuse(delivery, CODE_UNAVAILABLE, "full");
        return;
    }
    AUTO_ARENA struct arena *arena = arena_new();
    const char *method;
    (void)rpc_serve(server, delivery, arena, NULL, &method);
}

static struct bytes assertion_with(unsigned roles, struct bus_identity *identity, struct arena *arena)
{
    const struct actor actor = {.id = "api-key:7", .name = "bob", .roles = roles};
    struct bytes out;
    assert_int_equal(assertion_make(identity, &actor, 60000, arena, &out, NULL), CODE_OK);
    return out;
}

static enum code call_get(struct bus *bus, const char *id, struct bytes assertion, int64_t timeout_ms,
                          struct arena *arena, ProtobufCMessage **ret, struct status *st)
{
    Clm__GetAgentRequest req = CLM__GET_AGENT_REQUEST__INIT;
    req.agent_id = arena_strdup(arena, id);
    const struct rpc_call call = {
        .service = "registry",
        .descriptor = &clm__registry__descriptor,
        .method = "GetAgent",
        .request = &req.base,
        .timeout_ms = timeout_ms,
        .assertion = assertion,
    };
    return rpc_call(bus, identity_of("gateway"), &call, arena, ret, st);
}

static enum code call_disable(struct bus_identity *sender, struct bytes assertion, bool authority,
                              struct arena *arena, struct status *st)
{
    Clm__DisableAgentRequest req = CLM__DISABLE_AGENT_REQUEST__INIT;
    req.agent_id = arena_strdup(arena, "0198c0de-0000-7000-8000-000000000001");
    req.reason = arena_strdup(arena, "test");
    const struct rpc_call call = {
        .service = "registry",
        .descriptor = &clm__registry__descriptor,
        .method = "DisableAgent",
        .request = &req.base,
        .timeout_ms = 5000,
        .assertion = assertion,
        .authority = authority,
    };
    ProtobufCMessage *reply = NULL;
    return rpc_call(gateway_bus, sender, &call, arena, &reply, st);
}

#define AGENT "0198c0de-0000-7000-8000-000000000001"

/* Ready says that our subscriptions are sent; the server may read them a moment later than the other side's
 * call. */
static enum code wait_served(void)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct bytes who = assertion_with(ROLE_BIT(1), identity_of("registry"), arena);
    int64_t end_ms = clock_mono_ms() + 10000;
    enum code code;
    do {
        ProtobufCMessage *reply = NULL;
        struct status st = {0};
        code = call_get(gateway_bus, AGENT, who, 5000, arena, &reply, &st);
    } while (code == CODE_UNAVAILABLE && clock_mono_ms() < end_ms);
    return code;
}

static void request_is_answered_with_its_typed_body(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *reply = NULL;
    struct status st = {0};
    struct bytes who = assertion_with(ROLE_BIT(1), identity_of("registry"), arena);
    assert_int_equal(call_get(gateway_bus, AGENT, who, 5000, arena, &reply, &st), CODE_OK);
    const Clm__AgentView *view = (const Clm__AgentView *)reply;
    assert_string_equal(view->id, AGENT);
    assert_string_equal(view->hostname, "web1");
    assert_string_equal(seen_actor, "api-key:7");
}

static void status_and_message_travel_back_on_one_line(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *reply = NULL;
    struct status st = {0};
    struct bytes who = assertion_with(ROLE_BIT(1), identity_of("registry"), arena);
    assert_int_equal(
        call_get(gateway_bus, "0198c0de-0000-7000-8000-00000000dead", who, 5000, arena, &reply, &st),
        CODE_NOT_FOUND);
    assert_string_equal(st.msg, "agent: no such agent");
}

static void expired_request_is_dropped_without_being_handled(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *reply = NULL;
    struct status st = {0};
    struct bytes who = assertion_with(ROLE_BIT(1), identity_of("registry"), arena);
    int before = n_handled;
    mode = HOLD;
    assert_int_equal(call_get(gateway_bus, AGENT, who, 30, arena, &reply, &st), CODE_DEADLINE_EXCEEDED);
    wait_sem(&held_sem);
    mode = SERVE;
    clock_fake(clock_wall_ms());
    clock_advance(1000);
    const char *method;
    AUTO_ARENA struct arena *serving = arena_new();
    assert_int_equal(rpc_serve(server, held, serving, NULL, &method), CODE_DEADLINE_EXCEEDED);
    clock_real();
    assert_int_equal(n_handled, before);
}

static void refusal_of_a_full_queue_reaches_the_caller(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *reply = NULL;
    struct status st = {0};
    mode = REFUSE;
    assert_int_equal(call_get(gateway_bus, AGENT, (struct bytes){0}, 5000, arena, &reply, &st),
                     CODE_UNAVAILABLE);
    mode = SERVE;
}

static void operator_without_the_role_is_refused(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    struct status st = {0};
    int before = n_handled;
    struct bytes viewer = assertion_with(ROLE_BIT(1), identity_of("registry"), arena);
    assert_int_equal(call_disable(identity_of("gateway"), viewer, true, arena, &st), CODE_PERMISSION_DENIED);
    assert_int_equal(n_handled, before);
}

static void nobody_and_forged_assertions_are_refused(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *reply = NULL;
    struct status st = {0};
    int before = n_handled;
    assert_int_equal(call_get(gateway_bus, AGENT, (struct bytes){0}, 5000, arena, &reply, &st),
                     CODE_UNAUTHENTICATED);
    struct bytes by_gateway = assertion_with(ROLE_BIT(3), identity_of("gateway"), arena);
    assert_int_equal(call_get(gateway_bus, AGENT, by_gateway, 5000, arena, &reply, &st),
                     CODE_UNAUTHENTICATED);
    struct bytes foreign = assertion_with(ROLE_BIT(3), identity_forged("registry"), arena);
    assert_int_equal(call_get(gateway_bus, AGENT, foreign, 5000, arena, &reply, &st), CODE_UNAUTHENTICATED);
    assert_int_equal(n_handled, before);
}

static void method_with_authority_needs_the_right_services_signature(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    struct status st = {0};
    struct bytes admin = assertion_with(ROLE_BIT(3), identity_of("registry"), arena);
    int before = n_handled;
    assert_int_equal(call_disable(identity_of("gateway"), admin, false, arena, &st), CODE_UNAUTHENTICATED);
    assert_int_equal(call_disable(identity_forged("gateway"), admin, true, arena, &st), CODE_UNAUTHENTICATED);
    assert_int_equal(call_disable(identity_of("tasks"), admin, true, arena, &st), CODE_PERMISSION_DENIED);
    assert_int_equal(n_handled, before);
    assert_int_equal(call_disable(identity_of("gateway"), admin, true, arena, &st), CODE_OK);
    assert_string_equal(seen_sender, "gateway");
}

/* What users.c does not grant does not leave nats-server: later allowed traffic proves that it had its
 * chance. */
static atomic_int n_wakes, n_ticks;
static sem_t tick_sem;
static void on_plain(const char *subject, const void *data, size_t len, void *arg)
{
    (void)data;
    (void)len;
    (void)arg;
    if (strcmp(subject, BUS_SUBJECT_WAKE) == 0)
        n_wakes++;
    if (strcmp(subject, BUS_SUBJECT_TICK) == 0)
        n_ticks++;
    (void)sem_post(&tick_sem);
}

static void publishing_without_permission_reaches_nobody(void **state)
{
    (void)state;
    struct bus_sub *wake = NULL, *tick = NULL;
    struct status st = {0};
    assert_int_equal(bus_subscribe(gateway_bus, BUS_SUBJECT_WAKE, on_plain, NULL, &wake, &st), CODE_OK);
    assert_int_equal(bus_subscribe(gateway_bus, BUS_SUBJECT_TICK, on_plain, NULL, &tick, &st), CODE_OK);
    /* A round trip on the subscriber's connection: its subscriptions are there. */
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *reply = NULL;
    (void)!call_get(gateway_bus, AGENT, (struct bytes){0}, 5000, arena, &reply, &st);
    assert_int_equal(bus_publish(registry_bus, BUS_SUBJECT_WAKE, "x", 1, &st), CODE_OK);
    assert_int_equal(bus_publish(registry_bus, BUS_SUBJECT_TICK, "x", 1, &st), CODE_OK);
    wait_sem(&tick_sem);
    assert_int_equal(n_ticks, 1);
    assert_int_equal(n_wakes, 0);
    bus_unsubscribe(wake);
    bus_unsubscribe(tick);
}

static void service_cannot_call_what_its_row_does_not_name(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    struct bus *tasks_bus = nats_bus("tasks");
    ProtobufCMessage *reply = NULL;
    struct status st = {0};
    int before = n_handled;
    struct bytes who = assertion_with(ROLE_BIT(1), identity_of("registry"), arena);
    assert_int_equal(call_get(tasks_bus, AGENT, who, 200, arena, &reply, &st), CODE_DEADLINE_EXCEEDED);
    assert_int_equal(n_handled, before);
    bus_free(tasks_bus);
}

static void service_cannot_listen_to_anothers_requests(void **state)
{
    (void)state;
    struct bus *tasks_bus = nats_bus("tasks");
    struct bus_sub *sub = NULL;
    struct status st = {0};
    n_ticks = n_wakes = 0;
    /* Subscribing succeeds locally; the server refuses it and delivers nothing. */
    (void)!bus_subscribe(tasks_bus, "clm.rpc.registry.*", on_plain, NULL, &sub, &st);
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *reply = NULL;
    struct bytes who = assertion_with(ROLE_BIT(1), identity_of("registry"), arena);
    assert_int_equal(call_get(gateway_bus, AGENT, who, 5000, arena, &reply, &st), CODE_OK);
    int value;
    assert_int_equal(sem_getvalue(&tick_sem, &value), 0);
    assert_int_equal(value, 0);
    bus_unsubscribe(sub);
    bus_free(tasks_bus);
}

struct async {
    sem_t sem;
    atomic_int n;
    enum code code;
};

static void on_async(struct arena *arena, ProtobufCMessage *reply, const struct status *st, void *arg)
{
    struct async *a = arg;
    a->code = st->code;
    assert_true((reply != NULL) == (st->code == CODE_OK));
    a->n++;
    arena_free(arena);
    (void)sem_post(&a->sem);
}

static void call_async(struct async *a, int64_t timeout_ms, struct arena *arena)
{
    Clm__GetAgentRequest req = CLM__GET_AGENT_REQUEST__INIT;
    req.agent_id = arena_strdup(arena, AGENT);
    const struct rpc_call call = {
        .service = "registry",
        .descriptor = &clm__registry__descriptor,
        .method = "GetAgent",
        .request = &req.base,
        .timeout_ms = timeout_ms,
        .assertion = assertion_with(ROLE_BIT(1), identity_of("registry"), arena),
    };
    rpc_call_async(gateway_bus, identity_of("gateway"), &call, on_async, a);
}

static void asynchronous_call_is_answered_exactly_once(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    struct async a = {0};
    (void)sem_init(&a.sem, 0, 0);
    for (int i = 0; i < 100; i++)
        call_async(&a, 5000, arena);
    for (int i = 0; i < 100; i++)
        wait_sem(&a.sem);
    assert_int_equal(a.n, 100);
    assert_int_equal(a.code, CODE_OK);
    mode = HOLD;
    call_async(&a, 30, arena);
    wait_sem(&a.sem);
    assert_int_equal(a.code, CODE_DEADLINE_EXCEEDED);
    wait_sem(&held_sem);
    mode = SERVE;
    rpc_refuse(held, CODE_INTERNAL, "late"); /* the late reply finds nobody */
    call_async(&a, 5000, arena);
    wait_sem(&a.sem);
    assert_int_equal(a.n, 102);
    assert_int_equal(a.code, CODE_OK);
}

static void nobody_serving_is_unavailable_at_once(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    rpc_server_stop(server);
    ProtobufCMessage *reply = NULL;
    struct status st = {0};
    assert_int_equal(call_get(gateway_bus, AGENT, (struct bytes){0}, 20000, arena, &reply, &st),
                     CODE_UNAVAILABLE);
    rpc_server_free(server);
    assert_int_equal(rpc_server_new(registry_bus, identity_of("registry"), "registry",
                                    &clm__registry__descriptor, methods, clm__registry__descriptor.n_methods,
                                    on_delivery, NULL, &server, &st),
                     CODE_OK);
}

static void loss_of_the_server_fails_calls_and_is_healed_by_itself(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    struct async a = {0};
    (void)sem_init(&a.sem, 0, 0);
    struct bus_sub *tick = NULL;
    assert_int_equal(bus_subscribe(gateway_bus, BUS_SUBJECT_TICK, on_plain, NULL, &tick, &(struct status){0}),
                     CODE_OK);
    uint64_t losses = bus_sub_losses(tick);
    mode = HOLD;
    call_async(&a, 60000, arena);
    wait_sem(&held_sem);
    assert_int_equal(bus_sub_losses(tick), losses);
    nats_kill_server();
    wait_sem(&a.sem); /* long before its deadline */
    assert_int_equal(a.code, CODE_UNAVAILABLE);
    mode = SERVE;
    rpc_refuse(held, CODE_INTERNAL, "nobody hears it");
    nats_wait_ready(gateway_bus, false);
    ProtobufCMessage *reply = NULL;
    struct status st = {0};
    struct bytes who = assertion_with(ROLE_BIT(1), identity_of("registry"), arena);
    assert_int_equal(call_get(gateway_bus, AGENT, who, 5000, arena, &reply, &st), CODE_UNAVAILABLE);
    nats_start_server();
    nats_wait_ready(gateway_bus, true);
    nats_wait_ready(registry_bus, true);
    assert_int_equal(wait_served(), CODE_OK);
    assert_true(bus_sub_losses(tick) > losses); /* what was said meanwhile was not heard */
    bus_unsubscribe(tick);
}

static void client_that_starts_before_the_server_connects_when_it_comes(void **state)
{
    (void)state;
    nats_kill_server();
    const struct bus_config config = {.url = nats_url(),
                                      .ca_file = nats_ca_file(),
                                      .service = "tasks",
                                      .password_file = nats_password_file("tasks")};
    struct bus *bus = NULL;
    struct status st = {0};
    assert_int_equal(bus_new(&config, &bus, &st), CODE_OK);
    assert_false(bus_ready(bus));
    nats_start_server();
    nats_wait_ready(bus, true);
    bus_free(bus);
    nats_wait_ready(gateway_bus, true);
    nats_wait_ready(registry_bus, true);
}

/* A subscription that comes before a round trip on the same connection is there afterwards; a server that is
 * not trusted never makes it ready. */
static void server_of_another_ca_or_name_is_not_trusted(void **state)
{
    (void)state;
    struct status st = {0};
    char by_name[64];
    (void)snprintf(by_name, sizeof(by_name), "tls://localhost:%s", strrchr(nats_url(), ':') + 1);
    const struct bus_config cases[] = {
        {.url = nats_url(),
         .ca_file = nats_other_ca_file(),
         .service = "tasks",
         .password_file = nats_password_file("tasks")},
        {.url = by_name,
         .ca_file = nats_ca_file(),
         .service = "tasks",
         .password_file = nats_password_file("tasks")},
        {.url = nats_url(),
         .ca_file = nats_ca_file(),
         .service = "tasks",
         .password_file = nats_password_file("gateway")},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bus *bus = NULL;
        enum code code = bus_new(&cases[i], &bus, &st);
        if (code == CODE_OK)
            assert_false(bus_ready(bus));
        bus_free(bus);
    }
}

static void refused_credentials_are_noticed_and_told(void **state)
{
    (void)state;
    const struct bus_config config = {.url = nats_url(),
                                      .ca_file = nats_ca_file(),
                                      .service = "tasks",
                                      .password_file = nats_password_file("gateway")};
    struct bus *bus = NULL;
    struct status st = {0};
    assert_false(bus_given_up(gateway_bus));
    if (bus_new(&config, &bus, &st) != CODE_OK)
        return; /* at once: as good */
    for (int i = 0; i < 1000 && !bus_given_up(bus); i++)
        (void)poll(NULL, 0, 10);
    assert_true(bus_given_up(bus));
    bus_free(bus);
}

static void method_table_must_have_every_method_and_no_other(void **state)
{
    (void)state;
    struct rpc_server *s = NULL;
    struct status st = {0};
    assert_int_equal(rpc_server_new(registry_bus, identity_of("registry"), "registry",
                                    &clm__registry__descriptor, rows, ARRAY_LEN(rows), on_delivery, NULL, &s,
                                    &st),
                     CODE_INTERNAL);
    const struct rpc_method wrong[] = {{"NoSuchMethod", on_other}};
    assert_int_equal(rpc_server_new(registry_bus, identity_of("registry"), "registry",
                                    &clm__registry__descriptor, wrong, 1, on_delivery, NULL, &s, &st),
                     CODE_INTERNAL);
    assert_null(s);
}

static int set_up(void **state)
{
    (void)state;
    (void)sem_init(&held_sem, 0, 0);
    (void)sem_init(&tick_sem, 0, 0);
    registry_bus = nats_bus("registry");
    gateway_bus = nats_bus("gateway");
    struct status st = {0};
    methods = methods_fill(&clm__registry__descriptor, rows, ARRAY_LEN(rows), on_other);
    if (rpc_server_new(registry_bus, identity_of("registry"), "registry", &clm__registry__descriptor, methods,
                       clm__registry__descriptor.n_methods, on_delivery, NULL, &server, &st) != CODE_OK)
        return -1;
    return wait_served() == CODE_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    rpc_server_free(server);
    bus_free(gateway_bus);
    bus_free(registry_bus);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_is_answered_with_its_typed_body),
        cmocka_unit_test(status_and_message_travel_back_on_one_line),
        cmocka_unit_test(expired_request_is_dropped_without_being_handled),
        cmocka_unit_test(refusal_of_a_full_queue_reaches_the_caller),
        cmocka_unit_test(operator_without_the_role_is_refused),
        cmocka_unit_test(nobody_and_forged_assertions_are_refused),
        cmocka_unit_test(method_with_authority_needs_the_right_services_signature),
        cmocka_unit_test(publishing_without_permission_reaches_nobody),
        cmocka_unit_test(service_cannot_call_what_its_row_does_not_name),
        cmocka_unit_test(service_cannot_listen_to_anothers_requests),
        cmocka_unit_test(asynchronous_call_is_answered_exactly_once),
        cmocka_unit_test(nobody_serving_is_unavailable_at_once),
        cmocka_unit_test(refused_credentials_are_noticed_and_told),
        cmocka_unit_test(method_table_must_have_every_method_and_no_other),
        cmocka_unit_test(loss_of_the_server_fails_calls_and_is_healed_by_itself),
        cmocka_unit_test(client_that_starts_before_the_server_connects_when_it_comes),
        cmocka_unit_test(server_of_another_ca_or_name_is_not_trusted),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
