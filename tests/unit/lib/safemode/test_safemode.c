/* Every cell of the design's matrix, written out once more; and what each reason says. */
#include "safemode/safemode.h"

#include <string.h>

#include "cmocka_all.h"

#define Y SAFE_YES
#define N SAFE_NO
#define W SAFE_WITHOUT_WORK
#define B SAFE_BREAK_GLASS
#define P SAFE_BY_POLICY

/* DESIGN.md section 8, in its order: ONLINE, SAFE_MODE, SAFE_MODE by CLONE, DISABLED, EXPIRED. */
static const struct {
    enum safe_action action;
    enum safe_verdict cells[SAFE_COLUMN_COUNT];
} design[] = {
    {SAFE_CHECKIN, {Y, Y, W, N, N}},   {SAFE_RENEW_IDENTITY, {Y, Y, N, N, N}},
    {SAFE_READ_ONLY, {Y, Y, N, N, N}}, {SAFE_CHANGE, {Y, B, N, N, N}},
    {SAFE_EXPORT, {P, N, N, N, N}},    {SAFE_RELOAD, {P, N, N, N, N}},
};

static void every_cell_is_the_designs(void **state)
{
    (void)state;
    assert_int_equal(ARRAY_LEN(design), SAFE_ACTION_COUNT);
    for (size_t i = 0; i < ARRAY_LEN(design); i++)
        for (int column = 0; column < SAFE_COLUMN_COUNT; column++)
            assert_int_equal(safe_verdict((enum safe_column)column, design[i].action),
                             design[i].cells[column]);
}

static void a_released_task_changes_the_break_glass_cell_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(design); i++)
        for (int column = 0; column < SAFE_COLUMN_COUNT; column++) {
            enum safe_verdict cell = design[i].cells[column];
            bool plain = safe_allows((enum safe_column)column, design[i].action, false);
            bool released = safe_allows((enum safe_column)column, design[i].action, true);
            assert_int_equal(plain, cell != N && cell != B);
            assert_int_equal(released, cell != N);
        }
}

static void kinds_follow_their_action(void **state)
{
    (void)state;
    const uint32_t looking = 1u << 3 | 1u << 4, changing = 1u << 1 | 1u << 2;
    assert_int_equal(safe_kinds(SAFE_ONLINE, false), looking | changing);
    assert_int_equal(safe_kinds(SAFE_SAFE_MODE, false), looking);
    assert_int_equal(safe_kinds(SAFE_SAFE_MODE, true), looking | changing);
    for (int column = SAFE_CLONE; column < SAFE_COLUMN_COUNT; column++)
        assert_int_equal(safe_kinds((enum safe_column)column, true), 0);
    assert_int_equal(safe_action_of_kind(0), SAFE_CHANGE);
    assert_int_equal(safe_action_of_kind(31), SAFE_CHANGE);
}

static void the_stricter_of_two_columns_counts(void **state)
{
    (void)state;
    assert_int_equal(safe_strictest(SAFE_ONLINE, SAFE_SAFE_MODE), SAFE_SAFE_MODE);
    assert_int_equal(safe_strictest(SAFE_CLONE, SAFE_SAFE_MODE), SAFE_CLONE);
    assert_int_equal(safe_column_of(false, false, false, false), SAFE_ONLINE);
    assert_int_equal(safe_column_of(false, false, false, true), SAFE_SAFE_MODE);
    assert_int_equal(safe_column_of(false, false, true, true), SAFE_CLONE);
    assert_int_equal(safe_column_of(true, false, true, true), SAFE_DISABLED);
    assert_int_equal(safe_column_of(true, true, true, true), SAFE_EXPIRED);
    assert_string_equal(safe_column_name(SAFE_CLONE), "SAFE_MODE by CLONE");
}

static void three_reasons_heal_by_themselves(void **state)
{
    (void)state;
    unsigned healing = 0;
    for (int i = 0; i < SAFE_REASON_COUNT; i++)
        healing += safe_reason_info((enum safe_reason)i)->exit == SAFE_EXIT_HEALS;
    assert_int_equal(healing, 3);
    static const char *const names[] = {"CLOCK", "STATE_FULL", "CRASH_LOOP"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_int_equal(safe_reason_find(names[i])->exit, SAFE_EXIT_HEALS);
}

static void every_reason_is_found_by_its_name_and_names_its_exit(void **state)
{
    (void)state;
    for (int i = 0; i < SAFE_REASON_COUNT; i++) {
        const struct safe_reason_info *info = safe_reason_info((enum safe_reason)i);
        assert_ptr_equal(safe_reason_find(info->name), info);
        assert_true(strlen(info->means) > 0 && strlen(info->ends) > 0);
        assert_true(info->column == SAFE_SAFE_MODE || info->column == SAFE_CLONE);
    }
    assert_null(safe_reason_find("NOTHING"));
    assert_int_equal(safe_reason_find("CLONE")->exit, SAFE_EXIT_TOKEN);
    assert_int_equal(safe_reason_find("LOCAL")->exit, SAFE_EXIT_HOST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cell_is_the_designs),
        cmocka_unit_test(a_released_task_changes_the_break_glass_cell_alone),
        cmocka_unit_test(kinds_follow_their_action),
        cmocka_unit_test(the_stricter_of_two_columns_counts),
        cmocka_unit_test(three_reasons_heal_by_themselves),
        cmocka_unit_test(every_reason_is_found_by_its_name_and_names_its_exit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
