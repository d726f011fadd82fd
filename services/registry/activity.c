/* What happened lately, for the dashboard: newest ACTIVITY_MAX rows. The audit log is something else. */
#include "store.h"

enum code activity_add(struct db *tx, const struct activity *rows, size_t n, struct arena *arena,
                       struct status *st)
{
    return store_activity_add(tx, rows, n, arena, st);
}
