/* What verifies, and everything near it that must not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "bus/bus.h"
#include "support/identity.h"

static const struct actor alice = {
    .id = "api-key:1", .name = "alice", .roles = ROLE_BIT(2), .label_selector = "env=prod"};
static const struct bytes body = {(const uint8_t *)"body", 4};
#define SUBJECT "clm.rpc.tasks.CreateTask"
#define ID      "0198c0de-0000-7000-8000-000000000001"

static struct bytes make_assertion(struct bus_identity *identity, int64_t life_ms, struct arena *arena)
{
    struct bytes out;
    struct status st = {0};
    assert_int_equal(assertion_make(identity, &alice, life_ms, arena, &out, &st), CODE_OK);
    return out;
}

static void assertion_of_the_registry_names_the_operator(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    struct bytes a = make_assertion(identity_of("registry"), 60000, arena);
    struct actor actor = {0};
    struct status st = {0};
    assert_int_equal(assertion_verify(identity_of("tasks"), a, arena, &actor, &st), CODE_OK);
    assert_string_equal(actor.id, alice.id);
    assert_string_equal(actor.name, alice.name);
    assert_string_equal(actor.label_selector, alice.label_selector);
    assert_int_equal(actor.roles, alice.roles);
}

static void assertion_signed_by_another_service_is_refused(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    struct bytes a = make_assertion(identity_of("gateway"), 60000, arena);
    struct actor actor = {0};
    struct status st = {0};
    assert_int_equal(assertion_verify(identity_of("tasks"), a, arena, &actor, &st), CODE_UNAUTHENTICATED);
}

static void assertion_of_a_foreign_ca_is_refused(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    struct bytes a = make_assertion(identity_forged("registry"), 60000, arena);
    struct actor actor = {0};
    struct status st = {0};
    assert_int_equal(assertion_verify(identity_of("tasks"), a, arena, &actor, &st), CODE_UNAUTHENTICATED);
}

static void changed_assertion_is_refused_whatever_byte_was_changed(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    struct bytes a = make_assertion(identity_of("registry"), 60000, arena);
    for (size_t i = 0; i < a.len; i += 7) {
        uint8_t *changed = arena_dup(arena, a.data, a.len);
        changed[i] ^= 1;
        struct actor actor = {0};
        struct status st = {0};
        assert_int_not_equal(
            assertion_verify(identity_of("tasks"), (struct bytes){changed, a.len}, arena, &actor, &st),
            CODE_OK);
    }
}

static void assertion_ends_and_never_lives_longer_than_five_minutes(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    clock_fake(clock_wall_ms());
    struct bytes a = make_assertion(identity_of("registry"), 3600000, arena);
    struct actor actor = {0};
    struct status st = {0};
    clock_advance(5 * 60 * 1000 - 1);
    for (int i = 0; i < 2; i++) /* the second time out of memory, which does not prolong it */
        assert_int_equal(assertion_verify(identity_of("tasks"), a, arena, &actor, &st), CODE_OK);
    clock_advance(1);
    assert_int_equal(assertion_verify(identity_of("tasks"), a, arena, &actor, &st), CODE_UNAUTHENTICATED);
    clock_real();
}

static struct bytes make_authority(struct arena *arena, int64_t deadline_at_ms)
{
    struct bytes out;
    struct status st = {0};
    assert_int_equal(
        authority_make(identity_of("gateway"), SUBJECT, ID, deadline_at_ms, body, arena, &out, &st), CODE_OK);
    return out;
}

static void authority_names_the_service_that_made_it(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    char service[64];
    struct status st = {0};
    assert_int_equal(authority_verify(identity_of("tasks"), make_authority(arena, clock_wall_ms() + 1000),
                                      SUBJECT, ID, body, arena, service, &st),
                     CODE_OK);
    assert_string_equal(service, "gateway");
}

static void authority_holds_for_one_subject_one_id_and_one_body(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    struct bytes a = make_authority(arena, clock_wall_ms() + 1000);
    struct bus_identity *tasks = identity_of("tasks");
    char service[64];
    const struct bytes other = {(const uint8_t *)"b0dy", 4};
    assert_int_equal(authority_verify(tasks, a, "clm.rpc.tasks.CancelTask", ID, body, arena, service, NULL),
                     CODE_UNAUTHENTICATED);
    assert_int_equal(authority_verify(tasks, a, SUBJECT, "0198c0de-0000-7000-8000-000000000002", body, arena,
                                      service, NULL),
                     CODE_UNAUTHENTICATED);
    assert_int_equal(authority_verify(tasks, a, SUBJECT, ID, other, arena, service, NULL),
                     CODE_UNAUTHENTICATED);
    assert_string_equal(service, "");
}

static void authority_of_a_request_needs_a_deadline_that_is_not_past(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    struct bus_identity *tasks = identity_of("tasks");
    char service[64];
    struct status st = {0};
    assert_int_equal(
        authority_verify(tasks, make_authority(arena, 0), SUBJECT, ID, body, arena, service, &st),
        CODE_UNAUTHENTICATED);
    assert_int_equal(authority_verify(tasks, make_authority(arena, clock_wall_ms() - 61000), SUBJECT, ID,
                                      body, arena, service, &st),
                     CODE_UNAUTHENTICATED);
}

static void assertion_is_no_authority_and_the_other_way_round(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    char service[64];
    struct actor actor = {0};
    struct bytes assertion = make_assertion(identity_of("registry"), 60000, arena);
    assert_int_equal(
        authority_verify(identity_of("tasks"), assertion, SUBJECT, ID, body, arena, service, NULL),
        CODE_UNAUTHENTICATED);
    struct bytes authority;
    assert_int_equal(authority_make(identity_of("registry"), SUBJECT, ID, clock_wall_ms() + 1000, body, arena,
                                    &authority, NULL),
                     CODE_OK);
    assert_int_equal(assertion_verify(identity_of("tasks"), authority, arena, &actor, NULL),
                     CODE_UNAUTHENTICATED);
}

static void garbage_is_refused(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    struct actor actor = {0};
    struct bytes cases[] = {
        {(const uint8_t *)"", 0}, {(const uint8_t *)"\xff\xff\xff", 3}, {(const uint8_t *)"\x0a\x00", 2}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(assertion_verify(identity_of("tasks"), cases[i], arena, &actor, NULL),
                         CODE_UNAUTHENTICATED);
}

static void a_replaced_identity_signs_with_the_new_key(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    struct status st = {0};
    struct bus_identity *identity = identity_fresh("registry");
    struct bytes before = make_assertion(identity, 60000, arena);
    for (int i = 0; i < 2; i++) { /* the second frees what the first had brought */
        struct key *key = NULL;
        AUTO_DER struct der cert = {0};
        identity_leaf("registry", &key, &cert);
        assert_int_equal(bus_identity_replace(identity, key, der_bytes(&cert), &st), CODE_OK);
        struct bytes after = make_assertion(identity, 60000, arena);
        struct actor actor = {0};
        assert_int_equal(assertion_verify(identity_of("tasks"), after, arena, &actor, &st), CODE_OK);
        assert_int_equal(assertion_verify(identity_of("tasks"), before, arena, &actor, &st), CODE_OK);
        assert_non_null(memmem(after.data, after.len, cert.data, cert.len));
    }
    struct key *key = NULL;
    AUTO_DER struct der cert = {0}, other = {0};
    struct key *wrong = NULL;
    identity_leaf("registry", &key, &cert);
    identity_leaf("registry", &wrong, &other);
    key_free(key);
    assert_int_equal(bus_identity_replace(identity, wrong, der_bytes(&cert), &st), CODE_FAILED_PRECONDITION);
    struct actor actor = {0};
    struct bytes still = make_assertion(identity, 60000, arena);
    assert_int_equal(assertion_verify(identity_of("tasks"), still, arena, &actor, &st), CODE_OK);
    bus_identity_free(identity);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(assertion_of_the_registry_names_the_operator),
        cmocka_unit_test(assertion_signed_by_another_service_is_refused),
        cmocka_unit_test(assertion_of_a_foreign_ca_is_refused),
        cmocka_unit_test(changed_assertion_is_refused_whatever_byte_was_changed),
        cmocka_unit_test(assertion_ends_and_never_lives_longer_than_five_minutes),
        cmocka_unit_test(authority_names_the_service_that_made_it),
        cmocka_unit_test(authority_holds_for_one_subject_one_id_and_one_body),
        cmocka_unit_test(authority_of_a_request_needs_a_deadline_that_is_not_past),
        cmocka_unit_test(assertion_is_no_authority_and_the_other_way_round),
        cmocka_unit_test(garbage_is_refused),
        cmocka_unit_test(a_replaced_identity_signs_with_the_new_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
