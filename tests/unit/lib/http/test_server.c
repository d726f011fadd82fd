#include "cmocka_all.h"

#include <event2/event.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/id.h"
#include "http/server.h"
#include "support.h"

#define HELD_MAX 8

/* A server whose handler answers by path: /hold keeps the request, /echo sends the body back, and so on. */
struct fixture {
    struct loop *loop;
    struct http_server *server;
    struct http_server_config config;
    struct http_request *held[HELD_MAX], *stream;
    int held_count, requests, gone, pending_behind, opened, closed, writable;
    bool answer_hold_when_pending, refuse_accept, refuse_open, drained;
    char params[512], accepted[64];
    struct cidr balancers;
};

static struct fixture *f;

static bool on_accept(const char *peer, void *arg)
{
    (void)arg;
    (void)snprintf(f->accepted, sizeof(f->accepted), "%s", peer);
    if (!f->config.n_proxies)
        assert_string_equal(peer, "127.0.0.1");
    return !f->refuse_accept;
}

static bool on_connection_open(struct http_connection *connection, void *arg)
{
    (void)arg;
    f->opened++;
    http_connection_set_user(connection, f);
    return !f->refuse_open;
}

static void on_connection_close(struct http_connection *connection, void *arg)
{
    (void)arg;
    assert_ptr_equal(http_connection_user(connection), f);
    f->closed++;
}

static bool on_param(const char *name, const char *value, void *arg)
{
    (void)arg;
    size_t at = strlen(f->params);
    snprintf(f->params + at, sizeof(f->params) - at, "%s=%s;", name, value);
    return true;
}

static void respond_text(struct http_request *request, const char *text)
{
    static const struct http_header headers[] = {{"Content-Type", "text/plain"}, {0}};
    http_respond(request, 200, headers, text, strlen(text));
}

static void on_request(struct http_request *request, void *arg)
{
    (void)arg;
    const char *path = http_request_path(request);
    f->requests++;
    if (strcmp(path, "/hold") == 0) {
        assert_true(f->held_count < HELD_MAX);
        f->held[f->held_count++] = request;
    } else if (strcmp(path, "/echo") == 0) {
        size_t len;
        const uint8_t *body = http_request_body(request, &len);
        http_respond(request, 200, NULL, body, len);
    } else if (strcmp(path, "/peer") == 0) {
        const struct http_connection *connection = http_request_connection(request);
        char text[80];
        (void)snprintf(text, sizeof(text), "%s %s", http_connection_peer(connection),
                       http_connection_proxied(connection) ? "proven" : "as it came");
        respond_text(request, text);
    } else if (strcmp(path, "/params") == 0) {
        bool good = http_request_params(request, on_param, NULL);
        respond_text(request, good ? f->params : "malformed");
    } else if (strcmp(path, "/problem") == 0) {
        struct status st = {.code = CODE_UNAVAILABLE, .msg = "no \"room\"\n"};
        static const struct http_header headers[] = {{"Retry-After", "3"}, {0}};
        http_respond_problem(request, 0, &st, headers);
    } else if (strcmp(path, "/split") == 0) {
        const struct http_header headers[] = {{"X", "a\r\nInjected: yes"}, {0}};
        http_respond(request, 200, headers, "x", 1);
    } else if (strcmp(path, "/stream") == 0) {
        f->stream = request;
        http_stream_begin(request, 200, NULL);
    } else if (strcmp(path, "/big") == 0) {
        static char big[200000];
        memset(big, 'b', sizeof(big));
        http_respond(request, 200, NULL, big, sizeof(big));
    } else if (strcmp(path, "/cut") == 0) {
        http_connection_close(http_request_connection(request));
        f->held[f->held_count++] = request;
    } else {
        respond_text(request, path);
    }
}

static void unhold(struct http_request *request)
{
    for (int i = 0; i < f->held_count; i++) {
        if (f->held[i] == request)
            f->held[i] = f->held[--f->held_count];
    }
}

static void on_gone(struct http_request *request, void *arg)
{
    (void)arg;
    f->gone++;
    unhold(request);
    if (f->stream == request)
        f->stream = NULL;
}

static void on_pending_behind(struct http_request *request, void *arg)
{
    (void)arg;
    f->pending_behind++;
    if (!f->answer_hold_when_pending)
        return;
    unhold(request);
    http_respond(request, 204, NULL, NULL, 0);
}

static void on_writable(struct http_request *request, void *arg)
{
    (void)arg;
    assert_ptr_equal(request, f->stream);
    f->writable++;
}

static const struct http_handler handler = {
    .on_accept = on_accept,
    .on_connection_open = on_connection_open,
    .on_connection_close = on_connection_close,
    .on_request = on_request,
    .on_gone = on_gone,
    .on_pending_behind = on_pending_behind,
    .on_writable = on_writable,
};

static int setup(void **state)
{
    (void)state;
    f = calloc(1, sizeof(*f));
    f->loop = loop_new();
    f->config = (struct http_server_config){
        .address = "127.0.0.1",
        .limits = {.head_bytes = 2048, .url_bytes = 200, .headers = 20, .body_bytes = 64 * 1024}};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    http_server_free(f->server);
    assert_int_equal(f->opened, f->closed);
    assert_int_equal(f->held_count, 0);
    loop_free(f->loop);
    free(f);
    return 0;
}

static struct raw *start(void)
{
    struct status st;
    if (!f->server) {
        if (http_server_new(f->loop, &f->config, &handler, f, &f->server, &st) != CODE_OK)
            fail_msg("%s", st.msg);
    }
    return raw_connect(f->loop, http_server_port(f->server));
}

static bool is_held(void *arg)
{
    (void)arg;
    return f->held_count > 0;
}

static bool is_gone(void *arg)
{
    (void)arg;
    return f->gone > 0;
}

static bool all_closed(void *arg)
{
    (void)arg;
    return f->opened > 0 && f->closed == f->opened;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

static size_t count_of(const char *text, const char *needle)
{
    size_t n = 0;
    for (const char *at = strstr(text, needle); at; at = strstr(at + 1, needle))
        n++;
    return n;
}

static void answer_carries_length_date_and_headers(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, GET("/hello"));
    assert_true(raw_expect(c, "\r\n\r\n/hello"));
    assert_true(strncmp(c->in, "HTTP/1.1 200 OK\r\n", 17) == 0);
    assert_non_null(strstr(c->in, "\r\nContent-Length: 6\r\n"));
    assert_non_null(strstr(c->in, "\r\nContent-Type: text/plain\r\n"));
    assert_non_null(strstr(c->in, " GMT\r\n"));
    assert_null(strstr(c->in, "Connection:"));
    raw_free(c);
}

static void request_sent_byte_by_byte_is_served(void **state)
{
    (void)state;
    struct raw *c = start();
    const char *text = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
                       "chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    for (const char *at = text; *at; at++)
        raw_send(c, (char[]){*at, 0});
    assert_true(raw_expect(c, "\r\n\r\nabcde"));
    assert_int_equal(f->requests, 1);
    raw_free(c);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, GET("/1") GET("/2") GET("/3") GET("/4"));
    assert_true(raw_expect(c, "/4"));
    assert_true(strstr(c->in, "/1") < strstr(c->in, "/2"));
    assert_true(strstr(c->in, "/2") < strstr(c->in, "/3"));
    assert_true(strstr(c->in, "/3") < strstr(c->in, "/4"));
    raw_free(c);
}

static void request_behind_a_held_one_ends_the_hold_and_is_served(void **state)
{
    (void)state;
    f->answer_hold_when_pending = true;
    struct raw *c = start();
    raw_send(c, GET("/hold"));
    assert_true(spin_until(f->loop, is_held, NULL));
    raw_send(c, GET("/next"));
    assert_true(raw_expect(c, "/next"));
    assert_int_equal(f->pending_behind, 1);
    assert_true(strncmp(c->in, "HTTP/1.1 204 ", 13) == 0);
    assert_null(strstr(c->in, "Content-Length: 0"));
    assert_int_equal(f->gone, 0);
    raw_free(c);
}

static void several_requests_behind_a_held_one_wait_their_turn(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, GET("/hold") GET("/1") GET("/2") GET("/hold") GET("/3"));
    assert_true(spin_until(f->loop, is_held, NULL));
    spin(f->loop);
    assert_int_equal(f->requests, 1);
    assert_int_equal(f->pending_behind, 1); /* told once */
    struct http_request *first = f->held[0];
    f->held_count = 0;
    respond_text(first, "first");
    assert_true(raw_expect(c, "/2"));
    assert_true(spin_until(f->loop, is_held, NULL));
    assert_int_equal(f->requests, 4);
    struct http_request *second = f->held[0];
    f->held_count = 0;
    respond_text(second, "second");
    assert_true(raw_expect(c, "/3"));
    raw_free(c);
}

static void nothing_more_is_read_while_one_request_waits(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, GET("/hold") GET("/1"));
    assert_true(spin_until(f->loop, is_held, NULL));
    /* Far more than the server buffers: the socket must fill up. */
    static char flood[60 * 1024];
    memset(flood, 0, sizeof(flood));
    for (size_t at = 0; at + sizeof(GET("/f")) < sizeof(flood); at += sizeof(GET("/f")) - 1)
        memcpy(flood + at, GET("/f"), sizeof(GET("/f")) - 1);
    size_t sent = 0;
    for (int i = 0; i < 2000; i++) {
        ssize_t n = send(c->fd, flood, strlen(flood), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0)
            break;
        sent += (size_t)n;
        spin(f->loop);
    }
    assert_true(sent < 100u * 1024 * 1024);
    assert_int_equal(f->requests, 1);
    raw_free(c);
    struct http_request *held = f->held[0];
    f->held_count = 0;
    respond_text(held, "done");
    assert_true(spin_until(f->loop, all_closed, NULL));
}

static void held_client_that_leaves_with_fin_is_noticed(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, GET("/hold"));
    assert_true(spin_until(f->loop, is_held, NULL));
    raw_free(c);
    assert_true(spin_until(f->loop, is_gone, NULL));
    assert_true(spin_until(f->loop, all_closed, NULL));
}

static void held_client_that_leaves_with_rst_is_noticed(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, GET("/hold"));
    assert_true(spin_until(f->loop, is_held, NULL));
    raw_reset(c);
    assert_true(spin_until(f->loop, is_gone, NULL));
    assert_true(spin_until(f->loop, all_closed, NULL));
}

static void stray_bytes_during_a_hold_end_the_connection_only(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, GET("/hold"));
    assert_true(spin_until(f->loop, is_held, NULL));
    raw_send(c, "\r\n\x01garbage\r\n\r\n");
    assert_true(raw_expect(c, "HTTP/1.1 400 Bad Request"));
    assert_int_equal(f->gone, 1);
    assert_true(raw_expect_close(c));
    raw_free(c);
    struct raw *other = start();
    raw_send(other, GET("/alive"));
    assert_true(raw_expect(other, "/alive"));
    raw_free(other);
}

static void part_of_a_request_behind_a_held_one_is_no_reason_to_end_it(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, GET("/hold"));
    assert_true(spin_until(f->loop, is_held, NULL));
    raw_send(c, "GET /sl");
    assert_int_equal(f->pending_behind, 0);
    struct http_request *held = f->held[0];
    f->held_count = 0;
    respond_text(held, "held");
    assert_true(raw_expect(c, "held"));
    raw_send(c, "ow HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(raw_expect(c, "/slow"));
    raw_free(c);
}

static void malformed_input_is_answered_with_a_problem_and_closed(void **state)
{
    (void)state;
    static const struct {
        const char *text, *answer;
    } rows[] = {
        {"\x16\x03\x01\x02\x03\r\n\r\n", "HTTP/1.1 400 "},
        {"GET / HTTP/1.1\nHost: x\n\n", "HTTP/1.1 400 "},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         "HTTP/1.1 400 "},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n", "HTTP/1.1 413 Payload Too Large"},
        {"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 501 Not Implemented"},
        {"GET / HTTP/3.0\r\nHost: x\r\n\r\n", "HTTP/1.1 505 "},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct raw *c = start();
        raw_send(c, rows[i].text);
        assert_true(raw_expect(c, rows[i].answer));
        assert_true(raw_expect(c, "}\n"));
        assert_non_null(strstr(c->in, "Connection: close\r\n"));
        assert_non_null(strstr(c->in, "Content-Type: application/problem+json\r\n"));
        assert_true(raw_expect_close(c));
        raw_free(c);
    }
    assert_int_equal(f->requests, 0);
}

static void oversized_heads_are_refused(void **state)
{
    (void)state;
    char text[8192], fill[4096];
    memset(fill, 'a', sizeof(fill));
    fill[sizeof(fill) - 1] = 0;
    struct raw *c = start();
    snprintf(text, sizeof(text), "GET /%s", fill);
    raw_send(c, text);
    assert_true(raw_expect(c, "HTTP/1.1 414 "));
    raw_free(c);
    c = start();
    snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: x\r\nA: %s", fill);
    raw_send(c, text);
    assert_true(raw_expect(c, "HTTP/1.1 431 "));
    raw_free(c);
}

static void refusal_is_readable_although_the_client_goes_on_sending(void **state)
{
    (void)state;
    struct raw *c = start();
    /* In one piece: when the server refuses, most of it is still unread, and a close would reset. */
    static char text[200100];
    int head =
        snprintf(text, sizeof(text), "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n");
    memset(text + head, 'x', 200000);
    raw_send(c, text);
    assert_true(raw_expect(c, "HTTP/1.1 413 "));
    assert_true(raw_expect_close(c)); /* FIN, not RST */
    raw_free(c);
}

static void slow_head_times_out(void **state)
{
    (void)state;
    f->config.header_timeout_ms = 30;
    struct raw *c = start();
    raw_send(c, "GET / HT");
    assert_true(raw_expect(c, "HTTP/1.1 408 Request Timeout"));
    assert_true(raw_expect_close(c));
    raw_free(c);
}

static void slow_body_times_out_by_its_rate(void **state)
{
    (void)state;
    f->config.body_timeout_ms = 30;
    f->config.body_min_rate = 1000 * 1000;
    struct raw *c = start();
    raw_send(c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc");
    assert_true(raw_expect(c, "HTTP/1.1 408 Request Timeout"));
    raw_free(c);
}

static void idle_connection_is_closed_and_a_held_one_is_not(void **state)
{
    (void)state;
    f->config.idle_timeout_ms = 30;
    f->config.header_timeout_ms = 30;
    struct raw *holder = start();
    raw_send(holder, GET("/hold"));
    assert_true(spin_until(f->loop, is_held, NULL));
    struct raw *idle = start();
    assert_true(raw_expect_close(idle));
    assert_int_equal(idle->len, 0);
    raw_free(idle);
    idle = start(); /* a second full time-out passes */
    raw_send(idle, GET("/x"));
    assert_true(raw_expect(idle, "/x"));
    assert_true(raw_expect_close(idle));
    raw_free(idle);
    assert_int_equal(f->held_count, 1);
    assert_int_equal(f->gone, 0);
    struct http_request *held = f->held[0];
    f->held_count = 0;
    respond_text(held, "kept");
    assert_true(raw_expect(holder, "kept"));
    raw_free(holder);
}

static void connection_ends_when_the_client_asks_or_speaks_http_1_0(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, "GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" GET("/never"));
    assert_true(raw_expect_close(c));
    assert_non_null(strstr(c->in, "Connection: close"));
    assert_int_equal(count_of(c->in, "HTTP/1.1 200"), 1);
    raw_free(c);
    c = start();
    raw_send(c, "GET /b HTTP/1.0\r\n\r\n");
    assert_true(raw_expect_close(c));
    assert_non_null(strstr(c->in, "\r\n\r\n/b"));
    raw_free(c);
    assert_int_equal(f->requests, 2);
}

static void half_closed_client_still_gets_its_answer(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, GET("/big"));
    shutdown(c->fd, SHUT_WR);
    assert_true(raw_expect_close(c));
    assert_true(c->total > 200000);
    raw_free(c);
}

static void expect_continue_is_answered_before_the_body(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_true(raw_expect(c, "HTTP/1.1 100 Continue\r\n\r\n"));
    raw_send(c, "abc");
    assert_true(raw_expect(c, "\r\n\r\nabc"));
    raw_free(c);
}

static void head_gets_the_length_without_the_body(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, "HEAD /1234 HTTP/1.1\r\nHost: x\r\n\r\n" GET("/next"));
    assert_true(raw_expect(c, "/next"));
    assert_non_null(strstr(c->in, "Content-Length: 5\r\n"));
    assert_null(strstr(c->in, "/1234"));
    raw_free(c);
}

static void problem_is_json_with_the_codes_row(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, GET("/problem"));
    assert_true(
        raw_expect(c, "{\"type\":\"urn:clm:problem:unavailable\",\"title\":\"Unavailable\",\"status\":503,"
                      "\"detail\":\"no \\\"room\\\"\\u000a\"}\n"));
    assert_non_null(strstr(c->in, "HTTP/1.1 503 Service Unavailable"));
    assert_non_null(strstr(c->in, "Retry-After: 3\r\n"));
    raw_free(c);
}

static void header_with_a_line_break_cannot_split_the_answer(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, GET("/split"));
    assert_true(raw_expect(c, "HTTP/1.1 500 "));
    assert_null(strstr(c->in, "Injected"));
    raw_free(c);
}

static void query_parameters_are_decoded_in_order(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, GET("/params?a=1&b=x%20y+z&&c&a=%3D%26"));
    assert_true(raw_expect(c, "a=1;b=x y z;c=;a==&;"));
    raw_forget(c);
    raw_send(c, GET("/params?a=%zz"));
    assert_true(raw_expect(c, "malformed"));
    raw_free(c);
}

static void stream_is_chunked_and_pushes_back(void **state)
{
    (void)state;
    f->config.stream_bytes = 64 * 1024;
    struct raw *c = start();
    raw_send(c, GET("/stream"));
    assert_true(raw_expect(c, "Transfer-Encoding: chunked\r\n\r\n"));
    static char piece[32 * 1024];
    memset(piece, 's', sizeof(piece));
    int writes = 0;
    while (http_stream_write(f->stream, piece, sizeof(piece)) && writes < 1000) {
        writes++;
        spin(f->loop);
    }
    assert_in_range(writes, 1, 999); /* the client does not read: it got full */
    assert_int_equal(f->writable, 0);
    while (!f->writable && !c->closed)
        raw_read(c);
    assert_int_equal(f->writable, 1);
    assert_true(http_stream_write(f->stream, "last", 4));
    http_stream_end(f->stream);
    assert_true(raw_expect(c, "\r\n4\r\nlast\r\n0\r\n\r\n"));
    assert_in_range(c->total, (size_t)(writes + 1) * sizeof(piece), (size_t)(writes + 2) * sizeof(piece));
    raw_send(c, GET("/after"));
    assert_true(raw_expect(c, "/after"));
    raw_free(c);
}

static void stream_of_a_client_that_left_is_gone(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, GET("/stream"));
    assert_true(raw_expect(c, "\r\n\r\n"));
    raw_reset(c);
    assert_true(spin_until(f->loop, is_gone, NULL));
    assert_null(f->stream);
}

static void client_that_sends_but_never_reads_does_not_grow_memory(void **state)
{
    (void)state;
    f->config.stream_bytes = 256 * 1024;
    struct raw *c = start();
    char text[64 * (sizeof(GET("/big")) - 1) + 1] = "";
    for (int i = 0; i < 64; i++)
        memcpy(text + (size_t)i * (sizeof(GET("/big")) - 1), GET("/big"), sizeof(GET("/big")) - 1);
    text[sizeof(text) - 1] = 0;
    raw_send(c, text);
    spin(f->loop);
    int before = f->requests;
    assert_in_range(before, 1, 50); /* not all 64: some 13 MB would be queued */
    while (c->total < 64u * 200000 && !c->closed)
        raw_read(c);
    assert_int_equal(f->requests, 64);
    raw_reset(c);
}

static void handler_may_cut_a_connection_that_asks(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, GET("/cut"));
    assert_true(raw_expect_close(c));
    assert_int_equal(f->gone, 1);
    raw_free(c);
}

static void refused_source_and_refused_connection_are_closed(void **state)
{
    (void)state;
    f->refuse_accept = true;
    struct raw *c = start();
    assert_true(raw_expect_close(c));
    raw_free(c);
    assert_int_equal(f->opened, 0);
    f->refuse_accept = false;
    f->refuse_open = true;
    c = start();
    assert_true(raw_expect_close(c));
    raw_free(c);
    assert_int_equal(f->opened, 1);
    f->refuse_open = false;
}

static void listener_pauses_at_the_connection_limit_and_goes_on(void **state)
{
    (void)state;
    f->config.max_connections = 2;
    struct raw *a = start(), *b = start(), *c = start();
    raw_send(c, GET("/c"));
    spin(f->loop);
    assert_int_equal(http_server_connections(f->server), 2);
    assert_int_equal(f->requests, 0);
    raw_free(a);
    assert_true(raw_expect(c, "/c"));
    raw_free(b);
    raw_free(c);
}

static void running_out_of_descriptors_does_not_spin(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, GET("/hold"));
    assert_true(spin_until(f->loop, is_held, NULL));
    /* One more client socket, then none left for accept. */
    struct raw *late = calloc(1, sizeof(*late));
    late->loop = f->loop;
    late->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct rlimit old, tight;
    getrlimit(RLIMIT_NOFILE, &old);
    tight = old;
    tight.rlim_cur = (rlim_t)late->fd + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    struct sockaddr_in to;
    socklen_t len = sizeof(to);
    getpeername(c->fd, (struct sockaddr *)&to, &len);
    assert_int_equal(connect(late->fd, (struct sockaddr *)&to, sizeof(to)), 0);
    raw_send(late, GET("/late"));
    /* The pending connection must not make the loop busy: with the listener paused nothing is active. */
    spin(f->loop);
    int active = event_base_get_num_events(loop_event_base(f->loop), EVENT_BASE_COUNT_ACTIVE);
    assert_int_equal(active, 0);
    assert_int_equal(f->requests, 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_true(raw_expect(late, "/late")); /* after the pause */
    raw_free(late);
    raw_free(c);
    assert_true(spin_until(f->loop, is_gone, NULL));
}

static void on_drained(void *arg)
{
    (void)arg;
    f->drained = true;
}

static bool is_drained(void *arg)
{
    (void)arg;
    return f->drained;
}

static void draining_closes_idle_and_finishes_the_others(void **state)
{
    (void)state;
    struct raw *idle = start(), *busy = start();
    raw_send(busy, GET("/hold"));
    assert_true(spin_until(f->loop, is_held, NULL));
    http_server_drain(f->server, on_drained, NULL);
    assert_true(raw_expect_close(idle));
    assert_false(f->drained);
    struct http_request *held = f->held[0];
    f->held_count = 0;
    respond_text(held, "last");
    assert_true(raw_expect(busy, "last"));
    assert_non_null(strstr(busy->in, "Connection: close"));
    assert_true(raw_expect_close(busy));
    raw_free(busy);
    raw_free(idle);
    assert_true(spin_until(f->loop, is_drained, NULL));
}

static void freeing_the_server_tells_about_what_it_held(void **state)
{
    (void)state;
    struct raw *c = start();
    raw_send(c, GET("/hold"));
    assert_true(spin_until(f->loop, is_held, NULL));
    http_server_free(TAKE(f->server));
    assert_int_equal(f->gone, 1);
    assert_int_equal(f->closed, 1);
    raw_free(c);
}

static void bad_address_is_refused_with_its_name(void **state)
{
    (void)state;
    struct status st;
    struct http_server *server = NULL;
    f->config.address = "not-an-address";
    assert_int_equal(http_server_new(f->loop, &f->config, &handler, f, &server, &st), CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(st.msg, "not-an-address"));
    assert_null(server);
    f->config.address = "127.0.0.1";
    struct raw *c = start();
    f->config.port = http_server_port(f->server);
    assert_int_equal(http_server_new(f->loop, &f->config, &handler, f, &server, &st), CODE_UNAVAILABLE);
    assert_non_null(strstr(st.msg, "in use"));
    raw_free(c);
}

/* ---- behind a balancer ---- */

#define PROXY_HEAD "\r\n\r\n\0\r\nQUIT\n"

static struct raw *start_behind(const char *balancers)
{
    assert_true(cidr_parse(balancers, &f->balancers));
    f->config.proxies = &f->balancers;
    f->config.n_proxies = 1;
    return start();
}

static void send_bytes(struct raw *c, const char *data, size_t len)
{
    assert_int_equal(send(c->fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
    spin(f->loop);
}
#define SEND(c, literal) send_bytes(c, literal, sizeof(literal) - 1)

static void a_balancer_names_the_source(void **state)
{
    (void)state;
    struct raw *c = start_behind("127.0.0.0/8");
    assert_int_equal(http_server_handshakes(f->server), 1);
    SEND(c, PROXY_HEAD "\x21\x11\0\x0c\xc0\0\2\7\x7f\0\0\1\0\1\0\1" GET("/peer"));
    assert_true(raw_expect(c, "\r\n\r\n192.0.2.7 proven"));
    assert_string_equal(f->accepted, "192.0.2.7");
    assert_int_equal(http_server_handshakes(f->server), 0);
    raw_free(c);
}

static void a_header_may_come_in_pieces(void **state)
{
    (void)state;
    static const char all[] = PROXY_HEAD "\x21\x11\0\x0c\xc0\0\2\7\x7f\0\0\1\0\1\0\1" GET("/peer");
    struct raw *c = start_behind("127.0.0.1");
    for (size_t i = 0; i < sizeof(all) - 1; i++)
        send_bytes(c, all + i, 1);
    assert_true(raw_expect(c, "192.0.2.7 proven"));
    raw_free(c);
}

static void a_balancers_own_check_is_not_proven(void **state)
{
    (void)state;
    struct raw *c = start_behind("127.0.0.1");
    SEND(c, PROXY_HEAD "\x20\0\0\0" GET("/peer"));
    assert_true(raw_expect(c, "127.0.0.1 as it came"));
    raw_free(c);
}

static void others_speak_for_themselves(void **state)
{
    (void)state;
    struct raw *c = start_behind("127.0.0.99");
    SEND(c, GET("/peer"));
    assert_true(raw_expect(c, "127.0.0.1 as it came"));
    raw_forget(c);
    raw_free(c);
    /* Who is no balancer cannot say who it is. */
    c = raw_connect(f->loop, http_server_port(f->server));
    SEND(c, PROXY_HEAD "\x21\x11\0\x0c\xc0\0\2\7\x7f\0\0\1\0\1\0\1" GET("/peer"));
    assert_true(raw_expect(c, "400"));
    assert_null(strstr(c->in, "192.0.2.7"));
    raw_free(c);
}

static void a_balancer_without_a_proper_header_is_closed(void **state)
{
    (void)state;
    f->config.handshake_timeout_ms = 50;
    struct raw *c = start_behind("127.0.0.1");
    SEND(c, GET("/peer"));
    assert_true(raw_expect_close(c) || c->reset);
    raw_free(c);
    c = raw_connect(f->loop, http_server_port(f->server));
    SEND(c, PROXY_HEAD);
    assert_true(raw_expect_close(c)); /* the rest never comes */
    raw_free(c);
    c = raw_connect(f->loop, http_server_port(f->server));
    SEND(c, PROXY_HEAD "\x21");
    raw_free(c); /* it leaves */
    spin(f->loop);
    f->refuse_accept = true;
    c = raw_connect(f->loop, http_server_port(f->server));
    SEND(c, PROXY_HEAD "\x21\x11\0\x0c\xc0\0\2\7\x7f\0\0\1\0\1\0\1");
    assert_true(raw_expect_close(c));
    raw_free(c);
    assert_int_equal(http_server_handshakes(f->server), 0);
    assert_int_equal(f->requests, 0);
    c = raw_connect(f->loop, http_server_port(f->server)); /* freed with the server */
    raw_free(c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answer_carries_length_date_and_headers),
        TEST(request_sent_byte_by_byte_is_served),
        TEST(pipelined_requests_are_answered_in_order),
        TEST(request_behind_a_held_one_ends_the_hold_and_is_served),
        TEST(several_requests_behind_a_held_one_wait_their_turn),
        TEST(nothing_more_is_read_while_one_request_waits),
        TEST(held_client_that_leaves_with_fin_is_noticed),
        TEST(held_client_that_leaves_with_rst_is_noticed),
        TEST(stray_bytes_during_a_hold_end_the_connection_only),
        TEST(part_of_a_request_behind_a_held_one_is_no_reason_to_end_it),
        TEST(malformed_input_is_answered_with_a_problem_and_closed),
        TEST(oversized_heads_are_refused),
        TEST(refusal_is_readable_although_the_client_goes_on_sending),
        TEST(slow_head_times_out),
        TEST(slow_body_times_out_by_its_rate),
        TEST(idle_connection_is_closed_and_a_held_one_is_not),
        TEST(connection_ends_when_the_client_asks_or_speaks_http_1_0),
        TEST(half_closed_client_still_gets_its_answer),
        TEST(expect_continue_is_answered_before_the_body),
        TEST(head_gets_the_length_without_the_body),
        TEST(problem_is_json_with_the_codes_row),
        TEST(header_with_a_line_break_cannot_split_the_answer),
        TEST(query_parameters_are_decoded_in_order),
        TEST(stream_is_chunked_and_pushes_back),
        TEST(stream_of_a_client_that_left_is_gone),
        TEST(client_that_sends_but_never_reads_does_not_grow_memory),
        TEST(handler_may_cut_a_connection_that_asks),
        TEST(refused_source_and_refused_connection_are_closed),
        TEST(listener_pauses_at_the_connection_limit_and_goes_on),
        TEST(running_out_of_descriptors_does_not_spin),
        TEST(draining_closes_idle_and_finishes_the_others),
        TEST(freeing_the_server_tells_about_what_it_held),
        TEST(bad_address_is_refused_with_its_name),
        TEST(a_balancer_names_the_source),
        TEST(a_header_may_come_in_pieces),
        TEST(a_balancers_own_check_is_not_proven),
        TEST(others_speak_for_themselves),
        TEST(a_balancer_without_a_proper_header_is_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
