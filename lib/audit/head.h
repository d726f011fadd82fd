/* Signed heads of the audit log (proto/audit.proto): opening one, and holding a later one against it. */
#ifndef CLM_AUDIT_HEAD_H
#define CLM_AUDIT_HEAD_H

#include "merkle/merkle.h"
#include "pki/cms.h"

struct Clm__SignedAuditHead;

struct head {
    char tree_id[40];
    uint64_t size;
    int64_t made_at_ms;
    struct merkle_hash root;
};
/* Verifies the signature, that it is the registry's, and that what stands beside it says the same. The chain
 * is checked at the time that the head names: signers' certificates are short-lived, heads are kept.
 * UNAUTHENTICATED when it does not hold. */
enum code head_open(const struct Clm__SignedAuditHead *in, const struct der_list *roots, struct head *ret,
                    struct status *st) MUST_CHECK;
/* `later` came with a consistency proof from `earlier`: UNAUTHENTICATED when history was changed between
 * them. */
enum code head_extends(const struct head *earlier, const struct head *later,
                       const struct Clm__SignedAuditHead *later_message, struct status *st) MUST_CHECK;

/* `later` is of another tree: its first record must be that of a restore, proved to be in it, and name the
 * tree of `earlier`. UNAUTHENTICATED when it does not, or names it with another history. FAILED_PRECONDITION
 * when all of that holds but the restore did not know as much as we do. */
enum code head_restored(const struct head *earlier, const struct head *later,
                        const struct Clm__SignedAuditHead *later_message, struct status *st) MUST_CHECK;

#endif
