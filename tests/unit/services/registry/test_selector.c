/* Label terms and what they hold for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "selector.h"

static struct label labels[] = {{"env", "prod"}, {"team", ""}};
static const struct agent agent = {.labels = labels, .n_labels = 2};

static bool holds(const char *selector)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct label_terms terms;
    struct status st = {0};
    assert_int_equal(label_terms_read(selector, NULL, 0, arena, &terms, &st), CODE_OK);
    return label_terms_hold(&terms, &agent);
}

static void every_term_must_hold(void **state)
{
    (void)state;
    assert_true(holds(""));
    assert_true(holds("env=prod"));
    assert_true(holds("env=prod,team"));
    assert_true(holds("team="));
    assert_false(holds("env=test"));
    assert_false(holds("env=prod,zone"));
    assert_false(holds("env=prod,env=test"));
}

static void malformed_term_is_refused(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    struct label_terms terms;
    const char *bad[] = {
        ",", "=x", "a=b,",
        "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(label_terms_read(bad[i], NULL, 0, arena, &terms, NULL), CODE_INVALID_ARGUMENT);
}

static void label_names_and_values_are_text_of_one_line(void **state)
{
    (void)state;
    const struct label good = {"app.kubernetes.io/name", "Größe 1"};
    const struct label bad[] = {{"", "x"},     {"a b", "x"},  {"a=b", "x"},
                                {"a", "x\ny"}, {"a", "\x1f"}, {"a,b", ""}};
    assert_int_equal(label_check(&good, NULL), CODE_OK);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(label_check(&bad[i], NULL), CODE_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_term_must_hold),
        cmocka_unit_test(malformed_term_is_refused),
        cmocka_unit_test(label_names_and_values_are_text_of_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
