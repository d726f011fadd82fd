#include "cmocka_all.h"

#include <unistd.h>

#include "base/config.h"
#include "base/file.h"

struct target {
    char *label, *certificate;
    int64_t timeout_ms;
};

struct conf {
    char *listen, *state_dir, *note;
    bool verbose;
    int64_t workers, interval_ms, max_body_bytes;
    char **paths;
    struct target targets[2];
    int target_count;
};

static const struct config_key keys[] = {
    {.section = "gateway",
     .name = "listen",
     .type = CONFIG_STRING,
     .offset = offsetof(struct conf, listen),
     .help = "address and port"},
    {.section = "gateway",
     .name = "workers",
     .type = CONFIG_INT,
     .offset = offsetof(struct conf, workers),
     .fallback = "2",
     .min = 1,
     .max = 64},
    {.section = "gateway",
     .name = "interval",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct conf, interval_ms),
     .fallback = "30s",
     .min = 5000,
     .max = 3600000},
    {.section = "gateway",
     .name = "max_body",
     .type = CONFIG_SIZE,
     .offset = offsetof(struct conf, max_body_bytes),
     .fallback = "512K"},
    {.section = "gateway",
     .name = "verbose",
     .type = CONFIG_BOOL,
     .offset = offsetof(struct conf, verbose),
     .fallback = "no"},
    {.section = "policy",
     .name = "paths",
     .type = CONFIG_LIST,
     .offset = offsetof(struct conf, paths),
     .optional = true},
    {.section = "policy",
     .name = "state_dir",
     .type = CONFIG_PATH,
     .offset = offsetof(struct conf, state_dir),
     .fallback = "state"},
    {.section = "policy",
     .name = "note",
     .type = CONFIG_STRING,
     .offset = offsetof(struct conf, note),
     .optional = true},
    {0},
};

static const struct config_key target_keys[] = {
    {.name = "certificate", .type = CONFIG_PATH, .offset = offsetof(struct target, certificate)},
    {.name = "timeout",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct target, timeout_ms),
     .fallback = "1m"},
    {0},
};

static void *on_target(void *arg, const char *label, struct status *st)
{
    struct conf *conf = arg;
    if (conf->target_count == 2) {
        status_set(st, CODE_RESOURCE_EXHAUSTED, "at most 2 targets");
        return NULL;
    }
    struct target *target = &conf->targets[conf->target_count++];
    target->label = strdup(label);
    return target;
}

static const struct config_group groups[] = {{"target", target_keys, on_target}, {0}};
static const struct config_schema schema = {keys, groups};

static char dir[] = "/tmp/clm-config-XXXXXX";
static char path[64];
static struct conf conf;
static struct status st;

static int setup_group(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/agent.conf", dir);
    return 0;
}

static int teardown_group(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static int clear(void **state)
{
    (void)state;
    config_done(keys, &conf);
    for (int i = 0; i < 2; i++) {
        config_done(target_keys, &conf.targets[i]);
        free(conf.targets[i].label);
    }
    conf = (struct conf){0};
    return 0;
}

static enum code load(const char *text)
{
    clear(NULL);
    st = (struct status){0};
    struct status io;
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0600, &io), CODE_OK);
    return config_load(&schema, path, &conf, &st);
}

static void refused(const char *text, const char *message)
{
    assert_int_equal(load(text), CODE_INVALID_ARGUMENT);
    assert_string_equal(st.msg, message);
}

static void every_type_is_read(void **state)
{
    (void)state;
    assert_int_equal(
        load("; comment\n[gateway]\nlisten = 0.0.0.0:8443\nworkers = 8\ninterval = 5m\nmax_body = 4M\n"
             "verbose = on\n[policy]\npaths = /a, /b /c\npaths = /d\nstate_dir = /var/lib/x\n"
             "[target nginx]\ncertificate = certs/a.pem\ntimeout = 250ms\n"),
        CODE_OK);
    assert_string_equal(conf.listen, "0.0.0.0:8443");
    assert_int_equal(conf.workers, 8);
    assert_int_equal(conf.interval_ms, 300000);
    assert_int_equal(conf.max_body_bytes, 4 * 1024 * 1024);
    assert_true(conf.verbose);
    assert_string_equal(conf.paths[3], "/d");
    assert_null(conf.paths[4]);
    assert_string_equal(conf.state_dir, "/var/lib/x");
    assert_int_equal(conf.target_count, 1);
    assert_string_equal(conf.targets[0].label, "nginx");
    assert_int_equal(conf.targets[0].timeout_ms, 250);
    char want[96];
    snprintf(want, sizeof(want), "%s/certs/a.pem", dir);
    assert_string_equal(conf.targets[0].certificate, want);
}

static void fallbacks_fill_what_the_file_leaves_out(void **state)
{
    (void)state;
    assert_int_equal(load("[gateway]\nlisten = x\n"), CODE_OK);
    assert_int_equal(conf.workers, 2);
    assert_int_equal(conf.interval_ms, 30000);
    assert_int_equal(conf.max_body_bytes, 512 * 1024);
    assert_null(conf.paths);
    assert_null(conf.note);
    char want[96];
    snprintf(want, sizeof(want), "%s/state", dir);
    assert_string_equal(conf.state_dir, want);
}

static void unknown_key_names_line_and_the_nearest(void **state)
{
    (void)state;
    refused("[gateway]\nlisten = x\n\n[policy]\npath = /a\n",
            "agent.conf:5: unknown key \"path\" in [policy]; did you mean \"paths\"?");
    refused("[policy]\nzzzzzzzz = 1\n", "agent.conf:2: unknown key \"zzzzzzzz\" in [policy]");
    refused("[gateway]\npaths = 1\n", "agent.conf:2: unknown key \"paths\" in [gateway]");
}

static void unknown_section_names_the_nearest(void **state)
{
    (void)state;
    refused("[gatewy]\nlisten = x\n", "agent.conf:1: unknown section \"gatewy\"; did you mean \"gateway\"?");
    refused("[gatewy]\n", "agent.conf:1: unknown section \"gatewy\"; did you mean \"gateway\"?");
    refused("[target]\ncertificate = x\n", "agent.conf:1: section [target] needs a name: [target NAME]");
}

static void bad_values_say_what_would_be_good(void **state)
{
    (void)state;
    refused("[gateway]\nworkers = many\n", "agent.conf:2: workers = \"many\" is not a whole number");
    refused("[gateway]\nworkers = 65\n", "agent.conf:2: workers = 65 is outside 1 to 64");
    refused("[gateway]\ninterval = 30\n",
            "agent.conf:2: interval = \"30\" is not a duration such as 250ms, 30s, 5m, 1h or 30d");
    refused("[gateway]\ninterval = 99999999999999999d\n",
            "agent.conf:2: interval = \"99999999999999999d\" is not a duration such as 250ms, 30s, 5m, 1h or "
            "30d");
    refused("[gateway]\ninterval = 1s\n", "agent.conf:2: interval = 1s is outside 5000 to 3600000 ms");
    refused("[gateway]\nverbose = maybe\n", "agent.conf:2: verbose = \"maybe\" is neither yes nor no");
    refused("[policy]\nstate_dir =\n", "agent.conf:2: state_dir is an empty path");
}

static void repeated_key_or_section_is_refused(void **state)
{
    (void)state;
    refused("[gateway]\nlisten = x\nlisten = y\n", "agent.conf:3: listen in [gateway] is set a second time");
    refused("[target a]\ncertificate = x\n[target a]\n",
            "agent.conf:3: section [target a] stands here a second time");
}

static void missing_required_key_is_named_with_its_environment_variable(void **state)
{
    (void)state;
    refused("[gateway]\nworkers = 1\n",
            "agent.conf: [gateway] lacks \"listen\" (or set CLM_GATEWAY_LISTEN): address and port");
    refused("[gateway]\nlisten = x\n[target a]\n", "agent.conf: [target a] lacks \"certificate\": required");
}

static void environment_wins_over_the_file(void **state)
{
    (void)state;
    setenv("CLM_GATEWAY_WORKERS", "33", 1);
    setenv("CLM_POLICY_PATHS", "/only", 1);
    enum code code = load("[gateway]\nlisten = x\nworkers = 3\n[policy]\npaths = /a\n");
    setenv("CLM_GATEWAY_WORKERS", "-3", 1);
    assert_int_equal(code, CODE_OK);
    assert_int_equal(conf.workers, 33);
    assert_string_equal(conf.paths[0], "/only");
    assert_null(conf.paths[1]);
    code = load("[gateway]\nlisten = x\n");
    unsetenv("CLM_GATEWAY_WORKERS");
    unsetenv("CLM_POLICY_PATHS");
    assert_int_equal(code, CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(st.msg, "environment CLM_GATEWAY_WORKERS"));
}

static void what_the_parser_would_cut_is_refused(void **state)
{
    (void)state;
    char text[1024] = "[gateway]\nlisten = ";
    size_t at = strlen(text);
    memset(text + at, 'x', 500);
    text[at + 500] = 0;
    assert_int_equal(load(text), CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(st.msg, "agent.conf:2: line longer than"));
    memcpy(text, "[target ", 8);
    memset(text + 8, 'x', 60);
    memcpy(text + 68, "]\n", 3);
    assert_int_equal(load(text), CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(st.msg, "section name longer than"));
}

static void line_that_is_neither_section_nor_pair_is_refused(void **state)
{
    (void)state;
    refused("[gateway]\nlisten = x\nnonsense\n", "agent.conf:3: neither a [section] nor key = value");
    refused("[gateway\nlisten = x\n", "agent.conf:1: section without its closing bracket");
}

static void refusal_of_a_section_carries_its_reason(void **state)
{
    (void)state;
    assert_int_equal(
        load("[gateway]\nlisten = x\n[target a]\ncertificate=x\n[target b]\ncertificate=x\n[target c]\n"),
        CODE_RESOURCE_EXHAUSTED);
    assert_string_equal(st.msg, "agent.conf:7: section [target c]: at most 2 targets");
}

static void one_section_is_read_from_a_file_that_is_wrong_elsewhere(void **state)
{
    (void)state;
    assert_int_equal(load("rubbish\n[policy]\nnot a pair\nnote = kept\nunknown = x\nstate_dir =\n[gateway]\n"
                          "workers = 9\n[policy\n[target a]\nnote = of the target\n"),
                     CODE_INVALID_ARGUMENT);
    clear(NULL);
    config_salvage(keys, "policy", path, &conf);
    assert_string_equal(conf.note, "kept");
    assert_string_equal(strrchr(conf.state_dir, '/'), "/state"); /* its fallback */
    assert_int_equal(conf.workers, 0);
    clear(NULL);
    config_salvage(keys, "policy", NULL, &conf);
    assert_null(conf.note);
    assert_non_null(conf.state_dir);
}

static void missing_file_is_not_found_and_no_file_is_allowed(void **state)
{
    (void)state;
    clear(NULL);
    assert_int_equal(config_load(&schema, "/nonexistent/a.conf", &conf, &st), CODE_NOT_FOUND);
    setenv("CLM_GATEWAY_LISTEN", "y", 1);
    enum code code = config_load(&schema, NULL, &conf, &st);
    unsetenv("CLM_GATEWAY_LISTEN");
    assert_int_equal(code, CODE_OK);
    assert_string_equal(conf.listen, "y");
}

#define TEST(name) cmocka_unit_test_teardown(name, clear)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_type_is_read),
        TEST(fallbacks_fill_what_the_file_leaves_out),
        TEST(unknown_key_names_line_and_the_nearest),
        TEST(unknown_section_names_the_nearest),
        TEST(bad_values_say_what_would_be_good),
        TEST(repeated_key_or_section_is_refused),
        TEST(missing_required_key_is_named_with_its_environment_variable),
        TEST(environment_wins_over_the_file),
        TEST(what_the_parser_would_cut_is_refused),
        TEST(line_that_is_neither_section_nor_pair_is_refused),
        TEST(refusal_of_a_section_carries_its_reason),
        TEST(one_section_is_read_from_a_file_that_is_wrong_elsewhere),
        TEST(missing_file_is_not_found_and_no_file_is_allowed),
    };
    return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
