/* Every store: a certificate gets into it, other programs read it, and what must not happen does not. */
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
#include "stores/store.h"
#include "support/port.h"
#include "wire/wire.h"

#ifndef KUBERNETES_API
#error KUBERNETES_API must name tests/unit/support/kubernetes_api.py
#endif

/* --- faults: the n-th of these calls in the test's own process fails, or something happens before one ----
 */

static pid_t own_pid;
static unsigned fault_at, fault_calls; /* 0: never */
static int fault_errno;
static void (*before_rename)(void);
static struct host *hook_host;

static bool fault_now(void)
{
    if (!fault_at || getpid() != own_pid || ++fault_calls != fault_at)
        return false;
    errno = fault_errno;
    return true;
}

ssize_t __real_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len)
{
    return fault_now() ? -1 : __real_write(fd, data, len);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    return fault_now() ? -1 : __real_fsync(fd);
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    return fault_now() ? -1 : __real_fdatasync(fd);
}

int __real_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    if (before_rename) {
        void (*hook)(void) = before_rename;
        before_rename = NULL;
        hook();
    }
    return fault_now() ? -1 : __real_renameat2(from_dir, from, to_dir, to, flags);
}

static struct status st;
static Clm__TaskSpec spec;
static Clm__DeploySpec deploy;
static Clm__RenewSpec renew;

/* --- the stores, as a table ------------------------------------------------------------------------------
 */

struct kind {
    const char *name;
    const char *lines; /* of [target t]; %s: the host's directory, up to three times */
    const char *file;  /* that holds the certificate */
    void (*put)(struct host *host, const struct issued *pair);
    /* Fingerprint of what is in it, and that its key fits; read by other programs than ours. */
    void (*get)(struct host *host, char out[65]);
};

static const char *shell(struct host *host, const char *line)
{
    static char out[16384];
    char command[1024];
    (void)snprintf(command, sizeof(command), "cd %s && { %s; } 2>&1", host->dir, line);
    FILE *pipe = popen(command, "re");
    assert_non_null(pipe);
    size_t n = fread(out, 1, sizeof(out) - 1, pipe);
    out[n] = 0;
    if (pclose(pipe) != 0)
        fail_msg("%s: %s", line, out);
    return out;
}

static bool quick;     /* openssl's word is enough */
static bool keep_keys; /* what was looked at stays, as "keys" */

/* PEM with leaf and key anywhere in it. */
static void fingerprint_of(struct host *host, const char *text, char out[65])
{
    char name[16] = "look.pem";
    AUTO_FREE char *pem = strdup(text); /* perhaps shell's */
    assert_non_null(pem);
    write_text(host_path(host, name), pem, 0600);
    const char *keys =
        shell(host, "openssl x509 -in look.pem -noout -pubkey; openssl pkey -in look.pem -pubout");
    size_t half = strlen(keys) / 2;
    assert_memory_equal(keys, keys + half, half);
    AUTO_DER_LIST struct der_list list = {0};
    assert_int_equal(pem_to_certs((struct bytes){(const uint8_t *)pem, strlen(pem)}, &list, &st), CODE_OK);
    sha256_hex(der_bytes(&list.item[0]), out);
    (void)shell(host, keep_keys ? "cp look.pem keys; rm look.pem" : "rm look.pem");
}

static void get_pair(struct host *host, char out[65])
{
    AUTO_FREE char *both = NULL;
    assert_true(asprintf(&both, "%s%s", read_text(host_path(host, "web/cert.pem")),
                         read_text(host_path(host, "web/key.pem"))) > 0);
    fingerprint_of(host, both, out);
}

static void put_separate(struct host *host, const struct issued *pair)
{
    write_file(host_path(host, "web/cert.pem"), pair->cert_pem.data, pair->cert_pem.len, 0644);
    write_file(host_path(host, "web/key.pem"), pair->key_pem->data, pair->key_pem->len, 0600);
}

static void put_bundle(struct host *host, const struct issued *pair)
{
    AUTO_FREE char *both = NULL;
    assert_true(asprintf(&both, "%s%s", buf_text(&pair->cert_pem), (const char *)pair->key_pem->data) > 0);
    write_text(host_path(host, "web/bundle.pem"), both, 0600);
}

static void get_bundle(struct host *host, char out[65])
{
    fingerprint_of(host, read_text(host_path(host, "web/bundle.pem")), out);
}

static void put_pkcs12(struct host *host, const struct issued *pair)
{
    AUTO_KEY struct key *key = NULL;
    AUTO_SECRET struct secret *password = secret_dup("changeit", 8), *made = NULL;
    struct der_list chain = {.item = {pair->cert}, .n = 1};
    assert_int_equal(key_parse(pair->key_pem, NULL, &key, &st), CODE_OK);
    assert_int_equal(pkcs12_make(key, &chain, "tomcat", password, PKCS12_MODERN, &made, &st), CODE_OK);
    write_file(host_path(host, "web/store.p12"), made->data, made->len, 0600);
}

static void get_pkcs12(struct host *host, char out[65])
{
    fingerprint_of(host, shell(host, "openssl pkcs12 -in web/store.p12 -passin file:password -nodes"), out);
    if (quick)
        return;
    const char *list = shell(host, "keytool -list -keystore web/store.p12 -storepass:file password");
    assert_non_null(strstr(list, "tomcat,"));
    assert_non_null(strstr(list, "PrivateKeyEntry"));
}

static void put_jks(struct host *host, const struct issued *pair)
{
    put_pkcs12(host, pair);
    (void)shell(
        host, "keytool -importkeystore -srckeystore web/store.p12 -srcstorepass:file password -destkeystore "
              "web/store.jks -deststoretype JKS -deststorepass:file password && rm web/store.p12");
}

/* What keytool says of a JKS, through PKCS#12 so that openssl can look, too. */
static void get_jks(struct host *host, char out[65])
{
    fingerprint_of(
        host,
        shell(host, "keytool -importkeystore -srckeystore web/store.jks -srcstorepass:file password "
                    "-destkeystore look.p12 -deststoretype PKCS12 -deststorepass:file password >&2 "
                    "2>/dev/null && openssl pkcs12 -in look.p12 -passin file:password -nodes && rm look.p12"),
        out);
    assert_non_null(
        strstr(shell(host, "keytool -list -keystore web/store.jks -storepass:file password"), "tomcat,"));
}

/* An API server of our own, for the host that asks first. */
static pid_t api_pid;
static unsigned api_port;

static void start_api(struct host *host)
{
    if (api_pid > 0)
        return;
    char port[8], *dir = host_path(host, "api");
    (void)shell(host,
                "mkdir api && printf token-of-the-pod > api/token && openssl req -x509 -newkey ec -pkeyopt "
                "ec_paramgen_curve:P-256 -nodes -keyout api/api.key -out api/api.pem -days 2 -subj /CN=api "
                "-addext subjectAltName=IP:127.0.0.1");
    api_port = (unsigned)port_free();
    (void)snprintf(port, sizeof(port), "%u", api_port);
    api_pid = fork();
    if (api_pid == 0) {
        (void)execl("/usr/bin/python3", "python3", "-B", KUBERNETES_API, dir, port, (char *)NULL);
        _exit(127);
    }
    char line[128];
    (void)snprintf(
        line, sizeof(line),
        "for i in $(seq 300); do echo | openssl s_client -connect 127.0.0.1:%u >/dev/null 2>&1 && exit 0; "
        "sleep 0.1; done; false",
        api_port);
    (void)shell(host, line);
}

static void stop_api(void)
{
    if (api_pid > 0) {
        (void)kill(api_pid, SIGKILL);
        (void)waitpid(api_pid, NULL, 0);
    }
    api_pid = 0;
}

static void put_kubernetes(struct host *host, const struct issued *pair)
{
    start_api(host);
    put_separate(host, pair);
    (void)shell(
        host,
        "printf '{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"www-tls\",\"labels\":{"
        "\"app\":\"www\"},\"resourceVersion\":\"7\"},\"type\":\"kubernetes.io/"
        "tls\",\"data\":{\"tls.crt\":\"%s\","
        "\"tls.key\":\"%s\",\"extra\":\"eA==\"}}' $(openssl base64 -A < web/cert.pem) $(openssl base64 -A < "
        "web/key.pem) > api/secret.json && rm web/cert.pem web/key.pem");
}

static void get_kubernetes(struct host *host, char out[65])
{
    fingerprint_of(host,
                   shell(host,
                         "python3 -c 'import json,base64; d=json.load(open(\"api/secret.json\"))[\"data\"]; "
                         "print(base64.b64decode(d[\"tls.crt\"]).decode()+base64.b64decode(d[\"tls.key\"])."
                         "decode())'"),
                   out);
}

static const struct kind kinds[] = {
    {"separate", "certificate=%s/web/cert.pem\nkey=%s/web/key.pem\n", "web/cert.pem", put_separate, get_pair},
    {"bundle", "certificate=%s/web/bundle.pem\n", "web/bundle.pem", put_bundle, get_bundle},
    {"haproxy", "store=haproxy\ncertificate=%s/web/bundle.pem\n", "web/bundle.pem", put_bundle, get_bundle},
    {"pkcs12", "store=pkcs12\ncertificate=%s/web/store.p12\npassword_file=%s/password\n", "web/store.p12",
     put_pkcs12, get_pkcs12},
    {"jks", "store=jks\ncertificate=%s/web/store.jks\npassword_file=%s/password\nkeytool=/usr/bin/keytool\n",
     "web/store.jks", put_jks, get_jks},
    {"kubernetes", "store=kubernetes\nsecret=web/www-tls\ntoken_file=%s/api/token\nca_file=%s/api/api.pem\n",
     NULL, put_kubernetes, get_kubernetes},
    {"directory", "certificate=%s/web/cert.pem\nkey=%s/web/key.pem\nswap=directory\n", "web/cert.pem",
     put_separate, get_pair},
};

/* --- helpers ---------------------------------------------------------------------------------------------
 */

static void load(struct host *host, const struct kind *kind, const char *more)
{
    AUTO_BUF struct buf conf = {0};
    assert_true(buf_printf(&conf,
                           "[agent]\nstate_dir=%s/state\n[policy]\noperations=deploy renew validate\n"
                           "dns_names=*.example.test 127.0.0.1\n[reload none]\ncommand=/bin/true\n"
                           "[reload refuses]\ncommand=/bin/false\n[target t]\n",
                           host->dir));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
    assert_true(buf_printf(&conf, kind->lines, host->dir, host->dir, host->dir));
#pragma GCC diagnostic pop
    if (kind->put == put_kubernetes)
        assert_true(buf_printf(&conf, "api_server=127.0.0.1:%u\n", api_port));
    assert_true(buf_puts(&conf, more));
    write_text(host_path(host, "agent.conf"), buf_text(&conf), 0644);
    policy_free(host->policy);
    host->policy = NULL;
    if (policy_load(host_path(host, "agent.conf"), &host->policy, &st) != CODE_OK)
        fail_msg("%s", st.msg);
}

static const Clm__TaskSpec *deploying(const struct issued *pair)
{
    clm__task_spec__init(&spec);
    clm__deploy_spec__init(&deploy);
    spec.has_kind = true;
    spec.kind = CLM__TASK__KIND__DEPLOY;
    spec.deploy = &deploy;
    deploy.target = (char *)(uintptr_t) "t";
    deploy.chain_pem = (char *)(uintptr_t)buf_text(&pair->cert_pem);
    return &spec;
}

static const Clm__TaskSpec *renewing(void)
{
    clm__task_spec__init(&spec);
    clm__renew_spec__init(&renew);
    spec.has_kind = true;
    spec.kind = CLM__TASK__KIND__RENEW;
    spec.renew = &renew;
    renew.target = (char *)(uintptr_t) "t";
    return &spec;
}

static struct issued newer(struct host *host, const struct issued *pair, const char *name)
{
    AUTO_KEY struct key *key = NULL;
    int64_t now = clock_wall_ms();
    assert_int_equal(key_parse(pair->key_pem, NULL, &key, &st), CODE_OK);
    return issue_for_key(host, key, name, now - 60000, now + 90 * DAY_MS);
}

static char *read_base64(const char *path)
{
    AUTO_BUF struct buf bytes = {0}, text = {0};
    assert_int_equal(file_read(path, STORE_FILE_MAX, &bytes, &st), CODE_OK);
    assert_true(base64_put(&text, bytes.data, bytes.len));
    return strdup(buf_text(&text));
}

static char *old_bytes; /* of the kind's file, as prepared */

/* An empty directory for the target, the old pair in it, the policy. */
static struct issued prepare(struct host *host, const struct kind *kind, const char *more)
{
    int64_t now = clock_wall_ms();
    struct issued old = issue(host, NULL, now - 80 * DAY_MS, now + 10 * DAY_MS);
    (void)shell(host, "rm -rf web && mkdir -m 755 web");
    write_text(host_path(host, "password"), "changeit\n", 0600);
    kind->put(host, &old);
    load(host, kind, more);
    free(old_bytes);
    old_bytes = kind->file ? read_base64(host_path(host, kind->file)) : NULL;
    uuid_v7(host->task_id);
    sign_calls = 0;
    /* There before the run, so that no fault meets the test's own work. */
    struct journal *journal = NULL;
    (void)shell(host, "mkdir -p state/journal state/backup && chmod 700 state/backup");
    assert_int_equal(journal_open(host_path(host, "state/journal"), host->task_id, 1, &journal, &st),
                     CODE_OK);
    journal_close(journal);
    return old;
}

static void assert_outcome(const struct kind *kind, const struct outcome *out, int outcome)
{
    if (out->code != CODE_OK || (int)out->outcome != outcome)
        fail_msg("%s: %s; outcome %d: %s", kind->name, out->code == CODE_OK ? "OK" : out->st.msg,
                 (int)out->outcome, out->message ? out->message : "");
}

/* Nothing of ours stays beside the target. */
static void assert_clean(struct host *host)
{
    assert_string_equal(shell(host, "find . -name '.clm-*'"), "");
}

/* --- what works ------------------------------------------------------------------------------------------
 */

static void certificate_is_deployed_into_every_store(void **state)
{
    struct host *host = *state;
    for (const struct kind *kind = kinds; kind < kinds + ARRAY_LEN(kinds); kind++) {
        char now[65];
        struct issued old = prepare(host, kind, ""), fresh = newer(host, &old, NULL);
        kind->get(host, now);
        assert_string_equal(now, old.fingerprint);
        struct outcome out = run_kind(host, deploying(&fresh));
        assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
        assert_string_equal(out.result.fingerprint_before_sha256, old.fingerprint);
        assert_string_equal(out.result.fingerprint_after_sha256, fresh.fingerprint);
        kind->get(host, now);
        assert_string_equal(now, fresh.fingerprint);
        assert_clean(host);
        outcome_done(&out);
        issued_done(&old);
        issued_done(&fresh);
    }
}

static void renewal_puts_a_new_key_into_every_store(void **state)
{
    struct host *host = *state;
    for (const struct kind *kind = kinds; kind < kinds + ARRAY_LEN(kinds); kind++) {
        char now[65];
        struct issued old = prepare(host, kind, "");
        (void)renewing();
        for (int reuse = 0; reuse < 2; reuse++) {
            uuid_v7(host->task_id);
            renew.has_reuse_key = true;
            renew.reuse_key = reuse;
            struct outcome out = run_kind(host, &spec);
            assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
            kind->get(host, now);
            assert_string_equal(now, out.result.certificate->fingerprint_sha256);
            assert_string_equal(out.result.certificate->dns_names[0], "www.example.test");
            assert_clean(host);
            outcome_done(&out);
        }
        issued_done(&old);
    }
}

static void first_installation_needs_nothing_in_place(void **state)
{
    struct host *host = *state;
    for (const struct kind *kind = kinds; kind < kinds + ARRAY_LEN(kinds); kind++) {
        if (kind->put == put_jks)
            continue;
        char now[65];
        struct stat info;
        struct issued old = prepare(host, kind, strstr(kind->lines, "password") ? "alias=tomcat\n" : "");
        (void)shell(host, "rm -f web/* api/secret.json");
        (void)renewing();
        char *names[] = {(char[]){"www.example.test"}};
        renew.dns_names = names;
        renew.n_dns_names = 1;
        struct outcome out = run_kind(host, &spec);
        assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
        kind->get(host, now);
        assert_string_equal(now, out.result.certificate->fingerprint_sha256);
        /* Whatever holds the key is its owner's alone. */
        const char *holder = kind->put == put_separate ? "web/key.pem" : kind->file;
        if (holder) {
            assert_int_equal(stat(host_path(host, holder), &info), 0);
            assert_int_equal(info.st_mode & 0777, 0600);
        }
        outcome_done(&out);
        issued_done(&old);
    }
}

static void validation_looks_into_every_store(void **state)
{
    struct host *host = *state;
    for (const struct kind *kind = kinds; kind < kinds + ARRAY_LEN(kinds); kind++) {
        struct issued old = prepare(host, kind, "");
        Clm__ValidateSpec validate = CLM__VALIDATE_SPEC__INIT;
        clm__task_spec__init(&spec);
        spec.has_kind = true;
        spec.kind = CLM__TASK__KIND__VALIDATE;
        spec.validate = &validate;
        validate.target = (char *)(uintptr_t) "t";
        struct outcome out = run_kind(host, &spec);
        assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__SUCCEEDED);
        assert_string_equal(out.result.certificate->fingerprint_sha256, old.fingerprint);
        const Clm__Check *match = find_check(&out, "key-match"); /* a JKS's key stays closed for a look */
        assert_true(kind->put == put_jks ? !match : match->outcome == CLM__CHECK__OUTCOME__PASS);
        outcome_done(&out);
        issued_done(&old);
    }
}

/* --- what must not happen --------------------------------------------------------------------------------
 */

/* JKS is put in place as PKCS#12 is, and each call of keytool costs seconds. */
#define FOR_EACH_KIND(kind)                                                                                  \
    for (const struct kind *kind = kinds; kind < kinds + ARRAY_LEN(kinds); kind++)                           \
        if (kind->put != put_jks)

/* Untouched: the old one is there and nothing beside it. */
static void assert_old(struct host *host, const struct kind *kind, const struct issued *old)
{
    char now[65] = "";
    if (kind->file) {
        AUTO_FREE char *bytes = read_base64(host_path(host, kind->file));
        assert_string_equal(bytes, old_bytes);
    } else {
        kind->get(host, now);
        assert_string_equal(now, old->fingerprint);
    }
    assert_clean(host);
}

static void assert_refused(struct host *host, const struct kind *kind, const struct issued *old,
                           const struct issued *bad, enum code code, const char *says)
{
    uuid_v7(host->task_id);
    struct outcome out = run_kind(host, deploying(bad));
    if (out.code != code || !strstr(out.st.msg, says))
        fail_msg("%s: %s \"%s\" instead of %s \"%s\"", kind->name, code_name(out.code),
                 out.code == CODE_OK ? out.message : out.st.msg, code_name(code), says);
    assert_old(host, kind, old);
    outcome_done(&out);
}

static void bad_certificates_change_nothing(void **state)
{
    struct host *host = *state;
    FOR_EACH_KIND(kind)
    {
        int64_t now = clock_wall_ms();
        struct issued old = prepare(host, kind, "server_name=www.example.test\n");
        AUTO_KEY struct key *key = NULL;
        assert_int_equal(key_parse(old.key_pem, NULL, &key, &st), CODE_OK);
        struct issued other = issue(host, NULL, now - 60000, now + 90 * DAY_MS);
        assert_refused(host, kind, &old, &other, CODE_FAILED_PRECONDITION,
                       "for another key than the one on this host");
        struct issued name = issue_for_key(host, key, "api.example.test", now - 60000, now + 90 * DAY_MS);
        assert_refused(host, kind, &old, &name, CODE_FAILED_PRECONDITION, "does not cover www.example.test");
        struct issued expired = issue_for_key(host, key, NULL, now - 60 * DAY_MS, now - DAY_MS);
        assert_refused(host, kind, &old, &expired, CODE_FAILED_PRECONDITION, "expired at");
        struct issued early = issue_for_key(host, key, NULL, now + DAY_MS, now + 90 * DAY_MS);
        assert_refused(host, kind, &old, &early, CODE_FAILED_PRECONDITION, "not valid before");
        struct issued broken = newer(host, &old, NULL);
        assert_true(buf_append(&broken.cert_pem, other.cert_pem.data, other.cert_pem.len));
        assert_refused(host, kind, &old, &broken, CODE_INVALID_ARGUMENT, "chain");
        struct issued *all[] = {&old, &other, &name, &expired, &early, &broken};
        for (size_t i = 0; i < ARRAY_LEN(all); i++)
            issued_done(all[i]);
    }
}

static void server_that_refuses_to_reload_keeps_the_old_one(void **state)
{
    struct host *host = *state;
    FOR_EACH_KIND(kind)
    {
        struct issued old = prepare(host, kind, "reload=refuses\n");
        struct outcome out = run_kind(host, renewing());
        assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__FAILED);
        assert_non_null(strstr(out.message, "/bin/false ended with status 1"));
        assert_old(host, kind, &old);
        outcome_done(&out);
        issued_done(&old);
    }
}

static const struct kind *hook_kind;

static void replace_by_somebody_else(void)
{
    write_text(host_path(hook_host, hook_kind->file), "somebody else's\n", 0640);
}

/* In the last instant: after every look, before the system call that changes it. */
static void change_by_somebody_else_is_kept(void **state)
{
    struct host *host = *state;
    FOR_EACH_KIND(kind)
    {
        if (!kind->file)
            continue; /* an API server answers with a conflict: test_kubernetes.c */
        struct issued old = prepare(host, kind, "");
        hook_host = host;
        hook_kind = kind;
        before_rename = replace_by_somebody_else;
        struct outcome out = run_kind(host, renewing());
        assert_null(before_rename);
        const char *why = out.code == CODE_OK ? out.message : out.st.msg;
        if (out.code != CODE_ABORTED || !strstr(why, "changed by somebody else"))
            fail_msg("%s: %s", kind->name, why);
        assert_string_equal(read_text(host_path(host, kind->file)), "somebody else's\n");
        assert_clean(host);
        outcome_done(&out);
        issued_done(&old);
    }
}

/* Every call that can find the disk full does so once. */
static void full_disk_at_any_call_leaves_one_side_whole(void **state)
{
    struct host *host = *state;
    unsigned tried = 0;
    own_pid = getpid();
    fault_errno = ENOSPC;
    quick = true;
    FOR_EACH_KIND(kind)
    {
        if (kind->put == put_jks)
            continue; /* its file is swapped as PKCS#12's is; keytool makes each of these runs a second longer
                       */
        for (bool reached = true; reached;) {
            char now[65];
            struct issued old = prepare(host, kind, ""), fresh = newer(host, &old, NULL);
            tried += kind->put == put_separate ? 2 : 8; /* what is special about the others is one call */
            fault_at = tried;
            fault_calls = 0;
            struct outcome out = run_kind(host, deploying(&fresh));
            reached = fault_calls >= fault_at;
            tried = reached ? tried : 0;
            fault_at = 0;
            kind->get(host, now);
            bool installed =
                out.code == CODE_OK && out.outcome == CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED;
            assert_string_equal(now, installed ? fresh.fingerprint : old.fingerprint);
            if (!installed &&
                !strstr(out.code == CODE_OK ? out.message : out.st.msg, "No space left on device"))
                fail_msg("%s, call %u: %s", kind->name, tried,
                         out.code == CODE_OK ? out.message : out.st.msg);
            assert_clean(host);
            outcome_done(&out);
            issued_done(&old);
            issued_done(&fresh);
        }
    }
    quick = false;
}

/* In a process of its own, as a user for whom modes count. */
static void directory_that_cannot_be_written_is_told(void **state)
{
    struct host *host = *state;
    FOR_EACH_KIND(kind)
    {
        if (!kind->file)
            continue;
        struct issued old = prepare(host, kind, ""), fresh = newer(host, &old, NULL);
        (void)shell(host, kind->put == put_separate && strstr(kind->lines, "directory")
                              ? "test $(id -u) != 0 || chown -R nobody . && chmod 500 ."
                              : "test $(id -u) != 0 || chown -R nobody . && chmod 555 web");
        pid_t pid = fork();
        if (pid == 0) {
            if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
                _exit(3);
            struct outcome out = run_kind(host, deploying(&fresh));
            bool told = out.code == CODE_PERMISSION_DENIED && strstr(out.st.msg, "Permission denied");
            if (!told)
                (void)fprintf(stderr, "%s: %s\n", kind->name, out.code == CODE_OK ? out.message : out.st.msg);
            _exit(told ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        (void)shell(host, "test $(id -u) != 0 || chown -R root . && chmod 700 . && chmod 755 web");
        assert_old(host, kind, &old);
        issued_done(&old);
        issued_done(&fresh);
    }
}

/* The new key is in its file, the former one in the agent's backup, and neither anywhere else. */
static void keys_are_nowhere_but_in_their_file(void **state)
{
    static const char search[] =
        "import base64, pathlib, re\n"
        "pem = pathlib.Path('keys').read_text()\n"
        "for key in re.findall('-----BEGIN PRIVATE KEY-----(.*?)-----END', pem, re.S):\n"
        "    der = base64.b64decode(key)\n"
        "    needles = [key.split()[1].encode()[:40], der[36:68], der[36:68].hex().encode()]\n"
        "    for path in pathlib.Path('.').rglob('*'):\n"
        "        kept = path.parts[0] in ('web', 'api', 'keys') or path.match('state/backup/*.bak')\n"
        "        if path.is_file() and not kept and any(n in path.read_bytes() for n in needles): "
        "print(path)\n"
        "for path in pathlib.Path('state').rglob('*'):\n"
        "    if path.is_file() and path.stat().st_mode & 0o077 and b'PRIVATE' in path.read_bytes(): "
        "print(path, 'mode')\n";
    struct host *host = *state;
    FOR_EACH_KIND(kind)
    {
        char now[65];
        struct issued old = prepare(host, kind, "");
        struct outcome out = run_kind(host, renewing());
        assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
        keep_keys = true;
        kind->get(host, now);
        keep_keys = false;
        (void)shell(host, "grep -q 'BEGIN PRIVATE KEY' keys");
        write_text(host_path(host, "search.py"), search, 0600);
        assert_string_equal(shell(host, "python3 -B search.py"), "");
        for (size_t i = 0; i < out.result.n_steps; i++)
            assert_null(strstr(out.result.steps[i]->message, "PRIVATE"));
        outcome_done(&out);
        issued_done(&old);
    }
}

/* --- what each has for itself ----------------------------------------------------------------------------
 */

static const struct kind *kind_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    }
    fail_msg("no kind %s", name);
    return NULL;
}

static void haproxy_keeps_its_diffie_hellman_parameters(void **state)
{
    static const char parameters[] =
        "-----BEGIN DH PARAMETERS-----\nMAgCAwD////KCwIBAg==\n-----END DH PARAMETERS-----";
    struct host *host = *state;
    const struct kind *kind = kind_of("haproxy");
    struct issued old = prepare(host, kind, "");
    AUTO_FREE char *with = NULL;
    assert_true(asprintf(&with, "%s\n%s", read_text(host_path(host, kind->file)), parameters) > 0);
    write_text(host_path(host, kind->file), with, 0600);
    struct outcome out = run_kind(host, renewing());
    assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
    assert_non_null(strstr(read_text(host_path(host, kind->file)), parameters));
    outcome_done(&out);
    issued_done(&old);
}

static void keystore_encryption_is_the_policys(void **state)
{
    static const char info[] = "openssl pkcs12 -in web/store.p12 -passin file:password -noout -info";
    struct host *host = *state;
    const struct kind *kind = kind_of("pkcs12");
    struct issued old = prepare(host, kind, "encryption=legacy\n");
    struct outcome out = run_kind(host, renewing());
    assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
    assert_non_null(strstr(shell(host, info), "pbeWithSHA1And3-KeyTripleDES-CBC"));
    outcome_done(&out);
    issued_done(&old);
}

static void keystore_that_does_not_open_is_left_alone(void **state)
{
    struct host *host = *state;
    const struct kind *kind = kind_of("pkcs12");
    struct issued old = prepare(host, kind, ""), fresh = newer(host, &old, NULL);
    write_text(host_path(host, "password"), "another one\n", 0600);
    struct outcome out = run_kind(host, deploying(&fresh));
    assert_int_equal(out.code, CODE_PERMISSION_DENIED);
    assert_non_null(strstr(out.st.msg, "wrong password"));
    outcome_done(&out);
    assert_int_equal(chmod(host_path(host, "password"), 0644), 0);
    out = run_kind(host, deploying(&fresh));
    assert_int_equal(out.code, CODE_PERMISSION_DENIED);
    assert_non_null(strstr(out.st.msg, "password_file"));
    outcome_done(&out);
    issued_done(&old);
    issued_done(&fresh);
}

static void keystore_with_other_entries_is_left_alone(void **state)
{
    struct host *host = *state;
    char now[65];
    const struct kind *kind = kind_of("pkcs12");
    struct issued old = prepare(host, kind, "alias=tomcat\n"), fresh = newer(host, &old, NULL);
    (void)shell(host,
                "keytool -genkeypair -alias other -keyalg EC -dname CN=o -keystore web/store.p12 -storepass "
                "changeit");
    struct outcome out = run_kind(host, deploying(&fresh));
    assert_int_equal(out.code, CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(out.st.msg, "1 other entries"));
    outcome_done(&out);
    kind->get(host, now);
    assert_string_equal(now, old.fingerprint);
    issued_done(&old);
    issued_done(&fresh);
}

static int teardown(void **state)
{
    free(old_bytes);
    old_bytes = NULL;
    stop_api();
    return host_teardown(state);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, host_setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(certificate_is_deployed_into_every_store),
        TEST(renewal_puts_a_new_key_into_every_store),
        TEST(first_installation_needs_nothing_in_place),
        TEST(validation_looks_into_every_store),
        TEST(bad_certificates_change_nothing),
        TEST(server_that_refuses_to_reload_keeps_the_old_one),
        TEST(change_by_somebody_else_is_kept),
        TEST(full_disk_at_any_call_leaves_one_side_whole),
        TEST(directory_that_cannot_be_written_is_told),
        TEST(keys_are_nowhere_but_in_their_file),
        TEST(haproxy_keeps_its_diffie_hellman_parameters),
        TEST(keystore_encryption_is_the_policys),
        TEST(keystore_that_does_not_open_is_left_alone),
        TEST(keystore_with_other_entries_is_left_alone),
    };
    if (getenv("CLM_TEST_FILTER"))
        cmocka_set_test_filter(getenv("CLM_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
