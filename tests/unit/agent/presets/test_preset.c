/* The table of presets: each row is whole, and its commands fit where a configuration stands. */
#include "harness.h"

#include <pwd.h>
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

static const char *command, *test;

static enum code commands(const char *name, const char *conf, const char *pid_file)
{
    Clm__Agent__Facts facts = CLM__AGENT__FACTS__INIT;
    facts.pid_file = (char *)(uintptr_t)pid_file;
    command = test = NULL;
    return preset_commands(preset_find(name), conf, &facts, arena, &command, &test, &st);
}

static void every_row_is_whole(void **state)
{
    (void)state;
    size_t n = 0;
    for (const struct preset *preset = presets; preset->name; preset++, n++) {
        assert_non_null(preset->read);
        assert_ptr_equal(preset_find(preset->name), preset);
        const struct preset_place *place = preset->places;
        for (; place->conf; place++) {
            assert_int_equal(place->conf[0], '/');
            assert_non_null(place->command);
        }
        assert_true(place > preset->places);
    }
    assert_int_equal(n, 7);
    assert_null(preset_find("sendmail"));
    assert_null(preset_find(NULL));
}

static void distributions_places_have_their_commands(void **state)
{
    (void)state;
    assert_int_equal(commands("nginx", "/etc/nginx/nginx.conf", NULL), CODE_OK);
    assert_string_equal(command, "/usr/sbin/nginx -s reload");
    assert_int_equal(commands("apache", "/etc/apache2/apache2.conf", NULL), CODE_OK);
    assert_string_equal(command, "/usr/sbin/apache2ctl graceful");
    assert_string_equal(test, "/usr/sbin/apache2ctl configtest");
    assert_int_equal(commands("postgresql", "/etc/postgresql/15/main/postgresql.conf", NULL), CODE_OK);
    assert_string_equal(command, "/usr/bin/pg_ctlcluster 15 main reload");
    assert_string_equal(test, "/usr/lib/postgresql/15/bin/postgres -C ssl -D /etc/postgresql/15/main");
    assert_int_equal(commands("tomcat", "/var/lib/tomcat10/conf/server.xml", NULL), CODE_OK);
    assert_string_equal(command, "/usr/sbin/service tomcat10 restart");
    assert_string_equal(test, "/usr/sbin/runuser -u tomcat -- /usr/bin/env CATALINA_BASE=/var/lib/tomcat10 "
                              "/usr/share/tomcat10/bin/catalina.sh configtest");
    assert_int_equal(commands("dovecot", "/etc/dovecot/dovecot.conf", NULL), CODE_OK);
    assert_string_equal(command, "/usr/bin/doveadm reload");
}

static void other_places_are_named_in_the_command(void **state)
{
    struct host *host = *state;
    char *conf = host_path(host, "x.conf");
    assert_int_equal(commands("apache", conf, NULL), CODE_OK);
    assert_string_equal(command, arena_printf(arena, "/usr/sbin/apache2 -f %s -k graceful", conf));
    assert_int_equal(commands("haproxy", conf, "/run/x.pid"), CODE_OK);
    assert_string_equal(command,
                        "/sbin/start-stop-daemon --stop --quiet --signal USR2 --exec /usr/sbin/haproxy "
                        "--pidfile /run/x.pid");
    assert_int_equal(commands("haproxy", conf, NULL), CODE_OK);
    assert_null(command); /* nobody knows */
    assert_non_null(test);
    write_text(host_path(host, "PG_VERSION"), "15\n", 0644);
    struct passwd *owner = getpwnam("nobody");
    bool give = geteuid() == 0;
    if (give)
        assert_int_equal(chown(host->dir, owner->pw_uid, owner->pw_gid), 0);
    assert_int_equal(commands("postgresql", conf, NULL), CODE_OK);
    assert_string_equal(command, arena_printf(arena, "%s/usr/lib/postgresql/15/bin/pg_ctl reload -D %s",
                                              give ? "/usr/sbin/runuser -u nobody -- " : "", host->dir));
}

static void a_path_that_would_be_more_than_a_word_is_refused(void **state)
{
    (void)state;
    assert_int_equal(commands("nginx", "/srv/a b/nginx.conf", NULL), CODE_INVALID_ARGUMENT);
    assert_int_equal(commands("nginx", "/srv/a\"b/nginx.conf", NULL), CODE_INVALID_ARGUMENT);
    assert_int_equal(commands("haproxy", "/srv/h.cfg", "/run/a b"), CODE_INVALID_ARGUMENT);
}

static unsigned seen;

static void on_conf(void *arg, const struct preset *preset, const char *conf, const Clm__Agent__Facts *facts,
                    const struct status *status)
{
    (void)status;
    if (strcmp(preset->name, "haproxy") == 0 && strcmp(conf, arg) == 0) {
        assert_non_null(facts);
        assert_int_equal(facts->n_servers, 1);
        assert_string_equal(facts->servers[0]->used_by, "haproxy");
        seen++;
    }
}

static void configurations_of_the_policys_targets_are_read(void **state)
{
    struct host *host = *state;
    char *conf = host_path(host, "haproxy.cfg");
    write_text(conf, "frontend a\n bind :443 ssl crt /x.pem\n", 0600);
    load_policy(host,
                arena_printf(arena,
                             "[target b]\ncertificate = /x.pem\npreset = haproxy\nconfiguration = %s\n"
                             "[target c]\ncertificate = /y.pem\npreset = haproxy\nconfiguration = %s\n",
                             conf, conf),
                NULL);
    seen = 0;
    presets_look(host->policy, arena, on_conf, conf);
    assert_int_equal(seen, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_row_is_whole),
        TEST(distributions_places_have_their_commands),
        TEST(other_places_are_named_in_the_command),
        TEST(a_path_that_would_be_more_than_a_word_is_refused),
        TEST(configurations_of_the_policys_targets_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
