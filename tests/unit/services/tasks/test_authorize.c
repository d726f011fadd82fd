#include "fixture.h"

#include "wire/wire.h"

static struct fixture_agent a, b;

static int setup(void **state)
{
    (void)fixture_setup(state);
    a = fixture_agent(AGENT_A);
    b = fixture_agent(AGENT_B);
    return 0;
}

static int teardown(void **state)
{
    fixture_agent_free(&a);
    fixture_agent_free(&b);
    return fixture_teardown(state);
}

static enum code ask(const char *agent_id, const char *task_id, unsigned attempt, const char *name,
                     uint32_t *ret_life)
{
    char *names[] = {arena_strdup(arena, "www.example.com"), arena_strdup(arena, name)};
    return task_authorize_certificate(db, arena, agent_id, task_id, attempt, names, name ? 2 : 1, ret_life,
                                      &st);
}

static void running_renewal_may_have_its_names(void **state)
{
    (void)state;
    uint32_t life = 0;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    assert_int_equal(ask(AGENT_A, task.id, 1, NULL, &life), CODE_FAILED_PRECONDITION); /* not leased */
    (void)fixture_lease(AGENT_A);
    assert_ok(ask(AGENT_A, task.id, 1, NULL, &life));
    assert_int_equal(life, 7200);
    assert_ok(ask(AGENT_A, task.id, 1, "WWW.example.com", &life));
    assert_int_equal(ask(AGENT_A, task.id, 1, "other.example.com", &life), CODE_PERMISSION_DENIED);
    assert_int_equal(ask(AGENT_A, task.id, 2, NULL, &life), CODE_FAILED_PRECONDITION);
    assert_int_equal(ask(AGENT_B, task.id, 1, NULL, &life), CODE_NOT_FOUND);
    assert_int_equal(task_authorize_certificate(db, arena, AGENT_A, task.id, 1, NULL, 0, &life, &st),
                     CODE_INVALID_ARGUMENT);
    assert_ok(fixture_submit(&a, task.id, 1, CLM__RECEIPT__OUTCOME__SUCCEEDED, false));
    assert_int_equal(ask(AGENT_A, task.id, 1, NULL, &life), CODE_FAILED_PRECONDITION);
}

static void renewal_without_names_is_bound_by_the_scope(void **state)
{
    (void)state;
    uint32_t life = 1;
    Clm__TaskSpec spec = CLM__TASK_SPEC__INIT;
    Clm__RenewSpec renew = CLM__RENEW_SPEC__INIT;
    struct new_task request = fixture_request(AGENT_A, CLM__TASK__KIND__RENEW);
    struct task task;
    spec.has_kind = 1;
    spec.kind = CLM__TASK__KIND__RENEW;
    spec.renew = &renew;
    renew.target = arena_strdup(arena, "nginx");
    wire_pack(&spec.base, arena, &request.spec.data, &request.spec.len);
    assert_ok(task_create(&app, db, arena, &request, &task, &st));
    (void)fixture_lease(AGENT_A);
    assert_ok(ask(AGENT_A, task.id, 1, "other.example.com", &life));
    assert_int_equal(life, 0);
    assert_int_equal(ask(AGENT_A, task.id, 1, "other.example.org", &life), CODE_PERMISSION_DENIED);
}

static void scope_and_standing_at_the_moment_count(void **state)
{
    (void)state;
    uint32_t life;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    (void)fixture_lease(AGENT_A);
    static const Clm__Task__Kind renew[] = {CLM__TASK__KIND__RENEW};
    struct bytes good = fixture_scope(renew, 1, NULL, "*.example.com");
    fixture_agent_state(AGENT_A, 6, false, false, fixture_scope(renew, 1, NULL, "*.example.org"));
    assert_int_equal(ask(AGENT_A, task.id, 1, NULL, &life), CODE_PERMISSION_DENIED);
    fixture_agent_state(AGENT_A, 1, false, true, good);
    assert_int_equal(ask(AGENT_A, task.id, 1, NULL, &life), CODE_PERMISSION_DENIED);
    fixture_agent_state(AGENT_A, 5, true, false, good);
    assert_int_equal(ask(AGENT_A, task.id, 1, NULL, &life), CODE_PERMISSION_DENIED);
    fixture_agent_state(AGENT_A, 6, false, false, good);
    assert_ok(ask(AGENT_A, task.id, 1, NULL, &life));
}

static void a_released_renewal_gets_its_certificate_in_safe_mode(void **state)
{
    (void)state;
    uint32_t life;
    struct task task;
    struct new_task request = fixture_request(AGENT_A, CLM__TASK__KIND__RENEW);
    fixture_agent_column(AGENT_A, SAFE_SAFE_MODE);
    request.break_glass = true;
    assert_ok(task_create(&app, db, arena, &request, &task, &st));
    (void)fixture_lease(AGENT_A);
    assert_ok(ask(AGENT_A, task.id, 1, NULL, &life));
    fixture_agent_column(AGENT_A, SAFE_CLONE);
    assert_int_equal(ask(AGENT_A, task.id, 1, NULL, &life), CODE_PERMISSION_DENIED);
}

static void other_kinds_get_no_certificate(void **state)
{
    (void)state;
    uint32_t life;
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__VALIDATE);
    (void)fixture_lease(AGENT_A);
    assert_int_equal(ask(AGENT_A, task.id, 1, NULL, &life), CODE_PERMISSION_DENIED);
    assert_non_null(strstr(st.msg, "VALIDATE"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(running_renewal_may_have_its_names),     T(renewal_without_names_is_bound_by_the_scope),
        T(scope_and_standing_at_the_moment_count), T(a_released_renewal_gets_its_certificate_in_safe_mode),
        T(other_kinds_get_no_certificate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
