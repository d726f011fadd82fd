#include "fixture.h"

#include <pthread.h>

#include "wire/wire.h"

static struct lease_answer lease(const struct lease_request *requests, size_t n)
{
    struct lease_answer answer;
    assert_ok(task_lease(&app, db, arena, requests, n, &answer, &st));
    return answer;
}

static size_t leased(const char *agent_id)
{
    struct lease_request request = fixture_checkin(agent_id, 4);
    return lease(&request, 1).n_deliveries;
}

static struct held_task hold(const struct delivery *delivery)
{
    return (struct held_task){.agent_id = delivery->agent_id,
                              .task_id = delivery->task_id,
                              .attempt = delivery->attempt,
                              .phase = "stage",
                              .progress_permille = 250,
                              .started_at_ms = FIXTURE_NOW};
}

static void ready_task_is_leased_once_and_opens_for_its_agent_only(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A), b = fixture_agent(AGENT_B);
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    assert_int_equal(leased(AGENT_B), 0);
    struct delivery delivery = fixture_lease(AGENT_A);
    assert_string_equal(delivery.task_id, task.id);
    assert_int_equal(delivery.attempt, 1);
    assert_int_equal(delivery.lease, 1);
    assert_int_equal(leased(AGENT_A), 0);

    AUTO_DER struct der inner = {0};
    AUTO_DER struct der signer = {0};
    AUTO_DER struct der plain = {0};
    assert_ok(envelope_verify(delivery.envelope, &roots, FIXTURE_NOW, &inner, &signer, &st));
    assert_int_not_equal(envelope_open(der_bytes(&inner), b.key, der_bytes(&b.certificate), &plain, &st),
                         CODE_OK);
    assert_ok(envelope_open(der_bytes(&inner), a.key, der_bytes(&a.certificate), &plain, &st));
    ProtobufCMessage *msg;
    assert_ok(wire_unpack(&clm__task_order__descriptor, plain.data, plain.len, arena, &msg, &st));
    const Clm__TaskOrder *order = (const Clm__TaskOrder *)msg;
    assert_string_equal(order->task_id, task.id);
    assert_string_equal(order->agent_id, AGENT_A);
    assert_int_equal(order->attempt, 1);
    assert_int_equal(order->lease, 1);
    assert_true(order->not_before_at_ms == FIXTURE_NOW - 300000);
    assert_true(order->not_after_at_ms == FIXTURE_NOW + 3600000 + 300000);
    assert_int_equal(order->spec.len, task.spec.len);
    assert_memory_equal(order->spec.data, task.spec.data, task.spec.len);
    assert_int_equal(order->scope->n_operations, 4);

    struct task now = fixture_get(task.id);
    assert_int_equal(now.state, STATE_LEASED);
    assert_true(now.leased_at_ms == FIXTURE_NOW);
    assert_int_equal(now.version, task.version + 1);
    assert_int_equal(fixture_count("SELECT count(*) FROM tasks WHERE length(envelope) > 500"), 1);
    assert_int_equal(
        fixture_count("SELECT count(*) FROM outbox WHERE subject = 'clm.event.tasks.task.leased'"), 1);
    fixture_agent_free(&a);
    fixture_agent_free(&b);
}

static void free_slots_and_priority_decide_what_goes_first(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    struct new_task request = fixture_request(AGENT_A, CLM__TASK__KIND__VALIDATE);
    struct task tasks[3];
    for (unsigned i = 0; i < 3; i++) {
        request.priority = i == 1 ? 9 : 5;
        assert_ok(task_create(&app, db, arena, &request, &tasks[i], &st));
    }
    struct lease_request one = fixture_checkin(AGENT_A, 1), none = fixture_checkin(AGENT_A, 0);
    assert_int_equal(lease(&none, 1).n_deliveries, 0);
    assert_string_equal(lease(&one, 1).deliveries[0].task_id, tasks[1].id);
    assert_string_equal(lease(&one, 1).deliveries[0].task_id, tasks[0].id);
    assert_string_equal(lease(&one, 1).deliveries[0].task_id, tasks[2].id);
    fixture_agent_free(&a);
}

static void agent_that_is_listed_twice_gets_a_task_once(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    (void)fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    struct lease_request requests[] = {fixture_checkin(AGENT_A, 4), fixture_checkin(AGENT_A, 4)};
    assert_int_equal(lease(requests, 2).n_deliveries, 1);
    fixture_agent_free(&a);
}

static void held_task_is_running_with_its_progress(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    struct delivery delivery = fixture_lease(AGENT_A);
    struct held_task held = hold(&delivery);
    struct lease_request request = fixture_checkin(AGENT_A, 4);
    request.held = &held;
    request.n_held = 1;
    assert_int_equal(lease(&request, 1).n_deliveries, 0);
    struct task now = fixture_get(task.id);
    assert_int_equal(now.state, STATE_RUNNING);
    assert_string_equal(now.phase, "stage");
    assert_int_equal(now.progress_permille, 250);
    uint64_t version = now.version;
    held.phase = "swap";
    (void)lease(&request, 1);
    now = fixture_get(task.id);
    assert_string_equal(now.phase, "swap");
    assert_int_equal(now.version, version); /* progress is no transition */
    assert_int_equal(
        fixture_count("SELECT count(*) FROM outbox WHERE subject = 'clm.event.tasks.task.started'"), 1);
    fixture_agent_free(&a);
}

static void another_agents_task_cannot_be_held(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A), b = fixture_agent(AGENT_B);
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    struct delivery delivery = fixture_lease(AGENT_A);
    struct held_task held = hold(&delivery);
    held.agent_id = AGENT_B;
    struct lease_request request = fixture_checkin(AGENT_B, 4);
    request.held = &held;
    request.n_held = 1;
    (void)lease(&request, 1);
    assert_int_equal(fixture_get(task.id).state, STATE_LEASED);
    fixture_agent_free(&a);
    fixture_agent_free(&b);
}

static void lost_lease_is_delivered_again_with_the_same_attempt(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    struct delivery first = fixture_lease(AGENT_A);
    struct lease_request request = fixture_checkin(AGENT_A, 0);
    assert_int_equal(lease(&request, 1).n_deliveries, 0); /* it may be on its way */
    request.first_of_connection = true;
    struct lease_answer answer = lease(&request, 1);
    assert_int_equal(answer.n_deliveries, 1);
    assert_int_equal(answer.deliveries[0].attempt, 1);
    assert_int_equal(answer.deliveries[0].lease, 2);

    request.first_of_connection = false;
    clock_advance(59000);
    assert_int_equal(lease(&request, 1).n_deliveries, 0);
    clock_advance(2000);
    answer = lease(&request, 1);
    assert_int_equal(answer.n_deliveries, 1);
    assert_int_equal(answer.deliveries[0].lease, 3);

    struct held_task held = hold(&first);
    request.held = &held;
    request.n_held = 1;
    request.first_of_connection = true;
    assert_int_equal(lease(&request, 1).n_deliveries, 0);
    assert_int_equal(fixture_get(task.id).attempt, 1);
    fixture_agent_free(&a);
}

static void disabled_unknown_or_unconfirmed_agent_gets_nothing(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A), b = fixture_agent(AGENT_B);
    (void)fixture_task(AGENT_A, CLM__TASK__KIND__VALIDATE);
    struct agent row;
    assert_ok(store_agent_get(db, arena, AGENT_A, &row, &st));
    fixture_agent_state(AGENT_A, 1, false, true, row.scope);
    assert_int_equal(leased(AGENT_A), 0);
    fixture_agent_state(AGENT_A, 2, false, false, row.scope); /* EXPIRED */
    assert_int_equal(leased(AGENT_A), 0);
    fixture_agent_state(AGENT_A, 6, false, false, row.scope);
    assert_ok(db_query(db, "UPDATE identities SET confirmed = false", NULL, NULL, &st));
    assert_int_equal(leased(AGENT_A), 0);
    assert_ok(db_query(db, "UPDATE identities SET confirmed = true", NULL, NULL, &st));
    assert_ok(db_query(db, "UPDATE agents SET min_generation = 1", NULL, NULL, &st));
    assert_int_equal(leased(AGENT_A), 0);
    assert_ok(db_query(db, "UPDATE agents SET min_generation = 0", NULL, NULL, &st));
    assert_int_equal(leased(AGENT_A), 1);
    assert_int_equal(leased(NO_TASK), 0);
    fixture_agent_free(&a);
    fixture_agent_free(&b);
}

static void safe_mode_lets_only_reading_through(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    (void)fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    (void)fixture_task(AGENT_A, CLM__TASK__KIND__DEPLOY);
    struct task validate = fixture_task(AGENT_A, CLM__TASK__KIND__VALIDATE);
    struct lease_request request = fixture_checkin(AGENT_A, 4);
    request.safe_mode = true; /* the agent says so */
    struct lease_answer answer = lease(&request, 1);
    assert_int_equal(answer.n_deliveries, 1);
    assert_string_equal(answer.deliveries[0].task_id, validate.id);
    struct agent row;
    assert_ok(store_agent_get(db, arena, AGENT_A, &row, &st));
    fixture_agent_state(AGENT_A, 5, true, false, row.scope); /* the platform says so */
    request.safe_mode = false;
    assert_int_equal(lease(&request, 1).n_deliveries, 0);
    fixture_agent_state(AGENT_A, 6, false, false, row.scope);
    assert_int_equal(lease(&request, 1).n_deliveries, 2);
    fixture_agent_free(&a);
}

static const Clm__TaskOrder *order_of(const struct fixture_agent *agent, struct bytes envelope)
{
    AUTO_DER struct der inner = {0}, signer = {0}, plain = {0};
    ProtobufCMessage *msg;
    assert_ok(envelope_verify(envelope, &roots, FIXTURE_NOW, &inner, &signer, &st));
    assert_ok(envelope_open(der_bytes(&inner), agent->key, der_bytes(&agent->certificate), &plain, &st));
    assert_ok(wire_unpack(&clm__task_order__descriptor, plain.data, plain.len, arena, &msg, &st));
    return (const Clm__TaskOrder *)msg;
}

/* Each cell of the matrix that a lease meets: four kinds and a released change wait, the column decides. */
static void every_column_leases_the_kinds_of_its_cells(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    for (int kind = KIND_DEPLOY; kind <= KIND_DISCOVER; kind++)
        (void)fixture_task(AGENT_A, (Clm__Task__Kind)kind);
    fixture_agent_column(AGENT_A, SAFE_SAFE_MODE);
    struct new_task released = fixture_request(AGENT_A, CLM__TASK__KIND__RENEW);
    struct task task;
    released.break_glass = true;
    assert_ok(task_create(&app, db, arena, &released, &task, &st));
    for (int column = 0; column < SAFE_COLUMN_COUNT; column++) {
        fixture_agent_column(AGENT_A, (enum safe_column)column);
        struct lease_request request = fixture_checkin(AGENT_A, 8);
        struct lease_answer answer = lease(&request, 1);
        size_t expected = safe_allows((enum safe_column)column, SAFE_CHANGE, true);
        for (unsigned kind = KIND_DEPLOY; kind <= KIND_DISCOVER; kind++)
            expected += safe_kinds((enum safe_column)column, false) >> kind & 1;
        assert_int_equal(answer.n_deliveries, expected);
        for (size_t i = 0; i < answer.n_deliveries; i++) {
            const Clm__TaskOrder *order = order_of(&a, answer.deliveries[i].envelope);
            assert_int_equal(order->safe_mode, column == SAFE_SAFE_MODE);
            assert_int_equal(order->break_glass, strcmp(order->task_id, task.id) == 0);
        }
        assert_ok(db_query(db, "UPDATE tasks SET state = 2", NULL, NULL, &st));
    }
    fixture_agent_free(&a);
}

static void the_platforms_safe_mode_holds_changes_back_at_once(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    (void)fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    struct lease_request request = fixture_checkin(AGENT_A, 4);
    fixture_platform(true);
    assert_int_equal(lease(&request, 1).n_deliveries, 0);
    fixture_platform(false);
    assert_int_equal(lease(&request, 1).n_deliveries, 1);
    fixture_agent_free(&a);
}

/* A host tells scopes from before a restore from those after it. */
static void order_says_in_which_epoch_its_scope_counts(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    (void)fixture_task(AGENT_A, CLM__TASK__KIND__VALIDATE);
    struct lease_request request = fixture_checkin(AGENT_A, 4);
    assert_ok(store_epoch_put(db, arena, 3, &st));
    assert_ok(store_epoch_put(db, arena, 2, &st)); /* told again by one who was away */
    struct lease_answer answer = lease(&request, 1);
    assert_int_equal(answer.n_deliveries, 1);
    assert_int_equal(order_of(&a, answer.deliveries[0].envelope)->platform_epoch, 3);
    assert_ok(db_query(db, "UPDATE platform SET epoch = 0", NULL, NULL, &st));
    fixture_agent_free(&a);
}

static void task_that_left_the_scope_fails_and_is_not_delivered(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    static const Clm__Task__Kind renew[] = {CLM__TASK__KIND__RENEW};
    fixture_agent_state(AGENT_A, 6, false, false, fixture_scope(renew, 1, NULL, "*.example.org"));
    assert_int_equal(leased(AGENT_A), 0);
    struct task now = fixture_get(task.id);
    assert_int_equal(now.state, STATE_FAILED);
    assert_non_null(strstr(now.message, "www.example.com"));
    fixture_agent_free(&a);
}

static void envelope_is_for_the_confirmed_generation(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    (void)fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    struct fixture_agent old = a;
    a.key = NULL;
    a.certificate = (struct der){0};
    fixture_rotate(&a, false);
    struct delivery delivery = fixture_lease(AGENT_A);
    AUTO_DER struct der inner = {0};
    AUTO_DER struct der signer = {0};
    AUTO_DER struct der plain = {0};
    assert_ok(envelope_verify(delivery.envelope, &roots, FIXTURE_NOW, &inner, &signer, &st));
    assert_int_not_equal(envelope_open(der_bytes(&inner), a.key, der_bytes(&a.certificate), &plain, &st),
                         CODE_OK);
    assert_ok(envelope_open(der_bytes(&inner), old.key, der_bytes(&old.certificate), &plain, &st));

    assert_ok(store_identity_confirm(db, arena, AGENT_A, 1, 1000000, &st));
    struct lease_request request = fixture_checkin(AGENT_A, 4);
    request.generation = 1;
    request.first_of_connection = true;
    struct lease_answer answer = lease(&request, 1);
    AUTO_DER struct der inner2 = {0};
    AUTO_DER struct der signer2 = {0};
    AUTO_DER struct der plain2 = {0};
    assert_ok(envelope_verify(answer.deliveries[0].envelope, &roots, FIXTURE_NOW, &inner2, &signer2, &st));
    assert_ok(envelope_open(der_bytes(&inner2), a.key, der_bytes(&a.certificate), &plain2, &st));
    fixture_agent_free(&a);
    fixture_agent_free(&old);
}

static void without_an_envelope_certificate_nothing_is_leased(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    struct lease_request request = fixture_checkin(AGENT_A, 4);
    struct lease_answer answer;
    struct envelope_signer *ready = app.signer;
    app.signer = envelope_signer_new();
    assert_int_equal(task_lease(&app, db, arena, &request, 1, &answer, &st), CODE_UNAVAILABLE);
    envelope_signer_free(app.signer);
    app.signer = ready;
    assert_int_equal(fixture_get(task.id).state, STATE_READY);
    assert_int_equal(fixture_get(task.id).lease, 0);
    fixture_agent_free(&a);
}

static void one_bad_row_does_not_stop_the_others(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A), b = fixture_agent(AGENT_B);
    struct task good = fixture_task(AGENT_B, CLM__TASK__KIND__RENEW);
    (void)fixture_task(AGENT_A, CLM__TASK__KIND__RENEW);
    struct lease_request requests[5];
    for (size_t i = 0; i < 5; i++)
        requests[i] = fixture_checkin(NO_TASK, 1);
    struct held_task bad = {.agent_id = AGENT_A,
                            .task_id = "no uuid",
                            .attempt = 1,
                            .progress_permille = -1,
                            .started_at_ms = -1};
    requests[1] = fixture_checkin(AGENT_A, 1);
    requests[1].held = &bad;
    requests[1].n_held = 1;
    requests[4] = fixture_checkin(AGENT_B, 1);
    struct lease_answer answer = lease(requests, 5);
    assert_int_equal(answer.n_deliveries, 1);
    assert_string_equal(answer.deliveries[0].task_id, good.id);
    fixture_agent_free(&a);
    fixture_agent_free(&b);
}

static void agent_whose_certificate_cannot_be_sealed_for_holds_nobody_up(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A), b = fixture_agent(AGENT_B);
    struct task stuck = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW),
                good = fixture_task(AGENT_B, CLM__TASK__KIND__RENEW);
    assert_ok(db_query(db,
                       "UPDATE identities SET task_certificate = '\\x3000' WHERE agent_id = '" AGENT_A "'",
                       NULL, NULL, &st));
    struct lease_request requests[] = {fixture_checkin(AGENT_A, 1), fixture_checkin(AGENT_B, 1)};
    struct lease_answer answer = lease(requests, 2);
    assert_int_equal(answer.n_deliveries, 1);
    assert_string_equal(answer.deliveries[0].task_id, good.id);
    assert_int_equal(fixture_get(stuck.id).state, STATE_READY);
    fixture_agent_free(&a);
    fixture_agent_free(&b);
}

static void cancel_reaches_the_agent_that_holds_the_task(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    struct task task = fixture_task(AGENT_A, CLM__TASK__KIND__RENEW), cancelled;
    struct delivery delivery = fixture_lease(AGENT_A);
    assert_ok(task_cancel(&app, db, arena, task.id, "api-key:1", &cancelled, &st));
    assert_true(cancelled.cancel_requested && cancelled.state == STATE_LEASED);
    struct held_task held = hold(&delivery);
    struct lease_request request = fixture_checkin(AGENT_A, 4);
    request.held = &held;
    request.n_held = 1;
    struct lease_answer answer = lease(&request, 1);
    assert_int_equal(answer.n_cancels, 1);
    assert_string_equal(answer.cancels[0].task_id, task.id);
    /* not delivered again either */
    request.n_held = 0;
    request.first_of_connection = true;
    assert_int_equal(lease(&request, 1).n_deliveries, 0);
    fixture_agent_free(&a);
}

static void answer_that_is_full_wakes_for_the_rest(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    Clm__TaskSpec spec = CLM__TASK_SPEC__INIT;
    Clm__DeploySpec deploy = CLM__DEPLOY_SPEC__INIT;
    char *chain = arena_alloc(arena, 60001);
    memset(chain, 'x', 60000);
    spec.has_kind = 1;
    spec.kind = CLM__TASK__KIND__DEPLOY;
    spec.deploy = &deploy;
    deploy.target = arena_strdup(arena, "nginx");
    deploy.chain_pem = chain;
    struct new_task request = fixture_request(AGENT_A, CLM__TASK__KIND__DEPLOY);
    wire_pack(&spec.base, arena, &request.spec.data, &request.spec.len);
    for (int i = 0; i < 8; i++) {
        struct task task;
        assert_ok(task_create(&app, db, arena, &request, &task, &st));
    }
    n_woken = 0;
    struct lease_request checkin = fixture_checkin(AGENT_A, 16);
    struct lease_answer answer = lease(&checkin, 1);
    size_t bytes = 0;
    for (size_t i = 0; i < answer.n_deliveries; i++)
        bytes += answer.deliveries[i].envelope.len;
    assert_in_range(answer.n_deliveries, 4, 7);
    assert_true(bytes <= 400 * 1024);
    assert_int_equal(n_woken, 1);
    assert_int_equal(answer.n_deliveries + lease(&checkin, 1).n_deliveries, 8);
    fixture_agent_free(&a);
}

#define SESSIONS 4
#define TASKS    120

struct taker {
    pthread_t thread;
    struct db *db;
    size_t n;
    bool ok;
};

static void *take_until_empty(void *arg)
{
    struct taker *taker = arg;
    taker->ok = true;
    for (int idle = 0; idle < 3;) {
        struct arena *mine = arena_new();
        struct status why;
        struct lease_request request = fixture_checkin(AGENT_A, 3);
        struct lease_answer answer;
        if (task_lease(&app, taker->db, mine, &request, 1, &answer, &why) != CODE_OK) {
            taker->ok = false;
            arena_free(mine);
            return NULL;
        }
        taker->n += answer.n_deliveries;
        idle = answer.n_deliveries == 0 ? idle + 1 : 0;
        arena_free(mine);
    }
    return NULL;
}

static void sessions_at_once_never_get_the_same_task(void **state)
{
    (void)state;
    struct fixture_agent a = fixture_agent(AGENT_A);
    for (int i = 0; i < TASKS; i++)
        (void)fixture_task(AGENT_A, CLM__TASK__KIND__VALIDATE);
    struct taker takers[SESSIONS] = {0};
    for (int i = 0; i < SESSIONS; i++)
        takers[i].db = fixture_db();
    for (int i = 0; i < SESSIONS; i++)
        assert_int_equal(pthread_create(&takers[i].thread, NULL, take_until_empty, &takers[i]), 0);
    size_t total = 0;
    for (int i = 0; i < SESSIONS; i++) {
        assert_int_equal(pthread_join(takers[i].thread, NULL), 0);
        assert_true(takers[i].ok);
        total += takers[i].n;
        db_close(takers[i].db);
    }
    assert_int_equal(total, TASKS);
    assert_int_equal(fixture_count("SELECT count(*) FROM tasks WHERE state = 3 AND lease = 1"), TASKS);
    fixture_agent_free(&a);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(ready_task_is_leased_once_and_opens_for_its_agent_only),
        T(free_slots_and_priority_decide_what_goes_first),
        T(agent_that_is_listed_twice_gets_a_task_once),
        T(held_task_is_running_with_its_progress),
        T(another_agents_task_cannot_be_held),
        T(lost_lease_is_delivered_again_with_the_same_attempt),
        T(disabled_unknown_or_unconfirmed_agent_gets_nothing),
        T(safe_mode_lets_only_reading_through),
        T(every_column_leases_the_kinds_of_its_cells),
        T(the_platforms_safe_mode_holds_changes_back_at_once),
        T(order_says_in_which_epoch_its_scope_counts),
        T(task_that_left_the_scope_fails_and_is_not_delivered),
        T(envelope_is_for_the_confirmed_generation),
        T(without_an_envelope_certificate_nothing_is_leased),
        T(one_bad_row_does_not_stop_the_others),
        T(agent_whose_certificate_cannot_be_sealed_for_holds_nobody_up),
        T(cancel_reaches_the_agent_that_holds_the_task),
        T(answer_that_is_full_wakes_for_the_rest),
        T(sessions_at_once_never_get_the_same_task),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
