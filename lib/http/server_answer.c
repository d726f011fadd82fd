/* Answers, whole or as a stream, into what their connection sends. See server_parts.h. */
#include "http/server_parts.h"

#include <assert.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"

/* --- answers -------------------------------------------------------------------------------------------- */

static const char *date_now(void)
{
    static _Thread_local int64_t second = -1;
    static _Thread_local char text[40];
    int64_t now = clock_wall_ms() / 1000;
    if (now != second) {
        second = now;
        time_t t = (time_t)now;
        struct tm tm;
        (void)gmtime_r(&t, &tm);
        static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
        (void)snprintf(text, sizeof(text), "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + (tm.tm_wday * 3),
                       tm.tm_mday, months + (tm.tm_mon * 3), (tm.tm_year + 1900) % 10000, tm.tm_hour,
                       tm.tm_min, tm.tm_sec);
    }
    return text;
}

static bool put_head(struct http_connection *c, int status, const struct http_header *headers)
{
    struct buf *out = conn_out(&c->conn);
    if (!buf_printf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, http_reason(status), date_now()))
        return false;
    for (const struct http_header *h = headers; h && h->name; h++) {
        if (!buf_printf(out, "%s: %s\r\n", h->name, h->value))
            return false;
    }
    return !c->close_after || buf_puts(out, "Connection: close\r\n");
}

static bool put_answer(struct http_connection *c, int status, const struct http_header *headers,
                       const void *body, size_t len, bool no_body)
{
    struct buf *out = conn_out(&c->conn);
    bool bodiless = status == 204 || status == 304;
    if (!put_head(c, status, headers))
        return false;
    if (!bodiless && !buf_printf(out, "Content-Length: %zu\r\n", len))
        return false;
    return buf_puts(out, "\r\n") && (bodiless || no_body || buf_append(out, body, len));
}

/* Whether the connection ends with the answer to this request. */
static void decide_close(struct http_request *request)
{
    struct http_connection *c = request->connection;
    if (!request->message->keep_alive || request->message->http_1_0 || c->server->draining)
        c->close_after = true;
}

/* The answer is queued: the request is over. */
static void finish(struct http_request *request)
{
    struct http_connection *c = request->connection;
    assert(c->current == request);
    c->current = NULL;
    c->phase = PHASE_NONE;
    request_free(request);
    if (c->close_after)
        conn_close_gracefully(&c->conn);
    if (!c->serving)
        conn_kick(&c->conn);
}

static bool headers_are_sane(const struct http_header *headers)
{
    for (const struct http_header *h = headers; h && h->name; h++) {
        if (!http_header_is_sane(h))
            return false;
    }
    return true;
}

void http_respond(struct http_request *request, int status, const struct http_header *headers,
                  const void *body, size_t body_len)
{
    assert(!request->streaming);
    struct http_connection *c = request->connection;
    decide_close(request);
    if (!headers_are_sane(headers)) {
        log_debug("answer with a header that cannot be sent", "path", request->message->path, NULL);
        status = 500;
        headers = NULL;
        body_len = 0;
    }
    if (!put_answer(c, status, headers, body, body_len, request->no_body))
        conn_abort(&c->conn);
    finish(request);
}

void http_respond_and_close(struct http_request *request, int status, const struct http_header *headers,
                            const void *body, size_t body_len)
{
    request->connection->close_after = true;
    http_respond(request, status, headers, body, body_len);
}

static bool put_json_text(struct buf *out, const char *text)
{
    bool good = buf_puts(out, "\"");
    for (const unsigned char *c = (const unsigned char *)text; *c && good; c++) {
        if (*c == '"' || *c == '\\')
            good = buf_printf(out, "\\%c", *c);
        else if (*c < 0x20 || *c == 0x7f)
            good = buf_printf(out, "\\u%04x", *c);
        else
            good = buf_append(out, c, 1);
    }
    return good && buf_puts(out, "\"");
}

static bool put_problem(struct buf *out, int status, const char *slug, const char *title, const char *detail)
{
    return buf_printf(out, "{\"type\":\"urn:clm:problem:%s\",\"title\":", slug) &&
           put_json_text(out, title) && buf_printf(out, ",\"status\":%d,\"detail\":", status) &&
           put_json_text(out, detail) && buf_puts(out, "}\n");
}

#define PROBLEM_JSON "application/problem+json"

void http_respond_problem(struct http_request *request, int http_status, const struct status *st,
                          const struct http_header *headers)
{
    const struct code_info *info = code_info(st->code);
    int status = http_status ? http_status : info->http_status;
    AUTO_BUF struct buf body = {0};
    struct http_header all[18] = {{"Content-Type", PROBLEM_JSON}};
    size_t n = 1;
    for (const struct http_header *h = headers; h && h->name && n < ARRAY_LEN(all) - 1; h++)
        all[n++] = *h;
    if (!put_problem(&body, status, info->slug, info->title, st->msg))
        abort();
    http_respond(request, status, all, body.data, body.len);
}

bool answer_put_refusal(struct http_connection *c, int status, const char *detail)
{
    static const struct http_header headers[] = {{"Content-Type", PROBLEM_JSON}, {0}};
    AUTO_BUF struct buf body = {0};
    return put_problem(&body, status, "malformed-request", http_reason(status), detail) &&
           put_answer(c, status, headers, body.data, body.len, false);
}

/* --- streams -------------------------------------------------------------------------------------------- */

void http_stream_begin(struct http_request *request, int status, const struct http_header *headers)
{
    assert(!request->streaming);
    struct http_connection *c = request->connection;
    decide_close(request);
    request->streaming = true;
    request->chunked = !request->message->http_1_0;
    if (!headers_are_sane(headers)) {
        status = 500;
        headers = NULL;
    }
    if (!put_head(c, status, headers) ||
        !buf_puts(conn_out(&c->conn), request->chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n"))
        conn_abort(&c->conn);
    if (!c->serving)
        conn_kick(&c->conn);
}

bool http_stream_write(struct http_request *request, const void *data, size_t len)
{
    assert(request->streaming);
    struct http_connection *c = request->connection;
    struct buf *out = conn_out(&c->conn);
    if (!len || request->no_body)
        return !request->full;
    size_t limit = c->server->config.stream_bytes;
    bool good = conn_pending(&c->conn) + len <= 2 * limit;
    if (good && request->chunked)
        good = buf_printf(out, "%zx\r\n", len) && buf_append(out, data, len) && buf_puts(out, "\r\n");
    else if (good)
        good = buf_append(out, data, len);
    if (!good) {
        conn_abort(&c->conn);
        return false;
    }
    if (conn_pending(&c->conn) >= limit)
        request->full = true;
    if (!c->serving)
        conn_kick(&c->conn);
    return !request->full;
}

void http_stream_end(struct http_request *request)
{
    assert(request->streaming);
    struct http_connection *c = request->connection;
    if (request->chunked && !request->no_body && !buf_puts(conn_out(&c->conn), "0\r\n\r\n"))
        conn_abort(&c->conn);
    finish(request);
}
