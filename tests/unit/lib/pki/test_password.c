/* scrypt texts: what is right, and what is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "pki/password.h"

static struct bytes text(const char *s)
{
    return (struct bytes){(const uint8_t *)s, strlen(s)};
}

static void only_the_same_password_is_right(void **state)
{
    (void)state;
    char hash[PASSWORD_HASH_SIZE];
    assert_int_equal(password_hash(text("correct horse battery"), hash, NULL), CODE_OK);
    assert_true(password_right(text("correct horse battery"), hash));
    assert_false(password_right(text("correct horse batterY"), hash));
    assert_false(password_right(text("correct horse batter"), hash));
    assert_false(password_right(text(""), hash));
}

static void the_same_password_twice_makes_two_texts(void **state)
{
    (void)state;
    char a[PASSWORD_HASH_SIZE], b[PASSWORD_HASH_SIZE];
    assert_int_equal(password_hash(text("correct horse battery"), a, NULL), CODE_OK);
    assert_int_equal(password_hash(text("correct horse battery"), b, NULL), CODE_OK);
    assert_string_not_equal(a, b);
    assert_int_equal(strncmp(a, "scrypt$15$8$1$", 14), 0);
}

/* RFC 7914 has no vector of these parameters: this one is of Python's hashlib.scrypt. */
static void hash_of_another_implementation_is_understood(void **state)
{
    (void)state;
    assert_true(
        password_right(text("correct horse battery"),
                       "scrypt$15$8$1$AAECAwQFBgcICQoLDA0ODw$xy6UCICz8Vv_P6JqOkkUD4DOmhxN0tXSe6sQAUBxupQ"));
}

static void what_is_no_hash_is_never_right(void **state)
{
    (void)state;
    const char *cases[] = {NULL,      "",
                           "scrypt$", "scrypt$63$8$1$AAECAwQFBgcICQoLDA0ODw$AAAA",
                           "plain",   "scrypt$15$8$1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODw"};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_false(password_right(text(""), cases[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_same_password_is_right),
        cmocka_unit_test(the_same_password_twice_makes_two_texts),
        cmocka_unit_test(hash_of_another_implementation_is_understood),
        cmocka_unit_test(what_is_no_hash_is_never_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
