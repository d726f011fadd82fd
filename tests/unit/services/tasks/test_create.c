#include "fixture.h"

#include "wire/wire.h"

static struct fixture_agent a;

static int setup(void **state)
{
    (void)fixture_setup(state);
    a = fixture_agent(AGENT_A);
    return 0;
}

static int teardown(void **state)
{
    fixture_agent_free(&a);
    return fixture_teardown(state);
}

static enum code create(const struct new_task *request, struct task *ret)
{
    return task_create(&app, db, arena, request, ret, &st);
}

static void task_is_ready_at_once_and_wakes_its_agent(void **state)
{
    (void)state;
    struct new_task request = fixture_request(AGENT_A, CLM__TASK__KIND__RENEW);
    request.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    struct task task;
    assert_ok(create(&request, &task));
    assert_int_equal(task.state, STATE_READY);
    assert_int_equal(task.kind, KIND_RENEW);
    assert_int_equal(task.attempt, 1);
    assert_int_equal(task.lease, 0);
    assert_int_equal(task.version, 1);
    assert_true(task.created_at_ms == FIXTURE_NOW && task.deadline_at_ms == FIXTURE_NOW + 3600000);
    assert_string_equal(task.created_by, "api-key:1");
    assert_string_equal(task.traceparent, request.traceparent);
    assert_true(uuid_valid(task.id));
    assert_int_equal(n_woken, 1);
    assert_string_equal(woken[0], AGENT_A);
    assert_int_equal(
        fixture_count("SELECT count(*) FROM outbox WHERE subject = 'clm.event.tasks.task.created'"), 1);
}

static void same_key_gives_the_same_task(void **state)
{
    (void)state;
    struct new_task request = fixture_request(AGENT_A, CLM__TASK__KIND__RENEW);
    request.idempotency_key = "key-1";
    struct task first, again, other;
    assert_ok(create(&request, &first));
    assert_ok(create(&request, &again));
    assert_string_equal(first.id, again.id);
    assert_int_equal(fixture_count("SELECT count(*) FROM tasks"), 1);
    assert_int_equal(fixture_count("SELECT count(*) FROM outbox"), 1);
    /* the key is the creator's own */
    request.created_by = "api-key:2";
    assert_ok(create(&request, &other));
    assert_string_not_equal(first.id, other.id);
    /* and stands for one request */
    struct new_task different = fixture_request(AGENT_A, CLM__TASK__KIND__VALIDATE);
    different.idempotency_key = "key-1";
    assert_int_equal(create(&different, &other), CODE_ALREADY_EXISTS);
}

static void later_task_waits_for_its_time(void **state)
{
    (void)state;
    struct new_task request = fixture_request(AGENT_A, CLM__TASK__KIND__RENEW);
    request.not_before_at_ms = FIXTURE_NOW + 10000;
    struct task task;
    assert_ok(create(&request, &task));
    assert_int_equal(task.state, STATE_SCHEDULED);
    assert_int_equal(n_woken, 0);
    assert_true(task.deadline_at_ms == FIXTURE_NOW + 10000 + 3600000);
    clock_advance(9999);
    assert_ok(task_sweep(&app, db, arena, &st));
    assert_int_equal(fixture_get(task.id).state, STATE_SCHEDULED);
    clock_advance(1);
    assert_ok(task_sweep(&app, db, arena, &st));
    assert_int_equal(fixture_get(task.id).state, STATE_READY);
    assert_int_equal(n_woken, 1);
}

static void numbers_out_of_range_are_refused(void **state)
{
    (void)state;
    struct task task;
    const struct new_task good = fixture_request(AGENT_A, CLM__TASK__KIND__RENEW);
    struct new_task bad[] = {good, good, good, good, good, good};
    bad[0].priority = 10;
    bad[1].max_attempts = 0;
    bad[2].max_attempts = 21;
    bad[3].deadline_sec = 0;
    bad[4].deadline_sec = 4294967295;
    bad[5].not_before_at_ms = INT64_C(253402300799999);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(create(&bad[i], &task), CODE_INVALID_ARGUMENT);
    assert_int_equal(fixture_count("SELECT count(*) FROM tasks"), 0);
}

static void specification_must_be_that_of_its_kind(void **state)
{
    (void)state;
    Clm__TaskSpec spec = CLM__TASK_SPEC__INIT;
    Clm__ValidateSpec validate = CLM__VALIDATE_SPEC__INIT;
    struct new_task request = fixture_request(AGENT_A, CLM__TASK__KIND__RENEW);
    struct task task;
    spec.has_kind = 1;
    spec.kind = CLM__TASK__KIND__RENEW;
    wire_pack(&spec.base, arena, &request.spec.data, &request.spec.len);
    assert_int_equal(create(&request, &task), CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(st.msg, "its body is missing"));
    spec.validate = &validate;
    wire_pack(&spec.base, arena, &request.spec.data, &request.spec.len);
    assert_int_equal(create(&request, &task), CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(st.msg, "body"));
    spec.kind = CLM__TASK__KIND__VALIDATE;
    wire_pack(&spec.base, arena, &request.spec.data, &request.spec.len);
    assert_int_equal(create(&request, &task), CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(st.msg, "target"));
    spec.validate = NULL;
    spec.kind = CLM__TASK__KIND__DISCOVER; /* needs none: everything has a default */
    wire_pack(&spec.base, arena, &request.spec.data, &request.spec.len);
    assert_ok(create(&request, &task));
}

static void agent_must_be_known_enabled_and_in_scope(void **state)
{
    (void)state;
    struct new_task request = fixture_request(AGENT_B, CLM__TASK__KIND__RENEW);
    struct task task;
    assert_int_equal(create(&request, &task), CODE_NOT_FOUND);
    request.agent_id = AGENT_A;
    static const Clm__Task__Kind validate[] = {CLM__TASK__KIND__VALIDATE}, renew[] = {CLM__TASK__KIND__RENEW};
    fixture_agent_state(AGENT_A, 6, false, false, fixture_scope(validate, 1, NULL, "*.example.com"));
    assert_int_equal(create(&request, &task), CODE_PERMISSION_DENIED);
    fixture_agent_state(AGENT_A, 6, false, false, fixture_scope(renew, 1, NULL, "*.example.org"));
    assert_int_equal(create(&request, &task), CODE_PERMISSION_DENIED);
    fixture_agent_state(AGENT_A, 6, false, false, (struct bytes){0});
    assert_int_equal(create(&request, &task), CODE_PERMISSION_DENIED);
    fixture_agent_state(AGENT_A, 1, false, true, fixture_scope(renew, 1, NULL, "*.example.com"));
    assert_int_equal(create(&request, &task), CODE_FAILED_PRECONDITION);
    fixture_agent_state(AGENT_A, 6, false, false, fixture_scope(renew, 1, NULL, "*.example.com"));
    assert_ok(create(&request, &task));
}

static unsigned fetches;

static enum code fetch(struct tasks *tasks, struct db *session, struct arena *scratch, const char *agent_id,
                       struct status *why)
{
    (void)tasks;
    (void)why;
    fetches++;
    static const Clm__Task__Kind renew[] = {CLM__TASK__KIND__RENEW};
    struct agent agent = {.status = 6, .scope = fixture_scope(renew, 1, NULL, "*.example.com")};
    if (strcmp(agent_id, NO_TASK) != 0)
        assert_ok(store_agent_put(session, scratch, agent_id, 1000, &agent, NULL, &st));
    return CODE_OK;
}

static enum code fetch_nothing(struct tasks *tasks, struct db *session, struct arena *scratch,
                               const char *agent_id, struct status *why)
{
    (void)tasks;
    (void)session;
    (void)scratch;
    (void)agent_id;
    fetches++;
    return status_set(why, CODE_UNAVAILABLE, "no registry");
}

static void agent_that_was_just_registered_is_asked_for(void **state)
{
    (void)state;
    app.fetch_agent = fetch;
    fetches = 0;
    struct new_task request = fixture_request(AGENT_B, CLM__TASK__KIND__RENEW);
    struct task task;
    assert_ok(create(&request, &task));
    assert_ok(create(&request, &task));
    assert_int_equal(fetches, 1);
    request.agent_id = NO_TASK;
    assert_int_equal(create(&request, &task), CODE_NOT_FOUND);
}

static void refusal_is_held_against_the_registry(void **state)
{
    (void)state;
    static const Clm__Task__Kind renew[] = {CLM__TASK__KIND__RENEW};
    const struct {
        bool disabled;
        const char *names;
        enum code refused;
    } before[] = {{true, "*.example.com", CODE_FAILED_PRECONDITION},
                  {false, "*.example.org", CODE_PERMISSION_DENIED}};
    struct new_task request = fixture_request(AGENT_A, CLM__TASK__KIND__RENEW);
    struct task task;
    for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++) {
        assert_ok(db_query(db, "UPDATE agents SET version = 0", NULL, NULL, &st));
        fixture_agent_state(AGENT_A, before[i].disabled ? 1 : 6, false, before[i].disabled,
                            fixture_scope(renew, 1, NULL, before[i].names));
        fetches = 0;
        app.fetch_agent = fetch_nothing;
        assert_int_equal(create(&request, &task), before[i].refused);
        app.fetch_agent = fetch;
        assert_ok(create(&request, &task));
        assert_int_equal(fetches, 2);
    }
    app.fetch_agent = fetch_nothing;
    request.agent_id = NO_TASK;
    assert_int_equal(create(&request, &task), CODE_UNAVAILABLE);
}

/* Whose answer was lost asks again: what was made is made, even if nothing like it could be made now. */
static void repetition_gets_the_task_whatever_became_of_its_agent(void **state)
{
    (void)state;
    struct task first = fixture_task(AGENT_A, CLM__TASK__KIND__VALIDATE), made, again, cancelled;
    struct new_task request = fixture_request(AGENT_A, CLM__TASK__KIND__RENEW);
    const char *after[] = {first.id};
    request.idempotency_key = "again";
    request.after = after;
    request.n_after = 1;
    assert_ok(create(&request, &made));
    assert_ok(task_cancel(&app, db, arena, first.id, "api-key:1", &cancelled, &st));
    assert_ok(create(&request, &again));
    assert_string_equal(again.id, made.id);
    fixture_agent_column(AGENT_A, SAFE_DISABLED);
    assert_ok(create(&request, &again));
    assert_string_equal(again.id, made.id);
    request.request = fixture_spec(CLM__TASK__KIND__DEPLOY);
    assert_int_equal(create(&request, &again), CODE_ALREADY_EXISTS);
    request.idempotency_key = "another";
    assert_int_equal(create(&request, &again), CODE_FAILED_PRECONDITION);
}

static void predecessors_must_exist_and_not_have_failed(void **state)
{
    (void)state;
    struct task first = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW), task;
    struct new_task request = fixture_request(AGENT_A, CLM__TASK__KIND__VALIDATE);
    const char *after[] = {first.id, NO_TASK};
    request.after = after;
    request.n_after = 2;
    assert_int_equal(create(&request, &task), CODE_INVALID_ARGUMENT);
    request.n_after = 1;
    assert_ok(create(&request, &task));
    assert_int_equal(task.state, STATE_SCHEDULED);
    struct task cancelled;
    assert_ok(task_cancel(&app, db, arena, first.id, "api-key:1", &cancelled, &st));
    struct task late;
    assert_int_equal(create(&request, &late), CODE_FAILED_PRECONDITION);
    assert_ok(task_sweep(&app, db, arena, &st));
    struct task orphan = fixture_get(task.id);
    assert_int_equal(orphan.state, STATE_CANCELLED);
    assert_non_null(strstr(orphan.message, first.id));
}

/* Each cell of the matrix that a new task meets. */
static void every_column_takes_the_kinds_of_its_cells(void **state)
{
    (void)state;
    for (int column = 0; column < SAFE_COLUMN_COUNT; column++)
        for (int kind = KIND_DEPLOY; kind <= KIND_DISCOVER; kind++)
            for (int released = 0; released < 2; released++) {
                struct new_task request = fixture_request(AGENT_A, (Clm__Task__Kind)kind);
                struct task task;
                request.break_glass = released;
                fixture_agent_column(AGENT_A, (enum safe_column)column);
                enum safe_verdict cell =
                    safe_verdict((enum safe_column)column, safe_action_of_kind((unsigned)kind));
                bool takes = released ? cell == SAFE_BREAK_GLASS : cell == SAFE_YES;
                assert_int_equal(create(&request, &task), takes ? CODE_OK : CODE_FAILED_PRECONDITION);
                assert_ok(
                    db_query(db, "UPDATE tasks SET state = 8, finished_at = now() WHERE finished_at IS NULL",
                             NULL, NULL, &st));
            }
}

static void one_change_at_a_time_is_released(void **state)
{
    (void)state;
    fixture_agent_column(AGENT_A, SAFE_SAFE_MODE);
    struct new_task request = fixture_request(AGENT_A, CLM__TASK__KIND__RENEW);
    struct task first, again;
    assert_int_equal(create(&request, &first), CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(st.msg, "CLOCK"));
    assert_non_null(strstr(st.msg, "breakGlass"));
    request.break_glass = true;
    request.idempotency_key = "glass";
    assert_ok(create(&request, &first));
    assert_true(first.break_glass);
    assert_ok(create(&request, &again)); /* the same request, repeated */
    assert_string_equal(first.id, again.id);
    request.idempotency_key = NULL;
    assert_int_equal(create(&request, &again), CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(st.msg, first.id));
    assert_ok(task_cancel(&app, db, arena, first.id, "api-key:1", &first, &st));
    assert_ok(create(&request, &again));
}

static void the_platforms_safe_mode_counts_for_every_agent(void **state)
{
    (void)state;
    fixture_platform(true);
    struct new_task renew = fixture_request(AGENT_A, CLM__TASK__KIND__RENEW),
                    validate = fixture_request(AGENT_A, CLM__TASK__KIND__VALIDATE);
    struct task task;
    assert_int_equal(create(&renew, &task), CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(st.msg, "PLATFORM"));
    assert_ok(create(&validate, &task));
    renew.break_glass = true;
    assert_ok(create(&renew, &task));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(task_is_ready_at_once_and_wakes_its_agent),
        T(same_key_gives_the_same_task),
        T(later_task_waits_for_its_time),
        T(numbers_out_of_range_are_refused),
        T(specification_must_be_that_of_its_kind),
        T(agent_must_be_known_enabled_and_in_scope),
        T(agent_that_was_just_registered_is_asked_for),
        T(refusal_is_held_against_the_registry),
        T(repetition_gets_the_task_whatever_became_of_its_agent),
        T(predecessors_must_exist_and_not_have_failed),
        T(every_column_takes_the_kinds_of_its_cells),
        T(one_change_at_a_time_is_released),
        T(the_platforms_safe_mode_counts_for_every_agent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
