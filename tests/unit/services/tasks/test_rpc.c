/* The border to the bus: what a request becomes, and what a task looks like from outside. The bus itself is
 * not here. */
#include "fixture.h"

#include "app.h"
#include "bus/access.h"
#include "pki/digest.h"
#include "wire/wire.h"

static struct app app_here;
static struct fixture_agent a;
static struct worker worker;

struct app *app_of(const struct worker *ignored)
{
    (void)ignored;
    return &app_here;
}

static int setup(void **state)
{
    (void)fixture_setup(state);
    a = fixture_agent(AGENT_A);
    app_here.tasks = app;
    worker.db = db;
    return 0;
}

static int teardown(void **state)
{
    fixture_agent_free(&a);
    return fixture_teardown(state);
}

static const struct rpc_method *method(const char *name)
{
    for (size_t i = 0; i < tasks_n_methods; i++)
        if (!strcmp(tasks_methods[i].name, name))
            return &tasks_methods[i];
    fail_msg("no method %s", name);
    return NULL;
}

static enum code call_as(const char *selector, const char *name, const void *request, void *response)
{
    struct rpc_ctx ctx = {
        .arena = arena, .actor = {.id = "api-key:7", .label_selector = selector}, .worker = &worker};
    return method(name)->handler(&ctx, request, response, &st);
}

static enum code call(const char *name, const void *request, void *response)
{
    return call_as("", name, request, response);
}

static Clm__TaskView create(void)
{
    Clm__CreateTaskRequest request = CLM__CREATE_TASK_REQUEST__INIT;
    Clm__TaskView view = CLM__TASK_VIEW__INIT;
    struct bytes spec = fixture_spec(CLM__TASK__KIND__RENEW);
    ProtobufCMessage *msg;
    assert_ok(wire_unpack(&clm__task_spec__descriptor, spec.data, spec.len, arena, &msg, &st));
    request.agent_id = arena_strdup(arena, AGENT_A);
    request.spec = (Clm__TaskSpec *)msg;
    assert_ok(call("CreateTask", &request, &view));
    return view;
}

static void every_method_has_one_row_and_its_guards(void **state)
{
    (void)state;
    assert_int_equal(tasks_n_methods, clm__tasks__descriptor.n_methods);
    for (unsigned i = 0; i < clm__tasks__descriptor.n_methods; i++)
        assert_non_null(method(clm__tasks__descriptor.methods[i].name));
    assert_int_equal(method_access_find("tasks", "CreateTask")->roles, ROLES_OPERATOR);
    assert_int_equal(method_access_find("tasks", "CancelTask")->roles, ROLES_OPERATOR);
    assert_int_equal(method_access_find("tasks", "CreateTask")->senders, SENDER_GATEWAY);
    assert_int_equal(method_access_find("tasks", "CancelTask")->senders, SENDER_GATEWAY);
    assert_int_equal(method_access_find("tasks", "GetTask")->roles, ROLES_VIEWER);
    assert_int_equal(method_access_find("tasks", "ListTasks")->roles, ROLES_VIEWER);
    assert_int_equal(method_access_find("tasks", "AuthorizeCertificate")->senders, SENDER_BOOTSTRAP);
}

static void created_task_is_seen_with_its_defaults(void **state)
{
    (void)state;
    Clm__TaskView view = create();
    assert_int_equal(view.priority, 5);
    assert_int_equal(view.max_attempts, 3);
    assert_true(view.deadline_at_ms == FIXTURE_NOW + INT64_C(86400000));
    assert_string_equal(view.created_by, "api-key:7");
    assert_string_equal(view.spec->renew->target, "nginx");
    assert_false(view.has_leased_at_ms || view.has_finished_at_ms || view.has_progress_permille);
    assert_ok(wire_check(&view.base, &st));
    Clm__GetTaskRequest get = CLM__GET_TASK_REQUEST__INIT;
    Clm__TaskView again = CLM__TASK_VIEW__INIT;
    get.task_id = view.id;
    assert_ok(call("GetTask", &get, &again));
    assert_string_equal(again.id, view.id);
    get.task_id = arena_strdup(arena, NO_TASK);
    assert_int_equal(call("GetTask", &get, &again), CODE_NOT_FOUND);
}

static void grant_limited_to_labels_covers_tasks_of_its_agents_only(void **state)
{
    (void)state;
    Clm__TaskView view = create(), out = CLM__TASK_VIEW__INIT;
    Clm__GetTaskRequest get = CLM__GET_TASK_REQUEST__INIT;
    Clm__CancelTaskRequest cancel = CLM__CANCEL_TASK_REQUEST__INIT;
    Clm__CreateTaskRequest create_again = CLM__CREATE_TASK_REQUEST__INIT;
    Clm__ListTasksRequest list = CLM__LIST_TASKS_REQUEST__INIT;
    Clm__ListTasksResponse none = CLM__LIST_TASKS_RESPONSE__INIT, some = CLM__LIST_TASKS_RESPONSE__INIT;
    get.task_id = cancel.task_id = view.id;
    create_again.agent_id = view.agent_id;
    create_again.spec = view.spec;
    static const char *const others[] = {"env=dev", "team", "env=prod,team", "env=prod,env=dev"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        assert_int_equal(call_as(others[i], "GetTask", &get, &out), CODE_NOT_FOUND);
        assert_int_equal(call_as(others[i], "CancelTask", &cancel, &out), CODE_NOT_FOUND);
        assert_int_equal(call_as(others[i], "CreateTask", &create_again, &out), CODE_NOT_FOUND);
        none = (Clm__ListTasksResponse)CLM__LIST_TASKS_RESPONSE__INIT;
        assert_ok(call_as(others[i], "ListTasks", &list, &none));
        assert_int_equal(none.n_tasks, 0);
    }
    assert_ok(call_as("env=prod", "GetTask", &get, &out));
    assert_ok(call_as("env", "ListTasks", &list, &some));
    assert_int_equal(some.n_tasks, 1);
    /* What it waits for must be seen, too. */
    char *after = view.id;
    create_again.n_after = 1;
    create_again.after = &after;
    assert_ok(call_as("env=prod", "CreateTask", &create_again, &out));
    assert_ok(call_as("env=prod", "CancelTask", &cancel, &out));
}

static void list_continues_where_its_token_says(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        (void)create();
    Clm__ListTasksRequest list = CLM__LIST_TASKS_REQUEST__INIT;
    list.has_page_size = 1;
    list.page_size = 2;
    char seen[5][UUID_TEXT_SIZE];
    size_t n = 0;
    for (int page = 0; page < 3; page++) {
        Clm__ListTasksResponse out = CLM__LIST_TASKS_RESPONSE__INIT;
        assert_ok(call("ListTasks", &list, &out));
        for (size_t i = 0; i < out.n_tasks; i++, n++) {
            assert_true(n < 5);
            memcpy(seen[n], out.tasks[i]->id, UUID_TEXT_SIZE);
            assert_true(n == 0 || strcmp(seen[n], seen[n - 1]) < 0);
        }
        assert_true(!out.next_page_token == (page == 2));
        list.page_token = out.next_page_token;
    }
    assert_int_equal(n, 5);
    static const char *const bad[] = {"x", "!!!!", "MDE4OTAwMDAtMDAwMC03MDAwLTgwMDAtMDAwMDAwMDAwMDBa",
                                      "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        Clm__ListTasksResponse out = CLM__LIST_TASKS_RESPONSE__INIT;
        list.page_token = arena_strdup(arena, bad[i]);
        assert_int_equal(call("ListTasks", &list, &out), CODE_INVALID_ARGUMENT);
    }
    list.page_token = NULL;
    list.page_size = 501;
    Clm__ListTasksResponse out = CLM__LIST_TASKS_RESPONSE__INIT;
    assert_int_equal(call("ListTasks", &list, &out), CODE_INVALID_ARGUMENT);
}

static Clm__LeaseTasksResponse checkin(const char *agent_id, Clm__HeldTask *held)
{
    Clm__LeaseTasksResponse out = CLM__LEASE_TASKS_RESPONSE__INIT;
    Clm__LeaseTasksRequest request = CLM__LEASE_TASKS_REQUEST__INIT;
    Clm__LeaseRequest one = CLM__LEASE_REQUEST__INIT, other = CLM__LEASE_REQUEST__INIT;
    Clm__LeaseRequest *agents[] = {&other, &one};
    other.agent_id = arena_strdup(arena, AGENT_B);
    one.agent_id = arena_strdup(arena, agent_id);
    one.has_free_slots = 1;
    one.free_slots = 4000000000u;
    one.held = &held;
    one.n_held = held != NULL;
    request.gateway_id = arena_strdup(arena, "gateway-1");
    request.agents = agents;
    request.n_agents = 2;
    assert_ok(call("LeaseTasks", &request, &out));
    assert_ok(wire_check(&out.base, &st));
    return out;
}

static void checkins_answer_names_only_who_gets_something(void **state)
{
    (void)state;
    Clm__TaskView first = create(), second = create();
    Clm__LeaseTasksResponse out = checkin(AGENT_A, NULL);
    assert_int_equal(out.n_agents, 1);
    assert_string_equal(out.agents[0]->agent_id, AGENT_A);
    assert_int_equal(out.agents[0]->n_deliveries, 2);
    assert_string_equal(out.agents[0]->deliveries[0]->task_id, first.id);
    assert_int_equal(out.agents[0]->deliveries[0]->attempt, 1);
    Clm__CancelTaskRequest cancel = CLM__CANCEL_TASK_REQUEST__INIT;
    Clm__TaskView view = CLM__TASK_VIEW__INIT;
    cancel.task_id = second.id;
    assert_ok(call("CancelTask", &cancel, &view));
    assert_true(view.cancel_requested);
    Clm__HeldTask held = CLM__HELD_TASK__INIT;
    held.task_id = first.id;
    held.has_attempt = held.has_progress_permille = held.has_started_at_ms = 1;
    held.attempt = 1;
    held.progress_permille = 4000000000u;
    held.started_at_ms = FIXTURE_NOW + 999999; /* a clock that is ahead */
    out = checkin(AGENT_A, &held);
    assert_int_equal(out.n_agents, 1);
    assert_int_equal(out.agents[0]->n_deliveries, 0);
    assert_int_equal(out.agents[0]->n_cancel_task_ids, 1);
    assert_string_equal(out.agents[0]->cancel_task_ids[0], second.id);
    struct task now = fixture_get(first.id);
    assert_int_equal(now.progress_permille, 1000);
    assert_true(now.started_at_ms == FIXTURE_NOW);
}

/* Sends a result in pages, then the receipt over it. */
static void submit_all(char *task_id, unsigned attempt, const Clm__TaskResult *result,
                       Clm__Receipt__Outcome outcome)
{
    struct bytes packed;
    wire_pack(&result->base, arena, &packed.data, &packed.len);
    Clm__SubmitResultRequest submit = CLM__SUBMIT_RESULT_REQUEST__INIT;
    Clm__SubmitResultResponse answer = CLM__SUBMIT_RESULT_RESPONSE__INIT;
    submit.agent_id = arena_strdup(arena, AGENT_A);
    submit.task_id = task_id;
    submit.has_attempt = submit.has_page = submit.has_data = 1;
    submit.attempt = attempt;
    size_t sent = 0;
    while (sent < packed.len) {
        size_t n = packed.len - sent < 256 * 1024 ? packed.len - sent : 256 * 1024;
        submit.page++;
        submit.data = (ProtobufCBinaryData){.len = n, .data = arena_dup(arena, packed.data + sent, n)};
        assert_ok(call("SubmitResult", &submit, &answer));
        assert_false(answer.finished);
        sent += n;
    }
    Clm__Receipt receipt = fixture_receipt_of(&a, task_id, attempt, outcome);
    uint8_t digest[SHA256_SIZE];
    sha256(packed, digest);
    receipt.has_pages = receipt.has_result_sha256 = receipt.has_retryable = receipt.retryable = 1;
    receipt.pages = submit.page;
    receipt.result_sha256 = (ProtobufCBinaryData){.len = sizeof(digest), .data = digest};
    struct bytes cms = fixture_receipt(&a, &receipt);
    submit.has_page = submit.has_data = 0;
    submit.page = 0;
    submit.data = (ProtobufCBinaryData){0};
    submit.has_receipt = 1;
    submit.receipt = (ProtobufCBinaryData){.len = cms.len, .data = arena_dup(arena, cms.data, cms.len)};
    assert_ok(call("SubmitResult", &submit, &answer));
    assert_true(answer.finished);
}

static void large_result_is_cut_to_what_a_reply_holds(void **state)
{
    (void)state;
    Clm__TaskView task = create();
    (void)fixture_lease(AGENT_A);
    enum { N = 8000 };
    Clm__TaskResult result = CLM__TASK_RESULT__INIT;
    Clm__FoundCertificate found = CLM__FOUND_CERTIFICATE__INIT;
    found.path =
        arena_strdup(arena, "/etc/ssl/certs/some-directory-with-a-long-name/and-a-file-with-a-long-name.pem");
    result.certificates = arena_array(arena, N, sizeof(*result.certificates));
    for (size_t i = 0; i < N; i++)
        result.certificates[result.n_certificates++] = &found;
    assert_true(protobuf_c_message_get_packed_size(&result.base) > 512 * 1024);
    submit_all(task.id, 1, &result, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    Clm__GetTaskRequest get = CLM__GET_TASK_REQUEST__INIT;
    Clm__TaskView view = CLM__TASK_VIEW__INIT;
    get.task_id = task.id;
    assert_ok(call("GetTask", &get, &view));
    assert_int_equal(view.state, CLM__TASK__STATE__SUCCEEDED);
    assert_true(view.result->truncated);
    assert_in_range(view.result->n_certificates, 1000, N - 1);
    assert_true(protobuf_c_message_get_packed_size(&view.base) < 512 * 1024);
}

/* As much as a host may say. */
static Clm__TaskResult talkative(void)
{
    enum { STEPS = 200, CHECKS = 500 };
    char *text = arena_alloc(arena, 1025);
    memset(text, 'x', 1024);
    Clm__Step *step = arena_alloc(arena, sizeof(*step));
    Clm__Check *check = arena_alloc(arena, sizeof(*check));
    clm__step__init(step);
    clm__check__init(check);
    step->message = check->reason = check->remedy = text;
    check->has_outcome = 1;
    check->outcome = CLM__CHECK__OUTCOME__FAIL;
    Clm__TaskResult result = CLM__TASK_RESULT__INIT;
    result.steps = arena_array(arena, STEPS, sizeof(*result.steps));
    result.checks = arena_array(arena, CHECKS, sizeof(*result.checks));
    while (result.n_steps < STEPS)
        result.steps[result.n_steps++] = step;
    while (result.n_checks < CHECKS)
        result.checks[result.n_checks++] = check;
    return result;
}

/* What a host says, attempt after attempt, must not hide the task from those who look at it. */
static void talkative_host_is_cut_short(void **state)
{
    (void)state;
    Clm__TaskResult result = talkative(), steps_only = result;
    steps_only.n_checks = 0;
    Clm__TaskView task = create(), view;
    Clm__GetTaskRequest get = CLM__GET_TASK_REQUEST__INIT;
    get.task_id = task.id;
    for (unsigned attempt = 1; attempt <= 3; attempt++) {
        (void)fixture_lease(AGENT_A);
        submit_all(task.id, attempt, attempt < 3 ? &steps_only : &result, CLM__RECEIPT__OUTCOME__FAILED);
        clm__task_view__init(&view);
        assert_ok(call("GetTask", &get, &view));
        assert_true(protobuf_c_message_get_packed_size(&view.base) < 512 * 1024);
        assert_int_equal(view.n_attempts, attempt);
        assert_true(view.attempts[attempt > 2 ? 1 : attempt - 1]->n_steps > 50);
        clock_advance(600000);
        assert_ok(task_sweep(&app, db, arena, &st));
    }
    assert_int_equal(view.state, CLM__TASK__STATE__FAILED);
    assert_true(view.result->truncated);
    assert_true(view.result->n_steps > 50);
}

/* A page of reports is read at once: what hosts said, at length, stays in the database. */
static void long_report_is_not_read(void **state)
{
    (void)state;
    Clm__TaskResult result = talkative();
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__VALIDATE);
    (void)fixture_lease(AGENT_A);
    submit_all(task.id, 1, &result, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    Clm__ListReportsRequest list = CLM__LIST_REPORTS_REQUEST__INIT;
    Clm__ListReportsResponse out = CLM__LIST_REPORTS_RESPONSE__INIT;
    size_t before = arena_used_bytes(arena);
    assert_ok(call("ListReports", &list, &out));
    assert_true(arena_used_bytes(arena) - before < 256 * 1024);
    assert_int_equal(out.n_reports, 1);
    assert_true(out.reports[0]->truncated);
    assert_int_equal(out.reports[0]->verdict, CLM__CHECK__OUTCOME__FAIL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(every_method_has_one_row_and_its_guards),
        T(created_task_is_seen_with_its_defaults),
        T(grant_limited_to_labels_covers_tasks_of_its_agents_only),
        T(list_continues_where_its_token_says),
        T(checkins_answer_names_only_who_gets_something),
        T(large_result_is_cut_to_what_a_reply_holds),
        T(talkative_host_is_cut_short),
        T(long_report_is_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
