/*
 * Brings a schema to the version this binary was built with, or says why not. Runs once, before a service
 * takes work, on its own session; a session advisory lock keeps replicas apart. What is recorded is never run
 * again, and must be byte for byte what this binary holds.
 */
#include <assert.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "db/db_internal.h"
#include "db/outbox.h"

#define MIGRATIONS_MAX 1000u

struct migration_list {
    const struct embed *item[MIGRATIONS_MAX];
    size_t n;
};

static void digest_hex(const struct embed *file, char out[65])
{
    unsigned char digest[32];
    int ok = EVP_Digest(file->data, file->size, digest, NULL, EVP_sha256(), NULL);
    assert(ok == 1);
    hex_encode(digest, sizeof(digest), out);
}

/* "0012_name.sql" → 12; -1 if it is not of that form. */
static int number_of(const char *name)
{
    int n = 0;
    for (int i = 0; i < 4; i++) {
        if (name[i] < '0' || name[i] > '9')
            return -1;
        n = n * 10 + (name[i] - '0');
    }
    return name[4] == '_' ? n : -1;
}

static enum code list_all(const struct embed *own, struct migration_list *ret, struct status *st)
{
    ret->n = 0;
    ret->item[ret->n++] = &outbox_migrations[0];
    for (const struct embed *file = own; file && file->name; file++) {
        if (!strcmp(file->name, outbox_migrations[0].name))
            continue;
        if (ret->n == MIGRATIONS_MAX || number_of(file->name) != (int)ret->n)
            return status_set(st, CODE_INTERNAL, "migration %s: expected number %04zu_", file->name, ret->n);
        ret->item[ret->n++] = file;
    }
    return CODE_OK;
}

static enum code check_recorded(struct db *db, const struct migration_list *list, size_t *ret_done,
                                struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, "SELECT number, name, sha256 FROM schema_migrations ORDER BY number", NULL, &rows, st));
    size_t n = db_rows_count(rows);
    for (size_t i = 0; i < n; i++) {
        const char *name = db_text(rows, i, 1);
        if (i >= list->n)
            return status_set(
                st, CODE_FAILED_PRECONDITION,
                "the database holds migration %s, which this version does not know: it was written by a "
                "newer version; run that one, or restore a backup from before",
                name);
        char digest[65];
        digest_hex(list->item[i], digest);
        if (db_int(rows, i, 0) != (int64_t)i)
            return status_set(st, CODE_FAILED_PRECONDITION,
                              "the database's record of migration %s is missing: restore schema_migrations",
                              list->item[i]->name);
        if (strcmp(name, list->item[i]->name) != 0 || strcmp(db_text(rows, i, 2), digest) != 0)
            return status_set(
                st, CODE_FAILED_PRECONDITION,
                "migration %s was edited after it had been applied as %s: bring the file back and put "
                "the change into a new migration",
                list->item[i]->name, name);
    }
    *ret_done = n;
    return CODE_OK;
}

static enum code apply(struct db *db, size_t number, const struct embed *file, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    char digest[65];
    digest_hex(file, digest);
    TRY(db_begin(db, st));
    CLEANUP(db_scope_end) struct db *tx = db;
    if (db_script(tx, (const char *)file->data, st) != CODE_OK)
        return status_wrap(st, "migration %s", file->name);
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, (int64_t)number);
    db_arg_text(args, file->name);
    db_arg_text(args, digest);
    TRY(db_query(tx, "INSERT INTO schema_migrations (number, name, sha256) VALUES ($1, $2, $3)", args, NULL,
                 st));
    return db_commit(tx, st);
}

static enum code migrate_locked(struct db *db, const struct migration_list *list, struct status *st)
{
    TRY(db_script(
        db,
        "CREATE TABLE IF NOT EXISTS schema_migrations (number integer PRIMARY KEY, name text NOT NULL, "
        "sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())",
        st));
    size_t done = 0;
    TRY(check_recorded(db, list, &done, st));
    for (size_t i = done; i < list->n; i++)
        TRY(apply(db, i, list->item[i], st));
    return CODE_OK;
}

static enum code ensure_schema(struct db *db, const char *schema, struct arena *arena, struct status *st)
{
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, schema);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, "SELECT 1 FROM pg_namespace WHERE nspname = $1", args, &rows, st));
    if (db_rows_count(rows) == 1)
        return CODE_OK;
    for (const char *p = schema; *p; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '_'))
            return status_set(st, CODE_INVALID_ARGUMENT, "schema \"%s\": letters, digits and _ only", schema);
    return db_script(db, arena_printf(arena, "CREATE SCHEMA \"%s\"", schema), st);
}

enum code db_migrate(struct db *db, const char *schema, const struct embed *migrations, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct migration_list *list = arena_alloc(arena, sizeof(*list));
    TRY(list_all(migrations, list, st));
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, arena_printf(arena, "clm_migrate_%s", schema));
    /* Another replica's migration may take longer than a statement should. */
    TRY(db_script(db, "SET statement_timeout = 0", st));
    enum code code = db_query(db, "SELECT pg_advisory_lock(hashtextextended($1, 0))", args, NULL, st);
    if (code == CODE_OK) {
        code = ensure_schema(db, schema, arena, st);
        if (code == CODE_OK)
            code = migrate_locked(db, list, st);
        struct status ignored;
        if (db_query(db, "SELECT pg_advisory_unlock(hashtextextended($1, 0))", args, NULL, &ignored) !=
            CODE_OK)
            db_drop(db);
    }
    struct status ignored;
    if (db_restore_timeout(db, &ignored) != CODE_OK)
        db_drop(db);
    return code;
}
