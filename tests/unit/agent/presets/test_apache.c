/* Reading Apache's configuration: which file serves which name on which socket. */
#include "reading.h"

static const Clm__Agent__Facts *parse(const char *dump)
{
    return reading(apache_read, "/etc/apache2/apache2.conf", dump);
}

static void virtual_hosts_are_found_with_names_and_sockets(void **state)
{
    (void)state;
    const Clm__Agent__Facts *facts =
        parse("ServerRoot \"/etc/apache2\"\n"
              "LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so\n"
              "<IfModule ssl_module>\n\tListen 443\n  Listen 127.0.0.2:8443 https\n</IfModule>\n"
              "<IfModule mod_gnutls.c>\n Listen 4443\n</IfModule>\n"
              "Listen 80\n"
              "<VirtualHost *:80>\n ServerName plain.example.test\n</VirtualHost>\n"
              "<VirtualHost _default_:443>\n"
              "  ServerName https://www.example.test:443\n  ServerAlias *.example.test other.test \\\n   "
              "third.test\n"
              "  SSLEngine on\n  # SSLCertificateFile /no\n"
              "  SSLCertificateFile\t\"/etc/ssl/a file.pem\"\n  SSLCertificateKeyFile private/a.key\n"
              "  SSLCertificateChainFile /etc/ssl/chain.pem\n"
              "  <Directory /var/www>\n    SSLOptions +StdEnvVars\n  </Directory>\n"
              "</VirtualHost>\n"
              "<VirtualHost *:8443 [::1]:8443>\n SSLCertificateFile /etc/ssl/both.pem\n</VirtualHost>\n");
    assert_int_equal(facts->n_servers, 2);
    assert_row(facts, 0,
               "/etc/ssl/a file.pem /etc/apache2/private/a.key "
               "www.example.test,*.example.test,other.test,third.test "
               "127.0.0.1:443");
    assert_string_equal(facts->servers[0]->chain, "/etc/ssl/chain.pem");
    /* Without SSLEngine the protocol of Listen decides, and without a key file the certificate's holds it. */
    assert_row(facts, 1, "/etc/ssl/both.pem /etc/ssl/both.pem - 127.0.0.2:8443,[::1]:8443");
}

static void includes_conditions_and_variables_are_followed(void **state)
{
    (void)state;
    const Clm__Agent__Facts *facts = parse(
        "# configuration file /etc/apache2/apache2.conf:\n"
        "Define tls /etc/pki\nInclude mods-enabled/*.load\nInclude ports.conf\nIncludeOptional "
        "sites-enabled/*.conf\n"
        "Include extra\n"
        "<IfDefine tls>\n  Include only.conf\n</IfDefine>\n<IfDefine !tls>\n  Include "
        "never.conf\n</IfDefine>\n"
        "# configuration file /etc/apache2/mods-enabled/ssl.load:\n"
        "LoadModule ssl_module /m/mod_ssl.so\n"
        "# configuration file /etc/apache2/ports.conf:\n"
        "<IfModule !mod_ssl.c>\n Listen 1\n</IfModule>\n<IfModule mod_ssl.c>\nListen 443\n</IfModule>\n"
        "# configuration file /etc/apache2/sites-enabled/a.conf:\n"
        "<VirtualHost *:443>\nSSLEngine on\nServerName a.test\nInclude "
        "/etc/apache2/pair.inc\n</VirtualHost>\n"
        "# configuration file /etc/apache2/sites-enabled/sub/no.conf:\n"
        "<VirtualHost *:443>\nSSLEngine on\nSSLCertificateFile /no.pem\n</VirtualHost>\n"
        "# configuration file /etc/apache2/pair.inc:\n"
        "SSLCertificateFile ${tls}/a.pem\nSSLCertificateKeyFile ${tls}/a.key\n"
        "SSLCertificateFile ${unknown}/b.pem\n"
        "# configuration file /etc/apache2/extra/:\n"
        "# configuration file /etc/apache2/extra/x:\n"
        "<VirtualHost *:443>\nSSLEngine on\nServerName x.test\nSSLCertificateFile /x.pem\n</VirtualHost>\n");
    assert_int_equal(facts->n_servers, 2);
    assert_row(facts, 0, "/etc/pki/a.pem /etc/pki/a.key a.test 127.0.0.1:443");
    assert_row(facts, 1, "/x.pem /x.pem x.test 127.0.0.1:443");
    assert_true(has_want(facts, "/etc/apache2/sites-enabled/*.conf"));
    assert_true(has_want(facts, "/etc/apache2/only.conf"));
    assert_false(has_want(facts, "/etc/apache2/never.conf"));
}

static void hosts_inherit_from_the_main_server(void **state)
{
    (void)state;
    const Clm__Agent__Facts *facts = parse(
        "Listen 10.0.0.1:9443\nSSLEngine on\nSSLCertificateFile /main.pem\nSSLCertificateKeyFile /main.key\n"
        "<VirtualHost 10.0.0.1:9443>\nServerName a.test\n</VirtualHost>\n"
        "<VirtualHost 10.0.0.1:9443>\nServerName off.test\nSSLEngine off\n</VirtualHost>\n");
    assert_int_equal(facts->n_servers, 1);
    assert_row(facts, 0, "/main.pem /main.key a.test 10.0.0.1:9443");
    assert_row(parse("Listen 443\nSSLEngine on\nServerName only.test\nSSLCertificateFile m.pem\n"), 0,
               "/etc/apache2/m.pem /etc/apache2/m.pem only.test 127.0.0.1:443");
}

static void what_is_no_file_is_left_out(void **state)
{
    (void)state;
    assert_int_equal(
        parse("Listen 443\n<VirtualHost *:443>\nSSLEngine on\nSSLCertificateFile pkcs11:token=x\n"
              "</VirtualHost>\n<VirtualHost *:443>\nSSLEngine on\nSSLCertificateFile /a\xe9.pem\n"
              "</VirtualHost>\n<Macro H $f>\n<VirtualHost *:443>\nSSLEngine on\nSSLCertificateFile $f\n"
              "</VirtualHost>\n</Macro>\n")
            ->n_servers,
        0);
}

static void nonsense_is_survived(void **state)
{
    (void)state;
    static const char *const dumps[] = {
        "",
        "<",
        ">",
        "</>",
        "<>\n<>\n",
        "<VirtualHost",
        "<VirtualHost *:443>\nSSLCertificateFile",
        "\\",
        "a\\\n\\\n",
        "Listen\nListen :\nListen ]:\nListen [\nListen 99999999\n<VirtualHost ]: : [:>\nSSLCertificateFile "
        "/a\n",
        "Include apache2.conf\nInclude *\nInclude /*/*/*/*\n",
        "Define a ${a}\nServerRoot ${a}\nInclude ${a}\n",
        "<IfModule>\n<IfModule !>\n<IfDefine !>\n<VirtualHost>\n<VirtualHost>\n",
        "# configuration file /m:\nInclude /a\n# configuration file /a:\nInclude /a\nInclude /a\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(dumps); i++)
        assert_int_equal(parse(dumps[i])->n_servers, 0);
    AUTO_BUF struct buf deep = {0};
    for (int i = 0; i < 20000; i++)
        assert_true(buf_puts(&deep, "<IfVersion 2>\n"));
    assert_int_equal(parse(buf_text(&deep))->n_servers, 0);
}

/* Each file may include each other: the number of lines has an end. */
static void includes_in_a_circle_have_an_end(void **state)
{
    (void)state;
    AUTO_BUF struct buf dump = {0};
    assert_true(buf_puts(&dump, "# configuration file /etc/apache2/apache2.conf:\nInclude /c/*\n"));
    for (int i = 0; i < 20; i++)
        assert_true(buf_printf(&dump, "# configuration file /c/%d:\nInclude /c/*\nInclude /c/*\n", i));
    assert_int_equal(parse(buf_text(&dump))->n_servers, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        READING(virtual_hosts_are_found_with_names_and_sockets),
        READING(includes_conditions_and_variables_are_followed),
        READING(hosts_inherit_from_the_main_server),
        READING(what_is_no_file_is_left_out),
        READING(nonsense_is_survived),
        READING(includes_in_a_circle_have_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
