/* What a scope allows: tables of patterns, and the malformed input that must match nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "scope/scope.h"

struct row {
    const char *pattern, *subject;
    bool matches;
};

static void check(bool (*match)(const char *, const char *), const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (match(rows[i].pattern, rows[i].subject) != rows[i].matches)
            fail_msg("\"%s\" against \"%s\": expected %d", rows[i].pattern, rows[i].subject, rows[i].matches);
    }
}

static void a_path_matches_within_and_across_directories(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"/etc/ssl/a.pem", "/etc/ssl/a.pem", true},
        {"/etc/ssl/a.pem", "/etc/ssl/b.pem", false},
        {"/etc/ssl/*", "/etc/ssl/a.pem", true},
        {"/etc/ssl/*", "/etc/ssl", false},
        {"/etc/ssl/*", "/etc/ssl/x/a.pem", false},
        {"/etc/ssl/*.pem", "/etc/ssl/a.pem", true},
        {"/etc/ssl/*.pem", "/etc/ssl/a.pem.bak", false},
        {"/etc/ssl/*.pem", "/etc/ssl/.pem", true},
        {"/etc/*a*b/x", "/etc/zazab/x", true},
        {"/etc/*a*b/x", "/etc/zazac/x", false},
        {"/etc/ssl/**", "/etc/ssl/a/b/c.pem", true},
        {"/etc/ssl/**", "/etc/ssl/c.pem", true},
        {"/etc/ssl/**", "/etc/ssl", false},
        {"/etc/ssl/**", "/etc/sslx/a", false},
        {"/etc/**/live.pem", "/etc/live.pem", true},
        {"/etc/**/live.pem", "/etc/a/b/live.pem", true},
        {"/etc/**/live.pem", "/etc/a/b/live.pem/x", false},
        {"/srv/**/a/**/b", "/srv/1/a/2/3/b", true},
        {"/srv/**/a/**/b", "/srv/1/2/3/b", false},
        {"/srv/**/a/b", "/srv/a/a/b", true},
        {"/**", "/etc/passwd", true},
        {"/etc/s**l/x", "/etc/ssl/x", true}, /* only a whole component crosses directories */
        {"/etc/s**l/x", "/etc/s/l/x", false},
        {"/etc/ssl/[a]", "/etc/ssl/a", false},
        {"/etc/ssl/?", "/etc/ssl/a", false},
    };
    check(path_matches, rows, ARRAY_LEN(rows));
}

static void a_path_that_resolves_elsewhere_matches_nothing(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"/etc/ssl/**", "/etc/ssl/../shadow", false},
        {"/etc/ssl/**", "/etc/ssl/./a", false},
        {"/etc/ssl/**", "/etc/ssl//a", false},
        {"/etc/ssl/**", "/etc/ssl/a/", false},
        {"/etc/ssl/**", "/etc/ssl/", false},
        {"/**", "etc/passwd", false},
        {"/**", "", false},
        {"/**", "/", false},
        {"", "/etc/passwd", false},
        {"**", "/etc/passwd", false},
        {"/etc/../**", "/etc/passwd", false},
        {"/etc/ssl/..*", "/etc/ssl/..", false},
    };
    check(path_matches, rows, ARRAY_LEN(rows));
}

static void a_long_hostile_pattern_is_answered_at_once(void **state)
{
    (void)state;
    char pattern[2048] = "", path[2048] = "";
    for (int i = 0; i < 200; i++) {
        strcat(pattern, "/**/a*a");
        strcat(path, "/aaaaaa");
    }
    strcat(pattern, "/b");
    assert_false(path_matches(pattern, path));
}

static void a_name_matches_exactly_or_one_label_below_a_wildcard(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"www.example.com", "www.example.com", true},
        {"www.example.com", "WWW.Example.COM", true},
        {"www.example.com", "example.com", false},
        {"*.example.com", "www.example.com", true},
        {"*.example.com", "a.www.example.com", false},
        {"*.example.com", "example.com", false},
        {"*.example.com", "wwwexample.com", false},
        {"*.example.com", "*.example.com", true},
        {"www.example.com", "*.example.com", false},
        {"*.example.com", "*.www.example.com", false},
        {"localhost", "localhost", true},
        {"192.0.2.1", "192.0.2.1", true},
        {"192.0.2.1", "192.0.2.2", false},
        {"2001:db8::1", "2001:0DB8:0:0::1", true},
        {"*.0.2.1", "192.0.2.1", false},
    };
    check(dns_name_matches, rows, ARRAY_LEN(rows));
}

static void what_is_no_name_matches_nothing(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"*", "example", false},
        {"*.com", "example.com", false},
        {"*.*.example.com", "a.b.example.com", false},
        {"a*.example.com", "ab.example.com", false},
        {"*.example.com", ".example.com", false},
        {"*.example.com", "a b.example.com", false},
        {"*.example.com", "-a.example.com", false},
        {"*.example.com", "a-.example.com", false},
        {"*.example.com", "", false},
        {"example.com.", "example.com.", false},
        {"", "", false},
        {"*.example.com", "a\xc3\xa4.example.com", false},
    };
    check(dns_name_matches, rows, ARRAY_LEN(rows));

    char label[80];
    memset(label, 'a', 64);
    memcpy(label + 64, ".b.com", 7);
    assert_false(dns_name_matches("*.b.com", label));
    assert_true(dns_name_matches("*.b.com", label + 1));
}

static void an_empty_scope_allows_nothing(void **state)
{
    (void)state;
    struct scope scope = {0};
    for (unsigned kind = 0; kind < 40; kind++)
        assert_false(scope_allows_operation(&scope, kind));
    assert_false(scope_allows_path(&scope, "/etc/ssl/a.pem"));
    assert_false(scope_allows_dns_name(&scope, "www.example.com"));
}

static void a_scope_allows_what_one_of_its_rows_allows(void **state)
{
    (void)state;
    char one_level[] = "/a/*", all_below[] = "/b/**", host[] = "a.example.com",
         wildcard[] = "*.b.example.com";
    char *const paths[] = {one_level, all_below}, *const names[] = {host, wildcard};
    struct scope scope = {SCOPE_OPERATION(2) | SCOPE_OPERATION(4), paths, 2, names, 2};
    assert_false(scope_allows_operation(&scope, 1));
    assert_true(scope_allows_operation(&scope, 2));
    assert_true(scope_allows_operation(&scope, 4));
    assert_false(scope_allows_operation(&scope, 34)); /* no wrap-around of the shift */
    assert_true(scope_allows_path(&scope, "/b/c/d"));
    assert_false(scope_allows_path(&scope, "/c"));
    assert_true(scope_allows_dns_name(&scope, "x.b.example.com"));
    assert_false(scope_allows_dns_name(&scope, "b.example.com"));
}

static void a_star_of_a_hostname_pattern_stays_within_its_label(void **state)
{
    (void)state;
    assert_true(hostname_matches("web-*", "web-1"));
    assert_true(hostname_matches("web-*", "WEB-"
                                          "prod-17"));
    assert_true(hostname_matches("*-db.*.example.com", "eu-db.a.example.com"));
    assert_true(hostname_matches("*a*b", "xaxxbxb"));
    assert_true(hostname_matches("host", "HOST"));
    assert_false(hostname_matches("web-*", "web-1.example.com"));
    assert_false(hostname_matches("*", "a.b"));
    assert_false(hostname_matches("web-*", "db-1"));
    assert_false(hostname_matches("web-*", "web-*"));
    assert_false(hostname_matches("web-*", ""));
    assert_false(hostname_matches("", ""));
    assert_false(hostname_matches("a..b", "a..b"));
    assert_false(hostname_matches("host", "hos"));
    assert_false(hostname_matches("hos", "host"));
    assert_false(hostname_pattern_valid("web *"));
    assert_false(hostname_pattern_valid("web/*"));
}

static bool covers(const struct scope *outer, const char *path, const char *name, unsigned operations)
{
    char *paths[] = {(char *)(uintptr_t)path}, *names[] = {(char *)(uintptr_t)name};
    const struct scope inner = {.operations = operations,
                                .paths = paths,
                                .n_paths = path != NULL,
                                .dns_names = names,
                                .n_dns_names = name != NULL};
    return scope_covers(outer, &inner);
}

static void a_scope_covers_what_allows_no_more(void **state)
{
    (void)state;
    char *paths[] = {(char *)"/etc/nginx/**", (char *)"/srv/*/tls.pem"},
         *names[] = {(char *)"*.example.com", (char *)"example.org"};
    const struct scope outer = {.operations = SCOPE_OPERATION(2) | SCOPE_OPERATION(3),
                                .paths = paths,
                                .n_paths = 2,
                                .dns_names = names,
                                .n_dns_names = 2};
    assert_true(scope_covers(&outer, &outer));
    assert_true(covers(&outer, NULL, NULL, 0));
    assert_true(covers(&outer, NULL, NULL, SCOPE_OPERATION(2)));
    assert_false(covers(&outer, NULL, NULL, SCOPE_OPERATION(1)));
    static const char *const within[] = {"/etc/nginx/**", "/etc/nginx/ssl/**", "/etc/nginx/a.pem",
                                         "/etc/nginx/*",  "/srv/*/tls.pem",    "/srv/a/tls.pem"};
    static const char *const beyond[] = {"/etc/**", "/etc/nginx2/**",   "/etc/nginx", "/srv/**", "/srv/a/*",
                                         "/**",     "/etc/nginx/../**", "/srv/*/*"};
    for (size_t i = 0; i < sizeof(within) / sizeof(within[0]); i++)
        assert_true(covers(&outer, within[i], NULL, 0));
    for (size_t i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++)
        assert_false(covers(&outer, beyond[i], NULL, 0));
    assert_true(covers(&outer, NULL, "*.EXAMPLE.com", 0));
    assert_true(covers(&outer, NULL, "www.example.com", 0));
    assert_false(covers(&outer, NULL, "a.b.example.com", 0));
    assert_false(covers(&outer, NULL, "*.www.example.com", 0));
    assert_false(covers(&outer, NULL, "*.org", 0));
    assert_false(covers(&outer, NULL, "example.com", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_matches_within_and_across_directories),
        cmocka_unit_test(a_path_that_resolves_elsewhere_matches_nothing),
        cmocka_unit_test(a_long_hostile_pattern_is_answered_at_once),
        cmocka_unit_test(a_name_matches_exactly_or_one_label_below_a_wildcard),
        cmocka_unit_test(what_is_no_name_matches_nothing),
        cmocka_unit_test(an_empty_scope_allows_nothing),
        cmocka_unit_test(a_scope_allows_what_one_of_its_rows_allows),
        cmocka_unit_test(a_star_of_a_hostname_pattern_stays_within_its_label),
        cmocka_unit_test(a_scope_covers_what_allows_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
