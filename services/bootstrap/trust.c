/* Start-up check of the three places that name a root: the signer's directory, the database, roots.pem. */
#include "trust.h"

#include <string.h>

#include "store.h"

enum code trust_check(struct db *db, struct bytes signer_root, const char *signer_trust_domain,
                      const struct der_list *roots, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct ca_row recorded;
    char fingerprint[SHA256_HEX_SIZE];
    bool trusted = false;

    enum code code = store_ca_read(db, arena, &recorded, st);
    if (code == CODE_NOT_FOUND)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "the database knows no CA: run clm-bootstrap init first");
    TRY(code);
    sha256_hex(signer_root, fingerprint);
    if (strcmp(fingerprint, recorded.root_sha256) != 0)
        return status_set(
            st, CODE_FAILED_PRECONDITION,
            "the CA directory's root (SHA-256 %.16s…) is not the one of this database (%.16s…): "
            "one of the two belongs to another installation",
            fingerprint, recorded.root_sha256);
    if (strcmp(signer_trust_domain, recorded.trust_domain) != 0)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "the CA directory's trust domain %.80s is not the database's %.80s",
                          signer_trust_domain, recorded.trust_domain);
    for (size_t i = 0; i < roots->n; i++)
        trusted = trusted || (roots->item[i].len == signer_root.len &&
                              memcmp(roots->item[i].data, signer_root.data, signer_root.len) == 0);
    return trusted
               ? CODE_OK
               : status_set(st, CODE_FAILED_PRECONDITION,
                            "[identity] roots does not hold the root of the CA directory (SHA-256 %.16s…)",
                            fingerprint);
}
