/* Building certificates. Policy (who may have which profile) is the signer's; this is the mechanics. */
#ifndef CLM_PKI_ISSUE_H
#define CLM_PKI_ISSUE_H

#include "pki/cert.h"

/* A key with its certificate and the parsed parts that signing needs again and again. One thread at a time.
 */
struct issuer;
/* The key is taken even when this fails. INVALID_ARGUMENT: no CA certificate, or of another key. */
enum code issuer_new(struct key *key /* taken */, struct bytes cert, struct issuer **ret,
                     struct status *st) MUST_CHECK;
void issuer_free(struct issuer *issuer);
DEFINE_CLEANUP(issuer, struct issuer *, issuer_free)
#define AUTO_ISSUER CLEANUP(cleanup_issuer)

struct cert_request {
    struct bytes spki;       /* DER SubjectPublicKeyInfo, already proven */
    const struct key *key;   /* the same, where it has been decoded (csr_verify); may be NULL */
    const char *common_name; /* may be NULL */
    const char
        *subject_serial; /* serialNumber attribute of the subject (of agents: the generation); may be NULL */
    const struct pki_names *names; /* SANs */
    enum pki_purpose purpose;      /* sets EKU and key usage (agent task: digitalSignature + keyAgreement) */
    bool tls_client_and_server;    /* service certificates: both EKUs beside our own */
    const char *crl_url;           /* where its issuer's revocation list is; may be NULL */
    bool is_ca;
    int path_len;                        /* of a CA; -1 none */
    int64_t not_before_ms, not_after_ms; /* cut to the issuer's own end */
};

/* Serial: 20 octets from the CSPRNG, positive (RFC 5280 section 4.1.2.2). SKI, AKI, basicConstraints. */
enum code issuer_sign(struct issuer *issuer, const struct cert_request *req, struct der *ret,
                      struct status *st) MUST_CHECK;
/* A root over its own key. */
enum code issuer_self_sign(struct key *key, const struct cert_request *req, struct der *ret,
                           struct status *st) MUST_CHECK;

#endif
