/* Operators, links and sessions on a real PostgreSQL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <pthread.h>

#include <cmocka.h>

#include "base/clock.h"
#include "fixture.h"
#include "grants.h"
#include "support/pg.h"

#define PASSWORD "correct horse battery"
#define ADMIN    (1u << 3)

static char secret[OPERATOR_SECRET_MAX];

static enum code redeem(const char *link, const char *name, const char *password, int64_t now_ms)
{
    struct session session;
    return operator_link_redeem(fixture_db, link, name, password, "192.0.2.7", now_ms, secret, fixture_arena,
                                &session, NULL);
}

static enum code login_from(const char *source, const char *name, const char *password, int64_t now_ms)
{
    struct session session;
    return operator_login(fixture_db, name, password, source, now_ms, secret, fixture_arena, &session, NULL);
}

static void make_alice(void)
{
    char link[OPERATOR_SECRET_MAX];
    assert_int_equal(operator_link_create(fixture_db, ADMIN, T0, link, fixture_arena, NULL), CODE_OK);
    assert_int_equal(redeem(link, "alice", PASSWORD, T0), CODE_OK);
}

static void link_makes_one_operator_and_signs_them_in(void **state)
{
    (void)state;
    char link[OPERATOR_SECRET_MAX];
    assert_int_equal(operator_link_create(fixture_db, ADMIN, T0, link, fixture_arena, NULL), CODE_OK);
    assert_int_equal(redeem(link, "alice", PASSWORD, T0), CODE_OK);
    struct session session;
    assert_int_equal(session_check(fixture_db, secret, T0, fixture_arena, &session, NULL), CODE_OK);
    assert_string_equal(session.who.name, "alice");
    assert_int_equal(session.who.roles, ADMIN);
    assert_int_equal(redeem(link, "mallory", PASSWORD, T0), CODE_UNAUTHENTICATED);
    assert_int_equal(fixture_number("SELECT count(*) FROM operators"), 1);
}

static void link_ends_after_an_hour(void **state)
{
    (void)state;
    char link[OPERATOR_SECRET_MAX];
    assert_int_equal(operator_link_create(fixture_db, ADMIN, T0, link, fixture_arena, NULL), CODE_OK);
    assert_int_equal(redeem(link, "alice", PASSWORD, T0 + OPERATOR_LINK_LIFE_MS), CODE_UNAUTHENTICATED);
    assert_int_equal(redeem(link, "alice", PASSWORD, T0 + OPERATOR_LINK_LIFE_MS - 1), CODE_OK);
}

static void refused_password_or_name_does_not_use_up_the_link(void **state)
{
    (void)state;
    make_alice();
    char link[OPERATOR_SECRET_MAX];
    assert_int_equal(operator_link_create(fixture_db, ADMIN, T0, link, fixture_arena, NULL), CODE_OK);
    assert_int_equal(redeem(link, "bob", "short", T0), CODE_INVALID_ARGUMENT);
    assert_int_equal(redeem(link, "bob", "aaaaaaaaaaaaaaaaaa", T0), CODE_INVALID_ARGUMENT);
    assert_int_equal(redeem(link, "robert-tables", "robert-tables1", T0), CODE_INVALID_ARGUMENT);
    assert_int_equal(redeem(link, "alice", PASSWORD, T0), CODE_ALREADY_EXISTS);
    assert_int_equal(redeem(link, "bob", PASSWORD, T0), CODE_OK);
}

static void unknown_name_wrong_password_and_disabled_operator_read_the_same(void **state)
{
    (void)state;
    make_alice();
    const struct {
        const char *name, *password;
    } cases[] = {{"nobody", PASSWORD}, {"alice", "wrong password"}, {"alice", ""}, {"alice", PASSWORD}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (i == 3)
            assert_int_equal(
                db_query(fixture_db, "UPDATE operators SET disabled_at = now()", NULL, NULL, NULL), CODE_OK);
        struct status st = {0};
        struct session session;
        assert_int_equal(operator_login(fixture_db, cases[i].name, cases[i].password, "192.0.2.7", T0, secret,
                                        fixture_arena, &session, &st),
                         CODE_UNAUTHENTICATED);
        assert_string_equal(st.msg, "name or password is wrong");
    }
}

static void sixth_failure_locks_the_pair_of_source_and_name_for_a_quarter_of_an_hour(void **state)
{
    (void)state;
    make_alice();
    for (int i = 0; i < 5; i++)
        assert_int_equal(login_from("192.0.2.7", "alice", "wrong password", T0), CODE_UNAUTHENTICATED);
    assert_int_equal(login_from("192.0.2.7", "alice", PASSWORD, T0 + 1), CODE_RESOURCE_EXHAUSTED);
    assert_int_equal(login_from("192.0.2.8", "alice", PASSWORD, T0 + 1), CODE_OK);
    assert_int_equal(login_from("192.0.2.7", "alice", PASSWORD, T0 + 15 * 60 * 1000), CODE_OK);
}

/* A host with IPv6 has 2^64 addresses to try from. */
static void a_network_of_ipv6_is_one_source(void **state)
{
    (void)state;
    make_alice();
    for (int i = 0; i < 5; i++)
        assert_int_equal(
            login_from(arena_printf(fixture_arena, "2001:db8::%d:1", i), "alice", "wrong password", T0),
            CODE_UNAUTHENTICATED);
    assert_int_equal(login_from("2001:db8::6", "alice", PASSWORD, T0), CODE_RESOURCE_EXHAUSTED);
    assert_int_equal(login_from("2001:db8:0:1::6", "alice", PASSWORD, T0), CODE_OK);
}

static void success_forgives_failures_before_it(void **state)
{
    (void)state;
    make_alice();
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++)
            assert_int_equal(login_from("192.0.2.7", "alice", "wrong password", T0), CODE_UNAUTHENTICATED);
        assert_int_equal(login_from("192.0.2.7", "alice", PASSWORD, T0), CODE_OK);
    }
}

static void session_ends_by_time_by_its_owner_and_with_the_operator(void **state)
{
    (void)state;
    make_alice();
    struct session session, ended;
    assert_int_equal(
        session_check(fixture_db, secret, T0 + SESSION_LIFE_MS - 1, fixture_arena, &session, NULL), CODE_OK);
    assert_int_equal(session_check(fixture_db, secret, T0 + SESSION_LIFE_MS, fixture_arena, &ended, NULL),
                     CODE_UNAUTHENTICATED);
    assert_int_equal(session_end(fixture_db, "bob", session.id, T0, fixture_arena, &ended, NULL),
                     CODE_NOT_FOUND);
    assert_int_equal(session_end(fixture_db, "alice", session.id, T0, fixture_arena, &ended, NULL), CODE_OK);
    assert_int_equal(session_check(fixture_db, secret, T0, fixture_arena, &ended, NULL),
                     CODE_UNAUTHENTICATED);

    assert_int_equal(login_from("192.0.2.7", "alice", PASSWORD, T0), CODE_OK);
    assert_int_equal(db_query(fixture_db, "UPDATE operators SET disabled_at = now()", NULL, NULL, NULL),
                     CODE_OK);
    assert_int_equal(session_check(fixture_db, secret, T0, fixture_arena, &ended, NULL),
                     CODE_UNAUTHENTICATED);
}

static void list_shows_own_sessions_newest_first(void **state)
{
    (void)state;
    make_alice();
    assert_int_equal(login_from("192.0.2.9", "alice", PASSWORD, T0 + 1000), CODE_OK);
    struct session *sessions;
    size_t n;
    assert_int_equal(session_list(fixture_db, "alice", T0 + 2000, fixture_arena, &sessions, &n, NULL),
                     CODE_OK);
    assert_int_equal(n, 2);
    assert_string_equal(sessions[0].source, "192.0.2.9");
    assert_int_equal(session_list(fixture_db, "bob", T0, fixture_arena, &sessions, &n, NULL), CODE_OK);
    assert_int_equal(n, 0);
}

static void secrets_and_passwords_are_not_in_the_database(void **state)
{
    (void)state;
    make_alice();
    assert_int_equal(fixture_number("SELECT count(*) FROM operators WHERE operators::text LIKE '%horse%'"),
                     0);
    struct db_args *args = db_args_new(fixture_arena);
    db_arg_text(args, secret);
    AUTO_ROWS struct db_rows *rows = NULL;
    assert_int_equal(db_query_one(fixture_db,
                                  "SELECT count(*) FROM sessions s WHERE s::text LIKE '%' || $1 || '%' "
                                  "OR encode(hash, 'escape') LIKE '%' || $1 || '%'",
                                  args, &rows, NULL),
                     CODE_OK);
    assert_int_equal(db_int(rows, 0, 0), 0);
}

#define T(name) cmocka_unit_test_setup(name, fixture_reset)

/* ---- a password that is set while somebody signs in with the former one ---- */

static struct db *session_open(void)
{
    struct status st = {0};
    struct db *db;
    const struct db_config config = {.conninfo = pg_conninfo(),
                                     .schema = "registry",
                                     .application_name = "second",
                                     .statement_timeout_ms = 20000};
    if (db_open(&config, &db, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    return db;
}

static void *sign_in(void *arg)
{
    enum code *ret = arg;
    char text[OPERATOR_SECRET_MAX];
    struct session session;
    struct db *db = session_open();
    struct arena *arena = arena_new();
    *ret = operator_login(db, "alice", PASSWORD, "192.0.2.7", T0, text, arena, &session, NULL);
    arena_free(arena);
    db_close(db);
    return NULL;
}

static void wait_for_a_lock(void)
{
    int64_t end_ms = clock_mono_ms() + 15000;
    while (fixture_number("SELECT count(*) FROM pg_locks WHERE NOT granted") == 0)
        assert_true(clock_mono_ms() < end_ms);
}

static void another_password_leaves_no_session_of_the_former_one(void **state)
{
    (void)state;
    pthread_t thread;
    enum code code = CODE_INTERNAL;
    int64_t ended;
    make_alice();
    struct db_args *args = db_args_new(fixture_arena);
    AUTO_ROWS struct db_rows *rows = NULL;
    assert_int_equal(db_query_one(fixture_db, "SELECT id FROM operators", args, &rows, NULL), CODE_OK);
    const char *id = arena_strdup(fixture_arena, db_text(rows, 0, 0));
    /* What a one-time link does, and before it is done somebody has typed the former password. */
    assert_int_equal(db_begin(fixture_db, NULL), CODE_OK);
    assert_int_equal(store_operator_password(fixture_db, id, "scrypt$another", fixture_arena, NULL), CODE_OK);
    assert_int_equal(store_operator_sessions_delete(fixture_db, id, fixture_arena, &ended, NULL), CODE_OK);
    assert_int_equal(pthread_create(&thread, NULL, sign_in, &code), 0);
    wait_for_a_lock();
    assert_int_equal(db_commit(fixture_db, NULL), CODE_OK);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(code, CODE_UNAUTHENTICATED);
    assert_int_equal(fixture_number("SELECT count(*) FROM sessions"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(link_makes_one_operator_and_signs_them_in),
        T(link_ends_after_an_hour),
        T(refused_password_or_name_does_not_use_up_the_link),
        T(unknown_name_wrong_password_and_disabled_operator_read_the_same),
        T(sixth_failure_locks_the_pair_of_source_and_name_for_a_quarter_of_an_hour),
        T(a_network_of_ipv6_is_one_source),
        T(success_forgives_failures_before_it),
        T(session_ends_by_time_by_its_owner_and_with_the_operator),
        T(list_shows_own_sessions_newest_first),
        T(secrets_and_passwords_are_not_in_the_database),
        T(another_password_leaves_no_session_of_the_former_one),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
