/* The fleet in numbers. Whole-fleet counts are kept; those under a selector are counted. */
#include "alerts.h"
#include "store_tallies.h"

#define DAY_SEC (24LL * 3600)

const int64_t dashboard_end_sec[DASHBOARD_ENDS] = {0, DAY_SEC, 7 * DAY_SEC, 30 * DAY_SEC, 90 * DAY_SEC, -1};
#define END_SOON 2 /* the one that DASHBOARD_EXPIRING_MS says */

#define LAST (DASHBOARD_ENDS - 1)

/* What is asked of the store is how many end until then; what is shown, how many end in between. */
static enum code ends(struct db *db, const struct label_terms *terms, int64_t now_ms, struct arena *arena,
                      struct dashboard *ret, struct status *st)
{
    int64_t edges[LAST], until[DASHBOARD_ENDS];
    struct certificate_ends certificates[DASHBOARD_ENDS];
    for (size_t i = 0; i < ARRAY_LEN(edges); i++)
        edges[i] = now_ms + dashboard_end_sec[i] * 1000;
    TRY(store_identity_ends(db, terms, edges, ARRAY_LEN(edges), arena, until, &until[LAST], st));
    TRY(store_certificate_ends(db, terms, edges, ARRAY_LEN(edges), arena, certificates, &certificates[LAST],
                               st));
    ret->identities_expiring = until[END_SOON] - until[0];
    ret->ends[0] = until[0];
    ret->certificates[0] = certificates[0];
    for (size_t i = 1; i < DASHBOARD_ENDS; i++) {
        ret->ends[i] = until[i] - until[i - 1];
        ret->certificates[i].n = certificates[i].n - certificates[i - 1].n;
        ret->certificates[i].served = certificates[i].served - certificates[i - 1].served;
    }
    return CODE_OK;
}

enum code dashboard_get(struct db *db, const char *selector, int64_t now_ms, struct arena *arena,
                        struct dashboard *ret, struct status *st)
{
    struct label_terms terms;
    *ret = (struct dashboard){0};
    TRY(label_terms_read(selector, NULL, 0, arena, &terms, st));
    TRY(store_counts(db, &terms, ret, arena, st));
    TRY(ends(db, &terms, now_ms, arena, ret, st));
    TRY(store_tallies(db, &terms, arena, ret, st));
    const struct alert_filter open = {.selector = selector, .state_bits = 1u << ALERT_OPEN};
    TRY(alerts_list(db, &open, DASHBOARD_ALERTS, arena, &ret->alerts, &ret->n_alerts, st));
    return store_activity_recent(db, &terms, DASHBOARD_RECENT, arena, &ret->recent, &ret->n_recent, st);
}
