#include "support.h"

#include "cmocka_all.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/id.h"

#define PATIENCE_US (60 * 1000 * 1000) /* a resolver may be slow to say that there is no such name */

void spin(struct loop *loop)
{
    for (int i = 0; i < 8; i++)
        event_base_loop(loop_event_base(loop), EVLOOP_NONBLOCK);
}

static void on_tick(void *arg)
{
    loop_timer_set(*(struct loop_timer **)arg, 20);
}

bool spin_until(struct loop *loop, bool (*done)(void *arg), void *arg)
{
    int64_t end = clock_mono_us() + PATIENCE_US;
    struct loop_timer *tick = loop_timer_new(loop, on_tick, &tick);
    loop_timer_set(tick, 20);
    bool good;
    while (!(good = done(arg)) && clock_mono_us() < end)
        event_base_loop(loop_event_base(loop), EVLOOP_ONCE);
    loop_timer_free(tick);
    return good;
}

struct raw *raw_connect(struct loop *loop, uint16_t port)
{
    struct raw *raw = calloc(1, sizeof(*raw));
    raw->loop = loop;
    raw->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    assert_int_equal(connect(raw->fd, (struct sockaddr *)&to, sizeof(to)), 0);
    spin(loop);
    return raw;
}

void raw_free(struct raw *raw)
{
    if (raw->fd >= 0)
        close(raw->fd);
    free(raw);
}

void raw_reset(struct raw *raw)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    setsockopt(raw->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    raw_free(raw);
}

void raw_send(struct raw *raw, const char *text)
{
    size_t len = strlen(text), at = 0;
    while (at < len) {
        ssize_t n = send(raw->fd, text + at, len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN)
            break; /* the server may have closed already: the test sees what it answered */
        at += n > 0 ? (size_t)n : 0;
        spin(raw->loop);
    }
}

void raw_read(struct raw *raw)
{
    spin(raw->loop);
    if (raw->len > sizeof(raw->in) / 2) {
        memmove(raw->in, raw->in + raw->len - 1000, 1000);
        raw->len = 1000;
    }
    struct pollfd wait = {.fd = raw->fd, .events = POLLIN};
    poll(&wait, 1, 1);
    ssize_t n = recv(raw->fd, raw->in + raw->len, sizeof(raw->in) - 1 - raw->len, MSG_DONTWAIT);
    raw->total += n > 0 ? (size_t)n : 0;
    if (n > 0)
        raw->len += (size_t)n;
    else if (n == 0)
        raw->closed = true;
    else if (errno != EAGAIN)
        raw->closed = raw->reset = true;
    raw->in[raw->len] = 0;
}

bool raw_expect(struct raw *raw, const char *text)
{
    int64_t end = clock_mono_us() + PATIENCE_US;
    while (!strstr(raw->in, text) && !raw->closed && clock_mono_us() < end)
        raw_read(raw);
    bool found = strstr(raw->in, text) != NULL;
    if (!found)
        print_error("expected \"%s\", got \"%.300s\"\n", text, raw->in);
    return found;
}

bool raw_expect_close(struct raw *raw)
{
    int64_t end = clock_mono_us() + PATIENCE_US;
    while (!raw->closed && clock_mono_us() < end)
        raw_read(raw);
    return raw->closed && !raw->reset;
}

void raw_forget(struct raw *raw)
{
    raw->len = 0;
    raw->in[0] = 0;
}

/* --- certificates --------------------------------------------------------------------------------------- */

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(extension);
    X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
}

static char *bio_text(BIO *bio)
{
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    char *text = strndup(data, (size_t)len);
    BIO_free(bio);
    return text;
}

struct test_cert *cert_make(const struct cert_spec *spec, const struct test_cert *issuer)
{
    struct test_cert *cert = calloc(1, sizeof(*cert));
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x509 = X509_new();
    uint32_t serial;
    random_bytes(&serial, sizeof(serial));
    X509_set_version(x509, 2);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(x509), serial);
    bool dated = spec->not_before_s || spec->not_after_s;
    X509_gmtime_adj(X509_getm_notBefore(x509), (long)(dated ? spec->not_before_s : -3600));
    X509_gmtime_adj(X509_getm_notAfter(x509), (long)(dated ? spec->not_after_s : 3600));
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_UTF8,
                               (const unsigned char *)spec->name, -1, -1, 0);
    X509 *signer = issuer ? issuer->x509 : x509;
    X509_set_issuer_name(x509, X509_get_subject_name(signer));
    X509_set_pubkey(x509, key);
    add_extension(x509, signer, NID_basic_constraints, spec->ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (!spec->ca)
        add_extension(x509, signer, NID_ext_key_usage, spec->uri ? "clientAuth" : "serverAuth,clientAuth");
    char san[300];
    if (spec->uri)
        snprintf(san, sizeof(san), "URI:%s", spec->uri);
    else
        snprintf(san, sizeof(san), "DNS:%s,IP:127.0.0.1", spec->dns ? spec->dns : "localhost");
    if (!spec->ca)
        add_extension(x509, signer, NID_subject_alt_name, san);
    assert_true(X509_sign(x509, issuer ? issuer->pkey : key, EVP_sha256()) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, x509);
    cert->pem = bio_text(bio);
    bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
    char *text = bio_text(bio);
    cert->key = secret_dup(text, strlen(text));
    free(text);
    cert->x509 = x509;
    cert->pkey = key;
    return cert;
}

void cert_free(struct test_cert *cert)
{
    if (!cert)
        return;
    free(cert->pem);
    secret_free(cert->key);
    X509_free(cert->x509);
    EVP_PKEY_free(cert->pkey);
    free(cert);
}

void cert_spki_sha256(const struct test_cert *cert, uint8_t out[32])
{
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(cert->pkey, &der);
    EVP_Digest(der, (size_t)len, out, NULL, EVP_sha256(), NULL);
    OPENSSL_free(der);
}

char *cert_bundle(const struct test_cert *first, const struct test_cert *second)
{
    char *text = NULL;
    assert_true(asprintf(&text, "%s%s", first->pem, second->pem) > 0);
    return text;
}
