#include "cmocka_all.h"

#include <errno.h>

#include "base/status.h"

static void every_code_has_one_row_and_its_wire_number(void **state)
{
    (void)state;
    static const enum code codes[] = {CODE_OK,
                                      CODE_CANCELLED,
                                      CODE_INVALID_ARGUMENT,
                                      CODE_DEADLINE_EXCEEDED,
                                      CODE_NOT_FOUND,
                                      CODE_ALREADY_EXISTS,
                                      CODE_PERMISSION_DENIED,
                                      CODE_RESOURCE_EXHAUSTED,
                                      CODE_FAILED_PRECONDITION,
                                      CODE_ABORTED,
                                      CODE_UNIMPLEMENTED,
                                      CODE_INTERNAL,
                                      CODE_UNAVAILABLE,
                                      CODE_DATA_LOSS,
                                      CODE_UNAUTHENTICATED};
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        const struct code_info *info = code_info(codes[i]);
        assert_int_equal(info->code, codes[i]);
        assert_non_null(info->slug);
        assert_non_null(info->title);
        assert_in_range(info->http_status, 200, 599);
    }
    assert_string_equal(code_name(CODE_NOT_FOUND), "NOT_FOUND");
    assert_int_equal(code_info(CODE_RESOURCE_EXHAUSTED)->http_status, 429);
    assert_true(code_info(CODE_UNAVAILABLE)->retryable);
    assert_false(code_info(CODE_INVALID_ARGUMENT)->retryable);
}

static void number_that_is_no_code_reads_as_internal(void **state)
{
    (void)state;
    assert_int_equal(code_info((enum code)2)->code, CODE_INTERNAL);
    assert_int_equal(code_info((enum code)11)->code, CODE_INTERNAL);
    assert_int_equal(code_info((enum code)17)->code, CODE_INTERNAL);
    assert_int_equal(code_info((enum code) - 1)->code, CODE_INTERNAL);
}

static void wrap_puts_context_in_front_and_keeps_the_code(void **state)
{
    (void)state;
    struct status st = {0};
    assert_int_equal(status_set(&st, CODE_NOT_FOUND, "no agent %d", 7), CODE_NOT_FOUND);
    assert_int_equal(status_wrap(&st, "renew %s", "web-1"), CODE_NOT_FOUND);
    assert_string_equal(st.msg, "renew web-1: no agent 7");
}

static void message_may_quote_itself(void **state)
{
    (void)state;
    struct status st = {0};
    status_set(&st, CODE_INTERNAL, "inner");
    status_set(&st, CODE_ABORTED, "outer (%s)", st.msg);
    assert_string_equal(st.msg, "outer (inner)");
}

static void long_message_is_cut_with_dots_between_characters(void **state)
{
    (void)state;
    char text[400];
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = 0;
    struct status st = {0};
    status_set(&st, CODE_INTERNAL, "%s", text);
    assert_int_equal(strlen(st.msg), sizeof(st.msg) - 1);
    assert_string_equal(st.msg + strlen(st.msg) - 3, "...");
    /* 251 'a', then a two-byte character across the cut. */
    memset(text, 'a', 251);
    for (size_t i = 251; i + 1 < sizeof(text); i += 2)
        memcpy(text + i, "\xc3\xa4", 2);
    text[sizeof(text) - 1] = 0;
    status_set(&st, CODE_INTERNAL, "%s", text);
    assert_int_equal(strlen(st.msg), 254);
    assert_string_equal(st.msg + 250, "a...");
}

static void errno_text_follows_the_message(void **state)
{
    (void)state;
    struct status st = {0};
    assert_int_equal(status_errno(&st, CODE_NOT_FOUND, ENOENT, "cannot open %s", "x"), CODE_NOT_FOUND);
    assert_string_equal(st.msg, "cannot open x: No such file or directory");
}

static void null_status_is_allowed(void **state)
{
    (void)state;
    assert_int_equal(status_set(NULL, CODE_ABORTED, "x"), CODE_ABORTED);
    assert_int_equal(status_errno(NULL, CODE_ABORTED, EIO, "x"), CODE_ABORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_one_row_and_its_wire_number),
        cmocka_unit_test(number_that_is_no_code_reads_as_internal),
        cmocka_unit_test(wrap_puts_context_in_front_and_keeps_the_code),
        cmocka_unit_test(message_may_quote_itself),
        cmocka_unit_test(long_message_is_cut_with_dots_between_characters),
        cmocka_unit_test(errno_text_follows_the_message),
        cmocka_unit_test(null_status_is_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
