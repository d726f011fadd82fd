/* Strict DER: what X.690 section 10 forbids is refused before OpenSSL reads it. */
#include "fixture.h"

#include "pki/ossl.h"

#define CHECK(code, ...)                                                                                     \
    do {                                                                                                     \
        static const uint8_t der_[] = {__VA_ARGS__};                                                         \
        struct status st_;                                                                                   \
        assert_code(code, strict_check((struct bytes){der_, sizeof(der_)}, "message", &st_), &st_);          \
    } while (0)

static void canonical_forms_pass(void **state UNUSED)
{
    CHECK(CODE_OK, 0x30, 0x00);
    CHECK(CODE_OK, 0x30, 0x03, 0x02, 0x01, 0x05);
    CHECK(CODE_OK, 0x31, 0x02, 0x05, 0x00);
    CHECK(CODE_OK, 0xa0, 0x02, 0x05, 0x00);
    CHECK(CODE_OK, 0x04, 0x02, 0x30, 0x80); /* content of a string is its own business */
}

static void other_forms_are_refused(void **state UNUSED)
{
    CHECK(CODE_INVALID_ARGUMENT, 0x30, 0x80, 0x00, 0x00);                   /* indefinite length */
    CHECK(CODE_INVALID_ARGUMENT, 0x30, 0x81, 0x03, 0x02, 0x01, 0x05);       /* long form of a short length */
    CHECK(CODE_INVALID_ARGUMENT, 0x30, 0x82, 0x00, 0x03, 0x02, 0x01, 0x05); /* leading zero in the length */
    CHECK(CODE_INVALID_ARGUMENT, 0x24, 0x03, 0x04, 0x01, 0x05);             /* string in pieces */
    CHECK(CODE_INVALID_ARGUMENT, 0x10, 0x00);                               /* primitive SEQUENCE */
    CHECK(CODE_INVALID_ARGUMENT, 0x30, 0x02, 0x05, 0x00, 0x00);             /* trailing byte */
    CHECK(CODE_INVALID_ARGUMENT, 0x30, 0x04, 0x02, 0x01, 0x05);             /* cut off */
    CHECK(CODE_INVALID_ARGUMENT, 0x30, 0x03, 0x02, 0x02, 0x05);             /* child longer than its parent */
    CHECK(CODE_INVALID_ARGUMENT, 0x30, 0x05, 0x30, 0x80, 0x02, 0x00, 0x00); /* indefinite inside */
    CHECK(CODE_INVALID_ARGUMENT, 0x30, 0x84, 0xff, 0xff, 0xff, 0xff);       /* absurd length */
    CHECK(CODE_INVALID_ARGUMENT, 0x30);                                     /* no length */
    CHECK(CODE_INVALID_ARGUMENT, 0x3f, 0x81, 0x81, 0x81, 0x81, 0x81, 0x01, 0x00); /* absurd tag */
}

static void nothing_is_no_message(void **state UNUSED)
{
    struct status st;
    assert_code(CODE_INVALID_ARGUMENT, strict_check((struct bytes){NULL, 0}, "message", &st), &st);
}

static void deep_nesting_is_refused(void **state UNUSED)
{
    struct status st;
    uint8_t deep[100];
    for (size_t i = 0; i < sizeof(deep); i += 2) {
        deep[i] = 0x30;
        deep[i + 1] = (uint8_t)(sizeof(deep) - i - 2);
    }
    assert_code(CODE_INVALID_ARGUMENT, strict_check((struct bytes){deep, sizeof(deep)}, "message", &st), &st);
    size_t start = sizeof(deep) - 40;
    assert_ok(strict_check((struct bytes){deep + start, 40}, "message", &st), &st);
}

static void too_many_elements_are_refused(void **state UNUSED)
{
    struct status st;
    static uint8_t many[4 + 2 * 5000];
    static const uint8_t head[] = {0x30, 0x82, 0x27, 0x10};
    memcpy(many, head, sizeof(head));
    for (size_t i = sizeof(head); i < sizeof(many); i += 2)
        many[i] = 0x05;
    assert_code(CODE_INVALID_ARGUMENT, strict_check((struct bytes){many, sizeof(many)}, "message", &st), &st);
}

static void next_takes_only_what_was_asked_for(void **state UNUSED)
{
    static const uint8_t der[] = {0x02, 0x01, 0x05, 0x04, 0x00};
    struct bytes at = {der, sizeof(der)};
    struct bytes body;
    assert_false(strict_next(&at, 0x04, &body, NULL));
    assert_int_equal(at.len, sizeof(der));
    assert_true(strict_next(&at, 0x02, &body, NULL));
    assert_int_equal(body.len, 1);
    assert_true(strict_next(&at, 0x04, &body, NULL));
    assert_int_equal(body.len, 0);
    assert_int_equal(at.len, 0);
    assert_false(strict_next(&at, 0x04, &body, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(canonical_forms_pass),          cmocka_unit_test(other_forms_are_refused),
        cmocka_unit_test(nothing_is_no_message),         cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(too_many_elements_are_refused), cmocka_unit_test(next_takes_only_what_was_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
