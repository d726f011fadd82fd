/* Reading Dovecot's configuration. */
#include "reading.h"

static const Clm__Agent__Facts *parse(const char *dump)
{
    return reading(dovecot_read, "/etc/dovecot/dovecot.conf", dump);
}

static void listeners_of_the_protocols_are_found(void **state)
{
    (void)state;
    const Clm__Agent__Facts *facts = parse(
        "# configuration file /etc/dovecot/dovecot.conf:\n"
        "!include_try /usr/share/dovecot/protocols.d/*.protocol\n#listen = *, ::\n!include conf.d/*.conf\n"
        "# configuration file /usr/share/dovecot/protocols.d/imapd.protocol:\n"
        "protocols = $protocols imap\n"
        "# configuration file /etc/dovecot/conf.d/10-master.conf:\n"
        "service imap-login {\n  inet_listener imap {\n    port = 1143\n  }\n  inet_listener imaps {\n"
        "    #port = 993\n    address = 127.0.0.3\n    ssl = yes\n  }\n}\n"
        "service auth {\n  unix_listener auth-userdb {\n    mode = 0600\n  }\n}\n"
        "# configuration file /etc/dovecot/conf.d/10-ssl.conf:\n"
        "ssl = required # always\nssl_cert = </etc/dovecot/private/dovecot.pem\n"
        "ssl_key = <\"/no\"\nssl_key = </etc/dovecot/private/dovecot.key\n");
    assert_int_equal(facts->n_servers, 2);
    assert_row(facts, 0, "/etc/dovecot/private/dovecot.pem /etc/dovecot/private/dovecot.key - 127.0.0.3:993");
    assert_null(facts->servers[0]->starttls);
    assert_row(facts, 1,
               "/etc/dovecot/private/dovecot.pem /etc/dovecot/private/dovecot.key - 127.0.0.1:1143");
    assert_string_equal(facts->servers[1]->starttls, "imap");
}

static void names_have_their_own_certificates(void **state)
{
    (void)state;
    const Clm__Agent__Facts *facts =
        parse("protocols = pop3\nlisten = \"192.0.2.1\"\nssl_cert = </a.pem\nssl_key = </a.key\n"
              "service pop3-login {\n inet_listener pop3 {\n port = 0\n }\n inet_listener more {\n port = "
              "1995\n ssl = yes\n }\n}\n"
              "local_name mail.example.test {\n ssl_cert = </b.pem\n ssl_key = </b.key\n}\n"
              "protocol pop3 {\n ssl_cert = </not-for-all.pem\n}\n"
              "local 10.0.0.1 {\n protocol imap {\n ssl_cert = </neither.pem\n }\n}\n");
    assert_int_equal(facts->n_servers, 4);
    assert_row(facts, 0, "/a.pem /a.key - 192.0.2.1:995");
    assert_row(facts, 1, "/a.pem /a.key - 192.0.2.1:1995");
    assert_row(facts, 2, "/b.pem /b.key mail.example.test 192.0.2.1:995");
}

static void words_of_version_2_4_are_known(void **state)
{
    (void)state;
    const Clm__Agent__Facts *facts = parse("protocols {\n imap = yes\n}\nssl_server_cert_file = /a.pem\n"
                                           "ssl_server_key_file = /a.key\n");
    assert_row(facts, 0, "/a.pem /a.key - 127.0.0.1:993");
}

static void without_tls_there_is_nothing(void **state)
{
    (void)state;
    assert_int_equal(parse("ssl = no\nssl_cert = </a\nssl_key = </b\n")->n_servers, 0);
    assert_int_equal(parse("ssl_cert = inline\nssl_key = </b\n")->n_servers, 0);
    assert_int_equal(parse("protocols = lmtp\nssl_cert = </a\nssl_key = </b\n")->n_servers, 0);
}

static void nonsense_is_survived(void **state)
{
    (void)state;
    static const char *const dumps[] = {
        "",
        "{",
        "}",
        "}}}\n{\n{\n",
        "=",
        "= =\n",
        "ssl_cert =",
        "ssl_cert = <",
        "ssl_cert = \"",
        "!include",
        "!include ",
        "service {\ninet_listener {\nport = 1\n",
        "inet_listener x {\nport = 1\n}\n",
        "local_name {\nssl_cert = </x\n}\n",
        "# configuration file /m:\n!include /m*\n!include /*\n# configuration file /m2:\n!include /m*\n",
        "service imap-login {\ninet_listener imap {\naddress = ,,,\nport = 99999\n}\n}\nssl_cert = </a\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(dumps); i++) {
        const Clm__Agent__Facts *facts = parse(dumps[i]);
        for (size_t n = 0; n < facts->n_servers; n++)
            assert_true(facts->servers[n]->n_listens > 0);
    }
    AUTO_BUF struct buf deep = {0};
    for (int i = 0; i < 20000; i++)
        assert_true(buf_puts(&deep, "local_name a {\n"));
    assert_int_equal(parse(buf_text(&deep))->n_servers, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        READING(listeners_of_the_protocols_are_found),
        READING(names_have_their_own_certificates),
        READING(words_of_version_2_4_are_known),
        READING(without_tls_there_is_nothing),
        READING(nonsense_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
