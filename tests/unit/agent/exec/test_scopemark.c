/* The newest scope that was seen, over restarts. */
#include "agent/exec/scopemark.h"

#include <unistd.h>

#include "base/file.h"
#include "cmocka_all.h"

static char dir[32], path[64];
static struct agent_state agent;

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/clm-scope-XXXXXX");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/scope", dir);
    agent.dir = dir;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)unlink(path);
    assert_int_equal(rmdir(dir), 0);
    return 0;
}

static struct scope_mark loaded(void)
{
    struct scope_mark mark;
    scope_mark_load(&mark, &agent);
    return mark;
}

static void the_newest_is_found_again(void **state)
{
    (void)state;
    static const struct scope_mark seen[] = {{0, 1}, {0, 7}, {0, 3}, {1, 2}, {0, 9}, {1, 1}};
    struct scope_mark mark = loaded();
    struct status st;
    assert_int_equal(mark.epoch + mark.version, 0);
    for (size_t i = 0; i < ARRAY_LEN(seen); i++)
        assert_int_equal(scope_mark_raise(&mark, &agent, &seen[i], &st), CODE_OK);
    assert_int_equal(mark.epoch, 1);
    assert_int_equal(mark.version, 2);
    mark = loaded();
    assert_int_equal(mark.epoch, 1);
    assert_int_equal(mark.version, 2);
    assert_int_equal(scope_mark_check(&mark, &(struct scope_mark){1, 2}, &st), CODE_OK);
    assert_int_equal(scope_mark_check(&mark, &(struct scope_mark){2, 0}, &st), CODE_OK);
    assert_int_equal(scope_mark_check(&mark, &(struct scope_mark){1, 1}, &st), CODE_PERMISSION_DENIED);
    assert_int_equal(scope_mark_check(&mark, &(struct scope_mark){0, 9}, &st), CODE_PERMISSION_DENIED);
}

static void what_cannot_be_read_counts_as_none(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "5",
        "five six\n",
        "1 two\n",
        "1 99999999999999999999\n",
        "1 2 and much more than any such file would ever have to say, in many words"};
    struct status st;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        assert_int_equal(file_write_atomic(path, texts[i], strlen(texts[i]), 0600, &st), CODE_OK);
        struct scope_mark mark = loaded();
        assert_int_equal(mark.epoch + mark.version, 0);
    }
}

static void what_cannot_be_written_is_not_taken_for_seen(void **state)
{
    (void)state;
    struct scope_mark mark = {0};
    struct status st;
    struct agent_state nowhere = {.dir = (char *)(uintptr_t) "/tmp/clm-scope-nowhere/at/all"};
    assert_int_not_equal(scope_mark_raise(&mark, &nowhere, &(struct scope_mark){0, 1}, &st), CODE_OK);
    assert_int_equal(mark.version, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_newest_is_found_again, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_read_counts_as_none, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_written_is_not_taken_for_seen, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
