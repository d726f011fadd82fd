/* X.509 certificates (RFC 5280): reading, names, chains. */
#ifndef CLM_PKI_CERT_H
#define CLM_PKI_CERT_H

#include "base/buf.h"
#include "pki/csr.h"

/* Own extended key usages, one a purpose, below 1.3.6.1.4.1.55555.1 (documentation arc until one is
 * assigned). */
enum pki_purpose {
    PURPOSE_ANY,
    PURPOSE_TLS_SERVER,     /* id-kp-serverAuth */
    PURPOSE_AGENT_IDENTITY, /* id-kp-clientAuth and our own */
    PURPOSE_AGENT_TASK,     /* signs receipts and requests, opens envelopes */
    PURPOSE_SERVICE,        /* signs assertions and authority statements */
    PURPOSE_ENVELOPE,       /* signs task envelopes */
};
const char *pki_purpose_oid(enum pki_purpose purpose); /* dotted; our own OID where there is one */

struct cert_info {
    char subject[512], issuer[512]; /* RFC 4514 */
    char subject_serial[65]; /* serialNumber attribute of the subject: an agent's generation; "" if none */
    char serial[65];         /* lower-case hex */
    struct pki_names names;
    int64_t not_before_ms, not_after_ms;
    char fingerprint[65]; /* SHA-256 of the DER, lower-case hex */
    char spki_sha256[65];
    char key_name[32]; /* "EC P-256" */
    enum key_type key_type;
    unsigned key_bits;
    char signature_algorithm[64];
    bool is_ca, self_signed;
    bool server_auth; /* EKU absent or holds serverAuth */
};
void cert_info_done(struct cert_info *info);
#define AUTO_CERT_INFO CLEANUP(cert_info_done)

#define CERT_MAX_BYTES (64 * 1024)

enum code cert_read(struct bytes der, struct cert_info *ret, struct status *st) MUST_CHECK;
/* The same for lists of many certificates that are only looked at, several times as fast: the key is not
 * decoded (spki_sha256 and key_* are what it says of itself), and self_signed is what it says, unverified. */
enum code cert_read_listed(struct bytes der, struct cert_info *ret, struct status *st) MUST_CHECK;
/* What a record of a certificate needs, without decoding its key. For certificates of our own making: nothing
 * else of it is looked at. */
struct cert_brief {
    char serial[65], fingerprint[65]; /* as in cert_info */
    int64_t not_after_ms;
};
enum code cert_read_brief(struct bytes der, struct cert_brief *ret, struct status *st) MUST_CHECK;
/* DER of the issuer's Name: a certificate that does not hold these bytes cannot be its issuer. */
enum code cert_issuer_name(struct bytes der, struct der *ret, struct status *st) MUST_CHECK;
/* RFC 6125 name check, wildcards in the left-most label; an IP address is matched against iPAddress SANs. */
bool cert_matches_host(struct bytes der, const char *host);

/* Verifies leaf up to one of the roots through the intermediates, at `at_ms`. purpose adds the EKU check and,
 * for our own purposes, key usage, nested EKUs of the CAs above, and that there is exactly one URI SAN, a
 * SPIFFE id. INVALID_ARGUMENT: what is no certificate. UNAUTHENTICATED: the chain does not hold, with the
 * reason, depth and subject ("certificate expired on 2026-…, subject CN=…"). */
enum code chain_verify(struct bytes leaf, const struct der_list *intermediates, const struct der_list *roots,
                       enum pki_purpose purpose, int64_t at_ms, struct status *st) MUST_CHECK;
/* Puts certificates in any order into leaf-first order without the root; INVALID_ARGUMENT if they form no
 * chain. */
enum code chain_order(const struct der_list *certs, struct der_list *ret, struct status *st) MUST_CHECK;

/* PEM text ⇄ DER. Reads every CERTIFICATE block, ignoring others; RESOURCE_EXHAUSTED beyond DER_LIST_MAX. */
enum code pem_to_certs(struct bytes pem, struct der_list *ret, struct status *st) MUST_CHECK;
enum code certs_to_pem(const struct der_list *certs, struct buf *ret, struct status *st) MUST_CHECK;
/* DER, PEM or PKCS#7, decided by content: on_cert for each certificate that parses, which may be none;
 * damaged blocks are passed over. RESOURCE_EXHAUSTED beyond max certificates (the first max were given) or 4
 * MiB. */
enum code certs_sniff(struct bytes content, size_t max, void (*on_cert)(struct bytes der, void *arg),
                      void *arg, struct status *st) MUST_CHECK;

/* spiffe://<trust domain>/<kind>/<name>: kind "agent" (name = id) or "service". False if uri is not of that
 * form. */
struct spiffe_id {
    char trust_domain[256], kind[16], name[64];
};
bool spiffe_parse(const char *uri, struct spiffe_id *ret);
void spiffe_format(const char *trust_domain, const char *kind, const char *name, char out[400]);
/* The one SPIFFE id of a certificate; INVALID_ARGUMENT if there is not exactly one URI SAN. */
enum code cert_spiffe(struct bytes der, struct spiffe_id *ret, struct status *st) MUST_CHECK;

#endif
