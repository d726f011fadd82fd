/* Reading Postfix's main.cf and master.cf. */
#include "reading.h"

static const Clm__Agent__Facts *parse(const char *dump)
{
    return reading(postfix_read, "/etc/postfix/main.cf", dump);
}

static void services_are_found_with_their_files(void **state)
{
    (void)state;
    const Clm__Agent__Facts *facts =
        parse("# configuration file /etc/postfix/main.cf:\n"
              "# a comment\nmyhostname = mail.$mydomain\nmydomain = example.test\n"
              "smtpd_tls_cert_file=${config_directory}/tls/site.pem\n"
              "smtpd_tls_key_file =\n  $config_directory/tls/site.key\nsmtpd_tls_security_level = may\n"
              "# configuration file /etc/postfix/master.cf:\n"
              "# service type  private unpriv  chroot  wakeup  maxproc command + args\n"
              "smtp      inet  n       -       y       -       -       smtpd\n"
              "#submission inet n - y - - smtpd\n"
              "127.0.0.1:submissions inet n - y - - smtpd\n  -o syslog_name=postfix/smtps\n"
              "# in between\n  -o smtpd_tls_wrappermode=yes\n  -o { smtpd_tls_cert_file = /other one.pem }\n"
              "10025 inet n - y - - smtpd -o smtpd_tls_security_level=none\n"
              "pickup    unix  n       -       y       60      1       pickup\n");
    assert_int_equal(facts->n_servers, 2);
    assert_row(facts, 0,
               "/etc/postfix/tls/site.pem /etc/postfix/tls/site.key mail.example.test 127.0.0.1:25");
    assert_string_equal(facts->servers[0]->starttls, "smtp");
    assert_row(facts, 1, "/other one.pem /etc/postfix/tls/site.key mail.example.test 127.0.0.1:465");
    assert_null(facts->servers[1]->starttls);
}

static void chain_files_come_before_single_ones(void **state)
{
    (void)state;
#define DUMP                                                                                                 \
    "# configuration file /etc/postfix/main.cf:\n"                                                           \
    "inet_interfaces = loopback-only\nsmtpd_use_tls = yes\nsmtpd_tls_cert_file = /no.pem\n"                  \
    "smtpd_tls_chain_files = %s\n"                                                                           \
    "# configuration file /etc/postfix/master.cf:\nsmtp inet n - y - - smtpd\n"
    char *text = arena_printf(arena, DUMP, "/a.key, /a.pem,\n /b.key,\n /b.pem");
    assert_row(parse(text), 0, "/a.pem /a.key - 127.0.0.1:25");
    assert_row(parse(text), 1, "/b.pem /b.key - 127.0.0.1:25");
    assert_int_equal(parse(arena_printf(arena, DUMP, "/both.pem"))->n_servers, 0);
}

static void nonsense_is_survived(void **state)
{
    (void)state;
    static const char *const main_files[] = {
        "",
        "=",
        "=\n=\n",
        "a",
        "smtpd_tls_cert_file = $smtpd_tls_cert_file\nsmtpd_tls_security_level = may\n",
        "smtpd_tls_cert_file = ${x\nsmtpd_tls_security_level = may\n",
        "smtpd_tls_cert_file = ${x?y}\nsmtpd_tls_security_level = may\n",
        "smtpd_tls_cert_file = $\nsmtpd_use_tls = yes\n",
        "a = $b\nb = $a\nmyhostname = $a\nsmtpd_tls_security_level = $b\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(main_files); i++) {
        const char *dump = arena_printf(
            arena,
            "# configuration file /etc/postfix/main.cf:\n%s\n# configuration file /etc/postfix/master.cf:\n"
            "smtp inet n - y - - smtpd -o\n-o {\nx inet\n: inet n - y - - smtpd\n]: inet n - y - - smtpd -o "
            "{ } -o {=}",
            main_files[i]);
        assert_int_equal(parse(dump)->n_servers, 0);
    }
    assert_true(has_want(parse("smtpd_use_tls = yes\n"), "/etc/postfix/master.cf"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        READING(services_are_found_with_their_files),
        READING(chain_files_come_before_single_ones),
        READING(nonsense_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
