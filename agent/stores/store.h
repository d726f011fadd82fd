/*
 * What a target's files hold, by format: one row a store. The bytes in place are foreign: they are opened,
 * and new ones are made, in a confined child; a private key comes back through memory that is shared with
 * that child alone, locked, and wiped. Runs in a task's child; blocking.
 */
#ifndef CLM_AGENT_STORES_STORE_H
#define CLM_AGENT_STORES_STORE_H

#include "agent/policy/policy.h"
#include "kinds/confine.h"
#include "pki/keystore.h"
#include "stores/file.h"

/* What is in place. */
struct store_in {
    struct bytes content;
    const struct secret *password; /* NULL: the store has none */
    const char *alias;             /* which entry; NULL: the only one */
};
struct store_found {
    struct der_list chain;
    struct key *key; /* NULL: it holds none */
    char alias[KEYSTORE_ALIAS_SIZE];
    unsigned others; /* entries that are not this target's, and would be lost */
};

/* What is to be there. */
struct store_parts {
    struct bytes leaf_pem, intermediates_pem;
    const struct secret
        *key; /* whatever encoding, perhaps with certificates around; NULL: it goes elsewhere */
    struct store_in old;
    const char *alias;
    enum pkcs12_encryption encryption;
};

/* What a store needs that asks another program of the host. */
struct store_tool { /* borrowed */
    const struct policy_target *target;
    const struct secret *password;
    const char *scratch; /* a directory of the agent's own; made and removed by the call */
};

/* What a call that was cut off left of its scratch directory. */
void store_scratch_remove(const char *path);

struct store {
    const char *name; /* as in the local policy */
    bool key_apart;   /* the key, and the chain, may have files of their own */
    bool password;
    /* Both run in the confined child. */
    enum code (*open)(const struct store_in *in, struct store_found *ret, struct status *st);
    enum code (*make)(const struct store_parts *parts, struct secret **ret, struct status *st);
    /* In the task's child; NULL: not needed. unlock: content whose key `open` cannot read, as PKCS#12 under
     * the same password. finish: turns what `make` made into its final form. */
    enum code (*unlock)(const struct store_tool *tool, const struct secret *content, const char *alias,
                        struct secret **ret, struct status *st);
    enum code (*finish)(const struct store_tool *tool, const struct store_parts *parts,
                        struct secret **content, struct status *st);
    /* Whether entries that are not ours survive; NULL: they do not. */
    bool (*keeps_others)(const struct policy_target *target, struct bytes content);
};

extern const struct store pem_store, haproxy_store, pkcs12_store, jks_store, kubernetes_store;
const struct store *store_of(const struct policy_target *target);

/* The target's password; *ret NULL for a store without one. */
enum code store_password(const struct policy_target *target, struct secret **ret,
                         struct status *st) MUST_CHECK;

/* Content of a target's certificate file, opened. */
struct store_view {
    const Clm__Agent__Facts *facts; /* certs with their DER, leaf first; NULL: nothing there */
    struct secret *key;             /* PEM; NULL: none in it */
    struct buf chain_pem;
};
void store_view_done(struct store_view *view);
/* content NULL: nothing is there, which is no error. INVALID_ARGUMENT: it is nothing of this format.
 * PERMISSION_DENIED: the password does not open it. */
enum code store_view(const struct policy_target *target, const struct secret *content,
                     const struct secret *password, struct arena *arena, struct store_view *ret,
                     struct status *st) MUST_CHECK;
/* The same for what is on disk now, with the password from its file. */
enum code store_view_now(const struct policy_target *target, struct arena *arena, struct store_view *ret,
                         struct status *st) MUST_CHECK;
/* Fetches the key into view if it is there and has not been read yet. */
enum code store_view_unlock(const struct store_tool *tool, const struct secret *content, struct arena *arena,
                            struct store_view *view, struct status *st) MUST_CHECK;
enum code store_make(const struct store_tool *tool, const struct store_parts *parts, struct arena *arena,
                     struct secret **ret, struct status *st) MUST_CHECK;

/* DER of the leaf; empty when there is none. */
struct bytes store_view_leaf(const struct store_view *view);

#endif
