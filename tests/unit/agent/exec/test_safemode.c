/* The matrix, and how reasons come and go. */
#include "agent/exec/safemode.h"

#include "cmocka_all.h"

static void online_allows_changes_and_safe_mode_only_looking(void **state)
{
    (void)state;
    struct safe_mode mode = {0};
    assert_true(safe_mode_allows(&mode, SAFE_ACTION_CHANGE));
    assert_true(safe_mode_report(&mode, SAFE_INVALID_POLICY, true, 1));
    assert_true(safe_mode_allows(&mode, SAFE_ACTION_CHECKIN));
    assert_true(safe_mode_allows(&mode, SAFE_ACTION_RENEW_IDENTITY));
    assert_true(safe_mode_allows(&mode, SAFE_ACTION_READ_ONLY));
    assert_false(safe_mode_allows(&mode, SAFE_ACTION_CHANGE));
    assert_false(safe_mode_allows(&mode, SAFE_ACTION_EXPORT));
    assert_string_equal(safe_mode_reason(&mode), "INVALID_POLICY");
}

static void a_valid_policy_ends_its_reason_at_once(void **state)
{
    (void)state;
    struct safe_mode mode = {0};
    (void)safe_mode_report(&mode, SAFE_INVALID_POLICY, true, 1);
    assert_false(safe_mode_report(&mode, SAFE_INVALID_POLICY, true, 2));
    assert_true(safe_mode_report(&mode, SAFE_INVALID_POLICY, false, 3));
    assert_false(safe_mode_active(&mode));
}

static void the_clock_heals_after_ten_good_minutes_in_a_row(void **state)
{
    (void)state;
    struct safe_mode mode = {0};
    (void)safe_mode_report(&mode, SAFE_CLOCK, true, 0);
    assert_false(safe_mode_report(&mode, SAFE_CLOCK, false, 1000));
    assert_false(safe_mode_report(&mode, SAFE_CLOCK, false, 1000 + SAFE_HEAL_MS - 1));
    (void)safe_mode_report(&mode, SAFE_CLOCK, true, 1000 + SAFE_HEAL_MS);
    assert_false(safe_mode_report(&mode, SAFE_CLOCK, false, 2000 + SAFE_HEAL_MS));
    assert_true(safe_mode_active(&mode));
    assert_true(safe_mode_report(&mode, SAFE_CLOCK, false, 2000 + 2 * SAFE_HEAL_MS));
    assert_false(safe_mode_active(&mode));
}

static void one_reason_over_leaves_the_others(void **state)
{
    (void)state;
    struct safe_mode mode = {0};
    (void)safe_mode_report(&mode, SAFE_INVALID_POLICY, true, 0);
    (void)safe_mode_report(&mode, SAFE_STATE_FULL, true, 0);
    (void)safe_mode_report(&mode, SAFE_INVALID_POLICY, false, 1);
    assert_string_equal(safe_mode_reason(&mode), "STATE_FULL");
    assert_false(safe_mode_allows(&mode, SAFE_ACTION_CHANGE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(online_allows_changes_and_safe_mode_only_looking),
        cmocka_unit_test(a_valid_policy_ends_its_reason_at_once),
        cmocka_unit_test(the_clock_heals_after_ten_good_minutes_in_a_row),
        cmocka_unit_test(one_reason_over_leaves_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
