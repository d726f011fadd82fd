#include "cmocka_all.h"

#include "proto/agent.pb-c.h"
#include "proto/registry.pb-c.h"
#include "proto/tasks.pb-c.h"
#include "wire/wire.h"

#define AGENT "01890000-0000-7000-8000-000000000001"

static struct arena *arena;
static struct status st;

static int setup(void **state)
{
    (void)state;
    arena = arena_new();
    st = (struct status){0};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_free(arena);
    return 0;
}

static enum code unpack(const ProtobufCMessageDescriptor *desc, const void *data, size_t len)
{
    ProtobufCMessage *msg;
    return wire_unpack(desc, data, len, arena, &msg, &st);
}

static void message_survives_pack_and_unpack(void **state)
{
    (void)state;
    Clm__HeldTask held = CLM__HELD_TASK__INIT;
    held.task_id = (char *)AGENT;
    held.has_attempt = 1;
    held.attempt = 3;
    held.phase = (char *)"überprüfen";
    Clm__HeldTask *list[] = {&held};
    Clm__CheckinRequest request = CLM__CHECKIN_REQUEST__INIT;
    request.n_held = 1;
    request.held = list;
    request.has_safe_mode = 1;
    const uint8_t *data;
    size_t len;
    wire_pack(&request.base, arena, &data, &len);
    ProtobufCMessage *msg;
    assert_int_equal(wire_unpack(&clm__checkin_request__descriptor, data, len, arena, &msg, &st), CODE_OK);
    const Clm__CheckinRequest *got = (const Clm__CheckinRequest *)msg;
    assert_int_equal(got->n_held, 1);
    assert_string_equal(got->held[0]->phase, "überprüfen");
    assert_int_equal(got->held[0]->attempt, 3);
    assert_true(got->has_safe_mode && !got->safe_mode && !got->has_generation);
}

static void empty_body_is_a_message_without_fields(void **state)
{
    (void)state;
    assert_int_equal(unpack(&clm__checkin_request__descriptor, NULL, 0), CODE_OK);
    assert_int_equal(unpack(&clm__get_agent_request__descriptor, NULL, 0), CODE_INVALID_ARGUMENT);
    assert_string_equal(st.msg, "GetAgentRequest.agent_id: is missing");
}

static void every_truncation_and_every_flipped_byte_is_survived(void **state)
{
    (void)state;
    Clm__HostFacts facts = CLM__HOST_FACTS__INIT;
    facts.hostname = (char *)"web1.example.com";
    Clm__HeldTask held = CLM__HELD_TASK__INIT;
    held.task_id = (char *)AGENT;
    held.has_attempt = 1;
    Clm__HeldTask *list[] = {&held, &held};
    Clm__CheckinRequest request = CLM__CHECKIN_REQUEST__INIT;
    request.facts = &facts;
    request.n_held = 2;
    request.held = list;
    const uint8_t *data;
    size_t len, refused = 0;
    wire_pack(&request.base, arena, &data, &len);
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *copy = test_malloc(cut + 1); /* exact size: the sanitizer sees an over-read */
        memcpy(copy, data, cut);
        refused += unpack(&clm__checkin_request__descriptor, copy, cut) != CODE_OK;
        test_free(copy);
    }
    assert_true(refused > len / 2);
    for (size_t i = 0; i < len; i++) {
        for (int bit = 0; bit < 8; bit++) {
            uint8_t *copy = arena_dup(arena, data, len);
            copy[i] = (uint8_t)(copy[i] ^ (1u << bit));
            (void)!unpack(&clm__checkin_request__descriptor, copy, len);
        }
    }
}

static void nul_inside_a_string_is_refused(void **state)
{
    (void)state;
    assert_int_equal(unpack(&clm__host_facts__descriptor,
                            "\x0a\x03"
                            "a\0b",
                            5),
                     CODE_INVALID_ARGUMENT);
    assert_string_equal(st.msg, "HostFacts.hostname: holds a NUL byte");
    /* nested: CheckinRequest.facts */
    assert_int_equal(unpack(&clm__checkin_request__descriptor,
                            "\x2a\x05\x0a\x03"
                            "a\0b",
                            7),
                     CODE_INVALID_ARGUMENT);
    assert_string_equal(st.msg, "HostFacts.hostname: holds a NUL byte");
}

static void text_that_is_not_utf8_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"\xff",     "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                      "\xe2\x82", "a\x80"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        Clm__HostFacts facts = CLM__HOST_FACTS__INIT;
        facts.os = (char *)(uintptr_t)bad[i];
        assert_int_equal(wire_check(&facts.base, &st), CODE_INVALID_ARGUMENT);
        assert_string_equal(st.msg, "HostFacts.os: not UTF-8 text");
    }
    Clm__HostFacts facts = CLM__HOST_FACTS__INIT;
    facts.os = (char *)"\xc3\xa9\xe2\x82\xac\xf0\x9f\x94\x91";
    assert_int_equal(wire_check(&facts.base, &st), CODE_OK);
}

static void lengths_and_counts_are_limited_and_the_path_is_named(void **state)
{
    (void)state;
    char longer[300];
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    Clm__HeldTask good = CLM__HELD_TASK__INIT, bad = CLM__HELD_TASK__INIT;
    good.task_id = bad.task_id = (char *)AGENT;
    good.has_attempt = bad.has_attempt = 1;
    bad.phase = longer;
    Clm__HeldTask *held[65] = {&good, &bad};
    Clm__CheckinRequest request = CLM__CHECKIN_REQUEST__INIT;
    request.held = held;
    request.n_held = 2;
    assert_int_equal(wire_check(&request.base, &st), CODE_INVALID_ARGUMENT);
    assert_string_equal(st.msg, "CheckinRequest.held[1].phase: longer than 64 bytes");
    for (size_t i = 0; i < 65; i++)
        held[i] = &good;
    request.n_held = 64;
    assert_int_equal(wire_check(&request.base, &st), CODE_OK);
    request.n_held = 65;
    assert_int_equal(wire_check(&request.base, &st), CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(st.msg, "held has more than 64 elements"));
}

static void unknown_enum_value_and_impossible_time_are_refused(void **state)
{
    (void)state;
    Clm__TaskSpec spec = CLM__TASK_SPEC__INIT;
    spec.has_kind = 1;
    spec.kind = (Clm__Task__Kind)99;
    assert_int_equal(wire_check(&spec.base, &st), CODE_INVALID_ARGUMENT);
    assert_string_equal(st.msg, "TaskSpec.kind: unknown value 99");
    Clm__Step step = CLM__STEP__INIT;
    step.has_started_at_ms = 1;
    step.started_at_ms = -1;
    assert_int_equal(wire_check(&step.base, &st), CODE_INVALID_ARGUMENT);
    step.started_at_ms = 0;
    assert_int_equal(wire_check(&step.base, &st), CODE_OK);
}

static void a_body_that_unfolds_into_too_much_memory_is_refused(void **state)
{
    (void)state;
    enum { N = 15000 }; /* as many empty FoundCertificate as the count allows, two bytes each */
    uint8_t *data = arena_alloc(arena, 2 * N);
    for (size_t i = 0; i < N; i++)
        data[2 * i] = 3 << 3 | 2;
    size_t before = arena_used_bytes(arena);
    assert_int_equal(unpack(&clm__task_result__descriptor, data, 2 * N), CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(st.msg, "too much memory"));
    assert_true(arena_used_bytes(arena) - before <= 8 * 2 * N + 64 * 1024 + 64);
}

static void unknown_fields_are_ignored(void **state)
{
    (void)state;
    assert_int_equal(unpack(&clm__host_facts__descriptor, "\xa2\x06\x02hi\x0a\x01h", 8), CODE_OK);
    /* groups and reserved wire types are no unknown fields */
    assert_int_equal(unpack(&clm__host_facts__descriptor, "\xa3\x06", 2), CODE_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(message_survives_pack_and_unpack, setup, teardown),
        cmocka_unit_test_setup_teardown(empty_body_is_a_message_without_fields, setup, teardown),
        cmocka_unit_test_setup_teardown(every_truncation_and_every_flipped_byte_is_survived, setup, teardown),
        cmocka_unit_test_setup_teardown(nul_inside_a_string_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(text_that_is_not_utf8_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(lengths_and_counts_are_limited_and_the_path_is_named, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(unknown_enum_value_and_impossible_time_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_body_that_unfolds_into_too_much_memory_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(unknown_fields_are_ignored, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
