/* The one rule, for every combination of facts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "registry.h"

static void strongest_fact_decides_in_every_combination(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 32; bits++) {
        const struct status_facts f = {.disabled = bits & 1,
                                       .identity_ended = bits & 2,
                                       .heard = bits & 4,
                                       .silent = bits & 8,
                                       .safe_mode = bits & 16};
        enum agent_status expected = AGENT_ONLINE;
        if (bits & 16)
            expected = AGENT_SAFE_MODE;
        if (bits & 8)
            expected = AGENT_OFFLINE;
        if (!(bits & 4))
            expected = AGENT_BOOTSTRAPPING;
        if (bits & 2)
            expected = AGENT_EXPIRED;
        if (bits & 1)
            expected = AGENT_DISABLED;
        assert_int_equal(status_derive(&f), expected);
    }
}

static void every_status_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(agent_status_name(AGENT_DISABLED), "DISABLED");
    assert_string_equal(agent_status_name(AGENT_ONLINE), "ONLINE");
    assert_string_equal(agent_status_name(AGENT_STATUS_END), "UNKNOWN");
    assert_string_equal(agent_status_name(0), "UNKNOWN");
}

static void reason_is_that_of_the_status(void **state)
{
    (void)state;
    struct agent agent = {.status = AGENT_DISABLED,
                          .disabled_reason = "stolen",
                          .safe_mode = true,
                          .safe_mode_reason = "CLOCK"};
    assert_string_equal(agent_reason(&agent), "stolen");
    agent.status = AGENT_SAFE_MODE;
    assert_string_equal(agent_reason(&agent), "CLOCK");
    agent.status = AGENT_ONLINE;
    assert_string_equal(agent_reason(&agent), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strongest_fact_decides_in_every_combination),
        cmocka_unit_test(every_status_has_a_name),
        cmocka_unit_test(reason_is_that_of_the_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
