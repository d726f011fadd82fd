/* clm-bootstrap init: makes the platform's CA, the first certificates and the bus's credentials, once. */
#ifndef CLM_BOOTSTRAP_INIT_H
#define CLM_BOOTSTRAP_INIT_H

#include "db/db.h"
#include "pki/csr.h"
#include "publish.h"

struct init_order {
    const char *dir, *trust_domain;
    struct pki_names gateway_names, bus_names; /* DNS names and addresses */
    /* When not NULL: also makes this Kubernetes Secret of the directory, before the database hears of it, so
     * that a database which knows a CA always has its keys. */
    const struct publish_to *publish;
};

enum init_result {
    INIT_MADE,
    INIT_FINISHED_EARLIER, /* the files were there, complete; the database has now heard of them */
    INIT_ALREADY_DONE,
};

/* Under an advisory lock of the database, whose schema must be migrated. Files first in DIR.tmp, then the
 * fingerprint and the rename within one transaction: after a crash either nothing counts, or running it again
 * finishes it. FAILED_PRECONDITION when database and directory disagree. */
enum code init_run(struct db *db, const struct init_order *order, enum init_result *ret,
                   struct status *st) MUST_CHECK;

#endif
