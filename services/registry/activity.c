/* What happened lately, for the dashboard: newest ACTIVITY_MAX rows. The audit log is something else. */
#include "selector.h"
#include "store.h"

enum code activity_add(struct db *tx, const struct activity *rows, size_t n, struct arena *arena,
                       struct status *st)
{
    return store_activity_add(tx, rows, n, arena, st);
}

enum code activity_list(struct db *db, const char *selector, const struct activity_filter *filter, size_t max,
                        struct arena *arena, struct activity **ret, size_t *ret_n, struct status *st)
{
    struct label_terms terms;
    TRY(label_terms_read(selector, NULL, 0, arena, &terms, st));
    return store_activity_list(db, &terms, filter, max, arena, ret, ret_n, st);
}
