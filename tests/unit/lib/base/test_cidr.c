#include "base/cidr.h"
#include "cmocka_all.h"

static bool holds(const char *range, const char *address)
{
    struct cidr cidr;
    assert_true(cidr_parse(range, &cidr));
    return cidr_holds(&cidr, address);
}

static void a_range_holds_what_begins_with_its_bits(void **state)
{
    (void)state;
    assert_true(holds("10.1.0.0/16", "10.1.255.255"));
    assert_false(holds("10.1.0.0/16", "10.2.0.0"));
    assert_true(holds("192.0.2.128/25", "192.0.2.129"));
    assert_false(holds("192.0.2.128/25", "192.0.2.127"));
    assert_true(holds("0.0.0.0/0", "203.0.113.9"));
    assert_false(holds("0.0.0.0/0", "2001:db8::1"));
    assert_true(holds("2001:db8::/33", "2001:db8:7fff::1"));
    assert_false(holds("2001:db8::/33", "2001:db8:8000::1"));
    assert_true(holds("::/0", "203.0.113.9"));
    assert_true(holds("::ffff:192.0.2.0/120", "192.0.2.77"));
}

static void a_lone_address_holds_itself(void **state)
{
    (void)state;
    assert_true(holds("192.0.2.7", "192.0.2.7"));
    assert_false(holds("192.0.2.7", "192.0.2.6"));
    assert_true(holds("::1", "0:0::1"));
}

static void what_is_no_range_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "/",
                                      "10.0.0.0/",
                                      "10.0.0.0/33",
                                      "10.0.0.0/08x",
                                      "10.0.0/8",
                                      "10.1.2.3/16",
                                      "10.0.0.0/-1",
                                      "10.0.0.0/ 8",
                                      "::/129",
                                      "fe80::1/64",
                                      "example.com",
                                      "10.0.0.0/0008",
                                      "10.0.0.0//8",
                                      "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa/1"};
    struct cidr cidr;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(cidr_parse(bad[i], &cidr));
}

static void no_range_holds_what_is_no_address(void **state)
{
    (void)state;
    assert_false(holds("0.0.0.0/0", ""));
    assert_false(holds("::/0", "10.0.0.1:443"));
    assert_false(cidr_any_holds(NULL, 0, "10.0.0.1"));
}

static void a_source_is_an_address_or_a_network_of_ipv6(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool one;
    } pairs[] = {{"192.0.2.1", "192.0.2.1", true},
                 {"192.0.2.1", "192.0.2.2", false},
                 {"192.0.2.1", "::ffff:192.0.2.1", true},
                 {"::ffff:192.0.2.1", "::ffff:192.0.2.2", false},
                 {"2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true},
                 {"2001:db8:0:1::1", "2001:db8:0:2::1", false}};
    uint8_t a[16], b[16];
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        assert_true(cidr_source(pairs[i].a, a) && cidr_source(pairs[i].b, b));
        assert_int_equal(memcmp(a, b, sizeof(a)) == 0, pairs[i].one);
    }
    assert_false(cidr_source("example.com", a));
    assert_false(cidr_source("", a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_holds_what_begins_with_its_bits),
        cmocka_unit_test(a_lone_address_holds_itself),
        cmocka_unit_test(what_is_no_range_is_refused),
        cmocka_unit_test(no_range_holds_what_is_no_address),
        cmocka_unit_test(a_source_is_an_address_or_a_network_of_ipv6),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
