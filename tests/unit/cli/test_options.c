#include "cmocka_all.h"

#include "cli/command.h"

static const struct cli_option own[] = {
    {"status", "STATUS", "", .type = OPTION_LIST},
    {"o", "FORMAT", "", .type = OPTION_TEXT},
    {"limit", "N", "", .type = OPTION_TEXT},
    {"wait", NULL, "", .type = OPTION_FLAG},
    {.name = NULL},
};
static const struct cli_option common[] = {{"context", "NAME", "", .type = OPTION_TEXT}, {.name = NULL}};

#define PARSE(n_positional, ...)                                                                             \
    const char *argv[] = {__VA_ARGS__};                                                                      \
    struct cli_args args;                                                                                    \
    struct status st = {0};                                                                                  \
    enum code code = cli_args_parse(own, common, n_positional, (int)ARRAY_LEN(argv), argv, &args, &st)

static void both_spellings_of_a_value_are_taken(void **state)
{
    (void)state;
    PARSE(1, "--limit=5", "ID", "--context", "dev", "-o", "json", "--wait");
    assert_int_equal(code, CODE_OK);
    assert_string_equal(cli_args_text(&args, "limit"), "5");
    assert_string_equal(cli_args_text(&args, "context"), "dev");
    assert_string_equal(args.positional[0], "ID");
    assert_true(cli_args_flag(&args, "wait"));
    bool json = false;
    assert_int_equal(cli_args_json(&args, &json, &st), CODE_OK);
    assert_true(json);
}

static void unknown_option_is_named(void **state)
{
    (void)state;
    PARSE(1, "--sttaus", "x");
    assert_int_equal(code, CODE_INVALID_ARGUMENT);
    assert_string_equal(st.msg, "unknown option --sttaus");
}

static void option_without_its_value_says_what_is_missing(void **state)
{
    (void)state;
    PARSE(1, "--limit");
    assert_int_equal(code, CODE_INVALID_ARGUMENT);
    assert_string_equal(st.msg, "--limit needs a value: --limit N");
}

static void flag_with_a_value_is_refused(void **state)
{
    (void)state;
    PARSE(1, "--wait=yes");
    assert_int_equal(code, CODE_INVALID_ARGUMENT);
}

static void one_positional_too_many_is_refused(void **state)
{
    (void)state;
    PARSE(1, "a", "b");
    assert_int_equal(code, CODE_INVALID_ARGUMENT);
    assert_string_equal(st.msg, "unexpected argument \"b\"");
}

static void two_dashes_end_the_options(void **state)
{
    (void)state;
    PARSE(1, "--", "--wait");
    assert_int_equal(code, CODE_OK);
    assert_string_equal(args.positional[0], "--wait");
    assert_false(cli_args_flag(&args, "wait"));
}

static void more_options_than_there_is_room_for_are_refused(void **state)
{
    (void)state;
    const char *argv[CLI_VALUES_MAX + 1];
    for (size_t i = 0; i < ARRAY_LEN(argv); i++)
        argv[i] = "--wait";
    struct cli_args args;
    struct status st = {0};
    assert_int_equal(cli_args_parse(own, NULL, 0, (int)ARRAY_LEN(argv), argv, &args, &st),
                     CODE_INVALID_ARGUMENT);
}

static enum code collect(const char *value, void *arg, struct status *st)
{
    (void)st;
    strncat(arg, value, 16);
    strncat(arg, ";", 2);
    return CODE_OK;
}

static void lists_are_split_at_commas_and_repeated(void **state)
{
    (void)state;
    PARSE(0, "--status", "a,b", "--status", "c");
    assert_int_equal(code, CODE_OK);
    AUTO_ARENA struct arena *arena = arena_new();
    char text[64] = "";
    assert_int_equal(cli_args_each(&args, "status", true, collect, text, arena, &st), CODE_OK);
    assert_string_equal(text, "a;b;c;");
}

static void an_empty_list_element_is_refused(void **state)
{
    (void)state;
    PARSE(0, "--status", "a,,b");
    assert_int_equal(code, CODE_OK);
    AUTO_ARENA struct arena *arena = arena_new();
    char text[64] = "";
    assert_int_equal(cli_args_each(&args, "status", true, collect, text, arena, &st), CODE_INVALID_ARGUMENT);
}

static void numbers_are_held_to_their_bounds(void **state)
{
    (void)state;
    static const char *const bad[] = {"0", "501", "x", "5x", "", "99999999999999999999"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char argument[64];
        (void)snprintf(argument, sizeof(argument), "--limit=%s", bad[i]);
        PARSE(0, argument);
        assert_int_equal(code, CODE_OK);
        long n;
        assert_int_equal(cli_args_number(&args, "limit", 1, 500, 50, &n, &st), CODE_INVALID_ARGUMENT);
    }
    PARSE(0, "--wait");
    assert_int_equal(code, CODE_OK);
    long n;
    assert_int_equal(cli_args_number(&args, "limit", 1, 500, 50, &n, &st), CODE_OK);
    assert_int_equal(n, 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_spellings_of_a_value_are_taken),
        cmocka_unit_test(unknown_option_is_named),
        cmocka_unit_test(option_without_its_value_says_what_is_missing),
        cmocka_unit_test(flag_with_a_value_is_refused),
        cmocka_unit_test(one_positional_too_many_is_refused),
        cmocka_unit_test(two_dashes_end_the_options),
        cmocka_unit_test(more_options_than_there_is_room_for_are_refused),
        cmocka_unit_test(lists_are_split_at_commas_and_repeated),
        cmocka_unit_test(an_empty_list_element_is_refused),
        cmocka_unit_test(numbers_are_held_to_their_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
