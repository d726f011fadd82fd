#include "http/proxy.h"

#include <string.h>

#include "cmocka_all.h"

#define SIGNATURE 0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a
#define V4        192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x34, 0x01, 0xbb

static const uint8_t tcp4[] = {SIGNATURE, 0x21, 0x11, 0, 12, V4};

static struct proxy_source source;
static size_t need;

static enum proxy_result parse(const uint8_t *data, size_t len)
{
    return proxy_parse(data, len, &source, &need);
}
#define PARSE(...)                                                                                           \
    __extension__({                                                                                          \
        const uint8_t data_[] = {__VA_ARGS__};                                                               \
        parse(data_, sizeof(data_));                                                                         \
    })

static void the_source_of_a_tcp_connection_is_read(void **state)
{
    (void)state;
    assert_int_equal(parse(tcp4, sizeof(tcp4)), PROXY_COMPLETE);
    assert_true(source.known);
    assert_string_equal(source.address, "192.0.2.7");
    assert_int_equal(need, sizeof(tcp4));
    assert_int_equal(PARSE(SIGNATURE, 0x21, 0x21, 0, 36, 0x20, 0x01, 0x0d, 0xb8, [31] = 7, [51] = 0),
                     PROXY_COMPLETE);
    assert_string_equal(source.address, "2001:db8::7");
}

static void a_mapped_address_is_named_as_ipv4(void **state)
{
    (void)state;
    assert_int_equal(PARSE(SIGNATURE, 0x21, 0x21, 0, 36, [26] = 0xff, 0xff, 192, 0, 2, 7, [51] = 0),
                     PROXY_COMPLETE);
    assert_string_equal(source.address, "192.0.2.7");
}

static void a_balancers_own_connection_names_no_source(void **state)
{
    (void)state;
    assert_int_equal(PARSE(SIGNATURE, 0x20, 0x00, 0, 0), PROXY_COMPLETE);
    assert_false(source.known);
    assert_int_equal(PARSE(SIGNATURE, 0x20, 0x11, 0, 12, V4), PROXY_COMPLETE);
    assert_false(source.known);
    assert_int_equal(PARSE(SIGNATURE, 0x21, 0x00, 0, 3, 1, 2, 3), PROXY_COMPLETE);
    assert_false(source.known);
}

static void tlvs_are_skipped_if_they_are_whole(void **state)
{
    (void)state;
    assert_int_equal(PARSE(SIGNATURE, 0x21, 0x11, 0, 18, V4, 0x04, 0, 3, 1, 2, 3), PROXY_COMPLETE);
    assert_int_equal(need, 34);
    assert_int_equal(PARSE(SIGNATURE, 0x21, 0x11, 0, 18, V4, 0x04, 0, 4, 1, 2, 3), PROXY_MALFORMED);
    assert_int_equal(PARSE(SIGNATURE, 0x21, 0x11, 0, 14, V4, 0x04, 0), PROXY_MALFORMED);
}

static void it_asks_for_what_is_missing_and_no_more(void **state)
{
    (void)state;
    for (size_t len = 0; len < sizeof(tcp4); len++) {
        assert_int_equal(parse(tcp4, len), PROXY_MORE);
        assert_int_equal(need, len < 16 ? 16 : sizeof(tcp4));
    }
    uint8_t more[sizeof(tcp4) + 5] = {0};
    memcpy(more, tcp4, sizeof(tcp4));
    assert_int_equal(parse(more, sizeof(more)), PROXY_COMPLETE);
    assert_int_equal(need, sizeof(tcp4));
}

static void what_no_balancer_sends_is_malformed(void **state)
{
    (void)state;
    for (size_t i = 0; i < 12; i++) { /* the first wrong byte is enough */
        uint8_t bad[sizeof(tcp4)];
        memcpy(bad, tcp4, sizeof(bad));
        bad[i] ^= 1;
        assert_int_equal(parse(bad, i + 1), PROXY_MALFORMED);
    }
    assert_int_equal(parse((const uint8_t *)"PROXY TCP4 192.0.2.7 ", 21), PROXY_MALFORMED); /* version 1 */
    assert_int_equal(parse((const uint8_t *)"\x16\x03\x01", 3), PROXY_MALFORMED);           /* TLS */
    assert_int_equal(PARSE(SIGNATURE, 0x11, 0x11, 0, 12, V4), PROXY_MALFORMED);             /* version */
    assert_int_equal(PARSE(SIGNATURE, 0x22, 0x11, 0, 12, V4), PROXY_MALFORMED);             /* command */
    assert_int_equal(PARSE(SIGNATURE, 0x21, 0x12, 0, 12, V4), PROXY_MALFORMED);             /* UDP */
    assert_int_equal(PARSE(SIGNATURE, 0x21, 0x31, 0, 216, [231] = 0), PROXY_MALFORMED); /* a unix socket */
    assert_int_equal(PARSE(SIGNATURE, 0x21, 0x11, 0, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), PROXY_MALFORMED);
    assert_int_equal(PARSE(SIGNATURE, 0x21, 0x21, 0, 12, V4), PROXY_MALFORMED); /* too short for IPv6 */
    assert_int_equal(PARSE(SIGNATURE, 0x21, 0x11, 0xff, 0xff), PROXY_MALFORMED);
    assert_int_equal(PARSE(SIGNATURE, 0x21, 0x11, 0x02, 0x19), PROXY_MALFORMED); /* one more than the limit */
    assert_int_equal(PARSE(SIGNATURE, 0x21, 0x11, 0x02, 0x18), PROXY_MORE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_source_of_a_tcp_connection_is_read),
        cmocka_unit_test(a_mapped_address_is_named_as_ipv4),
        cmocka_unit_test(a_balancers_own_connection_names_no_source),
        cmocka_unit_test(tlvs_are_skipped_if_they_are_whole),
        cmocka_unit_test(it_asks_for_what_is_missing_and_no_more),
        cmocka_unit_test(what_no_balancer_sends_is_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
