/* Certificate revocation lists (RFC 5280 section 5). */
#ifndef CLM_PKI_CRL_H
#define CLM_PKI_CRL_H

#include "pki/issue.h"

#define CRL_SERIAL_MAX  20u
#define CRL_ENTRIES_MAX 8000u /* what fits into one message of the bus */

enum crl_reason {                      /* the numbers of RFC 5280 section 5.3.1; others are not used here */
                  CRL_UNSPECIFIED = 0, /* not written: the section asks for that */
                  CRL_KEY_COMPROMISE = 1,
                  CRL_SUPERSEDED = 4,
                  CRL_CESSATION = 5,
};

struct crl_entry {
    uint8_t serial[CRL_SERIAL_MAX]; /* magnitude, big-endian */
    size_t serial_len;
    int64_t revoked_at_ms;
    enum crl_reason reason;
};

struct crl_request {
    uint64_t number; /* greater each time */
    int64_t this_update_ms, next_update_ms;
    const struct crl_entry *entries;
    size_t n;
};

/* Version 2, with authorityKeyIdentifier and cRLNumber; the entries sorted by serial. INVALID_ARGUMENT: too
 * many entries, a serial of no or too many octets. */
enum code issuer_sign_crl(struct issuer *issuer, const struct crl_request *req, struct der *ret,
                          struct status *st) MUST_CHECK;

#endif
