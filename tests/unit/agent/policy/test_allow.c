/* What the local policy lets the agent do: nothing that is not written down. */
#include "fixture.h"

static void empty_policy_allows_only_looking_at_this_host(void **state)
{
    struct host *host = *state;
    const struct policy_target *target;
    assert_int_equal(policy_read(host, ""), CODE_OK);
    assert_int_equal(policy_allows_operation(policy, CLM__TASK__KIND__VALIDATE, &st), CODE_OK);
    assert_int_equal(policy_allows_operation(policy, CLM__TASK__KIND__DISCOVER, &st), CODE_OK);
    assert_int_equal(policy_allows_operation(policy, CLM__TASK__KIND__RENEW, &st), CODE_PERMISSION_DENIED);
    assert_says("local policy forbids renew: add \"renew\" to operations in [policy] of ");
    assert_says("agent.conf");
    assert_int_equal(policy_allows_operation(policy, CLM__TASK__KIND__DEPLOY, &st), CODE_PERMISSION_DENIED);
    assert_int_equal(policy_allows_operation(policy, 77, &st), CODE_UNIMPLEMENTED);
    assert_int_equal(policy_find_target(policy, "nginx", &target, &st), CODE_PERMISSION_DENIED);
    assert_int_equal(policy_allows_discovery(policy, "/etc/ssl", &st), CODE_OK);
    assert_int_equal(policy_allows_discovery(policy, "/home", &st), CODE_PERMISSION_DENIED);
    assert_string_equal(policy->state_dir, "/var/lib/clm-agent");
}

static void operations_that_are_set_are_all(void **state)
{
    assert_int_equal(policy_read(*state, "[policy]\noperations = renew validate\n"), CODE_OK);
    assert_int_equal(policy_allows_operation(policy, CLM__TASK__KIND__RENEW, &st), CODE_OK);
    assert_int_equal(policy_allows_operation(policy, CLM__TASK__KIND__VALIDATE, &st), CODE_OK);
    assert_int_equal(policy_allows_operation(policy, CLM__TASK__KIND__DISCOVER, &st), CODE_PERMISSION_DENIED);
}

static void names_are_held_against_the_target_first(void **state)
{
    struct policy_target const *a, *b;
    assert_int_equal(policy_read(*state,
                                 "[policy]\ndns_names = *.example.test\n[target a]\ncertificate = /c\n"
                                 "[target b]\ncertificate = /d\ndns_names = only.example.test\n"),
                     CODE_OK);
    assert_int_equal(policy_find_target(policy, "a", &a, &st), CODE_OK);
    assert_int_equal(policy_find_target(policy, "b", &b, &st), CODE_OK);
    char *names[] = {(char[]){"www.example.test"}, (char[]){"x.y.example.test"}};
    assert_int_equal(policy_allows_names(policy, a, names, 1, &st), CODE_OK);
    assert_int_equal(policy_allows_names(policy, a, names, 2, &st), CODE_PERMISSION_DENIED);
    assert_says("x.y.example.test");
    assert_int_equal(policy_allows_names(policy, b, names, 1, &st), CODE_PERMISSION_DENIED);
    assert_says("[target b]");
}

static void probes_stay_on_this_host_unless_listed(void **state)
{
    assert_int_equal(policy_read(*state, "[policy]\nprobe_hosts = db.example.test 10.1.0.0/16 fd00::/8\n"
                                         "[target a]\ncertificate = /c\nendpoint = lb.example.test:443\n"),
                     CODE_OK);
    assert_int_equal(policy_allows_probe(policy, "localhost", &st), CODE_OK);
    assert_int_equal(policy_allows_probe(policy, "127.0.0.53", &st), CODE_OK);
    assert_int_equal(policy_allows_probe(policy, "::1", &st), CODE_OK);
    assert_int_equal(policy_allows_probe(policy, "db.example.test", &st), CODE_OK);
    assert_int_equal(policy_allows_probe(policy, "lb.example.test", &st), CODE_OK);
    assert_int_equal(policy_allows_probe(policy, "10.1.255.1", &st), CODE_OK);
    assert_int_equal(policy_allows_probe(policy, "fd12::1", &st), CODE_OK);
    assert_int_equal(policy_allows_probe(policy, "10.2.0.1", &st), CODE_PERMISSION_DENIED);
    assert_says("probe_hosts");
    assert_int_equal(policy_allows_probe(policy, "192.0.2.1", &st), CODE_PERMISSION_DENIED);
    assert_int_equal(policy_allows_probe(policy, "example.test", &st), CODE_PERMISSION_DENIED);
}

static void discovery_stays_below_its_roots(void **state)
{
    assert_int_equal(policy_read(*state, "[policy]\ndiscovery_roots = /etc/nginx /srv/\n"), CODE_OK);
    assert_int_equal(policy_allows_discovery(policy, "/etc/nginx", &st), CODE_OK);
    assert_int_equal(policy_allows_discovery(policy, "/etc/nginx/ssl", &st), CODE_OK);
    assert_int_equal(policy_allows_discovery(policy, "/srv/www", &st), CODE_OK);
    assert_int_equal(policy_allows_discovery(policy, "/etc/nginx2", &st), CODE_PERMISSION_DENIED);
    assert_int_equal(policy_allows_discovery(policy, "/etc", &st), CODE_PERMISSION_DENIED);
    assert_int_equal(policy_allows_discovery(policy, "/etc/nginx/../shadow", &st), CODE_INVALID_ARGUMENT);
    assert_int_equal(policy_allows_discovery(policy, "etc/nginx", &st), CODE_INVALID_ARGUMENT);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, host_setup, policy_teardown)
    const struct CMUnitTest tests[] = {
        TEST(empty_policy_allows_only_looking_at_this_host),
        TEST(operations_that_are_set_are_all),
        TEST(names_are_held_against_the_target_first),
        TEST(probes_stay_on_this_host_unless_listed),
        TEST(discovery_stays_below_its_roots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
