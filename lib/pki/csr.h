/* PKCS#10 certification requests (RFC 2986). */
#ifndef CLM_PKI_CSR_H
#define CLM_PKI_CSR_H

#include "pki/key.h"

#define PKI_NAMES_MAX 100

/* Names asked for in a CSR or held by a certificate. Text is owned. */
struct pki_names {
    char *uri[4];
    size_t n_uri;
    char *dns[PKI_NAMES_MAX]; /* lower case */
    size_t n_dns;
    char *ip[16]; /* textual */
    size_t n_ip;
};
void pki_names_done(struct pki_names *names);
#define AUTO_PKI_NAMES CLEANUP(pki_names_done)

/* common_name may be NULL. */
enum code csr_make(const struct key *key, const char *common_name, const struct pki_names *names,
                   struct der *ret, struct status *st) MUST_CHECK;

struct csr_info {
    struct pki_names names;
    char common_name[256]; /* "" if none */
    struct der spki;
    struct key *key; /* the same, decoded; public */
    enum key_type key_type;
};
void csr_info_done(struct csr_info *info);
#define AUTO_CSR_INFO CLEANUP(csr_info_done)

/* Parses at most 16 KiB and verifies the proof of possession. INVALID_ARGUMENT with the reason: not a CSR,
 * trailing bytes, not strict DER, bad signature (SHA-1 and RSASSA-PSS are not accepted), key too weak (RSA <
 * 2048 bits, other curves), names that are no names. */
enum code csr_verify(struct bytes csr, struct csr_info *ret, struct status *st) MUST_CHECK;

/* The SubjectPublicKeyInfo of a CSR for an EC P-256 key, borrowed. What asks is not proven: for who has
 * csr_verify done elsewhere, as clm-bootstrap has by its signer. INVALID_ARGUMENT: no strict CSR, another
 * kind of key. */
enum code csr_p256_spki(struct bytes csr, struct bytes *ret, struct status *st) MUST_CHECK;

#endif
