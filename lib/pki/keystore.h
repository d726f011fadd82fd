/*
 * Keystores of other programs: PKCS#12 (RFC 7292) and classic JKS, the file that Java before 9 made. Both are
 * hostile bytes: everything that they size has a limit, the cost of their passwords too. Looking for
 * certificates never opens a private key. Pure functions.
 */
#ifndef CLM_PKI_KEYSTORE_H
#define CLM_PKI_KEYSTORE_H

#include "pki/cert.h"
#include "pki/key.h"

#define KEYSTORE_MAX_BYTES    (4 * 1024 * 1024)
#define KEYSTORE_MAX_ENTRIES  4096
#define KEYSTORE_ALIAS_SIZE   128
#define KEYSTORE_PASSWORD_MAX 1024

enum keystore_type { KEYSTORE_NONE, KEYSTORE_PKCS12, KEYSTORE_JKS };
/* By the first bytes: they say what it claims to be, not that it is sound. */
enum keystore_type keystore_sniff(struct bytes content);

struct keystore_info {
    unsigned keys;    /* entries with a private key */
    unsigned trusted; /* certificates that stand alone, as trust anchors do */
    unsigned sealed;  /* parts that could not be looked into without a password */
    bool verified;    /* its digest held under the password */
};
/* One certificate; alias is printable ASCII and "" when it has none; with_key: it belongs to a private key of
 * this keystore. */
typedef void keystore_on_cert(struct bytes der, const char *alias, bool with_key, void *arg);

/* Gives every certificate that parses, in the file's order. password NULL: what is readable without one (all
 * of a JKS; of PKCS#12 what is not encrypted, or only with the empty password). PERMISSION_DENIED: the
 * password is wrong, or the file was changed. INVALID_ARGUMENT: no keystore, damaged or truncated.
 * RESOURCE_EXHAUSTED: a limit, or more than max certificates, of which the first max were given. */
enum code keystore_certs(struct bytes content, const struct secret *password, size_t max,
                         keystore_on_cert *on_cert, void *arg, struct keystore_info *ret,
                         struct status *st) MUST_CHECK;
enum code pkcs12_certs(struct bytes content, const struct secret *password, size_t max,
                       keystore_on_cert *on_cert, void *arg, struct keystore_info *ret,
                       struct status *st) MUST_CHECK;
enum code jks_certs(struct bytes content, const struct secret *password, size_t max,
                    keystore_on_cert *on_cert, void *arg, struct keystore_info *ret,
                    struct status *st) MUST_CHECK;

/* A private key of a PKCS#12 file with its chain. */
struct pkcs12 {
    struct key *key;
    struct der_list chain; /* leaf first; empty if no certificate is for the key */
    char alias[KEYSTORE_ALIAS_SIZE];
    unsigned others; /* other private keys and trust anchors of the same file */
};
void pkcs12_done(struct pkcs12 *pkcs12);
/* alias NULL: the one key that there is; FAILED_PRECONDITION when there are several, NOT_FOUND for none. */
enum code pkcs12_read(struct bytes content, const struct secret *password, const char *alias,
                      struct pkcs12 *ret, struct status *st) MUST_CHECK;

enum pkcs12_encryption {
    PKCS12_MODERN, /* PBES2: PBKDF2 with HMAC-SHA-256, AES-256-CBC; MAC with SHA-256. Java 8u301 and later */
    PKCS12_LEGACY, /* SHA-1 and triple DES, which what is older reads too */
};
enum code pkcs12_make(const struct key *key, const struct der_list *chain, const char *alias,
                      const struct secret *password, enum pkcs12_encryption encryption, struct secret **ret,
                      struct status *st) MUST_CHECK;
/* Old files (RC2) need OpenSSL's legacy module, which is a file: call before the process loses its files.
 * Where there is no such module those files stay unreadable. */
void pkcs12_load_legacy(void);

#endif
