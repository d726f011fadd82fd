/* See target.h. */
#include "target.h"

#include <signal.h>
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

bool store_get_quick, store_get_keep_keys;
char *target_old_bytes;
unsigned api_port;
static pid_t api_pid;
static struct status st;

char *read_base64(const char *path)
{
    AUTO_BUF struct buf bytes = {0}, text = {0};
    assert_int_equal(file_read(path, STORE_FILE_MAX, &bytes, &st), CODE_OK);
    assert_true(base64_put(&text, bytes.data, bytes.len));
    return strdup(buf_text(&text));
}

/* --- reading by our own -------------------------------------------------------------------------------- */

static struct secret *content_of(struct host *host, const char *name)
{
    AUTO_BUF struct buf buf = {0};
    if (file_read(host_path(host, name), STORE_FILE_MAX, &buf, &st) != CODE_OK)
        return NULL;
    return secret_dup(buf.data, buf.len);
}

static bool fits(struct bytes pem, const struct secret *key_text, char out[65])
{
    AUTO_DER_LIST struct der_list list = {0};
    AUTO_KEY struct key *key = NULL;
    if (pem_to_certs(pem, &list, &st) != CODE_OK || key_parse(key_text, NULL, &key, &st) != CODE_OK ||
        !key_matches_cert(key, der_bytes(&list.item[0])))
        return false;
    sha256_hex(der_bytes(&list.item[0]), out);
    return true;
}

static bool find_in(struct host *host, const char *cert, const char *key, char out[65])
{
    AUTO_SECRET struct secret *pem = content_of(host, cert), *key_text = content_of(host, key);
    return pem && key_text && fits((struct bytes){pem->data, pem->len}, key_text, out);
}

/* --- by other programs --------------------------------------------------------------------------------- */

/* PEM with leaf and key anywhere in it. */
static void fingerprint_of(struct host *host, const char *text, char out[65])
{
    AUTO_FREE char *pem = strdup(text); /* perhaps shell's */
    assert_non_null(pem);
    write_text(host_path(host, "look.pem"), pem, 0600);
    const char *keys =
        shell(host, "openssl x509 -in look.pem -noout -pubkey; openssl pkey -in look.pem -pubout");
    size_t half = strlen(keys) / 2;
    assert_memory_equal(keys, keys + half, half);
    AUTO_DER_LIST struct der_list list = {0};
    assert_int_equal(pem_to_certs((struct bytes){(const uint8_t *)pem, strlen(pem)}, &list, &st), CODE_OK);
    sha256_hex(der_bytes(&list.item[0]), out);
    (void)shell(host, store_get_keep_keys ? "cp look.pem keys; rm look.pem" : "rm look.pem");
}

/* --- PEM ----------------------------------------------------------------------------------------------- */

static void put_separate(struct host *host, const struct issued *pair)
{
    write_file(host_path(host, "web/cert.pem"), pair->cert_pem.data, pair->cert_pem.len, 0644);
    write_file(host_path(host, "web/key.pem"), pair->key_pem->data, pair->key_pem->len, 0600);
}

static void get_separate(struct host *host, char out[65])
{
    AUTO_FREE char *both = NULL;
    assert_true(asprintf(&both, "%s%s", read_text(host_path(host, "web/cert.pem")),
                         read_text(host_path(host, "web/key.pem"))) > 0);
    fingerprint_of(host, both, out);
}

static bool find_separate(struct host *host, char out[65])
{
    return find_in(host, "web/cert.pem", "web/key.pem", out);
}

static void put_directory(struct host *host, const struct issued *pair)
{
    (void)shell(host, "mkdir -m 755 web/tls");
    write_file(host_path(host, "web/tls/cert.pem"), pair->cert_pem.data, pair->cert_pem.len, 0644);
    write_file(host_path(host, "web/tls/key.pem"), pair->key_pem->data, pair->key_pem->len, 0600);
}

static void get_directory(struct host *host, char out[65])
{
    AUTO_FREE char *both = NULL;
    assert_true(asprintf(&both, "%s%s", read_text(host_path(host, "web/tls/cert.pem")),
                         read_text(host_path(host, "web/tls/key.pem"))) > 0);
    fingerprint_of(host, both, out);
}

static bool find_directory(struct host *host, char out[65])
{
    return find_in(host, "web/tls/cert.pem", "web/tls/key.pem", out);
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

static bool find_bundle(struct host *host, char out[65])
{
    return find_in(host, "web/bundle.pem", "web/bundle.pem", out);
}

/* --- keystores ----------------------------------------------------------------------------------------- */

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
    if (store_get_quick)
        return;
    const char *list = shell(host, "keytool -list -keystore web/store.p12 -storepass:file password");
    assert_non_null(strstr(list, "tomcat,"));
    assert_non_null(strstr(list, "PrivateKeyEntry"));
}

static bool find_pkcs12(struct host *host, char out[65])
{
    AUTO_SECRET struct secret *content = content_of(host, "web/store.p12"),
                              *password = secret_dup("changeit", 8);
    CLEANUP(pkcs12_done) struct pkcs12 read = {0};
    if (!content ||
        pkcs12_read((struct bytes){content->data, content->len}, password, NULL, &read, &st) != CODE_OK ||
        read.chain.n == 0 || !read.key || !key_matches_cert(read.key, der_bytes(&read.chain.item[0])))
        return false;
    sha256_hex(der_bytes(&read.chain.item[0]), out);
    return true;
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

static void on_cert(struct bytes der, const char *alias, bool with_key, void *arg)
{
    (void)alias;
    if (with_key)
        sha256_hex(der, arg);
}

/* Its digest holds, so the entry is whole. */
static bool find_jks(struct host *host, char out[65])
{
    AUTO_SECRET struct secret *content = content_of(host, "web/store.jks"),
                              *password = secret_dup("changeit", 8);
    struct keystore_info info;
    out[0] = 0;
    return content &&
           jks_certs((struct bytes){content->data, content->len}, password, 9, on_cert, out, &info, &st) ==
               CODE_OK &&
           out[0];
}

/* --- Kubernetes ---------------------------------------------------------------------------------------- */

void api_start(struct host *host)
{
    char port[8], line[160], *dir = host_path(host, "api");
    if (api_pid > 0)
        return;
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
    (void)snprintf(
        line, sizeof(line),
        "for i in $(seq 300); do echo | openssl s_client -connect 127.0.0.1:%u >/dev/null 2>&1 && exit 0; "
        "sleep 0.1; done; false",
        api_port);
    (void)shell(host, line);
}

void api_stop(void)
{
    if (api_pid > 0) {
        (void)kill(api_pid, SIGKILL);
        (void)waitpid(api_pid, NULL, 0);
    }
    api_pid = 0;
}

static void put_kubernetes(struct host *host, const struct issued *pair)
{
    AUTO_BUF struct buf text = {0};
    api_start(host);
    assert_true(
        buf_puts(&text,
                 "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"www-tls\",\"labels\":{"
                 "\"app\":\"www\"},\"resourceVersion\":\"7\"},\"type\":\"kubernetes.io/tls\",\"data\":{"
                 "\"tls.crt\":\"") &&
        base64_put(&text, pair->cert_pem.data, pair->cert_pem.len) && buf_puts(&text, "\",\"tls.key\":\"") &&
        base64_put(&text, pair->key_pem->data, pair->key_pem->len) &&
        buf_puts(&text, "\",\"extra\":\"eA==\"}}"));
    write_file(host_path(host, "api/secret.json"), text.data, text.len, 0600);
}

/* Leaf and key as PEM. */
static struct secret *secret_of(struct host *host, struct secret **ret_key)
{
    AUTO_SECRET struct secret *content = content_of(host, "api/secret.json");
    AUTO_ARENA struct arena *arena = arena_new();
    struct json_pick picks[] = {{.path = {"data", "tls.crt"}}, {.path = {"data", "tls.key"}}};
    uint8_t *crt = NULL, *key = NULL;
    size_t crt_len = 0, key_len = 0;
    if (!content || json_pick_texts((char *)content->data, content->len, picks, 2, arena, &st) != CODE_OK ||
        !base64_get(picks[0].text, arena, &crt, &crt_len) ||
        !base64_get(picks[1].text, arena, &key, &key_len))
        return NULL;
    *ret_key = secret_dup(key, key_len);
    return secret_dup(crt, crt_len);
}

static void get_kubernetes(struct host *host, char out[65])
{
    AUTO_FREE char *both = NULL;
    AUTO_SECRET struct secret *key = NULL, *crt = secret_of(host, &key);
    assert_non_null(crt);
    assert_true(asprintf(&both, "%s%s", (const char *)crt->data, (const char *)key->data) > 0);
    fingerprint_of(host, both, out);
}

static bool find_kubernetes(struct host *host, char out[65])
{
    AUTO_SECRET struct secret *key = NULL, *crt = secret_of(host, &key);
    return crt && fits((struct bytes){crt->data, crt->len}, key, out);
}

/* --- the table ----------------------------------------------------------------------------------------- */

#define KEYSTORE(name) "store=" name "\npassword_file=%s/password\n"

const struct store_kind store_kinds[] = {
    {.name = "separate",
     .lines = "certificate=%s/web/cert.pem\nkey=%s/web/key.pem\n",
     .file = "web/cert.pem",
     .key = "web/key.pem",
     .dir = "web",
     .torn = 1,
     .put = put_separate,
     .get = get_separate,
     .find = find_separate},
    {.name = "directory",
     .lines = "certificate=%s/web/tls/cert.pem\nkey=%s/web/tls/key.pem\nswap=directory\n",
     .file = "web/tls/cert.pem",
     .key = "web/tls/key.pem",
     .dir = "web/tls",
     .put = put_directory,
     .get = get_directory,
     .find = find_directory},
    {.name = "bundle",
     .lines = "certificate=%s/web/bundle.pem\n",
     .file = "web/bundle.pem",
     .key = "web/bundle.pem",
     .dir = "web",
     .put = put_bundle,
     .get = get_bundle,
     .find = find_bundle},
    {.name = "haproxy",
     .lines = "store=haproxy\ncertificate=%s/web/bundle.pem\n",
     .file = "web/bundle.pem",
     .key = "web/bundle.pem",
     .dir = "web",
     .put = put_bundle,
     .get = get_bundle,
     .find = find_bundle},
    {.name = "pkcs12",
     .lines = KEYSTORE("pkcs12") "certificate=%s/web/store.p12\n",
     .file = "web/store.p12",
     .key = "web/store.p12",
     .dir = "web",
     .put = put_pkcs12,
     .get = get_pkcs12,
     .find = find_pkcs12},
    {.name = "jks",
     .lines = KEYSTORE("jks") "certificate=%s/web/store.jks\nkeytool=/usr/bin/keytool\n",
     .file = "web/store.jks",
     .key = "web/store.jks",
     .dir = "web",
     .slow = true,
     .put = put_jks,
     .get = get_jks,
     .find = find_jks},
    {.name = "kubernetes",
     .lines = "store=kubernetes\nsecret=web/www-tls\ntoken_file=%s/api/token\nca_file=%s/api/api.pem\n",
     .put = put_kubernetes,
     .get = get_kubernetes,
     .find = find_kubernetes},
    {.name = NULL},
};

const struct store_kind *store_kind_find(const char *name)
{
    FOR_EACH_STORE(kind)
    {
        if (strcmp(kind->name, name) == 0)
            return kind;
    }
    fail_msg("no store %s", name);
    return NULL;
}

/* --- the target ---------------------------------------------------------------------------------------- */

void target_load(struct host *host, const struct store_kind *kind, const char *more)
{
    AUTO_BUF struct buf conf = {0};
    assert_true(buf_printf(&conf,
                           "[agent]\nstate_dir=%s/state\n[policy]\noperations=deploy renew validate\n"
                           "dns_names=*.example.test 127.0.0.1\n[reload works]\ncommand=/bin/true\n"
                           "[reload refuses]\ncommand=/bin/false\n[target t]\n",
                           host->dir));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
    assert_true(buf_printf(&conf, kind->lines, host->dir, host->dir, host->dir));
#pragma GCC diagnostic pop
    if (!kind->file)
        assert_true(buf_printf(&conf, "api_server=127.0.0.1:%u\n", api_port));
    assert_true(buf_puts(&conf, more));
    write_text(host_path(host, "agent.conf"), buf_text(&conf), 0644);
    policy_free(host->policy);
    host->policy = NULL;
    if (policy_load(host_path(host, "agent.conf"), &host->policy, &st) != CODE_OK)
        fail_msg("%s", st.msg);
}

struct issued target_prepare(struct host *host, const struct store_kind *kind, const char *more)
{
    int64_t now = clock_wall_ms();
    struct issued old = issue(host, NULL, now - 80 * DAY_MS, now + 10 * DAY_MS);
    (void)shell(host, "rm -rf web && mkdir -m 755 web");
    write_text(host_path(host, "password"), "changeit\n", 0600);
    kind->put(host, &old);
    target_load(host, kind, more);
    free(target_old_bytes);
    target_old_bytes = kind->file ? read_base64(host_path(host, kind->file)) : NULL;
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

int target_teardown(void **state)
{
    free(target_old_bytes);
    target_old_bytes = NULL;
    api_stop();
    return host_teardown(state);
}
