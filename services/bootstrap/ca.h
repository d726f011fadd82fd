/* The CA directory: DIR/ca of clm-bootstrap init. Read by the signer; made by init. */
#ifndef CLM_BOOTSTRAP_CA_H
#define CLM_BOOTSTRAP_CA_H

#include "profiles.h"

/* Reads passphrase, keys and certificates; DATA_LOSS when a key does not fit its certificate or a certificate
 * does not lead to the root. The root's key is not needed and not read: it may be kept elsewhere. */
enum code ca_load(const char *dir, struct ca_set *ret, struct status *st) MUST_CHECK;

/* A new root and its issuing CAs, all P-256, written into dir (which exists):
 * {root,agents,services,envelope,managed} .crt and .key (PKCS#8, scrypt), passphrase, trust-domain. */
enum code ca_make(const char *dir, const char *trust_domain, struct status *st) MUST_CHECK;

/* Which names and addresses a gateway's certificate may carry: DIR/gateway-names, one a line. */
enum code ca_write_gateway_names(const char *dir, const struct pki_names *names,
                                 struct status *st) MUST_CHECK;

#endif
