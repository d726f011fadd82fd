/* Wakes, and what they say on the bus. */
#include "fixture.h"

#include "app.h"

static struct app app_here;
static struct worker worker;
static struct buf published;
static unsigned messages;
static enum code failure;

struct app *app_of(const struct worker *ignored)
{
    (void)ignored;
    return &app_here;
}

struct bus *service_bus(const struct service *service)
{
    (void)service;
    return NULL;
}

enum code bus_publish(struct bus *bus, const char *subject, const void *data, size_t len, struct status *why)
{
    (void)bus;
    assert_string_equal(subject, "clm.wake");
    messages++;
    if (failure != CODE_OK)
        return status_set(why, failure, "the bus is away");
    assert_true(buf_append(&published, data, len));
    return CODE_OK;
}

static int setup(void **state)
{
    (void)fixture_setup(state);
    app_here = (struct app){.waker = waker_new()};
    worker.db = db;
    buf_init(&published, 0);
    messages = 0;
    failure = CODE_OK;
    return 0;
}

static int teardown(void **state)
{
    waker_free(app_here.waker);
    buf_done(&published);
    return fixture_teardown(state);
}

static void one_id_a_line(void **state)
{
    (void)state;
    const char *ids[] = {AGENT_A, AGENT_B};
    wake_now(&app_here.tasks, ids, 2);
    assert_string_equal(buf_text(&published), AGENT_A "\n" AGENT_B);
    wake_now(&app_here.tasks, ids, 0);
    assert_int_equal(messages, 1);
}

static void many_ids_are_several_messages(void **state)
{
    (void)state;
    const char *ids[2500];
    for (size_t i = 0; i < 2500; i++)
        ids[i] = AGENT_A;
    wake_now(&app_here.tasks, ids, 2500);
    assert_int_equal(messages, 3);
    assert_int_equal(published.len, 2500 * 36 + 2497);
}

static void postponed_wakes_go_to_those_with_ready_tasks_once(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A), b = fixture_agent(AGENT_B);
    (void)fixture_task(AGENT_B, CLM__TASK__KIND__RENEW);
    assert_ok(wake_pending(&worker, &st));
    assert_int_equal(messages, 0);
    for (int i = 0; i < 3; i++) {
        wake_later(&app_here, AGENT_A);
        wake_later(&app_here, AGENT_B);
    }
    assert_ok(wake_pending(&worker, &st));
    assert_string_equal(buf_text(&published), AGENT_B);
    assert_ok(wake_pending(&worker, &st));
    assert_int_equal(messages, 1);
    fixture_agent_free(&a);
    fixture_agent_free(&b);
}

static void more_than_the_list_holds_and_a_bus_that_is_away_cost_no_more_than_the_wake(void **state)
{
    (void)state;
    for (int i = 0; i < 10001; i++)
        wake_later(&app_here, AGENT_A);
    assert_ok(wake_pending(&worker, &st));
    const char *id = AGENT_A;
    failure = CODE_UNAVAILABLE;
    wake_now(&app_here.tasks, &id, 1);
    failure = CODE_OK;
    wake_now(&app_here.tasks, &id, 1);
    assert_string_equal(buf_text(&published), AGENT_A);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(one_id_a_line),
        T(many_ids_are_several_messages),
        T(postponed_wakes_go_to_those_with_ready_tasks_once),
        T(more_than_the_list_holds_and_a_bus_that_is_away_cost_no_more_than_the_wake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
