/* Every way in which an order may be wrong, with certificates made at run time and the real confined parser.
 */
#include "agent/exec/order.h"

#include "cmocka_all.h"
#include "pki/cms.h"
#include "pki_fixture.h"

struct fixture {
    struct test_ca ca, other_ca;
    struct test_signer tasks;
    struct agent_state *state;
    struct policy policy;
    struct safe_mode safe_mode;
    struct scope_mark scope_mark;
    struct arena *arena;
    /* what the platform sends; tests change it */
    Clm__TaskOrder order;
    Clm__Scope scope;
    Clm__TaskSpec spec;
    Clm__ValidateSpec validate;
    uint8_t spec_bytes[512];
    Clm__Delivery delivery;
    struct der envelope;
    struct status why;
    struct order got;
};

static char *all_operations[] = {(char *)(uintptr_t) "validate", (char *)(uintptr_t) "discover",
                                 (char *)(uintptr_t) "renew", NULL};
static char *only_validate[] = {(char *)(uintptr_t) "validate", NULL};

static const struct test_leaf tasks_leaf = {
    .purpose = PURPOSE_ENVELOPE, .spiffe_kind = "service", .spiffe_name = "tasks"};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    test_ca_init(&f->ca, "Platform Root");
    test_ca_init(&f->other_ca, "Other Root");
    test_signer_init(&f->tasks, &f->ca, &tasks_leaf);
    f->state = test_state(&f->ca);
    f->policy.operations = all_operations;
    f->policy.path = (char *)(uintptr_t) "agent.conf";
    f->arena = arena_new();
    clm__task_spec__init(&f->spec);
    clm__validate_spec__init(&f->validate);
    f->validate.target = (char *)(uintptr_t) "nginx";
    f->spec.has_kind = 1;
    f->spec.kind = CLM__TASK__KIND__VALIDATE;
    f->spec.validate = &f->validate;
    test_order(&f->order, &f->scope, &f->spec, f->spec_bytes);
    clm__delivery__init(&f->delivery);
    f->delivery.task_id = (char *)(uintptr_t)TEST_TASK_ID;
    f->delivery.has_attempt = f->delivery.has_lease = f->delivery.has_envelope = 1;
    f->delivery.attempt = 1;
    f->delivery.lease = 1;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    test_signer_done(&f->tasks);
    test_ca_done(&f->ca);
    test_ca_done(&f->other_ca);
    test_state_free(f->state);
    der_done(&f->envelope);
    arena_free(f->arena);
    free(f);
    return 0;
}

static void seal_with(struct fixture *f, const struct test_signer *signer, struct bytes recipient)
{
    struct status st;
    AUTO_DER struct der plain = test_pack(&f->order.base);
    AUTO_CMS_SIGNER struct cms_signer *by = NULL;
    der_done(&f->envelope);
    if (cms_signer_new(signer->key, der_bytes(&signer->cert), NULL, &by, &st) != CODE_OK ||
        envelope_seal(der_bytes(&plain), recipient, by, &f->envelope, &st) != CODE_OK)
        fail_msg("%s", st.msg);
}

static void seal(struct fixture *f)
{
    seal_with(f, &f->tasks, der_bytes(&f->state->task_chain.item[0]));
}

static enum order_verdict verdict_at(struct fixture *f, int64_t now_ms)
{
    struct order_context context = {.state = f->state,
                                    .policy = &f->policy,
                                    .safe_mode = &f->safe_mode,
                                    .scope_mark = &f->scope_mark,
                                    .now_ms = now_ms,
                                    .parser_uid = (uid_t)-1};
    f->delivery.envelope = (ProtobufCBinaryData){f->envelope.len, f->envelope.data};
    f->why.msg[0] = '\0';
    return order_open(&context, &f->delivery, f->arena, &f->got, &f->why);
}

static enum order_verdict verdict(struct fixture *f)
{
    return verdict_at(f, TEST_NOW_MS);
}

static void assert_why(const struct fixture *f, const char *part)
{
    if (!strstr(f->why.msg, part))
        fail_msg("\"%s\" does not say \"%s\"", f->why.msg, part);
}

static void a_genuine_order_runs(void **state)
{
    struct fixture *f = *state;
    seal(f);
    if (verdict(f) != ORDER_RUN)
        fail_msg("%s", f->why.msg);
    assert_string_equal(f->got.order->task_id, TEST_TASK_ID);
    assert_string_equal(f->got.spec->validate->target, "nginx");
    assert_string_equal(f->got.kind->name, "validate");
    struct order again;
    struct status st;
    assert_int_equal(order_decode(f->got.plain, f->arena, &again, &st), CODE_OK);
    assert_string_equal(again.spec->validate->target, "nginx");
}

static void an_altered_order_is_not_genuine(void **state)
{
    struct fixture *f = *state;
    seal(f);
    /* A byte in each eighth: headers, key agreement, ciphertext, certificate, signature. */
    for (size_t i = 1; i < 8; i++) {
        size_t at = f->envelope.len * i / 8;
        f->envelope.data[at] ^= 1;
        assert_int_not_equal(verdict(f), ORDER_RUN);
        f->envelope.data[at] ^= 1;
    }
    assert_int_equal(verdict(f), ORDER_RUN);
}

static void a_truncated_order_is_not_genuine(void **state)
{
    struct fixture *f = *state;
    seal(f);
    size_t whole = f->envelope.len;
    for (size_t len = 1; len < whole; len += whole / 7) {
        f->envelope.len = len;
        assert_int_equal(verdict(f), ORDER_NOT_GENUINE);
    }
}

static void an_order_signed_under_another_root_is_not_genuine(void **state)
{
    struct fixture *f = *state;
    struct test_signer forger;
    test_signer_init(&forger, &f->other_ca, &tasks_leaf);
    seal_with(f, &forger, der_bytes(&f->state->task_chain.item[0]));
    assert_int_equal(verdict(f), ORDER_NOT_GENUINE);
    test_signer_done(&forger);
}

static void an_order_signed_by_another_service_is_not_genuine(void **state)
{
    struct fixture *f = *state;
    struct test_signer gateway;
    struct test_leaf leaf = {.purpose = PURPOSE_ENVELOPE, .spiffe_kind = "service", .spiffe_name = "gateway"};
    test_signer_init(&gateway, &f->ca, &leaf);
    seal_with(f, &gateway, der_bytes(&f->state->task_chain.item[0]));
    assert_int_equal(verdict(f), ORDER_NOT_GENUINE);
    assert_why(f, "tasks service");
    test_signer_done(&gateway);
}

static void an_order_signed_with_another_purpose_is_not_genuine(void **state)
{
    struct fixture *f = *state;
    struct test_signer agent;
    struct test_leaf leaf = {
        .purpose = PURPOSE_AGENT_TASK, .spiffe_kind = "agent", .spiffe_name = TEST_OTHER_AGENT};
    test_signer_init(&agent, &f->ca, &leaf);
    seal_with(f, &agent, der_bytes(&f->state->task_chain.item[0]));
    assert_int_equal(verdict(f), ORDER_NOT_GENUINE);
    test_signer_done(&agent);
}

static void an_order_by_an_expired_signer_is_not_genuine(void **state)
{
    struct fixture *f = *state;
    f->order.not_after_at_ms = TEST_NOW_MS + INT64_C(1000) * 3600 * 1000;
    seal(f);
    assert_int_equal(verdict_at(f, TEST_NOW_MS + INT64_C(100) * 3600 * 1000), ORDER_NOT_GENUINE);
}

static void an_order_for_another_key_cannot_be_opened(void **state)
{
    struct fixture *f = *state;
    struct agent_state *other = test_state(&f->ca);
    seal_with(f, &f->tasks, der_bytes(&other->task_chain.item[0]));
    assert_int_equal(verdict(f), ORDER_CANNOT_OPEN);
    test_state_free(other);
}

static void an_order_for_another_agent_is_not_genuine(void **state)
{
    struct fixture *f = *state;
    f->order.agent_id = (char *)(uintptr_t)TEST_OTHER_AGENT;
    seal(f);
    assert_int_equal(verdict(f), ORDER_NOT_GENUINE);
    assert_why(f, "another agent");
}

static void an_order_for_another_generation_is_not_genuine(void **state)
{
    struct fixture *f = *state;
    f->order.generation = 2;
    seal(f);
    assert_int_equal(verdict(f), ORDER_NOT_GENUINE);
    assert_why(f, "generation 2");
}

static void an_order_outside_its_time_is_not_genuine(void **state)
{
    struct fixture *f = *state;
    seal(f);
    assert_int_equal(verdict_at(f, f->order.not_after_at_ms), ORDER_RUN);
    assert_int_equal(verdict_at(f, f->order.not_after_at_ms + 1), ORDER_NOT_GENUINE);
    assert_why(f, "no longer valid");
    assert_int_equal(verdict_at(f, f->order.not_before_at_ms), ORDER_RUN);
    assert_int_equal(verdict_at(f, f->order.not_before_at_ms - 1), ORDER_NOT_GENUINE);
    assert_why(f, "not valid yet");
}

/* A genuine envelope of one task, replayed under the name of another task or attempt. */
static void a_replayed_order_is_not_genuine(void **state)
{
    struct fixture *f = *state;
    seal(f);
    f->delivery.task_id = (char *)(uintptr_t)TEST_OTHER_TASK;
    assert_int_equal(verdict(f), ORDER_NOT_GENUINE);
    assert_why(f, "another task");
    f->delivery.task_id = (char *)(uintptr_t)TEST_TASK_ID;
    f->delivery.attempt = 2;
    assert_int_equal(verdict(f), ORDER_NOT_GENUINE);
    assert_why(f, "attempt 1");
}

static void an_oversized_envelope_is_not_looked_at(void **state)
{
    struct fixture *f = *state;
    der_done(&f->envelope);
    f->envelope.len = CMS_ENVELOPE_MAX + 1;
    f->envelope.data = calloc(1, f->envelope.len);
    assert_int_equal(verdict(f), ORDER_NOT_GENUINE);
    assert_why(f, "too large");
}

static void an_operation_outside_the_scope_is_refused(void **state)
{
    struct fixture *f = *state;
    static Clm__Task__Kind only[] = {CLM__TASK__KIND__DISCOVER};
    f->scope.operations = only;
    f->scope.n_operations = 1;
    seal(f);
    assert_int_equal(verdict(f), ORDER_REFUSED);
    assert_why(f, "scope");
}

/* Signed by the platform, and from before it narrowed or its database went back. */
static void an_older_scope_than_was_seen_is_refused(void **state)
{
    struct fixture *f = *state;
    f->scope.has_version = 1;
    f->scope.version = 4;
    f->order.has_platform_epoch = 1;
    seal(f);
    f->scope_mark = (struct scope_mark){.epoch = 0, .version = 4};
    assert_int_equal(verdict(f), ORDER_RUN);
    f->scope_mark.version = 5;
    assert_int_equal(verdict(f), ORDER_REFUSED);
    assert_why(f, "an older scope is refused");
    assert_why(f, "version 4 (epoch 0)");
    assert_int_equal(order_scope(&f->got).version, 4);
    /* After a restore that was declared versions count anew. */
    f->order.platform_epoch = 1;
    seal(f);
    assert_int_equal(verdict(f), ORDER_RUN);
    f->scope_mark = (struct scope_mark){.epoch = 2, .version = 1};
    assert_int_equal(verdict(f), ORDER_REFUSED);
}

static void an_operation_outside_the_local_policy_is_refused(void **state)
{
    struct fixture *f = *state;
    Clm__RenewSpec renew = CLM__RENEW_SPEC__INIT;
    renew.target = (char *)(uintptr_t) "nginx";
    f->spec.kind = CLM__TASK__KIND__RENEW;
    f->spec.validate = NULL;
    f->spec.renew = &renew;
    test_order(&f->order, &f->scope, &f->spec, f->spec_bytes);
    seal(f);
    assert_int_equal(verdict(f), ORDER_RUN);
    f->policy.operations = only_validate;
    assert_int_equal(verdict(f), ORDER_REFUSED);
    assert_why(f, "renew");
}

static void seal_renewal(struct fixture *f, bool safe_mode, bool break_glass)
{
    Clm__RenewSpec renew = CLM__RENEW_SPEC__INIT;
    renew.target = (char *)(uintptr_t) "nginx";
    f->spec.kind = CLM__TASK__KIND__RENEW;
    f->spec.validate = NULL;
    f->spec.renew = &renew;
    test_order(&f->order, &f->scope, &f->spec, f->spec_bytes);
    f->order.has_safe_mode = f->order.has_break_glass = 1;
    f->order.safe_mode = safe_mode;
    f->order.break_glass = break_glass;
    seal(f);
}

static void a_change_is_refused_in_safe_mode_and_looking_is_not(void **state)
{
    struct fixture *f = *state;
    (void)safe_mode_report(&f->safe_mode, SAFE_CLOCK, true, 1);
    seal(f);
    assert_int_equal(verdict(f), ORDER_RUN);
    seal_renewal(f, false, false);
    assert_int_equal(verdict(f), ORDER_REFUSED);
    assert_why(f, "CLOCK");
}

/* What the platform signed into the order counts, also where the host knows nothing against itself. */
static void the_platforms_safe_mode_is_obeyed_on_the_host(void **state)
{
    struct fixture *f = *state;
    f->order.has_safe_mode = f->order.safe_mode = 1;
    seal(f);
    assert_int_equal(verdict(f), ORDER_RUN);
    seal_renewal(f, true, false);
    assert_int_equal(verdict(f), ORDER_REFUSED);
    assert_why(f, "platform");
    seal_renewal(f, false, false);
    assert_int_equal(verdict(f), ORDER_RUN);
}

static void a_released_change_needs_the_local_policy_too(void **state)
{
    struct fixture *f = *state;
    (void)safe_mode_report(&f->safe_mode, SAFE_ROLLBACK_FAILED, true, 1);
    seal_renewal(f, true, true);
    assert_int_equal(verdict(f), ORDER_REFUSED);
    assert_why(f, "break_glass = yes");
    f->policy.break_glass = true;
    assert_int_equal(verdict(f), ORDER_RUN);
    seal_renewal(f, true, false); /* the policy alone releases nothing */
    assert_int_equal(verdict(f), ORDER_REFUSED);
    f->policy.operations = only_validate; /* nor does a release allow what the policy forbids */
    seal_renewal(f, true, true);
    assert_int_equal(verdict(f), ORDER_REFUSED);
}

static void a_spec_that_is_no_spec_is_refused(void **state)
{
    struct fixture *f = *state;
    f->order.spec = (ProtobufCBinaryData){3, (uint8_t *)(uintptr_t) "\xff\xff\xff"};
    seal(f);
    assert_int_equal(verdict(f), ORDER_REFUSED);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_genuine_order_runs),
        T(an_altered_order_is_not_genuine),
        T(a_truncated_order_is_not_genuine),
        T(an_order_signed_under_another_root_is_not_genuine),
        T(an_order_signed_by_another_service_is_not_genuine),
        T(an_order_signed_with_another_purpose_is_not_genuine),
        T(an_order_by_an_expired_signer_is_not_genuine),
        T(an_order_for_another_key_cannot_be_opened),
        T(an_order_for_another_agent_is_not_genuine),
        T(an_order_for_another_generation_is_not_genuine),
        T(an_order_outside_its_time_is_not_genuine),
        T(a_replayed_order_is_not_genuine),
        T(an_oversized_envelope_is_not_looked_at),
        T(an_operation_outside_the_scope_is_refused),
        T(an_older_scope_than_was_seen_is_refused),
        T(an_operation_outside_the_local_policy_is_refused),
        T(a_change_is_refused_in_safe_mode_and_looking_is_not),
        T(the_platforms_safe_mode_is_obeyed_on_the_host),
        T(a_released_change_needs_the_local_policy_too),
        T(a_spec_that_is_no_spec_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
