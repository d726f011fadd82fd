/*
 * Internal to lib/pki: a certificate while it is made. OpenSSL's X509 wants every part of it as an object,
 * and copies and encodes what it has several times over; here, what is known as DER goes in as it is, and all
 * is encoded once.
 */
#ifndef CLM_PKI_TBS_H
#define CLM_PKI_TBS_H

#include "pki/ossl.h"

/* TBSCertificate (RFC 5280 section 4.1); a DER element is an ASN1_STRING of V_ASN1_SEQUENCE. */
struct tbs {
    ASN1_INTEGER *version; /* tbs_new sets it: v3 */
    ASN1_INTEGER *serial;
    ASN1_STRING *algorithm; /* tbs_sign sets it */
    ASN1_STRING *issuer;    /* DER */
    X509_VAL *validity;
    X509_NAME *subject;
    ASN1_STRING *spki;       /* DER */
    ASN1_STRING *extensions; /* DER */
};

struct tbs *tbs_new(void);
void tbs_free(struct tbs *tbs);
DEFINE_CLEANUP(tbs, struct tbs *, tbs_free)
#define AUTO_TBS CLEANUP(cleanup_tbs)

/* A whole element into one of the fields above; copied. */
void tbs_set_der(ASN1_STRING *field, struct bytes der);

enum code tbs_set_extensions(struct tbs *tbs, const X509_EXTENSIONS *list, struct status *st) MUST_CHECK;

/* What signs: a context that is set up for the key once and copied for each signature, and what it says of
 * itself, an AlgorithmIdentifier. */
struct tbs_signing {
    EVP_MD_CTX *ready;
    struct der algorithm;
};
enum code tbs_signing_init(struct tbs_signing *signing, EVP_PKEY *pkey, const EVP_MD *md,
                           struct status *st) MUST_CHECK;
void tbs_signing_done(struct tbs_signing *signing);

/* The certificate. */
enum code tbs_sign(struct tbs *tbs, const struct tbs_signing *signing, struct der *ret,
                   struct status *st) MUST_CHECK;

#endif
