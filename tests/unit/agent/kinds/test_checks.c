/* Every check of the table, each made to fail by what it is there for: id, severity, reason and remedy. */
#include "harness.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "kinds/checks.h"
#include "support/port.h"

#define SELF_SIGNED                                                                                          \
    "openssl req -x509 -nodes -days 60 -subj /CN=www.example.test -addext "                                  \
    "subjectAltName=DNS:www.example.test -keyout key.pem -out cert.pem "

static pid_t web_pid; /* serves the CRL */

static struct issued sound(struct host *host)
{
    int64_t now = clock_wall_ms();
    struct issued pair = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    put_pair(host, &pair);
    return pair;
}

static void put_sound(struct host *host)
{
    AUTO_ISSUED struct issued pair = sound(host);
}

static void serve_sound(struct host *host)
{
    put_sound(host);
    write_nginx_conf(host, NULL);
    start_nginx(host);
}

/* --- what is wrong, by check -------------------------------------------------------------------------- */

static void no_certificate(struct host *host)
{
    put_sound(host);
    write_text(host_path(host, "cert.pem"), "no certificate", 0644);
}

static void key_of_another(struct host *host)
{
    AUTO_ISSUED struct issued pair = sound(host);
    put_sound(host);
    write_file(host_path(host, "key.pem"), pair.key_pem->data, pair.key_pem->len, 0600);
}

static void key_for_everybody(struct host *host)
{
    put_sound(host);
    assert_int_equal(chmod(host_path(host, "key.pem"), 0644), 0);
}

/* The root of somebody else behind the leaf. */
static void strange_chain(struct host *host)
{
    (void)shell(host, SELF_SIGNED "-newkey ec -pkeyopt ec_paramgen_curve:P-256 && mv cert.pem other.pem");
    put_sound(host);
    (void)shell(host, "cat other.pem >> cert.pem");
}

static void another_name(struct host *host)
{
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued pair = issue(host, "other.example.test", now - DAY_MS, now + 80 * DAY_MS);
    put_pair(host, &pair);
}

static void expired(struct host *host)
{
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued pair = issue(host, NULL, now - 90 * DAY_MS, now - DAY_MS);
    put_pair(host, &pair);
}

static void short_key(struct host *host)
{
    (void)shell(host, SELF_SIGNED "-newkey rsa:1024");
}

static void old_digest(struct host *host)
{
    (void)shell(host, SELF_SIGNED "-newkey rsa:2048 -sha1");
}

static void for_clients_only(struct host *host)
{
    (void)shell(host, SELF_SIGNED
                "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -addext extendedKeyUsage=clientAuth");
}

/* A CA of openssl's that has taken it back, and says so in a CRL. */
static void revoked(struct host *host)
{
    char line[1600], port[8];
    (void)snprintf(port, sizeof(port), "%d", port_free());
    (void)shell(host,
                "mkdir web && touch index.txt && echo 01 > serial && openssl req -x509 -newkey ec -pkeyopt "
                "ec_paramgen_curve:P-256 -nodes -days 30 -subj '/CN=Revoking CA' -keyout ca.key -out ca.pem");
    (void)snprintf(
        line, sizeof(line),
        "printf "
        "'[ca]\\ndefault_ca=a\\n[a]\\ndatabase=index.txt\\nserial=serial\\ncertificate=ca.pem\\nprivate_key="
        "ca.key\\n"
        "default_md=sha256\\npolicy=p\\nnew_certs_dir=.\\ndefault_crl_days=1\\n[p]\\ncommonName=supplied\\n["
        "leaf]\\n"
        "subjectAltName=DNS:www.example.test\\nextendedKeyUsage=serverAuth\\n"
        "crlDistributionPoints=URI:http://127.0.0.1:%s/ca.crl\\n' > ca.conf && "
        "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=www.example.test "
        "-keyout key.pem "
        "-out leaf.csr && openssl ca -batch -config ca.conf -extensions leaf -days 20 -notext -in leaf.csr "
        "-out cert.pem && "
        "openssl ca -config ca.conf -revoke cert.pem && openssl ca -config ca.conf -gencrl -out crl.pem && "
        "openssl crl -in crl.pem -outform DER -out web/ca.crl && cat ca.pem >> cert.pem && chmod 600 key.pem",
        port);
    (void)shell(host, line);
    web_pid = fork();
    if (web_pid == 0) {
        (void)execl("/usr/bin/python3", "python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory",
                    host_path(host, "web"), port, (char *)NULL);
        _exit(127);
    }
    (void)snprintf(line, sizeof(line),
                   "for i in $(seq 300); do curl -sf http://127.0.0.1:%s/ >/dev/null && exit 0; "
                   "sleep 0.1; done; false",
                   port);
    (void)shell(host, line);
}

static void nobody_listens(struct host *host)
{
    put_sound(host);
}

static void not_reloaded(struct host *host)
{
    serve_sound(host);
    put_sound(host);
}

static void strange_chain_served(struct host *host)
{
    strange_chain(host);
    write_nginx_conf(host, NULL);
    start_nginx(host);
}

/* The configuration gives the certificate a second name, and was not read since. */
static void second_name_not_served(struct host *host)
{
    struct issued other = sound(host);
    AUTO_BUF struct buf more = {0};
    write_file(host_path(host, "cert2.pem"), other.cert_pem.data, other.cert_pem.len, 0644);
    write_file(host_path(host, "key2.pem"), other.key_pem->data, other.key_pem->len, 0600);
    issued_done(&other);
    put_sound(host);
    assert_true(
        buf_printf(&more,
                   "server { listen 127.0.0.1:%u ssl; server_name second.example.test; ssl_certificate "
                   "cert2.pem; ssl_certificate_key key2.pem; return 204; }\n",
                   host->port));
    write_nginx_conf(host, buf_text(&more));
    start_nginx(host);
    (void)shell(host, "sed -i 's/cert2.pem/cert.pem/; s/key2.pem/key.pem/' nginx.conf");
}

static void old_protocols_only(struct host *host)
{
    put_sound(host);
    write_nginx_conf(host, "ssl_protocols TLSv1.1;\nssl_ciphers ALL:@SECLEVEL=0;\n");
    start_nginx(host);
}

static const struct {
    const char *id;
    void (*prepare)(struct host *host);
    const char *says;
} cases[] = {
    {"file", no_certificate, "CERTIFICATE"},
    {"key-match", key_of_another, "not this certificate's"},
    {"permissions", key_for_everybody, "0644"},
    {"chain", strange_chain, ""},
    {"names", another_name, "does not cover www.example.test"},
    {"validity", expired, "expired at"},
    {"weak-key", short_key, "1024 bits"},
    {"weak-signature", old_digest, "sha1"},
    {"eku", for_clients_only, "leaves TLS servers out"},
    {"revocation", revoked, "revoked"},
    {"reachable", nobody_listens, "cannot connect"},
    {"served", not_reloaded, "and not"},
    {"served-chain", strange_chain_served, ""},
    {"served-names", second_name_not_served, "as second.example.test"},
    {"protocol", old_protocols_only, "TLSv1.1 at best"},
};

static void each_fails_for_what_it_is_there_for(void **state)
{
    (void)state;
    for (size_t i = 0; checks[i].id; i++) {
        void *it;
        Clm__TaskSpec spec = CLM__TASK_SPEC__INIT;
        Clm__ValidateSpec validate = CLM__VALIDATE_SPEC__INIT;
        char lines[256];
        assert_true(i < ARRAY_LEN(cases));
        assert_string_equal(cases[i].id, checks[i].id); /* ids are for ever, and each has a case */
        assert_int_equal(host_setup(&it), 0);
        struct host *host = it;
        assert_int_equal(mkdir(host_path(host, "state"), 0700), 0);
        cases[i].prepare(host);
        (void)snprintf(lines, sizeof(lines), "endpoint = 127.0.0.1:%u\nserver_name = www.example.test\n",
                       host->port);
        load_policy(host, lines, NULL);
        char *fetch[] = {(char[]){"127.0.0.1"}, NULL}, **kept = host->policy->fetch_hosts;
        host->policy->fetch_hosts = fetch;
        spec.has_kind = true;
        spec.kind = CLM__TASK__KIND__VALIDATE;
        spec.validate = &validate;
        validate.target = (char[]){"nginx"};
        struct outcome out = run_kind(host, &spec);
        host->policy->fetch_hosts = kept;
        if (out.code != CODE_OK)
            fail_msg("%s: %s", checks[i].id, out.st.msg);
        const Clm__Check *check = find_check(&out, checks[i].id);
        if (!check || check->outcome != CLM__CHECK__OUTCOME__FAIL || !strstr(check->reason, cases[i].says))
            fail_msg("%s: \"%s\"", checks[i].id, check ? check->reason : "there is no such check");
        assert_int_equal(check->severity, checks[i].severity);
        assert_true(check->remedy && check->remedy[0]);
        assert_non_null(strstr(out.message, "fail"));
        outcome_done(&out);
        if (web_pid > 0) {
            (void)kill(web_pid, SIGKILL);
            (void)waitpid(web_pid, NULL, 0);
            web_pid = 0;
        }
        assert_int_equal(host_teardown(&it), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_fails_for_what_it_is_there_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
