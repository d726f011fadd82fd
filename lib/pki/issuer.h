/* Internal to lib/pki: what an issuer keeps ready (issue.c, crl.c). */
#ifndef CLM_PKI_ISSUER_H
#define CLM_PKI_ISSUER_H

#include "pki/issue.h"
#include "pki/ossl.h"
#include "pki/tbs.h"

struct issuer {
    struct key *key;
    X509 *cert;
    AUTHORITY_KEYID *akid;
    int64_t not_before_ms, not_after_ms;
    long path_len; /* -1: no limit */
    struct tbs_signing signing;
};

const EVP_MD *issuer_digest(const struct issuer *issuer);

#endif
