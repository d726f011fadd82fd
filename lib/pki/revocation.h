/*
 * Has an issuer revoked a certificate? OCSP (RFC 6960) and CRLs (RFC 5280): where to ask, what to send, what
 * an answer says. Answers are hostile bytes. Pure functions; fetching is the caller's.
 */
#ifndef CLM_PKI_REVOCATION_H
#define CLM_PKI_REVOCATION_H

#include "pki/cert.h"

#define REVOCATION_URLS_MAX   4
#define REVOCATION_URL_SIZE   512
#define OCSP_ANSWER_MAX_BYTES (64 * 1024)
#define CRL_MAX_BYTES         (4 * 1024 * 1024)

struct revocation_sources { /* as the certificate names them; plain HTTP only, others are left out */
    char ocsp[REVOCATION_URLS_MAX][REVOCATION_URL_SIZE], crl[REVOCATION_URLS_MAX][REVOCATION_URL_SIZE];
    size_t n_ocsp, n_crl;
};
enum code revocation_sources(struct bytes cert, struct revocation_sources *ret, struct status *st) MUST_CHECK;

enum revocation { REVOCATION_GOOD = 1, REVOCATION_REVOKED, REVOCATION_UNKNOWN };

/* Body of a POST to a responder. */
enum code ocsp_request_make(struct bytes cert, struct bytes issuer, struct der *ret,
                            struct status *st) MUST_CHECK;
/* UNAUTHENTICATED: not signed by the issuer or whom it delegated to, or not of this time. INVALID_ARGUMENT:
 * no OCSP answer, or none about this certificate. text: when and why, of REVOKED. */
enum code ocsp_answer_read(struct bytes answer, struct bytes cert, struct bytes issuer, int64_t at_ms,
                           enum revocation *ret, char text[128], struct status *st) MUST_CHECK;
/* The same for a CRL, DER or PEM. UNKNOWN: it speaks of a part of the issuer's certificates only. */
enum code crl_read(struct bytes crl, struct bytes cert, struct bytes issuer, int64_t at_ms,
                   enum revocation *ret, char text[128], struct status *st) MUST_CHECK;

#endif
