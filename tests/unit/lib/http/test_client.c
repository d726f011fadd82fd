/* Client and TLS together: each test is a server and a client on one loop. */
#include "cmocka_all.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "http/client.h"
#include "http/server.h"
#include "support.h"

struct fixture {
    struct loop *loop;
    struct tls_context *server_tls, *client_tls;
    struct http_server *server;
    struct http_client *client;
    struct http_request *held;
    struct test_cert *ca, *other_ca, *server_cert, *agent;
    char *server_chain, *other_chain;

    /* server side */
    int requests, gone, pending_behind, verified, resumed, refused;
    bool answer_hold_when_pending, close_answers;
    enum tls_verdict verdict;
    char refusal[300], peer_der[4096];
    size_t peer_len;

    /* client side */
    bool opened, closed, free_in_response, free_in_closed, send_again_on_failure;
    int responses, failures, last_status;
    char body[256];
    struct status call_status, closed_status;
};

static struct fixture *f;

/* --- server side ---------------------------------------------------------------------------------------- */

static bool on_connection_open(struct http_connection *connection, void *arg)
{
    (void)arg;
    AUTO_BUF struct buf der = {0};
    f->peer_len = 0;
    if (http_connection_peer_certificate(connection, &der)) {
        f->peer_len = der.len;
        assert_true(der.len <= sizeof(f->peer_der));
        memcpy(f->peer_der, der.data, der.len);
    }
    f->resumed += http_connection_resumed(connection);
    return true;
}

static void on_request(struct http_request *request, void *arg)
{
    (void)arg;
    f->requests++;
    const char *path = http_request_path(request);
    size_t len;
    const uint8_t *body = http_request_body(request, &len);
    static const struct http_header retry[] = {{"Retry-After", "7"}, {0}};
    if (strcmp(path, "/hold") == 0)
        f->held = request;
    else if (strcmp(path, "/busy") == 0)
        http_respond(request, 503, retry, NULL, 0);
    else if (f->close_answers)
        http_respond_and_close(request, 200, NULL, body, len);
    else
        http_respond(request, 200, NULL, body, len);
}

static void on_gone(struct http_request *request, void *arg)
{
    (void)arg;
    f->gone++;
    if (f->held == request)
        f->held = NULL;
}

static void on_pending_behind(struct http_request *request, void *arg)
{
    (void)arg;
    f->pending_behind++;
    f->held = NULL;
    http_respond(request, 200, NULL, "ended", 5);
}

static const struct http_handler handler = {.on_connection_open = on_connection_open,
                                            .on_request = on_request,
                                            .on_gone = on_gone,
                                            .on_pending_behind = on_pending_behind};

static enum tls_verdict on_verify(const uint8_t *leaf, size_t len, char reason[128], void *arg)
{
    (void)arg;
    assert_true(len > 100 && leaf[0] == 0x30);
    f->verified++;
    if (f->verdict == TLS_PEER_EXPIRED)
        snprintf(reason, 128, "generation 3 is over");
    return f->verdict;
}

static void on_refused(const struct tls_refusal *refusal, void *arg)
{
    (void)arg;
    f->refused++;
    snprintf(f->refusal, sizeof(f->refusal), "%s|%s|%s|%s|%d", refusal->peer, refusal->subject, refusal->uri,
             refusal->reason, refusal->by_peer);
}

/* --- client side ---------------------------------------------------------------------------------------- */

static void on_open(void *arg)
{
    (void)arg;
    f->opened = true;
}

static void on_closed(const struct status *st, void *arg)
{
    (void)arg;
    assert_false(f->closed);
    f->closed = true;
    f->closed_status = *st;
    if (f->free_in_closed)
        http_client_free(TAKE(f->client));
}

static void on_response(const struct http_response *response, const struct status *st, void *arg)
{
    if (!response) {
        f->failures++;
        f->call_status = *st;
        if (f->send_again_on_failure) {
            f->send_again_on_failure = false;
            struct http_client_request again = {.method = "GET", .path = "/again"};
            http_client_send(f->client, &again, on_response, arg);
        }
        return;
    }
    f->responses++;
    f->last_status = http_response_status(response);
    size_t len;
    const uint8_t *body = http_response_body(response, &len);
    size_t at = strlen(f->body);
    snprintf(f->body + at, sizeof(f->body) - at, "%s%.*s;", arg ? (const char *)arg : "", (int)len,
             (const char *)body);
    assert_int_equal(http_response_retry_after_ms(response, 42), f->last_status == 503 ? 7000 : 42);
    if (f->free_in_response)
        http_client_free(TAKE(f->client));
}

static struct http_call *send_call(const char *path, const char *body, const char *label)
{
    struct http_client_request request = {
        .method = "POST", .path = path, .body = body, .body_len = strlen(body), .timeout_ms = 0};
    return http_client_send(f->client, &request, on_response, (void *)(uintptr_t)label);
}

/* --- fixture -------------------------------------------------------------------------------------------- */

#define AGENT_URI "spiffe://example.test/agent/1"

static int setup(void **state)
{
    (void)state;
    f = calloc(1, sizeof(*f));
    f->loop = loop_new();
    f->ca = cert_make(&(struct cert_spec){.name = "Test CA", .ca = true}, NULL);
    f->other_ca = cert_make(&(struct cert_spec){.name = "Other CA", .ca = true}, NULL);
    f->server_cert = cert_make(&(struct cert_spec){.name = "gateway", .dns = "gw.test"}, f->ca);
    f->agent = cert_make(&(struct cert_spec){.name = "agent-1", .uri = AGENT_URI}, f->ca);
    f->server_chain = cert_bundle(f->server_cert, f->ca);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    http_client_free(f->client);
    http_server_free(f->server);
    tls_context_free(f->client_tls);
    tls_context_free(f->server_tls);
    cert_free(f->agent);
    cert_free(f->server_cert);
    cert_free(f->other_ca);
    cert_free(f->ca);
    free(f->server_chain);
    loop_free(f->loop);
    free(f);
    return 0;
}

static struct tls_server_config server_config(enum tls_client_auth auth)
{
    return (struct tls_server_config){.chain = (const uint8_t *)f->server_chain,
                                      .chain_len = strlen(f->server_chain),
                                      .key = f->server_cert->key,
                                      .min_version = TLS_1_3,
                                      .client_auth = auth,
                                      .client_ca = (const uint8_t *)f->ca->pem,
                                      .client_ca_len = strlen(f->ca->pem),
                                      .session_cache = 16,
                                      .on_verify = on_verify,
                                      .on_refused = on_refused};
}

static struct tls_client_config client_config(const struct test_cert *own)
{
    return (struct tls_client_config){.ca = (const uint8_t *)f->ca->pem,
                                      .ca_len = strlen(f->ca->pem),
                                      .chain = own ? (const uint8_t *)own->pem : NULL,
                                      .chain_len = own ? strlen(own->pem) : 0,
                                      .key = own ? own->key : NULL,
                                      .min_version = TLS_1_3};
}

static void start_server(const struct tls_server_config *config)
{
    struct status st;
    if (config && tls_server_new(config, &f->server_tls, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    struct http_server_config server = {.address = "127.0.0.1", .tls = f->server_tls};
    if (http_server_new(f->loop, &server, &handler, f, &f->server, &st) != CODE_OK)
        fail_msg("%s", st.msg);
}

static void make_client_tls(const struct tls_client_config *config)
{
    struct status st;
    if (tls_client_new(config, &f->client_tls, &st) != CODE_OK)
        fail_msg("%s", st.msg);
}

static void start_client(const char *verify_name)
{
    struct http_client_config config = {.host = "127.0.0.1",
                                        .port = http_server_port(f->server),
                                        .tls = f->client_tls,
                                        .verify_name = verify_name,
                                        .on_open = on_open,
                                        .on_closed = on_closed};
    f->opened = f->closed = false;
    f->client = http_client_new(f->loop, &config);
    assert_false(f->opened || f->closed); /* nothing calls back before it returns */
}

static bool is_open(void *arg)
{
    (void)arg;
    return f->opened || f->closed;
}

static bool is_closed(void *arg)
{
    (void)arg;
    return f->closed;
}

static bool has_responses(void *arg)
{
    return f->responses + f->failures >= *(int *)arg;
}

static bool is_held(void *arg)
{
    (void)arg;
    return f->held != NULL;
}

static bool is_gone(void *arg)
{
    (void)arg;
    return f->gone > 0;
}

static void wait_responses(int n)
{
    assert_true(spin_until(f->loop, has_responses, &n));
}

static void tls_pair(enum tls_client_auth auth, const struct test_cert *own)
{
    struct tls_server_config server = server_config(auth);
    struct tls_client_config client = client_config(own);
    start_server(&server);
    make_client_tls(&client);
    start_client("gw.test");
}

static void expect_closed(enum code code, const char *text)
{
    assert_true(spin_until(f->loop, is_closed, NULL));
    if (f->closed_status.code != code || !strstr(f->closed_status.msg, text))
        print_error("closed with %s: %s\n", code_name(f->closed_status.code), f->closed_status.msg);
    assert_int_equal(f->closed_status.code, code);
    assert_non_null(strstr(f->closed_status.msg, text));
}

/* --- plain ---------------------------------------------------------------------------------------------- */

static void calls_are_answered_in_order(void **state)
{
    (void)state;
    start_server(NULL);
    start_client(NULL);
    send_call("/a", "1", "a");
    send_call("/b", "2", "b");
    send_call("/c", "3", "c");
    send_call("/d", "4", "d");
    wait_responses(4);
    assert_string_equal(f->body, "a1;b2;c3;d4;");
    assert_int_equal(f->last_status, 200);
}

static void second_call_goes_out_behind_a_held_one_and_ends_it(void **state)
{
    (void)state;
    start_server(NULL);
    start_client(NULL);
    send_call("/hold", "", "checkin:");
    assert_true(spin_until(f->loop, is_held, NULL));
    send_call("/result", "r", "result:");
    wait_responses(2);
    assert_string_equal(f->body, "checkin:ended;result:r;");
    assert_int_equal(f->pending_behind, 1);
}

static void http_errors_are_responses_with_their_retry_after(void **state)
{
    (void)state;
    start_server(NULL);
    start_client(NULL);
    send_call("/busy", "", NULL);
    wait_responses(1);
    assert_int_equal(f->last_status, 503);
    assert_int_equal(f->failures, 0);
}

static void call_without_answer_in_time_closes_the_connection(void **state)
{
    (void)state;
    start_server(NULL);
    start_client(NULL);
    struct http_client_request request = {.method = "GET", .path = "/hold", .timeout_ms = 30};
    http_client_send(f->client, &request, on_response, NULL);
    wait_responses(1);
    assert_int_equal(f->call_status.code, CODE_DEADLINE_EXCEEDED);
    expect_closed(CODE_DEADLINE_EXCEEDED, "no answer");
    assert_true(spin_until(f->loop, is_gone, NULL));
}

static void refused_connection_fails_calls_and_says_so(void **state)
{
    (void)state;
    start_server(NULL);
    uint16_t port = http_server_port(f->server);
    http_server_free(TAKE(f->server));
    struct http_client_config config = {.host = "127.0.0.1", .port = port, .on_closed = on_closed};
    f->client = http_client_new(f->loop, &config);
    send_call("/x", "", NULL);
    expect_closed(CODE_UNAVAILABLE, "refused");
    assert_int_equal(f->failures, 1);
    assert_int_equal(f->call_status.code, CODE_UNAVAILABLE);
    send_call("/late", "", NULL); /* fails from the loop, not here */
    assert_int_equal(f->failures, 1);
    wait_responses(2);
}

static void names_are_looked_up(void **state)
{
    (void)state;
    start_server(NULL);
    struct http_client_config config = {
        .host = "localhost", .port = http_server_port(f->server), .on_open = on_open, .on_closed = on_closed};
    f->client = http_client_new(f->loop, &config);
    send_call("/x", "n", NULL);
    wait_responses(1);
    assert_string_equal(f->body, "n;");
}

static void client_freed_during_a_look_up_is_gone(void **state)
{
    (void)state;
    struct http_client_config config = {.host = "no-such-host.invalid", .port = 1, .on_closed = on_closed};
    for (int i = 0; i < 5; i++) {
        f->client = http_client_new(f->loop, &config);
        spin(f->loop);
        http_client_free(TAKE(f->client));
    }
    f->client = http_client_new(f->loop, &config);
    expect_closed(CODE_UNAVAILABLE, "no-such-host.invalid");
}

static void server_going_away_fails_what_is_open(void **state)
{
    (void)state;
    start_server(NULL);
    start_client(NULL);
    send_call("/hold", "", NULL);
    assert_true(spin_until(f->loop, is_held, NULL));
    send_call("/hold", "", NULL);
    f->send_again_on_failure = true;
    http_server_free(TAKE(f->server));
    wait_responses(2);
    expect_closed(CODE_UNAVAILABLE, "closed");
    wait_responses(3); /* the one sent inside the callback */
}

static void answer_with_close_ends_the_client_after_it(void **state)
{
    (void)state;
    f->close_answers = true;
    start_server(NULL);
    start_client(NULL);
    send_call("/x", "1", NULL);
    expect_closed(CODE_UNAVAILABLE, "closes");
    assert_string_equal(f->body, "1;");
}

static void owner_may_free_the_client_inside_its_callbacks(void **state)
{
    (void)state;
    f->free_in_response = true;
    start_server(NULL);
    start_client(NULL);
    send_call("/x", "1", NULL);
    send_call("/y", "2", NULL);
    wait_responses(1);
    assert_null(f->client);
    f->free_in_response = false;
    f->free_in_closed = true;
    f->close_answers = true;
    start_client(NULL);
    send_call("/x", "1", NULL);
    assert_true(spin_until(f->loop, is_closed, NULL));
    assert_null(f->client);
}

/* A server that says what the test wants, whatever is asked. */
static void answer_raw(const char *answer, enum code code, const char *text)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(at);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    getsockname(listener, (struct sockaddr *)&at, &len);
    struct http_client_config config = {
        .host = "127.0.0.1", .port = ntohs(at.sin_port), .on_open = on_open, .on_closed = on_closed};
    f->opened = f->closed = false;
    f->client = http_client_new(f->loop, &config);
    send_call("/x", "", NULL);
    int fd = accept(listener, NULL, NULL);
    assert_true(spin_until(f->loop, is_open, NULL));
    spin(f->loop);
    char request[1000]; /* unread, it would make the close a reset */
    assert_true(recv(fd, request, sizeof(request), 0) > 0);
    assert_int_equal(send(fd, answer, strlen(answer), MSG_NOSIGNAL), strlen(answer));
    close(fd);
    close(listener);
    expect_closed(code, text);
    http_client_free(TAKE(f->client));
}

static void malformed_responses_end_the_connection(void **state)
{
    (void)state;
    answer_raw("SSH-2.0-x\r\n\r\n", CODE_INVALID_ARGUMENT, "malformed response");
    answer_raw("HTTP/1.1 200 OK\r\n\r\nendless", CODE_INVALID_ARGUMENT, "without a length");
    answer_raw("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", CODE_INVALID_ARGUMENT, "too large");
    assert_int_equal(f->responses, 0);
    answer_raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nstray", CODE_INVALID_ARGUMENT, "nobody asked");
    assert_int_equal(f->responses, 1);
    answer_raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", CODE_UNAVAILABLE, "closed");
    assert_int_equal(f->responses, 1);
}

/* --- TLS ------------------------------------------------------------------------------------------------ */

static void both_sides_prove_who_they_are(void **state)
{
    (void)state;
    tls_pair(TLS_CLIENT_REQUIRED, f->agent);
    send_call("/x", "hello", NULL);
    wait_responses(1);
    assert_string_equal(f->body, "hello;");
    assert_int_equal(f->verified, 1);
    assert_true(f->peer_len > 100);
    assert_int_equal(f->resumed, 0);
    assert_false(http_client_resumed(f->client));
}

static void large_bodies_pass_both_ways(void **state)
{
    (void)state;
    tls_pair(TLS_CLIENT_NONE, NULL);
    static char body[400 * 1024];
    memset(body, 'x', sizeof(body) - 1);
    send_call("/x", body, NULL);
    wait_responses(1);
    assert_int_equal(f->responses, 1);
    assert_int_equal(strlen(f->body), sizeof(f->body) - 1);
}

static void optional_certificate_may_be_missing(void **state)
{
    (void)state;
    tls_pair(TLS_CLIENT_OPTIONAL, NULL);
    send_call("/x", "1", NULL);
    wait_responses(1);
    assert_int_equal(f->responses, 1);
    assert_int_equal(f->peer_len, 0);
}

static void missing_certificate_is_named_to_the_client(void **state)
{
    (void)state;
    tls_pair(TLS_CLIENT_REQUIRED, NULL);
    send_call("/x", "1", NULL);
    expect_closed(CODE_UNAUTHENTICATED, "the server refused our certificate");
    assert_int_equal(f->failures, 1);
    assert_int_equal(f->call_status.code, CODE_UNAUTHENTICATED);
    assert_int_equal(f->requests, 0);
    assert_int_equal(f->refused, 1);
}

static void each_verdict_reaches_the_client_as_its_alert(void **state)
{
    (void)state;
    static const struct {
        enum tls_verdict verdict;
        const char *alert, *reason;
    } rows[] = {
        {TLS_PEER_REVOKED, "certificate revoked", "certificate revoked"},
        {TLS_PEER_EXPIRED, "certificate expired", "generation 3 is over"},
        {TLS_PEER_UNSUPPORTED, "unsupported certificate", "another purpose"},
        {TLS_PEER_DENIED, "bad certificate", "certificate denied"},
        {TLS_PEER_UNKNOWN, "certificate unknown", "certificate unknown"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        f->verdict = rows[i].verdict;
        f->refused = 0;
        tls_pair(TLS_CLIENT_REQUIRED, f->agent);
        send_call("/x", "1", NULL);
        expect_closed(CODE_UNAUTHENTICATED, rows[i].alert);
        assert_int_equal(f->refused, 1);
        assert_non_null(strstr(f->refusal, "127.0.0.1|CN=agent-1|" AGENT_URI "|"));
        assert_non_null(strstr(f->refusal, rows[i].reason));
        http_client_free(TAKE(f->client));
        http_server_free(TAKE(f->server));
        tls_context_free(TAKE(f->client_tls));
        tls_context_free(TAKE(f->server_tls));
    }
    assert_int_equal(f->requests, 0);
}

static void certificate_of_another_ca_is_refused(void **state)
{
    (void)state;
    cert_free(f->agent);
    f->agent = cert_make(&(struct cert_spec){.name = "stranger", .uri = AGENT_URI}, f->other_ca);
    tls_pair(TLS_CLIENT_OPTIONAL, f->agent);
    send_call("/x", "1", NULL);
    expect_closed(CODE_UNAUTHENTICATED, "unknown CA");
    assert_int_equal(f->verified, 0);
    assert_non_null(strstr(f->refusal, "CN=stranger"));
}

static void expired_certificate_is_refused(void **state)
{
    (void)state;
    cert_free(f->agent);
    f->agent = cert_make(
        &(struct cert_spec){.name = "old", .uri = AGENT_URI, .not_before_s = -7200, .not_after_s = -60},
        f->ca);
    tls_pair(TLS_CLIENT_REQUIRED, f->agent);
    send_call("/x", "1", NULL);
    expect_closed(CODE_UNAUTHENTICATED, "certificate expired");
    assert_non_null(strstr(f->refusal, "certificate has expired"));
}

static void client_refuses_a_server_of_another_ca_or_name(void **state)
{
    (void)state;
    struct tls_server_config server = server_config(TLS_CLIENT_NONE);
    struct tls_client_config client = client_config(NULL);
    start_server(&server);
    make_client_tls(&client);
    start_client("other.test");
    expect_closed(CODE_PERMISSION_DENIED, "hostname mismatch");
    http_client_free(TAKE(f->client));
    start_client(NULL); /* the address, which the certificate holds too */
    send_call("/x", "1", NULL);
    wait_responses(1);
    assert_int_equal(f->responses, 1);
    http_client_free(TAKE(f->client));
    tls_context_free(TAKE(f->client_tls));
    client.ca = (const uint8_t *)f->other_ca->pem;
    client.ca_len = strlen(f->other_ca->pem);
    make_client_tls(&client);
    f->refused = 0;
    start_client("gw.test");
    expect_closed(CODE_PERMISSION_DENIED, "the server's certificate is refused");
    assert_int_equal(f->requests, 1);
    assert_true(spin_until(f->loop, is_closed, NULL));
    spin(f->loop);
    assert_int_equal(f->refused, 1);
    assert_non_null(strstr(f->refusal, "|1")); /* by the peer */
}

static void pinned_client(const struct test_cert *pinned, const char *name)
{
    uint8_t pin[32];
    cert_spki_sha256(pinned, pin);
    struct tls_client_config client = {.spki_pin = pin, .min_version = TLS_1_3};
    tls_context_free(TAKE(f->client_tls));
    make_client_tls(&client);
    start_client(name);
}

static void pin_of_a_sent_ca_key_is_the_only_anchor(void **state)
{
    (void)state;
    struct tls_server_config server = server_config(TLS_CLIENT_NONE);
    start_server(&server);
    pinned_client(f->ca, "gw.test");
    send_call("/x", "1", NULL);
    wait_responses(1);
    assert_string_equal(f->body, "1;");
    http_client_free(TAKE(f->client));
    pinned_client(f->server_cert, ""); /* the leaf itself, no name */
    send_call("/x", "2", NULL);
    wait_responses(2);
    assert_string_equal(f->body, "1;2;");
    http_client_free(TAKE(f->client));
    pinned_client(f->ca, "other.test");
    expect_closed(CODE_PERMISSION_DENIED, "hostname mismatch");
    http_client_free(TAKE(f->client));
    pinned_client(f->other_ca, "gw.test");
    expect_closed(CODE_PERMISSION_DENIED, "pinned key");
}

static void pinned_certificate_merely_sent_along_proves_nothing(void **state)
{
    (void)state;
    /* The chain ends in another CA, with the pinned one attached. */
    struct test_cert *fake = cert_make(&(struct cert_spec){.name = "fake", .dns = "gw.test"}, f->other_ca);
    char *two = cert_bundle(fake, f->other_ca);
    char *chain;
    assert_true(asprintf(&chain, "%s%s", two, f->ca->pem) > 0);
    struct tls_server_config server = server_config(TLS_CLIENT_NONE);
    server.chain = (const uint8_t *)chain;
    server.chain_len = strlen(chain);
    server.key = fake->key;
    start_server(&server);
    pinned_client(f->ca, "gw.test");
    expect_closed(CODE_PERMISSION_DENIED, "refused");
    assert_int_equal(f->requests, 0);
    free(chain);
    free(two);
    cert_free(fake);
}

static void reconnect(void)
{
    http_client_free(TAKE(f->client));
    start_client("gw.test");
    f->responses = f->failures = 0;
    f->body[0] = 0;
    send_call("/x", "again", NULL);
    wait_responses(1);
}

static void session_is_resumed_with_the_peers_certificate(void **state)
{
    (void)state;
    tls_pair(TLS_CLIENT_REQUIRED, f->agent);
    send_call("/x", "1", NULL);
    wait_responses(1);
    size_t peer_len = f->peer_len;
    for (int i = 1; i <= 3; i++) { /* also after connections that were cut, not closed in order */
        reconnect();
        assert_string_equal(f->body, "again;");
        assert_true(http_client_resumed(f->client));
        assert_int_equal(f->resumed, i);
        assert_int_equal(f->peer_len, peer_len);
    }
}

static void session_of_a_revoked_peer_is_not_resumed(void **state)
{
    (void)state;
    tls_pair(TLS_CLIENT_REQUIRED, f->agent);
    send_call("/x", "1", NULL);
    wait_responses(1);
    f->verdict = TLS_PEER_REVOKED;
    reconnect();
    assert_int_equal(f->failures, 1);
    assert_int_equal(f->resumed, 0);
    expect_closed(CODE_UNAUTHENTICATED, "certificate revoked");
    assert_int_equal(f->requests, 1);
}

static void session_of_an_expired_certificate_is_not_resumed(void **state)
{
    (void)state;
    tls_pair(TLS_CLIENT_REQUIRED, f->agent);
    send_call("/x", "1", NULL);
    wait_responses(1);
    clock_fake(clock_wall_ms() + 2 * 3600 * 1000);
    http_client_free(TAKE(f->client));
    start_client("gw.test");
    /* The fake clock stands still; the loop's timers do not. */
    expect_closed(CODE_PERMISSION_DENIED, "expired"); /* a full handshake: the server's has expired as well */
    clock_real();
    assert_int_equal(f->resumed, 0);
}

static void dropped_sessions_are_not_resumed(void **state)
{
    (void)state;
    tls_pair(TLS_CLIENT_REQUIRED, f->agent);
    send_call("/x", "1", NULL);
    wait_responses(1);
    tls_drop_sessions(f->server_tls);
    reconnect();
    assert_string_equal(f->body, "again;");
    assert_int_equal(f->resumed, 0);
    assert_int_equal(f->verified, 2);
}

static void certificate_is_replaced_while_connections_live(void **state)
{
    (void)state;
    tls_pair(TLS_CLIENT_REQUIRED, f->agent);
    send_call("/x", "1", NULL);
    wait_responses(1);
    struct test_cert *next = cert_make(&(struct cert_spec){.name = "gateway", .dns = "new.test"}, f->ca);
    struct tls_server_config config = server_config(TLS_CLIENT_REQUIRED);
    config.chain = (const uint8_t *)next->pem;
    config.chain_len = strlen(next->pem);
    struct status st;
    assert_int_equal(tls_server_replace(f->server_tls, &config, &st),
                     CODE_INVALID_ARGUMENT); /* the old key */
    assert_non_null(strstr(st.msg, "does not fit"));
    config.key = next->key;
    assert_int_equal(tls_server_replace(f->server_tls, &config, &st), CODE_OK);
    send_call("/x", "2", NULL);
    wait_responses(2);
    assert_string_equal(f->body, "1;2;");
    http_client_free(TAKE(f->client));
    start_client("new.test");
    send_call("/x", "3", NULL);
    wait_responses(3);
    assert_string_equal(f->body, "1;2;3;");
    assert_int_equal(f->resumed, 0);
    cert_free(next);
}

static void tls_1_2_is_taken_only_where_allowed(void **state)
{
    (void)state;
    struct tls_server_config server = server_config(TLS_CLIENT_NONE);
    start_server(&server);
    struct raw *raw = raw_connect(f->loop, http_server_port(f->server));
    /* ClientHello of TLS 1.2 without supported_versions. */
    static const unsigned char hello[] = {0x16, 3,  1,  0,  0x2f, 1,  0,  0,    0x2b, 3,  3,  1,  2,
                                          3,    4,  5,  6,  7,    8,  9,  10,   11,   12, 13, 14, 15,
                                          16,   17, 18, 19, 20,   21, 22, 23,   24,   25, 26, 27, 28,
                                          29,   30, 31, 32, 0,    0,  2,  0xc0, 0x2b, 1,  0,  0,  0};
    assert_int_equal(send(raw->fd, hello, sizeof(hello), MSG_NOSIGNAL), sizeof(hello));
    (void)raw_expect_close(raw);
    assert_int_equal(raw->in[0], 0x15);              /* alert */
    assert_int_equal((unsigned char)raw->in[6], 70); /* protocol_version */
    assert_int_equal(f->refused, 1);
    raw_free(raw);
}

static void garbage_before_tls_closes_that_connection_only(void **state)
{
    (void)state;
    struct tls_server_config server = server_config(TLS_CLIENT_NONE);
    struct tls_client_config client = client_config(NULL);
    start_server(&server);
    struct raw *raw = raw_connect(f->loop, http_server_port(f->server));
    assert_int_equal(http_server_handshakes(f->server), 1);
    raw_send(raw, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    (void)raw_expect_close(raw);
    assert_int_equal(http_server_handshakes(f->server), 0);
    raw_free(raw);
    make_client_tls(&client);
    start_client("gw.test");
    send_call("/x", "1", NULL);
    wait_responses(1);
    assert_int_equal(f->responses, 1);
}

static bool no_handshakes(void *arg)
{
    (void)arg;
    return http_server_handshakes(f->server) == 0;
}

static void silent_handshake_times_out(void **state)
{
    (void)state;
    struct tls_server_config config = server_config(TLS_CLIENT_NONE);
    struct status st;
    assert_int_equal(tls_server_new(&config, &f->server_tls, &st), CODE_OK);
    struct http_server_config server = {
        .address = "127.0.0.1", .tls = f->server_tls, .handshake_timeout_ms = 30};
    assert_int_equal(http_server_new(f->loop, &server, &handler, f, &f->server, &st), CODE_OK);
    struct raw *raw = raw_connect(f->loop, http_server_port(f->server));
    assert_int_equal(http_server_handshakes(f->server), 1);
    assert_true(spin_until(f->loop, no_handshakes, NULL));
    assert_true(raw_expect_close(raw));
    assert_int_equal(f->refused, 0); /* it refused nothing */
    raw_free(raw);
}

/* Connects from another address of this host, and says nothing. */
static int silent_peer(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1)};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons(http_server_port(f->server))};
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&from, sizeof(from)) == 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static bool is_full(void *arg)
{
    return http_server_handshakes(f->server) >= *(size_t *)arg;
}

#define SILENT 40

static void silent_handshakes_keep_nobody_out_for_long(void **state)
{
    (void)state;
    struct tls_server_config config = server_config(TLS_CLIENT_NONE);
    struct tls_client_config client = client_config(NULL);
    struct status st;
    assert_int_equal(tls_server_new(&config, &f->server_tls, &st), CODE_OK);
    struct http_server_config server = {.address = "127.0.0.1",
                                        .tls = f->server_tls,
                                        .handshake_timeout_ms = 600000,
                                        .max_handshakes = 8,
                                        .patience_ms = 50};
    assert_int_equal(http_server_new(f->loop, &server, &handler, f, &f->server, &st), CODE_OK);
    int silent[SILENT];
    for (int i = 0; i < SILENT; i++)
        silent[i] = silent_peer();
    assert_true(spin_until(f->loop, is_full, &server.max_handshakes));
    make_client_tls(&client);
    start_client("gw.test");
    send_call("/x", "1", NULL); /* behind all of them */
    wait_responses(1);
    assert_int_equal(f->responses, 1);
    assert_in_range(http_server_handshakes(f->server), 1, 7);
    for (int i = 0; i < SILENT; i++)
        (void)close(silent[i]);
    assert_true(spin_until(f->loop, no_handshakes, NULL));
}

static void held_tls_client_that_leaves_is_noticed(void **state)
{
    (void)state;
    tls_pair(TLS_CLIENT_REQUIRED, f->agent);
    send_call("/hold", "", NULL);
    assert_true(spin_until(f->loop, is_held, NULL));
    http_client_free(TAKE(f->client));
    assert_true(spin_until(f->loop, is_gone, NULL));
    assert_int_equal(http_server_connections(f->server), 0);
}

static void connecting_to_what_never_answers_times_out(void **state)
{
    (void)state;
    /* A listener that nobody serves: TCP is up, TLS never. */
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(at);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    getsockname(listener, (struct sockaddr *)&at, &len);
    struct tls_client_config client = client_config(NULL);
    make_client_tls(&client);
    struct http_client_config config = {.host = "127.0.0.1",
                                        .port = ntohs(at.sin_port),
                                        .tls = f->client_tls,
                                        .connect_timeout_ms = 30,
                                        .on_closed = on_closed};
    f->client = http_client_new(f->loop, &config);
    expect_closed(CODE_DEADLINE_EXCEEDED, "took too long");
    close(listener);
}

static void unusable_material_is_refused_by_name(void **state)
{
    (void)state;
    struct status st;
    struct tls_context *context = NULL;
    struct tls_server_config config = server_config(TLS_CLIENT_REQUIRED);
    config.key = f->agent->key;
    assert_int_equal(tls_server_new(&config, &context, &st), CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(st.msg, "does not fit"));
    config = server_config(TLS_CLIENT_REQUIRED);
    config.chain = (const uint8_t *)"nonsense";
    config.chain_len = 8;
    assert_int_equal(tls_server_new(&config, &context, &st), CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(st.msg, "chain"));
    config = server_config(TLS_CLIENT_REQUIRED);
    config.client_ca_len = 0;
    assert_int_equal(tls_server_new(&config, &context, &st), CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(st.msg, "CA bundle"));
    AUTO_SECRET struct secret *no_key = secret_dup("-----BEGIN NOTHING", 18);
    config = server_config(TLS_CLIENT_REQUIRED);
    config.key = no_key;
    assert_int_equal(tls_server_new(&config, &context, &st), CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(st.msg, "key cannot be read"));
    struct tls_client_config neither = {.min_version = TLS_1_3};
    assert_int_equal(tls_client_new(&neither, &context, &st), CODE_INVALID_ARGUMENT);
    assert_null(context);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(calls_are_answered_in_order),
        TEST(second_call_goes_out_behind_a_held_one_and_ends_it),
        TEST(http_errors_are_responses_with_their_retry_after),
        TEST(call_without_answer_in_time_closes_the_connection),
        TEST(refused_connection_fails_calls_and_says_so),
        TEST(names_are_looked_up),
        TEST(client_freed_during_a_look_up_is_gone),
        TEST(server_going_away_fails_what_is_open),
        TEST(answer_with_close_ends_the_client_after_it),
        TEST(owner_may_free_the_client_inside_its_callbacks),
        TEST(malformed_responses_end_the_connection),
        TEST(both_sides_prove_who_they_are),
        TEST(large_bodies_pass_both_ways),
        TEST(optional_certificate_may_be_missing),
        TEST(missing_certificate_is_named_to_the_client),
        TEST(each_verdict_reaches_the_client_as_its_alert),
        TEST(certificate_of_another_ca_is_refused),
        TEST(expired_certificate_is_refused),
        TEST(client_refuses_a_server_of_another_ca_or_name),
        TEST(pin_of_a_sent_ca_key_is_the_only_anchor),
        TEST(pinned_certificate_merely_sent_along_proves_nothing),
        TEST(session_is_resumed_with_the_peers_certificate),
        TEST(session_of_a_revoked_peer_is_not_resumed),
        TEST(session_of_an_expired_certificate_is_not_resumed),
        TEST(dropped_sessions_are_not_resumed),
        TEST(certificate_is_replaced_while_connections_live),
        TEST(tls_1_2_is_taken_only_where_allowed),
        TEST(garbage_before_tls_closes_that_connection_only),
        TEST(silent_handshake_times_out),
        TEST(silent_handshakes_keep_nobody_out_for_long),
        TEST(held_tls_client_that_leaves_is_noticed),
        TEST(connecting_to_what_never_answers_times_out),
        TEST(unusable_material_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
