#include "cmocka_all.h"

#include "base/cleanup.h"
#include "gateway/rates.h"

static void budget_is_used_up_and_comes_back(void **state UNUSED)
{
    struct rates *rates = rates_new(3);
    struct rate rate;
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(rates_take(rates, "operator:alice", 1000 + i, &rate));
        assert_int_equal(rate.quota, 3);
        assert_int_equal(rate.left, 2 - i);
    }
    assert_false(rates_take(rates, "operator:alice", 2000, &rate));
    assert_int_equal(rate.left, 0);
    assert_int_equal(rate.reset_sec, 59);
    assert_true(rates_take(rates, "operator:bob", 2000, &rate)); /* another's is another */
    assert_false(rates_take(rates, "operator:alice", 60999, &rate));
    assert_int_equal(rate.reset_sec, 1);
    assert_true(rates_take(rates, "operator:alice", 61000, &rate));
    assert_int_equal(rate.left, 2);
    rates_free(rates);
}

static void many_actors_do_not_share_a_budget_while_there_is_room(void **state UNUSED)
{
    struct rates *rates = rates_new(1);
    struct rate rate;
    char actor[32];
    unsigned lost = 0;
    for (unsigned i = 0; i < 200; i++) {
        (void)snprintf(actor, sizeof actor, "api-key:%u", i);
        assert_true(rates_take(rates, actor, 1000, &rate));
    }
    for (unsigned i = 0; i < 200; i++) {
        (void)snprintf(actor, sizeof actor, "api-key:%u", i);
        lost += rates_take(rates, actor, 1001, &rate);
    }
    assert_in_range(lost, 0, 20);
    rates_free(rates);
}

static void name_longer_than_kept_is_one_actor(void **state UNUSED)
{
    struct rates *rates = rates_new(1);
    struct rate rate;
    char name[200];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_true(rates_take(rates, name, 1000, &rate));
    assert_false(rates_take(rates, name, 1000, &rate));
    rates_free(rates);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budget_is_used_up_and_comes_back),
        cmocka_unit_test(many_actors_do_not_share_a_budget_while_there_is_room),
        cmocka_unit_test(name_longer_than_kept_is_one_actor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
