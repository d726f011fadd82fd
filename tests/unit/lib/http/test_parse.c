#include "cmocka_all.h"

#include "http/parse.h"

static struct http_limits limits;

static int setup(void **state)
{
    (void)state;
    limits = (struct http_limits){.head_bytes = 1024, .url_bytes = 100, .headers = 5, .body_bytes = 50};
    http_limits_fill(&limits);
    return 0;
}

/* Feeds text in pieces of `step` bytes; the last event, and how many bytes were taken. */
static enum parse_event feed(struct parser *parser, const char *text, size_t step, size_t *ret_used)
{
    size_t len = strlen(text), at = 0;
    enum parse_event event = PARSE_MORE;
    while (at < len && event != PARSE_DONE && event != PARSE_FAILED) {
        size_t n = len - at < step ? len - at : step;
        /* A copy on the heap: reading past the piece is caught. */
        uint8_t *piece = malloc(n);
        memcpy(piece, text + at, n);
        at += parser_feed(parser, piece, n, &event);
        free(piece);
    }
    *ret_used = at;
    return event;
}

static struct http_message *accept_whole(enum http_parser_type type, const char *text, size_t step,
                                         const char *rest)
{
    struct parser parser;
    size_t used;
    parser_init(&parser, type, &limits);
    enum parse_event event = feed(&parser, text, step, &used);
    if (event != PARSE_DONE)
        print_error("not accepted: %s\n", parser.error ? parser.error : "incomplete");
    assert_int_equal(event, PARSE_DONE);
    assert_string_equal(text + used, rest);
    struct http_message *message = parser_take(&parser);
    assert_true(parser_is_idle(&parser));
    parser_done(&parser);
    return message;
}

static void refuse(enum http_parser_type type, const char *text, int status)
{
    static const size_t steps[] = {1, 3, 1000};
    for (size_t i = 0; i < 3; i++) {
        struct parser parser;
        size_t used;
        parser_init(&parser, type, &limits);
        enum parse_event event = feed(&parser, text, steps[i], &used);
        if (event != PARSE_FAILED || parser.error_status != status)
            print_error("event %d status %d (%s) for: %s\n", event, parser.error_status,
                        parser.error ? parser.error : "-", text);
        assert_int_equal(event, PARSE_FAILED);
        assert_int_equal(parser.error_status, status);
        assert_non_null(parser.error);
        parser_done(&parser);
    }
}

#define GET  "GET / HTTP/1.1\r\nHost: x\r\n"
#define POST "POST / HTTP/1.1\r\nHost: x\r\n"

static void request_reads_the_same_in_pieces_of_any_size(void **state)
{
    (void)state;
    const char *text =
        "POST /agent/v1/a%20b?x=1&y=%2F HTTP/1.1\r\nHost: gw:8443\r\nEmpty:\r\nX-Y:  v v \t\r\n"
        "Content-Length: 5\r\n\r\nhelloGET /next";
    for (size_t step = 1; step < 140; step++) {
        struct http_message *m = accept_whole(HTTP_REQUEST, text, step, "GET /next");
        assert_string_equal(m->method, "POST");
        assert_string_equal(m->path, "/agent/v1/a b");
        assert_string_equal(m->query, "x=1&y=%2F");
        assert_string_equal(http_message_field(m, "host"), "gw:8443");
        assert_string_equal(http_message_field(m, "EMPTY"), "");
        assert_string_equal(http_message_field(m, "x-y"), "v v");
        assert_null(http_message_field(m, "absent"));
        assert_int_equal(m->body.len, 5);
        assert_string_equal(buf_text(&m->body), "hello");
        assert_true(m->keep_alive);
        http_message_free(m);
    }
}

static void chunked_body_is_joined(void **state)
{
    (void)state;
    const char *text =
        POST "Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n00A\r\n 0123456\r\n\r\n0\r\n\r\nNEXT";
    for (size_t step = 1; step < 100; step++) {
        struct http_message *m = accept_whole(HTTP_REQUEST, text, step, "NEXT");
        assert_string_equal(buf_text(&m->body), "hello 0123456\r\n");
        http_message_free(m);
    }
}

static void connection_persistence_follows_version_and_header(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool keep;
    } rows[] = {{GET "\r\n", true},
                {GET "Connection: close\r\n\r\n", false},
                {"GET / HTTP/1.0\r\n\r\n", false},
                {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true}};
    for (size_t i = 0; i < 4; i++) {
        struct http_message *m = accept_whole(HTTP_REQUEST, rows[i].text, 1000, "");
        assert_int_equal(m->keep_alive, rows[i].keep);
        http_message_free(m);
    }
}

static void ambiguous_framing_is_refused(void **state)
{
    (void)state;
    refuse(HTTP_REQUEST, POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
    refuse(HTTP_REQUEST, POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400);
    refuse(HTTP_REQUEST, POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400);
    refuse(HTTP_REQUEST, POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400);
    refuse(HTTP_REQUEST, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
    refuse(HTTP_REQUEST, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", 400);
    refuse(HTTP_REQUEST, POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501);
    refuse(HTTP_REQUEST, POST "Transfer-Encoding: identity\r\n\r\n", 400);
    refuse(HTTP_REQUEST, POST "Transfer-Encoding: chunkedx\r\n\r\n", 400);
    refuse(HTTP_REQUEST, POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400);
    refuse(HTTP_REQUEST, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501);
    refuse(HTTP_REQUEST, POST "Content-Length: +5\r\n\r\nhello", 400);
    refuse(HTTP_REQUEST, POST "Content-Length: 5, 5\r\n\r\nhello", 400);
    refuse(HTTP_REQUEST, POST "Content-Length: 0x5\r\n\r\nhello", 400);
    refuse(HTTP_REQUEST, POST "Content-Length: -1\r\n\r\n", 400);
    refuse(HTTP_REQUEST, POST "Content-Length:\r\n\r\n", 400);
    refuse(HTTP_REQUEST, POST "Content-Length: 99999999999999999999\r\n\r\n", 400);
}

static void broken_chunks_are_refused(void **state)
{
    (void)state;
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
    refuse(HTTP_REQUEST, CHUNKED "5\r\nhelloXY0\r\n\r\n", 400); /* what the engine alone takes */
    refuse(HTTP_REQUEST, CHUNKED "5\nhello\r\n0\r\n\r\n", 400);
    refuse(HTTP_REQUEST, CHUNKED "5\r\nhello\n0\r\n\r\n", 400);
    refuse(HTTP_REQUEST, CHUNKED "5;a=b\r\nhello\r\n0\r\n\r\n", 400);
    refuse(HTTP_REQUEST, CHUNKED " 5\r\nhello\r\n0\r\n\r\n", 400);
    refuse(HTTP_REQUEST, CHUNKED "-5\r\nhello\r\n0\r\n\r\n", 400);
    refuse(HTTP_REQUEST, CHUNKED "\r\n\r\n", 400);
    refuse(HTTP_REQUEST, CHUNKED "0\r\nTrailer: x\r\n\r\n", 400);
    refuse(HTTP_REQUEST, CHUNKED "0\r\n\n", 400);
    refuse(HTTP_REQUEST, CHUNKED "000000005\r\n", 413);
    refuse(HTTP_REQUEST, CHUNKED "33\r\n", 413);
    refuse(HTTP_REQUEST, CHUNKED "ffffffff\r\n", 413);
    refuse(HTTP_REQUEST,
           CHUNKED "20\r\n01234567890123456789012345678901\r\n20\r\n01234567890123456789012345678901\r\n",
           413);
}

static void sloppy_heads_are_refused(void **state)
{
    (void)state;
    refuse(HTTP_REQUEST, "GET / HTTP/1.1\nHost: x\n\n", 400);
    refuse(HTTP_REQUEST, "GET / HTTP/1.1\r\nHost: x\n\r\n", 400);
    refuse(HTTP_REQUEST, "GET / HTTP/1.1\r\nHost: x\rY: z\r\n\r\n", 400);
    refuse(HTTP_REQUEST, "\r\n" GET "\r\n", 400);
    refuse(HTTP_REQUEST, GET "A: b\r\n c\r\n\r\n", 400);
    refuse(HTTP_REQUEST, GET "A: b\r\n\tc\r\n\r\n", 400);
    refuse(HTTP_REQUEST, GET " A: b\r\n\r\n", 400);
    refuse(HTTP_REQUEST, GET "A b: c\r\n\r\n", 400);
    refuse(HTTP_REQUEST, GET "A : c\r\n\r\n", 400);
    refuse(HTTP_REQUEST, GET ": c\r\n\r\n", 400);
    refuse(HTTP_REQUEST, GET "A\r\n\r\n", 400);
    refuse(HTTP_REQUEST, GET "A: \x01\r\n\r\n", 400);
    refuse(HTTP_REQUEST, GET "A: \x7f\r\n\r\n", 400);
    refuse(HTTP_REQUEST, "GET / HTTP/1.1\r\n\r\n", 400);
    refuse(HTTP_REQUEST, GET "Host: y\r\n\r\n", 400);
    refuse(HTTP_REQUEST, "GET /\xc3\xa4 HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    refuse(HTTP_REQUEST, "\x16\x03\x01\x02\n\n", 400);
    refuse(HTTP_REQUEST, "GET\r\n\r\n", 400);
    refuse(HTTP_REQUEST, "GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    refuse(HTTP_REQUEST, "GET /  HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    refuse(HTTP_REQUEST, "GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 505);
    refuse(HTTP_REQUEST, "GET / HTTP/01.1\r\nHost: x\r\n\r\n", 505);
}

static void nul_in_the_head_is_refused(void **state)
{
    (void)state;
    struct parser parser;
    enum parse_event event;
    static const char text[] = GET "A: b\0c\r\n\r\n";
    parser_init(&parser, HTTP_REQUEST, &limits);
    parser_feed(&parser, (const uint8_t *)text, sizeof(text) - 1, &event);
    assert_int_equal(event, PARSE_FAILED);
    assert_int_equal(parser.error_status, 400);
    parser_done(&parser);
}

static void what_is_not_served_is_said_so(void **state)
{
    (void)state;
    refuse(HTTP_REQUEST, "CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 501);
    refuse(HTTP_REQUEST, "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 501);
    refuse(HTTP_REQUEST, "BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501);
    refuse(HTTP_REQUEST, GET "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 501);
    refuse(HTTP_REQUEST, GET "Upgrade: h2c\r\n\r\n", 501);
    refuse(HTTP_REQUEST, "GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505);
    refuse(HTTP_REQUEST, "GET / HTTP/1.2\r\nHost: x\r\n\r\n", 505);
    refuse(HTTP_REQUEST, GET "Expect: miracles\r\n\r\n", 417);
}

static void targets_other_than_a_clean_path_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"*",         "http://x/", "/%2f",  "/%2F..",    "/%00",   "/%0a",
                                      "/%zz",      "/%4",       "/../x", "/a/..",     "/a/./b", "/.",
                                      "/%2e%2e/x", "/a#b",      "/%ff",  "/%ed%a0%80"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[200];
        snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", bad[i]);
        refuse(HTTP_REQUEST, text, 400);
    }
    struct http_message *m =
        accept_whole(HTTP_REQUEST, "GET /..a/b..%C3%A4?q=../ HTTP/1.1\r\nHost: x\r\n\r\n", 7, "");
    assert_string_equal(m->path, "/..a/b..\xc3\xa4");
    http_message_free(m);
}

static void sizes_are_limited(void **state)
{
    (void)state;
    char text[4096];
    char big[2000];
    memset(big, 'a', sizeof(big));
    snprintf(text, sizeof(text), "GET /%.99s HTTP/1.1\r\nHost: x\r\n\r\n", big);
    http_message_free(accept_whole(HTTP_REQUEST, text, 1000, ""));
    snprintf(text, sizeof(text), "GET /%.100s HTTP/1.1\r\nHost: x\r\n\r\n", big);
    refuse(HTTP_REQUEST, text, 414);
    snprintf(text, sizeof(text), "GET /%.2000s", big);
    refuse(HTTP_REQUEST, text, 414);
    snprintf(text, sizeof(text), GET "A: %.1100s\r\n\r\n", big);
    refuse(HTTP_REQUEST, text, 431);
    http_message_free(accept_whole(HTTP_REQUEST, GET "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n", 1000, ""));
    refuse(HTTP_REQUEST, GET "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\n\r\n", 431);
    refuse(HTTP_REQUEST, POST "Content-Length: 51\r\n\r\n", 413);
    snprintf(text, sizeof(text), POST "Content-Length: 50\r\n\r\n%.50s", big);
    struct http_message *m = accept_whole(HTTP_REQUEST, text, 7, "");
    assert_int_equal(m->body.len, 50);
    http_message_free(m);
}

static void responses_are_read_past_interim_ones(void **state)
{
    (void)state;
    const char *text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\n"
                       "Content-Length: 2\r\n\r\nok";
    for (size_t step = 1; step < 100; step++) {
        struct http_message *m = accept_whole(HTTP_RESPONSE, text, step, "");
        assert_int_equal(m->status, 503);
        assert_string_equal(http_message_field(m, "retry-after"), "7");
        assert_string_equal(buf_text(&m->body), "ok");
        http_message_free(m);
    }
    struct http_message *m = accept_whole(HTTP_RESPONSE, "HTTP/1.1 204 No Content\r\n\r\nX", 100, "X");
    assert_int_equal(m->status, 204);
    http_message_free(m);
}

static void unusable_responses_are_refused(void **state)
{
    (void)state;
    refuse(HTTP_RESPONSE, "HTTP/1.1 200 OK\r\n\r\n", 502); /* would end with the connection */
    refuse(HTTP_RESPONSE, "HTTP/1.1 101 Switching\r\n\r\n", 502);
    refuse(HTTP_RESPONSE, "HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n", 502);
    refuse(HTTP_RESPONSE, "SSH-2.0-OpenSSH\r\n\r\n", 400);
    char text[400] = "";
    for (int i = 0; i < 9; i++)
        strcat(text, "HTTP/1.1 102 P\r\n\r\n");
    refuse(HTTP_RESPONSE, text, 502);
}

static void percent_decoding_is_bounded(void **state)
{
    (void)state;
    char out[4];
    assert_true(http_percent_decode("a+%41", 5, true, out, sizeof(out)));
    assert_string_equal(out, "a A");
    assert_false(http_percent_decode("abcd", 4, true, out, sizeof(out)));
    assert_false(http_percent_decode("%4", 2, true, out, sizeof(out)));
    assert_false(http_percent_decode("%00", 3, true, out, sizeof(out)));
    assert_true(http_percent_decode("", 0, true, out, sizeof(out)));
    assert_string_equal(out, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_reads_the_same_in_pieces_of_any_size),
        cmocka_unit_test(chunked_body_is_joined),
        cmocka_unit_test(connection_persistence_follows_version_and_header),
        cmocka_unit_test(ambiguous_framing_is_refused),
        cmocka_unit_test(broken_chunks_are_refused),
        cmocka_unit_test(sloppy_heads_are_refused),
        cmocka_unit_test(nul_in_the_head_is_refused),
        cmocka_unit_test(what_is_not_served_is_said_so),
        cmocka_unit_test(targets_other_than_a_clean_path_are_refused),
        cmocka_unit_test(sizes_are_limited),
        cmocka_unit_test(responses_are_read_past_interim_ones),
        cmocka_unit_test(unusable_responses_are_refused),
        cmocka_unit_test(percent_decoding_is_bounded),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
