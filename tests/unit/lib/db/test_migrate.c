#include "cmocka_all.h"

#include <pthread.h>

#include "db/db.h"
#include "support/pg.h"

#define FILE_ROW(name, sql)                                                                                  \
    {                                                                                                        \
        name, (const unsigned char *)(sql), sizeof(sql) - 1                                                  \
    }

static const struct embed first[] = {
    FILE_ROW("0001_a.sql", "CREATE TABLE a (id int); CREATE TABLE a2 (id int);"), {0}};
static const struct embed both[] = {
    FILE_ROW("0001_a.sql", "CREATE TABLE a (id int); CREATE TABLE a2 (id int);"),
    FILE_ROW("0002_b.sql", "CREATE TABLE b (id int);"),
    {0}};
static const struct embed edited[] = {FILE_ROW("0001_a.sql", "CREATE TABLE a (id bigint);"), {0}};
static const struct embed broken[] = {
    FILE_ROW("0001_a.sql", "CREATE TABLE a (id int); CREATE TABLE a2 (id int);"),
    FILE_ROW("0002_b.sql", "CREATE TABLE half (id int); SELECT nonsense;"),
    {0}};
static const struct embed gap[] = {FILE_ROW("0002_b.sql", "SELECT 1"), {0}};

static struct status st;

static struct db *open_db(const char *schema)
{
    struct db_config config = {.conninfo = pg_conninfo(), .schema = schema, .statement_timeout_ms = 10000};
    struct db *db = NULL;
    if (db_open(&config, &db, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    return db;
}

static bool table_exists(struct db *db, const char *schema_and_name)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, schema_and_name);
    AUTO_ROWS struct db_rows *rows = NULL;
    assert_int_equal(db_query_one(db, "SELECT to_regclass($1) IS NOT NULL", args, &rows, &st), CODE_OK);
    return db_bool(rows, 0, 0);
}

static void migrations_are_applied_once_and_in_order(void **state)
{
    (void)state;
    CLEANUP(cleanup_db) struct db *db = open_db("s_once");
    assert_int_equal(db_migrate(db, "s_once", first, &st), CODE_OK);
    assert_true(table_exists(db, "s_once.a2") && table_exists(db, "s_once.outbox"));
    assert_false(table_exists(db, "s_once.b"));
    assert_int_equal(db_migrate(db, "s_once", both, &st), CODE_OK);
    assert_true(table_exists(db, "s_once.b"));
    assert_int_equal(db_migrate(db, "s_once", both, &st), CODE_OK);
    AUTO_ROWS struct db_rows *rows = NULL;
    assert_int_equal(db_query(db, "SELECT name FROM schema_migrations ORDER BY number", NULL, &rows, &st),
                     CODE_OK);
    assert_int_equal(db_rows_count(rows), 3);
    assert_string_equal(db_text(rows, 0, 0), "0000_outbox.sql");
    assert_string_equal(db_text(rows, 2, 0), "0002_b.sql");
}

static void edited_migration_is_refused(void **state)
{
    (void)state;
    CLEANUP(cleanup_db) struct db *db = open_db("s_edited");
    assert_int_equal(db_migrate(db, "s_edited", first, &st), CODE_OK);
    assert_int_equal(db_migrate(db, "s_edited", edited, &st), CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(st.msg, "0001_a.sql was edited"));
}

static void unknown_newer_migration_is_refused(void **state)
{
    (void)state;
    CLEANUP(cleanup_db) struct db *db = open_db("s_newer");
    assert_int_equal(db_migrate(db, "s_newer", both, &st), CODE_OK);
    assert_int_equal(db_migrate(db, "s_newer", first, &st), CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(st.msg, "0002_b.sql"));
}

static void failed_migration_leaves_nothing_behind(void **state)
{
    (void)state;
    CLEANUP(cleanup_db) struct db *db = open_db("s_broken");
    assert_int_not_equal(db_migrate(db, "s_broken", broken, &st), CODE_OK);
    assert_non_null(strstr(st.msg, "migration 0002_b.sql"));
    assert_true(table_exists(db, "s_broken.a"));
    assert_false(table_exists(db, "s_broken.half"));
    assert_int_equal(db_migrate(db, "s_broken", both, &st), CODE_OK);
}

static void gap_in_the_numbers_is_refused(void **state)
{
    (void)state;
    CLEANUP(cleanup_db) struct db *db = open_db("s_gap");
    assert_int_equal(db_migrate(db, "s_gap", gap, &st), CODE_INTERNAL);
}

static void *migrate_at_once(void *arg)
{
    struct db *db = arg;
    struct status mine;
    return db_migrate(db, "s_race", both, &mine) == CODE_OK ? db : NULL;
}

static void replicas_that_migrate_at_once_all_succeed(void **state)
{
    (void)state;
    enum { REPLICAS = 6 };
    struct db *db[REPLICAS];
    pthread_t thread[REPLICAS];
    for (int i = 0; i < REPLICAS; i++)
        db[i] = open_db("s_race");
    for (int i = 0; i < REPLICAS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, migrate_at_once, db[i]), 0);
    for (int i = 0; i < REPLICAS; i++) {
        void *ok = NULL;
        assert_int_equal(pthread_join(thread[i], &ok), 0);
        assert_non_null(ok);
        db_close(db[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(migrations_are_applied_once_and_in_order),
        cmocka_unit_test(edited_migration_is_refused),
        cmocka_unit_test(unknown_newer_migration_is_refused),
        cmocka_unit_test(failed_migration_leaves_nothing_behind),
        cmocka_unit_test(gap_in_the_numbers_is_refused),
        cmocka_unit_test(replicas_that_migrate_at_once_all_succeed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
