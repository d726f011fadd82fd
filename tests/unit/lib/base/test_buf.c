#include "cmocka_all.h"

#include "base/buf.h"

static void append_past_the_limit_fails_and_changes_nothing(void **state)
{
    (void)state;
    AUTO_BUF struct buf buf;
    buf_init(&buf, 5);
    assert_true(buf_puts(&buf, "abc"));
    assert_false(buf_puts(&buf, "def"));
    assert_string_equal(buf_text(&buf), "abc");
    assert_true(buf_puts(&buf, "de"));
    assert_string_equal(buf_text(&buf), "abcde");
    assert_false(buf_append(&buf, "x", 1));
    assert_false(buf_append(&buf, "x", SIZE_MAX));
    assert_false(buf_printf(&buf, "%d", 1));
    assert_int_equal(buf.len, 5);
    assert_string_equal(buf_text(&buf), "abcde");
    buf_consume(&buf, 2);
    assert_false(buf_printf(&buf, "%d", 123));
    assert_string_equal(buf_text(&buf), "cde");
    assert_true(buf_printf(&buf, "%d", 12));
    assert_string_equal(buf_text(&buf), "cde12");
}

static void printed_text_is_whole_wherever_the_buffer_grows(void **state)
{
    (void)state;
    for (size_t before = 0; before < 140; before++) {
        AUTO_BUF struct buf buf = {0};
        for (size_t i = 0; i < before; i++)
            assert_true(buf_puts(&buf, "x"));
        assert_true(buf_printf(&buf, "%s-%d", "abc", 12345));
        assert_int_equal(buf.len, before + 9);
        assert_string_equal(buf_text(&buf) + before, "abc-12345");
    }
}

static void zeroed_buffer_has_the_default_limit(void **state)
{
    (void)state;
    AUTO_BUF struct buf buf = {0};
    AUTO_FREE char *much = calloc(1, BUF_DEFAULT_LIMIT + 1);
    assert_false(buf_append(&buf, much, BUF_DEFAULT_LIMIT + 1));
    assert_true(buf_append(&buf, much, BUF_DEFAULT_LIMIT));
}

static void consume_drops_from_the_front(void **state)
{
    (void)state;
    AUTO_BUF struct buf buf = {0};
    assert_true(buf_printf(&buf, "%s %d", "hello", 7));
    buf_consume(&buf, 6);
    assert_string_equal(buf_text(&buf), "7");
    buf_consume(&buf, 1);
    assert_string_equal(buf_text(&buf), "");
}

static void take_hands_the_bytes_over(void **state)
{
    (void)state;
    AUTO_BUF struct buf buf = {0};
    assert_true(buf_append(&buf, "a\0b", 3));
    size_t len;
    AUTO_FREE uint8_t *bytes = buf_take(&buf, &len);
    assert_int_equal(len, 3);
    assert_memory_equal(bytes, "a\0b", 4);
    assert_int_equal(buf.len, 0);
    assert_string_equal(buf_text(&buf), "");
    assert_true(buf_puts(&buf, "again"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(append_past_the_limit_fails_and_changes_nothing),
        cmocka_unit_test(printed_text_is_whole_wherever_the_buffer_grows),
        cmocka_unit_test(zeroed_buffer_has_the_default_limit),
        cmocka_unit_test(consume_drops_from_the_front),
        cmocka_unit_test(take_hands_the_bytes_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
