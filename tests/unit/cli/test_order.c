#include "cmocka_all.h"

#include "cli/order.h"
#include "proto/tasks.pb-c.h"
#include <string.h>

#define AGENT "01890a5d-ac96-774b-bcce-b302099a8057"

static const struct cli_option options[] = {
    ORDER_OPTIONS, {"wait", NULL, "", .type = OPTION_FLAG}, {.name = NULL}};
static struct arena *arena;
static struct status st;
static Clm__CreateTaskRequest *request;

static enum code read_order(size_t n, const char *const *argv)
{
    struct cli_args args;
    st = (struct status){0};
    assert_int_equal(cli_args_parse(options, NULL, 1, (int)n, argv, &args, &st), CODE_OK);
    return order_read(&args, arena, &request, &st);
}
#define READ(...) read_order(ARRAY_LEN(((const char *[]){__VA_ARGS__})), (const char *[]){__VA_ARGS__})

static int set_up(void **state)
{
    (void)state;
    arena = arena_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_free(arena);
    return 0;
}

static void options_become_fields_of_the_kinds_specification(void **state)
{
    (void)state;
    assert_int_equal(READ("renew", "--agent", AGENT, "--target", "nginx", "--dns", "a.example,b.example",
                          "--key-type", "ec_p384", "--reuse-key", "--priority", "7", "--after", AGENT,
                          "--wait"),
                     CODE_OK);
    const Clm__RenewSpec *renew = request->spec->renew;
    assert_int_equal(request->spec->kind, CLM__TASK__KIND__RENEW);
    assert_string_equal(renew->target, "nginx");
    assert_int_equal(renew->n_dns_names, 2);
    assert_string_equal(renew->dns_names[1], "b.example");
    assert_int_equal(renew->key_type, CLM__RENEW_SPEC__KEY_TYPE__EC_P384);
    assert_true(renew->has_reuse_key && renew->reuse_key);
    assert_int_equal(request->priority, 7);
    assert_int_equal(request->n_after, 1);
    assert_false(request->has_break_glass);
}

static void one_option_means_what_its_kind_makes_of_it(void **state)
{
    (void)state;
    assert_int_equal(READ("discover", "--agent", AGENT, "--no-listening", "--range", "10.1.0.0/24", "--port",
                          "443,8443", "--server-name", "a.example"),
                     CODE_OK);
    const Clm__DiscoverSpec *discover = request->spec->discover;
    assert_true(discover->has_listening && !discover->listening && !discover->has_files);
    assert_int_equal(discover->n_ports, 2);
    assert_int_equal(discover->ports[1], 8443);
    assert_string_equal(discover->server_names[0], "a.example");
    assert_int_equal(READ("validate", "--agent", AGENT, "--endpoint", "127.0.0.1:443", "--server-name",
                          "b.example", "--starttls", "SMTP"),
                     CODE_OK);
    assert_string_equal(request->spec->validate->server_name, "b.example");
    assert_int_equal(request->spec->validate->starttls, CLM__VALIDATE_SPEC__STARTTLS__SMTP);
}

static void what_is_missing_or_goes_with_another_kind_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *argv[8], *says;
    } cases[] = {
        {{"destroy", "--agent", AGENT}, "no kind of task"},
        {{"renew", "--target", "nginx"}, "needs --agent"},
        {{"renew", "--agent", "nobody", "--target", "nginx"}, "not an agent id"},
        {{"renew", "--agent", AGENT}, "needs --target"},
        {{"deploy", "--agent", AGENT, "--target", "nginx"}, "needs --chain"},
        {{"validate", "--agent", AGENT}, "--target, --certificate or --endpoint"},
        {{"discover", "--agent", AGENT, "--dns", "a.example"}, "--dns does not go with discover"},
        {{"renew", "--agent", AGENT, "--target", "n", "--key-type", "dsa"}, "expected one of EC_P256"},
        {{"discover", "--agent", AGENT, "--port", "https"}, "--port"},
        {{"discover", "--agent", AGENT, "--root", "relative"}, "roots"},
        {{"deploy", "--agent", AGENT, "--target", "n", "--chain", "/nonexistent"}, "/nonexistent"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = 0;
        while (n < ARRAY_LEN(cases[i].argv) && cases[i].argv[n])
            n++;
        assert_int_not_equal(read_order(n, cases[i].argv), CODE_OK);
        if (!strstr(st.msg, cases[i].says))
            fail_msg("\"%s\" does not say \"%s\"", st.msg, cases[i].says);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(options_become_fields_of_the_kinds_specification),
        T(one_option_means_what_its_kind_makes_of_it),
        T(what_is_missing_or_goes_with_another_kind_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
