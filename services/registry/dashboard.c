/* The fleet in numbers. Whole-fleet counts are kept; those under a selector are counted. */
#include "alerts.h"
#include "selector.h"
#include "store.h"

enum code dashboard_get(struct db *db, const char *selector, int64_t now_ms, struct arena *arena,
                        struct dashboard *ret, struct status *st)
{
    struct label_terms terms;
    *ret = (struct dashboard){0};
    TRY(label_terms_read(selector, NULL, 0, arena, &terms, st));
    TRY(store_counts(db, &terms, ret, arena, st));
    TRY(store_expiring(db, &terms, now_ms, now_ms + DASHBOARD_EXPIRING_MS, &ret->identities_expiring, arena,
                       st));
    const struct alert_filter open = {.selector = selector, .state_bits = 1u << ALERT_OPEN};
    TRY(alerts_count_open(db, selector, &ret->open_alerts, arena, st));
    TRY(alerts_list(db, &open, DASHBOARD_ALERTS, arena, &ret->alerts, &ret->n_alerts, st));
    return store_activity_recent(db, &terms, DASHBOARD_RECENT, arena, &ret->recent, &ret->n_recent, st);
}
