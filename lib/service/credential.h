/* A private key with its certificate chain, as files hold it. Plain values; no thread. */
#ifndef CLM_SERVICE_CREDENTIAL_H
#define CLM_SERVICE_CREDENTIAL_H

#include "base/secret.h"
#include "pki/cert.h"

struct credential {
    struct secret *key;    /* PEM */
    struct der_list chain; /* leaf first */
    int64_t not_before_ms, not_after_ms;
};
void credential_done(struct credential *credential);
#define AUTO_CREDENTIAL CLEANUP(credential_done)

/* Takes the key over, even when this fails; the chain is copied. INVALID_ARGUMENT if they do not belong
 * together. */
enum code credential_make(struct secret *key /* taken */, const struct der_list *chain,
                          struct credential *ret, struct status *st) MUST_CHECK;
void credential_copy(const struct credential *from, struct credential *ret);
/* From two files, or from one that holds both: then both paths are the same. */
enum code credential_read(const char *key_path, const char *chain_path, struct credential *ret,
                          struct status *st) MUST_CHECK;
/* One file with both, 0600; old or new after a crash. */
enum code credential_write(const struct credential *credential, const char *path,
                           struct status *st) MUST_CHECK;
bool credential_same(const struct credential *a, const struct credential *b);
/* The chain without its leaf: borrows, not to be freed. */
struct der_list credential_intermediates(const struct credential *credential);

#endif
