#include "cmocka_all.h"

#include "gateway/guests.h"

static void a_source_gets_its_share_and_no_more(void **state)
{
    (void)state;
    struct guests *guests = guests_new(1000, 3);
    for (int i = 0; i < 3; i++)
        assert_true(guests_enter(guests, "192.0.2.7"));
    assert_false(guests_enter(guests, "192.0.2.7"));
    guests_leave(guests, "192.0.2.7"); /* the one too many is closed */
    assert_false(guests_enter(guests, "192.0.2.7"));
    guests_leave(guests, "192.0.2.7");
    guests_leave(guests, "192.0.2.7");
    assert_true(guests_enter(guests, "192.0.2.7"));
    guests_free(guests);
}

/* A host of IPv6 has as many addresses as it likes, all in one network. */
static void addresses_of_one_network_are_one_source(void **state)
{
    (void)state;
    struct guests *guests = guests_new(1000, 2);
    assert_true(guests_enter(guests, "2001:db8:0:1::1"));
    assert_true(guests_enter(guests, "2001:db8:0:1:ffff::2"));
    assert_false(guests_enter(guests, "2001:db8:0:1::3"));
    guests_free(guests);
}

static void all_sources_together_get_their_share(void **state)
{
    (void)state;
    struct guests *guests = guests_new(2, 2);
    assert_true(guests_enter(guests, "192.0.2.1"));
    assert_true(guests_enter(guests, "192.0.2.2"));
    assert_false(guests_enter(guests, "192.0.2.3"));
    guests_leave(guests, "192.0.2.3");
    guests_leave(guests, "192.0.2.1");
    assert_true(guests_enter(guests, "192.0.2.4"));
    guests_free(guests);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_source_gets_its_share_and_no_more),
        cmocka_unit_test(addresses_of_one_network_are_one_source),
        cmocka_unit_test(all_sources_together_get_their_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
