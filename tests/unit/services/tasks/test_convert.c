#include "cmocka_all.h"

#include "convert.h"
#include "proto/envelope.pb-c.h"
#include "proto/event.pb-c.h"
#include "proto/tasks.pb-c.h"
#include "wire/wire.h"

#define AGENT "01890000-0000-7000-8000-00000000000a"
#define TASK  "01890000-0000-7000-8000-0000000000ff"

static struct arena *arena;
static struct status st;

static int setup(void **state)
{
    (void)state;
    arena = arena_new();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_free(arena);
    return 0;
}

static struct bytes pack(const ProtobufCMessage *msg)
{
    struct bytes bytes;
    wire_pack(msg, arena, &bytes.data, &bytes.len);
    return bytes;
}

static void specification_says_what_a_scope_speaks_about(void **state)
{
    (void)state;
    struct spec_facts facts;
    Clm__TaskSpec spec = CLM__TASK_SPEC__INIT;
    Clm__DeploySpec deploy = CLM__DEPLOY_SPEC__INIT;
    Clm__DiscoverSpec discover = CLM__DISCOVER_SPEC__INIT;
    char *roots[] = {arena_strdup(arena, "/etc/ssl"), arena_strdup(arena, "/opt")};
    spec.has_kind = 1;
    spec.kind = CLM__TASK__KIND__DEPLOY;
    spec.deploy = &deploy;
    deploy.target = arena_strdup(arena, "nginx");
    deploy.chain_pem = arena_strdup(arena, "x");
    assert_int_equal(spec_read(pack(&spec.base), arena, &facts, &st), CODE_OK);
    assert_int_equal(facts.n_paths, 0);
    deploy.key_path = arena_strdup(arena, "/etc/ssl/key.pem");
    assert_int_equal(spec_read(pack(&spec.base), arena, &facts, &st), CODE_OK);
    assert_int_equal(facts.n_paths, 1);
    assert_string_equal(facts.paths[0], "/etc/ssl/key.pem");
    spec.deploy = NULL;
    spec.kind = CLM__TASK__KIND__DISCOVER;
    spec.discover = &discover;
    discover.roots = roots;
    discover.n_roots = 2;
    assert_int_equal(spec_read(pack(&spec.base), arena, &facts, &st), CODE_OK);
    assert_int_equal(facts.kind, KIND_DISCOVER);
    assert_int_equal(facts.n_roots, 2);
    assert_string_equal(facts.roots[1], "/opt");
}

static void bytes_that_are_no_specification_or_scope_are_refused(void **state)
{
    (void)state;
    struct spec_facts facts;
    struct scope scope;
    struct bytes junk = {(const uint8_t *)"\xff\x01", 2}, nothing = {0};
    assert_int_equal(spec_read(junk, arena, &facts, &st), CODE_INVALID_ARGUMENT);
    assert_int_equal(spec_read(nothing, arena, &facts, &st), CODE_INVALID_ARGUMENT);
    assert_int_equal(scope_read(junk, arena, &scope, &st), CODE_INVALID_ARGUMENT);
    assert_int_equal(scope_read(nothing, arena, &scope, &st), CODE_OK); /* no scope: nothing is allowed */
    assert_int_equal(scope.operations, 0);
    assert_int_equal(scope.n_paths + scope.n_dns_names, 0);
}

static void receipt_without_times_has_none(void **state)
{
    (void)state;
    struct receipt got;
    Clm__Receipt receipt = CLM__RECEIPT__INIT;
    receipt.agent_id = arena_strdup(arena, AGENT);
    receipt.task_id = arena_strdup(arena, TASK);
    receipt.has_attempt = receipt.has_outcome = 1;
    receipt.attempt = 2;
    receipt.outcome = CLM__RECEIPT__OUTCOME__FAILED;
    assert_int_equal(receipt_read(pack(&receipt.base), arena, &got, &st), CODE_OK);
    assert_int_equal(got.attempt, 2);
    assert_int_equal(got.outcome, OUTCOME_FAILED);
    assert_false(got.retryable);
    assert_true(got.started_at_ms == -1);
    assert_null(got.message);
    receipt.has_started_at_ms = receipt.has_retryable = 1;
    receipt.started_at_ms = 5;
    receipt.retryable = 1;
    assert_int_equal(receipt_read(pack(&receipt.base), arena, &got, &st), CODE_OK);
    assert_true(got.started_at_ms == 5 && got.retryable);
    receipt.outcome = (Clm__Receipt__Outcome)77;
    assert_int_equal(receipt_read(pack(&receipt.base), arena, &got, &st), CODE_INVALID_ARGUMENT);
}

static void event_carries_the_transition_under_its_subject(void **state)
{
    (void)state;
    static const uint8_t digest[32] = {7};
    struct change change = {.subject = "finished",
                            .task_id = TASK,
                            .agent_id = AGENT,
                            .message = "done",
                            .actor = "agent:" AGENT,
                            .kind = KIND_RENEW,
                            .state = STATE_SUCCEEDED,
                            .attempt = 2,
                            .version = 9,
                            .receipt_sha256 = {digest, sizeof(digest)}};
    struct packed_event packed = event_write(&change, 1234, arena);
    assert_string_equal(packed.subject, "clm.event.tasks.task.finished");
    ProtobufCMessage *msg;
    assert_int_equal(
        wire_unpack(&clm__event__descriptor, packed.body.data, packed.body.len, arena, &msg, &st), CODE_OK);
    const Clm__Event *event = (const Clm__Event *)msg;
    assert_string_equal(event->id, packed.id);
    assert_true(uuid_v7_ms(event->id) >= 0);
    assert_string_equal(event->subject, packed.subject);
    assert_string_equal(event->entity_id, TASK);
    assert_int_equal(event->entity_version, 9);
    assert_int_equal(event->occurred_at_ms, 1234);
    assert_int_equal(event->task->state, CLM__TASK__STATE__SUCCEEDED);
    assert_int_equal(event->task->receipt_sha256.len, 32);
    change.receipt_sha256 = (struct bytes){0};
    packed = event_write(&change, 1234, arena);
    assert_int_equal(
        wire_unpack(&clm__event__descriptor, packed.body.data, packed.body.len, arena, &msg, &st), CODE_OK);
    assert_false(((const Clm__Event *)msg)->task->has_receipt_sha256);
}

static void order_begins_with_the_fields_that_are_checked_first(void **state)
{
    (void)state;
    struct task task = {.id = TASK, .agent_id = AGENT, .attempt = 1, .spec = {(const uint8_t *)"spec", 4}};
    struct order order = {
        .task = &task, .generation = 3, .lease = 2, .not_before_ms = 10, .not_after_ms = 20};
    struct bytes plain;
    assert_int_equal(order_write(&order, arena, &plain, &st), CODE_OK);
    assert_int_equal(plain.data[0], 1 << 3 | 2); /* task_id */
    assert_memory_equal(plain.data + 2, TASK, 36);
    ProtobufCMessage *msg;
    assert_int_equal(wire_unpack(&clm__task_order__descriptor, plain.data, plain.len, arena, &msg, &st),
                     CODE_OK);
    const Clm__TaskOrder *got = (const Clm__TaskOrder *)msg;
    assert_int_equal(got->generation, 3);
    assert_int_equal(got->lease, 2);
    assert_int_equal(got->spec.len, 4);
    assert_memory_equal(got->spec.data, "spec", 4);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(specification_says_what_a_scope_speaks_about),
        T(bytes_that_are_no_specification_or_scope_are_refused),
        T(receipt_without_times_has_none),
        T(event_carries_the_transition_under_its_subject),
        T(order_begins_with_the_fields_that_are_checked_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
