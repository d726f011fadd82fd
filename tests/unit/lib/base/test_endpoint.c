#include "base/endpoint.h"
#include "cmocka_all.h"

static void host_and_port_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host, *port_text;
        unsigned port;
    } good[] = {
        {"gateway.example:443", "gateway.example", "443", 443},
        {"192.0.2.7:65535", "192.0.2.7", "65535", 65535},
        {"[2001:db8::1]:8443", "2001:db8::1", "8443", 8443},
        {"h:01", "h", "1", 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct endpoint at;
        assert_int_equal(endpoint_split(good[i].text, &at, NULL), CODE_OK);
        assert_string_equal(at.host, good[i].host);
        assert_string_equal(at.port_text, good[i].port_text);
        assert_int_equal(at.port, good[i].port);
    }
}

static void anything_else_is_refused_by_its_text(void **state)
{
    (void)state;
    static const char *const bad[] = {"",        "h",        "h:",       ":443",  "[]:443",
                                      "h:0",     "h:65536",  "h:-1",     "h:1x",  "h: 1",
                                      "::1:443", "h:000443", "[::1]443", "[::1]", "a:b:443"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct endpoint at = {.host = "before"};
        struct status st;
        if (endpoint_split(bad[i], &at, &st) != CODE_INVALID_ARGUMENT)
            fail_msg("\"%s\" passes", bad[i]);
        assert_non_null(strstr(st.msg, "is not host:port"));
        assert_string_equal(at.host, "before");
    }
}

static void host_has_no_more_than_255_characters(void **state)
{
    (void)state;
    char text[300];
    struct endpoint at;
    memset(text, 'h', sizeof(text));
    memcpy(text + 255, ":443", 5);
    assert_int_equal(endpoint_split(text, &at, NULL), CODE_OK);
    assert_int_equal(strlen(at.host), 255);
    memcpy(text, "hhh", 3);
    memset(text + 255, 'h', 1);
    memcpy(text + 256, ":443", 5);
    assert_int_equal(endpoint_split(text, &at, NULL), CODE_INVALID_ARGUMENT);
}

static void addresses_are_told_from_names(void **state)
{
    (void)state;
    assert_true(host_is_address("192.0.2.7"));
    assert_true(host_is_address("::1"));
    assert_false(host_is_address("[::1]"));
    assert_false(host_is_address("192.0.2"));
    assert_false(host_is_address("localhost"));
    assert_false(host_is_address(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(host_and_port_are_told_apart),
        cmocka_unit_test(anything_else_is_refused_by_its_text),
        cmocka_unit_test(host_has_no_more_than_255_characters),
        cmocka_unit_test(addresses_are_told_from_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
