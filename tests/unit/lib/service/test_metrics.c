/* The text format of Prometheus, and bounds on what peers can make us keep. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "service/service.h"

static const char *text(struct buf *out)
{
    buf_reset(out);
    assert_int_equal(metrics_write(out, NULL), CODE_OK);
    return buf_text(out);
}

static void counters_and_gauges_are_written_with_their_labels(void **state)
{
    (void)state;
    struct metric *counter = metric_counter("test_total", "Things.");
    metric_add(counter, "kind", "a\"b\\c\n", 2);
    metric_add(counter, "kind", "a\"b\\c\n", 1);
    metric_set(metric_gauge("test_now", "Now."), NULL, NULL, 0.5);
    AUTO_BUF struct buf out;
    buf_init(&out, 0);
    assert_non_null(strstr(
        text(&out),
        "# HELP test_total Things.\n# TYPE test_total counter\ntest_total{kind=\"a\\\"b\\\\c\\n\"} 3\n"));
    assert_non_null(strstr(text(&out), "# TYPE test_now gauge\ntest_now 0.5\n"));
}

static void a_counter_may_have_two_labels(void **state)
{
    (void)state;
    struct metric *counter = metric_counter("test_two_total", "x");
    metric_add_by(counter, "method", "Get", "code", "OK", 2);
    metric_add_by(counter, "method", "Get", "code", "INTERNAL", 1);
    metric_add_by(counter, "method", "Get", "code", "OK", 1);
    AUTO_BUF struct buf out;
    buf_init(&out, 0);
    assert_non_null(strstr(text(&out), "test_two_total{method=\"Get\",code=\"OK\"} 3\n"));
    assert_non_null(strstr(text(&out), "test_two_total{method=\"Get\",code=\"INTERNAL\"} 1\n"));
}

static void same_name_is_the_same_metric(void **state)
{
    (void)state;
    assert_ptr_equal(metric_counter("test_same", "x"), metric_counter("test_same", "x"));
}

static void histogram_buckets_are_cumulative(void **state)
{
    (void)state;
    struct metric *h = metric_histogram_ms("test_ms", "Time.");
    metric_observe_ms(h, "method", "Get", 3);
    metric_observe_ms(h, "method", "Get", 700);
    metric_observe_ms(h, "method", "Get", 99999);
    AUTO_BUF struct buf out;
    buf_init(&out, 0);
    const char *t = text(&out);
    assert_non_null(strstr(t, "test_ms_bucket{method=\"Get\",le=\"2.5\"} 0\n"));
    assert_non_null(strstr(t, "test_ms_bucket{method=\"Get\",le=\"5\"} 1\n"));
    assert_non_null(strstr(t, "test_ms_bucket{method=\"Get\",le=\"1000\"} 2\n"));
    assert_non_null(strstr(t, "test_ms_bucket{method=\"Get\",le=\"+Inf\"} 3\n"));
    assert_non_null(strstr(t, "test_ms_count{method=\"Get\"} 3\n"));
}

static void endless_label_values_end_in_other(void **state)
{
    (void)state;
    struct metric *counter = metric_counter("test_many", "x");
    for (int i = 0; i < 1000; i++) {
        char value[16];
        (void)snprintf(value, sizeof(value), "v%d", i);
        metric_add(counter, "v", value, 1);
    }
    AUTO_BUF struct buf out;
    buf_init(&out, 0);
    const char *t = text(&out);
    assert_non_null(strstr(t, "test_many{v=\"other\"} 745\n"));
    assert_null(strstr(t, "v=\"v255\""));
}

static void a_long_label_value_is_cut_and_stays_one_series(void **state)
{
    (void)state;
    struct metric *counter = metric_counter("test_long", "x");
    char value[301];
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    metric_add(counter, "v", value, 1);
    metric_add(counter, "v", value, 1);
    AUTO_BUF struct buf out;
    buf_init(&out, 0);
    assert_non_null(strstr(text(&out), "vvv\"} 2\n"));
}

static void *count(void *arg)
{
    for (int i = 0; i < 20000; i++)
        metric_add(arg, "t", i % 2 ? "odd" : "even", 1);
    return NULL;
}

static void updates_from_many_threads_are_all_counted(void **state)
{
    (void)state;
    struct metric *counter = metric_counter("test_threads", "x");
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count, counter), 0);
    for (size_t i = 0; i < 4; i++)
        (void)pthread_join(threads[i], NULL);
    AUTO_BUF struct buf out;
    buf_init(&out, 0);
    assert_non_null(strstr(text(&out), "test_threads{t=\"odd\"} 40000\n"));
    assert_non_null(strstr(text(&out), "test_threads{t=\"even\"} 40000\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_and_gauges_are_written_with_their_labels),
        cmocka_unit_test(a_counter_may_have_two_labels),
        cmocka_unit_test(same_name_is_the_same_metric),
        cmocka_unit_test(histogram_buckets_are_cumulative),
        cmocka_unit_test(endless_label_values_end_in_other),
        cmocka_unit_test(a_long_label_value_is_cut_and_stays_one_series),
        cmocka_unit_test(updates_from_many_threads_are_all_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
