#include "cmocka_all.h"

#include "tasks.h"

static char *const paths[] = {(char *)(uintptr_t) "/etc/ssl/**"};
static char *const names[] = {(char *)(uintptr_t) "*.example.com"};
static const struct scope scope = {.operations = SCOPE_OPERATION(KIND_RENEW) |
                                                 SCOPE_OPERATION(KIND_DISCOVER) |
                                                 SCOPE_OPERATION(KIND_VALIDATE),
                                   .paths = paths,
                                   .n_paths = 1,
                                   .dns_names = names,
                                   .n_dns_names = 1};
static struct status st;

static enum code check_name(const char *name)
{
    char *const list[] = {(char *)(uintptr_t) "a.example.com", (char *)(uintptr_t)name};
    struct spec_facts spec = {.kind = KIND_RENEW, .dns_names = list, .n_dns_names = 2};
    return scope_check_spec(&scope, &spec, &st);
}

static void operation_outside_the_scope_is_refused(void **state)
{
    (void)state;
    struct spec_facts spec = {.kind = KIND_DEPLOY};
    assert_int_equal(scope_check_spec(&scope, &spec, &st), CODE_PERMISSION_DENIED);
    assert_non_null(strstr(st.msg, "DEPLOY"));
    spec.kind = KIND_VALIDATE;
    assert_int_equal(scope_check_spec(&scope, &spec, &st), CODE_OK);
}

static void each_name_must_be_within_the_scope(void **state)
{
    (void)state;
    assert_int_equal(check_name("b.example.com"), CODE_OK);
    assert_int_equal(check_name("example.com"), CODE_PERMISSION_DENIED);
    assert_int_equal(check_name("b.example.org"), CODE_PERMISSION_DENIED);
    assert_non_null(strstr(st.msg, "b.example.org"));
    assert_int_equal(check_name("x.b.example.com"), CODE_PERMISSION_DENIED);
}

static void each_path_must_be_within_the_scope(void **state)
{
    (void)state;
    char *const in[] = {(char *)(uintptr_t) "/etc/ssl/a.pem"}, *const out[] = {
                                                                   (char *)(uintptr_t) "/etc/shadow"};
    struct spec_facts spec = {.kind = KIND_VALIDATE, .paths = in, .n_paths = 1};
    assert_int_equal(scope_check_spec(&scope, &spec, &st), CODE_OK);
    spec.paths = out;
    assert_int_equal(scope_check_spec(&scope, &spec, &st), CODE_PERMISSION_DENIED);
}

static void directory_is_within_the_scope_when_all_below_it_is(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *root;
        bool allowed;
    } cases[] = {
        {"/etc/ssl/**", "/etc/ssl", true},   {"/etc/ssl/**", "/etc/ssl/", true},
        {"/etc/ssl/**", "/etc/ssl/x", true}, {"/etc/ssl/**", "/etc", false},
        {"/etc/ssl/**", "/", false},         {"/**", "/", true},
        {"/etc/ssl/*", "/etc/ssl", false},   {"/etc/ssl/**", "/etc/sslx", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *const patterns[] = {(char *)(uintptr_t)cases[i].pattern}, *const roots[] = {
                                                                            (char *)(uintptr_t)cases[i].root};
        struct scope one = {.operations = SCOPE_OPERATION(KIND_DISCOVER), .paths = patterns, .n_paths = 1};
        struct spec_facts spec = {.kind = KIND_DISCOVER, .roots = roots, .n_roots = 1};
        if ((scope_check_spec(&one, &spec, &st) == CODE_OK) != cases[i].allowed)
            fail_msg("%s in %s", cases[i].root, cases[i].pattern);
    }
}

static void empty_scope_allows_nothing(void **state)
{
    (void)state;
    static const struct scope none;
    for (enum task_kind kind = KIND_DEPLOY; kind <= KIND_DISCOVER; kind++) {
        struct spec_facts spec = {.kind = kind};
        assert_int_equal(scope_check_spec(&none, &spec, &st), CODE_PERMISSION_DENIED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operation_outside_the_scope_is_refused),
        cmocka_unit_test(each_name_must_be_within_the_scope),
        cmocka_unit_test(each_path_must_be_within_the_scope),
        cmocka_unit_test(directory_is_within_the_scope_when_all_below_it_is),
        cmocka_unit_test(empty_scope_allows_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
