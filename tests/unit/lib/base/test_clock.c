#include "cmocka_all.h"

#include "base/clock.h"

static void format_and_parse_are_inverse(void **state)
{
    (void)state;
    static const int64_t times[] = {0, 1, 951782400000, 1795474862345, 253402300799999};
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        char text[CLOCK_RFC3339_SIZE];
        int64_t back;
        clock_format_rfc3339(times[i], text);
        assert_int_equal(strlen(text), 24);
        assert_true(clock_parse_rfc3339(text, &back));
        assert_int_equal(back, times[i]);
    }
    char text[CLOCK_RFC3339_SIZE];
    clock_format_rfc3339(1795474862345, text);
    assert_string_equal(text, "2026-11-23T23:01:02.345Z");
}

static void offsets_and_fractions_are_understood(void **state)
{
    (void)state;
    int64_t ms;
    assert_true(clock_parse_rfc3339("2026-11-24T00:01:02.3459+01:00", &ms));
    assert_int_equal(ms, 1795474862345);
    assert_true(clock_parse_rfc3339("2026-11-23t18:31:02-04:30", &ms));
    assert_int_equal(ms, 1795474862000);
    assert_true(clock_parse_rfc3339("2024-02-29T00:00:00Z", &ms));
    assert_true(clock_parse_rfc3339("2016-12-31T23:59:60Z", &ms));
}

static void anything_else_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "2026-11-23",
                                      "2026-11-23T23:01:02",
                                      "2026-11-23 23:01:02Z",
                                      "2026-13-01T00:00:00Z",
                                      "2026-02-29T00:00:00Z",
                                      "2026-00-10T00:00:00Z",
                                      "2026-11-23T24:00:00Z",
                                      "2026-11-23T23:60:00Z",
                                      "2026-11-23T23:01:02.Z",
                                      "2026-11-23T23:01:02Z ",
                                      "2026-11-23T23:01:02+24:00",
                                      "1969-12-31T23:59:59Z",
                                      "1970-01-01T00:30:00+01:00",
                                      "+026-11-23T23:01:02Z",
                                      "99999-11-23T23:01:02Z"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t ms;
        assert_false(clock_parse_rfc3339(bad[i], &ms));
    }
}

static void fake_clock_stands_still_until_advanced(void **state)
{
    (void)state;
    int64_t before = clock_mono_ms();
    clock_fake(1000);
    int64_t mono = clock_mono_ms();
    assert_true(mono >= before);
    assert_int_equal(clock_wall_ms(), 1000);
    clock_advance(250);
    assert_int_equal(clock_wall_ms(), 1250);
    assert_int_equal(clock_mono_ms(), mono + 250);
    clock_real();
    assert_true(clock_wall_ms() > INT64_C(1700000000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(format_and_parse_are_inverse),
        cmocka_unit_test(offsets_and_fractions_are_understood),
        cmocka_unit_test(anything_else_is_refused),
        cmocka_unit_test(fake_clock_stands_still_until_advanced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
