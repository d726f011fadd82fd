#include "fixture.h"

static void projection_takes_greater_versions_only(void **state)
{
    (void)state;
    struct agent on = {.status = 6}, off = {.status = 1, .safe_column = SAFE_DISABLED}, got;
    assert_int_equal(store_agent_get(db, arena, AGENT_A, &got, &st), CODE_NOT_FOUND);
    assert_ok(store_agent_put(db, arena, AGENT_A, 5, &off, NULL, &st));
    assert_ok(store_agent_put(db, arena, AGENT_A, 4, &on, NULL, &st));
    assert_ok(store_agent_put(db, arena, AGENT_A, 5, &on, NULL, &st));
    assert_ok(store_agent_get(db, arena, AGENT_A, &got, &st));
    assert_int_equal(got.safe_column, SAFE_DISABLED);
    assert_ok(store_agent_put(db, arena, AGENT_A, 6, &on, NULL, &st));
    assert_ok(store_agent_get(db, arena, AGENT_A, &got, &st));
    assert_int_equal(got.safe_column, SAFE_ONLINE);
}

static void identity_is_found_by_its_certificate(void **state)
{
    (void)state;
    struct bytes c0 = {(const uint8_t *)"c0", 2}, c1 = {(const uint8_t *)"c1", 2},
                 c1b = {(const uint8_t *)"c1b", 3};
    unsigned generation;
    assert_int_equal(store_identity_find(db, arena, AGENT_A, c0, &generation, &st), CODE_NOT_FOUND);
    assert_ok(store_identity_put(db, arena, AGENT_A, 0, c0, true, 2, &st));
    assert_ok(store_identity_put(db, arena, AGENT_A, 1, c1, false, 3, &st));
    assert_ok(store_identity_put(db, arena, AGENT_A, 1, c1b, false, 4, &st)); /* another pending pair */
    assert_ok(store_identity_put(db, arena, AGENT_A, 1, c1, false, 3, &st));  /* an old event, again */
    assert_ok(store_identity_find(db, arena, AGENT_A, c0, &generation, &st));
    assert_int_equal(generation, 0);
    assert_ok(store_identity_find(db, arena, AGENT_A, c1b, &generation, &st));
    assert_int_equal(generation, 1);
    assert_int_equal(store_identity_find(db, arena, AGENT_A, c1, &generation, &st), CODE_NOT_FOUND);
    assert_int_equal(store_identity_find(db, arena, AGENT_B, c0, &generation, &st), CODE_NOT_FOUND);
    /* a late "issued" does not take a confirmation back */
    assert_ok(store_identity_confirm(db, arena, AGENT_A, 1, 5, &st));
    assert_ok(store_identity_put(db, arena, AGENT_A, 1, c1b, false, 4, &st));
    assert_int_equal(fixture_count("SELECT count(*) FROM identities WHERE confirmed"), 2);
}

static void guarded_update_of_a_task_that_moved_on_changes_nothing(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW), ignored;
    const struct ending first = {
        .state = STATE_CANCELLED, .message = "first", .started_at_ms = -1, .now_ms = FIXTURE_NOW};
    const struct ending second = {
        .state = STATE_FAILED, .message = "second", .started_at_ms = -1, .now_ms = FIXTURE_NOW};
    assert_ok(store_task_finish(db, arena, &task, &first, &ignored, &st));
    assert_int_equal(store_task_finish(db, arena, &task, &second, &ignored, &st), CODE_ABORTED);
    assert_int_equal(store_task_reschedule(db, arena, &task, 2, FIXTURE_NOW, NULL, &ignored, &st),
                     CODE_ABORTED);
    assert_int_equal(store_task_request_cancel(db, arena, &task, &ignored, &st), CODE_ABORTED);
    assert_string_equal(fixture_get(task.id).message, "first");
    /* nor of an attempt that is over */
    struct task other = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    other.attempt = 2;
    assert_int_equal(store_task_finish(db, arena, &other, &second, &ignored, &st), CODE_ABORTED);
    fixture_agent_free(&a);
}

static void every_guarded_update_agrees_with_the_state_table(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW), ignored;
    for (enum task_state from = STATE_SCHEDULED; from <= STATE_EXPIRED; from++) {
        for (enum task_state to = STATE_SUCCEEDED; to <= STATE_EXPIRED; to++) {
            struct db_args *args = db_args_new(arena);
            db_arg_int(args, from);
            assert_ok(db_query(
                db, "UPDATE tasks SET state = $1::int, finished_at = CASE WHEN $1::int >= 5 THEN now() END",
                args, NULL, &st));
            const struct ending ending = {.state = to, .started_at_ms = -1, .now_ms = FIXTURE_NOW};
            enum code code = store_task_finish(db, arena, &task, &ending, &ignored, &st);
            assert_int_equal(code == CODE_OK, task_state_may_follow(from, to));
        }
    }
    fixture_agent_free(&a);
}

static void list_pages_from_the_newest_without_gaps(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A), b = fixture_agent(AGENT_B);
    char ids[10][UUID_TEXT_SIZE];
    for (int i = 0; i < 10; i++) {
        struct task task = fixture_task(i % 2 ? AGENT_A : AGENT_B,
                                        i < 4 ? CLM__TASK__KIND__RENEW : CLM__TASK__KIND__VALIDATE);
        memcpy(ids[i], task.id, UUID_TEXT_SIZE);
    }
    struct task_filter filter = {.limit = 4};
    struct task *page;
    size_t n;
    bool more = true;
    int at = 9;
    while (more) {
        assert_ok(task_list(db, arena, &filter, &page, &n, &more, &st));
        for (size_t i = 0; i < n; i++, at--)
            assert_string_equal(page[i].id, ids[at]);
        assert_int_equal(more, at >= 0);
        filter.before_id = arena_strdup(arena, page[n - 1].id);
    }
    assert_int_equal(at, -1);

    static const int64_t renew[] = {KIND_RENEW}, cancelled[] = {STATE_CANCELLED};
    filter = (struct task_filter){.agent_id = AGENT_A, .kinds = renew, .n_kinds = 1, .limit = 50};
    assert_ok(task_list(db, arena, &filter, &page, &n, &more, &st));
    assert_int_equal(n, 2);
    assert_string_equal(page[0].id, ids[3]);
    filter = (struct task_filter){.states = cancelled, .n_states = 1, .limit = 50};
    assert_ok(task_list(db, arena, &filter, &page, &n, &more, &st));
    assert_int_equal(n, 0);
    fixture_agent_free(&a);
    fixture_agent_free(&b);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(projection_takes_greater_versions_only),
        T(identity_is_found_by_its_certificate),
        T(guarded_update_of_a_task_that_moved_on_changes_nothing),
        T(every_guarded_update_agrees_with_the_state_table),
        T(list_pages_from_the_newest_without_gaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
