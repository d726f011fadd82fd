/* `clm-agent setup`: what it writes is what the agent then may do, and nothing without a yes. */
#include "harness.h"

#include <sys/stat.h>

#include "agent/setup.h"
#include "base/clock.h"
#include "stores/store.h"

static struct status st;
static char *shown;
static size_t shown_len;

static bool run_setup(const struct setup_options *options)
{
    bool written = false;
    FILE *in = fopen("/dev/null", "re");
    free(shown);
    shown = NULL;
    FILE *out = open_memstream(&shown, &shown_len);
    memset(&st, 0, sizeof(st));
    enum code code = setup_run(options, in, out, &written, &st);
    (void)fclose(in);
    (void)fclose(out);
    st.code = code;
    return written;
}

static bool set_up(struct host *host, bool yes)
{
    struct setup_options options = {.config = host_path(host, "conf/agent.conf"),
                                    .manage = {{"nginx", host_path(host, "nginx.conf")}},
                                    .n_manage = 1,
                                    .yes = yes};
    return run_setup(&options);
}

static int setup(void **state)
{
    if (host_setup(state) != 0)
        return -1;
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    struct issued pair = issue(host, "alias.example.test", now - DAY_MS, now + 80 * DAY_MS);
    put_pair(host, &pair);
    issued_done(&pair);
    write_nginx_conf(host, NULL);
    return mkdir(host_path(host, "conf"), 0755);
}

static int teardown(void **state)
{
    free(shown);
    shown = NULL;
    return host_teardown(state);
}

static void nginx_becomes_a_target(void **state)
{
    struct host *host = *state;
    assert_true(set_up(host, true));
    char *path = host_path(host, "conf/agent.conf");
    if (policy_load(path, &host->policy, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    const struct policy_target *target;
    assert_int_equal(policy_find_target(host->policy, "nginx", &target, &st), CODE_OK);
    assert_string_equal(target->certificate, host_path(host, "cert.pem"));
    assert_string_equal(target->key, host_path(host, "key.pem"));
    char endpoint[32];
    (void)snprintf(endpoint, sizeof(endpoint), "127.0.0.1:%u", host->port);
    assert_string_equal(target->endpoint, endpoint);
    assert_string_equal(target->server_name, "www.example.test");
    char *names[] = {(char[]){"www.example.test"}, (char[]){"alias.example.test"}};
    assert_int_equal(policy_allows_names(host->policy, target, names, 2, &st), CODE_OK);
    assert_int_equal(policy_allows_operation(host->policy, CLM__TASK__KIND__RENEW, &st), CODE_OK);
    assert_int_equal(policy_allows_operation(host->policy, CLM__TASK__KIND__DISCOVER, &st), CODE_OK);
    assert_int_equal(policy_allows_discovery(host->policy, host->dir, &st), CODE_OK);
    const struct policy_reload *reload = policy_find_reload(host->policy, target->reload);
    assert_non_null(reload);
    assert_string_equal(reload->command[0], "/usr/sbin/nginx");
    assert_string_equal(reload->command[4], host_path(host, "nginx.conf"));
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0644);
    assert_non_null(strstr(shown, "[target nginx]"));
}

/* Whoever made the certificate in place wrote its names: not all of them are ones that a policy can have. */
static void an_odd_name_in_a_certificate_does_not_spoil_the_policy(void **state)
{
    struct host *host = *state;
    (void)shell(host,
                "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 "
                "-subj /CN=odd -keyout key.pem -out cert.pem "
                "-addext 'subjectAltName=DNS:*,DNS:www*.example.test,DNS:bad/name,DNS:alias.example.test' "
                "2>/dev/null");
    assert_true(set_up(host, true));
    if (policy_load(host_path(host, "conf/agent.conf"), &host->policy, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    const struct policy_target *target = host->policy->targets[0];
    char *names[] = {(char[]){"www.example.test"}, (char[]){"alias.example.test"}};
    assert_int_equal(policy_allows_names(host->policy, target, names, 2, &st), CODE_OK);
    assert_null(strstr(shown, "bad/name"));
}

static void renewal_works_with_what_setup_wrote(void **state)
{
    struct host *host = *state;
    start_nginx(host);
    assert_true(set_up(host, true));
    assert_int_equal(policy_load(host_path(host, "conf/agent.conf"), &host->policy, &st), CODE_OK);
    Clm__TaskSpec spec = CLM__TASK_SPEC__INIT;
    Clm__RenewSpec renew = CLM__RENEW_SPEC__INIT;
    spec.has_kind = true;
    spec.kind = CLM__TASK__KIND__RENEW;
    spec.renew = &renew;
    renew.target = (char *)(uintptr_t) "nginx";
    char *names[] = {(char[]){"www.example.test"}};
    renew.dns_names = names;
    renew.n_dns_names = 1;
    AUTO_OUTCOME struct outcome out = run_kind(host, &spec);
    if (out.code != CODE_OK)
        fail_msg("%s", out.st.msg);
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__SUCCEEDED);
}

static void what_stands_there_is_kept_and_nothing_comes_twice(void **state)
{
    struct host *host = *state;
    char *path = host_path(host, "conf/agent.conf");
    write_text(path,
               "# mine\n[agent]\ngateway = gw.example.test:8443\n[policy] \noperations = validate\n# note\n"
               "[reload nginx]\ncommand = /bin/true\n",
               0600);
    assert_true(set_up(host, true));
    assert_int_equal(policy_load(path, &host->policy, &st), CODE_OK);
    assert_string_equal(host->policy->gateway, "gw.example.test:8443");
    assert_int_equal(policy_allows_operation(host->policy, CLM__TASK__KIND__VALIDATE, &st), CODE_OK);
    assert_int_equal(policy_allows_operation(host->policy, CLM__TASK__KIND__RENEW, &st), CODE_OK);
    assert_string_equal(policy_find_reload(host->policy, "nginx")->command[0], "/bin/true");
    assert_string_equal(host->policy->targets[0]->reload, "nginx-2");
    const char *text = read_text(path);
    assert_non_null(strstr(text, "# mine\n"));
    assert_non_null(strstr(text, "# note\n"));
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_false(set_up(host, true));
    assert_int_equal(st.code, CODE_OK);
    assert_non_null(strstr(shown, "Nothing to do"));
    assert_string_equal(read_text(path), text);
}

static void without_a_terminal_nothing_is_written(void **state)
{
    struct host *host = *state;
    assert_false(set_up(host, false));
    assert_int_equal(st.code, CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(st.msg, "--yes"));
    assert_int_not_equal(access(host_path(host, "conf/agent.conf"), F_OK), 0);
}

static void broken_policy_is_not_overwritten(void **state)
{
    struct host *host = *state;
    write_text(host_path(host, "conf/agent.conf"), "[policy]\nnonsense = 1\n", 0644);
    assert_false(set_up(host, true));
    assert_int_equal(st.code, CODE_INVALID_ARGUMENT);
    assert_string_equal(read_text(host_path(host, "conf/agent.conf")), "[policy]\nnonsense = 1\n");
}

static void write_with_dir(struct host *host, const char *name, const char *format_of_dir)
{
    AUTO_BUF struct buf text = {0};
    for (const char *at = format_of_dir; *at; at++)
        assert_true(*at == '@' ? buf_puts(&text, host->dir) : buf_append(&text, at, 1));
    write_text(host_path(host, name), buf_text(&text), 0644);
}

static void every_server_gets_its_target_and_its_reload(void **state)
{
    struct host *host = *state;
    char *config = host_path(host, "conf/agent.conf");
    write_with_dir(host, "httpd.conf",
                   "Listen 127.0.0.1:8443\n<VirtualHost *:8443>\nServerName a.example.test\nSSLEngine on\n"
                   "SSLCertificateFile a.pem\nSSLCertificateKeyFile a.key\nSSLCertificateChainFile "
                   "c.pem\n</VirtualHost>\n"
                   "<VirtualHost *:8443>\nServerName b.example.test\nSSLEngine on\nSSLCertificateFile "
                   "b.pem\n</VirtualHost>\n");
    write_with_dir(host, "main.cf",
                   "myhostname = mail.example.test\nsmtpd_tls_security_level = may\n"
                   "smtpd_tls_cert_file = @/m.pem\nsmtpd_tls_key_file = @/m.key\n");
    write_text(host_path(host, "master.cf"), "2525 inet n - n - - smtpd\n", 0644);
    struct setup_options options = {
        .config = config,
        .manage = {{"nginx", host_path(host, "nginx.conf")},
                   {"apache", host_path(host, "httpd.conf")},
                   {"postfix", host_path(host, "main.cf")}},
        .n_manage = 3,
        .yes = true,
    };
    assert_true(run_setup(&options));
    if (policy_load(config, &host->policy, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    const struct policy_target *target;
    assert_int_equal(policy_find_target(host->policy, "nginx", &target, &st), CODE_OK);
    assert_string_equal(target->reload, "nginx");
    assert_int_equal(policy_find_target(host->policy, "apache-a.example.test", &target, &st), CODE_OK);
    assert_string_equal(target->chain, host_path(host, "c.pem"));
    assert_string_equal(target->preset, "apache");
    assert_string_equal(target->configuration, host_path(host, "httpd.conf"));
    assert_int_equal(policy_find_target(host->policy, "apache-b.example.test", &target, &st), CODE_OK);
    assert_null(target->key);
    assert_string_equal(policy_find_reload(host->policy, "apache")->command[4], "graceful");
    assert_int_equal(policy_find_target(host->policy, "postfix", &target, &st), CODE_OK);
    assert_string_equal(target->endpoint, "127.0.0.1:2525");
    assert_string_equal(target->starttls, "smtp");
    assert_string_equal(target->server_name, "mail.example.test");
}

static void what_cannot_be_managed_is_left_out_and_told(void **state)
{
    struct host *host = *state;
    char *config = host_path(host, "conf/agent.conf");
    write_with_dir(host, "dovecot.conf", "ssl_cert = <@/cert.pem\nssl_key = <@/key.pem\n");
    write_with_dir(host, "postgresql.conf",
                   "ssl = on\nssl_cert_file = '/etc/ssl/certs/ssl-cert-snakeoil.pem'\n"
                   "ssl_key_file = '/etc/ssl/private/ssl-cert-snakeoil.key'\n");
    struct setup_options options = {
        .config = config,
        .manage = {{"nginx", host_path(host, "nginx.conf")},
                   {"dovecot", host_path(host, "dovecot.conf")},
                   {"postgresql", host_path(host, "postgresql.conf")}},
        .n_manage = 3,
        .yes = true,
    };
    assert_true(run_setup(&options));
    assert_non_null(strstr(shown, "Left out: postgresql: "));
    assert_non_null(strstr(shown, "placeholder"));
    assert_int_equal(policy_load(config, &host->policy, &st), CODE_OK);
    assert_null(policy_find_reload(host->policy, "postgresql"));
    /* One file for two servers is one target, and both are told. */
    assert_null(host->policy->targets[1]);
    assert_string_equal(host->policy->targets[0]->reload, "nginx dovecot");
    assert_string_equal(host->policy->targets[0]->reloads[1]->name, "dovecot");
    options.manage[0] = (struct setup_server){"apache", host_path(host, "httpd.conf")};
    write_with_dir(host, "httpd.conf",
                   "Listen 1\nSSLEngine on\nSSLCertificateFile cert.pem\nSSLCertificateKeyFile key.pem\n");
    options.n_manage = 1;
    policy_free(host->policy);
    host->policy = NULL;
    assert_false(run_setup(&options));
    assert_non_null(strstr(shown, "is [target nginx] already"));
}

static void a_keystore_is_opened_with_the_password_of_its_server(void **state)
{
    struct host *host = *state;
    const struct policy_target *target;
    char *config = host_path(host, "conf/agent.conf");
    int64_t now = clock_wall_ms();
    struct issued pair = issue(host, "t.example.test", now - DAY_MS, now + 80 * DAY_MS);
    AUTO_SECRET struct secret *password = secret_dup("pass word", 9), *content = NULL;
    struct policy_target as = {.name = (char[]){"t"}, .format = STORE_PKCS12};
    struct store_parts parts = {.leaf_pem = {pair.cert_pem.data, pair.cert_pem.len},
                                .key = pair.key_pem,
                                .old = {.password = password}};
    struct arena *arena = arena_new();
    struct store_tool tool = {.target = &as, .password = password};
    if (store_make(&tool, &parts, arena, &content, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    write_file(host_path(host, "t.p12"), content->data, content->len, 0600);
    assert_int_equal(mkdir(host_path(host, "tc"), 0755), 0);
    write_with_dir(host, "tc/server.xml",
                   "<Server><Service><Connector port='8443' SSLEnabled='true'><SSLHostConfig>"
                   "<Certificate certificateKeystoreFile='@/t.p12' certificateKeystorePassword='pass word'/>"
                   "<Certificate certificateKeystoreFile='@/cert.pem' certificateKeystorePassword='x'/>"
                   "<Certificate certificateKeystoreFile='@/none.p12' certificateKeystorePassword='${p}'/>"
                   "</SSLHostConfig></Connector></Service></Server>");
    struct setup_options options = {
        .config = config,
        .manage = {{"tomcat", host_path(host, "tc/server.xml")}},
        .n_manage = 1,
        .command = "/bin/true",
        .yes = true,
    };
    assert_true(run_setup(&options));
    assert_null(strstr(shown, "pass word"));
    assert_non_null(strstr(shown, "only the server knows"));
    if (policy_load(config, &host->policy, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    assert_int_equal(policy_find_target(host->policy, "tomcat", &target, &st), CODE_OK);
    assert_int_equal(target->format, STORE_PKCS12);
    assert_string_equal(target->dns_names[0], "t.example.test");
    assert_string_equal(target->password_file, host_path(host, "conf/tomcat.password"));
    assert_string_equal(read_text(target->password_file), "pass word");
    struct stat info;
    assert_int_equal(stat(target->password_file, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    issued_done(&pair);
    arena_free(arena);
}

/* Whoever may write a site's file must not write lines of the policy. */
static void a_path_cannot_bring_lines_of_its_own(void **state)
{
    struct host *host = *state;
    write_text(host_path(host, "nginx.conf"),
               "http { server { listen 127.0.0.1:1 ssl; ssl_certificate_key /k;\n"
               " ssl_certificate \"/x\n[reload evil]\ncommand = /bin/sh\"; } }\n",
               0644);
    assert_false(set_up(host, true));
    assert_int_equal(st.code, CODE_OK);
    assert_non_null(strstr(shown, "cannot stand in the policy"));
    assert_int_not_equal(access(host_path(host, "conf/agent.conf"), F_OK), 0);
}

static void what_nobody_knows_the_administrator_says(void **state)
{
    struct host *host = *state;
    write_with_dir(host, "haproxy.cfg", "frontend a\n bind 127.0.0.1:8443 ssl crt @/both.pem\n");
    struct setup_options options = {
        .config = host_path(host, "conf/agent.conf"),
        .manage = {{"haproxy", host_path(host, "haproxy.cfg")}},
        .n_manage = 1,
        .yes = true,
    };
    assert_false(run_setup(&options));
    assert_int_equal(st.code, CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(st.msg, "--command"));
    options.command = "/usr/local/bin/tell-haproxy 'a b'";
    options.test = "/bin/true";
    assert_true(run_setup(&options));
    assert_int_equal(policy_load(options.config, &host->policy, &st), CODE_OK);
    const struct policy_reload *reload = policy_find_reload(host->policy, "haproxy");
    assert_string_equal(reload->command[1], "a b");
    assert_string_equal(reload->test[0], "/bin/true");
}

static void wrong_arguments_are_told(void **state)
{
    (void)state;
    char *bad[] = {(char[]){"setup"}, (char[]){"--manage"}, (char[]){"sendmail"}, NULL};
    assert_int_equal(setup_main(3, bad), 2);
    char *nowhere[] = {(char[]){"setup"}, (char[]){"--manage"}, (char[]){"nginx="}, NULL};
    assert_int_equal(setup_main(3, nowhere), 2);
    char *whose[] = {(char[]){"setup"}, (char[]){"--command"}, (char[]){"/bin/true"}, NULL};
    assert_int_equal(setup_main(3, whose), 2);
    char *more[] = {(char[]){"setup"}, (char[]){"now"}, NULL};
    assert_int_equal(setup_main(2, more), 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(nginx_becomes_a_target),
        TEST(an_odd_name_in_a_certificate_does_not_spoil_the_policy),
        TEST(renewal_works_with_what_setup_wrote),
        TEST(what_stands_there_is_kept_and_nothing_comes_twice),
        TEST(without_a_terminal_nothing_is_written),
        TEST(broken_policy_is_not_overwritten),
        TEST(every_server_gets_its_target_and_its_reload),
        TEST(what_cannot_be_managed_is_left_out_and_told),
        TEST(a_keystore_is_opened_with_the_password_of_its_server),
        TEST(a_path_cannot_bring_lines_of_its_own),
        TEST(what_nobody_knows_the_administrator_says),
        TEST(wrong_arguments_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
