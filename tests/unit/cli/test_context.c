#include "cmocka_all.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/context.h"

static char dir[64];

static void put(const char *name, const char *text, mode_t mode)
{
    struct status st = {0};
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_int_equal(file_write_atomic(path, text, strlen(text), mode, &st), CODE_OK);
}

static int fresh(void **state)
{
    (void)state;
    char config[128];
    static const char *const names[] = {"CLMCTL_CONTEXT", "CLMCTL_URL", "CLMCTL_CA", "CLMCTL_API_KEY",
                                        "CLMCTL_API_KEY_FILE"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        unsetenv(names[i]);
    (void)snprintf(dir, sizeof(dir), "/tmp/clmctl-test-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(config, sizeof(config), "%s/config", dir);
    return setenv("CLMCTL_CONFIG", config, 1);
}

static int gone(void **state)
{
    (void)state;
    static const char *const names[] = {"config", "key"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        (void)unlink(path);
    }
    return rmdir(dir);
}

static const char two[] =
    "[clmctl]\ncontext = a\n[context a]\nurl = https://a:1/\nca = roots.pem\napi_key_file = key\n"
    "[context b]\nurl = https://b:2\n";

static void the_file_names_the_platform_its_root_and_the_key(void **state)
{
    (void)state;
    put("config", two, 0644);
    put("key", "clm_secret\n", 0600);
    struct context context;
    struct status st = {0};
    char ca[128];
    (void)snprintf(ca, sizeof(ca), "%s/roots.pem", dir);
    assert_int_equal(context_load(NULL, &context, &st), CODE_OK);
    assert_string_equal(context.url, "https://a:1");
    assert_string_equal(context.ca, ca);
    assert_string_equal((const char *)context.api_key->data, "clm_secret");
    context_done(&context);
}

static void a_key_that_others_may_read_is_refused(void **state)
{
    (void)state;
    put("config", two, 0644);
    put("key", "clm_secret\n", 0644);
    struct context context;
    struct status st = {0};
    assert_int_equal(context_load(NULL, &context, &st), CODE_PERMISSION_DENIED);
    assert_null(strstr(st.msg, "clm_secret"));
}

static void the_command_line_chooses_another_context(void **state)
{
    (void)state;
    put("config", two, 0644);
    struct context context;
    struct status st = {0};
    assert_int_equal(context_load("b", &context, &st), CODE_OK);
    assert_string_equal(context.url, "https://b:2");
    assert_null(context.api_key);
    context_done(&context);
}

static void a_context_that_is_not_there_is_named(void **state)
{
    (void)state;
    put("config", two, 0644);
    struct context context;
    struct status st = {0};
    assert_int_equal(context_load("c", &context, &st), CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(st.msg, "[context c]"));
}

static void the_environment_wins_over_the_file(void **state)
{
    (void)state;
    put("config", two, 0644);
    setenv("CLMCTL_URL", "https://c:3", 1);
    setenv("CLMCTL_API_KEY", "clm_other", 1);
    struct context context;
    struct status st = {0};
    assert_int_equal(context_load(NULL, &context, &st), CODE_OK);
    assert_string_equal(context.url, "https://c:3");
    assert_string_equal((const char *)context.api_key->data, "clm_other");
    context_done(&context);
}

static void plain_http_is_refused(void **state)
{
    (void)state;
    setenv("CLMCTL_URL", "http://c:3", 1);
    struct context context;
    struct status st = {0};
    assert_int_equal(context_load(NULL, &context, &st), CODE_FAILED_PRECONDITION);
}

static void without_any_configuration_the_error_says_where_to_write_it(void **state)
{
    (void)state;
    struct context context;
    struct status st = {0};
    assert_int_equal(context_load(NULL, &context, &st), CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(st.msg, dir));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh, gone)
    const struct CMUnitTest tests[] = {
        TEST(the_file_names_the_platform_its_root_and_the_key),
        TEST(a_key_that_others_may_read_is_refused),
        TEST(the_command_line_chooses_another_context),
        TEST(a_context_that_is_not_there_is_named),
        TEST(the_environment_wins_over_the_file),
        TEST(plain_http_is_refused),
        TEST(without_any_configuration_the_error_says_where_to_write_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
