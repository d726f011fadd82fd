/* What threads find out about the database is told to the others, whoever finds out first. */
#include "cmocka_all.h"

#include "service/internal.h"
#include "support/pg.h"

static struct service_config config;
static struct service_descriptor descriptor;
static struct service service = {
    .descriptor = &descriptor, .config = &config, .mutex = PTHREAD_MUTEX_INITIALIZER};
static struct status st;

/* The relay and periodic work hold locks in their sessions, and listen there: a new session has neither. */
static void session_that_was_made_anew_has_another_epoch(void **state)
{
    (void)state;
    CLEANUP(cleanup_db) struct db *held = NULL, *failing = NULL;
    unsigned held_epoch = 0, failing_epoch = 0;
    descriptor.name = "public";
    config.db_conninfo = (char *)(uintptr_t)pg_conninfo();
    assert_int_equal(service_db_session(&service, &held, &held_epoch, &st), CODE_OK);
    unsigned before = held_epoch;
    pg_kill_server();
    /* A thread without a session is the first to notice. */
    assert_int_equal(service_db_session(&service, &failing, &failing_epoch, &st), CODE_UNAVAILABLE);
    assert_int_equal(db_query(held, "SELECT 1", NULL, NULL, &st), CODE_UNAVAILABLE);
    service_db_lost(&service, held_epoch);
    service_db_lost(&service, held_epoch); /* another session of that time */
    pg_start_server();
    assert_int_equal(service_db_session(&service, &held, &held_epoch, &st), CODE_OK);
    assert_int_equal(held_epoch, before + 1);
    assert_true(service.db_up);
    service_db_lost(&service, before); /* the news are old */
    assert_int_equal(service.db_epoch, held_epoch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(session_that_was_made_anew_has_another_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
