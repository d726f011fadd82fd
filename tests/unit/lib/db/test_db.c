#include "cmocka_all.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "db/db.h"
#include "support/pg.h"

static struct arena *arena;
static struct status st;
static struct db *db;

static enum code open_db(struct db **ret)
{
    struct db_config config = {.conninfo = pg_conninfo(),
                               .schema = "public",
                               .application_name = "test",
                               .statement_timeout_ms = 5000};
    return db_open(&config, ret, &st);
}

static int setup(void **state)
{
    (void)state;
    arena = arena_new();
    return open_db(&db) == CODE_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    db_close(db);
    arena_free(arena);
    return 0;
}

static void run(const char *sql)
{
    if (db_query(db, sql, NULL, NULL, &st) != CODE_OK)
        fail_msg("%s: %s", sql, st.msg);
}

static void scalars_come_back_as_they_went(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0, 1, '\\', '\'', 0xff};
    struct db_args *args = db_args_new(arena);
    db_arg_text(args, "O'Brien \\ \"é");
    db_arg_int(args, INT64_MIN);
    db_arg_bool(args, true);
    db_arg_bytes(args, bytes, sizeof(bytes));
    db_arg_time(args, 1795474862345);
    db_arg_text(args, NULL);
    db_arg_time(args, -1);
    db_arg_bytes(args, NULL, 0);
    db_arg_bytes(args, "", 0);
    AUTO_ROWS struct db_rows *rows = NULL;
    assert_int_equal(db_query_one(db, "SELECT $1::text, $2::bigint, $3::bool, $4, $5, $6::text, $7, $8, $9",
                                  args, &rows, &st),
                     CODE_OK);
    size_t len;
    assert_string_equal(db_text(rows, 0, 0), "O'Brien \\ \"é");
    assert_true(db_int(rows, 0, 1) == INT64_MIN);
    assert_true(db_bool(rows, 0, 2));
    assert_memory_equal(db_bytes(rows, 0, 3, &len), bytes, sizeof(bytes));
    assert_int_equal(len, sizeof(bytes));
    assert_true(db_time(rows, 0, 4) == 1795474862345);
    assert_true(db_is_null(rows, 0, 5) && !db_text(rows, 0, 5));
    assert_true(db_time(rows, 0, 6) == -1);
    assert_null(db_bytes(rows, 0, 7, &len));
    assert_non_null(db_bytes(rows, 0, 8, &len));
    assert_int_equal(len, 0);
}

static void arrays_come_back_as_they_went(void **state)
{
    (void)state;
    const char *texts[] = {"a,b{}\"\\", NULL, "", "NULL"};
    const int64_t ints[] = {1, -2, INT64_MAX, 0};
    const bool bools[] = {true, false, true, false};
    const int64_t times[] = {0, -1, 1795474862345, 946684800000};
    const void *datas[] = {"\0x", NULL, "", "\\x41"};
    const size_t lens[] = {2, 0, 0, 4};
    struct db_args *args = db_args_new(arena);
    db_arg_text_array(args, texts, 4);
    db_arg_int_array(args, ints, 4);
    db_arg_bool_array(args, bools, 4);
    db_arg_time_array(args, times, 4);
    db_arg_bytes_array(args, datas, lens, 4);
    AUTO_ROWS struct db_rows *rows = NULL;
    assert_int_equal(
        db_query(db, "SELECT * FROM unnest($1, $2, $3, $4, $5) WITH ORDINALITY ORDER BY 6", args, &rows, &st),
        CODE_OK);
    assert_int_equal(db_rows_count(rows), 4);
    for (size_t i = 0; i < 4; i++) {
        size_t len;
        if (texts[i])
            assert_string_equal(db_text(rows, i, 0), texts[i]);
        else
            assert_true(db_is_null(rows, i, 0));
        assert_true(db_int(rows, i, 1) == ints[i]);
        assert_true(db_bool(rows, i, 2) == bools[i]);
        assert_true(db_time(rows, i, 3) == times[i]);
        const void *data = db_bytes(rows, i, 4, &len);
        assert_int_equal(len, lens[i]);
        assert_true(!data == !datas[i]);
        if (len > 0)
            assert_memory_equal(data, datas[i], len);
    }
    struct db_args *empty = db_args_new(arena);
    db_arg_text_array(empty, NULL, 0);
    AUTO_ROWS struct db_rows *none = NULL;
    assert_int_equal(db_query(db, "SELECT unnest($1)", empty, &none, &st), CODE_OK);
    assert_int_equal(db_rows_count(none), 0);
}

static void text_array_finds_uuids(void **state)
{
    (void)state;
    const char *ids[] = {"01890000-0000-7000-8000-000000000001"};
    struct db_args *args = db_args_new(arena);
    db_arg_text_array(args, ids, 1);
    assert_int_equal(
        db_query_one(db, "SELECT 1 WHERE '01890000-0000-7000-8000-000000000001'::uuid = ANY($1::uuid[])",
                     args, NULL, &st),
        CODE_OK);
}

static void sqlstates_become_codes(void **state)
{
    (void)state;
    run("CREATE TABLE IF NOT EXISTS parent (id int PRIMARY KEY CHECK (id < 100))");
    run("CREATE TABLE IF NOT EXISTS child (id int REFERENCES parent)");
    run("INSERT INTO parent VALUES (1) ON CONFLICT DO NOTHING");
    static const struct {
        const char *sql;
        enum code code;
    } cases[] = {
        {"INSERT INTO parent VALUES (1)", CODE_ALREADY_EXISTS},
        {"INSERT INTO child VALUES (2)", CODE_FAILED_PRECONDITION},
        {"INSERT INTO parent VALUES (100)", CODE_FAILED_PRECONDITION},
        {"SELECT 1/0", CODE_INVALID_ARGUMENT},
        {"SELECT 'x'::text::int", CODE_INVALID_ARGUMENT},
        {"SELECT nonsense", CODE_INTERNAL},
        {"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$", CODE_ABORTED},
        {"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '55P03'; END $$", CODE_RESOURCE_EXHAUSTED},
        {"SELECT 1 WHERE false", CODE_NOT_FOUND},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (db_query_one(db, cases[i].sql, NULL, NULL, &st) != cases[i].code)
            fail_msg("%s: %s: %s", cases[i].sql, code_name(st.code), st.msg);
        assert_null(strchr(st.msg, '\n'));
    }
    assert_int_equal(db_query(db, "INSERT INTO parent VALUES (1)", NULL, NULL, &st), CODE_ALREADY_EXISTS);
    assert_non_null(strstr(st.msg, "constraint parent_pkey"));
}

static void slow_statement_is_ended(void **state)
{
    (void)state;
    struct db_config config = {.conninfo = pg_conninfo(), .statement_timeout_ms = 20};
    CLEANUP(cleanup_db) struct db *quick = NULL;
    assert_int_equal(db_open(&config, &quick, &st), CODE_OK);
    assert_int_equal(db_query(quick, "SELECT pg_sleep(10)", NULL, NULL, &st), CODE_DEADLINE_EXCEEDED);
    assert_int_equal(db_query(quick, "SELECT 1", NULL, NULL, &st), CODE_OK);
}

static int64_t count(const char *sql)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    assert_int_equal(db_query_one(db, sql, NULL, &rows, &st), CODE_OK);
    return db_int(rows, 0, 0);
}

static void scope_rolls_back_what_was_not_committed(void **state)
{
    (void)state;
    run("CREATE TABLE IF NOT EXISTS things (id int)");
    run("TRUNCATE things");
    assert_int_equal(db_begin(db, &st), CODE_OK);
    {
        CLEANUP(db_scope_end) struct db *tx = db;
        assert_int_equal(db_query(tx, "INSERT INTO things VALUES (1)", NULL, NULL, &st), CODE_OK);
    }
    assert_int_equal(count("SELECT count(*) FROM things"), 0);
    assert_int_equal(db_begin(db, &st), CODE_OK);
    {
        CLEANUP(db_scope_end) struct db *tx = db;
        assert_int_equal(db_query(tx, "INSERT INTO things VALUES (1)", NULL, NULL, &st), CODE_OK);
        assert_int_equal(db_commit(tx, &st), CODE_OK);
    }
    assert_int_equal(count("SELECT count(*) FROM things"), 1);
}

static void commit_of_a_failed_transaction_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(db_begin(db, &st), CODE_OK);
    assert_int_equal(db_query(db, "SELECT 1/0", NULL, NULL, &st), CODE_INVALID_ARGUMENT);
    assert_int_equal(db_commit(db, &st), CODE_ABORTED);
    assert_int_equal(count("SELECT 7"), 7);
}

static void lost_session_is_unavailable_and_comes_back(void **state)
{
    (void)state;
    assert_int_equal(count("SELECT 41 + 1"), 42);
    pg_kill_server();
    assert_int_equal(db_query(db, "SELECT 41 + 1", NULL, NULL, &st), CODE_UNAVAILABLE);
    assert_int_equal(db_query(db, "SELECT 1", NULL, NULL, &st), CODE_UNAVAILABLE);
    db_rollback(db);
    assert_int_equal(db_ensure(db, &st), CODE_UNAVAILABLE);
    assert_int_equal(db_begin(db, &st), CODE_UNAVAILABLE);
    pg_start_server();
    assert_int_equal(db_ensure(db, &st), CODE_OK);
    assert_int_equal(count("SELECT 41 + 1"), 42);
}

static void transaction_cut_by_a_crash_is_not_committed(void **state)
{
    (void)state;
    run("CREATE TABLE IF NOT EXISTS cut (id int)");
    assert_int_equal(db_begin(db, &st), CODE_OK);
    run("INSERT INTO cut VALUES (1)");
    pg_kill_server();
    pg_start_server();
    assert_int_equal(db_commit(db, &st), CODE_UNAVAILABLE);
    assert_int_equal(db_ensure(db, &st), CODE_OK);
    assert_int_equal(count("SELECT count(*) FROM cut"), 0);
}

static void notification_and_wake_descriptor_end_the_wait(void **state)
{
    (void)state;
    CLEANUP(cleanup_db) struct db *sender = NULL;
    assert_int_equal(open_db(&sender), CODE_OK);
    assert_int_equal(db_listen(db, "Channel \"x\"", &st), CODE_OK);
    assert_int_equal(db_query(sender, "SELECT pg_notify('Channel \"x\"', '')", NULL, NULL, &st), CODE_OK);
    bool woken = false;
    assert_int_equal(db_wait_notify(db, 10000, -1, &woken, &st), CODE_OK);
    assert_true(woken);
    assert_int_equal(db_wait_notify(db, 0, -1, &woken, &st), CODE_OK);
    assert_false(woken);
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(db_wait_notify(db, 60000, fds[0], &woken, &st), CODE_OK);
    assert_false(woken);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void lock_is_held_by_one_session(void **state)
{
    (void)state;
    CLEANUP(cleanup_db) struct db *other = NULL;
    assert_int_equal(open_db(&other), CODE_OK);
    bool mine = false, theirs = true;
    assert_int_equal(db_try_lock(db, 77, &mine, &st), CODE_OK);
    assert_int_equal(db_try_lock(other, 77, &theirs, &st), CODE_OK);
    assert_true(mine && !theirs);
}

/* Over the tests' socket the kernel has no say; what it does with these was tried over TCP. */
static void server_gives_up_a_client_that_vanished(void **state)
{
    (void)state;
    assert_int_equal(count("SELECT count(*) FROM pg_settings WHERE source = 'session' AND name IN "
                           "('tcp_keepalives_idle', 'tcp_keepalives_interval', 'tcp_keepalives_count', "
                           "'tcp_user_timeout')"),
                     4);
    assert_int_equal(
        count("SELECT setting FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'"), 60000);
}

static void password_is_read_from_its_file_and_never_told(void **state)
{
    (void)state;
    char path[] = "/tmp/clm-test-password-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "s3cret-word\n", 12), 12);
    (void)close(fd);
    struct db_config config = {.conninfo = "host=/nonexistent", .password_file = path};
    struct db *none = NULL;
    assert_int_equal(db_open(&config, &none, &st), CODE_UNAVAILABLE);
    assert_null(none);
    assert_null(strstr(st.msg, "s3cret"));
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(db_open(&config, &none, &st), CODE_PERMISSION_DENIED);
    (void)unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(scalars_come_back_as_they_went, setup, teardown),
        cmocka_unit_test_setup_teardown(arrays_come_back_as_they_went, setup, teardown),
        cmocka_unit_test_setup_teardown(text_array_finds_uuids, setup, teardown),
        cmocka_unit_test_setup_teardown(sqlstates_become_codes, setup, teardown),
        cmocka_unit_test_setup_teardown(slow_statement_is_ended, setup, teardown),
        cmocka_unit_test_setup_teardown(scope_rolls_back_what_was_not_committed, setup, teardown),
        cmocka_unit_test_setup_teardown(commit_of_a_failed_transaction_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(lost_session_is_unavailable_and_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(transaction_cut_by_a_crash_is_not_committed, setup, teardown),
        cmocka_unit_test_setup_teardown(notification_and_wake_descriptor_end_the_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(lock_is_held_by_one_session, setup, teardown),
        cmocka_unit_test_setup_teardown(server_gives_up_a_client_that_vanished, setup, teardown),
        cmocka_unit_test_setup_teardown(password_is_read_from_its_file_and_never_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
