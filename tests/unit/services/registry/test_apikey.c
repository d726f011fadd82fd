/* API keys on a real PostgreSQL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"

static void make(const char *name, int64_t expires_at_ms, char text[API_KEY_TEXT_MAX])
{
    struct status st = {0};
    assert_int_equal(
        api_key_create(fixture_db, name, 1u << 3, "env=prod", expires_at_ms, T0, text, fixture_arena, &st),
        CODE_OK);
}

static void made_key_is_accepted_and_names_its_owner(void **state)
{
    (void)state;
    char text[API_KEY_TEXT_MAX];
    make("admin", -1, text);
    struct api_key key;
    assert_int_equal(api_key_check(fixture_db, text, T0, fixture_arena, &key, NULL), CODE_OK);
    assert_string_equal(key.name, "admin");
    assert_int_equal(key.roles, 1u << 3);
    assert_string_equal(key.label_selector, "env=prod");
}

static void every_refusal_reads_the_same(void **state)
{
    (void)state;
    char text[API_KEY_TEXT_MAX], wrong[API_KEY_TEXT_MAX], unknown[API_KEY_TEXT_MAX],
        expired[API_KEY_TEXT_MAX], longer[API_KEY_TEXT_MAX];
    make("admin", -1, text);
    make("old", T0, expired);
    (void)snprintf(wrong, sizeof(wrong), "%s", text);
    wrong[strlen(wrong) - 1] = wrong[strlen(wrong) - 1] == 'A' ? 'Q' : 'A';
    (void)snprintf(unknown, sizeof(unknown), "%s", text);
    unknown[4] = unknown[4] == '0' ? '1' : '0';
    (void)snprintf(longer, sizeof(longer), "%.100sA", text);
    const char *cases[] = {
        wrong, unknown, expired, longer, "", "clm_", "clm__", "nothing like a key", "clm_zzzzzzzzzzzzzzzz_x"};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct api_key key;
        struct status st = {0};
        assert_int_equal(api_key_check(fixture_db, cases[i], T0, fixture_arena, &key, &st),
                         CODE_UNAUTHENTICATED);
        assert_string_equal(st.msg, "this API key is not valid");
    }
}

static void secret_is_not_in_the_database(void **state)
{
    (void)state;
    char text[API_KEY_TEXT_MAX];
    make("admin", -1, text);
    struct db_args *args = db_args_new(fixture_arena);
    db_arg_text(args, strrchr(text, '_') + 1);
    AUTO_ROWS struct db_rows *rows = NULL;
    assert_int_equal(db_query_one(fixture_db,
                                  "SELECT count(*) FROM api_keys k WHERE k::text LIKE '%' || $1 || '%' "
                                  "OR encode(hash, 'escape') LIKE '%' || $1 || '%'",
                                  args, &rows, NULL),
                     CODE_OK);
    assert_int_equal(db_int(rows, 0, 0), 0);
}

static void name_is_taken_once_and_use_is_recorded(void **state)
{
    (void)state;
    char text[API_KEY_TEXT_MAX], again[API_KEY_TEXT_MAX];
    make("admin", -1, text);
    assert_int_equal(api_key_create(fixture_db, "admin", 2, "", -1, T0, again, fixture_arena, NULL),
                     CODE_ALREADY_EXISTS);
    assert_int_equal(fixture_number("SELECT count(last_used_at) FROM api_keys"), 0);
    struct api_key key;
    assert_int_equal(api_key_check(fixture_db, text, T0, fixture_arena, &key, NULL), CODE_OK);
    assert_int_equal(fixture_number("SELECT count(last_used_at) FROM api_keys"), 1);
}

static void revoked_key_is_refused(void **state)
{
    (void)state;
    char text[API_KEY_TEXT_MAX];
    make("admin", -1, text);
    assert_int_equal(db_query(fixture_db, "UPDATE api_keys SET revoked_at = now()", NULL, NULL, NULL),
                     CODE_OK);
    struct api_key key;
    assert_int_equal(api_key_check(fixture_db, text, T0, fixture_arena, &key, NULL), CODE_UNAUTHENTICATED);
}

#define T(name) cmocka_unit_test_setup(name, fixture_reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(made_key_is_accepted_and_names_its_owner),
        T(every_refusal_reads_the_same),
        T(secret_is_not_in_the_database),
        T(name_is_taken_once_and_use_is_recorded),
        T(revoked_key_is_refused),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
