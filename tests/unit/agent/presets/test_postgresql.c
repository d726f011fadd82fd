/* Reading PostgreSQL's configuration. */
#include "reading.h"

static const Clm__Agent__Facts *parse(const char *dump)
{
    return reading(postgresql_read, "/etc/postgresql/15/main/postgresql.conf", dump);
}

static void files_and_sockets_are_found(void **state)
{
    (void)state;
    const Clm__Agent__Facts *facts = parse(
        "data_directory = '/var/lib/postgresql/15/main'\t\t# use data in another directory\n"
        "listen_addresses = 'localhost, 192.0.2.1,::1'\nport = 5433\t\t\t# (change requires restart)\n"
        "ssl = on\n#ssl_cert_file = '/no'\nssl_cert_file = '/etc/ssl/it''s.pem'\nssl_key_file server.key\n");
    assert_int_equal(facts->n_servers, 1);
    assert_row(facts, 0,
               "/etc/ssl/it's.pem /var/lib/postgresql/15/main/server.key - "
               "localhost:5433,192.0.2.1:5433,[::1]:5433");
    assert_string_equal(facts->servers[0]->starttls, "postgresql");
    assert_true(has_want(facts, "/var/lib/postgresql/15/main/postgresql.auto.conf"));
}

static void the_later_setting_counts(void **state)
{
    (void)state;
    const Clm__Agent__Facts *facts =
        parse("# configuration file /d/postgresql.conf:\n"
              "ssl = off\nssl_cert_file = 'a.pem'\ninclude_dir 'conf.d'\ninclude_if_exists = '/none'\n"
              "# configuration file /d/conf.d/tls.conf:\n"
              "SSL = TRUE\nssl_cert_file = 'b.pem'\nlisten_addresses = '*'\ninclude 'more.inc'\n"
              "# configuration file /d/conf.d/more.inc:\n"
              "ssl_key_file = 'c.key'\n"
              "# configuration file /d/postgresql.auto.conf:\n"
              "ssl_cert_file = 'auto.pem'\n");
    assert_row(facts, 0, "/d/auto.pem /d/c.key - 127.0.0.1:5432");
}

static void without_tls_there_is_nothing(void **state)
{
    (void)state;
    assert_int_equal(parse("ssl_cert_file = '/a'\n")->n_servers, 0);
    assert_int_equal(parse("ssl = on\nlisten_addresses = ''\n")->n_servers, 0);
    assert_int_equal(parse("ssl = on\nport = x\n")->n_servers, 0);
    assert_row(parse("ssl = on\n"), 0,
               "/etc/postgresql/15/main/server.crt /etc/postgresql/15/main/server.key - localhost:5432");
}

static void nonsense_is_survived(void **state)
{
    (void)state;
    static const char *const dumps[] = {
        "",
        "=",
        "= =\n",
        "ssl",
        "ssl =",
        "ssl = '",
        "ssl = '''",
        "ssl = 'on\\",
        "include",
        "include ''",
        "include postgresql.conf\ninclude_dir .\n",
        "# configuration file /d/a:\ninclude a\ninclude b\n# configuration file /d/b:\ninclude b\ninclude "
        "a\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(dumps); i++)
        assert_int_equal(parse(dumps[i])->n_servers, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        READING(files_and_sockets_are_found),
        READING(the_later_setting_counts),
        READING(without_tls_there_is_nothing),
        READING(nonsense_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
