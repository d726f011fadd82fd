/* Who the peer is: a client by its CA and the hook, a server by its CA or the pinned key. See tls_parts.h. */
#include <string.h>

#include "base/clock.h"
#include "http/tls_parts.h"

static struct tls_failure *failure_of(struct tls_conn *conn)
{
    if (!conn->failure) {
        conn->failure = calloc(1, sizeof(*conn->failure));
        if (!conn->failure)
            abort();
    }
    return conn->failure;
}

static void first_uri(X509 *cert, char *out, size_t size)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI)
            continue;
        const ASN1_IA5STRING *uri = name->d.uniformResourceIdentifier;
        (void)snprintf(out, size, "%.*s", ASN1_STRING_length(uri), (const char *)ASN1_STRING_get0_data(uri));
        break;
    }
    GENERAL_NAMES_free(names);
}

static void note_refused(struct tls_conn *conn, X509 *cert, const char *reason)
{
    struct tls_failure *failure = failure_of(conn);
    (void)snprintf(failure->reason, sizeof(failure->reason), "%s", reason);
    if (!cert)
        return;
    CLEANUP(cleanup_bio) BIO *bio = BIO_new(BIO_s_mem());
    if (bio && X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0, XN_FLAG_RFC2253) >= 0) {
        char *text;
        long len = BIO_get_mem_data(bio, &text);
        (void)snprintf(failure->subject, sizeof(failure->subject), "%.*s", (int)len, text);
    }
    first_uri(cert, failure->uri, sizeof(failure->uri));
}

/* OpenSSL chooses the alert by the verification error. */
static const struct {
    int error;
    const char *reason; /* where the hook gives none */
} verdicts[] = {
    [TLS_PEER_OK] = {X509_V_OK, "accepted"},
    [TLS_PEER_REVOKED] = {X509_V_ERR_CERT_REVOKED, "certificate revoked"},
    [TLS_PEER_EXPIRED] = {X509_V_ERR_CERT_HAS_EXPIRED, "certificate expired"},
    /* One that OpenSSL's table does not hold: then the alert is certificate_unknown. */
    [TLS_PEER_UNKNOWN] = {X509_V_ERR_UNNESTED_RESOURCE, "certificate unknown"},
    [TLS_PEER_UNSUPPORTED] = {X509_V_ERR_INVALID_PURPOSE, "certificate of another purpose"},
    [TLS_PEER_DENIED] = {X509_V_ERR_CERT_REJECTED, "certificate denied"},
};
_Static_assert(ARRAY_LEN(verdicts) == TLS_PEER_DENIED + 1, "one row for each verdict");

enum tls_verdict tls_ask_hook(struct tls_context *context, X509 *cert, char reason[128])
{
    reason[0] = 0;
    if (!context->on_verify)
        return TLS_PEER_OK;
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    if (len <= 0)
        return TLS_PEER_UNKNOWN;
    enum tls_verdict verdict = context->on_verify(der, (size_t)len, reason, context->arg);
    OPENSSL_free(der);
    return verdict;
}

static int verify_client(struct tls_conn *conn, X509_STORE_CTX *store)
{
    X509 *cert = X509_STORE_CTX_get0_cert(store);
    if (X509_verify_cert(store) <= 0) {
        int error = X509_STORE_CTX_get_error(store);
        note_refused(conn, cert, X509_verify_cert_error_string(error));
        return 0;
    }
    char reason[128];
    enum tls_verdict verdict = tls_ask_hook(conn->context, cert, reason);
    if (verdict == TLS_PEER_OK)
        return 1;
    X509_STORE_CTX_set_error(store, verdicts[verdict].error);
    note_refused(conn, cert, reason[0] ? reason : verdicts[verdict].reason);
    return 0;
}

static bool has_pinned_key(const X509 *cert, const uint8_t pin[32])
{
    unsigned char *spki = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &spki);
    uint8_t digest[32];
    bool same = len > 0 && EVP_Digest(spki, (size_t)len, digest, NULL, EVP_sha256(), NULL) &&
                CRYPTO_memcmp(digest, pin, sizeof(digest)) == 0;
    OPENSSL_free(spki);
    return same;
}

static X509 *find_pinned(X509_STORE_CTX *store, const uint8_t pin[32])
{
    X509 *leaf = X509_STORE_CTX_get0_cert(store);
    if (has_pinned_key(leaf, pin))
        return leaf;
    STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(store);
    for (int i = 0; i < sk_X509_num(sent); i++) {
        if (has_pinned_key(sk_X509_value(sent, i), pin))
            return sk_X509_value(sent, i);
    }
    return NULL;
}

/* The pinned certificate becomes the only anchor; the names asked for are checked as ever. */
static int verify_to_anchor(SSL *ssl, X509_STORE_CTX *store, X509 *anchor)
{
    X509_STORE *anchors = X509_STORE_new();
    X509_STORE_CTX *own = X509_STORE_CTX_new();
    if (!anchors || !own)
        abort();
    int good = X509_STORE_add_cert(anchors, anchor) &&
               X509_STORE_CTX_init(own, anchors, X509_STORE_CTX_get0_cert(store),
                                   X509_STORE_CTX_get0_untrusted(store)) &&
               X509_STORE_CTX_set_default(own, "ssl_server") &&
               X509_VERIFY_PARAM_set1(X509_STORE_CTX_get0_param(own), SSL_get0_param(ssl));
    if (good) {
        X509_STORE_CTX_set_flags(own, X509_V_FLAG_PARTIAL_CHAIN);
        X509_STORE_CTX_set_time(own, 0, (time_t)(clock_wall_ms() / 1000));
        good = X509_verify_cert(own) > 0;
        X509_STORE_CTX_set_error(store, X509_STORE_CTX_get_error(own));
    } else {
        X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
    }
    X509_STORE_CTX_free(own);
    X509_STORE_free(anchors);
    return good;
}

static int verify_server(struct tls_conn *conn, X509_STORE_CTX *store)
{
    X509 *cert = X509_STORE_CTX_get0_cert(store);
    int good;
    if (conn->context->pinned) {
        X509 *anchor = find_pinned(store, conn->context->pin);
        if (!anchor) {
            X509_STORE_CTX_set_error(store, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN); /* alert unknown_ca */
            note_refused(conn, cert, "no certificate that it sent has the pinned key");
            return 0;
        }
        good = verify_to_anchor(conn->ssl, store, anchor);
    } else {
        good = X509_verify_cert(store) > 0;
    }
    if (!good)
        note_refused(conn, cert, X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)));
    return good;
}

int tls_verify_chain(X509_STORE_CTX *store, void *arg)
{
    (void)arg;
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_conn *conn = SSL_get_app_data(ssl);
    X509_STORE_CTX_set_time(store, 0, (time_t)(clock_wall_ms() / 1000));
    int good = conn->context->server ? verify_client(conn, store) : verify_server(conn, store);
    ERR_clear_error();
    return good;
}
