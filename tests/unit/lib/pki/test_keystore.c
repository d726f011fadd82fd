/* Keystores: what we write others read (openssl, keytool), and the reverse; hostile ones are refused. */
#include "fixture.h"

#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "pki/keystore.h"
#include "support/tree.h"

static struct pki pki;
static struct entity server;
static struct der_list chain;
static char dir[64];
static struct secret *password, *wrong;
static struct status st;

static int setup(void **state UNUSED)
{
    pki_init(&pki, clock_wall_ms());
    entity_init(&server, &pki.managed, PURPOSE_SERVICE, "service", "web", pki.now_ms);
    assert_ok(der_list_add(&chain, der_bytes(&server.cert), &st), &st);
    assert_ok(der_list_add(&chain, der_bytes(&pki.managed.cert), &st), &st);
    (void)snprintf(dir, sizeof(dir), "/tmp/clm-keystore-XXXXXX");
    assert_non_null(mkdtemp(dir));
    password = secret_dup("changeit", 8);
    wrong = secret_dup("changed!", 8);
    return 0;
}

static int teardown(void **state UNUSED)
{
    tree_remove(dir);
    secret_free(password);
    secret_free(wrong);
    der_list_done(&chain);
    entity_done(&server);
    pki_done(&pki);
    return 0;
}

/* Runs a shell line in the directory; what it printed, at most 16 KiB. */
static const char *shell(const char *line)
{
    static char out[16384];
    char command[1024];
    (void)snprintf(command, sizeof(command), "cd %s && %s 2>&1", dir, line);
    FILE *pipe = popen(command, "re");
    assert_non_null(pipe);
    size_t n = fread(out, 1, sizeof(out) - 1, pipe);
    out[n] = 0;
    int status = pclose(pipe);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("%s: %s", line, out);
    return out;
}

static void put(const char *name, const void *data, size_t len)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_ok(file_write_atomic(path, data, len, 0600, &st), &st);
}

static struct buf get(const char *name)
{
    char path[128];
    struct buf content = {.limit = KEYSTORE_MAX_BYTES + 1};
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_ok(file_read(path, KEYSTORE_MAX_BYTES + 1, &content, &st), &st);
    return content;
}

static struct bytes buf_bytes(const struct buf *buf)
{
    return (struct bytes){buf->data, buf->len};
}

struct seen {
    unsigned n, with_key;
    char alias[KEYSTORE_ALIAS_SIZE], fingerprint[65];
};

static void on_cert(struct bytes der, const char *alias, bool with_key, void *arg)
{
    struct seen *seen = arg;
    AUTO_CERT_INFO struct cert_info info = {0};
    assert_ok(cert_read(der, &info, &st), &st);
    seen->n++;
    if (!with_key)
        return;
    seen->with_key++;
    (void)snprintf(seen->alias, sizeof(seen->alias), "%s", alias);
    (void)snprintf(seen->fingerprint, sizeof(seen->fingerprint), "%s", info.fingerprint);
}

static void server_fingerprint(char out[65])
{
    AUTO_CERT_INFO struct cert_info info = {0};
    assert_ok(cert_read(der_bytes(&server.cert), &info, &st), &st);
    memcpy(out, info.fingerprint, 65);
}

static struct secret *make(enum pkcs12_encryption encryption)
{
    struct secret *made = NULL;
    assert_ok(pkcs12_make(server.key, &chain, "web", password, encryption, &made, &st), &st);
    return made;
}

static struct bytes secret_bytes(const struct secret *secret)
{
    return (struct bytes){secret->data, secret->len};
}

static void assert_is_ours(const struct pkcs12 *read)
{
    assert_true(key_matches_cert(read->key, der_bytes(&server.cert)));
    assert_true(read->chain.n >= 1);
    assert_int_equal(read->chain.item[0].len, server.cert.len);
    assert_memory_equal(read->chain.item[0].data, server.cert.data, server.cert.len);
}

/* --- PKCS#12 -------------------------------------------------------------------------------------------- */

static void openssl_and_keytool_read_what_is_written(void **state UNUSED)
{
    for (int encryption = PKCS12_MODERN; encryption <= PKCS12_LEGACY; encryption++) {
        AUTO_SECRET struct secret *made = make((enum pkcs12_encryption)encryption);
        put("store.p12", made->data, made->len);
        const char *out = shell("openssl pkcs12 -in store.p12 -passin pass:changeit -info -nodes");
        assert_non_null(strstr(out, "PRIVATE KEY"));
        assert_non_null(
            strstr(out, encryption == PKCS12_MODERN ? "AES-256-CBC" : "pbeWithSHA1And3-KeyTripleDES"));
        assert_non_null(strstr(out, encryption == PKCS12_MODERN ? "MAC: sha256" : "MAC: sha1"));
        out = shell("keytool -list -v -keystore store.p12 -storepass changeit");
        assert_non_null(strstr(out, "Alias name: web"));
        assert_non_null(strstr(out, "PrivateKeyEntry"));
        assert_non_null(strstr(out, "Certificate chain length: 2"));
    }
}

static void what_is_written_is_read_back(void **state UNUSED)
{
    AUTO_SECRET struct secret *made = make(PKCS12_MODERN);
    CLEANUP(pkcs12_done) struct pkcs12 read = {0};
    assert_int_equal(keystore_sniff(secret_bytes(made)), KEYSTORE_PKCS12);
    assert_ok(pkcs12_read(secret_bytes(made), password, NULL, &read, &st), &st);
    assert_is_ours(&read);
    assert_int_equal(read.chain.n, 2);
    assert_string_equal(read.alias, "web");
    assert_int_equal(read.others, 0);
}

static void what_keytool_and_openssl_write_is_read(void **state UNUSED)
{
    AUTO_SECRET struct secret *key = NULL;
    AUTO_BUF struct buf pem = {0};
    struct seen seen = {0};
    struct keystore_info info;
    assert_ok(key_to_pem(server.key, NULL, &key, &st), &st);
    assert_ok(certs_to_pem(&chain, &pem, &st), &st);
    put("key.pem", key->data, key->len);
    put("chain.pem", pem.data, pem.len);
    static const char *const lines[] = {
        "openssl pkcs12 -export -inkey key.pem -in chain.pem -name web -passout pass:changeit -out o.p12",
        "openssl pkcs12 -export -legacy -inkey key.pem -in chain.pem -name web -passout pass:changeit -out "
        "o.p12",
        "openssl pkcs12 -export -certpbe NONE -keypbe NONE -inkey key.pem -in chain.pem -name web -passout "
        "pass:changeit -out o.p12",
        "rm -f o.p12 && openssl pkcs12 -export -inkey key.pem -in chain.pem -name web -passout pass:changeit "
        "-out "
        "i.p12 && keytool -importkeystore -srckeystore i.p12 -srcstorepass changeit -destkeystore o.p12 "
        "-deststoretype PKCS12 -deststorepass changeit",
    };
    pkcs12_load_legacy();
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        CLEANUP(pkcs12_done) struct pkcs12 read = {0};
        (void)shell(lines[i]);
        AUTO_BUF struct buf file = get("o.p12");
        if (pkcs12_read(buf_bytes(&file), password, NULL, &read, &st) != CODE_OK)
            fail_msg("%s: %s", lines[i], st.msg);
        assert_is_ours(&read);
        assert_string_equal(read.alias, "web");
        assert_ok(pkcs12_certs(buf_bytes(&file), password, 100, on_cert, &seen, &info, &st), &st);
        assert_int_equal(info.keys, 1);
        assert_true(info.verified);
    }
    assert_int_equal(seen.with_key, ARRAY_LEN(lines));
    assert_int_equal(seen.n, 2 * ARRAY_LEN(lines));
}

static void wrong_password_is_told_and_none_seals(void **state UNUSED)
{
    AUTO_SECRET struct secret *made = make(PKCS12_MODERN);
    CLEANUP(pkcs12_done) struct pkcs12 read = {0};
    struct keystore_info info;
    struct seen seen = {0};
    assert_code(CODE_PERMISSION_DENIED, pkcs12_read(secret_bytes(made), wrong, NULL, &read, &st), &st);
    assert_says(&st, "wrong password");
    assert_code(CODE_PERMISSION_DENIED, pkcs12_read(secret_bytes(made), NULL, NULL, &read, &st), &st);
    assert_says(&st, "no password was given");
    assert_ok(pkcs12_certs(secret_bytes(made), NULL, 10, on_cert, &seen, &info, &st), &st);
    assert_int_equal(seen.n, 0);
    assert_int_equal(info.sealed, 1);
    assert_false(info.verified);
}

static void other_entries_are_counted(void **state UNUSED)
{
    AUTO_SECRET struct secret *made = make(PKCS12_MODERN);
    put("store.p12", made->data, made->len);
    (void)shell(
        "keytool -genkeypair -alias other -keyalg EC -dname CN=other -keystore store.p12 -storepass changeit "
        "-validity 10 && keytool -exportcert -alias other -keystore store.p12 -storepass changeit -file "
        "other.der && keytool -importcert -noprompt -alias anchor -file other.der -keystore store.p12 "
        "-storepass changeit");
    AUTO_BUF struct buf file = get("store.p12");
    CLEANUP(pkcs12_done) struct pkcs12 read = {0};
    assert_code(CODE_FAILED_PRECONDITION, pkcs12_read(buf_bytes(&file), password, NULL, &read, &st), &st);
    assert_says(&st, "several private keys");
    assert_code(CODE_NOT_FOUND, pkcs12_read(buf_bytes(&file), password, "none", &read, &st), &st);
    assert_ok(pkcs12_read(buf_bytes(&file), password, "WEB", &read, &st), &st);
    assert_is_ours(&read);
    assert_int_equal(read.others, 2);
}

/* The iteration count is the attacker's to choose: 2^31 - 1 would take an hour. */
static void password_that_costs_too_much_is_refused(void **state UNUSED)
{
    AUTO_SECRET struct secret *key = NULL;
    AUTO_BUF struct buf pem = {0};
    CLEANUP(pkcs12_done) struct pkcs12 read = {0};
    struct keystore_info info;
    struct seen seen = {0};
    assert_ok(key_to_pem(server.key, NULL, &key, &st), &st);
    assert_ok(certs_to_pem(&chain, &pem, &st), &st);
    put("key.pem", key->data, key->len);
    put("chain.pem", pem.data, pem.len);
    (void)shell(
        "openssl pkcs12 -export -inkey key.pem -in chain.pem -iter 77777 -passout pass:changeit -out i.p12");
    AUTO_BUF struct buf file = get("i.p12");
    /* 77777 = 0x012fd1; one byte more is 19,910,609. */
    static const uint8_t cheap[] = {0x02, 0x03, 0x01, 0x2f, 0xd1}, dear[] = {0x02, 0x03, 0x7f, 0xff, 0xff};
    unsigned changed = 0;
    for (uint8_t *p = file.data; (p = memmem(p, file.len - (size_t)(p - file.data), cheap, sizeof(cheap)));
         p++) {
        memcpy(p, dear, sizeof(dear));
        changed++;
    }
    assert_true(changed >= 1);
    assert_code(CODE_RESOURCE_EXHAUSTED, pkcs12_read(buf_bytes(&file), password, NULL, &read, &st), &st);
    assert_says(&st, "rounds");
    assert_code(CODE_RESOURCE_EXHAUSTED, pkcs12_certs(buf_bytes(&file), NULL, 10, on_cert, &seen, &info, &st),
                &st);
}

static void passwords_out_of_bounds_are_refused(void **state UNUSED)
{
    AUTO_SECRET struct secret *empty = secret_new(0), *nul = secret_dup("a\0b", 3), *made = NULL;
    AUTO_SECRET struct secret *none = NULL;
    assert_code(CODE_INVALID_ARGUMENT,
                pkcs12_make(server.key, &chain, "web", empty, PKCS12_MODERN, &made, &st), &st);
    assert_code(CODE_INVALID_ARGUMENT, pkcs12_make(server.key, &chain, "web", nul, PKCS12_MODERN, &none, &st),
                &st);
}

/* --- JKS ------------------------------------------------------------------------------------------------ */

/* A JKS made by keytool: our key, and a trust anchor. */
static struct buf keytool_jks(void)
{
    AUTO_SECRET struct secret *made = make(PKCS12_MODERN);
    put("store.p12", made->data, made->len);
    put("root.der", pki.root.cert.data, pki.root.cert.len);
    (void)shell("rm -f store.jks && keytool -importkeystore -srckeystore store.p12 -srcstorepass changeit "
                "-destkeystore store.jks -deststoretype JKS -deststorepass changeit && keytool -importcert "
                "-noprompt -alias anchor -file root.der -keystore store.jks -storepass changeit");
    return get("store.jks");
}

static void jks_of_keytool_is_read(void **state UNUSED)
{
    AUTO_BUF struct buf file = keytool_jks();
    struct keystore_info info;
    struct seen seen = {0};
    char fingerprint[65];
    server_fingerprint(fingerprint);
    assert_int_equal(keystore_sniff(buf_bytes(&file)), KEYSTORE_JKS);
    assert_ok(keystore_certs(buf_bytes(&file), password, 100, on_cert, &seen, &info, &st), &st);
    assert_int_equal(seen.n, 3);
    assert_int_equal(seen.with_key, 1);
    assert_string_equal(seen.alias, "web");
    assert_string_equal(seen.fingerprint, fingerprint);
    assert_int_equal(info.keys, 1);
    assert_int_equal(info.trusted, 1);
    assert_true(info.verified);
    /* Certificates are not secret: without the password, too, but nothing is proven. */
    assert_ok(jks_certs(buf_bytes(&file), NULL, 100, on_cert, &seen, &info, &st), &st);
    assert_false(info.verified);
    assert_code(CODE_PERMISSION_DENIED, jks_certs(buf_bytes(&file), wrong, 100, on_cert, &seen, &info, &st),
                &st);
    assert_code(CODE_RESOURCE_EXHAUSTED, jks_certs(buf_bytes(&file), password, 1, on_cert, &seen, &info, &st),
                &st);
}

static void jks_password_beyond_ascii_holds(void **state UNUSED)
{
    AUTO_SECRET struct secret *umlauts = secret_dup("p\xc3\xa4ss\xf0\x9f\x94\x91wort", 14);
    struct keystore_info info;
    struct seen seen = {0};
    put("pass", umlauts->data, umlauts->len);
    (void)shell("rm -f u.jks && LC_ALL=C.UTF-8 keytool -J-Dfile.encoding=UTF-8 -genkeypair -alias u -keyalg "
                "EC -dname "
                "CN=u -keystore u.jks -storetype JKS -storepass:file pass -keypass:file pass");
    AUTO_BUF struct buf file = get("u.jks");
    assert_ok(jks_certs(buf_bytes(&file), umlauts, 10, on_cert, &seen, &info, &st), &st);
    assert_true(info.verified);
}

static void jks_cut_short_anywhere_is_refused(void **state UNUSED)
{
    AUTO_BUF struct buf file = keytool_jks();
    struct keystore_info info;
    struct seen seen = {0};
    for (size_t len = 0; len < file.len; len++) {
        AUTO_FREE uint8_t *part =
            malloc(len ? len : 1); /* its own block: the sanitizer sees one byte too far */
        assert_non_null(part);
        memcpy(part, file.data, len);
        struct bytes content = {part, len};
        assert_code(CODE_INVALID_ARGUMENT, jks_certs(content, NULL, 100, on_cert, &seen, &info, &st), &st);
    }
}

static void jks_that_lies_about_sizes_is_refused(void **state UNUSED)
{
    static const struct {
        const char *what;
        uint8_t bytes[64];
        enum code code;
    } lies[] = {
        {"version", {0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 3}, CODE_INVALID_ARGUMENT},
        {"count", {0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff}, CODE_RESOURCE_EXHAUSTED},
        {"tag", {0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3}, CODE_INVALID_ARGUMENT},
        {"alias",
         {0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xff},
         CODE_INVALID_ARGUMENT},
        {"key",
         {0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 1, 0,    0,
          0,    1,    0,    0,    0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff},
         CODE_RESOURCE_EXHAUSTED},
        {"chain",
         {0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0,   1,
          0,    0,    0,    0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff},
         CODE_RESOURCE_EXHAUSTED},
    };
    struct keystore_info info;
    struct seen seen = {0};
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        struct bytes content = {lies[i].bytes, sizeof(lies[i].bytes)};
        if (jks_certs(content, NULL, 10, on_cert, &seen, &info, &st) != lies[i].code)
            fail_msg("%s: %s", lies[i].what, st.msg);
    }
}

static void what_is_no_keystore_is_none(void **state UNUSED)
{
    struct keystore_info info;
    struct seen seen = {0};
    AUTO_BUF struct buf pem = {0};
    assert_ok(certs_to_pem(&chain, &pem, &st), &st);
    assert_int_equal(keystore_sniff(buf_bytes(&pem)), KEYSTORE_NONE);
    assert_int_equal(keystore_sniff(der_bytes(&server.cert)), KEYSTORE_NONE);
    assert_int_equal(keystore_sniff((struct bytes){0}), KEYSTORE_NONE);
    assert_code(CODE_INVALID_ARGUMENT,
                keystore_certs(der_bytes(&server.cert), NULL, 10, on_cert, &seen, &info, &st), &st);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(openssl_and_keytool_read_what_is_written),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(what_keytool_and_openssl_write_is_read),
        cmocka_unit_test(wrong_password_is_told_and_none_seals),
        cmocka_unit_test(other_entries_are_counted),
        cmocka_unit_test(password_that_costs_too_much_is_refused),
        cmocka_unit_test(passwords_out_of_bounds_are_refused),
        cmocka_unit_test(jks_of_keytool_is_read),
        cmocka_unit_test(jks_password_beyond_ascii_holds),
        cmocka_unit_test(jks_cut_short_anywhere_is_refused),
        cmocka_unit_test(jks_that_lies_about_sizes_is_refused),
        cmocka_unit_test(what_is_no_keystore_is_none),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
