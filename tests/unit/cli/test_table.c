#include "cmocka_all.h"

#include "cli/table.h"

static char *printed(const struct table *table, char *text, size_t size)
{
    FILE *out = fmemopen(text, size, "w");
    assert_non_null(out);
    table_print(table, out);
    (void)fclose(out);
    return text;
}

static void columns_are_as_wide_as_their_widest_cell(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    struct table *table = table_new(arena, (const char *[]){"ID", "NAME"}, 2);
    table_row(table, (const char *[]){"long-id", "a"});
    table_row(table, (const char *[]){"x", NULL});
    char text[128];
    assert_string_equal(printed(table, text, sizeof(text)), "ID       NAME\nlong-id  a\nx        -\n");
}

static void characters_count_not_bytes(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    struct table *table = table_new(arena, (const char *[]){"AA", "B"}, 2);
    table_row(table, (const char *[]){"é", "b"});
    char text[128];
    assert_string_equal(printed(table, text, sizeof(text)), "AA  B\né   b\n");
}

static void control_characters_of_a_host_do_not_reach_the_terminal(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    struct table *table = table_new(arena, (const char *[]){"A"}, 1);
    table_row(table, (const char *[]){"\x1b[2Jx\n"});
    table_row(table, (const char *[]){"\xe2\x80\xaegnp.exe\xc2\x9b"
                                      "1m\xff\xc3\xa4"});
    char text[256];
    assert_string_equal(printed(table, text, sizeof(text)),
                        "A\n\\x1b[2Jx\\x0a\n\\u202egnp.exe\\u009b1m\\xff\xc3\xa4\n");
}

static void times_are_shown_in_utc(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    assert_string_equal(table_time(arena, 1, 1700000000123), "2023-11-14 22:13:20Z");
    assert_null(table_time(arena, 0, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_as_wide_as_their_widest_cell),
        cmocka_unit_test(characters_count_not_bytes),
        cmocka_unit_test(control_characters_of_a_host_do_not_reach_the_terminal),
        cmocka_unit_test(times_are_shown_in_utc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
