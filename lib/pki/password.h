/*
 * Passwords of people: scrypt (RFC 7914) through OpenSSL, 32 MiB and about 0.1 s each. The text carries its
 * parameters, so that they can rise without asking everybody for a new password.
 */
#ifndef CLM_PKI_PASSWORD_H
#define CLM_PKI_PASSWORD_H

#include "base/status.h"
#include "pki/der.h"

#define PASSWORD_HASH_SIZE 96 /* "scrypt$15$8$1$<salt>$<hash>", base64url, and its NUL */

enum code password_hash(struct bytes password, char out[PASSWORD_HASH_SIZE], struct status *st) MUST_CHECK;
/* False for another password, and for a text that password_hash did not make. A text of NULL takes as long as
 * any other and is never right: for names that nobody has. */
bool password_right(struct bytes password, const char *hash);

#endif
