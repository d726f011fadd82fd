/*
 * Looks at what a TLS server serves, and nothing more: any certificate is accepted, nothing is sent after the
 * handshake. Endpoints are hostile, so each look happens in a forked child without privileges; what comes
 * back are bounded, unparsed bytes. Whether a host may be looked at is the caller's to ask
 * (policy_allows_probe). Blocking; call from a process with one thread.
 */
#ifndef CLM_AGENT_KINDS_PROBE_H
#define CLM_AGENT_KINDS_PROBE_H

#include "kinds/starttls.h"
#include "pki/digest.h"

struct probe {
    /* asked: borrowed */
    const char *host, *port;
    const char *server_name; /* SNI; NULL: none */
    int64_t timeout_ms;
    enum starttls starttls; /* said before TLS */
    bool legacy;            /* offer nothing newer than TLS 1.1 */
    bool only_certificate;  /* hang up when it has come: does not show that the server has its key */
    /* seen */
    bool connected;                    /* TCP */
    bool tls;                          /* the handshake was done and a certificate came */
    char protocol[16];                 /* "TLSv1.3" */
    struct der_list chain;             /* as served, leaf first */
    char fingerprint[SHA256_HEX_SIZE]; /* of the leaf; "" without one */
    char error[160];                   /* why not */
    bool over;                         /* an answer came */
};

#define PROBE_PARALLEL 16

/* Looks at all of them, each in a child of its own, PROBE_PARALLEL at a time. Never fails: what could not be
 * seen says why in error. */
void probe_run(struct probe *probes, size_t n);
/* The same server looked at by all of them at once, from one child. */
void probe_together(struct probe *probes, size_t n);
void probe_done(struct probe *probe);

/* Looks at many: a child for each processor, in it many at once. A server that takes its child over can lie
 * about the others of that child, so this is for finding out and not for proving. host must be an address. */
struct probe_sweep {
    size_t parallel;         /* in all */
    unsigned rate;           /* begun in a second, in all; 0: no limit */
    bool (*tick)(void *arg); /* a few times a second; false stops it all. NULL: none */
    void *arg;
};
void probe_sweep(struct probe *probes, size_t n, const struct probe_sweep *how);

#endif
