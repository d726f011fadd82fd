/*
 * CMS (RFC 5652) as DESIGN.md section 6 uses it: SignedData under our own eContentTypes, and the task
 * envelope = SignedData outside, over AuthEnvelopedData (RFC 5083, AES-256-GCM, RFC 5084) for one P-256
 * recipient (ECDH, SHA-256 KDF). `openssl cms -verify -purpose any | openssl cms -decrypt` opens an envelope.
 *
 * Everything that is read has a size limit and an exact shape (strict DER, one signer, SHA-256, signed
 * attributes); anything else is INVALID_ARGUMENT. A signature, chain or purpose that does not hold is
 * UNAUTHENTICATED.
 */
#ifndef CLM_PKI_CMS_H
#define CLM_PKI_CMS_H

#include "pki/cert.h"

enum cms_content { /* own eContentType OIDs; the envelope's is id-ct-authEnvelopedData */
                   CMS_CONTENT_RECEIPT,
                   CMS_CONTENT_REQUEST,
                   CMS_CONTENT_DOCUMENT,
                   CMS_CONTENT_HEAD,
                   CMS_CONTENT_COSIGNATURE,
                   CMS_CONTENT_ENVELOPE,
};

#define CMS_SIGNED_MAX   (600 * 1024)
#define CMS_ENVELOPE_MAX (512 * 1024)

/* Who signs: a key, its certificate, and those that go along, decoded once. Keeps nothing of what it is made
 * of. One thread at a time. */
struct cms_signer;
enum code cms_signer_new(const struct key *key, struct bytes cert, const struct der_list *intermediates,
                         struct cms_signer **ret, struct status *st) MUST_CHECK;
void cms_signer_free(struct cms_signer *signer);
DEFINE_CLEANUP(cms_signer, struct cms_signer *, cms_signer_free)
#define AUTO_CMS_SIGNER CLEANUP(cleanup_cms_signer)

/* SignedData, one signer, signed attributes, certificates inside. */
enum code cms_sign_by(const struct cms_signer *signer, enum cms_content type, struct bytes content,
                      struct der *ret, struct status *st) MUST_CHECK;
/* The same by who signs once. */
enum code cms_sign(enum cms_content type, struct bytes content, const struct key *key, struct bytes cert,
                   const struct der_list *intermediates, struct der *ret, struct status *st) MUST_CHECK;

/* Verifies, from cheap to dear: shape and eContentType, the one signature, the purpose, the chain to roots.
 * `expected` (may be NULL) must be byte for byte the signer's certificate: for a service that knows what it
 * issued. Then roots may be NULL and no chain is built; purpose and `at_ms` are still checked. Not both may
 * be NULL. *ret_signer (may be NULL) gives the signer's certificate. The content is handed out only after
 * everything held. */
enum code cms_verify(enum cms_content type, struct bytes cms, const struct bytes *expected,
                     const struct der_list *roots, enum pki_purpose purpose, int64_t at_ms,
                     struct der *ret_content, struct der *ret_signer, struct status *st) MUST_CHECK;

/* Signer's certificate as claimed, before any verification, to look up which one to expect. */
enum code cms_claimed_signer(struct bytes cms, struct der *ret, struct status *st) MUST_CHECK;

/* The task envelope. */
enum code envelope_seal(struct bytes plaintext, struct bytes recipient_cert, const struct cms_signer *signer,
                        struct der *ret, struct status *st) MUST_CHECK;
/* Two steps, so that decryption happens only after verification. The signer must have PURPOSE_ENVELOPE. */
enum code envelope_verify(struct bytes envelope, const struct der_list *roots, int64_t at_ms,
                          struct der *ret_inner, struct der *ret_signer, struct status *st) MUST_CHECK;
/* FAILED_PRECONDITION "cannot open" if it was made for another key. */
enum code envelope_open(struct bytes inner, const struct key *recipient_key, struct bytes recipient_cert,
                        struct der *ret_plaintext, struct status *st) MUST_CHECK;

#endif
