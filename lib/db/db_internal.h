/* What migrate.c needs of db.c beyond the contract. */
#ifndef CLM_DB_DB_INTERNAL_H
#define CLM_DB_DB_INTERNAL_H

#include "db/db.h"

/* Several statements at once, without parameters: for SQL that is part of the binary only. */
enum code db_script(struct db *db, const char *sql, struct status *st) MUST_CHECK;
enum code db_restore_timeout(struct db *db, struct status *st) MUST_CHECK;
/* Ends the session, and with it every lock and setting; db_ensure makes a new one. */
void db_drop(struct db *db);

#endif
