/* Ranges of a task become addresses, and no more than there may be. */
#include "cmocka_all.h"

#include "kinds/ranges.h"

static size_t expand(struct arena *arena, const char *range, const char ***list, enum code wanted)
{
    struct status st;
    size_t n = 0;
    *list = NULL;
    enum code code = range_expand(range, arena, list, &n, &st);
    if (code != wanted)
        fail_msg("%s: %s", range, code ? st.msg : "accepted");
    return n;
}

static void ranges_become_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *range;
        size_t n;
        const char *first, *last;
    } cases[] = {
        {"192.0.2.7", 1, "192.0.2.7", "192.0.2.7"},
        {"192.0.2.7/32", 1, "192.0.2.7", "192.0.2.7"},
        {"192.0.2.9/30", 4, "192.0.2.8", "192.0.2.11"},
        {"10.1.2.3/16", 65536, "10.1.0.0", "10.1.255.255"},
        {"10.1.255.0/23", 512, "10.1.254.0", "10.1.255.255"},
        {"2001:db8::5", 1, "2001:db8::5", "2001:db8::5"},
        {"2001:db8::/126", 4, "2001:db8::", "2001:db8::3"},
        {"db.example.com", 1, "db.example.com", "db.example.com"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_ARENA struct arena *arena = arena_new();
        const char **list;
        size_t n = expand(arena, cases[i].range, &list, CODE_OK);
        assert_int_equal(n, cases[i].n);
        assert_string_equal(list[0], cases[i].first);
        assert_string_equal(list[n - 1], cases[i].last);
    }
}

static void nonsense_and_too_much_are_refused(void **state)
{
    (void)state;
    static const char *const nonsense[] = {
        "",       "10.0.0.0/33", "10.0.0/8",  "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/0x8",
        "::/129", "a b",         "1.2.3.4.5", "host/24",   "-x",          "[::1]"};
    AUTO_ARENA struct arena *arena = arena_new();
    const char **list;
    for (size_t i = 0; i < ARRAY_LEN(nonsense); i++)
        (void)expand(arena, nonsense[i], &list, CODE_INVALID_ARGUMENT);
    (void)expand(arena, "10.0.0.0/15", &list, CODE_RESOURCE_EXHAUSTED);
    (void)expand(arena, "2001:db8::/64", &list, CODE_RESOURCE_EXHAUSTED);
    struct status st;
    size_t n = 0;
    list = NULL;
    assert_int_equal(range_expand("10.0.0.0/16", arena, &list, &n, &st), CODE_OK);
    assert_int_equal(range_expand("10.9.0.1", arena, &list, &n, &st), CODE_RESOURCE_EXHAUSTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_become_addresses),
        cmocka_unit_test(nonsense_and_too_much_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
