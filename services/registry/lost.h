/*
 * What this database has forgotten and the stream of events still says. A relay notes how far the stream is
 * ours; after each reconnect what follows is read, and an event of ours that the outbox does not know means
 * that the database is older than what it told. Declaring the restore takes it from here.
 */
#ifndef CLM_REGISTRY_LOST_H
#define CLM_REGISTRY_LOST_H

#include "restore.h"

struct lost_place {
    int64_t last_seq;       /* of an event of ours; 0: none yet */
    int64_t unchecked_from; /* -1: all that is in the stream is known to be ours */
    int64_t n_lost;
};
enum code lost_place_get(struct db *db, struct lost_place *ret, struct status *st) MUST_CHECK;
/* For the relay: see struct stream_place. */
enum code lost_place_check(struct db *tx, bool same, struct status *st) MUST_CHECK;
enum code lost_place_advance(struct db *db, int64_t stream_seq, struct status *st) MUST_CHECK;

struct lost_event { /* of an agent */
    const char *event_id;
    struct held_back agent;
};
/* What was read from `from` up to `next`, as one transaction; ended: there is nothing behind it yet. Those of
 * them that are ours are left out; *ret_n_lost counts the others. A place that has moved meanwhile is left
 * alone. */
enum code lost_take(struct db *db, const struct lost_event *events, size_t n, int64_t from, int64_t next,
                    bool ended, struct arena *arena, size_t *ret_n_lost, struct status *st) MUST_CHECK;

#endif
