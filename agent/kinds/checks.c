/* See checks.h. */
#include "kinds/checks.h"

#include <string.h>

#define CRITICAL CLM__CHECK__SEVERITY__CRITICAL
#define HIGH     CLM__CHECK__SEVERITY__HIGH
#define MEDIUM   CLM__CHECK__SEVERITY__MEDIUM
#define LOW      CLM__CHECK__SEVERITY__LOW

const struct check_row checks[] = {
    {"file", CRITICAL, "the file is there and holds certificates that can be read",
     "put a certificate there, or renew"},
    {"key-match", CRITICAL, "the private key is there and belongs to the certificate",
     "renew, or restore the pair from its backup"},
    {"permissions", HIGH, "nobody but its owner (and, as a warning, its group) can use the private key",
     "chmod 600 the key's file"},
    {"chain", HIGH, "the certificates in the file build to a root that this host knows",
     "install the certificate with all its intermediates, leaf first"},
    {"names", HIGH, "the certificate covers the name that is asked for", "renew it with that name"},
    {"validity", CRITICAL, "the certificate is within its dates, and not in its last third (a warning)",
     "renew it"},
    {"weak-key", HIGH, "RSA has 2048 bits at least, elliptic curves 224; no DSA", "renew it with a new key"},
    {"weak-signature", HIGH, "it is not signed with MD2, MD4, MD5 or SHA-1", "renew it"},
    {"eku", HIGH, "its extended key usage lets TLS servers use it", "renew it as a server certificate"},
    {"revocation", CRITICAL, "its issuer has not revoked it (OCSP, else CRL)",
     "renew it with a new key, and find out why it was revoked"},
    {"reachable", HIGH, "the endpoint answers and speaks TLS", "start the server, or correct the endpoint"},
    {"served", CRITICAL, "what the endpoint serves is what was intended", "reload the server"},
    {"served-chain", HIGH, "the certificates that the endpoint serves build to a root that this host knows",
     "install the certificate with all its intermediates, leaf first"},
    {"served-names", HIGH,
     "under each name that the server's configuration gives the certificate, it is that certificate that is "
     "served",
     "reload the server, or correct its configuration"},
    {"protocol", MEDIUM, "TLS 1.2 or 1.3, and (as a warning) nothing older", "allow TLS 1.2 and 1.3 only"},
    {.id = NULL},
};

const struct check_row *check_find(const char *id)
{
    for (const struct check_row *row = checks; row->id; row++) {
        if (strcmp(row->id, id) == 0)
            return row;
    }
    return NULL;
}
