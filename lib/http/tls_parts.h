/*
 * What the files of TLS share; nobody else includes it: contexts (tls.c), the verification of peers
 * (tls_verify.c), connections (tls_conn.c). A context is shared by threads: its SSL_CTX pointer is swapped
 * under a mutex, each connection holds a reference to the context and, through its SSL, to the SSL_CTX it
 * began with. Every call into OpenSSL starts with an empty error queue and leaves it empty.
 */
#ifndef CLM_HTTP_TLS_PARTS_H
#define CLM_HTTP_TLS_PARTS_H

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>

#include "http/tls.h"
#include "http/tls_conn.h"

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

struct tls_failure {
    char subject[256], uri[256], reason[160];
};

struct tls_conn {
    SSL *ssl;
    struct tls_context *context;
    struct tls_failure *failure; /* made when a certificate is refused */
    bool broken, shut;
    char peer[46];
};

static inline void cleanup_bio(BIO **bio)
{
    BIO_free(*bio);
}

/* tls_verify.c */
/* OpenSSL's verification of a connection's chain; for SSL_CTX_set_cert_verify_callback. */
int tls_verify_chain(X509_STORE_CTX *store, void *arg);
/* What the context's hook says of a client's certificate; reason is left empty if it gives none. */
enum tls_verdict tls_ask_hook(struct tls_context *context, X509 *cert, char reason[128]);

#endif
