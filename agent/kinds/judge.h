/*
 * Judgements on certificates: may this one be installed, and is what is installed and served sound? Pure
 * functions over bytes, run through confine_run in a confined child, since all of these bytes are foreign.
 */
#ifndef CLM_AGENT_KINDS_JUDGE_H
#define CLM_AGENT_KINDS_JUDGE_H

#include "base/secret.h"
#include "kinds/confine.h"

/* Roots that this host knows, as PEM: the distribution's bundle and those of issuers that signed for this
 * agent. */
#define TRUST_MAX (3 * 1024 * 1024)
void trust_load(const char *state_dir, struct buf *ret);
/* Remembers a root that came with a certificate over the signed path; best effort. */
void trust_remember(const char *state_dir, struct bytes root_der);

struct judge_install {      /* borrowed */
    struct bytes chain_pem; /* as it came, any order */
    struct bytes root;      /* DER that the chain must build to; empty: any that trust holds, or none */
    struct bytes trust;
    const struct secret *key; /* PEM or DER */
    struct bytes old;         /* DER of the leaf in place; empty for none */
    char *const *names;       /* must be covered */
    size_t n_names;
    int64_t now_ms;
};
/* certs[0]: the leaf; leaf_pem and intermediates_pem: what to write; checks: what may be
 * installed but should be known. Error: why it may not be installed. */
void judge_install(void *judge_install, struct arena *arena, Clm__Agent__Facts *facts);

struct judge_sound {
    struct bytes pem;         /* file content; empty: look at what is served only */
    const struct secret *key; /* NULL: not looked at */
    bool key_expected;        /* there should have been a key */
    unsigned key_mode;        /* permission bits of the key's file */
    bool key_owner_ok;
    struct bytes trust;
    const char *server_name;     /* NULL: the first name of the certificate */
    const char *expected;        /* fingerprint that should be served; NULL: that of pem's leaf */
    const char *endpoint;        /* NULL: not looked at */
    bool connected, tls, legacy; /* legacy: it also speaks TLS 1.1 or older */
    const char *protocol, *probe_error;
    const struct der_list *served;
    int64_t now_ms;
};
/* Fills checks; certs[0] is the leaf of the file, or of what is served. */
void judge_sound(void *judge_sound, struct arena *arena, Clm__Agent__Facts *facts);

/* Where a certificate's revocation can be asked, and the question: ocsp_urls, crl_urls, ocsp_request,
 * leaf_der, issuer_der. */
struct judge_sources {
    struct bytes pem;              /* leaf first; empty: */
    const struct der_list *served; /* what is served */
    struct bytes trust;
};
void judge_sources(void *judge_sources, struct arena *arena, Clm__Agent__Facts *facts);

/* What an answer says: a "revocation" check, or an error when it says nothing. */
struct judge_answer {
    struct bytes answer, leaf, issuer;
    bool is_crl;
    const char *from; /* URL */
    int64_t now_ms;
};
void judge_answer(void *judge_answer, struct arena *arena, Clm__Agent__Facts *facts);

#endif
