/* Counts for the dashboard: kept for the whole fleet, counted under a selector. */
#ifndef CLM_REGISTRY_STORE_TALLIES_H
#define CLM_REGISTRY_STORE_TALLIES_H

#include "scope/selector.h"
#include "store.h"

/* *ret[i]: identities of agents that are not disabled that end at `edge_ms[i]` or before; *ret_all: of any
 * end. */
enum code store_identity_ends(struct db *db, const struct label_terms *terms, const int64_t *edge_ms,
                              size_t n, struct arena *arena, int64_t *ret, int64_t *ret_all,
                              struct status *st) MUST_CHECK;
/* *ret[i]: certificates of the inventory that end at `edge_ms[i]` or before; *ret_all: of any end. */
enum code store_certificate_ends(struct db *db, const struct label_terms *terms, const int64_t *edge_ms,
                                 size_t n, struct arena *arena, struct certificate_ends *ret,
                                 struct certificate_ends *ret_all, struct status *st) MUST_CHECK;
/* Fills in_safe_mode, versions, open_by_kind and open_alerts. */
enum code store_tallies(struct db *db, const struct label_terms *terms, struct arena *arena,
                        struct dashboard *ret, struct status *st) MUST_CHECK;
/* One row for each again. */
enum code store_tallies_fold(struct db *db, struct status *st) MUST_CHECK;

#endif
