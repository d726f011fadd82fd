/* What a running process does when its certificate's files are replaced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "service/internal.h"

static uint8_t first[] = "one", second[] = "two";

static struct credential made(uint8_t *certificate, int64_t not_before_ms)
{
    return (struct credential){.chain = {.item = {{certificate, 3}}, .n = 1}, .not_before_ms = not_before_ms};
}

static void one_that_renews_itself_passes_over_younger_files(void **state)
{
    (void)state;
    const struct own own = {.current = made(first, 1000), .ours = true};
    const struct credential younger = made(second, 2000);
    assert_false(renewal_takes_up(&own, &younger, true));
}

static void one_that_cannot_renew_itself_takes_younger_files(void **state)
{
    (void)state;
    const struct own own = {.current = made(first, 1000), .ours = true, .said = CODE_UNAVAILABLE};
    const struct credential younger = made(second, 2000), older = made(second, 500), same = made(first, 1000);
    assert_true(renewal_takes_up(&own, &younger, true));
    assert_false(renewal_takes_up(&own, &older, true));
    assert_false(renewal_takes_up(&own, &same, true));
}

static void files_of_another_ca_are_taken_as_they_are(void **state)
{
    (void)state;
    const struct own ours = {.current = made(first, 1000), .ours = true};
    const struct own foreign = {.current = made(first, 1000)};
    const struct credential other = made(second, 500), same = made(first, 1000);
    assert_true(renewal_takes_up(&ours, &other, false));
    assert_true(renewal_takes_up(&foreign, &other, false));
    assert_true(renewal_takes_up(&foreign, &other, true)); /* back to the platform's */
    assert_false(renewal_takes_up(&foreign, &same, false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_renews_itself_passes_over_younger_files),
        cmocka_unit_test(one_that_cannot_renew_itself_takes_younger_files),
        cmocka_unit_test(files_of_another_ca_are_taken_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
