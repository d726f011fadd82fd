/*
 * PostgreSQL through libpq: one struct db is one session of one thread. Parameters are bound, never pasted.
 * SQLSTATEs become codes: 23505 ALREADY_EXISTS, 23503/23514 FAILED_PRECONDITION, 40001/40P01 ABORTED, 55P03
 * RESOURCE_EXHAUSTED, 57014 DEADLINE_EXCEEDED, 22xxx INVALID_ARGUMENT, a lost connection UNAVAILABLE, others
 * INTERNAL.
 */
#ifndef CLM_DB_DB_H
#define CLM_DB_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/embed.h"
#include "base/status.h"

struct db;

/* conninfo: a libpq connection string without the password; password_file: read at each connect, may be NULL.
 * Sets search_path to schema, statement_timeout, application_name, and after how long the server gives up a
 * client that is not heard of: its locks and transactions are free within a minute. */
struct db_config {
    const char *conninfo, *password_file, *schema, *application_name;
    int64_t statement_timeout_ms;
};
enum code db_open(const struct db_config *config, struct db **ret, struct status *st) MUST_CHECK;
void db_close(struct db *db);
/* Reconnects if the session is lost; UNAVAILABLE if it cannot. Any transaction is gone then. */
enum code db_ensure(struct db *db, struct status *st) MUST_CHECK;
DEFINE_CLEANUP(db, struct db *, db_close)

/* Bound parameters, in order $1, $2 …; all values are copied into the arena. */
struct db_args;
struct db_args *db_args_new(struct arena *arena);
void db_arg_text(struct db_args *args, const char *s); /* NULL → SQL NULL */
void db_arg_int(struct db_args *args, int64_t n);
void db_arg_bool(struct db_args *args, bool b);
void db_arg_bytes(struct db_args *args, const void *data, size_t len); /* data NULL → SQL NULL */
void db_arg_time(struct db_args *args, int64_t wall_ms);               /* timestamptz; < 0 → NULL */
void db_arg_text_array(struct db_args *args, const char *const *v,
                       size_t n);                                        /* text[]; NULL elements allowed */
void db_arg_int_array(struct db_args *args, const int64_t *v, size_t n); /* bigint[] */
void db_arg_bool_array(struct db_args *args, const bool *v, size_t n);
void db_arg_time_array(struct db_args *args, const int64_t *wall_ms, size_t n); /* timestamptz[] */
void db_arg_bytes_array(struct db_args *args, const void *const *data, const size_t *len,
                        size_t n); /* bytea[] */

/* Result rows; columns by position. Text lives as long as the rows. Accessors assert on bad indexes. */
struct db_rows;
size_t db_rows_count(const struct db_rows *rows);
int64_t db_rows_affected(const struct db_rows *rows);
bool db_is_null(const struct db_rows *rows, size_t row, int col);
const char *db_text(const struct db_rows *rows, size_t row, int col); /* NULL for SQL NULL */
int64_t db_int(const struct db_rows *rows, size_t row, int col);      /* 0 for NULL */
bool db_bool(const struct db_rows *rows, size_t row, int col);
int64_t db_time(const struct db_rows *rows, size_t row,
                int col); /* Unix ms; -1 for NULL. Select timestamptz as it is */
const void *db_bytes(const struct db_rows *rows, size_t row, int col, size_t *ret_len);
void db_rows_free(struct db_rows *rows);
DEFINE_CLEANUP(db_rows, struct db_rows *, db_rows_free)
#define AUTO_ROWS CLEANUP(cleanup_db_rows)

/* One statement (server-side prepared on first use, remembered by its text: few different ones). args and ret
 * may be NULL. */
enum code db_query(struct db *db, const char *sql, const struct db_args *args, struct db_rows **ret,
                   struct status *st) MUST_CHECK;
/* The same, planned anew for these values: where the best way depends on them. */
enum code db_query_planned(struct db *db, const char *sql, const struct db_args *args, struct db_rows **ret,
                           struct status *st) MUST_CHECK;
/* NOT_FOUND when there is no row. */
enum code db_query_one(struct db *db, const char *sql, const struct db_args *args, struct db_rows **ret,
                       struct status *st) MUST_CHECK;

enum code db_begin(struct db *db, struct status *st) MUST_CHECK;
enum code db_commit(struct db *db, struct status *st) MUST_CHECK;
void db_rollback(struct db *db); /* no-op outside a transaction */
/* For scopes: `CLEANUP(db_scope_end) struct db *tx = db;` rolls back what was not committed. */
void db_scope_end(struct db **db);

/* LISTEN, and wait for a notification or the timeout; *ret_woken says which. */
enum code db_listen(struct db *db, const char *channel, struct status *st) MUST_CHECK;
enum code db_wait_notify(struct db *db, int64_t timeout_ms, int wake_fd /* or -1 */, bool *ret_woken,
                         struct status *st) MUST_CHECK;
/* Session advisory lock; *ret_held says whether we have it now. */
enum code db_try_lock(struct db *db, int64_t key, bool *ret_held, struct status *st) MUST_CHECK;

/*
 * Migrations: embedded NNNN_name.sql in ascending order without gaps, each in its own transaction, under an
 * advisory lock, recorded with its SHA-256 in <schema>.schema_migrations. An edited, missing or unknown
 * (newer) one is refused: FAILED_PRECONDITION naming the file and what to do. The schema must exist (made
 * with the role by the deployer) or the role may create it. outbox_migrations (outbox.h, 0000_outbox.sql)
 * always come first: pass a service's own, from 0001.
 */
enum code db_migrate(struct db *db, const char *schema, const struct embed *migrations,
                     struct status *st) MUST_CHECK;

#endif
