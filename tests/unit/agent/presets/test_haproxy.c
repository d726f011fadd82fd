/* Reading HAProxy's configuration: which file serves which name on which socket. */
#include "reading.h"

static const Clm__Agent__Facts *parse(const char *dump)
{
    return reading(haproxy_read, "/etc/haproxy/haproxy.cfg", dump);
}

static void binds_are_found_with_their_files(void **state)
{
    (void)state;
    const Clm__Agent__Facts *facts = parse(
        "global\n  log /dev/log local0\n  crt-base /etc/haproxy/tls\n  pidfile /run/h.pid # here\n"
        "defaults\n  mode http\n  bind :1 ssl crt /not/in/defaults\n"
        "frontend www\n"
        "  bind :443,[::]:443,/run/sock,abns@x ssl crt site.pem alpn h2,http/1.1 crt '/srv/other one.pem'\n"
        "  bind *:80\n  bind ipv4@192.0.2.1:8443-8450 ssl crt /srv/range.pem\n"
        "backend b\n  server s 10.0.0.1:443 ssl crt /client.pem\n  bind :2 ssl crt /not/in/backends\n"
        "listen l\n  bind 127.0.0.1:9443 ssl crt \"$VAR/x\" crt /l.pem\n");
    assert_int_equal(facts->n_servers, 4);
    assert_row(facts, 0, "/etc/haproxy/tls/site.pem /etc/haproxy/tls/site.pem - 127.0.0.1:443,[::1]:443");
    assert_row(facts, 1, "/srv/other one.pem /srv/other one.pem - 127.0.0.1:443,[::1]:443");
    assert_row(facts, 2, "/srv/range.pem /srv/range.pem - 192.0.2.1:8443");
    assert_row(facts, 3, "/l.pem /l.pem - 127.0.0.1:9443");
    assert_string_equal(facts->servers[0]->store, "haproxy");
    assert_string_equal(facts->pid_file, "/run/h.pid");
}

static void directories_lists_and_keys_apart_are_followed(void **state)
{
    (void)state;
    const Clm__Agent__Facts *facts = parse(
        "# configuration file /etc/haproxy/haproxy.cfg:\n"
        "frontend a\n bind :443 ssl crt /d/ crt-list list.txt crt /e.pem\n"
        "# configuration file /d/:\n"
        "# configuration file /d/a.pem:\n"
        "# configuration file /d/a.pem.key:\n"
        "# configuration file /d/b.pem:\n"
        "# configuration file /d/b.pem.ocsp:\n"
        "# configuration file /e.pem:\n"
        "# configuration file /e.pem.key:\n"
        "# configuration file /etc/haproxy/list.txt:\n"
        "# a comment\n/l1.pem [alpn h2 ca-file x] www.example.test !no.example.test *.list.test\nl2.pem\n");
    assert_int_equal(facts->n_servers, 5);
    assert_row(facts, 0, "/d/a.pem /d/a.pem.key - 127.0.0.1:443");
    assert_row(facts, 1, "/d/b.pem /d/b.pem - 127.0.0.1:443");
    assert_row(facts, 2, "/l1.pem /l1.pem www.example.test,*.list.test 127.0.0.1:443");
    assert_row(facts, 3, "/etc/haproxy/l2.pem /etc/haproxy/l2.pem - 127.0.0.1:443");
    assert_row(facts, 4, "/e.pem /e.pem.key - 127.0.0.1:443");
}

static void nonsense_is_survived(void **state)
{
    (void)state;
    static const char *const dumps[] = {
        "",
        "frontend\nbind\nbind x\nbind x ssl\nbind x ssl crt\nbind : ssl crt x\nbind ,,, ssl crt x\n",
        "frontend a\nbind :443 ssl crt 'open\nbind :443 ssl crt-list \n",
        "frontend a\nbind :443 ssl crt \\",
        "frontend a\nbind :99999 ssl crt /a\nbind @:1 ssl crt /a\nbind unix@x:1 ssl crt /a",
    };
    for (size_t i = 0; i < ARRAY_LEN(dumps); i++)
        assert_int_equal(parse(dumps[i])->n_servers, i == 2 || i == 3 ? 1 : 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        READING(binds_are_found_with_their_files),
        READING(directories_lists_and_keys_apart_are_followed),
        READING(nonsense_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
