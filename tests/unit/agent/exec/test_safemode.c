/* The matrix, and how reasons come and go. */
#include "agent/exec/safemode.h"

#include "cmocka_all.h"

static void without_a_reason_the_agent_is_online(void **state)
{
    (void)state;
    struct safe_mode mode = {0};
    assert_int_equal(safe_mode_column(&mode), SAFE_ONLINE);
    assert_null(safe_mode_reason(&mode));
    assert_true(safe_allows(safe_mode_column(&mode), SAFE_CHANGE, false));
}

static void any_reason_is_the_column_of_its_row(void **state)
{
    (void)state;
    for (int i = 0; i < SAFE_AGENT_REASON_COUNT; i++) {
        struct safe_mode mode = {0};
        assert_true(safe_mode_report(&mode, (enum safe_reason)i, true, 1));
        assert_int_equal(safe_mode_column(&mode), SAFE_SAFE_MODE);
        assert_string_equal(safe_mode_reason(&mode), safe_reason_info((enum safe_reason)i)->name);
        assert_false(safe_allows(safe_mode_column(&mode), SAFE_CHANGE, false));
        assert_true(safe_allows(safe_mode_column(&mode), SAFE_READ_ONLY, false));
    }
}

/* The exit of each: at once, or after ten good minutes; never by something else getting better. */
static void every_reason_leaves_by_its_own_exit(void **state)
{
    (void)state;
    for (int i = 0; i < SAFE_AGENT_REASON_COUNT; i++) {
        enum safe_reason reason = (enum safe_reason)i;
        bool heals = safe_reason_info(reason)->exit == SAFE_EXIT_HEALS;
        struct safe_mode mode = {0};
        (void)safe_mode_report(&mode, reason, true, 0);
        for (int k = 0; k < SAFE_AGENT_REASON_COUNT; k++)
            if (k != i)
                assert_false(safe_mode_report(&mode, (enum safe_reason)k, false, 1));
        assert_true(safe_mode_active(&mode));
        assert_int_equal(safe_mode_report(&mode, reason, false, 1), !heals);
        assert_int_equal(safe_mode_active(&mode), heals);
        if (heals) {
            assert_false(safe_mode_report(&mode, reason, false, SAFE_HEAL_MS));
            assert_true(safe_mode_report(&mode, reason, false, SAFE_HEAL_MS + 1));
            assert_false(safe_mode_active(&mode));
        }
    }
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
    assert_int_equal(safe_mode_column(&mode), SAFE_SAFE_MODE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_reason_the_agent_is_online),
        cmocka_unit_test(any_reason_is_the_column_of_its_row),
        cmocka_unit_test(every_reason_leaves_by_its_own_exit),
        cmocka_unit_test(a_valid_policy_ends_its_reason_at_once),
        cmocka_unit_test(the_clock_heals_after_ten_good_minutes_in_a_row),
        cmocka_unit_test(one_reason_over_leaves_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
