/*
 * What is installed at a target of the local policy, whatever its store and place are, and what a transaction
 * left there last, as the agent's state directory remembers it: <state_dir>/intended/<target>. Foreign bytes
 * are read in confined children. Blocking; runs in a task's child, and in one of exec.
 */
#ifndef CLM_AGENT_KINDS_INSTALLED_H
#define CLM_AGENT_KINDS_INSTALLED_H

#include "kinds/confine.h"
#include "pki/digest.h"
#include "stores/place.h"

struct installed {
    struct secret *own;   /* certificates of its file, PEM, leaf first */
    struct secret *apart; /* content of the chain's file; NULL: it has none */
    struct secret *pem;   /* both */
    struct secret *key;   /* NULL: there is none, or key_closed */
    bool key_closed;      /* only another program of the host can open it */
    const Clm__CertificateInfo *leaf;
    const char *alias;           /* of the keystore's entry; NULL: it is none */
    char chain[SHA256_HEX_SIZE]; /* chain_digest of all of them */
};
void installed_done(struct installed *installed);
/* NOT_FOUND: no certificate is there. A retryable code: nobody knows what is there. Else: why what is there
 * is none. */
enum code installed_read(const struct place_at *at, struct arena *arena, struct installed *ret,
                         struct status *st) MUST_CHECK;

/* Says which certificates these are, in this order. */
void chain_digest(const struct der_list *chain, char ret[SHA256_HEX_SIZE]);

struct intended {
    char leaf[SHA256_HEX_SIZE];
    char chain[SHA256_HEX_SIZE]; /* "": not known */
};
/* Remembers this leaf, and the chain that is in place with it. Best effort. */
void intended_put(const struct place_at *at, const char *leaf);
/* False: this agent never deployed to the target. */
bool intended_get(const char *state_dir, const char *target, struct intended *ret);

#endif
