/* The permission table and the access table belong together; what nats-server makes of it is tested in rpc
 * and events. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "bus/access.h"
#include "bus/bus.h"

static void every_call_of_a_user_is_a_method_with_rights(void **state)
{
    (void)state;
    for (const struct bus_user *user = bus_users; user->name; user++) {
        for (size_t i = 0; i < BUS_SUBJECTS_MAX && user->call[i]; i++) {
            char service[64];
            const char *dot = strchr(user->call[i], '.');
            assert_non_null(dot);
            (void)snprintf(service, sizeof(service), "%.*s", (int)(dot - user->call[i]), user->call[i]);
            assert_non_null(method_access_find(service, dot + 1));
        }
    }
}

static bool may_call(const char *name, const char *method)
{
    const struct bus_user *user = bus_user_find(name);
    for (size_t i = 0; i < BUS_SUBJECTS_MAX && user->call[i]; i++)
        if (strcmp(user->call[i], method) == 0)
            return true;
    return false;
}

static void only_services_that_need_authority_may_ask_for_it(void **state)
{
    (void)state;
    assert_true(may_call("registry", "bootstrap.CreateToken"));
    assert_false(may_call("gateway", "bootstrap.CreateToken"));
    assert_false(may_call("tasks", "bootstrap.CreateToken"));
    assert_true(may_call("bootstrap", "tasks.AuthorizeCertificate"));
    assert_false(may_call("gateway", "tasks.AuthorizeCertificate"));
}

static void durables_are_named_for_service_and_origin(void **state)
{
    (void)state;
    for (const struct bus_user *user = bus_users; user->name; user++) {
        for (size_t i = 0; i < BUS_CONSUMERS_MAX && user->consumer[i].durable; i++) {
            char origin[64], expected[130];
            assert_int_equal(sscanf(user->consumer[i].filter, "clm.event.%63[^.]", origin), 1);
            (void)snprintf(expected, sizeof(expected), "%s_%s", user->name, origin);
            assert_string_equal(user->consumer[i].durable, expected);
            assert_string_not_equal(origin, user->name);
        }
    }
}

static void password_that_could_break_out_of_the_file_is_refused(void **state)
{
    (void)state;
    const char *bad[] = {"short", "0123456789abcdef\"", "0123456789abcdef\n", "0123456789abcdef $x"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO_SECRET struct secret *good = secret_dup("0123456789abcdef", 16);
        AUTO_SECRET struct secret *wrong = secret_dup(bad[i], strlen(bad[i]));
        const struct secret *passwords[8] = {good, good, good, good, wrong};
        AUTO_BUF struct buf out;
        buf_init(&out, 0);
        struct status st = {0};
        assert_int_equal(bus_users_conf(passwords, &out, &st), CODE_INVALID_ARGUMENT);
        assert_null(strstr(st.msg, bad[i])); /* never in a message */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_of_a_user_is_a_method_with_rights),
        cmocka_unit_test(only_services_that_need_authority_may_ask_for_it),
        cmocka_unit_test(durables_are_named_for_service_and_origin),
        cmocka_unit_test(password_that_could_break_out_of_the_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
