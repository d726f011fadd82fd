/* See inventory.h. */
#include "inventory.h"

#include <string.h>

#include "pki/digest.h"
#include "selector.h"
#include "store_inventory.h"

#define ORPHAN_KEEP_MS (24 * 3600 * 1000LL)

/* A place is what it is by these: an index on the texts themselves could not hold long paths. */
static void place_key(struct certificate_place *place)
{
    struct sha256_ctx *ctx = sha256_ctx_new();
    const char *parts[] = {place->certificate, place->place, place->server_name ? place->server_name : ""};
    uint8_t source = (uint8_t)place->source;
    sha256_ctx_add(ctx, (struct bytes){&source, 1});
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        sha256_ctx_add(ctx, (struct bytes){(const uint8_t *)parts[i], strlen(parts[i]) + 1});
    sha256_ctx_free(ctx, place->key);
}

enum code inventory_apply(struct db *tx, const struct scan_page *page, struct arena *arena, struct status *st)
{
    for (size_t i = 0; i < page->n_places; i++)
        place_key(&page->places[i]);
    if (page->n_places > 0) {
        TRY(store_certificates_add(tx, page, arena, st));
        TRY(store_places_add(tx, page, arena, st));
    }
    if (page->supersedes)
        TRY(store_places_supersede(tx, page, arena, st));
    return page->replace ? store_places_replace(tx, page, arena, st) : CODE_OK;
}

enum code certificates_list(struct db *db, const struct certificate_filter *filter, size_t max,
                            struct arena *arena, struct certificate **ret, size_t *ret_n,
                            struct certificate_place **ret_places, size_t *ret_n_places, struct status *st)
{
    struct label_terms terms;
    TRY(label_terms_read(filter->selector, NULL, 0, arena, &terms, st));
    TRY(store_certificates_select(db, &terms, filter, max, arena, ret, ret_n, st));
    *ret_n_places = 0;
    if (*ret_n == 0)
        return CODE_OK;
    return store_places_select(db, &terms, filter, *ret, *ret_n, PLACES_SHOWN, arena, ret_places,
                               ret_n_places, st);
}

enum code inventory_trim(struct db *db, int64_t now_ms, struct arena *arena, struct status *st)
{
    return store_certificates_trim(db, now_ms - ORPHAN_KEEP_MS, arena, st);
}
