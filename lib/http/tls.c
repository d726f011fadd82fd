/*
 * OpenSSL's contexts and connections. A context is shared by threads: its SSL_CTX pointer is swapped under a
 * mutex, each connection holds a reference to the context and, through its SSL, to the SSL_CTX it began with.
 * Every call into OpenSSL starts with an empty error queue and leaves it empty.
 */
#include "http/tls.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/endpoint.h"
#include "base/log.h"
#include "http/tls_conn.h"
#include "http/tls_session.h"

#define CHAIN_MAX_DEPTH 6
#define CHAIN_MAX_BYTES (32 * 1024)

struct tls_context {
    atomic_uint references;
    bool server;
    pthread_mutex_t mutex;
    SSL_CTX *ctx;                /* under mutex */
    SSL_SESSION *session;        /* client: to resume with, under mutex */
    struct session_store *store; /* server; NULL without resumption */
    bool pinned;
    uint8_t pin[32];
    enum tls_verdict (*on_verify)(const uint8_t *leaf, size_t leaf_len, char reason[128], void *arg);
    void (*on_refused)(const struct tls_refusal *refusal, void *arg);
    void *arg;
};

struct failure {
    char subject[256], uri[256], reason[160];
};

struct tls_conn {
    SSL *ssl;
    struct tls_context *context;
    struct failure *failure; /* made when a certificate is refused */
    bool broken, shut;
    char peer[46];
};

/* --- building an SSL_CTX -------------------------------------------------------------------------------- */

static enum code fail_openssl(struct status *st, enum code code, const char *what)
{
    unsigned long error = ERR_peek_last_error();
    const char *reason = error ? ERR_reason_error_string(error) : NULL;
    status_set(st, code, "%s: %s", what, reason ? reason : "no reason given");
    ERR_clear_error();
    return code;
}

static BIO *bio_over(const uint8_t *data, size_t len)
{
    BIO *bio = BIO_new_mem_buf(data, (int)len);
    if (!bio)
        abort();
    return bio;
}

static void cleanup_bio(BIO **bio)
{
    BIO_free(*bio);
}

static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)arg;
    return 0; /* never ask the terminal */
}

static enum code read_key(const struct secret *key, EVP_PKEY **ret, struct status *st)
{
    const unsigned char *at = key->data;
    bool pem = key->len > 10 && memcmp(key->data, "-----BEGIN", 10) == 0;
    CLEANUP(cleanup_bio) BIO *bio = pem ? bio_over(key->data, key->len) : NULL;
    *ret = pem ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL)
               : d2i_AutoPrivateKey(NULL, &at, (long)key->len);
    return *ret ? CODE_OK : fail_openssl(st, CODE_INVALID_ARGUMENT, "TLS private key cannot be read");
}

static enum code use_identity(SSL_CTX *ctx, const uint8_t *chain, size_t len, const struct secret *key,
                              struct status *st)
{
    CLEANUP(cleanup_bio) BIO *bio = bio_over(chain, len);
    X509 *leaf = PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL);
    if (!leaf)
        return fail_openssl(st, CODE_INVALID_ARGUMENT, "TLS certificate chain cannot be read");
    int good = SSL_CTX_use_certificate(ctx, leaf);
    X509_free(leaf);
    if (!good)
        return fail_openssl(st, CODE_INVALID_ARGUMENT, "TLS certificate cannot be used");
    for (X509 *cert; (cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL));) {
        good = SSL_CTX_add1_chain_cert(ctx, cert) == 1;
        X509_free(cert);
        if (!good)
            return fail_openssl(st, CODE_INVALID_ARGUMENT, "TLS certificate chain cannot be used");
    }
    ERR_clear_error(); /* the end of the PEM is an error to OpenSSL */
    EVP_PKEY *pkey = NULL;
    TRY(read_key(key, &pkey, st));
    good = SSL_CTX_use_PrivateKey(ctx, pkey) && SSL_CTX_check_private_key(ctx);
    EVP_PKEY_free(pkey);
    return good ? CODE_OK
                : fail_openssl(st, CODE_INVALID_ARGUMENT, "TLS private key does not fit the certificate");
}

static enum code use_bundle(SSL_CTX *ctx, const uint8_t *bundle, size_t len, bool announce, struct status *st)
{
    CLEANUP(cleanup_bio) BIO *bio = bio_over(bundle, len);
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    size_t count = 0;
    for (X509 *cert; (cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)); count++) {
        int good = X509_STORE_add_cert(store, cert);
        if (good && announce)
            good = SSL_CTX_add_client_CA(ctx, cert);
        X509_free(cert);
        if (!good)
            return fail_openssl(st, CODE_INVALID_ARGUMENT, "TLS CA bundle cannot be used");
    }
    ERR_clear_error();
    if (!count)
        return status_set(st, CODE_INVALID_ARGUMENT, "TLS CA bundle holds no certificate");
    /* Every certificate of the bundle is an anchor, an issuing CA too. */
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    return CODE_OK;
}

static void ignore_sigpipe(void)
{
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        (void)signal(SIGPIPE, SIG_IGN);
}

static SSL_CTX *ctx_new(struct tls_context *context, const SSL_METHOD *method, enum tls_version min_version)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, ignore_sigpipe);
    SSL_CTX *ctx = SSL_CTX_new(method);
    if (!ctx)
        abort();
    SSL_CTX_set_app_data(ctx, context);
    SSL_CTX_set_min_proto_version(ctx, min_version == TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20");
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* One read(2) for a record's head and body; the buffer is released when it is empty. */
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_verify_depth(ctx, CHAIN_MAX_DEPTH);
    SSL_CTX_set_max_cert_list(ctx, CHAIN_MAX_BYTES);
    return ctx;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                   unsigned int in_len, void *arg)
{
    (void)ssl;
    (void)arg;
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *selected;
    if (SSL_select_next_proto(&selected, out_len, ours, sizeof(ours) - 1, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = selected;
    return SSL_TLSEXT_ERR_OK;
}

/* --- verification --------------------------------------------------------------------------------------- */

static struct failure *failure_of(struct tls_conn *conn)
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
    struct failure *failure = failure_of(conn);
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

/* reason is left empty if the hook gives none. */
static enum tls_verdict ask_hook(struct tls_context *context, X509 *cert, char reason[128])
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
    enum tls_verdict verdict = ask_hook(conn->context, cert, reason);
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

static int on_chain(X509_STORE_CTX *store, void *arg)
{
    (void)arg;
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_conn *conn = SSL_get_app_data(ssl);
    X509_STORE_CTX_set_time(store, 0, (time_t)(clock_wall_ms() / 1000));
    int good = conn->context->server ? verify_client(conn, store) : verify_server(conn, store);
    ERR_clear_error();
    return good;
}

/* --- sessions ------------------------------------------------------------------------------------------- */

static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_conn *conn = SSL_get_app_data(ssl);
    struct tls_context *context = conn->context;
    if (context->server) {
        session_store_put(context->store, session);
        return 1;
    }
    pthread_mutex_lock(&context->mutex);
    SSL_SESSION *old = context->session;
    context->session = session;
    pthread_mutex_unlock(&context->mutex);
    SSL_SESSION_free(old);
    return 1;
}

static void on_remove_session(SSL_CTX *ctx, SSL_SESSION *session)
{
    struct tls_context *context = SSL_CTX_get_app_data(ctx);
    if (context->store)
        session_store_remove(context->store, session);
}

static bool may_resume(struct tls_context *context, SSL_SESSION *session)
{
    X509 *cert = SSL_SESSION_get0_peer(session);
    if (!cert)
        return true;
    time_t now = (time_t)(clock_wall_ms() / 1000);
    if (X509_cmp_time(X509_get0_notAfter(cert), &now) <= 0)
        return false;
    char reason[128];
    return ask_hook(context, cert, reason) == TLS_PEER_OK;
}

/* Answering "no such session" makes it a full handshake, in which verify_client refuses with the right alert.
 */
static SSL_SESSION *on_get_session(SSL *ssl, const unsigned char *id, int len, int *copy)
{
    struct tls_conn *conn = SSL_get_app_data(ssl);
    *copy = 0;
    SSL_SESSION *session = session_store_get(conn->context->store, id, (size_t)len);
    if (session && !may_resume(conn->context, session)) {
        SSL_SESSION_free(session);
        return NULL;
    }
    return session;
}

/* --- contexts ------------------------------------------------------------------------------------------- */

static enum code server_ctx(struct tls_context *context, const struct tls_server_config *config,
                            SSL_CTX **ret, struct status *st)
{
    SSL_CTX *ctx = ctx_new(context, TLS_server_method(), config->min_version);
    enum code code = use_identity(ctx, config->chain, config->chain_len, config->key, st);
    if (code == CODE_OK && config->client_auth != TLS_CLIENT_NONE) {
        code = use_bundle(ctx, config->client_ca, config->client_ca_len, true, st);
        SSL_CTX_set_verify(
            ctx,
            SSL_VERIFY_PEER |
                (config->client_auth == TLS_CLIENT_REQUIRED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
            NULL);
        SSL_CTX_set_cert_verify_callback(ctx, on_chain, NULL);
    }
    if (code != CODE_OK) {
        SSL_CTX_free(ctx);
        return code;
    }
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    if (context->store) {
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL |
                                                SSL_SESS_CACHE_NO_AUTO_CLEAR);
        SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"clm", 3);
        SSL_CTX_set_timeout(ctx,
                            (long)((config->session_life_ms ? config->session_life_ms : 3600000) / 1000));
        SSL_CTX_set_num_tickets(ctx, 1);
        SSL_CTX_sess_set_new_cb(ctx, on_new_session);
        SSL_CTX_sess_set_get_cb(ctx, on_get_session);
        SSL_CTX_sess_set_remove_cb(ctx, on_remove_session);
    } else {
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_num_tickets(ctx, 0);
    }
    *ret = ctx;
    return CODE_OK;
}

static struct tls_context *context_new(bool server)
{
    struct tls_context *context = calloc(1, sizeof(*context));
    if (!context)
        abort();
    atomic_init(&context->references, 1);
    context->server = server;
    pthread_mutex_init(&context->mutex, NULL);
    return context;
}

enum code tls_server_new(const struct tls_server_config *config, struct tls_context **ret, struct status *st)
{
    AUTO_TLS_CONTEXT struct tls_context *context = context_new(true);
    context->on_verify = config->on_verify;
    context->on_refused = config->on_refused;
    context->arg = config->arg;
    if (config->session_cache)
        context->store = session_store_new(config->session_cache);
    TRY(server_ctx(context, config, &context->ctx, st));
    *ret = TAKE(context);
    return CODE_OK;
}

enum code tls_server_replace(struct tls_context *context, const struct tls_server_config *config,
                             struct status *st)
{
    SSL_CTX *next;
    TRY(server_ctx(context, config, &next, st));
    pthread_mutex_lock(&context->mutex);
    SSL_CTX *old = context->ctx;
    context->ctx = next;
    pthread_mutex_unlock(&context->mutex);
    SSL_CTX_free(old);
    tls_drop_sessions(context);
    return CODE_OK;
}

enum code tls_client_new(const struct tls_client_config *config, struct tls_context **ret, struct status *st)
{
    if (!config->ca == !config->spki_pin)
        return status_set(st, CODE_INVALID_ARGUMENT, "TLS client needs either a CA bundle or a pin");
    AUTO_TLS_CONTEXT struct tls_context *context = context_new(false);
    context->ctx = ctx_new(context, TLS_client_method(), config->min_version);
    if (config->spki_pin) {
        context->pinned = true;
        memcpy(context->pin, config->spki_pin, sizeof(context->pin));
    } else {
        TRY(use_bundle(context->ctx, config->ca, config->ca_len, false, st));
    }
    if (config->chain)
        TRY(use_identity(context->ctx, config->chain, config->chain_len, config->key, st));
    SSL_CTX_set_verify(context->ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(context->ctx, on_chain, NULL);
    SSL_CTX_set_session_cache_mode(context->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context->ctx, on_new_session);
    (void)SSL_CTX_set_alpn_protos(context->ctx, (const unsigned char *)"\x08http/1.1", 9);
    *ret = TAKE(context);
    return CODE_OK;
}

void tls_drop_sessions(struct tls_context *context)
{
    if (context->store)
        session_store_clear(context->store);
    pthread_mutex_lock(&context->mutex);
    SSL_SESSION *session = TAKE(context->session);
    pthread_mutex_unlock(&context->mutex);
    SSL_SESSION_free(session);
}

void tls_context_free(struct tls_context *context)
{
    if (!context || atomic_fetch_sub(&context->references, 1) != 1)
        return;
    SSL_SESSION_free(context->session);
    SSL_CTX_free(context->ctx);
    session_store_free(context->store);
    pthread_mutex_destroy(&context->mutex);
    free(context);
}

/* --- connections ---------------------------------------------------------------------------------------- */

static struct tls_conn *conn_new(struct tls_context *context, int fd)
{
    struct tls_conn *conn = calloc(1, sizeof(*conn));
    if (!conn)
        abort();
    atomic_fetch_add(&context->references, 1);
    conn->context = context;
    pthread_mutex_lock(&context->mutex);
    conn->ssl = SSL_new(context->ctx);
    pthread_mutex_unlock(&context->mutex);
    if (!conn->ssl || !SSL_set_fd(conn->ssl, fd))
        abort();
    SSL_set_app_data(conn->ssl, conn);
    return conn;
}

struct tls_conn *tls_conn_accept(struct tls_context *context, int fd, const char *peer)
{
    assert(context->server);
    struct tls_conn *conn = conn_new(context, fd);
    (void)snprintf(conn->peer, sizeof(conn->peer), "%s", peer);
    SSL_set_accept_state(conn->ssl);
    return conn;
}

enum code tls_conn_connect(struct tls_context *context, int fd, const char *verify_name,
                           struct tls_conn **ret, struct status *st)
{
    assert(!context->server);
    struct tls_conn *conn = conn_new(context, fd);
    SSL_set_connect_state(conn->ssl);
    int good = 1;
    if (host_is_address(verify_name)) {
        good = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(conn->ssl), verify_name);
    } else if (verify_name[0]) {
        SSL_set_hostflags(conn->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        good = SSL_set1_host(conn->ssl, verify_name) && SSL_set_tlsext_host_name(conn->ssl, verify_name);
    }
    if (!good) {
        tls_conn_free(conn);
        ERR_clear_error();
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%s\" cannot be a TLS server name", verify_name);
    }
    /* A session is for one use (RFC 8446 appendix C.4). */
    pthread_mutex_lock(&context->mutex);
    SSL_SESSION *session = TAKE(context->session);
    pthread_mutex_unlock(&context->mutex);
    if (session && SSL_SESSION_is_resumable(session))
        (void)SSL_set_session(conn->ssl, session);
    SSL_SESSION_free(session);
    *ret = conn;
    return CODE_OK;
}

void tls_conn_free(struct tls_conn *conn)
{
    if (!conn)
        return;
    /* Else OpenSSL takes a lost connection for a reason to forget its session. */
    if (!conn->broken)
        SSL_set_shutdown(conn->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(conn->ssl);
    tls_context_free(conn->context);
    free(conn->failure);
    free(conn);
    ERR_clear_error();
}

void tls_conn_shutdown(struct tls_conn *conn)
{
    if (conn->broken || conn->shut)
        return;
    conn->shut = true;
    ERR_clear_error();
    (void)SSL_shutdown(conn->ssl);
    ERR_clear_error();
}

static bool is_about_certificate(int alert)
{
    switch (alert) {
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_ACCESS_DENIED:
    case SSL_AD_CERTIFICATE_REQUIRED:
        return true;
    default:
        return false;
    }
}

/* Fatal alerts arrive as errors whose reason is SSL_AD_REASON_OFFSET + alert. 0: it was none. */
static int received_alert(unsigned long error)
{
    int reason = ERR_GET_REASON(error);
    bool alert = ERR_GET_LIB(error) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET &&
                 reason < SSL_AD_REASON_OFFSET + 256;
    return alert ? reason - SSL_AD_REASON_OFFSET : 0;
}

static void describe_failure(struct tls_conn *conn, int ssl_error, int errnum, struct status *st)
{
    const char *side = conn->context->server ? "client" : "server";
    unsigned long error = ERR_peek_error();
    int alert = received_alert(error);
    if (alert && is_about_certificate(alert))
        status_set(st, CODE_UNAUTHENTICATED, "the %s refused our certificate: %s", side,
                   SSL_alert_desc_string_long(alert));
    else if (alert)
        status_set(st, CODE_UNAVAILABLE, "TLS alert from the %s: %s", side,
                   SSL_alert_desc_string_long(alert));
    else if (conn->failure)
        status_set(st, CODE_PERMISSION_DENIED, "the %s's certificate is refused: %s", side,
                   conn->failure->reason);
    else if (ssl_error == SSL_ERROR_SYSCALL && errnum)
        status_errno(st, CODE_UNAVAILABLE, errnum, "TLS connection to the %s", side);
    else if (ERR_reason_error_string(error))
        status_set(st, CODE_UNAVAILABLE, "TLS with the %s: %s", side, ERR_reason_error_string(error));
    else
        status_set(st, CODE_UNAVAILABLE, "TLS connection ended by the %s", side);
}

static enum tls_io result_of(struct tls_conn *conn, int returned, int errnum, struct status *st)
{
    int error = SSL_get_error(conn->ssl, returned);
    switch (error) {
    case SSL_ERROR_WANT_READ:
        return TLS_IO_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return TLS_IO_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_IO_CLOSED;
    default:
        conn->broken = error == SSL_ERROR_SSL;
        describe_failure(conn, error, errnum, st);
        ERR_clear_error();
        return TLS_IO_FAILED;
    }
}

static void report_refusal(struct tls_conn *conn, const struct status *st)
{
    struct tls_refusal refusal = {
        .peer = conn->peer,
        .subject = conn->failure ? conn->failure->subject : "",
        .uri = conn->failure ? conn->failure->uri : "",
        .reason = conn->failure ? conn->failure->reason : st->msg,
        .by_peer = !conn->failure && st->code == CODE_UNAUTHENTICATED,
    };
    log_debug("TLS handshake failed", "peer", refusal.peer, "subject", refusal.subject, "reason",
              refusal.reason, NULL);
    if (conn->context->on_refused)
        conn->context->on_refused(&refusal, conn->context->arg);
}

enum tls_io tls_conn_handshake(struct tls_conn *conn, struct status *st)
{
    ERR_clear_error();
    errno = 0;
    int n = SSL_do_handshake(conn->ssl);
    if (n == 1)
        return TLS_IO_DONE;
    enum tls_io io = result_of(conn, n, errno, st);
    if (io == TLS_IO_CLOSED) {
        status_set(st, CODE_UNAVAILABLE, "TLS connection closed during the handshake");
        io = TLS_IO_FAILED;
    }
    /* A peer that merely went away has refused nothing. */
    if (io == TLS_IO_FAILED && conn->context->server && conn->broken)
        report_refusal(conn, st);
    return io;
}

enum tls_io tls_conn_read(struct tls_conn *conn, void *data, size_t size, size_t *ret_len, struct status *st)
{
    ERR_clear_error();
    errno = 0;
    int n = SSL_read_ex(conn->ssl, data, size, ret_len);
    return n == 1 ? TLS_IO_DONE : result_of(conn, n, errno, st);
}

enum tls_io tls_conn_write(struct tls_conn *conn, const void *data, size_t len, size_t *ret_len,
                           struct status *st)
{
    ERR_clear_error();
    errno = 0;
    int n = SSL_write_ex(conn->ssl, data, len, ret_len);
    return n == 1 ? TLS_IO_DONE : result_of(conn, n, errno, st);
}

bool tls_conn_has_pending(const struct tls_conn *conn)
{
    return SSL_has_pending(conn->ssl) == 1;
}

bool tls_conn_resumed(const struct tls_conn *conn)
{
    return SSL_session_reused(conn->ssl) == 1;
}

bool tls_conn_peer_certificate(const struct tls_conn *conn, struct buf *ret_der)
{
    X509 *cert = SSL_get0_peer_certificate(conn->ssl);
    unsigned char *der = NULL;
    int len = cert ? i2d_X509(cert, &der) : 0;
    bool good = len > 0 && buf_append(ret_der, der, (size_t)len);
    OPENSSL_free(der);
    return good;
}
