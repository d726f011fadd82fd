/* clm-bootstrap renew-certificates: fresh key pairs for the platform's own servers, where they begin from. */
#ifndef CLM_BOOTSTRAP_CERTIFICATES_H
#define CLM_BOOTSTRAP_CERTIFICATES_H

#include "publish.h"

/* Which pairs were left alone, because what stands there is not of this CA. */
struct left_alone {
    bool gateway_tls, bus;
};

/* By what is there: a pair for each service; for the gateway's TLS, under the names of gateway-names in the
 * CA directory or else its present ones, and for the bus, under its present ones, unless somebody else's
 * certificate stands there. FAILED_PRECONDITION: the roots are not this CA's. */
enum code certificates_make(struct ca_set *ca, const struct published *present, struct pairs *ret,
                            struct left_alone *ret_left, struct status *st) MUST_CHECK;

/* In the directory that init made: all files beside the former ones first, then each in its place; owners and
 * modes stay. */
enum code certificates_renew_directory(const char *dir, struct left_alone *ret, struct status *st) MUST_CHECK;
/* In the Secret that init made of such a directory, whose part "ca" is mounted in dir. One write, which only
 * happens if nobody else changed the Secret meanwhile; else it is read again. */
enum code certificates_renew_secret(const char *dir, const struct publish_to *to, struct left_alone *ret,
                                    struct status *st) MUST_CHECK;

#endif
