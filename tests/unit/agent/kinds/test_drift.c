/* What differs from what was intended is seen, on real files and a real nginx. */
#include "harness.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "kinds/drift.h"
#include "kinds/installed.h"
#include "pki/keystore.h"
#include "support/port.h"

static struct arena *arena;

static Clm__DriftReport check(struct host *host)
{
    Clm__DriftReport report;
    if (arena)
        arena_free(arena);
    arena = arena_new();
    drift_check(host->policy, host_path(host, "state"), NULL, arena, &report);
    return report;
}

/* The target's certificate is this one from now on. */
static void intend(struct host *host, const char *fingerprint)
{
    struct place_at at = {.target = host->policy->targets[0], .state_dir = host_path(host, "state")};
    intended_put(&at, fingerprint);
}

static pid_t api_pid; /* Kubernetes' */

static int teardown(void **state)
{
    if (arena)
        arena_free(arena);
    arena = NULL;
    if (api_pid > 0) {
        (void)kill(api_pid, SIGKILL);
        (void)waitpid(api_pid, NULL, 0);
        api_pid = 0;
    }
    return host_teardown(state);
}

static void assert_drift(struct host *host, const char *check_id, const char *says)
{
    Clm__DriftReport report = check(host);
    assert_int_equal(report.n_drifts, 1);
    assert_string_equal(report.drifts[0]->target, "nginx");
    assert_string_equal(report.drifts[0]->check, check_id);
    if (!strstr(report.drifts[0]->reason, says))
        fail_msg("\"%s\" is not in \"%s\"", says, report.drifts[0]->reason);
}

static void assert_sound(struct host *host)
{
    Clm__DriftReport report = check(host);
    if (report.n_drifts != 0)
        fail_msg("%s", report.drifts[0]->reason);
}

static pid_t nginx_worker(const struct host *host)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", host->nginx, host->nginx);
    return (pid_t)strtol(read_text(path), NULL, 10); /* the oldest: the former one as long as there is one */
}

/* Returns when the files were read and nobody answers with the former ones any more. */
static void reload_nginx(struct host *host)
{
    pid_t former = nginx_worker(host);
    assert_int_not_equal(former, 0);
    assert_int_equal(kill(host->nginx, SIGHUP), 0);
    for (int i = 0; i < 3000 && (nginx_worker(host) == former || nginx_worker(host) == 0); i++)
        (void)poll(NULL, 0, 10);
    assert_int_not_equal(nginx_worker(host), former);
}

static void whatever_differs_is_seen_and_gone_when_mended(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued pair = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    AUTO_ISSUED struct issued other = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    put_pair(host, &pair);
    write_nginx_conf(host, NULL);
    start_nginx(host);
    load_policy(host, NULL, NULL);
    assert_sound(host);

    /* Nothing was ever deployed: the files are whoever's, but they must be what is served. */
    put_pair(host, &other);
    assert_drift(host, "served", "reload the server");
    put_pair(host, &pair);
    assert_sound(host);

    intend(host, pair.fingerprint);
    assert_sound(host);
    put_pair(host, &other); /* somebody else's hand */
    assert_drift(host, "file", "was overwritten");
    put_pair(host, &pair);
    write_file(host_path(host, "key.pem"), other.key_pem->data, other.key_pem->len, 0600);
    assert_drift(host, "key-match", "not this certificate's");
    put_pair(host, &pair);
    assert_int_equal(unlink(host_path(host, "cert.pem")), 0);
    assert_drift(host, "file", "holds no certificate any more");
    put_pair(host, &other); /* deployed, but nobody reloaded */
    intend(host, other.fingerprint);
    assert_drift(host, "served", "reload the server");
    reload_nginx(host);
    assert_sound(host);

    /* A server that is down serves nothing: that is for others to see. */
    stop_nginx(host);
    assert_sound(host);
}

/* --- chains --------------------------------------------------------------------------------------------- */

struct middle {
    struct issuer *ca;
    struct der cert;
    struct buf pem;
};

static struct middle make_middle(struct host *host)
{
    struct status st;
    struct middle middle = {0};
    struct key *key = NULL;
    AUTO_DER struct der spki = {0};
    struct pki_names none = {0};
    int64_t now = clock_wall_ms();
    assert_int_equal(key_generate(KEY_EC_P256, &key, &st), CODE_OK);
    assert_int_equal(key_spki(key, &spki, &st), CODE_OK);
    struct cert_request req = {.spki = der_bytes(&spki),
                               .common_name = "Test Intermediate",
                               .names = &none,
                               .is_ca = true,
                               .path_len = -1,
                               .not_before_ms = now - DAY_MS,
                               .not_after_ms = now + 200 * DAY_MS};
    assert_int_equal(issuer_sign(host->ca, &req, &middle.cert, &st), CODE_OK);
    assert_int_equal(issuer_new(key, der_bytes(&middle.cert), &middle.ca, &st), CODE_OK);
    struct der_list list = {.item = {middle.cert}, .n = 1};
    assert_int_equal(certs_to_pem(&list, &middle.pem, &st), CODE_OK);
    return middle;
}

static struct issued issue_below(struct host *host, struct middle *middle)
{
    struct issuer *root = host->ca;
    int64_t now = clock_wall_ms();
    host->ca = middle->ca;
    struct issued issued = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    host->ca = root;
    return issued;
}

static void middle_done(struct middle *middle)
{
    issuer_free(middle->ca);
    der_done(&middle->cert);
    buf_done(&middle->pem);
}

static void put_chain(struct host *host, const struct issued *leaf, const struct buf *more)
{
    AUTO_BUF struct buf text = {0};
    assert_true(buf_puts(&text, buf_text(&leaf->cert_pem)) && buf_puts(&text, buf_text(more)));
    write_file(host_path(host, "cert.pem"), text.data, text.len, 0644);
    write_file(host_path(host, "key.pem"), leaf->key_pem->data, leaf->key_pem->len, 0600);
}

static void broken_chain_is_seen_in_the_file_and_on_the_socket(void **state)
{
    struct host *host = *state;
    struct middle middle = make_middle(host), stranger = make_middle(host);
    struct issued leaf = issue_below(host, &middle);
    struct buf nothing = {0};
    put_chain(host, &leaf, &middle.pem);
    write_nginx_conf(host, NULL);
    start_nginx(host);
    load_policy(host, NULL, NULL);
    intend(host, leaf.fingerprint);
    assert_sound(host); /* though the root is not known here: it was deployed so */

    put_chain(host, &leaf, &nothing); /* somebody took the intermediate out */
    assert_drift(host, "chain", "issuer is not known");
    reload_nginx(host);
    put_chain(host, &leaf, &middle.pem);
    assert_drift(host, "served-chain", "issuer is not known"); /* the file is right again, and was not read */
    reload_nginx(host);
    assert_sound(host);

    put_chain(host, &leaf, &stranger.pem); /* an intermediate that did not sign it */
    assert_drift(host, "chain", "");
    issued_done(&leaf);
    middle_done(&middle);
    middle_done(&stranger);
}

/* --- more than one process ------------------------------------------------------------------------------ */

/* Two servers on one port, of which one still has the former certificate. */
static void one_process_that_still_serves_the_old_one_is_seen(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued old = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    AUTO_ISSUED struct issued new = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    write_nginx_conf(host, NULL);
    char *conf = read_text(host_path(host, "nginx.conf")), *at = strstr(conf, " ssl;");
    AUTO_FREE char *shared = NULL;
    assert_true(asprintf(&shared, "%.*s ssl reuseport;%s", (int)(at - conf), conf, at + 5) > 0);
    write_text(host_path(host, "nginx.conf"), shared, 0644);
    put_pair(host, &old);
    start_nginx(host);
    pid_t with_old = host->nginx;
    put_pair(host, &new);
    start_nginx(host);
    load_policy(host, NULL, NULL);
    intend(host, new.fingerprint);
    bool some = false;
    for (int i = 0; i < 100 && !some; i++) {
        Clm__DriftReport report = check(host);
        some = report.n_drifts == 1 && strstr(report.drifts[0]->reason, "(some of its processes)");
    }
    assert_true(some);
    /* Once it was seen, a look closer does not lose sight of it. */
    struct arena *kept = arena;
    Clm__DriftReport before = check(host), after;
    for (int i = 0; i < 100 && before.n_drifts == 0; i++)
        before = check(host);
    kept = arena;
    arena = NULL;
    for (int i = 0; i < 5; i++) {
        struct arena *here = arena_new();
        drift_check(host->policy, host_path(host, "state"), &before, here, &after);
        assert_int_equal(after.n_drifts, 1);
        assert_string_equal(after.drifts[0]->check, "served");
        assert_string_equal(after.drifts[0]->served_sha256, old.fingerprint);
        arena_free(here);
    }
    arena_free(kept);
    assert_int_equal(kill(with_old, SIGTERM), 0);
    (void)waitpid(with_old, NULL, 0);
    assert_sound(host);
}

/* --- keystores and Kubernetes ----------------------------------------------------------------------------
 */

static void load_target(struct host *host, const char *lines)
{
    struct status st;
    AUTO_BUF struct buf conf = {0};
    assert_true(buf_printf(&conf,
                           "[agent]\nstate_dir=%s/state\n[policy]\noperations=deploy\n[target nginx]\n%s\n",
                           host->dir, lines));
    write_text(host_path(host, "agent.conf"), buf_text(&conf), 0644);
    policy_free(host->policy);
    host->policy = NULL;
    if (policy_load(host_path(host, "agent.conf"), &host->policy, &st) != CODE_OK)
        fail_msg("%s", st.msg);
}

static void put_keystore(struct host *host, const struct issued *pair, const char *with)
{
    struct status st;
    AUTO_KEY struct key *key = NULL;
    AUTO_SECRET struct secret *password = secret_dup(with, strlen(with)), *made = NULL;
    struct der_list chain = {.item = {pair->cert}, .n = 1};
    assert_int_equal(key_parse(pair->key_pem, NULL, &key, &st), CODE_OK);
    assert_int_equal(pkcs12_make(key, &chain, "tomcat", password, PKCS12_MODERN, &made, &st), CODE_OK);
    write_file(host_path(host, "store.p12"), made->data, made->len, 0600);
}

static void run_keytool(struct host *host)
{
    (void)shell(
        host, "rm -f store.jks && keytool -importkeystore -srckeystore store.p12 -srcstorepass:file password "
              "-destkeystore store.jks -deststoretype JKS -deststorepass:file password");
}

static void keystores_that_differ_are_seen(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued pair = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    AUTO_ISSUED struct issued other = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    write_text(host_path(host, "password"), "changeit", 0600);
    for (unsigned jks = 0; jks <= 1; jks++) {
        AUTO_FREE char *lines = NULL;
        assert_true(asprintf(&lines, "store=%s\ncertificate=%s/store.%s\npassword_file=%s/password\n",
                             jks ? "jks" : "pkcs12", host->dir, jks ? "jks" : "p12", host->dir) > 0);
        load_target(host, lines);
        put_keystore(host, &pair, "changeit");
        if (jks)
            run_keytool(host);
        intend(host, pair.fingerprint);
        assert_sound(host);
        put_keystore(host, &other, "changeit");
        if (jks)
            run_keytool(host);
        assert_drift(host, "file", "was overwritten");
        write_text(host_path(host, jks ? "store.jks" : "store.p12"), "no keystore", 0600);
        assert_drift(host, "file", "holds no certificate any more: ");
        if (!jks) {
            put_keystore(host, &pair, "another password");
            assert_drift(host, "file", "holds no certificate any more: ");
            write_text(host_path(host, "password"), "another password", 0600);
            assert_sound(host);
            write_text(host_path(host, "password"), "changeit", 0600);
        }
        assert_int_equal(unlink(host_path(host, jks ? "store.jks" : "store.p12")), 0);
        assert_drift(host, "file", "holds no certificate any more");
    }
}

static void put_secret(struct host *host, const struct issued *pair)
{
    put_pair(host, pair);
    (void)shell(
        host,
        "printf '{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"www-tls\","
        "\"resourceVersion\":\"7\"},\"type\":\"kubernetes.io/tls\",\"data\":{\"tls.crt\":\"%s\",\"tls.key\":"
        "\"%s\"}}' $(openssl base64 -A < cert.pem) $(openssl base64 -A < key.pem) > api/secret.json");
}

static void secret_of_kubernetes_that_differs_is_seen(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    unsigned port = (unsigned)port_free();
    char text[400], number[8];
    AUTO_ISSUED struct issued pair = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    AUTO_ISSUED struct issued other = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    (void)shell(host,
                "mkdir api && printf token > api/token && cp api/token token && openssl req -x509 -newkey ec "
                "-pkeyopt "
                "ec_paramgen_curve:P-256 -nodes -keyout api/api.key -out api/api.pem -days 2 -subj /CN=api "
                "-addext subjectAltName=IP:127.0.0.1");
    put_secret(host, &pair);
    (void)snprintf(number, sizeof(number), "%u", port);
    api_pid = fork();
    if (api_pid == 0) {
        (void)execl("/usr/bin/python3", "python3", "-B", KUBERNETES_API, host_path(host, "api"), number,
                    (char *)NULL);
        _exit(127);
    }
    (void)snprintf(
        text, sizeof(text),
        "for i in $(seq 300); do echo | openssl s_client -connect 127.0.0.1:%u && exit 0; sleep 0.1; done; "
        "false",
        port);
    (void)shell(host, text);
    (void)snprintf(text, sizeof(text),
                   "store=kubernetes\nsecret=web/www-tls\ntoken_file=%s/token\nca_file=%s/api/api.pem\n"
                   "api_server=127.0.0.1:%u\n",
                   host->dir, host->dir, port);
    load_target(host, text);
    intend(host, pair.fingerprint);
    assert_sound(host);
    put_secret(host, &other);
    assert_drift(host, "file", "was overwritten");
    put_secret(host, &pair);
    (void)shell(host, "python3 -c 'import json; d=json.load(open(\"api/secret.json\")); "
                      "d[\"data\"][\"tls.key\"]=\"eA==\"; json.dump(d, open(\"api/secret.json\",\"w\"))'");
    assert_drift(host, "key-match", "");
    assert_int_equal(unlink(host_path(host, "api/secret.json")), 0);
    assert_drift(host, "file", "holds no certificate any more");
    /* An API server that is away says nothing, and is not waited for. */
    (void)kill(api_pid, SIGKILL);
    (void)waitpid(api_pid, NULL, 0);
    api_pid = 0;
    assert_sound(host);
}

/* --- memory ----------------------------------------------------------------------------------------------
 */

static void what_is_intended_is_kept_and_damage_is_nothing(void **state)
{
    struct host *host = *state;
    struct intended found;
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued pair = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    load_policy(host, NULL, NULL);
    assert_false(intended_get(host_path(host, "state"), "nginx", &found));
    intend(host, pair.fingerprint); /* nothing is in place: of its chain nothing is known */
    assert_true(intended_get(host_path(host, "state"), "nginx", &found));
    assert_string_equal(found.leaf, pair.fingerprint);
    assert_string_equal(found.chain, "");
    put_pair(host, &pair);
    intend(host, pair.fingerprint);
    assert_true(intended_get(host_path(host, "state"), "nginx", &found));
    assert_int_equal(strlen(found.chain), 64);
    static const char *const damaged[] = {"not a fingerprint", "", "0123456789abcdef"};
    for (size_t i = 0; i < ARRAY_LEN(damaged); i++) {
        write_text(host_path(host, "state/intended/nginx"), damaged[i], 0600);
        assert_false(intended_get(host_path(host, "state"), "nginx", &found));
    }
    AUTO_FREE char *half = NULL;
    assert_true(asprintf(&half, "%s half", pair.fingerprint) > 0);
    write_text(host_path(host, "state/intended/nginx"), half, 0600);
    assert_false(intended_get(host_path(host, "state"), "nginx", &found));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, host_setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(whatever_differs_is_seen_and_gone_when_mended),
        TEST(broken_chain_is_seen_in_the_file_and_on_the_socket),
        TEST(one_process_that_still_serves_the_old_one_is_seen),
        TEST(keystores_that_differ_are_seen),
        TEST(secret_of_kubernetes_that_differs_is_seen),
        TEST(what_is_intended_is_kept_and_damage_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
