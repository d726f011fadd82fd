/* The task envelope: what opens it, and everything that must not. */
#include "fixture.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/cms.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "base/clock.h"
#include "base/file.h"

static const char order[] = "task 1, attempt 1, agent 7: renew";

struct world {
    struct pki pki;
    struct entity tasks, agent, other;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    pki_init(&w->pki, clock_wall_ms());
    entity_init(&w->tasks, &w->pki.envelopes, PURPOSE_ENVELOPE, "service", "tasks", w->pki.now_ms);
    entity_init(&w->agent, &w->pki.agents, PURPOSE_AGENT_TASK, "agent", "7", w->pki.now_ms);
    entity_init(&w->other, &w->pki.agents, PURPOSE_AGENT_TASK, "agent", "8", w->pki.now_ms);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    entity_done(&w->tasks);
    entity_done(&w->agent);
    entity_done(&w->other);
    pki_done(&w->pki);
    free(w);
    return 0;
}

static enum code seal_by(const struct entity *by, const struct der_list *chain, struct bytes plaintext,
                         const struct der *recipient, struct der *ret, struct status *st)
{
    AUTO_CMS_SIGNER struct cms_signer *signer = NULL;
    assert_ok(cms_signer_new(by->key, der_bytes(&by->cert), chain, &signer, st), st);
    return envelope_seal(plaintext, der_bytes(recipient), signer, ret, st);
}

static void seal(struct world *w, struct der *ret)
{
    struct status st;
    assert_ok(seal_by(&w->tasks, &w->pki.envelopes.chain, text_bytes(order), &w->agent.cert, ret, &st), &st);
}

static void one_signer_seals_for_many(void **state)
{
    struct world *w = *state;
    struct status st;
    AUTO_CMS_SIGNER struct cms_signer *signer = NULL;
    AUTO_KEY struct key *key = NULL;
    AUTO_SECRET struct secret *pem = NULL;
    AUTO_DER struct der cert = der_dup(der_bytes(&w->tasks.cert));
    assert_ok(key_to_pem(w->tasks.key, NULL, &pem, &st), &st);
    assert_ok(key_parse(pem, NULL, &key, &st), &st);
    assert_ok(cms_signer_new(key, der_bytes(&cert), &w->pki.envelopes.chain, &signer, &st), &st);
    key_free(TAKE(key)); /* nothing of what it was made of is kept */
    memset(cert.data, 0, cert.len);
    const struct entity *const to[] = {&w->agent, &w->other, &w->agent};
    for (size_t i = 0; i < sizeof(to) / sizeof(to[0]); i++) {
        AUTO_DER struct der envelope = {0};
        AUTO_DER struct der inner = {0};
        AUTO_DER struct der plain = {0};
        AUTO_DER struct der by = {0};
        assert_ok(envelope_seal(text_bytes(order), der_bytes(&to[i]->cert), signer, &envelope, &st), &st);
        assert_ok(envelope_verify(der_bytes(&envelope), &w->pki.roots, w->pki.now_ms, &inner, &by, &st), &st);
        assert_memory_equal(by.data, w->tasks.cert.data, w->tasks.cert.len);
        assert_ok(envelope_open(der_bytes(&inner), to[i]->key, der_bytes(&to[i]->cert), &plain, &st), &st);
        assert_memory_equal(plain.data, order, plain.len);
    }
}

static void verified_inner(struct world *w, struct der *ret)
{
    struct status st;
    AUTO_DER struct der envelope = {0};
    AUTO_DER struct der signer = {0};
    seal(w, &envelope);
    assert_ok(envelope_verify(der_bytes(&envelope), &w->pki.roots, w->pki.now_ms, ret, &signer, &st), &st);
    assert_int_equal(signer.len, w->tasks.cert.len);
    assert_memory_equal(signer.data, w->tasks.cert.data, signer.len);
}

static void sealed_task_opens_for_its_agent(void **state)
{
    struct world *w = *state;
    struct status st;
    AUTO_DER struct der inner = {0};
    AUTO_DER struct der plain = {0};
    verified_inner(w, &inner);
    assert_ok(envelope_open(der_bytes(&inner), w->agent.key, der_bytes(&w->agent.cert), &plain, &st), &st);
    assert_int_equal(plain.len, strlen(order));
    assert_memory_equal(plain.data, order, plain.len);
}

static void large_task_survives_whole(void **state)
{
    struct world *w = *state;
    struct status st;
    size_t len = 300 * 1024;
    AUTO_FREE uint8_t *big = malloc(len);
    assert_non_null(big);
    for (size_t i = 0; i < len; i++)
        big[i] = (uint8_t)(i * 7 + i / 251);
    AUTO_DER struct der envelope = {0};
    AUTO_DER struct der inner = {0};
    AUTO_DER struct der plain = {0};
    assert_ok(
        seal_by(&w->tasks, &w->pki.envelopes.chain, (struct bytes){big, len}, &w->agent.cert, &envelope, &st),
        &st);
    assert_ok(envelope_verify(der_bytes(&envelope), &w->pki.roots, w->pki.now_ms, &inner, NULL, &st), &st);
    assert_ok(envelope_open(der_bytes(&inner), w->agent.key, der_bytes(&w->agent.cert), &plain, &st), &st);
    assert_int_equal(plain.len, len);
    assert_memory_equal(plain.data, big, len);
}

static void another_agents_key_cannot_open(void **state)
{
    struct world *w = *state;
    struct status st;
    AUTO_DER struct der inner = {0};
    AUTO_DER struct der plain = {0};
    verified_inner(w, &inner);
    assert_code(CODE_FAILED_PRECONDITION,
                envelope_open(der_bytes(&inner), w->other.key, der_bytes(&w->other.cert), &plain, &st), &st);
    assert_says(&st, "cannot open");
    /* The right certificate with the wrong key. */
    assert_code(CODE_FAILED_PRECONDITION,
                envelope_open(der_bytes(&inner), w->other.key, der_bytes(&w->agent.cert), &plain, &st), &st);
    assert_null(plain.data);
}

static void signer_with_another_purpose_is_refused(void **state)
{
    struct world *w = *state;
    struct status st;
    struct entity service;
    AUTO_DER struct der envelope = {0};
    AUTO_DER struct der inner = {0};
    entity_init(&service, &w->pki.services, PURPOSE_SERVICE, "service", "tasks", w->pki.now_ms);
    assert_ok(seal_by(&service, &w->pki.services.chain, text_bytes(order), &w->agent.cert, &envelope, &st),
              &st);
    assert_code(CODE_UNAUTHENTICATED,
                envelope_verify(der_bytes(&envelope), &w->pki.roots, w->pki.now_ms, &inner, NULL, &st), &st);
    assert_says(&st, "extended key usage");
    assert_null(inner.data);
    entity_done(&service);
}

static void signer_of_another_root_is_refused(void **state)
{
    struct world *w = *state;
    struct status st;
    struct pki foreign;
    struct entity tasks;
    AUTO_DER struct der envelope = {0};
    AUTO_DER struct der inner = {0};
    pki_init(&foreign, w->pki.now_ms);
    entity_init(&tasks, &foreign.envelopes, PURPOSE_ENVELOPE, "service", "tasks", w->pki.now_ms);
    assert_ok(seal_by(&tasks, &foreign.envelopes.chain, text_bytes(order), &w->agent.cert, &envelope, &st),
              &st);
    assert_code(CODE_UNAUTHENTICATED,
                envelope_verify(der_bytes(&envelope), &w->pki.roots, w->pki.now_ms, &inner, NULL, &st), &st);
    entity_done(&tasks);
    pki_done(&foreign);
}

static void expired_signer_is_refused_with_the_date(void **state)
{
    struct world *w = *state;
    struct status st;
    AUTO_DER struct der envelope = {0};
    AUTO_DER struct der inner = {0};
    seal(w, &envelope);
    assert_code(
        CODE_UNAUTHENTICATED,
        envelope_verify(der_bytes(&envelope), &w->pki.roots, w->pki.now_ms + 31 * DAY_MS, &inner, NULL, &st),
        &st);
    assert_says(&st, "certificate expired on 20");
    assert_says(&st, "CN=tasks");
    assert_code(
        CODE_UNAUTHENTICATED,
        envelope_verify(der_bytes(&envelope), &w->pki.roots, w->pki.now_ms - 2 * HOUR_MS, &inner, NULL, &st),
        &st);
    assert_says(&st, "not valid before");
}

/* Neither step may accept a changed byte anywhere and give out another plaintext. */
static void flipped_bits_never_give_a_task(void **state)
{
    struct world *w = *state;
    struct status st;
    AUTO_DER struct der envelope = {0};
    AUTO_DER struct der inner = {0};
    seal(w, &envelope);
    unsigned refused = 0;
    for (size_t i = 0; i < envelope.len; i += 16) {
        AUTO_DER struct der got = {0};
        envelope.data[i] ^= 0x01;
        if (envelope_verify(der_bytes(&envelope), &w->pki.roots, w->pki.now_ms, &got, NULL, &st) != CODE_OK) {
            assert_null(got.data);
            refused++;
        }
        envelope.data[i] ^= 0x01;
    }
    /* A carried intermediate's own bytes are signed too, so nothing may pass. */
    assert_int_equal(refused, (envelope.len + 15) / 16);

    verified_inner(w, &inner);
    for (size_t i = 0; i < inner.len; i++) {
        AUTO_DER struct der plain = {0};
        inner.data[i] ^= 0x01;
        enum code code =
            envelope_open(der_bytes(&inner), w->agent.key, der_bytes(&w->agent.cert), &plain, &st);
        assert_int_not_equal(code, CODE_OK);
        assert_null(plain.data);
        inner.data[i] ^= 0x01;
    }
}

static void cut_off_or_longer_messages_are_refused(void **state)
{
    struct world *w = *state;
    struct status st;
    AUTO_DER struct der envelope = {0};
    AUTO_DER struct der inner = {0};
    AUTO_DER struct der got = {0};
    seal(w, &envelope);
    for (size_t len = 0; len < envelope.len; len += 64)
        assert_code(CODE_INVALID_ARGUMENT,
                    envelope_verify((struct bytes){envelope.data, len}, &w->pki.roots, w->pki.now_ms, &got,
                                    NULL, &st),
                    &st);
    verified_inner(w, &inner);
    for (size_t len = 0; len < inner.len; len++)
        assert_code(CODE_INVALID_ARGUMENT,
                    envelope_open((struct bytes){inner.data, len}, w->agent.key, der_bytes(&w->agent.cert),
                                  &got, &st),
                    &st);

    AUTO_FREE uint8_t *longer = malloc(inner.len + 1);
    assert_non_null(longer);
    memcpy(longer, inner.data, inner.len);
    longer[inner.len] = 0;
    assert_code(CODE_INVALID_ARGUMENT,
                envelope_open((struct bytes){longer, inner.len + 1}, w->agent.key, der_bytes(&w->agent.cert),
                              &got, &st),
                &st);
    assert_says(&st, "stray bytes");
}

static void more_than_the_limit_is_not_sealed(void **state)
{
    struct world *w = *state;
    struct status st;
    size_t len = CMS_ENVELOPE_MAX + 1;
    AUTO_FREE uint8_t *big = calloc(1, len);
    AUTO_DER struct der got = {0};
    assert_non_null(big);
    assert_code(CODE_INVALID_ARGUMENT,
                seal_by(&w->tasks, NULL, (struct bytes){big, len}, &w->agent.cert, &got, &st), &st);
    assert_code(CODE_INVALID_ARGUMENT,
                seal_by(&w->tasks, NULL, (struct bytes){big, 0}, &w->agent.cert, &got, &st), &st);
}

static void certificate_without_key_agreement_is_no_recipient(void **state)
{
    struct world *w = *state;
    struct status st;
    struct entity identity;
    AUTO_DER struct der got = {0};
    entity_init(&identity, &w->pki.agents, PURPOSE_AGENT_IDENTITY, "agent", "7", w->pki.now_ms);
    assert_code(CODE_INVALID_ARGUMENT, seal_by(&w->tasks, NULL, text_bytes(order), &identity.cert, &got, &st),
                &st);
    entity_done(&identity);
}

/* Encrypts with OpenSSL itself, in a form that is valid CMS and not ours. */
struct variant {
    const EVP_CIPHER *(*cipher)(void);
    const EVP_MD *(*kdf)(void);
    bool aead, twice, by_key_id, indefinite;
};

static void encrypt_as(struct world *w, const struct variant *variant, struct der *ret)
{
    const uint8_t *at = w->agent.cert.data;
    X509 *cert = d2i_X509(NULL, &at, (long)w->agent.cert.len);
    CMS_ContentInfo *cms = variant->aead ? CMS_AuthEnvelopedData_create(variant->cipher())
                                         : CMS_EnvelopedData_create(variant->cipher());
    assert_non_null(cms);
    for (int i = 0; i < (variant->twice ? 2 : 1); i++) {
        unsigned flags = CMS_KEY_PARAM | (variant->by_key_id ? (unsigned)CMS_USE_KEYID : 0);
        CMS_RecipientInfo *info = CMS_add1_recipient(cms, cert, NULL, NULL, flags);
        assert_non_null(info);
        assert_int_equal(EVP_PKEY_CTX_set_ecdh_kdf_md(CMS_RecipientInfo_get0_pkey_ctx(info), variant->kdf()),
                         1);
    }
    assert_int_equal(CMS_set_detached(cms, 0), 1);
    BIO *in = BIO_new_mem_buf(order, (int)strlen(order));
    if (variant->indefinite) {
        BIO *out = BIO_new(BIO_s_mem());
        uint8_t *data = NULL;
        assert_int_equal(i2d_CMS_bio_stream(out, cms, in, CMS_BINARY | CMS_STREAM), 1);
        long len = BIO_get_mem_data(out, &data);
        *ret = der_dup((struct bytes){data, (size_t)len});
        BIO_free(out);
    } else {
        uint8_t *data = NULL;
        assert_int_equal(CMS_final(cms, in, NULL, CMS_BINARY), 1);
        int len = i2d_CMS_ContentInfo(cms, &data);
        assert_true(len > 0);
        *ret = der_dup((struct bytes){data, (size_t)len});
        OPENSSL_free(data);
    }
    BIO_free(in);
    CMS_ContentInfo_free(cms);
    X509_free(cert);
}

static void only_the_one_form_is_opened(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *what;
        struct variant variant;
        enum code code;
    } cases[] = {
        {"ours", {EVP_aes_256_gcm, EVP_sha256, true, false, false, false}, CODE_OK},
        {"AES-128-GCM", {EVP_aes_128_gcm, EVP_sha256, true, false, false, false}, CODE_INVALID_ARGUMENT},
        {"AES-256-CBC", {EVP_aes_256_cbc, EVP_sha256, false, false, false, false}, CODE_INVALID_ARGUMENT},
        {"SHA-1 key derivation",
         {EVP_aes_256_gcm, EVP_sha1, true, false, false, false},
         CODE_INVALID_ARGUMENT},
        {"two recipients", {EVP_aes_256_gcm, EVP_sha256, true, true, false, false}, CODE_INVALID_ARGUMENT},
        {"recipient by key id",
         {EVP_aes_256_gcm, EVP_sha256, true, false, true, false},
         CODE_INVALID_ARGUMENT},
        {"indefinite lengths",
         {EVP_aes_256_gcm, EVP_sha256, true, false, false, true},
         CODE_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct status st = {0};
        AUTO_DER struct der inner = {0};
        AUTO_DER struct der plain = {0};
        encrypt_as(w, &cases[i].variant, &inner);
        enum code code =
            envelope_open(der_bytes(&inner), w->agent.key, der_bytes(&w->agent.cert), &plain, &st);
        if (code != cases[i].code)
            fail_msg("%s: %s: %s", cases[i].what, code_name(code), st.msg);
    }
}

static void write_file(const char *dir, const char *name, const void *data, size_t len)
{
    struct status st;
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_ok(file_write_atomic(path, data, len, 0600, &st), &st);
}

static void write_pem(const char *dir, const char *name, const struct der_list *certs)
{
    struct status st;
    AUTO_BUF struct buf pem = {0};
    assert_ok(certs_to_pem(certs, &pem, &st), &st);
    write_file(dir, name, pem.data, pem.len);
}

/* Runs openssl in dir; its exit status. */
static int openssl(const char *dir, const char *const *argv)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (chdir(dir) != 0)
            _exit(126);
        (void)execvp("openssl", (char *const *)argv);
        _exit(127);
    }
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    return WIFEXITED(how) ? WEXITSTATUS(how) : -1;
}

static void the_openssl_command_opens_an_envelope(void **state)
{
    struct world *w = *state;
    struct status st;
    char dir[] = "/tmp/clm-envelope-XXXXXX";
    assert_non_null(mkdtemp(dir));
    AUTO_DER struct der envelope = {0};
    AUTO_SECRET struct secret *key = NULL;
    seal(w, &envelope);
    assert_ok(key_to_pem(w->agent.key, NULL, &key, &st), &st);
    AUTO_DER_LIST struct der_list agent = {0};
    assert_ok(der_list_add(&agent, der_bytes(&w->agent.cert), &st), &st);
    write_file(dir, "envelope.der", envelope.data, envelope.len);
    write_file(dir, "agent.key", key->data, key->len);
    write_pem(dir, "agent.pem", &agent);
    write_pem(dir, "root.pem", &w->pki.roots);

    const char *verify[] = {"openssl",  "cms",          "-verify",  "-inform",   "DER",
                            "-in",      "envelope.der", "-purpose", "any",       "-CAfile",
                            "root.pem", "-binary",      "-out",     "inner.der", NULL};
    const char *decrypt[] = {"openssl",   "cms",       "-decrypt", "-inform",   "DER",
                             "-in",       "inner.der", "-inkey",   "agent.key", "-recip",
                             "agent.pem", "-binary",   "-out",     "plain",     NULL};
    assert_int_equal(openssl(dir, verify), 0);
    assert_int_equal(openssl(dir, decrypt), 0);

    char path[512];
    AUTO_BUF struct buf plain = {0};
    (void)snprintf(path, sizeof(path), "%s/plain", dir);
    assert_ok(file_read(path, 4096, &plain, &st), &st);
    assert_string_equal(buf_text(&plain), order);
    static const char *const made[] = {"envelope.der", "agent.key", "agent.pem",
                                       "root.pem",     "inner.der", "plain"};
    for (size_t i = 0; i < ARRAY_LEN(made); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, made[i]);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sealed_task_opens_for_its_agent),
        cmocka_unit_test(one_signer_seals_for_many),
        cmocka_unit_test(large_task_survives_whole),
        cmocka_unit_test(another_agents_key_cannot_open),
        cmocka_unit_test(signer_with_another_purpose_is_refused),
        cmocka_unit_test(signer_of_another_root_is_refused),
        cmocka_unit_test(expired_signer_is_refused_with_the_date),
        cmocka_unit_test(flipped_bits_never_give_a_task),
        cmocka_unit_test(cut_off_or_longer_messages_are_refused),
        cmocka_unit_test(more_than_the_limit_is_not_sealed),
        cmocka_unit_test(certificate_without_key_agreement_is_no_recipient),
        cmocka_unit_test(only_the_one_form_is_opened),
        cmocka_unit_test(the_openssl_command_opens_an_envelope),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
