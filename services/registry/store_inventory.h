/* Statements of the inventory, for inventory.c. */
#ifndef CLM_REGISTRY_STORE_INVENTORY_H
#define CLM_REGISTRY_STORE_INVENTORY_H

#include "inventory.h"
#include "store.h"

enum code store_certificates_add(struct db *tx, const struct scan_page *page, struct arena *arena,
                                 struct status *st) MUST_CHECK;
enum code store_places_add(struct db *tx, const struct scan_page *page, struct arena *arena,
                           struct status *st) MUST_CHECK;
/* What was said earlier of the same places, by source and server name. */
enum code store_places_supersede(struct db *tx, const struct scan_page *page, struct arena *arena,
                                 struct status *st) MUST_CHECK;
/* What the scan covered and did not see. */
enum code store_places_replace(struct db *tx, const struct scan_page *page, struct arena *arena,
                               struct status *st) MUST_CHECK;
enum code store_certificates_select(struct db *db, const struct label_terms *terms,
                                    const struct certificate_filter *filter, size_t max, struct arena *arena,
                                    struct certificate **ret, size_t *ret_n, struct status *st) MUST_CHECK;
enum code store_places_select(struct db *db, const struct label_terms *terms,
                              const struct certificate_filter *filter, const struct certificate *certificates,
                              size_t n, size_t max_each, struct arena *arena, struct certificate_place **ret,
                              size_t *ret_n, struct status *st) MUST_CHECK;
enum code store_certificates_trim(struct db *db, int64_t before_ms, struct arena *arena,
                                  struct status *st) MUST_CHECK;

#endif
