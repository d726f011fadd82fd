/* Loading configurations: what a reader asks for is loaded, whatever stands in its place. */
#include "harness.h"

#include <sys/stat.h>

#include "presets/preset.h"

static struct arena *arena;
static struct status st;

static int setup(void **state)
{
    arena = arena_new();
    return host_setup(state);
}

static int teardown(void **state)
{
    arena_free(arena);
    return host_teardown(state);
}

static const Clm__Agent__Facts *look(const char *name, const char *conf)
{
    const Clm__Agent__Facts *facts = NULL;
    if (preset_look(preset_find(name), conf, arena, &facts, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    return facts;
}

/* Included files may include others: three rounds here. */
static void what_is_included_is_loaded(void **state)
{
    struct host *host = *state;
    write_text(host_path(host, "nginx.conf"), "http { include enabled/*; }\n", 0600);
    assert_int_equal(mkdir(host_path(host, "enabled"), 0700), 0);
    assert_int_equal(mkdir(host_path(host, "available"), 0700), 0);
    write_text(host_path(host, "available/b"), "server { include one.inc; server_name b.test; }\n", 0600);
    write_text(host_path(host, "one.inc"), "include two.inc;\n", 0600);
    write_text(host_path(host, "two.inc"),
               "listen 444 ssl; ssl_certificate /b.pem; ssl_certificate_key /b.key;\n", 0600);
    assert_int_equal(symlink("../available/b", host_path(host, "enabled/b.conf")), 0);
    const Clm__Agent__Facts *facts = look("nginx", host_path(host, "nginx.conf"));
    assert_int_equal(facts->n_servers, 1);
    assert_string_equal(facts->servers[0]->names[0], "b.test");
    assert_string_equal(facts->servers[0]->used_by, "nginx");
}

static void what_is_no_regular_file_holds_nobody_up(void **state)
{
    struct host *host = *state;
    write_text(
        host_path(host, "nginx.conf"),
        "http { include x/*; include /dev/zero; include /dev/tty; include /proc/self/mem; include /etc;\n"
        " server { listen 1 ssl; ssl_certificate /a; ssl_certificate_key /a; } }\n",
        0600);
    assert_int_equal(mkdir(host_path(host, "x"), 0700), 0);
    assert_int_equal(mkfifo(host_path(host, "x/pipe"), 0600), 0);
    assert_int_equal(symlink("loop", host_path(host, "x/loop")), 0);
    assert_int_equal(mkdir(host_path(host, "x/dir"), 0700), 0);
    write_file(host_path(host, "x/nul"), "a\0b", 3, 0600);
    AUTO_FREE char *huge = calloc(1, CONF_FILE_BYTES_MAX + 1);
    assert_non_null(huge);
    memset(huge, ' ', CONF_FILE_BYTES_MAX + 1);
    write_file(host_path(host, "x/huge"), huge, CONF_FILE_BYTES_MAX + 1, 0600);
    assert_int_equal(look("nginx", host_path(host, "nginx.conf"))->n_servers, 1);
}

static void number_and_size_of_files_have_an_end(void **state)
{
    struct host *host = *state;
    write_text(host_path(host, "nginx.conf"), "http { include x/*; }\n", 0600);
    assert_int_equal(mkdir(host_path(host, "x"), 0700), 0);
    for (unsigned i = 0; i < CONF_FILES_MAX + 20; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "x/%u", i);
        write_text(host_path(host, name),
                   "server { listen 1 ssl; ssl_certificate /a; ssl_certificate_key /a; }\n", 0600);
    }
    assert_int_equal(look("nginx", host_path(host, "nginx.conf"))->n_servers, CONF_SERVERS_MAX);
}

static void lists_name_what_is_there_and_no_key_is_read(void **state)
{
    struct host *host = *state;
    AUTO_BUF struct buf conf = {0};
    assert_int_equal(mkdir(host_path(host, "d"), 0700), 0);
    write_text(host_path(host, "d/a.pem"), "", 0600);
    write_text(host_path(host, "d/a.pem.key"), "", 0000);
    assert_true(buf_printf(&conf, "frontend a\n bind :443 ssl crt %s/d\n", host->dir));
    write_text(host_path(host, "haproxy.cfg"), buf_text(&conf), 0600);
    const Clm__Agent__Facts *facts = look("haproxy", host_path(host, "haproxy.cfg"));
    assert_int_equal(facts->n_servers, 1);
    assert_string_equal(facts->servers[0]->key, host_path(host, "d/a.pem.key"));
}

static void a_missing_configuration_is_told(void **state)
{
    struct host *host = *state;
    const Clm__Agent__Facts *facts;
    assert_int_equal(preset_look(preset_find("apache"), host_path(host, "none"), arena, &facts, &st),
                     CODE_NOT_FOUND);
    assert_non_null(strstr(st.msg, "there is no configuration at"));
    assert_int_equal(preset_look(preset_find("apache"), host->dir, arena, &facts, &st),
                     CODE_FAILED_PRECONDITION);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_is_included_is_loaded),           TEST(what_is_no_regular_file_holds_nobody_up),
        TEST(number_and_size_of_files_have_an_end), TEST(lists_name_what_is_there_and_no_key_is_read),
        TEST(a_missing_configuration_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
