/* Statements of lost.c and restore.c about what the stream says and the database has forgotten. */
#ifndef CLM_REGISTRY_STORE_LOST_H
#define CLM_REGISTRY_STORE_LOST_H

#include "lost.h"

enum code store_place_get(struct db *db, struct lost_place *ret, struct status *st) MUST_CHECK;
enum code store_place_lock(struct db *tx, struct lost_place *ret, struct status *st) MUST_CHECK;
enum code store_place_set(struct db *tx, const struct lost_place *place, struct arena *arena,
                          struct status *st) MUST_CHECK;
enum code store_place_check(struct db *tx, bool same, struct status *st) MUST_CHECK;
enum code store_place_advance(struct db *db, int64_t stream_seq, struct status *st) MUST_CHECK;
/* Of each agent its highest version; *ret_n counts events that the outbox does not know. */
enum code store_lost_add(struct db *tx, const struct lost_event *events, size_t n, struct arena *arena,
                         size_t *ret_n, struct status *st) MUST_CHECK;
enum code store_lost_select(struct db *tx, struct arena *arena, struct held_back **ret, size_t *ret_n,
                            struct status *st) MUST_CHECK;
/* Whatever was lost is dealt with. */
enum code store_lost_clear(struct db *tx, struct status *st) MUST_CHECK;

#endif
