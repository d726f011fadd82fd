/* Readers of /proc: what the kernel writes, and everything else. */
#include "cmocka_all.h"

#include "agent/metrics.h"

static void processor_times_are_summed_without_counting_guests_twice(void **state)
{
    (void)state;
    struct cpu_times times;
    assert_true(metrics_parse_stat("cpu  100 20 30 800 40 1 2 7 55 5\ncpu0 1 1 1 1\n", &times));
    assert_int_equal(times.total, 1000);
    assert_int_equal(times.busy, 160);
    assert_true(metrics_parse_stat("cpu 1 2 3 4 5 6 7 8", &times));
    assert_int_equal(times.total, 36);
}

static void what_is_no_proc_stat_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "cpu",
        "cpu ",
        "cpu0 1 2 3 4 5 6 7 8",
        "cpu 1 2 3",
        "cpu 1 2 3 4 5 6 7",
        "cpu 1 2 3 4 5 6 7 -8",
        "cpu 1 2 3 4 5 6 7 x",
        "cpu 1 2 3 4 5 6 7 99999999999999999999999",
        "cpu 18446744073709551615 18446744073709551615 1 1 1 1 1 1",
        "intr 1 2 3 4 5 6 7 8",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct cpu_times times = {7, 9};
        assert_false(metrics_parse_stat(bad[i], &times));
        assert_int_equal(times.busy, 7);
        assert_int_equal(times.total, 9);
    }
}

static void memory_in_use_is_what_is_not_available(void **state)
{
    (void)state;
    uint64_t total = 0, used = 0;
    assert_true(metrics_parse_meminfo("MemTotal:       16316412 kB\nMemFree:          100000 kB\n"
                                      "MemAvailable:    6316412 kB\nBuffers: 1 kB\n",
                                      &total, &used));
    assert_int_equal(total, 16316412ull * 1024);
    assert_int_equal(used, 10000000ull * 1024);
}

static void what_is_no_proc_meminfo_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "MemTotal: 100 kB\n",
        "MemAvailable: 100 kB\n",
        "MemTotal: 100 kB\nMemAvailable: 200 kB\n",
        "MemTotal: 0 kB\nMemAvailable: 0 kB\n",
        "MemTotal: 100\nMemAvailable: 50\n",
        "MemTotal: 100 MB\nMemAvailable: 50 MB\n",
        "MemTotal: -1 kB\nMemAvailable: 50 kB\n",
        "MemTotal: 99999999999999999999 kB\nMemAvailable: 50 kB\n",
        "MemTotal 100 kB\nMemAvailable 50 kB\n",
        "XMemTotal: 100 kB\nMemAvailable: 50 kB\n",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint64_t total = 7, used = 9;
        assert_false(metrics_parse_meminfo(bad[i], &total, &used));
        assert_int_equal(total, 7);
        assert_int_equal(used, 9);
    }
}

static void load_averages_are_read_in_thousandths(void **state)
{
    (void)state;
    uint32_t load[3];
    assert_true(metrics_parse_loadavg("0.42 1.05 12.3 2/345 6789\n", load));
    assert_int_equal(load[0], 420);
    assert_int_equal(load[1], 1050);
    assert_int_equal(load[2], 12300);
}

static void what_is_no_proc_loadavg_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "0.42",
        "0.42 1.05",
        "0.42 1.05 ",
        "0.42 1.05 .5 1/2 3",
        "0.42 1.05 5. 1/2 3",
        "0.42 1.05 nan 1/2 3",
        "-1 0 0 1/2 3",
        "1e9 0 0 1/2 3",
        "99999999 0 0 1/2 3",
        "0,42 1,05 12,3 2/345 6789",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint32_t load[3] = {1, 2, 3};
        assert_false(metrics_parse_loadavg(bad[i], load));
        assert_int_equal(load[0], 1);
        assert_int_equal(load[2], 3);
    }
}

static void uptime_is_read_in_seconds(void **state)
{
    (void)state;
    uint64_t sec = 0;
    assert_true(metrics_parse_uptime("350735.47 234388.90\n", &sec));
    assert_int_equal(sec, 350735);
    static const char *const bad[] = {"", " 1", "x", "1.x", "-5.0 1.0", "99999999999999999999.0 1", "12s"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(metrics_parse_uptime(bad[i], &sec));
    assert_int_equal(sec, 350735);
}

static void processor_share_is_of_the_time_between_and_never_beyond_its_range(void **state)
{
    (void)state;
    const struct cpu_times a = {100, 1000}, b = {150, 1200}, stood = {100, 1000};
    assert_int_equal(metrics_cpu_permille(&a, &b), 250);
    assert_int_equal(metrics_cpu_permille(&a, &stood), 0);
    assert_int_equal(metrics_cpu_permille(&b, &a), 0);
    const struct cpu_times impossible = {900, 1100};
    assert_int_equal(metrics_cpu_permille(&a, &impossible), 1000);
}

static void a_sample_of_this_host_has_everything_and_is_not_taken_twice_in_a_period(void **state)
{
    (void)state;
    struct metrics metrics = {0};
    Clm__HostMetrics sample;
    assert_true(metrics_sample(&metrics, 1000, &sample));
    assert_false(sample.has_cpu_permille); /* there was no reading before */
    assert_true(sample.has_memory_total_bytes && sample.has_load1_milli && sample.has_uptime_sec &&
                sample.has_disk_total_bytes && sample.has_processors);
    assert_true(sample.memory_used_bytes <= sample.memory_total_bytes);
    assert_true(sample.disk_used_bytes <= sample.disk_total_bytes);
    assert_false(metrics_sample(&metrics, 1000 + METRICS_PERIOD_MS - 1, &sample));
    assert_true(metrics_sample(&metrics, 1000 + METRICS_PERIOD_MS, &sample));
    assert_true(sample.has_cpu_permille);
    assert_true(sample.cpu_permille <= 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(processor_times_are_summed_without_counting_guests_twice),
        cmocka_unit_test(what_is_no_proc_stat_is_refused_and_changes_nothing),
        cmocka_unit_test(memory_in_use_is_what_is_not_available),
        cmocka_unit_test(what_is_no_proc_meminfo_is_refused),
        cmocka_unit_test(load_averages_are_read_in_thousandths),
        cmocka_unit_test(what_is_no_proc_loadavg_is_refused),
        cmocka_unit_test(uptime_is_read_in_seconds),
        cmocka_unit_test(processor_share_is_of_the_time_between_and_never_beyond_its_range),
        cmocka_unit_test(a_sample_of_this_host_has_everything_and_is_not_taken_twice_in_a_period),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
