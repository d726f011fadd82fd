/* Private keys. A struct key may be used by one thread at a time; make one a thread for speed. */
#ifndef CLM_PKI_KEY_H
#define CLM_PKI_KEY_H

#include <stdbool.h>

#include "base/secret.h"
#include "base/status.h"
#include "pki/der.h"

enum key_type { KEY_EC_P256, KEY_EC_P384, KEY_RSA_2048, KEY_RSA_3072, KEY_ED25519, KEY_OTHER };

struct key;

/* From now on private numbers of this process's keys live in one locked area that is left out of dumps and
 * wiped as they are freed (OpenSSL's secure heap). Once, at the start of a process that holds keys; best
 * effort where RLIMIT_MEMLOCK is too small. */
void key_lock_memory(void);
enum code key_generate(enum key_type type, struct key **ret, struct status *st) MUST_CHECK;
void key_free(struct key *key);
DEFINE_CLEANUP(key, struct key *, key_free)
#define AUTO_KEY CLEANUP(cleanup_key)

enum key_type key_type(const struct key *key);
/* PKCS#8 PEM. passphrase NULL: unencrypted; else PBES2 with scrypt and AES-256-CBC (RFC 8018, RFC 7914). */
enum code key_to_pem(const struct key *key, const struct secret *passphrase, struct secret **ret,
                     struct status *st) MUST_CHECK;
/* PEM or DER, PKCS#8 or traditional; at most 64 KiB. INVALID_ARGUMENT for what is no key, PERMISSION_DENIED
 * for a wrong or missing passphrase. */
enum code key_parse(const struct secret *encoded, const struct secret *passphrase, struct key **ret,
                    struct status *st) MUST_CHECK;
enum code key_spki(const struct key *key, struct der *ret, struct status *st) MUST_CHECK;
bool key_matches_cert(const struct key *key, struct bytes cert_der);
/* Signature with SHA-256 (Ed25519: pure) over data. */
enum code key_sign(const struct key *key, struct bytes data, struct der *ret, struct status *st) MUST_CHECK;
/* The EVP_PKEY inside, for lib/http/tls.c alone; borrowed. */
struct evp_pkey_st *key_evp(const struct key *key);

#endif
