#include "cmocka_all.h"

#include <pthread.h>

#include "base/clock.h"
#include "base/id.h"

static void ids_rise_within_a_millisecond_and_when_the_clock_goes_back(void **state)
{
    (void)state;
    clock_fake(1800000000000);
    char before[UUID_TEXT_SIZE], id[UUID_TEXT_SIZE];
    uuid_v7(before);
    assert_true(uuid_valid(before));
    assert_int_equal(uuid_v7_ms(before), 1800000000000);
    assert_int_equal(before[14], '7');
    assert_non_null(strchr("89ab", before[19]));
    for (int i = 0; i < 10000; i++) {
        if (i == 5000)
            clock_advance(-60000);
        uuid_v7(id);
        assert_true(strcmp(before, id) < 0);
        memcpy(before, id, sizeof(id));
    }
    clock_real();
}

#define THREADS    4
#define PER_THREAD 2000
static char made[THREADS][PER_THREAD][UUID_TEXT_SIZE];

static void *make_ids(void *arg)
{
    char(*mine)[UUID_TEXT_SIZE] = arg;
    for (int i = 0; i < PER_THREAD; i++)
        uuid_v7(mine[i]);
    return NULL;
}

static int compare_ids(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void ids_of_concurrent_threads_are_unique(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, make_ids, made[t]), 0);
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    qsort(made, THREADS * PER_THREAD, UUID_TEXT_SIZE, compare_ids);
    char(*all)[UUID_TEXT_SIZE] = made[0];
    for (int i = 1; i < THREADS * PER_THREAD; i++)
        assert_string_not_equal(all[i - 1], all[i]);
}

static void only_the_lower_case_form_is_a_valid_uuid(void **state)
{
    (void)state;
    assert_true(uuid_valid("01234567-89ab-7def-8123-456789abcdef"));
    assert_false(uuid_valid("01234567-89AB-7def-8123-456789abcdef"));
    assert_false(uuid_valid("01234567-89ab-7def-8123-456789abcde"));
    assert_false(uuid_valid("01234567-89ab-7def-8123-456789abcdef0"));
    assert_false(uuid_valid("0123456789ab-7def-8123-456789abcdef00"));
    assert_false(uuid_valid("{1234567-89ab-7def-8123-456789abcdef"));
    assert_false(uuid_valid(""));
    assert_false(uuid_valid(NULL));
    assert_int_equal(uuid_v7_ms("01234567-89ab-4def-8123-456789abcdef"), -1);
}

static void child_keeps_the_trace_and_changes_the_span(void **state)
{
    (void)state;
    const char *in = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    char child[TRACEPARENT_SIZE], trace[TRACE_ID_SIZE];
    traceparent_child(in, child);
    assert_true(traceparent_trace_id(child, trace));
    assert_string_equal(trace, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_string_not_equal(child, in);
}

static void malformed_traceparent_gives_a_fresh_trace(void **state)
{
    (void)state;
    static const char *const bad[] = {NULL,
                                      "",
                                      "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
                                      "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                                      "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                                      "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                                      "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                                      "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char child[TRACEPARENT_SIZE], trace[TRACE_ID_SIZE];
        assert_false(traceparent_trace_id(bad[i], trace));
        traceparent_child(bad[i], child);
        assert_true(traceparent_trace_id(child, trace));
        assert_string_not_equal(trace, "4bf92f3577b34da6a3ce929d0e0e4736");
    }
}

static void jitter_stays_within_base_and_cap(void **state)
{
    (void)state;
    int64_t widest = 0;
    for (int i = 0; i < 2000; i++) {
        int64_t ms = backoff_full_jitter_ms(3, 100, 10000);
        assert_in_range(ms, 0, 800);
        widest = ms > widest ? ms : widest;
        assert_in_range(backoff_full_jitter_ms(60, 100, 10000), 0, 10000);
        assert_in_range(backoff_full_jitter_ms(4000000000u, 100, INT64_MAX), 0, UINT32_MAX);
    }
    assert_true(widest > 600);
    assert_int_equal(backoff_full_jitter_ms(5, 0, 0), 0);
}

static void random_below_reaches_every_value_and_no_other(void **state)
{
    (void)state;
    bool seen[7] = {0};
    for (int i = 0; i < 2000; i++) {
        uint32_t n = random_below(7);
        assert_in_range(n, 0, 6);
        seen[n] = true;
    }
    for (int i = 0; i < 7; i++)
        assert_true(seen[i]);
    assert_int_equal(random_below(1), 0);
}

static void hex_decode_wants_exactly_its_digits(void **state)
{
    (void)state;
    uint8_t bytes[2];
    char text[5];
    assert_true(hex_decode("0aFf", bytes, 2));
    hex_encode(bytes, 2, text);
    assert_string_equal(text, "0aff");
    assert_false(hex_decode("0a", bytes, 2));
    assert_false(hex_decode("0aff0", bytes, 2));
    assert_false(hex_decode("0agf", bytes, 2));
}

static void base64url_follows_rfc_4648_without_padding(void **state)
{
    (void)state;
    static const struct {
        const char *plain, *text;
    } vectors[] = {{"", ""},           {"f", "Zg"},          {"fo", "Zm8"},          {"foo", "Zm9v"},
                   {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff", "-_8"}};
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        char text[16];
        uint8_t plain[8];
        size_t len;
        base64url_encode(vectors[i].plain, strlen(vectors[i].plain), text, sizeof(text));
        assert_string_equal(text, vectors[i].text);
        assert_true(base64url_decode(text, strlen(text), plain, sizeof(plain), &len));
        assert_int_equal(len, strlen(vectors[i].plain));
        assert_memory_equal(plain, vectors[i].plain, len);
    }
}

static void base64url_refuses_other_spellings(void **state)
{
    (void)state;
    uint8_t out[8];
    size_t len;
    assert_false(base64url_decode("Zg==", 4, out, sizeof(out), &len));
    assert_false(base64url_decode("Z", 1, out, sizeof(out), &len));
    assert_false(base64url_decode("Zh", 2, out, sizeof(out), &len)); /* leftover bits */
    assert_false(base64url_decode("+/8", 3, out, sizeof(out), &len));
    assert_false(base64url_decode("Zm9vYmFyZm9v", 12, out, sizeof(out), &len)); /* does not fit */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_rise_within_a_millisecond_and_when_the_clock_goes_back),
        cmocka_unit_test(ids_of_concurrent_threads_are_unique),
        cmocka_unit_test(only_the_lower_case_form_is_a_valid_uuid),
        cmocka_unit_test(child_keeps_the_trace_and_changes_the_span),
        cmocka_unit_test(malformed_traceparent_gives_a_fresh_trace),
        cmocka_unit_test(jitter_stays_within_base_and_cap),
        cmocka_unit_test(random_below_reaches_every_value_and_no_other),
        cmocka_unit_test(hex_decode_wants_exactly_its_digits),
        cmocka_unit_test(base64url_follows_rfc_4648_without_padding),
        cmocka_unit_test(base64url_refuses_other_spellings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
