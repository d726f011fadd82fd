/* See lost.h. Worker threads, the relay and the periodic look. */
#include "lost.h"

#include "alerts.h"
#include "base/clock.h"
#include "store_lost.h"

enum code lost_place_get(struct db *db, struct lost_place *ret, struct status *st)
{
    return store_place_get(db, ret, st);
}

enum code lost_place_check(struct db *tx, bool same, struct status *st)
{
    return store_place_check(tx, same, st);
}

enum code lost_place_advance(struct db *db, int64_t stream_seq, struct status *st)
{
    return store_place_advance(db, stream_seq, st);
}

/* With the first: what comes after it says nothing new, and a process that dies here has told. */
static enum code tell(struct db *tx, size_t n, struct arena *arena, struct status *st)
{
    const struct alert_change change = {
        .kind = ALERT_AUDIT_INCONSISTENT,
        .entity = "platform",
        .message = arena_printf(arena,
                                "the stream of events has events of agents, %zu and perhaps more, that this "
                                "database does not know: if it was restored from a backup, run `clmctl "
                                "platform restored`",
                                n),
    };
    return alerts_raise(tx, &change, 1, clock_wall_ms(), arena, st);
}

enum code lost_take(struct db *db, const struct lost_event *events, size_t n, int64_t from, int64_t next,
                    bool ended, struct arena *arena, size_t *ret_n_lost, struct status *st)
{
    CLEANUP(db_scope_end) struct db *tx = db;
    struct lost_place place;
    *ret_n_lost = 0;
    TRY(db_begin(tx, st));
    TRY(store_place_lock(tx, &place, st));
    if (place.unchecked_from != from)
        return CODE_OK;
    if (n > 0)
        TRY(store_lost_add(tx, events, n, arena, ret_n_lost, st));
    if (place.n_lost == 0 && *ret_n_lost > 0)
        TRY(tell(tx, *ret_n_lost, arena, st));
    place.n_lost += (int64_t)*ret_n_lost;
    place.unchecked_from = ended && place.n_lost == 0 ? -1 : next;
    TRY(store_place_set(tx, &place, arena, st));
    return db_commit(tx, st);
}
