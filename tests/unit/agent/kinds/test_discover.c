/* DISCOVER: finds what is there, on disk, in configurations and on sockets, and survives what is hostile. */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/id.h"
#include "kinds/walk.h"
#include "pki/keystore.h"
#include "wire/wire.h"

/* A parser that a file kills: what no test file does to the real one. */
enum code __real_certs_sniff(struct bytes content, size_t max, void (*on_cert)(struct bytes der, void *arg),
                             void *arg, struct status *st);
enum code __wrap_certs_sniff(struct bytes content, size_t max, void (*on_cert)(struct bytes der, void *arg),
                             void *arg, struct status *st);
enum code __wrap_certs_sniff(struct bytes content, size_t max, void (*on_cert)(struct bytes der, void *arg),
                             void *arg, struct status *st)
{
    if (memmem(content.data, content.len, "KILL THE PARSER", 15))
        (void)raise(SIGKILL);
    return __real_certs_sniff(content, max, on_cert, arg, st);
}

static Clm__TaskSpec spec;
static Clm__DiscoverSpec discover;

static const Clm__TaskSpec *discovering(bool listening)
{
    clm__task_spec__init(&spec);
    clm__discover_spec__init(&discover);
    spec.has_kind = true;
    spec.kind = CLM__TASK__KIND__DISCOVER;
    spec.discover = &discover;
    discover.has_listening = true;
    discover.listening = listening;
    return &spec;
}

static const Clm__FoundCertificate *find(const struct outcome *out, Clm__FoundCertificate__Source source,
                                         const char *fingerprint)
{
    for (size_t i = 0; i < out->result.n_certificates; i++) {
        const Clm__FoundCertificate *found = out->result.certificates[i];
        if (found->source == source && strcmp(found->certificate->fingerprint_sha256, fingerprint) == 0)
            return found;
    }
    return NULL;
}
#define FILE_SOURCE CLM__FOUND_CERTIFICATE__SOURCE__FILE
#define CONFIGURED  CLM__FOUND_CERTIFICATE__SOURCE__CONFIGURATION
#define LISTENER    CLM__FOUND_CERTIFICATE__SOURCE__LISTENER

/* Without waiting for the disk: there are many of them. */
static void put_plain(const char *path, const void *data, size_t len)
{
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, data, len) != (ssize_t)len)
        fail_msg("%s: %s", path, strerror(errno));
}

static void certificate_of_nginx_is_found_everywhere(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    char endpoint[32];
    AUTO_ISSUED struct issued pair = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    put_pair(host, &pair);
    write_nginx_conf(host, NULL);
    start_nginx(host);
    load_policy(host, NULL, NULL);
    AUTO_OUTCOME struct outcome out = run_kind(host, discovering(true));
    assert_int_equal(out.code, CODE_OK);
    (void)snprintf(endpoint, sizeof(endpoint), "127.0.0.1:%u", host->port);

    const Clm__FoundCertificate *file = find(&out, FILE_SOURCE, pair.fingerprint);
    assert_non_null(file);
    assert_string_equal(file->path, host_path(host, "cert.pem"));
    assert_string_equal(file->used_by, "nginx");
    assert_string_equal(file->key_path, host_path(host, "key.pem"));
    assert_true(file->served);
    const Clm__FoundCertificate *configured = find(&out, CONFIGURED, pair.fingerprint);
    assert_non_null(configured);
    assert_string_equal(configured->endpoint, endpoint);
    assert_string_equal(configured->server_name, "www.example.test");
    assert_true(configured->served);
    const Clm__FoundCertificate *listener = find(&out, LISTENER, pair.fingerprint);
    assert_non_null(listener);
    assert_string_equal(listener->endpoint, endpoint);
    assert_string_equal(listener->used_by, "nginx");
    assert_string_equal(listener->process, "nginx");
    assert_int_equal(listener->pid, host->nginx);
}

static void content_decides_and_not_the_name(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued pem = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    AUTO_ISSUED struct issued der = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    load_policy(host, NULL, NULL);
    assert_int_equal(mkdir(host_path(host, "a"), 0700), 0);
    assert_int_equal(mkdir(host_path(host, "a/b"), 0700), 0);
    AUTO_BUF struct buf text = {0};
    assert_true(buf_printf(&text, "some words before\n%s", buf_text(&pem.cert_pem)));
    write_text(host_path(host, "a/b/notes.txt"), buf_text(&text), 0600);
    write_file(host_path(host, "a/blob"), der.cert.data, der.cert.len, 0600);
    write_file(host_path(host, "a/key.pem"), pem.key_pem->data, pem.key_pem->len, 0600);
    write_text(host_path(host, "a/fake.crt"),
               "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n"
               "-----END CERTIFICATE-----\n",
               0600);
    AUTO_OUTCOME struct outcome out = run_kind(host, discovering(false));
    assert_int_equal(out.code, CODE_OK);
    assert_non_null(find(&out, FILE_SOURCE, pem.fingerprint));
    assert_non_null(find(&out, FILE_SOURCE, der.fingerprint));
    assert_int_equal(out.result.n_certificates, 2);
    assert_false(out.result.truncated);
}

static void hostile_entries_cost_nothing_else(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued pair = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    load_policy(host, NULL, NULL);
    assert_int_equal(mkdir(host_path(host, "d"), 0700), 0);
    write_file(host_path(host, "d/good.pem"), pair.cert_pem.data, pair.cert_pem.len, 0600);
    /* Traps of the file system. */
    assert_int_equal(mkfifo(host_path(host, "d/pipe.pem"), 0600), 0);
    assert_int_equal(symlink("/dev/zero", host_path(host, "d/zero.pem")), 0);
    assert_int_equal(symlink(host->dir, host_path(host, "d/loop")), 0);
    AUTO_FREE char *huge = host_path(host, "d/huge.pem") ? strdup(host_path(host, "d/huge.pem")) : NULL;
    write_text(huge, "-----BEGIN CERTIFICATE-----\n", 0600);
    assert_int_equal(truncate(huge, 5ll * 1024 * 1024 * 1024), 0);
    /* Traps of the content: lengths that lie, nesting, cut and repeated blocks. */
    uint8_t lies[512];
    memset(lies, 0x30, sizeof(lies));
    lies[1] = 0x84;
    write_file(host_path(host, "d/lies.der"), lies, sizeof(lies), 0600);
    for (size_t i = 1; i < sizeof(lies); i += 2)
        lies[i] = 0x80;
    write_file(host_path(host, "d/nested.der"), lies, sizeof(lies), 0600);
    write_file(host_path(host, "d/cut.pem"), pair.cert_pem.data, pair.cert_pem.len / 2, 0600);
    AUTO_BUF struct buf many = {0};
    while (many.len < 900 * 1024)
        assert_true(buf_puts(&many, "-----BEGIN CERTIFICATE-----\n"));
    write_file(host_path(host, "d/many.pem"), many.data, many.len, 0600);
    for (size_t i = 100; i < pair.cert.len; i += 97) { /* flipped bytes all over a certificate */
        char name[32];
        (void)snprintf(name, sizeof(name), "d/flip%zu.der", i);
        pair.cert.data[i] ^= 0xff;
        write_file(host_path(host, name), pair.cert.data, pair.cert.len, 0600);
        pair.cert.data[i] ^= 0xff;
    }
    AUTO_OUTCOME struct outcome out = run_kind(host, discovering(false));
    assert_int_equal(out.code, CODE_OK);
    assert_non_null(find(&out, FILE_SOURCE, pair.fingerprint));
    for (size_t i = 0; i < out.result.n_certificates; i++)
        assert_null(strstr(out.result.certificates[i]->path, "/loop/"));
}

static void file_that_kills_its_parser_costs_only_itself(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    load_policy(host, NULL, NULL);
    for (int i = 0; i < 6; i++) {
        char name[16];
        AUTO_BUF struct buf text = {0};
        struct issued pair = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
        (void)snprintf(name, sizeof(name), "c%d.pem", i);
        assert_true(
            buf_printf(&text, "%s%s", i % 3 == 1 ? "KILL THE PARSER\n" : "", buf_text(&pair.cert_pem)));
        write_file(host_path(host, name), text.data, text.len, 0600);
        issued_done(&pair);
    }
    AUTO_OUTCOME struct outcome out = run_kind(host, discovering(false));
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    assert_int_equal(out.result.n_certificates, 4);
    assert_int_equal(out.result.files_unreadable, 2);
}

static void age(const char *path)
{
    struct timespec times[2] = {{.tv_sec = 1700000000}, {.tv_sec = 1700000000}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* A file's ctime is now, whatever its times say: only a settled file is remembered, so the test's clock goes
 * on. */
static void unchanged_files_are_not_opened_again(void **state)
{
    struct host *host = *state;
    struct issued pair = issue(host, NULL, clock_wall_ms() - DAY_MS, clock_wall_ms() + 80 * DAY_MS);
    struct issued other = issue(host, NULL, clock_wall_ms() - DAY_MS, clock_wall_ms() + 80 * DAY_MS);
    load_policy(host, NULL, NULL);
    assert_int_equal(mkdir(host_path(host, "d"), 0700), 0);
    char *roots[] = {host_path(host, "d")};
    write_file(host_path(host, "d/a.pem"), pair.cert_pem.data, pair.cert_pem.len, 0600);
    for (int i = 0; i < 20; i++) {
        char name[32], text[256];
        (void)snprintf(name, sizeof(name), "d/f%d", i);
        (void)snprintf(text, sizeof(text), "%0200d", i);
        write_text(host_path(host, name), text, 0600);
        age(host_path(host, name));
    }
    age(host_path(host, "d/a.pem"));
    for (unsigned scan = 0; scan < 4; scan++) {
        if (scan == 3) { /* changed in place, with the same time */
            write_file(host_path(host, "d/a.pem"), other.cert_pem.data, other.cert_pem.len, 0600);
            age(host_path(host, "d/a.pem"));
        }
        (void)discovering(false);
        discover.roots = roots;
        discover.n_roots = 1;
        clock_fake(clock_wall_ms() + 10000);
        struct outcome out = run_kind(host, &spec);
        assert_int_equal(out.result.files_scanned, 21);
        assert_int_equal(out.result.files_unchanged, scan == 0 ? 0 : scan == 3 ? 20 : 21);
        assert_int_equal(out.result.n_certificates, 1);
        assert_non_null(find(&out, FILE_SOURCE, scan == 3 ? other.fingerprint : pair.fingerprint));
        assert_string_equal(out.result.certificates[0]->path, host_path(host, "d/a.pem"));
        outcome_done(&out);
    }
    clock_real();
    issued_done(&pair);
    issued_done(&other);
}

static void keystores_are_read_without_their_passwords(void **state)
{
    struct host *host = *state;
    struct status st;
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued pair = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    load_policy(host, NULL, NULL);
    AUTO_KEY struct key *key = NULL;
    AUTO_DER_LIST struct der_list chain = {0};
    AUTO_SECRET struct secret *password = secret_dup("changeit", 8), *p12 = NULL;
    assert_int_equal(key_parse(pair.key_pem, NULL, &key, &st), CODE_OK);
    assert_int_equal(der_list_add(&chain, der_bytes(&pair.cert), &st), CODE_OK);
    assert_int_equal(pkcs12_make(key, &chain, "web", password, PKCS12_MODERN, &p12, &st), CODE_OK);
    write_file(host_path(host, "store"), p12->data, p12->len, 0600);
    AUTO_OUTCOME struct outcome out = run_kind(host, discovering(false));
    assert_int_equal(out.result.n_certificates, 0);
    assert_int_equal(out.result.keystores_sealed, 1);
    assert_non_null(strstr(out.message, "1 keystores want a password"));
    outcome_done(&out);
    /* One that a target of the local policy names is opened with that target's password. */
    AUTO_BUF struct buf conf = {0};
    assert_true(buf_printf(
        &conf, "%s[target keystore]\nstore = pkcs12\ncertificate = %s/store\npassword_file = %s/password\n",
        read_text(host_path(host, "agent.conf")), host->dir, host->dir));
    write_text(host_path(host, "agent.conf"), buf_text(&conf), 0644);
    write_text(host_path(host, "password"), "changeit\n", 0600);
    policy_free(host->policy);
    host->policy = NULL;
    assert_int_equal(policy_load(host_path(host, "agent.conf"), &host->policy, &st), CODE_OK);
    out = run_kind(host, discovering(false));
    assert_int_equal(out.result.keystores_sealed, 0);
    const Clm__FoundCertificate *found = find(&out, FILE_SOURCE, pair.fingerprint);
    assert_non_null(found);
    assert_string_equal(found->alias, "web");
    outcome_done(&out);
    write_text(host_path(host, "password"), "another", 0600); /* which does not open it */
    (void)unlink(host_path(host, "state/discovery.seen"));    /* nor is it asked what it knew */
    out = run_kind(host, discovering(false));
    assert_int_equal(out.result.keystores_sealed, 1);
}

static void ranges_are_looked_at_as_far_as_the_policy_allows(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    AUTO_ISSUED struct issued pair = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
    put_pair(host, &pair);
    write_nginx_conf(host, NULL);
    start_nginx(host);
    load_policy(host, NULL, NULL);
    char *ranges[] = {(char[]){"127.0.0.0/29"}, (char[]){"localhost"}};
    uint32_t ports[] = {host->port};
    (void)discovering(false);
    discover.has_files = true;
    discover.ranges = ranges;
    discover.n_ranges = 2;
    discover.ports = ports;
    discover.n_ports = 1;
    AUTO_OUTCOME struct outcome out = run_kind(host, &spec);
    assert_int_equal(out.code, CODE_OK);
    assert_int_equal(out.result.endpoints_looked_at, 9);
    size_t network = 0;
    for (size_t i = 0; i < out.result.n_certificates; i++)
        network += out.result.certificates[i]->source == CLM__FOUND_CERTIFICATE__SOURCE__NETWORK;
    assert_int_equal(network, 2); /* 127.0.0.1, and by name */
    outcome_done(&out);
    /* One address that is not allowed, and nothing is looked at. */
    ranges[1] = (char[]){"192.0.2.0/30"};
    out = run_kind(host, &spec);
    assert_int_equal(out.code, CODE_PERMISSION_DENIED);
    assert_non_null(
        strstr(out.st.msg, "local policy forbids connecting to 192.0.2.0: add it to probe_hosts"));
}

static void trust_store_is_no_finding(void **state)
{
    struct host *host = *state;
    load_policy(host, NULL, NULL);
    AUTO_BUF struct buf many = {0};
    for (int i = 0; i < 11; i++)
        assert_true(buf_puts(&many, buf_text(&host->root_pem)));
    write_file(host_path(host, "bundle.pem"), many.data, many.len, 0600);
    AUTO_OUTCOME struct outcome out = run_kind(host, discovering(false));
    assert_int_equal(out.result.n_certificates, 0);
    outcome_done(&out);
    write_file(host_path(host, "root.pem"), host->root_pem.data, host->root_pem.len, 0600);
    out = run_kind(host, discovering(false));
    assert_int_equal(out.result.n_certificates, 1);
}

static void limits_are_kept_and_told(void **state)
{
    struct host *host = *state;
    int64_t now = clock_wall_ms();
    load_policy(host, NULL, NULL);
    for (int i = 0; i < 5; i++) {
        char name[16];
        struct issued pair = issue(host, NULL, now - DAY_MS, now + 80 * DAY_MS);
        (void)snprintf(name, sizeof(name), "c%d.pem", i);
        write_file(host_path(host, name), pair.cert_pem.data, pair.cert_pem.len, 0600);
        issued_done(&pair);
    }
    (void)discovering(false);
    discover.has_max_certificates = true;
    discover.max_certificates = 3;
    AUTO_OUTCOME struct outcome out = run_kind(host, &spec);
    assert_int_equal(out.result.n_certificates, 3);
    assert_true(out.result.truncated);
    outcome_done(&out);
    char *roots[] = {(char[]){"/root"}};
    (void)discovering(false);
    discover.roots = roots;
    discover.n_roots = 1;
    out = run_kind(host, &spec);
    assert_int_equal(out.code, CODE_PERMISSION_DENIED);
    assert_non_null(strstr(out.st.msg, "discovery_roots"));
}

/* Certificates with as many and as long names as there may be: the result stays within what the platform
 * takes. */
static void result_stays_within_its_limit(void **state)
{
    struct host *host = *state;
    struct status st;
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der spki = {0};
    struct pki_names names = {0};
    char label[58];
    assert_int_equal(key_generate(KEY_EC_P256, &key, &st), CODE_OK);
    assert_int_equal(key_spki(key, &spki, &st), CODE_OK);
    memset(label, 'a', sizeof(label) - 1);
    label[sizeof(label) - 1] = 0;
    for (; names.n_dns < PKI_NAMES_MAX; names.n_dns++)
        assert_true(asprintf(&names.dns[names.n_dns], "n%zu.%s.%s.%s.%s", names.n_dns, label, label, label,
                             label) > 0);
    int64_t now = clock_wall_ms();
    struct cert_request req = {.spki = der_bytes(&spki),
                               .names = &names,
                               .purpose = PURPOSE_TLS_SERVER,
                               .path_len = -1,
                               .not_before_ms = now,
                               .not_after_ms = now + DAY_MS};
    load_policy(host, NULL, NULL);
    for (int i = 0; i < 200; i++) {
        char name[16];
        AUTO_DER struct der cert = {0};
        assert_int_equal(issuer_sign(host->ca, &req, &cert, &st), CODE_OK);
        (void)snprintf(name, sizeof(name), "c%d.der", i);
        put_plain(host_path(host, name), cert.data, cert.len);
    }
    struct outcome out = run_kind(host, discovering(false));
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    assert_true(out.result.n_certificates > 100);
    assert_true(out.result.truncated);
    assert_true(clm__task_result__get_packed_size(&out.result) <= 4 * 1024 * 1024);
    outcome_done(&out);
    pki_names_done(&names);
}

/* --- what somebody put there ------------------------------------------------------------------------------
 */

static struct outcome scan(struct host *host, const char *dir)
{
    static char *roots[1];
    roots[0] = host_path(host, dir);
    (void)discovering(false);
    discover.has_configurations = true;
    discover.roots = roots;
    discover.n_roots = 1;
    return run_kind(host, &spec);
}

static void put_good(struct host *host, const struct issued *pair, const char *name)
{
    put_plain(host_path(host, name), pair->cert_pem.data, pair->cert_pem.len);
}

static void only_ordinary_files_below_the_roots_are_opened(void **state)
{
    struct host *host = *state;
    struct issued inside = issue(host, NULL, clock_wall_ms() - DAY_MS, clock_wall_ms() + 80 * DAY_MS);
    struct issued outside = issue(host, NULL, clock_wall_ms() - DAY_MS, clock_wall_ms() + 80 * DAY_MS);
    load_policy(host, NULL, NULL);
    assert_int_equal(mkdir(host_path(host, "d"), 0700), 0);
    assert_int_equal(mkdir(host_path(host, "out"), 0700), 0);
    assert_int_equal(mkdir(host_path(host, "d/shut"), 0), 0);
    put_good(host, &inside, "d/good.pem");
    put_good(host, &outside, "out/secret.pem");
    assert_int_equal(symlink(host_path(host, "out"), host_path(host, "d/directory")), 0);
    assert_int_equal(symlink("../out/secret.pem", host_path(host, "d/file.pem")), 0);
    assert_int_equal(symlink("b", host_path(host, "d/a")), 0); /* links in a circle */
    assert_int_equal(symlink("a", host_path(host, "d/b")), 0);
    assert_int_equal(mkfifo(host_path(host, "d/fifo.pem"), 0600), 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/d/socket.pem", host->dir);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    if (geteuid() == 0) /* reading it would never end */
        assert_int_equal(mknod(host_path(host, "d/zero.pem"), S_IFCHR | 0600, makedev(1, 5)), 0);
    struct outcome out = scan(host, "d");
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    assert_int_equal(out.result.n_certificates, 1);
    assert_int_equal(out.result.files_scanned, 1);
    assert_string_equal(out.result.certificates[0]->path, host_path(host, "d/good.pem"));
    outcome_done(&out);
    /* A root that is itself a link is none. */
    assert_int_equal(symlink(host_path(host, "out"), host_path(host, "root")), 0);
    out = scan(host, "root");
    assert_int_equal(out.result.n_certificates, 0);
    outcome_done(&out);
    /* Nor is one behind a link that whoever may write below an allowed directory has put there. */
    assert_int_equal(mkdir(host_path(host, "out/inner"), 0700), 0);
    put_good(host, &outside, "out/inner/secret.pem");
    out = scan(host, "out/inner");
    assert_int_equal(out.result.n_certificates, 1);
    outcome_done(&out);
    out = scan(host, "d/directory/inner");
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    assert_int_equal(out.result.n_certificates, 0);
    assert_int_equal(out.result.files_scanned, 0);
    outcome_done(&out);
    assert_int_equal(chmod(host_path(host, "d/shut"), 0700), 0);
    issued_done(&inside);
    issued_done(&outside);
}

static void sparse_files_of_a_terabyte_cost_a_page(void **state)
{
    static const char *const begins[] = {"-----BEGIN CERTIFICATE-----\n", "\xfe\xed\xfe\xed", "0\x84",
                                         "text"};
    struct host *host = *state;
    struct issued pair = issue(host, NULL, clock_wall_ms() - DAY_MS, clock_wall_ms() + 80 * DAY_MS);
    load_policy(host, NULL, NULL);
    assert_int_equal(mkdir(host_path(host, "d"), 0700), 0);
    put_good(host, &pair, "d/good.pem");
    for (size_t i = 0; i < ARRAY_LEN(begins); i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "d/sparse%zu", i);
        char *path = host_path(host, name);
        write_text(path, begins[i], 0600);
        assert_int_equal(truncate(path, 1ll << 40), 0);
    }
    AUTO_OUTCOME struct outcome out = scan(host, "d");
    assert_int_equal(out.result.files_scanned, 5);
    assert_int_equal(out.result.n_certificates, 1);
    issued_done(&pair);
}

/* The platform takes texts that are UTF-8: a file's name may be anything, and costs no other file its place.
 */
static void names_of_files_may_be_anything(void **state)
{
    static const char *const names[] = {"d/line\nbreak.pem",   "d/\x1b[31mred.pem", "d/not\xff\xfeutf8.pem",
                                        "d/m\xc3\xbcller.pem", "d/ .pem",           "d/'; rm -rf x.pem"};
    struct host *host = *state;
    struct status st;
    struct issued pair = issue(host, NULL, clock_wall_ms() - DAY_MS, clock_wall_ms() + 80 * DAY_MS);
    load_policy(host, NULL, NULL);
    assert_int_equal(mkdir(host_path(host, "d"), 0700), 0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        put_good(host, &pair, names[i]);
    char longest[256] = "d/";
    memset(longest + 2, 'x', 250);
    put_good(host, &pair, longest);
    AUTO_OUTCOME struct outcome out = scan(host, "d");
    assert_int_equal(out.result.n_certificates, ARRAY_LEN(names) + 1);
    if (wire_check(&out.result.base, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    size_t kept = 0, marked = 0;
    for (size_t i = 0; i < out.result.n_certificates; i++) {
        kept += strstr(out.result.certificates[i]->path, "/m\xc3\xbcller.pem") != NULL;
        marked += strstr(out.result.certificates[i]->path, "/not??utf8.pem") != NULL;
    }
    assert_int_equal(kept, 1);
    assert_int_equal(marked, 1);
    issued_done(&pair);
}

static void depth_ends_the_walk_and_nothing_else(void **state)
{
    struct host *host = *state;
    struct issued pair = issue(host, NULL, clock_wall_ms() - DAY_MS, clock_wall_ms() + 80 * DAY_MS);
    load_policy(host, NULL, NULL);
    assert_int_equal(mkdir(host_path(host, "d"), 0700), 0);
    put_good(host, &pair, "d/good.pem");
    int dir = open(host_path(host, "d"), O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 300; i++) { /* longer than a path may be, too */
        static const char name[] = "a-directory-whose-name-is-long";
        assert_int_equal(mkdirat(dir, name, 0700), 0);
        int below = openat(dir, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        assert_true(below >= 0);
        (void)close(dir);
        dir = below;
        int fd = openat(dir, "deep.pem", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(write(fd, pair.cert_pem.data, pair.cert_pem.len), (ssize_t)pair.cert_pem.len);
        (void)close(fd);
    }
    (void)close(dir);
    struct outcome out = scan(host, "d");
    assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__SUCCEEDED);
    assert_int_equal(out.result.n_certificates, WALK_DEPTH_MAX);
    assert_int_equal(out.result.files_unreadable, 1); /* what is below, said once */
    outcome_done(&out);
    (void)shell(host, "rm -rf d"); /* deeper than nftw goes */
    issued_done(&pair);
}

static void directory_of_very_many_entries_is_no_matter(void **state)
{
    enum { ENTRIES = 100000 };
    struct host *host = *state;
    struct issued pair = issue(host, NULL, clock_wall_ms() - DAY_MS, clock_wall_ms() + 80 * DAY_MS);
    load_policy(host, NULL, NULL);
    assert_int_equal(mkdir(host_path(host, "d"), 0700), 0);
    AUTO_CLOSE int dir = open(host_path(host, "d"), O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < ENTRIES; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "f%d", i);
        assert_int_equal(mknodat(dir, name, S_IFREG | 0600, 0), 0);
    }
    put_good(host, &pair, "d/good.pem");
    AUTO_OUTCOME struct outcome out = scan(host, "d");
    assert_int_equal(out.result.files_scanned, ENTRIES + 1);
    assert_int_equal(out.result.n_certificates, 1);
    issued_done(&pair);
}

/* --- being stopped -----------------------------------------------------------------------------------------
 */

static unsigned asked, patience;

static bool stop_after_a_while(struct task_run *run)
{
    (void)run;
    return asked++ >= patience;
}

static size_t children(void)
{
    size_t n = 0;
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    AUTO_FCLOSE FILE *f = fopen(path, "re");
    for (int pid; f && fscanf(f, "%d", &pid) == 1;)
        n++;
    return n;
}

static size_t descriptors(void)
{
    size_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        n++;
    if (dir)
        (void)closedir(dir);
    return n;
}

static void walk_that_is_cancelled_ends_at_once_and_leaves_nothing(void **state)
{
    struct host *host = *state;
    struct issued pair = issue(host, NULL, clock_wall_ms() - DAY_MS, clock_wall_ms() + 80 * DAY_MS);
    load_policy(host, NULL, NULL);
    for (int d = 0; d < 30; d++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "d%d", d);
        assert_int_equal(mkdir(host_path(host, name), 0700), 0);
        for (int i = 0; i < 50; i++) {
            (void)snprintf(name, sizeof(name), "d%d/c%d.pem", d, i);
            put_good(host, &pair, name);
        }
    }
    size_t fds = descriptors();
    for (patience = 0; patience < 4; patience++) {
        asked = 0;
        run_stop = stop_after_a_while;
        struct outcome out = run_kind(host, discovering(true));
        run_stop = NULL;
        assert_int_equal(out.code, CODE_OK);
        assert_int_equal(out.outcome, CLM__RECEIPT__OUTCOME__CANCELLED);
        assert_true(out.result.n_certificates < 1500);
        assert_int_equal(children(), 0);
        assert_int_equal(descriptors(), fds);
        /* Half a scan is not remembered as a whole one. */
        assert_int_equal(access(host_path(host, "state/discovery.seen"), F_OK), -1);
        outcome_done(&out);
    }
    AUTO_OUTCOME struct outcome out = run_kind(host, discovering(false));
    assert_int_equal(out.result.n_certificates, 1500);
    assert_int_equal(children(), 0);
    assert_int_equal(descriptors(), fds);
    issued_done(&pair);
}

/* It gives way to everything else on the host, and holds as many descriptors as it has threads and levels. */
static void walk_is_modest(void **state)
{
    struct host *host = *state;
    struct status st;
    struct walk walk;
    struct issued pair = issue(host, NULL, clock_wall_ms() - DAY_MS, clock_wall_ms() + 80 * DAY_MS);
    char data[64 * 1024], path[64];
    size_t most = 0;
    memset(data, 'x', sizeof(data));
    memcpy(data, pair.cert_pem.data, pair.cert_pem.len);
    for (int i = 0; i < 200; i++) { /* more than the pipe holds: the walk waits for its reader */
        char name[32];
        (void)snprintf(name, sizeof(name), "f%d.pem", i);
        put_plain(host_path(host, name), data, sizeof(data));
    }
    const struct walk_root roots[] = {{host->dir, host->dir}, {NULL, NULL}};
    struct seen *seen = seen_load(host_path(host, "seen"));
    assert_int_equal(walk_start(&walk, roots, seen, WALK_THREADS_MAX, &st), CODE_OK);
    struct walk_found found;
    for (unsigned n = 0; walk_next(&walk, 10000, &found) == WALK_FOUND; n++) {
        free(found.path);
        free(found.data);
        if (n == 0) {
            errno = 0;
            assert_int_equal(getpriority(PRIO_PROCESS, (id_t)walk.pid), 10);
            assert_int_equal(syscall(SYS_ioprio_get, 1, walk.pid) & 7, 7);
        }
        size_t open_now = 0;
        (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)walk.pid);
        DIR *dir = opendir(path);
        while (dir && readdir(dir))
            open_now++;
        if (dir)
            (void)closedir(dir);
        most = open_now > most ? open_now : most;
    }
    assert_true(walk_stop(&walk));
    assert_in_range(most, 1,
                    2 + 4 + 2 * WALK_THREADS_MAX); /* ".", "..", the root, the pipe; a directory and a file */
    walk_done(&walk);
    seen_free(seen);
    issued_done(&pair);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, host_setup, host_teardown)
    const struct CMUnitTest tests[] = {
        TEST(certificate_of_nginx_is_found_everywhere),
        TEST(content_decides_and_not_the_name),
        TEST(hostile_entries_cost_nothing_else),
        TEST(file_that_kills_its_parser_costs_only_itself),
        TEST(unchanged_files_are_not_opened_again),
        TEST(keystores_are_read_without_their_passwords),
        TEST(ranges_are_looked_at_as_far_as_the_policy_allows),
        TEST(trust_store_is_no_finding),
        TEST(limits_are_kept_and_told),
        TEST(result_stays_within_its_limit),
        TEST(only_ordinary_files_below_the_roots_are_opened),
        TEST(sparse_files_of_a_terabyte_cost_a_page),
        TEST(names_of_files_may_be_anything),
        TEST(depth_ends_the_walk_and_nothing_else),
        TEST(directory_of_very_many_entries_is_no_matter),
        TEST(walk_that_is_cancelled_ends_at_once_and_leaves_nothing),
        TEST(walk_is_modest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
