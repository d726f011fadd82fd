#include "cmocka_all.h"

#include <stdbool.h>

#include "http/tls_session.h"

static SSL_SESSION *session(unsigned n)
{
    SSL_SESSION *s = SSL_SESSION_new();
    /* Few distinct heads: the buckets hold chains. */
    unsigned char id[32] = {(unsigned char)(n % 3), 0, 0, 0, (unsigned char)n, (unsigned char)(n >> 8)};
    assert_int_equal(SSL_SESSION_set1_id(s, id, sizeof(id)), 1);
    return s;
}

static bool holds(struct session_store *store, unsigned n)
{
    SSL_SESSION *probe = session(n);
    unsigned int len;
    const unsigned char *id = SSL_SESSION_get_id(probe, &len);
    SSL_SESSION *found = session_store_get(store, id, len);
    bool same = found && memcmp(SSL_SESSION_get_id(found, &len), id, 32) == 0;
    SSL_SESSION_free(found);
    SSL_SESSION_free(probe);
    return same;
}

static void oldest_makes_room(void **state)
{
    (void)state;
    struct session_store *store = session_store_new(10);
    for (unsigned n = 0; n < 1000; n++) {
        session_store_put(store, session(n));
        assert_true(holds(store, n));
        if (n >= 9)
            assert_true(holds(store, n - 9));
        if (n >= 10)
            assert_false(holds(store, n - 10));
    }
    session_store_free(store);
}

static void removed_and_cleared_sessions_are_gone(void **state)
{
    (void)state;
    struct session_store *store = session_store_new(10);
    for (unsigned n = 0; n < 9; n++)
        session_store_put(store, session(n));
    SSL_SESSION *third = session(3);
    session_store_remove(store, third);
    session_store_remove(store, third); /* no harm */
    SSL_SESSION_free(third);
    for (unsigned n = 0; n < 9; n++)
        assert_int_equal(holds(store, n), n != 3);
    session_store_clear(store);
    for (unsigned n = 0; n < 9; n++)
        assert_false(holds(store, n));
    session_store_put(store, session(7));
    assert_true(holds(store, 7));
    session_store_free(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(oldest_makes_room),
        cmocka_unit_test(removed_and_cleared_sessions_are_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
