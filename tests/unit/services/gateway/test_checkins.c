/*
 * checkins.c with fakes for the HTTP layer, the fleet and the bus: a request is a counter, a bus call is
 * remembered and answered when the test says so. Time is the loop's, turned by hand.
 */
#include "cmocka_all.h"

#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "gateway/checkins.h"
#include "gateway/edge.h"
#include "proto/bootstrap.pb-c.h"
#include "proto/registry.pb-c.h"

#define AGENT "018f0000-0000-7000-8000-000000000001"
#define OTHER "018f0000-0000-7000-8000-000000000002"
#define TASK  "018f0000-0000-7000-8000-0000000000aa"

/* ---- fakes ---- */

struct http_request {
    unsigned answers;
    int status;
    size_t n_deliveries;
    bool confirmed;
    int64_t cosigned_at_ms;
};

struct http_connection {
    bool closed;
};

struct pending { /* one call on the bus */
    char method[32];
    uint8_t request[WIRE_BODY_MAX]; /* the bus takes no more */
    size_t request_len;
    void (*on_reply)(struct edge *, struct arena *, const ProtobufCMessage *, const struct status *, void *);
    void *arg;
    bool open;
};

static struct pending calls[64];
static size_t n_calls;
static bool admitted;

void http_respond(struct http_request *request, int status, const struct http_header *headers UNUSED,
                  const void *body, size_t len)
{
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *message = NULL;
    struct status st = {0};
    request->answers++;
    request->status = status;
    assert_int_equal(wire_unpack(&clm__checkin_response__descriptor, body, len, arena, &message, &st),
                     CODE_OK);
    request->n_deliveries = ((Clm__CheckinResponse *)message)->n_deliveries;
    request->cosigned_at_ms = ((Clm__CheckinResponse *)message)->cosigned_at_ms;
    request->confirmed = ((Clm__CheckinResponse *)message)->has_confirmed_generation;
}

void http_connection_close(struct http_connection *connection)
{
    connection->closed = true;
}

static uint64_t head_asked;

bool heads_behind(struct heads *heads UNUSED, const char *known_tree UNUSED, uint64_t known_size UNUSED)
{
    return false;
}

void heads_after(struct heads *heads, const char *known_tree, uint64_t known_size, struct arena *arena,
                 struct Clm__SignedAuditHead ***ret, size_t *ret_n)
{
    (void)heads;
    (void)known_tree;
    *ret = arena_array(arena, 1, sizeof **ret);
    *ret_n = 0;
    head_asked = known_size;
}

enum code fleet_admit(struct fleet *fleet UNUSED, const char *id UNUSED, uint32_t generation UNUSED,
                      struct status *st)
{
    return admitted ? CODE_OK : status_set(st, CODE_PERMISSION_DENIED, "disabled");
}

void edge_call(struct edge *edge UNUSED, const struct rpc_call *call,
               void (*on_reply)(struct edge *, struct arena *, const ProtobufCMessage *,
                                const struct status *, void *),
               void *arg)
{
    AUTO_ARENA struct arena *arena = arena_new();
    const uint8_t *data;
    size_t len;
    assert_in_range(n_calls, 0, ARRAY_LEN(calls) - 1);
    struct pending *pending = &calls[n_calls++];
    wire_pack(call->request, arena, &data, &len);
    assert_in_range(len, 0, sizeof pending->request);
    memcpy(pending->request, data, len);
    *pending = (struct pending){.request_len = len, .on_reply = on_reply, .arg = arg, .open = true};
    memcpy(pending->request, data, len);
    (void)snprintf(pending->method, sizeof pending->method, "%s", call->method);
}

const char *service_instance_id(const struct service *service UNUSED)
{
    return OTHER;
}

void metric_add(struct metric *metric UNUSED, const char *name UNUSED, const char *value UNUSED,
                double n UNUSED)
{
}

void metric_set(struct metric *metric UNUSED, const char *name UNUSED, const char *value UNUSED,
                double n UNUSED)
{
}

void metric_observe_ms(struct metric *metric UNUSED, const char *name UNUSED, const char *value UNUSED,
                       double ms UNUSED)
{
}

/* ---- fixture ---- */

struct fixture {
    struct gateway_config config;
    struct gateway gateway;
    struct edge edge;
    struct http_connection connection;
    struct http_request request;
    struct agent *agent;
    struct loop_timer *stop;
};

static void on_stop(void *arg)
{
    loop_stop(((struct fixture *)arg)->edge.loop);
}

static void turn(struct fixture *f, int64_t ms)
{
    loop_timer_set(f->stop, ms);
    loop_run(f->edge.loop);
}

static struct fixture *fixture_new(void)
{
    struct fixture *f = calloc(1, sizeof *f);
    n_calls = 0;
    admitted = true;
    f->config.checkin_interval_ms = 30000;
    f->gateway.config = &f->config;
    uuid_v7(f->gateway.epoch);
    f->edge.gateway = &f->gateway;
    f->edge.loop = loop_new();
    f->stop = loop_timer_new(f->edge.loop, on_stop, f);
    f->edge.checkins = checkins_new(&f->edge);
    f->agent = agent_open(f->edge.checkins, &f->connection, AGENT, 0);
    return f;
}

static void fixture_free(struct fixture *f)
{
    if (f->agent)
        agent_close(f->agent);
    /* What is still on the bus must be answerable after the agents went. */
    for (size_t i = 0; i < n_calls; i++) {
        if (calls[i].open) {
            calls[i].open = false;
            const struct status st = {.code = CODE_UNAVAILABLE};
            calls[i].on_reply(&f->edge, NULL, NULL, &st, calls[i].arg);
        }
    }
    checkins_free(f->edge.checkins);
    loop_timer_free(f->stop);
    loop_free(f->edge.loop);
    free(f);
}

static void checkin(struct fixture *f, uint32_t hold_ms)
{
    Clm__CheckinRequest body = CLM__CHECKIN_REQUEST__INIT;
    body.has_generation = body.has_free_slots = body.has_hold_ms = body.has_sent_at_ms = true;
    body.free_slots = 2;
    body.hold_ms = hold_ms;
    body.sent_at_ms = clock_wall_ms();
    body.instance_id = (char *)(uintptr_t)OTHER;
    body.boot_id = (char *)(uintptr_t)OTHER;
    body.has_audit_size = true;
    body.audit_size = 42;
    f->request = (struct http_request){0};
    agent_checkin(f->agent, &f->request, &body);
}

static struct pending *open_call(const char *method)
{
    for (size_t i = 0; i < n_calls; i++) {
        if (calls[i].open && strcmp(calls[i].method, method) == 0)
            return &calls[i];
    }
    return NULL;
}

static size_t count_calls(const char *method)
{
    size_t n = 0;
    for (size_t i = 0; i < n_calls; i++)
        n += strcmp(calls[i].method, method) == 0;
    return n;
}

/* Answers the lease request under way: with one delivery, or none. */
static void answer_lease(struct fixture *f, bool with_work)
{
    struct pending *call = open_call("LeaseTasks");
    assert_non_null(call);
    call->open = false;
    Clm__Delivery delivery = CLM__DELIVERY__INIT;
    delivery.task_id = (char *)(uintptr_t)TASK;
    delivery.has_attempt = delivery.has_lease = delivery.has_envelope = true;
    delivery.attempt = delivery.lease = 1;
    delivery.envelope = (ProtobufCBinaryData){4, (uint8_t *)(uintptr_t) "data"};
    Clm__Delivery *deliveries[] = {&delivery};
    Clm__AgentDeliveries work = CLM__AGENT_DELIVERIES__INIT;
    work.agent_id = (char *)(uintptr_t)AGENT;
    work.n_deliveries = 1;
    work.deliveries = deliveries;
    Clm__AgentDeliveries *list[] = {&work};
    Clm__LeaseTasksResponse response = CLM__LEASE_TASKS_RESPONSE__INIT;
    response.n_agents = with_work ? 1 : 0;
    response.agents = list;
    const struct status st = {0};
    call->on_reply(&f->edge, NULL, &response.base, &st, call->arg);
}

static void fail_call(struct fixture *f, const char *method)
{
    struct pending *call = open_call(method);
    assert_non_null(call);
    call->open = false;
    const struct status st = {.code = CODE_UNAVAILABLE};
    call->on_reply(&f->edge, NULL, NULL, &st, call->arg);
}

/* ---- tests ---- */

static void checkin_without_work_is_held(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    checkin(f, 30000);
    assert_int_equal(count_calls("LeaseTasks"), 1);
    answer_lease(f, false);
    assert_int_equal(f->request.answers, 0);
    fixture_free(f);
}

static void work_ends_the_hold(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    checkin(f, 30000);
    answer_lease(f, true);
    assert_int_equal(f->request.answers, 1);
    assert_int_equal(f->request.n_deliveries, 1);
    assert_int_equal(head_asked, 42); /* what follows the head that the agent has */
    fixture_free(f);
}

static void wake_asks_at_once_for_a_held_checkin(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    checkin(f, 30000);
    answer_lease(f, false);
    checkins_wake(f->edge.checkins, OTHER);
    assert_int_equal(count_calls("LeaseTasks"), 1);
    checkins_wake(f->edge.checkins, AGENT);
    assert_int_equal(count_calls("LeaseTasks"), 2);
    answer_lease(f, true);
    assert_int_equal(f->request.answers, 1);
    fixture_free(f);
}

/* The task may be younger than the statement that is looking for it. */
static void wake_during_a_lease_request_asks_once_more(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    checkin(f, 30000);
    checkins_wake(f->edge.checkins, AGENT);
    answer_lease(f, false);
    assert_int_equal(count_calls("LeaseTasks"), 2);
    answer_lease(f, true);
    assert_int_equal(f->request.n_deliveries, 1);
    fixture_free(f);
}

static void request_behind_ends_the_hold(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    checkin(f, 30000);
    answer_lease(f, false);
    agent_checkin_release(f->agent);
    assert_int_equal(f->request.answers, 1);
    assert_int_equal(f->request.n_deliveries, 0);
    fixture_free(f);
}

static void request_behind_waits_for_the_lease_under_way(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    checkin(f, 30000);
    agent_checkin_release(f->agent);
    assert_int_equal(f->request.answers, 0);
    answer_lease(f, true);
    assert_int_equal(f->request.answers, 1);
    assert_int_equal(f->request.n_deliveries, 1);
    fixture_free(f);
}

static void hold_ends_after_its_time(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    checkin(f, 20);
    answer_lease(f, false);
    turn(f, 60);
    assert_int_equal(f->request.answers, 1);
    fixture_free(f);
}

static void checkin_that_wants_no_hold_is_answered_with_its_leases(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    checkin(f, 0);
    assert_int_equal(f->request.answers, 0);
    answer_lease(f, false);
    assert_int_equal(f->request.answers, 1);
    fixture_free(f);
}

static void client_that_left_is_not_answered(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    checkin(f, 30000);
    agent_checkin_gone(f->agent);
    agent_close(f->agent);
    f->agent = NULL;
    answer_lease(f, true);
    assert_int_equal(f->request.answers, 0);
    fixture_free(f);
}

static void tasks_service_away_keeps_the_checkin_and_asks_again(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    checkin(f, 30000);
    fail_call(f, "LeaseTasks");
    assert_int_equal(f->request.answers, 0);
    turn(f, 1100);
    assert_int_equal(count_calls("LeaseTasks"), 2);
    answer_lease(f, true);
    assert_int_equal(f->request.n_deliveries, 1);
    fixture_free(f);
}

static void heartbeat_that_failed_is_sent_again(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    checkin(f, 30000);
    struct pending *call = open_call("ReportHeartbeats");
    assert_non_null(call);
    fail_call(f, "ReportHeartbeats");
    turn(f, 1100);
    call = open_call("ReportHeartbeats");
    assert_non_null(call);
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *message = NULL;
    struct status st = {0};
    assert_int_equal(wire_unpack(&clm__report_heartbeats_request__descriptor, call->request,
                                 call->request_len, arena, &message, &st),
                     CODE_OK);
    const Clm__ReportHeartbeatsRequest *request = (const Clm__ReportHeartbeatsRequest *)message;
    assert_int_equal(request->n_heartbeats, 1);
    assert_string_equal(request->heartbeats[0]->agent_id, AGENT);
    fixture_free(f);
}

/* Counts what a report brings, and says that it was taken. */
static size_t take_report(struct fixture *f, char last[64])
{
    struct pending *call = open_call("ReportHeartbeats");
    assert_non_null(call);
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *message = NULL;
    struct status st = {0};
    assert_int_equal(wire_unpack(&clm__report_heartbeats_request__descriptor, call->request,
                                 call->request_len, arena, &message, &st),
                     CODE_OK);
    const Clm__ReportHeartbeatsRequest *request = (const Clm__ReportHeartbeatsRequest *)message;
    size_t n = request->n_heartbeats;
    if (n > 0)
        (void)snprintf(last, 64, "%s", request->heartbeats[n - 1]->boot_id);
    call->open = false;
    Clm__ReportHeartbeatsResponse response = CLM__REPORT_HEARTBEATS_RESPONSE__INIT;
    call->on_reply(&f->edge, NULL, &response.base, &st, call->arg);
    return n;
}

#define HEAVY 12 /* check-ins of 70 KiB and more: beyond what the bus takes at once */

/* As much as one check-in may bring, in what is reported and in what is asked for leases. */
static void checkin_heavy(struct agent *agent, struct http_request *request, unsigned number)
{
    static char text[1024];
    static Clm__Drift drifts[64];
    static Clm__Drift *drift_list[64];
    static Clm__HeldTask tasks[64];
    static Clm__HeldTask *held[64];
    char boot_id[16];
    memset(text, 'x', sizeof text - 1);
    Clm__DriftReport report = CLM__DRIFT_REPORT__INIT;
    for (size_t i = 0; i < 64; i++) {
        drifts[i] = (Clm__Drift)CLM__DRIFT__INIT;
        drifts[i].target = (char *)(uintptr_t) "web";
        drifts[i].reason = text;
        drift_list[i] = &drifts[i];
        tasks[i] = (Clm__HeldTask)CLM__HELD_TASK__INIT;
        tasks[i].task_id = (char *)(uintptr_t)TASK;
        tasks[i].has_attempt = true;
        tasks[i].message = text;
        held[i] = &tasks[i];
    }
    report.n_drifts = 64;
    report.drifts = drift_list;
    (void)snprintf(boot_id, sizeof boot_id, "%u", number);
    Clm__CheckinRequest body = CLM__CHECKIN_REQUEST__INIT;
    body.has_generation = body.has_hold_ms = body.has_sent_at_ms = true;
    body.hold_ms = 30000;
    body.sent_at_ms = clock_wall_ms();
    body.boot_id = boot_id;
    body.n_held = 64;
    body.held = held;
    body.drift = &report;
    agent_checkin(agent, request, &body);
}

static void what_is_together_too_long_for_the_bus_goes_in_parts(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    struct http_connection connections[HEAVY] = {0};
    struct http_request requests[HEAVY] = {0};
    struct agent *agents[HEAVY];
    char last[64] = "";
    checkin(f, 30000); /* both batches are under way: what follows is the next ones */
    for (unsigned i = 0; i < HEAVY; i++) {
        char id[UUID_TEXT_SIZE];
        (void)snprintf(id, sizeof id, "018f0000-0000-7000-8000-0000000001%02u", i);
        agents[i] = agent_open(f->edge.checkins, &connections[i], id, 0);
        checkin_heavy(agents[i], &requests[i], i);
    }
    fail_call(f, "ReportHeartbeats"); /* sent again, with the next one's place behind it */
    size_t reported = 0, asked = 0;
    answer_lease(f, false);
    for (int i = 0; i < 8 && reported < HEAVY + 1; i++) {
        turn(f, 1100);
        if (open_call("ReportHeartbeats"))
            reported += take_report(f, last);
    }
    assert_int_equal(reported, HEAVY + 1);
    assert_string_equal(last, "11"); /* in the order in which they came */
    for (int i = 0; i < 8 && open_call("LeaseTasks"); i++) {
        asked++;
        answer_lease(f, false);
        turn(f, 200);
    }
    assert_in_range(asked, 2, 4);
    for (unsigned i = 0; i < HEAVY; i++) {
        assert_int_equal(requests[i].answers, 0);
        agent_close(agents[i]);
    }
    fixture_free(f);
}

static void agent_that_may_not_speak_any_more_is_cut(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    checkin(f, 30000);
    checkins_cut(f->edge.checkins, OTHER);
    checkins_cut(f->edge.checkins, AGENT);
    assert_false(f->connection.closed);
    admitted = false;
    checkins_cut(f->edge.checkins, AGENT);
    assert_true(f->connection.closed);
    fixture_free(f);
}

static void confirmation_ends_the_hold_and_is_told(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    Clm__CheckinRequest body = CLM__CHECKIN_REQUEST__INIT;
    body.has_generation = body.has_free_slots = body.has_hold_ms = body.has_confirmation =
        body.has_sent_at_ms = true;
    body.sent_at_ms = clock_wall_ms();
    body.hold_ms = 30000;
    body.instance_id = (char *)(uintptr_t)OTHER;
    body.boot_id = (char *)(uintptr_t)OTHER;
    body.confirmation = (ProtobufCBinaryData){3, (uint8_t *)(uintptr_t) "cms"};
    agent_checkin(f->agent, &f->request, &body);
    answer_lease(f, false);
    assert_int_equal(f->request.answers, 0);
    struct pending *call = open_call("ConfirmIdentity");
    assert_non_null(call);
    call->open = false;
    Clm__ConfirmIdentityResponse response = CLM__CONFIRM_IDENTITY_RESPONSE__INIT;
    response.has_confirmed_generation = true;
    const struct status st = {0};
    call->on_reply(&f->edge, NULL, &response.base, &st, call->arg);
    assert_int_equal(f->request.answers, 1);
    assert_true(f->request.confirmed);
    fixture_free(f);
}

static void checkin_cosigned(struct fixture *f, int64_t made_at_ms)
{
    Clm__SignedCosignature cosignature = CLM__SIGNED_COSIGNATURE__INIT;
    cosignature.has_cosignature = cosignature.has_tree_size = cosignature.has_made_at_ms = true;
    cosignature.cosignature = (ProtobufCBinaryData){3, (uint8_t *)(uintptr_t) "cms"};
    cosignature.agent_id = (char *)(uintptr_t)AGENT;
    cosignature.tree_id = (char *)(uintptr_t)OTHER;
    cosignature.tree_size = 42;
    cosignature.made_at_ms = made_at_ms;
    Clm__CheckinRequest body = CLM__CHECKIN_REQUEST__INIT;
    body.has_hold_ms = body.has_sent_at_ms = true;
    body.hold_ms = 30000;
    body.sent_at_ms = clock_wall_ms();
    body.instance_id = (char *)(uintptr_t)OTHER;
    body.boot_id = (char *)(uintptr_t)OTHER;
    body.cosignature = &cosignature;
    f->request = (struct http_request){0};
    agent_checkin(f->agent, &f->request, &body);
}

static void answer_cosign(struct fixture *f, enum code code)
{
    struct pending *call = open_call("CosignHead");
    assert_non_null(call);
    call->open = false;
    const Clm__CosignHeadResponse response = CLM__COSIGN_HEAD_RESPONSE__INIT;
    const struct status st = {.code = code};
    call->on_reply(&f->edge, NULL, code == CODE_OK ? &response.base : NULL, &st, call->arg);
}

static void cosignature_is_passed_on_and_answered_without_ending_the_hold(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    checkin_cosigned(f, 7000);
    turn(f, 1);
    assert_int_equal(count_calls("CosignHead"), 1);
    answer_lease(f, false);
    agent_checkin_release(f->agent); /* too early for the answer: the agent says it again */
    assert_int_equal(f->request.cosigned_at_ms, 0);
    checkin_cosigned(f, 7000);
    assert_int_equal(count_calls("CosignHead"), 1); /* the first one is under way */
    answer_cosign(f, CODE_OK);
    assert_int_equal(f->request.answers, 0);
    agent_checkin_release(f->agent);
    assert_int_equal(f->request.cosigned_at_ms, 7000);
    fixture_free(f);
}

static void cosignature_that_is_refused_ends_and_one_that_found_nobody_comes_again(void **state)
{
    (void)state;
    struct fixture *f = fixture_new();
    checkin_cosigned(f, 7000);
    turn(f, 1);
    answer_lease(f, false);
    answer_cosign(f, CODE_UNAVAILABLE);
    agent_checkin_release(f->agent);
    assert_int_equal(f->request.cosigned_at_ms, 0);
    checkin_cosigned(f, 7000);
    assert_int_equal(count_calls("CosignHead"), 2);
    answer_cosign(f, CODE_UNAUTHENTICATED);
    agent_checkin_release(f->agent);
    assert_int_equal(f->request.cosigned_at_ms, 7000);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checkin_without_work_is_held),
        cmocka_unit_test(work_ends_the_hold),
        cmocka_unit_test(wake_asks_at_once_for_a_held_checkin),
        cmocka_unit_test(wake_during_a_lease_request_asks_once_more),
        cmocka_unit_test(request_behind_ends_the_hold),
        cmocka_unit_test(request_behind_waits_for_the_lease_under_way),
        cmocka_unit_test(hold_ends_after_its_time),
        cmocka_unit_test(checkin_that_wants_no_hold_is_answered_with_its_leases),
        cmocka_unit_test(client_that_left_is_not_answered),
        cmocka_unit_test(tasks_service_away_keeps_the_checkin_and_asks_again),
        cmocka_unit_test(heartbeat_that_failed_is_sent_again),
        cmocka_unit_test(what_is_together_too_long_for_the_bus_goes_in_parts),
        cmocka_unit_test(agent_that_may_not_speak_any_more_is_cut),
        cmocka_unit_test(confirmation_ends_the_hold_and_is_told),
        cmocka_unit_test(cosignature_is_passed_on_and_answered_without_ending_the_hold),
        cmocka_unit_test(cosignature_that_is_refused_ends_and_one_that_found_nobody_comes_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
