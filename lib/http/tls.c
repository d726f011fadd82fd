/* Contexts: made from bytes, replaced while connections live, with the sessions to resume. See tls_parts.h.
 */
#include "http/tls.h"

#include <openssl/pem.h>
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "http/tls_parts.h"
#include "http/tls_session.h"

#define CHAIN_MAX_DEPTH 6
#define CHAIN_MAX_BYTES (32 * 1024)

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
    return tls_ask_hook(context, cert, reason) == TLS_PEER_OK;
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
        SSL_CTX_set_cert_verify_callback(ctx, tls_verify_chain, NULL);
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
    SSL_CTX_set_cert_verify_callback(context->ctx, tls_verify_chain, NULL);
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
