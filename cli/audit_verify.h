/*
 * Verifying an export of the audit log without the platform: the tree is computed from the records, and every
 * signed head in the export must be a head of it. What a witness outside has seen must be there, too.
 */
#ifndef CLM_CLI_AUDIT_VERIFY_H
#define CLM_CLI_AUDIT_VERIFY_H

#include <stdio.h>

#include "audit/head.h"

#define AUDIT_LINE_MAX (256 * 1024)

struct audit_verdict {
    unsigned trees;
    uint64_t lost; /* records that restores say to have lost */
    uint64_t records, heads, cosignatures, witnessed,
        uncovered; /* uncovered: records younger than the last head */
};
/* Lines of AuditExportLine; witness (may be NULL): lines of SignedAuditHead. UNAUTHENTICATED, naming the
 * line, when something does not hold. */
enum code audit_verify(FILE *in, FILE *witness, const struct der_list *roots, struct audit_verdict *ret,
                       struct status *st) MUST_CHECK;

#endif
