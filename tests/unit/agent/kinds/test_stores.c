/* Every store: a certificate gets into it, other programs read it, and what must not happen does not. */
#include "harness.h"

#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/id.h"
#include "pki/digest.h"
#include "stores/store.h"

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
    assert_int_equal(unlink(host_path(host, name)), 0);
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
    const char *list = shell(host, "keytool -list -keystore web/store.p12 -storepass:file password");
    assert_non_null(strstr(list, "tomcat,"));
    assert_non_null(strstr(list, "PrivateKeyEntry"));
}

static const struct kind kinds[] = {
    {"separate", "certificate=%s/web/cert.pem\nkey=%s/web/key.pem\n", "web/cert.pem", put_separate, get_pair},
    {"bundle", "certificate=%s/web/bundle.pem\n", "web/bundle.pem", put_bundle, get_bundle},
    {"haproxy", "store=haproxy\ncertificate=%s/web/bundle.pem\n", "web/bundle.pem", put_bundle, get_bundle},
    {"pkcs12", "store=pkcs12\ncertificate=%s/web/store.p12\npassword_file=%s/password\n", "web/store.p12",
     put_pkcs12, get_pkcs12},
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

/* An empty directory for the target, the old pair in it, the policy. */
static struct issued prepare(struct host *host, const struct kind *kind, const char *more)
{
    int64_t now = clock_wall_ms();
    struct issued old = issue(host, NULL, now - 80 * DAY_MS, now + 10 * DAY_MS);
    (void)shell(host, "rm -rf web && mkdir -m 755 web");
    write_text(host_path(host, "password"), "changeit\n", 0600);
    kind->put(host, &old);
    load(host, kind, more);
    uuid_v7(host->task_id);
    sign_calls = 0;
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
        char now[65];
        struct stat info;
        struct issued old = prepare(host, kind, strcmp(kind->name, "pkcs12") == 0 ? "alias=tomcat\n" : "");
        (void)shell(host, "rm -f web/*");
        (void)renewing();
        char *names[] = {(char[]){"www.example.test"}};
        renew.dns_names = names;
        renew.n_dns_names = 1;
        struct outcome out = run_kind(host, &spec);
        assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
        kind->get(host, now);
        assert_string_equal(now, out.result.certificate->fingerprint_sha256);
        /* Whatever holds the key is its owner's alone. */
        assert_int_equal(stat(host_path(host, kind->put == put_separate ? "web/key.pem" : kind->file), &info),
                         0);
        assert_int_equal(info.st_mode & 0777, 0600);
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
        assert_int_equal(find_check(&out, "key-match")->outcome, CLM__CHECK__OUTCOME__PASS);
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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, host_setup, host_teardown)
    const struct CMUnitTest tests[] = {
        TEST(certificate_is_deployed_into_every_store),    TEST(renewal_puts_a_new_key_into_every_store),
        TEST(first_installation_needs_nothing_in_place),   TEST(validation_looks_into_every_store),
        TEST(haproxy_keeps_its_diffie_hellman_parameters), TEST(keystore_encryption_is_the_policys),
        TEST(keystore_that_does_not_open_is_left_alone),   TEST(keystore_with_other_entries_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
