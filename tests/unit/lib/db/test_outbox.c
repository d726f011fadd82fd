#include "cmocka_all.h"

#include "db/outbox.h"
#include "support/pg.h"

#define EVENT "01890000-0000-7000-8000-0000000000"

static struct status st;
static struct db *db;

static int setup(void **state)
{
    (void)state;
    struct db_config config = {.conninfo = pg_conninfo(), .schema = "out", .statement_timeout_ms = 10000};
    static const struct embed none[] = {{0}};
    return db_open(&config, &db, &st) == CODE_OK && db_migrate(db, "out", none, &st) == CODE_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    db_close(db);
    return 0;
}

static int64_t count(const char *sql)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    assert_int_equal(db_query_one(db, sql, NULL, &rows, &st), CODE_OK);
    return db_int(rows, 0, 0);
}

static void event_is_there_exactly_when_its_transaction_is(void **state)
{
    (void)state;
    assert_int_equal(db_begin(db, &st), CODE_OK);
    assert_int_equal(outbox_add(db, EVENT "01", "clm.event.x", "body\0!", 6, &st), CODE_OK);
    db_rollback(db);
    assert_int_equal(count("SELECT count(*) FROM outbox"), 0);
    const char *ids[] = {EVENT "01", EVENT "02"}, *subjects[] = {"clm.event.x", "clm.event.y"};
    const void *bodies[] = {"body\0!", ""};
    const size_t lens[] = {6, 0};
    assert_int_equal(db_begin(db, &st), CODE_OK);
    assert_int_equal(outbox_add_many(db, 2, ids, subjects, bodies, lens, &st), CODE_OK);
    assert_int_equal(db_commit(db, &st), CODE_OK);
    AUTO_ROWS struct db_rows *rows = NULL;
    assert_int_equal(
        db_query(db, "SELECT id, body FROM outbox WHERE stream_seq IS NULL ORDER BY id", NULL, &rows, &st),
        CODE_OK);
    assert_int_equal(db_rows_count(rows), 2);
    size_t len;
    assert_memory_equal(db_bytes(rows, 0, 1, &len), "body\0!", 6);
    assert_int_equal(len, 6);
    assert_int_equal(outbox_add(db, EVENT "01", "clm.event.x", "", 0, &st), CODE_ALREADY_EXISTS);
}

static void commit_of_an_event_notifies_the_relay(void **state)
{
    (void)state;
    bool woken = false;
    assert_int_equal(db_listen(db, "clm_outbox_out", &st), CODE_OK);
    assert_int_equal(outbox_add(db, EVENT "11", "clm.event.x", "b", 1, &st), CODE_OK);
    assert_int_equal(db_wait_notify(db, 10000, -1, &woken, &st), CODE_OK);
    assert_true(woken);
}

static void event_is_fresh_once(void **state)
{
    (void)state;
    bool fresh = false;
    assert_int_equal(db_begin(db, &st), CODE_OK);
    assert_int_equal(inbox_claim(db, EVENT "21", &fresh, &st), CODE_OK);
    assert_true(fresh);
    db_rollback(db);
    assert_int_equal(inbox_claim(db, EVENT "21", &fresh, &st), CODE_OK);
    assert_true(fresh);
    assert_int_equal(inbox_claim(db, EVENT "21", &fresh, &st), CODE_OK);
    assert_false(fresh);
    assert_int_equal(inbox_claim(db, "no-uuid", &fresh, &st), CODE_INVALID_ARGUMENT);
}

static void undecodable_event_is_parked_with_its_bytes(void **state)
{
    (void)state;
    assert_int_equal(inbox_park(db, "any id", "clm.event.x", "\xff\0", 2, "not a protobuf message", &st),
                     CODE_OK);
    assert_int_equal(inbox_park(db, "any id", "clm.event.x", NULL, 0, "empty", &st), CODE_OK);
    assert_int_equal(count("SELECT count(*) FROM parked WHERE length(body) = 2"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(event_is_there_exactly_when_its_transaction_is, setup, teardown),
        cmocka_unit_test_setup_teardown(commit_of_an_event_notifies_the_relay, setup, teardown),
        cmocka_unit_test_setup_teardown(event_is_fresh_once, setup, teardown),
        cmocka_unit_test_setup_teardown(undecodable_event_is_parked_with_its_bytes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
