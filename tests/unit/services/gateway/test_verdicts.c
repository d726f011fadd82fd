/* Remembered verdicts: the very certificate, in its time, in bounded room. */
#include "cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "gateway/verdicts.h"

#define NOW       ((int64_t)1795478400000)
#define MINUTE_MS ((int64_t)60 * 1000)

static const struct bytes leaf = {(const uint8_t *)"leaf", 4}, other = {(const uint8_t *)"lear", 4};
static const struct agent_identity alice = {"0198c0de-0000-7000-8000-000000000001", 7};

static void verdict_is_found_for_the_same_certificate_only(void **state)
{
    (void)state;
    struct verdicts *verdicts = verdicts_new(1); /* both would lie in the same place */
    struct agent_identity found = {0};
    assert_false(verdicts_find(verdicts, leaf, NOW, &found));
    verdicts_keep(verdicts, leaf, &alice, NOW - MINUTE_MS, NOW + 60 * MINUTE_MS, NOW);
    assert_true(verdicts_find(verdicts, leaf, NOW, &found));
    assert_string_equal(found.agent_id, alice.agent_id);
    assert_int_equal(found.generation, 7);
    assert_false(verdicts_find(verdicts, other, NOW, &found));
    verdicts_keep(verdicts, other, &alice, NOW - MINUTE_MS, NOW + 60 * MINUTE_MS, NOW);
    assert_false(verdicts_find(verdicts, leaf, NOW, &found));
    verdicts_free(verdicts);
}

static void verdict_ends_with_the_certificate_and_after_ten_minutes(void **state)
{
    (void)state;
    struct verdicts *verdicts = verdicts_new(16);
    struct agent_identity found;
    verdicts_keep(verdicts, leaf, &alice, NOW - MINUTE_MS, NOW + MINUTE_MS, NOW);
    assert_true(verdicts_find(verdicts, leaf, NOW + MINUTE_MS - 1, &found));
    assert_false(verdicts_find(verdicts, leaf, NOW + MINUTE_MS, &found));
    assert_true(verdicts_find(verdicts, leaf, NOW - MINUTE_MS, &found));
    assert_false(verdicts_find(verdicts, leaf, NOW - MINUTE_MS - 1, &found));
    verdicts_keep(verdicts, leaf, &alice, NOW - MINUTE_MS, NOW + 60 * MINUTE_MS, NOW);
    assert_true(verdicts_find(verdicts, leaf, NOW + 10 * MINUTE_MS - 1, &found));
    assert_false(verdicts_find(verdicts, leaf, NOW + 10 * MINUTE_MS, &found));
    verdicts_free(verdicts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdict_is_found_for_the_same_certificate_only),
        cmocka_unit_test(verdict_ends_with_the_certificate_and_after_ten_minutes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
