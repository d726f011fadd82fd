/* Reading Tomcat's server.xml. */
#include "reading.h"

#define SERVER(inner)                                                                                        \
    "<?xml version='1.0' encoding='UTF-8'?>\n<Server port='-1'><Service name='Catalina'>" inner              \
    "</Service></Server>"

static const Clm__Agent__Facts *parse(const char *dump)
{
    return reading(tomcat_read, "/var/lib/tomcat10/conf/server.xml", dump);
}

static void connectors_are_found_with_their_stores(void **state)
{
    (void)state;
    const Clm__Agent__Facts *facts = parse(SERVER(
        "<Connector port='8080' protocol='HTTP/1.1'/>"
        "<!-- <Connector port='1' SSLEnabled='true' keystoreFile='no'/> -->"
        "<Connector port='8443' SSLEnabled='true'>"
        "<SSLHostConfig><Certificate certificateKeystoreFile='conf/a.p12' certificateKeystoreType='PKCS12'"
        " certificateKeystorePassword='sec&amp;ret' type='RSA'/></SSLHostConfig>"
        "<SSLHostConfig hostName='www.example.test'>"
        "<Certificate certificateFile='${catalina.base}/conf/b.pem' certificateKeyFile='/b.key'"
        " certificateChainFile='/chain.pem'/></SSLHostConfig></Connector>"
        "<Connector port='9443' address='127.0.0.2' SSLEnabled='TRUE' keystoreFile='/old.jks'/>"
        "<Certificate certificateFile='/outside.pem'/>"));
    assert_int_equal(facts->n_servers, 3);
    assert_row(facts, 0, "/var/lib/tomcat10/conf/a.p12 /var/lib/tomcat10/conf/a.p12 - 127.0.0.1:8443");
    assert_string_equal(facts->servers[0]->store, "pkcs12");
    assert_string_equal(facts->servers[0]->password, "sec&ret");
    assert_row(facts, 1, "/var/lib/tomcat10/conf/b.pem /b.key www.example.test 127.0.0.1:8443");
    assert_string_equal(facts->servers[1]->chain, "/chain.pem");
    assert_null(facts->servers[1]->store);
    assert_row(facts, 2, "/old.jks /old.jks - 127.0.0.2:9443");
    assert_string_equal(facts->servers[2]->store, "keystore");
    assert_string_equal(facts->servers[2]->password, "changeit");
}

static void what_a_property_says_is_not_guessed(void **state)
{
    (void)state;
    const Clm__Agent__Facts *facts = parse(
        SERVER("<Connector port='${port}' SSLEnabled='true' keystoreFile='/a.p12'/>"
               "<Connector port='1' SSLEnabled='true'><SSLHostConfig>"
               "<Certificate certificateKeystoreFile='${file}'/>"
               "<Certificate certificateKeystoreFile='b.p12' certificateKeystorePassword='${secret}'/>"
               "<Certificate certificateKeystoreFile='c.p12' certificateKeystorePasswordFile='conf/pass'/>"
               "</SSLHostConfig></Connector>"));
    assert_int_equal(facts->n_servers, 2);
    assert_null(facts->servers[0]->password);
    assert_null(facts->servers[1]->password);
    assert_string_equal(facts->servers[1]->password_file, "/var/lib/tomcat10/conf/pass");
}

static void entities_are_refused(void **state)
{
    (void)state;
    static const char *const dumps[] = {
        "<!DOCTYPE Server [<!ENTITY a SYSTEM 'file:///etc/shadow'>]><Server>&a;</Server>",
        "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]><Server>&b;</Server>",
    };
    const Clm__Agent__Facts *facts;
    for (size_t i = 0; i < ARRAY_LEN(dumps); i++) {
        struct conf *conf = dump_conf("/c/server.xml", dumps[i], strlen(dumps[i]), arena);
        assert_int_equal(confine_run(tomcat_read, conf, arena, &facts, &st), CODE_INVALID_ARGUMENT);
        assert_string_equal(st.msg, "/c/server.xml declares a document type, which is not read");
    }
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    static const char *const dumps[] = {
        "", "<", "<a>", "<a></b>", "nope", "<a b='c' b='d'/>", "<a>\xff\xfe</a>"};
    const Clm__Agent__Facts *facts;
    for (size_t i = 0; i < ARRAY_LEN(dumps); i++) {
        struct conf *conf = dump_conf("/c/server.xml", dumps[i], strlen(dumps[i]), arena);
        assert_int_equal(confine_run(tomcat_read, conf, arena, &facts, &st), CODE_INVALID_ARGUMENT);
    }
    AUTO_BUF struct buf deep = {0};
    for (int i = 0; i < 20000; i++)
        assert_true(buf_puts(&deep, "<a>"));
    struct conf *conf = dump_conf("/c/server.xml", buf_text(&deep), deep.len, arena);
    assert_int_equal(confine_run(tomcat_read, conf, arena, &facts, &st), CODE_INVALID_ARGUMENT);
    assert_string_equal(st.msg, "/c/server.xml has too many elements");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        READING(connectors_are_found_with_their_stores),
        READING(what_a_property_says_is_not_guessed),
        READING(entities_are_refused),
        READING(nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
