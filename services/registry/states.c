/* Pages of the whole fleet, for gateways and services that keep a projection. */
#include "selector.h"
#include "store.h"

enum code agents_page(struct db *db, const char *after, size_t max, struct arena *arena, struct agent **ret,
                      size_t *ret_n, struct status *st)
{
    const struct agent_filter all = {0};
    struct label_terms terms;
    TRY(label_terms_read(NULL, NULL, 0, arena, &terms, st));
    const struct agent_place place = {.id = after && *after ? after : NULL};
    return store_agents_select(db, &all, &terms, &place, max, arena, ret, ret_n, st);
}
