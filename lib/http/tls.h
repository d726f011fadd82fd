/*
 * TLS contexts for http/server.h and http/client.h. A context is made from bytes, may be used by several
 * loops (threads) at once, and its certificate can be replaced while connections live. No OpenSSL type leaves
 * lib/http. Making the first context sets SIGPIPE to ignored for the process, because OpenSSL writes without
 * MSG_NOSIGNAL.
 */
#ifndef CLM_HTTP_TLS_H
#define CLM_HTTP_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/secret.h"
#include "base/status.h"

struct tls_context;

enum tls_version { TLS_1_2, TLS_1_3 };
enum tls_client_auth {
    TLS_CLIENT_NONE,
    TLS_CLIENT_OPTIONAL, /* asked for; a bad one is refused, none is allowed */
    TLS_CLIENT_REQUIRED,
};

/* What the verify hook says about a certificate that chains to the CA bundle. Each but TLS_PEER_OK ends the
 * handshake with the alert named (RFC 8446 section 6.2). */
enum tls_verdict {
    TLS_PEER_OK,
    TLS_PEER_REVOKED,     /* certificate_revoked */
    TLS_PEER_EXPIRED,     /* certificate_expired: also a generation that is over */
    TLS_PEER_UNKNOWN,     /* certificate_unknown */
    TLS_PEER_UNSUPPORTED, /* unsupported_certificate: wrong purpose or name form */
    TLS_PEER_DENIED,      /* bad_certificate */
};

/* Why a handshake did not come to its end; for logs, alerts and counters. All text is bounded and borrowed
 * for the call; it comes from the peer, so it is printed only through what escapes it. */
struct tls_refusal {
    const char *peer;    /* "192.0.2.7" */
    const char *subject; /* RFC 2253 text of the certificate offered; "" if none */
    const char *uri;     /* its first URI SAN; "" if none */
    const char *reason;  /* "certificate has expired", "revoked", "no shared cipher", … */
    bool by_peer;        /* true: the peer refused us */
};

struct tls_server_config {
    const uint8_t *chain; /* PEM, leaf first; send the root too where clients pin its SPKI */
    size_t chain_len;
    const struct secret *key; /* PEM or DER, unencrypted; read during the call only */
    enum tls_version min_version;
    enum tls_client_auth client_auth;
    const uint8_t *client_ca; /* PEM bundle; needed unless TLS_CLIENT_NONE */
    size_t client_ca_len;
    /* Stateful resumption: sessions kept, 0 for none. No tickets that a client could keep forging time with.
     */
    size_t session_cache;
    int64_t session_life_ms; /* 0: one hour */

    /* Called for a client certificate that chains and is in date, on full handshakes and before a session is
     * resumed (whose handshake then becomes a full one if the verdict is not OK). leaf: DER. A reason may be
     * put into `reason`. Runs on the loop's thread that owns the connection. NULL: every chained one is OK.
     */
    enum tls_verdict (*on_verify)(const uint8_t *leaf, size_t leaf_len, char reason[128], void *arg);
    void (*on_refused)(const struct tls_refusal *refusal, void *arg); /* NULL: only logged at debug level */
    void *arg;
};

struct tls_client_config {
    /* Trust: a CA bundle (PEM), or the SHA-256 of the SubjectPublicKeyInfo of one certificate in the chain
     * that the server sends, which then is the only trust anchor. Exactly one of the two. */
    const uint8_t *ca;
    size_t ca_len;
    const uint8_t *spki_pin; /* 32 bytes */
    const uint8_t *chain;    /* own certificate, PEM, leaf first; NULL for none */
    size_t chain_len;
    const struct secret *key;
    enum tls_version min_version;
};

/* INVALID_ARGUMENT names what is wrong with chain, key or bundle. Never prints key bytes. */
enum code tls_server_new(const struct tls_server_config *config, struct tls_context **ret,
                         struct status *st) MUST_CHECK;
enum code tls_client_new(const struct tls_client_config *config, struct tls_context **ret,
                         struct status *st) MUST_CHECK;
/* Takes over chain, key, bundle and versions of config for handshakes from now on; drops the sessions kept.
 * Live connections go on. On failure the context stays as it was. From any thread. */
enum code tls_server_replace(struct tls_context *context, const struct tls_server_config *config,
                             struct status *st) MUST_CHECK;
/* Handshakes that resumed nothing anymore: after revocations in bulk. From any thread. */
void tls_drop_sessions(struct tls_context *context);
/* Connections may outlive it. */
void tls_context_free(struct tls_context *context);

DEFINE_CLEANUP(tls_context, struct tls_context *, tls_context_free)
#define AUTO_TLS_CONTEXT CLEANUP(cleanup_tls_context)

#endif
