/*
 * The outbox: events written in the transaction that made them true, read by the one relay of a service
 * (lib/service/relay.c). And the inbox: which events a consumer has applied. The tables come with
 * outbox_migration:
 *
 *   outbox(id uuid primary key, subject text, body bytea, created_at timestamptz, stream_seq bigint)
 *   inbox(event_id uuid primary key, applied_at timestamptz)   parked(event_id, subject, body, reason,
 * parked_at)
 */
#ifndef CLM_DB_OUTBOX_H
#define CLM_DB_OUTBOX_H

#include "db/db.h"

/* Migration "0000_outbox.sql": db_migrate puts it before a service's own. */
extern const struct embed outbox_migrations[];

/* Inside the caller's transaction; NOTIFYs channel clm_outbox_<schema> at commit. id is the event's UUIDv7.
 */
enum code outbox_add(struct db *db, const char *id, const char *subject, const void *body, size_t len,
                     struct status *st) MUST_CHECK;
/* Many at once, one statement. */
enum code outbox_add_many(struct db *db, size_t n, const char *const *ids, const char *const *subjects,
                          const void *const *bodies, const size_t *lens, struct status *st) MUST_CHECK;
/* True in *ret_fresh if the event was not applied before; records it. Inside the consumer's transaction. */
enum code inbox_claim(struct db *db, const char *event_id, bool *ret_fresh, struct status *st) MUST_CHECK;
enum code inbox_park(struct db *db, const char *event_id, const char *subject, const void *body, size_t len,
                     const char *reason, struct status *st) MUST_CHECK;

#endif
