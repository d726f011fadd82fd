/* The inventory on a real PostgreSQL: what scans say, what they replace, and who may see it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"
#include "inventory.h"

static struct certificate cert(const char *name, int64_t not_after_ms)
{
    char *id = arena_printf(fixture_arena, "%064d", 0);
    memcpy(id, name, strlen(name));
    return (struct certificate){.id = id,
                                .fingerprint = id,
                                .subject = arena_printf(fixture_arena, "CN=%s", name),
                                .issuer = "CN=Example CA,O=Example",
                                .serial = "01",
                                .dns_names =
                                    arena_printf(fixture_arena, "%s.example.test\nwww.%s.test", name, name),
                                .not_before_ms = T0,
                                .not_after_ms = not_after_ms,
                                .key_type = "EC P-256",
                                .signature_algorithm = "ecdsa-with-SHA256"};
}

static struct certificate_place place(const struct certificate *of, enum place_source source,
                                      const char *where, bool served)
{
    return (struct certificate_place){
        .certificate = of->id, .source = source, .place = where, .served = served};
}

static void apply(const char *agent, const struct certificate *c, size_t n, struct certificate_place *p,
                  size_t n_places, int64_t seen_ms, bool replace, const char *root)
{
    struct status st = {0};
    const struct scan_page page = {.agent_id = agent,
                                   .seen_ms = seen_ms,
                                   .certificates = c,
                                   .n_certificates = n,
                                   .places = p,
                                   .n_places = n_places,
                                   .replace = replace,
                                   .files = true,
                                   .listening = true,
                                   .roots = &root,
                                   .n_roots = root ? 1 : 0};
    if (inventory_apply(fixture_db, &page, fixture_arena, &st) != CODE_OK)
        fail_msg("%s", st.msg);
}

static size_t list(struct certificate_filter filter, struct certificate **rows)
{
    struct status st = {0};
    struct certificate_place *places;
    size_t n, n_places;
    if (!filter.selector)
        filter.selector = "";
    if (certificates_list(fixture_db, &filter, 100, fixture_arena, rows, &n, &places, &n_places, &st) !=
        CODE_OK)
        fail_msg("%s", st.msg);
    return n;
}
#define ANY .served = -1, .expires_before_ms = -1, .after_ms = -1

static void scans_replace_what_they_covered(void **state)
{
    (void)state;
    struct certificate *rows;
    const char *agent = fixture_agent("host", "prod");
    struct certificate c[] = {cert("aa", T0 + 100), cert("bb", T0 + 50)};
    struct certificate_place p[] = {place(&c[0], PLACE_FILE, "/etc/a.pem", true),
                                    place(&c[1], PLACE_FILE, "/srv/b.pem", false),
                                    place(&c[0], PLACE_LISTENER, "127.0.0.1:443", true)};
    apply(agent, c, 2, p, 3, T0, true, NULL);
    apply(agent, c, 2, p, 3, T0, true, NULL); /* delivered twice */
    assert_int_equal(list((struct certificate_filter){ANY}, &rows), 2);
    assert_string_equal(rows[0].subject, "CN=bb"); /* ends first */
    assert_string_equal(rows[1].dns_names, "aa.example.test\nwww.aa.test");
    assert_int_equal(rows[1].n_places, 2);
    assert_int_equal(rows[1].n_agents, 1);
    assert_true(rows[1].served);
    assert_false(rows[0].served);
    /* A scan of /etc says nothing of /srv; one of everything does. An unfinished one replaces nothing. */
    struct certificate_place now[] = {place(&c[0], PLACE_FILE, "/etc/moved.pem", true),
                                      place(&c[0], PLACE_LISTENER, "127.0.0.1:443", true)};
    apply(agent, c, 1, now, 2, T0 + 1, false, NULL);
    assert_int_equal(fixture_number("SELECT count(*) FROM certificate_places"), 4);
    apply(agent, c, 1, now, 2, T0 + 2, true, "/etc");
    assert_int_equal(fixture_number("SELECT count(*) FROM certificate_places"), 3);
    apply(agent, c, 1, now, 2, T0 + 3, true, NULL);
    assert_int_equal(list((struct certificate_filter){ANY}, &rows), 1);
    /* An older scan that comes late takes nothing back. */
    p[2].served = false;
    apply(agent, c, 1, &p[2], 1, T0 + 1, false, NULL);
    assert_int_equal(list((struct certificate_filter){ANY}, &rows), 1);
    assert_true(rows[0].served);
    /* What is nowhere is forgotten after a day. */
    assert_int_equal(inventory_trim(fixture_db, T0 + 1000, fixture_arena, NULL), CODE_OK);
    assert_int_equal(fixture_number("SELECT count(*) FROM certificates"), 2);
    assert_int_equal(inventory_trim(fixture_db, T0 + 25 * 3600 * 1000, fixture_arena, NULL), CODE_OK);
    assert_int_equal(fixture_number("SELECT count(*) FROM certificates"), 1);
}

/* A deployment knows better of the places that it names, and says nothing of others. */
static void deployment_supersedes_what_was_said_of_its_places(void **state)
{
    (void)state;
    struct status st = {0};
    struct certificate *rows;
    const char *agent = fixture_agent("host", "prod"), *other = fixture_agent("other", "prod");
    struct certificate c[] = {cert("aa", T0 + 100), cert("bb", T0 + 200)};
    struct certificate_place old[] = {place(&c[0], PLACE_FILE, "/etc/a.pem", true),
                                      place(&c[0], PLACE_FILE, "/etc/copy.pem", true),
                                      place(&c[0], PLACE_LISTENER, "127.0.0.1:443", true),
                                      place(&c[0], PLACE_LISTENER, "127.0.0.1:443", true)};
    old[3].server_name = "www.example.test";
    apply(agent, c, 1, old, 4, T0, true, NULL);
    apply(other, c, 1, old, 1, T0, true, NULL);
    struct certificate_place now[] = {place(&c[1], PLACE_FILE, "/etc/a.pem", true),
                                      place(&c[1], PLACE_LISTENER, "127.0.0.1:443", true)};
    now[1].server_name = "www.example.test";
    const struct scan_page page = {.agent_id = agent,
                                   .seen_ms = T0 + 1,
                                   .certificates = &c[1],
                                   .n_certificates = 1,
                                   .places = now,
                                   .n_places = 2,
                                   .supersedes = true};
    for (unsigned twice = 0; twice < 2; twice++) { /* delivered twice */
        assert_int_equal(inventory_apply(fixture_db, &page, fixture_arena, &st), CODE_OK);
        assert_int_equal(list((struct certificate_filter){ANY, .agent_id = agent}, &rows), 2);
        assert_int_equal(rows[0].n_places, 2); /* the copy, and the socket without a name */
        assert_int_equal(rows[1].n_places, 2);
        assert_true(rows[1].served);
        assert_int_equal(list((struct certificate_filter){ANY, .agent_id = other}, &rows), 1);
        assert_int_equal(rows[0].n_places, 1);
    }
}

static void lists_are_filtered_and_paged_by_their_end(void **state)
{
    (void)state;
    struct certificate *rows;
    const char *agents[] = {fixture_agent("one", "prod"), fixture_agent("two", "test")};
    struct certificate c[30];
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        c[i] =
            cert(arena_printf(fixture_arena, "%02zu", i), T0 + (int64_t)(i / 3) * 1000); /* equal ends, too */
        c[i].key_type = i % 2 ? "RSA 2048" : "EC P-256";
        struct certificate_place p = place(&c[i], i % 5 ? PLACE_FILE : PLACE_LISTENER, "/etc/x", i % 5 == 0);
        apply(agents[i % 2], &c[i], 1, &p, 1, T0, false, NULL);
    }
    struct certificate_filter filter = {.selector = "", ANY};
    size_t seen = 0;
    for (;;) {
        struct certificate_place *places;
        size_t n, n_places;
        assert_int_equal(
            certificates_list(fixture_db, &filter, 7, fixture_arena, &rows, &n, &places, &n_places, NULL),
            CODE_OK);
        assert_int_equal(n_places, n);
        for (size_t i = 0; i < n; i++, seen++)
            assert_string_equal(rows[i].id, c[seen].id);
        if (n < 7)
            break;
        filter.after_ms = rows[n - 1].not_after_ms;
        filter.after_id = rows[n - 1].id;
    }
    assert_int_equal(seen, 30);
    assert_int_equal(list((struct certificate_filter){ANY, .key_type = "rsa"}, &rows), 15);
    assert_int_equal(list((struct certificate_filter){ANY, .agent_id = agents[0]}, &rows), 15);
    assert_int_equal(list((struct certificate_filter){ANY, .issuer = "example ca"}, &rows), 30);
    assert_int_equal(list((struct certificate_filter){ANY, .issuer = "nobody"}, &rows), 0);
    assert_int_equal(list((struct certificate_filter){ANY, .name = "07.example.test"}, &rows), 1);
    assert_int_equal(list((struct certificate_filter){ANY, .fingerprint = c[3].fingerprint}, &rows), 1);
    struct certificate_filter soon = {ANY};
    soon.expires_before_ms = T0 + 1000;
    assert_int_equal(list(soon, &rows), 3);
    struct certificate_filter served = {ANY};
    served.served = 1;
    assert_int_equal(list(served, &rows), 6);
    served.served = 0;
    assert_int_equal(list(served, &rows), 24);
    /* An operator sees what is on hosts of their grant. */
    assert_int_equal(list((struct certificate_filter){ANY, .selector = "env=test"}, &rows), 15);
    assert_string_equal(rows[0].id, c[1].id);
}

static void unknown_agents_and_lying_ones_change_nothing_of_others(void **state)
{
    (void)state;
    struct certificate *rows;
    struct certificate honest = cert("aa", T0 + 100), lie = honest;
    struct certificate_place p = place(&honest, PLACE_FILE, "/etc/a.pem", false);
    apply("01900000-0000-7000-8000-000000000000", &honest, 1, &p, 1, T0, true, NULL);
    assert_int_equal(list((struct certificate_filter){ANY}, &rows), 0);
    apply(fixture_agent("one", "prod"), &honest, 1, &p, 1, T0, true, NULL);
    lie.id = "ff";
    lie.not_after_ms = T0 + 999999;
    p = place(&lie, PLACE_FILE, "/etc/a.pem", true);
    apply(fixture_agent("two", "prod"), &lie, 1, &p, 1, T0, true, NULL);
    assert_int_equal(list((struct certificate_filter){ANY, .fingerprint = honest.fingerprint}, &rows), 2);
    assert_int_equal(rows[0].not_after_ms, T0 + 100);
    assert_false(rows[0].served);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, fixture_reset)
    const struct CMUnitTest tests[] = {
        TEST(scans_replace_what_they_covered),
        TEST(deployment_supersedes_what_was_said_of_its_places),
        TEST(lists_are_filtered_and_paged_by_their_end),
        TEST(unknown_agents_and_lying_ones_change_nothing_of_others),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
