/* Plain signed statements for the bus (proto/bus.proto SignedBytes): ECDSA over purpose, NUL, payload. */
#ifndef CLM_PKI_SIGNED_H
#define CLM_PKI_SIGNED_H

#include "pki/cert.h"

enum code signed_make(const char *purpose, struct bytes payload, const struct key *key,
                      struct der *ret_signature, struct status *st) MUST_CHECK;

/* Remembers the verdict on chains it has seen (by the certificate's SHA-256, until it expires): bounded,
 * thread-safe. */
struct signed_verifier;
struct signed_verifier *signed_verifier_new(const struct der_list *roots,
                                            const struct der_list *intermediates);
void signed_verifier_free(struct signed_verifier *verifier);
/* Checks the chain (PURPOSE_SERVICE), the signature, and gives the service's name out of its SPIFFE id. */
enum code signed_verify(struct signed_verifier *verifier, const char *purpose, struct bytes payload,
                        struct bytes signature, struct bytes cert, int64_t at_ms, char ret_service[64],
                        struct status *st) MUST_CHECK;
/* The same for a statement that comes with many messages (an operator's assertion): one that held is
 * remembered by the SHA-256 of all its parts, bounded, and never past its certificate's chain. How long the
 * payload itself holds is the caller's to check each time. */
enum code signed_verify_repeated(struct signed_verifier *verifier, const char *purpose, struct bytes payload,
                                 struct bytes signature, struct bytes cert, int64_t at_ms,
                                 char ret_service[64], struct status *st) MUST_CHECK;

#endif
