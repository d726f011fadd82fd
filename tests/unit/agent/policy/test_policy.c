/* How agent.conf is read: mistakes are named with their place, and who else may write it is refused. */
#include <sys/stat.h>

#include "fixture.h"

static void what_is_spoken_before_tls_is_written_or_follows_the_port(void **state)
{
    assert_int_equal(policy_read(*state,
                                 "[target a]\ncertificate = /t/a\nendpoint = 127.0.0.1:587\n"
                                 "[target b]\ncertificate = /t/b\nendpoint = 127.0.0.1:587\nstarttls = none\n"
                                 "[target c]\ncertificate = /t/c\nendpoint = 127.0.0.1:7\nstarttls = imap\n"
                                 "[target d]\ncertificate = /t/d\nendpoint = 127.0.0.1:443\n"
                                 "[target e]\ncertificate = /t/e\n"),
                     CODE_OK);
    static const enum starttls wanted[] = {STARTTLS_SMTP, STARTTLS_NONE, STARTTLS_IMAP, STARTTLS_NONE,
                                           STARTTLS_NONE};
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        assert_int_equal(policy_target_starttls(policy->targets[i]), wanted[i]);
    assert_int_equal(policy_read(*state, "[target a]\ncertificate = /t/a\nstarttls = ftp\n"),
                     CODE_INVALID_ARGUMENT);
    assert_says("[target a] starttls: \"ftp\" is none of none, smtp, imap, pop3, ldap, postgresql");
}

static void commands_become_argv_with_quotes(void **state)
{
    assert_int_equal(
        policy_read(*state,
                    "[reload x]\ncommand = /bin/echo 'a b' \"c\"d  e, \ntest = /bin/true\ntimeout = 5s\n"),
        CODE_OK);
    const struct policy_reload *reload = policy_find_reload(policy, "x");
    assert_non_null(reload);
    assert_string_equal(reload->command[0], "/bin/echo");
    assert_string_equal(reload->command[1], "a b");
    assert_string_equal(reload->command[2], "cd");
    assert_string_equal(reload->command[3], "e,");
    assert_null(reload->command[4]);
    assert_string_equal(reload->test[0], "/bin/true");
    assert_null(reload->pre);
    assert_int_equal(reload->timeout_ms, 5000);
    assert_null(policy_find_reload(policy, "y"));
}

static void keys_that_a_store_has_no_use_for_are_refused(void **state)
{
    static const struct {
        const char *lines, *says;
    } wrong[] = {
        {"store = p12\n", "none of pem"},
        {"store = haproxy\nkey = /k\n", "key: a store of the kind haproxy has none"},
        {"store = pkcs12\npassword_file = /p\nchain = /x\n", "chain: a store of the kind pkcs12 has none"},
        {"store = pkcs12\n", "password_file: a store of the kind pkcs12 needs one"},
        {"password_file = /p\n", "password_file: a store of the kind pem has none"},
        {"alias = a\n", "alias: a store of the kind pem has none"},
        {"store = pkcs12\npassword_file = /p\nalias = a b\n", "alias: has other characters"},
        {"store = pkcs12\npassword_file = /p\nencryption = rc2\n", "neither modern nor legacy"},
    };
    char text[256];
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        (void)snprintf(text, sizeof(text), "[target t]\ncertificate = /c\n%s", wrong[i].lines);
        assert_int_equal(policy_read(*state, text), CODE_INVALID_ARGUMENT);
        assert_says(wrong[i].says);
    }
    assert_int_equal(
        policy_read(*state, "[target t]\nstore = pkcs12\ncertificate = /c\npassword_file = /p\nalias = a\n"
                            "encryption = legacy\n"),
        CODE_OK);
    assert_int_equal(policy->targets[0]->format, STORE_PKCS12);
}

static void mistakes_are_named(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"[reload x]\ncommand = nginx -s reload\n", "absolute path"},
        {"[reload x]\ncommand = /bin/echo 'a\n", "a quote is not closed"},
        {"[reload x]\ncommand = /a\npre = b\n", "[reload x] pre: starts with"},
        {"[reload x]\ncommand = /a\nfailure = '\n", "a quote is not closed"},
        {"[reload x]\ncommand = /a\nenvironment = A=1 B\n", "\"B\" is not NAME=value"},
        {"[reload x]\ncommand = /a\nenvironment = CLM_TASK=1\n", "\"CLM_TASK=1\" is not NAME=value"},
        {"[target a]\ncertificate = /c\npreset = sendmail\n", "no server is called \"sendmail\""},
        {"[policy]\noperations = renew delete\n", "\"delete\" is none of"},
        {"[policy]\ndns_names = *.*.example\n", "dns_names: \"*.*.example\""},
        {"[target a]\ncertificate = /c\nreload = none\n", "there is no [reload none]"},
        {"[reload x]\ncommand = /a\n[target a]\ncertificate = /c\nreload = x none\n",
         "there is no [reload none]"},
        {"[reload x]\ncommand = /a\n[target a]\ncertificate = /c\nreload = x x x x x x x x x\n",
         "one too many"},
        {"[target a]\ncertificate = /c\nendpoint = localhost\n",
         "[target a] endpoint: \"localhost\" is not host:port"},
        {"[target a]\ncertificate = /c\nendpoint = ::1:443\n", "[address]:port"},
        {"[target a]\ncertificate = /c\nendpoint = h:70000\n", "is not host:port"},
        {"[target a]\ncertificate = /c\nkey = /k\nchain = /k\n", "same file"},
        {"[target a b]\ncertificate = /c\n", "letters, digits"},
        {"[target a]\nkey = /k\n", "certificate"},
        {"[policy]\npaths = /x\n", "unknown key \"paths\""},
        {"[policy]\ndiscovery_roots = etc\n", "not absolute"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_not_equal(policy_read(*state, cases[i].text), CODE_OK);
        assert_says(cases[i].says);
        assert_says("agent.conf");
    }
}

static void file_that_others_may_change_is_refused(void **state)
{
    struct host *host = *state;
    assert_int_equal(policy_read(host, ""), CODE_OK);
    char *path = host_path(host, "agent.conf");
    policy_free(policy);
    policy = NULL;
    assert_int_equal(chmod(path, 0664), 0);
    assert_int_equal(policy_load(path, &policy, &st), CODE_PERMISSION_DENIED);
    assert_says("chmod go-w");
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(chmod(host->dir, 0777), 0);
    assert_int_equal(policy_load(path, &policy, &st), CODE_PERMISSION_DENIED);
    assert_int_equal(chmod(host->dir, 0700), 0);
    assert_int_equal(rename(path, host_path(host, "other")), 0);
    assert_int_equal(symlink(host_path(host, "other"), path), 0);
    assert_int_equal(policy_load(path, &policy, &st), CODE_PERMISSION_DENIED);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(policy_load(path, &policy, &st), CODE_NOT_FOUND);
}

static void file_of_another_user_is_refused(void **state)
{
    struct host *host = *state;
    if (geteuid() != 0) {
        assert_int_equal(policy_load("/proc/1/environ", &policy, &st), CODE_PERMISSION_DENIED);
        return;
    }
    write_text(host_path(host, "agent.conf"), "", 0644);
    assert_int_equal(chown(host_path(host, "agent.conf"), 65534, 65534), 0);
    assert_int_equal(policy_load(host_path(host, "agent.conf"), &policy, &st), CODE_PERMISSION_DENIED);
    assert_says("chown root");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, host_setup, policy_teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_is_spoken_before_tls_is_written_or_follows_the_port),
        TEST(commands_become_argv_with_quotes),
        TEST(keys_that_a_store_has_no_use_for_are_refused),
        TEST(mistakes_are_named),
        TEST(file_that_others_may_change_is_refused),
        TEST(file_of_another_user_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
