/* Failures a source a minute. */
#include "cmocka_all.h"

#include "base/clock.h"
#include "throttle.h"

#define LIMIT 3

static struct throttle *throttle;

static int setup(void **state)
{
    (void)state;
    clock_fake(1795474862345);
    throttle = throttle_new(LIMIT);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    throttle_free(throttle);
    clock_real();
    return 0;
}

static void use_up(const char *source)
{
    for (int i = 0; i < LIMIT; i++)
        assert_true(throttle_count(throttle, source));
    assert_false(throttle_count(throttle, source));
}

static void a_source_has_its_share_again_after_a_minute(void **state)
{
    (void)state;
    use_up("192.0.2.1");
    clock_advance(59999);
    assert_false(throttle_count(throttle, "192.0.2.1"));
    clock_advance(1);
    use_up("192.0.2.1");
}

static void ports_and_notations_are_one_source_and_neighbours_are_not(void **state)
{
    (void)state;
    use_up("192.0.2.1:1000");
    assert_false(throttle_count(throttle, "192.0.2.1:2000"));
    assert_false(throttle_count(throttle, "::ffff:192.0.2.1"));
    assert_false(throttle_count(throttle, "[::ffff:192.0.2.1]:5"));
    assert_true(throttle_count(throttle, "192.0.2.2:1000"));
}

static void ipv6_counts_by_its_network(void **state)
{
    (void)state;
    use_up("[2001:db8:1:2::1]:443");
    assert_false(throttle_count(throttle, "2001:db8:1:2:ffff::9"));
    assert_true(throttle_count(throttle, "2001:db8:1:3::1"));
}

static void what_is_no_address_is_a_source_too(void **state)
{
    (void)state;
    use_up("");
    use_up("unix");
    assert_false(throttle_count(throttle, "[")); /* says as little as "" */
    use_up("a very long text that is no address at all and longer than any: "
           "0123456789012345678901234567890123456789");
}

static void a_flood_of_sources_never_locks_out_one_that_is_new(void **state)
{
    (void)state;
    char source[32];
    for (unsigned i = 0; i < 20000; i++) {
        (void)snprintf(source, sizeof(source), "10.%u.%u.%u", i >> 16, (i >> 8) & 255, i & 255);
        for (int n = 0; n < LIMIT; n++)
            (void)throttle_count(throttle, source);
        clock_advance(1);
    }
    use_up("192.0.2.99");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_source_has_its_share_again_after_a_minute),
        TEST(ports_and_notations_are_one_source_and_neighbours_are_not),
        TEST(ipv6_counts_by_its_network),
        TEST(what_is_no_address_is_a_source_too),
        TEST(a_flood_of_sources_never_locks_out_one_that_is_new),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
