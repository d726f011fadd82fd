/* Deploying to a real nginx: either the new certificate is served, or the old one still is. */
#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/id.h"
#include "pki/digest.h"

/* --- a crash anywhere: the wrapped functions end the process before or after their n-th call -------------
 */

static int crash_at; /* 0: never; odd: before call (n+1)/2, even: after call n/2 */
static int calls;

/* Done just before a step of that name is recorded. */
static const char *hook_step;
static void (*hook)(void);
static struct host *hook_host;

static void maybe_crash(bool after)
{
    if (crash_at && !after)
        calls++;
    if (crash_at && 2 * calls - (after ? 0 : 1) == crash_at)
        _exit(42);
}

enum code __real_journal_step(struct journal *journal, const char *step, const char *target, const char *path,
                              const char *other_path, const char *fingerprint, struct status *st);
enum code __wrap_journal_step(struct journal *journal, const char *step, const char *target, const char *path,
                              const char *other_path, const char *fingerprint, struct status *st);
enum code __wrap_journal_step(struct journal *journal, const char *step, const char *target, const char *path,
                              const char *other_path, const char *fingerprint, struct status *st)
{
    if (hook_step && strcmp(hook_step, step) == 0) {
        hook_step = NULL;
        hook();
    }
    maybe_crash(false);
    enum code code = __real_journal_step(journal, step, target, path, other_path, fingerprint, st);
    maybe_crash(true);
    return code;
}

int __real_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    maybe_crash(false);
    int rc = __real_renameat2(from_dir, from, to_dir, to, flags);
    maybe_crash(true);
    return rc;
}

/* A parser that its file kills, as a full memory may, too. */
enum code __real_pem_to_certs(struct bytes pem, struct der_list *ret, struct status *st);
enum code __wrap_pem_to_certs(struct bytes pem, struct der_list *ret, struct status *st);
enum code __wrap_pem_to_certs(struct bytes pem, struct der_list *ret, struct status *st)
{
    if (pem.len > 0 && memmem(pem.data, pem.len, "KILL THE PARSER", 15))
        (void)raise(SIGKILL);
    return __real_pem_to_certs(pem, ret, st);
}

/* --- helpers ------------------------------------------------------------------------------------------ */

static struct key *key_of(const struct issued *pair)
{
    struct key *key = NULL;
    struct status st;
    assert_int_equal(key_parse(pair->key_pem, NULL, &key, &st), CODE_OK);
    return key;
}

static struct issued old_pair(struct host *host)
{
    int64_t now = clock_wall_ms();
    struct issued pair = issue(host, NULL, now - 80 * DAY_MS, now + 10 * DAY_MS);
    put_pair(host, &pair);
    return pair;
}

static void assert_served(struct host *host, const char *fingerprint)
{
    char now[65];
    int64_t until = clock_mono_ms() + 5000;
    do { /* after two reloads, workers of the first may take a connection for a moment more */
        served(host, now);
    } while (strcmp(now, fingerprint) != 0 && clock_mono_ms() < until);
    assert_string_equal(now, fingerprint);
}

static void assert_ok(const struct outcome *out)
{
    if (out->code != CODE_OK)
        fail_msg("%s", out->st.msg);
}

static bool pair_on_disk_matches(struct host *host)
{
    struct status st;
    AUTO_DER_LIST struct der_list certs = {0};
    AUTO_KEY struct key *key = NULL;
    AUTO_SECRET struct secret *encoded = NULL;
    const char *pem = read_text(host_path(host, "cert.pem"));
    assert_int_equal(pem_to_certs((struct bytes){(const uint8_t *)pem, strlen(pem)}, &certs, &st), CODE_OK);
    assert_int_equal(secret_read_file(host_path(host, "key.pem"), 65536, false, &encoded, &st), CODE_OK);
    assert_int_equal(key_parse(encoded, NULL, &key, &st), CODE_OK);
    return key_matches_cert(key, der_bytes(&certs.item[0]));
}

/* Nothing of ours stays beside the target. */
static void assert_no_leftovers(struct host *host)
{
    char command[128];
    (void)snprintf(command, sizeof(command), "%s", host->dir);
    AUTO_FREE char *pattern = NULL;
    assert_true(asprintf(&pattern, "%s/.clm-%s-1-cert.new", host->dir, host->task_id) > 0);
    assert_int_not_equal(access(pattern, F_OK), 0);
    free(pattern);
    assert_true(asprintf(&pattern, "%s/.clm-%s-1-key.new", host->dir, host->task_id) > 0);
    assert_int_not_equal(access(pattern, F_OK), 0);
    free(pattern);
    assert_true(asprintf(&pattern, "%s/state/backup/%s-1-made.key", host->dir, host->task_id) > 0);
    assert_int_not_equal(access(pattern, F_OK), 0);
}

#define NOTHING "command = /bin/true\ntimeout = 1s\n"

/* --- the ways that it can go -------------------------------------------------------------------------- */

static void deployed_certificate_is_served(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host), fresh = issue_newer(host, &old, NULL);
    write_nginx_conf(host, NULL);
    start_nginx(host);
    load_policy(host, NULL, NULL);
    AUTO_OUTCOME struct outcome out = run_kind(host, deploying("nginx", &fresh));
    assert_ok(&out);
    assert_int_equal(out.code, CODE_OK);
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    assert_string_equal(out.result.fingerprint_before_sha256, old.fingerprint);
    assert_string_equal(out.result.fingerprint_after_sha256, fresh.fingerprint);
    assert_string_equal(out.result.served_fingerprint_sha256, fresh.fingerprint);
    assert_string_equal(out.result.certificate->dns_names[0], "www.example.test");
    assert_non_null(strstr(find_step(&out, "check")->message, "no root that this host knows"));
    assert_served(host, fresh.fingerprint);
    assert_no_leftovers(host);
}

static void renewal_makes_the_key_on_this_host(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host);
    write_nginx_conf(host, NULL);
    start_nginx(host);
    load_policy(host, NULL, NULL);
    char *key_before = read_text(host_path(host, "key.pem"));
    uid_t owner = geteuid() == 0 ? 33 : geteuid(); /* only root can give files away */
    assert_int_equal(chown(host_path(host, "key.pem"), owner, (gid_t)-1), 0);
    assert_int_equal(chmod(host_path(host, "key.pem"), 0600), 0);
    AUTO_OUTCOME struct outcome out = run_kind(host, renewing("nginx"));
    assert_ok(&out);
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    assert_int_equal(sign_calls, 1);
    assert_string_not_equal(read_text(host_path(host, "key.pem")), key_before);
    assert_true(pair_on_disk_matches(host));
    assert_served(host, out.result.certificate->fingerprint_sha256);
    struct stat info;
    assert_int_equal(stat(host_path(host, "key.pem"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(info.st_uid, owner);
    assert_int_equal(stat(host_path(host, "cert.pem"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0644);
    assert_no_leftovers(host);
}

static void renewal_with_the_key_in_place_keeps_it(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host);
    write_nginx_conf(host, NULL);
    start_nginx(host);
    load_policy(host, NULL, NULL);
    char *key_before = read_text(host_path(host, "key.pem"));
    const Clm__TaskSpec *spec = renewing("nginx");
    renew_spec.has_reuse_key = renew_spec.reuse_key = true;
    AUTO_OUTCOME struct outcome out = run_kind(host, spec);
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    assert_string_equal(read_text(host_path(host, "key.pem")), key_before);
    assert_string_not_equal(out.result.fingerprint_after_sha256, old.fingerprint);
}

static void first_installation_needs_no_file_in_place(void **state)
{
    struct host *host = *state;
    load_policy(host, "", NOTHING);
    const Clm__TaskSpec *spec = renewing("nginx");
    char *names[] = {(char[]){"www.example.test"}, (char[]){"127.0.0.1"}};
    renew_spec.dns_names = names;
    renew_spec.n_dns_names = 2;
    AUTO_OUTCOME struct outcome out = run_kind(host, spec);
    assert_ok(&out);
    /* Nothing to look at: it is installed, and nobody says that it is served. */
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
    assert_true(pair_on_disk_matches(host));
    struct stat info;
    assert_int_equal(stat(host_path(host, "key.pem"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

static void bundle_holds_key_and_certificate(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host), fresh = issue_newer(host, &old, NULL);
    AUTO_BUF struct buf both = {0};
    assert_true(buf_append(&both, old.cert_pem.data, old.cert_pem.len));
    assert_true(buf_append(&both, old.key_pem->data, old.key_pem->len));
    write_file(host_path(host, "cert.pem"), both.data, both.len, 0600);
    assert_int_equal(unlink(host_path(host, "key.pem")), 0);
    AUTO_FREE char *conf = NULL;
    struct status st;
    assert_true(
        asprintf(&conf,
                 "[agent]\nstate_dir=%s/state\n[policy]\noperations=deploy\ndns_names=*.example.test\n"
                 "[target nginx]\ncertificate=%s/cert.pem\n",
                 host->dir, host->dir) > 0);
    write_text(host_path(host, "agent.conf"), conf, 0644);
    assert_int_equal(policy_load(host_path(host, "agent.conf"), &host->policy, &st), CODE_OK);
    AUTO_OUTCOME struct outcome out = run_kind(host, deploying("nginx", &fresh));
    assert_ok(&out);
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
    const char *now = read_text(host_path(host, "cert.pem"));
    assert_non_null(strstr(now, "PRIVATE KEY"));
    assert_non_null(strstr(now, buf_text(&fresh.cert_pem)));
}

static void certificate_for_another_key_is_refused(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued old = old_pair(host), other = issue(host, NULL, now - 60000, now + 90 * DAY_MS);
    load_policy(host, NULL, NOTHING);
    AUTO_OUTCOME struct outcome out = run_kind(host, deploying("nginx", &other));
    assert_int_equal(out.code, CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(out.st.msg, "another key"));
    assert_string_equal(read_text(host_path(host, "cert.pem")), buf_text(&old.cert_pem));
    assert_no_leftovers(host);
}

/* What is no certificate may be replaced; of what could not be looked at nobody knows what it is. */
static void what_could_not_be_looked_at_is_not_replaced(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host), fresh = issue_newer(host, &old, NULL);
    AUTO_BUF struct buf content = {0};
    load_policy(host, NULL, NOTHING);
    assert_true(buf_puts(&content, buf_text(&old.cert_pem)) && buf_puts(&content, "KILL THE PARSER\n"));
    write_text(host_path(host, "cert.pem"), buf_text(&content), 0644);
    AUTO_OUTCOME struct outcome out = run_kind(host, deploying("nginx", &fresh));
    assert_int_equal(out.code, CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(out.st.msg, "parser was killed"));
    assert_string_equal(read_text(host_path(host, "cert.pem")), buf_text(&content));
    assert_no_leftovers(host);
    write_text(host_path(host, "cert.pem"), "no certificate\n", 0644);
    AUTO_OUTCOME struct outcome replaced_it = run_kind(host, deploying("nginx", &fresh));
    assert_ok(&replaced_it);
}

static void certificate_of_another_issuer_is_refused(void **state)
{
    struct host *host = *state;
    struct issued old = old_pair(host),
                  foreign = issue(host, NULL, clock_wall_ms(), clock_wall_ms() + DAY_MS);
    load_policy(host, NULL, NOTHING);
    sign_root = &foreign.cert;
    AUTO_OUTCOME struct outcome out = run_kind(host, renewing("nginx"));
    assert_int_not_equal(out.code, CODE_OK);
    assert_non_null(strstr(out.st.msg, "the chain"));
    assert_string_equal(read_text(host_path(host, "cert.pem")), buf_text(&old.cert_pem));
    assert_no_leftovers(host);
    issued_done(&old);
    issued_done(&foreign);
}

/* An intermediate below the host's root, and a server's certificate below that. */
static struct issued issue_below_intermediate(struct host *host, const struct key *key,
                                              struct der *ret_intermediate)
{
    struct status st;
    struct key *ca_key = NULL;
    AUTO_DER struct der spki = {0};
    struct pki_names none = {0};
    int64_t now = clock_wall_ms();
    assert_int_equal(key_generate(KEY_EC_P256, &ca_key, &st), CODE_OK);
    assert_int_equal(key_spki(ca_key, &spki, &st), CODE_OK);
    struct cert_request req = {.spki = der_bytes(&spki),
                               .common_name = "Test Intermediate",
                               .names = &none,
                               .is_ca = true,
                               .path_len = 0,
                               .not_before_ms = now - DAY_MS,
                               .not_after_ms = now + 100 * DAY_MS};
    assert_int_equal(issuer_sign(host->ca, &req, ret_intermediate, &st), CODE_OK);
    struct issuer *root = host->ca;
    assert_int_equal(issuer_new(ca_key, der_bytes(ret_intermediate), &host->ca, &st), CODE_OK);
    struct issued issued = issue_for_key(host, key, NULL, now - 60000, now + 90 * DAY_MS);
    issuer_free(host->ca);
    host->ca = root;
    return issued;
}

static void intermediates_go_where_the_target_wants_them(void **state)
{
    struct host *host = *state;
    struct status st;
    AUTO_ISSUED struct issued old = old_pair(host);
    AUTO_KEY struct key *key = key_of(&old);
    AUTO_DER struct der intermediate = {0};
    AUTO_ISSUED struct issued fresh = issue_below_intermediate(host, key, &intermediate);
    AUTO_BUF struct buf above = {0}, given = {0}, both = {0};
    struct der_list one = {.item = {intermediate}, .n = 1};
    assert_int_equal(certs_to_pem(&one, &above, &st), CODE_OK);
    /* As it came: the wrong way round, with the root. */
    assert_true(
        buf_printf(&given, "%s%s%s", buf_text(&host->root_pem), buf_text(&above), buf_text(&fresh.cert_pem)));
    assert_true(buf_printf(&both, "%s%s", buf_text(&fresh.cert_pem), buf_text(&above)));

    load_policy(host, "", NOTHING);
    const Clm__TaskSpec *spec = deploying("nginx", &fresh);
    deploy_spec.chain_pem = (char *)given.data;
    AUTO_OUTCOME struct outcome out = run_kind(host, spec);
    assert_ok(&out);
    assert_string_equal(read_text(host_path(host, "cert.pem")), buf_text(&both));
    outcome_done(&out);

    put_pair(host, &old);
    uuid_v7(host->task_id);
    AUTO_FREE char *line = NULL;
    assert_true(asprintf(&line, "chain = %s/chain.pem\n", host->dir) > 0);
    load_policy(host, line, NOTHING);
    out = run_kind(host, spec);
    assert_ok(&out);
    assert_string_equal(read_text(host_path(host, "cert.pem")), buf_text(&fresh.cert_pem));
    assert_string_equal(read_text(host_path(host, "chain.pem")), buf_text(&above));
}

static void older_and_expired_certificates_are_refused(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host);
    AUTO_KEY struct key *key = key_of(&old);
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued older = issue_for_key(host, key, NULL, now - 90 * DAY_MS, now + 5 * DAY_MS);
    AUTO_ISSUED struct issued expired = issue_for_key(host, key, NULL, now - 90 * DAY_MS, now - DAY_MS);
    load_policy(host, NULL, NOTHING);
    struct outcome out = run_kind(host, deploying("nginx", &older));
    assert_int_equal(out.code, CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(out.st.msg, "older than the one in place"));
    outcome_done(&out);
    out = run_kind(host, deploying("nginx", &expired));
    assert_int_equal(out.code, CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(out.st.msg, "expired"));
    outcome_done(&out);
    assert_string_equal(read_text(host_path(host, "cert.pem")), buf_text(&old.cert_pem));
}

static void name_outside_policy_is_refused(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host), fresh = issue_newer(host, &old, "www.elsewhere.test");
    load_policy(host, NULL, NOTHING);
    AUTO_OUTCOME struct outcome out = run_kind(host, deploying("nginx", &fresh));
    assert_int_equal(out.code, CODE_PERMISSION_DENIED);
    assert_non_null(strstr(out.st.msg, "www.elsewhere.test"));
    outcome_done(&out);
    const Clm__TaskSpec *spec = renewing("nginx");
    char *names[] = {(char[]){"www.elsewhere.test"}};
    renew_spec.dns_names = names;
    renew_spec.n_dns_names = 1;
    out = run_kind(host, spec);
    assert_int_equal(out.code, CODE_PERMISSION_DENIED);
    assert_int_equal(sign_calls, 0);
}

static void target_that_policy_does_not_name_is_refused(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host);
    load_policy(host, NULL, NOTHING);
    const Clm__TaskSpec *spec = deploying("nginx", &old);
    deploy_spec.target = (char *)(uintptr_t) "apache";
    AUTO_OUTCOME struct outcome out = run_kind(host, spec);
    assert_int_equal(out.code, CODE_PERMISSION_DENIED);
    assert_non_null(strstr(out.st.msg, "[target apache]"));
    outcome_done(&out);
    spec = deploying("nginx", &old);
    deploy_spec.key_path = (char *)(uintptr_t) "/etc/shadow";
    out = run_kind(host, spec);
    assert_int_equal(out.code, CODE_PERMISSION_DENIED);
}

static void failing_configuration_test_rolls_back(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host), fresh = issue_newer(host, &old, NULL);
    write_nginx_conf(host, NULL);
    start_nginx(host);
    load_policy(host, NULL, "command = /usr/sbin/nginx -s reload\ntest = /bin/false\ntimeout = 2s\n");
    AUTO_OUTCOME struct outcome out = run_kind(host, deploying("nginx", &fresh));
    assert_int_equal(out.code, CODE_OK);
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__FAILED);
    assert_non_null(strstr(out.message, "configuration test failed"));
    assert_null(find_step(&out, "reload"));
    assert_string_equal(read_text(host_path(host, "cert.pem")), buf_text(&old.cert_pem));
    assert_served(host, old.fingerprint);
    assert_no_leftovers(host);
}

static void reload_that_does_not_take_rolls_back(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host), fresh = issue_newer(host, &old, NULL);
    write_nginx_conf(host, NULL);
    start_nginx(host);
    load_policy(host, NULL, NOTHING);
    AUTO_OUTCOME struct outcome out = run_kind(host, deploying("nginx", &fresh));
    assert_int_equal(out.code, CODE_OK);
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__FAILED);
    assert_non_null(strstr(out.message, "still serves another certificate"));
    assert_true(find_step(&out, "rollback-verify")->ok);
    assert_string_equal(read_text(host_path(host, "cert.pem")), buf_text(&old.cert_pem));
    assert_string_equal(read_text(host_path(host, "key.pem")), (const char *)old.key_pem->data);
    assert_served(host, old.fingerprint);
}

/* `from` is replaced by `to` wherever it stands. */
static char *replaced(struct host *host, const char *text, const char *from, const char *to)
{
    AUTO_BUF struct buf out = {0};
    for (const char *at; (at = strstr(text, from)); text = at + strlen(from))
        assert_true(buf_append(&out, text, (size_t)(at - text)) && buf_puts(&out, to));
    assert_true(buf_puts(&out, text));
    char *path = host_path(host, "replaced");
    write_text(path, buf_text(&out), 0600);
    return read_text(path);
}

/* Three workers of a server that nobody told to reload answer beside the one that was. */
static void former_workers_keep_a_change_from_being_committed(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host);
    write_nginx_conf(host, NULL);
    char *conf = replaced(host, read_text(host_path(host, "nginx.conf")), " ssl;", " ssl reuseport;");
    write_text(host_path(host, "nginx.conf"), conf, 0644);
    conf = replaced(host, replaced(host, conf, "nginx.pid", "other.pid"), "worker_processes 1",
                    "worker_processes 3");
    write_text(host_path(host, "other.conf"),
               replaced(host, replaced(host, conf, "cert.pem", "other.pem"), "key.pem", "other.key"), 0644);
    write_text(host_path(host, "other.pem"), buf_text(&old.cert_pem), 0644);
    write_text(host_path(host, "other.key"), (const char *)old.key_pem->data, 0600);
    start_nginx(host);
    pid_t other = spawn_nginx(host, "other.conf");
    for (int i = 0; i < 1000 && access(host_path(host, "other.pid"), F_OK) != 0; i++)
        (void)poll(NULL, 0, 10);
    AUTO_FREE char *reload = NULL;
    assert_true(asprintf(&reload,
                         "command = /usr/sbin/nginx -p %s/ -c %s/nginx.conf -s reload\ntimeout = 2s\n",
                         host->dir, host->dir) > 0);
    load_policy(host, NULL, reload);
    AUTO_OUTCOME struct outcome out = run_kind(host, renewing("nginx"));
    (void)kill(other, SIGTERM);
    (void)waitpid(other, NULL, 0);
    assert_ok(&out);
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__FAILED);
    assert_non_null(strstr(out.message, "still serves another certificate"));
    assert_string_equal(read_text(host_path(host, "cert.pem")), buf_text(&old.cert_pem));
    assert_served(host, old.fingerprint);
}

static void unreachable_before_and_after_is_installed_unverified(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host), fresh = issue_newer(host, &old, NULL);
    load_policy(host, NULL, NOTHING);
    AUTO_OUTCOME struct outcome out = run_kind(host, deploying("nginx", &fresh));
    assert_int_equal(out.code, CODE_OK);
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
    assert_non_null(strstr(out.message, "cannot be reached"));
    assert_string_equal(read_text(host_path(host, "cert.pem")), buf_text(&fresh.cert_pem));
}

static void expired_one_is_not_brought_back(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued old = issue(host, NULL, now - 80 * DAY_MS, now - DAY_MS),
                              fresh = issue_newer(host, &old, NULL);
    put_pair(host, &old);
    write_nginx_conf(host, NULL);
    start_nginx(host);
    load_policy(host, NULL, NOTHING);
    AUTO_OUTCOME struct outcome out = run_kind(host, deploying("nginx", &fresh));
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
    assert_string_equal(read_text(host_path(host, "cert.pem")), buf_text(&fresh.cert_pem));
    issued_done(&fresh);
}

static void platform_away_changes_nothing_and_is_retryable(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host);
    load_policy(host, NULL, NOTHING);
    sign_answer = CODE_UNAVAILABLE;
    AUTO_OUTCOME struct outcome out = run_kind(host, renewing("nginx"));
    assert_int_equal(out.code, CODE_UNAVAILABLE);
    assert_string_equal(read_text(host_path(host, "key.pem")), (const char *)old.key_pem->data);
    assert_no_leftovers(host);
}

/* --- traps -------------------------------------------------------------------------------------------- */

static void assert_trap_is_refused(struct host *host, const char *reason)
{
    AUTO_OUTCOME struct outcome out = run_kind(host, renewing("nginx"));
    assert_int_equal(out.code, CODE_PERMISSION_DENIED);
    assert_non_null(strstr(out.st.msg, reason));
}

static void links_and_pipes_in_the_target_are_refused(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host);
    load_policy(host, NULL, NOTHING);
    char *cert = host_path(host, "cert.pem"), *aside = host_path(host, "aside.pem");

    assert_int_equal(rename(cert, aside), 0);
    assert_int_equal(symlink(aside, cert), 0);
    assert_trap_is_refused(host, "symbolic link");
    assert_int_equal(unlink(cert), 0);

    assert_int_equal(link(aside, cert), 0);
    assert_trap_is_refused(host, "hard links");
    assert_int_equal(unlink(cert), 0);

    assert_int_equal(mkfifo(cert, 0600), 0);
    assert_trap_is_refused(host, "not a regular file");
    assert_int_equal(unlink(cert), 0);

    /* A link in the middle of the path. */
    assert_int_equal(mkdir(host_path(host, "real"), 0700), 0);
    assert_int_equal(rename(aside, host_path(host, "real/cert.pem")), 0);
    assert_int_equal(symlink(host_path(host, "real"), host_path(host, "link")), 0);
    AUTO_FREE char *conf = NULL;
    struct status st;
    assert_true(asprintf(&conf,
                         "[policy]\noperations=renew\ndns_names=*.example.test\n[target nginx]\n"
                         "certificate=%s/link/cert.pem\nkey=%s/key.pem\n",
                         host->dir, host->dir) > 0);
    write_text(host_path(host, "agent.conf"), conf, 0644);
    policy_free(host->policy);
    assert_int_equal(policy_load(host_path(host, "agent.conf"), &host->policy, &st), CODE_OK);
    assert_trap_is_refused(host, "symbolic link");
}

/* --- crashes ------------------------------------------------------------------------------------------ */

/* True if the run was cut off there; false if it ended by itself. */
static bool crash_run(struct host *host, const Clm__TaskSpec *what, int at)
{
    pid_t pid = fork();
    if (pid == 0) {
        crash_at = at;
        struct outcome out = run_kind(host, what);
        _exit(out.code == CODE_OK ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status) == 42;
}

static bool swap_was_recorded(struct host *host)
{
    struct journal *journal = NULL;
    struct status st;
    assert_int_equal(journal_open(host_path(host, "state/journal"), host->task_id, 1, &journal, &st),
                     CODE_OK);
    bool recorded = journal_find_step(journal, "swap") != NULL;
    journal_close(journal);
    return recorded;
}

static void renewal_survives_a_crash_at_every_step(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host);
    write_nginx_conf(host, NULL);
    start_nginx(host);
    load_policy(host, NULL, NULL);
    int at = 1;
    for (;; at++) {
        uuid_v7(host->task_id);
        char before[65], after[65];
        served(host, before);
        bool cut = crash_run(host, renewing("nginx"), at);
        if (!cut)
            break;
        served(host, after); /* whatever happened: a pair that belongs together is being served */
        assert_int_equal(strlen(after), 64);
        bool begun = swap_was_recorded(host);
        sign_calls = 0;
        struct outcome out = run_kind(host, renewing("nginx"));
        assert_ok(&out);
        assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__SUCCEEDED);
        assert_true(pair_on_disk_matches(host));
        assert_served(host, out.result.fingerprint_after_sha256);
        assert_string_not_equal(out.result.fingerprint_after_sha256, before);
        /* What was begun is finished, not done anew. */
        assert_int_equal(sign_calls, begun ? 0 : 1);
        assert_true((find_step(&out, "resume") != NULL) == begun);
        assert_no_leftovers(host);
        outcome_done(&out);
    }
    assert_true(at > 20);
}

static void rollback_survives_a_crash_at_every_step(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host);
    write_nginx_conf(host, NULL);
    start_nginx(host);
    load_policy(host, NULL, "command = /bin/true\ntest = /bin/false\ntimeout = 1s\n");
    int at = 1;
    for (;; at++) {
        uuid_v7(host->task_id);
        if (!crash_run(host, renewing("nginx"), at))
            break;
        struct outcome out = run_kind(host, renewing("nginx"));
        assert_ok(&out);
        assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__FAILED);
        assert_string_equal(read_text(host_path(host, "cert.pem")), buf_text(&old.cert_pem));
        assert_string_equal(read_text(host_path(host, "key.pem")), (const char *)old.key_pem->data);
        assert_served(host, old.fingerprint);
        assert_no_leftovers(host);
        outcome_done(&out);
    }
    assert_true(at > 20);
}

/* --- others at work on the same files ------------------------------------------------------------------- */

static void write_foreign_certificate(void)
{
    write_text(host_path(hook_host, "cert.pem"), "somebody else's\n", 0644);
}

static void remove_backups(void)
{
    assert_int_equal(rename(host_path(hook_host, "state/backup"), host_path(hook_host, "state/gone")), 0);
}

static void change_by_somebody_else_is_not_overwritten(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host), fresh = issue_newer(host, &old, NULL);
    load_policy(host, NULL, NOTHING);
    hook_host = host;
    hook = write_foreign_certificate;
    hook_step = "backup";
    AUTO_OUTCOME struct outcome out = run_kind(host, deploying("nginx", &fresh));
    assert_int_equal(out.code, CODE_ABORTED);
    assert_string_equal(read_text(host_path(host, "cert.pem")), "somebody else's\n");
    assert_no_leftovers(host);
}

/* None of ours is there: whoever put theirs there has the last word. */
static void foreign_file_after_a_crash_ends_the_change(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host), fresh = issue_newer(host, &old, NULL);
    load_policy(host, NULL, NOTHING);
    /* probe, two stages, two backups: event 12 is after "swap". */
    assert_true(crash_run(host, deploying("nginx", &fresh), 12));
    assert_true(swap_was_recorded(host));
    hook_host = host;
    write_foreign_certificate();
    AUTO_OUTCOME struct outcome out = run_kind(host, deploying("nginx", &fresh));
    assert_int_equal(out.code, CODE_ABORTED);
    assert_non_null(strstr(out.st.msg, "changed by somebody else"));
    assert_string_equal(read_text(host_path(host, "cert.pem")), "somebody else's\n");
    assert_no_leftovers(host);
}

/* The new key is in place, and beside it what somebody else put there. */
static void foreign_file_beside_ours_is_left_alone_and_told(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host);
    load_policy(host, NULL, NOTHING);
    for (int at = 1; pair_on_disk_matches(host); at++) {
        uuid_v7(host->task_id);
        put_pair(host, &old);
        assert_true(crash_run(host, renewing("nginx"), at));
    }
    hook_host = host;
    write_foreign_certificate();
    AUTO_OUTCOME struct outcome out = run_kind(host, renewing("nginx"));
    assert_int_equal(out.code, CODE_DATA_LOSS);
    assert_non_null(strstr(out.st.msg, "by hand"));
    assert_string_equal(read_text(host_path(host, "cert.pem")), "somebody else's\n");
    assert_no_leftovers(host);
}

/* Files of both sides, and nobody allows to bring them to either: that is no ordinary refusal. */
static void change_that_the_policy_forbids_in_its_middle_is_told(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host);
    load_policy(host, NULL, NOTHING);
    for (int at = 1; pair_on_disk_matches(host); at++) {
        uuid_v7(host->task_id);
        put_pair(host, &old);
        assert_true(crash_run(host, renewing("nginx"), at));
    }
    char *name = host->policy->targets[0]->name;
    name[0] = 'N';
    AUTO_OUTCOME struct outcome out = run_kind(host, renewing("nginx"));
    assert_int_equal(out.code, CODE_DATA_LOSS);
    assert_non_null(strstr(out.st.msg, "no target \"nginx\""));
    name[0] = 'n';
    AUTO_OUTCOME struct outcome again = run_kind(host, renewing("nginx"));
    assert_ok(&again);
    assert_true(pair_on_disk_matches(host));
}

static void failed_rollback_is_data_loss(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host), fresh = issue_newer(host, &old, NULL);
    load_policy(host, NULL, "command = /bin/true\ntest = /bin/false\ntimeout = 1s\n");
    hook_host = host;
    hook = remove_backups;
    hook_step = "rollback";
    AUTO_OUTCOME struct outcome out = run_kind(host, deploying("nginx", &fresh));
    assert_int_equal(out.code, CODE_DATA_LOSS);
    assert_non_null(strstr(out.st.msg, "rollback failed"));
}

static void failing_reload_rolls_back(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host), fresh = issue_newer(host, &old, NULL);
    write_nginx_conf(host, NULL);
    start_nginx(host);
    load_policy(host, NULL, "command = /bin/false\ntimeout = 1s\n");
    AUTO_OUTCOME struct outcome out = run_kind(host, deploying("nginx", &fresh));
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__FAILED);
    assert_non_null(strstr(out.message, "the reload failed"));
    assert_string_equal(read_text(host_path(host, "cert.pem")), buf_text(&old.cert_pem));
    assert_served(host, old.fingerprint);
}

static void same_key_is_asked_for_again_after_a_crash(void **state)
{
    struct host *host = *state;
    AUTO_ISSUED struct issued old = old_pair(host);
    load_policy(host, "", NOTHING);
    /* Steps: key, sign, probe … : the fifth event is before "probe", after the first answer of sign. */
    assert_true(crash_run(host, renewing("nginx"), 5));
    AUTO_SECRET struct secret *made = NULL;
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der spki = {0};
    AUTO_FREE char *path = NULL;
    struct status st;
    assert_true(asprintf(&path, "%s/state/backup/%s-1-made.key", host->dir, host->task_id) > 0);
    assert_int_equal(secret_read_file(path, 65536, false, &made, &st), CODE_OK);
    assert_int_equal(key_parse(made, NULL, &key, &st), CODE_OK);
    assert_int_equal(key_spki(key, &spki, &st), CODE_OK);
    char spki_hex[65];
    sha256_hex(der_bytes(&spki), spki_hex);
    AUTO_OUTCOME struct outcome out = run_kind(host, renewing("nginx"));
    assert_int_equal(out.code, CODE_OK);
    assert_string_equal(last_spki, spki_hex);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, host_setup, host_teardown)
    const struct CMUnitTest tests[] = {
        TEST(deployed_certificate_is_served),
        TEST(renewal_makes_the_key_on_this_host),
        TEST(renewal_with_the_key_in_place_keeps_it),
        TEST(first_installation_needs_no_file_in_place),
        TEST(bundle_holds_key_and_certificate),
        TEST(certificate_for_another_key_is_refused),
        TEST(what_could_not_be_looked_at_is_not_replaced),
        TEST(change_that_the_policy_forbids_in_its_middle_is_told),
        TEST(certificate_of_another_issuer_is_refused),
        TEST(intermediates_go_where_the_target_wants_them),
        TEST(older_and_expired_certificates_are_refused),
        TEST(name_outside_policy_is_refused),
        TEST(target_that_policy_does_not_name_is_refused),
        TEST(failing_configuration_test_rolls_back),
        TEST(reload_that_does_not_take_rolls_back),
        TEST(former_workers_keep_a_change_from_being_committed),
        TEST(unreachable_before_and_after_is_installed_unverified),
        TEST(expired_one_is_not_brought_back),
        TEST(platform_away_changes_nothing_and_is_retryable),
        TEST(links_and_pipes_in_the_target_are_refused),
        TEST(renewal_survives_a_crash_at_every_step),
        TEST(rollback_survives_a_crash_at_every_step),
        TEST(same_key_is_asked_for_again_after_a_crash),
        TEST(change_by_somebody_else_is_not_overwritten),
        TEST(foreign_file_after_a_crash_ends_the_change),
        TEST(foreign_file_beside_ours_is_left_alone_and_told),
        TEST(failed_rollback_is_data_loss),
        TEST(failing_reload_rolls_back),
    };
    if (getenv("CLM_TEST_FILTER"))
        cmocka_set_test_filter(getenv("CLM_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
