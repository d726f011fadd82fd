/*
 * The head is gathered whole, checked byte by byte, handed to http_parser in one piece and cut into C strings
 * in place; bodies go through http_parser as they come, behind the check of their framing. Pure: no I/O.
 */
#include "http/parse.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#define INTERIM_MAX 8

void http_limits_fill(struct http_limits *limits)
{
    if (!limits->head_bytes)
        limits->head_bytes = 16 * 1024;
    if (limits->head_bytes > 64 * 1024)
        limits->head_bytes = 64 * 1024;
    if (!limits->url_bytes)
        limits->url_bytes = 4096;
    if (!limits->headers)
        limits->headers = 64;
    if (!limits->body_bytes)
        limits->body_bytes = 512 * 1024;
}

/* --- characters --------------------------------------------------------------------------------------- */

static bool is_token_char(unsigned char c)
{
    /* RFC 9110 section 5.6.2. */
    if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))
        return true;
    return c && strchr("!#$%&'*+-.^_`|~", c);
}

static bool is_token(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!is_token_char((unsigned char)s[i]))
            return false;
    }
    return len > 0;
}

bool http_header_is_sane(const struct http_header *header)
{
    if (!is_token(header->name, strlen(header->name)))
        return false;
    for (const unsigned char *c = (const unsigned char *)header->value; *c; c++) {
        if ((*c < 0x20 && *c != '\t') || *c == 0x7f)
            return false;
    }
    return true;
}

static bool is_utf8(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    while (*s) {
        size_t n = *s < 0x80                 ? 1
                   : *s >= 0xc2 && *s < 0xe0 ? 2
                   : (*s & 0xf0) == 0xe0     ? 3
                   : *s >= 0xf0 && *s < 0xf5 ? 4
                                             : 0;
        if (!n)
            return false;
        uint32_t c = n == 1 ? *s : *s & (0xffu >> (n + 1));
        for (size_t i = 1; i < n; i++) {
            if ((s[i] & 0xc0) != 0x80)
                return false;
            c = c << 6 | (s[i] & 0x3f);
        }
        if ((n == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) ||
            (n == 4 && (c < 0x10000 || c > 0x10ffff)))
            return false;
        s += n;
    }
    return true;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool http_percent_decode(const char *in, size_t len, bool plus_is_space, char *out, size_t out_size)
{
    size_t o = 0;
    for (size_t i = 0; i < len; i++) {
        char c = in[i];
        if (c == '%') {
            int high = i + 2 < len ? hex_value(in[i + 1]) : -1;
            int low = high >= 0 ? hex_value(in[i + 2]) : -1;
            if (low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (!c || o + 1 >= out_size)
            return false;
        out[o++] = c;
    }
    if (o >= out_size)
        return false;
    out[o] = 0;
    return true;
}

/* --- message ------------------------------------------------------------------------------------------ */

void http_message_free(struct http_message *message)
{
    if (!message)
        return;
    free(message->head);
    free(message->fields);
    buf_done(&message->body);
    free(message);
}

const char *http_message_field(const struct http_message *message, const char *name)
{
    for (size_t i = 0; i < message->field_count; i++) {
        if (strcasecmp(message->fields[i].name, name) == 0)
            return message->fields[i].value;
    }
    return NULL;
}

size_t http_message_field_count(const struct http_message *message, const char *name)
{
    size_t n = 0;
    for (size_t i = 0; i < message->field_count; i++)
        n += strcasecmp(message->fields[i].name, name) == 0;
    return n;
}

/* --- parser ------------------------------------------------------------------------------------------- */

void parser_init(struct parser *parser, enum http_parser_type type, const struct http_limits *limits)
{
    *parser = (struct parser){.type = type, .limits = limits};
    buf_init(&parser->head, limits->head_bytes);
}

void parser_done(struct parser *parser)
{
    buf_done(&parser->head);
    http_message_free(parser->message);
    parser->message = NULL;
}

static void begin_again(struct parser *parser)
{
    unsigned interim = parser->interim;
    parser_done(parser);
    parser_init(parser, parser->type, parser->limits);
    parser->interim = interim;
}

bool parser_is_idle(const struct parser *parser)
{
    return !parser->head.len && !parser->message;
}

size_t parser_body_received(const struct parser *parser)
{
    return parser->message ? parser->message->body.len : 0;
}

struct http_message *parser_take(struct parser *parser)
{
    assert(parser->framed);
    struct http_message *message = TAKE(parser->message);
    begin_again(parser);
    parser->interim = 0;
    return message;
}

static bool fail(struct parser *parser, int status, const char *text)
{
    if (!parser->error) {
        parser->error_status = status;
        parser->error = text;
    }
    return false;
}

/* --- head --------------------------------------------------------------------------------------------- */

enum head_scan { HEAD_OPEN, HEAD_END, HEAD_BAD };

/* Ends a line whose LF is at i; says whether it was the empty one. */
static enum head_scan scan_line_end(struct parser *parser, size_t i)
{
    const uint8_t *s = parser->head.data;
    if (i == parser->line_start || s[i - 1] != '\r') {
        fail(parser, 400, "a line ends with LF alone");
        return HEAD_BAD;
    }
    bool empty = i - 1 == parser->line_start;
    if (empty && !parser->first_line_done) {
        fail(parser, 400, "empty line before the start line");
        return HEAD_BAD;
    }
    parser->first_line_done = true;
    parser->line_start = i + 1;
    return empty ? HEAD_END : HEAD_OPEN;
}

static bool scan_char(struct parser *parser, size_t i)
{
    const uint8_t *s = parser->head.data;
    uint8_t c = s[i];
    if (i > parser->line_start && s[i - 1] == '\r')
        return fail(parser, 400, "CR without LF");
    if (c == '\r')
        return true;
    if ((c < 0x20 && c != '\t') || c == 0x7f)
        return fail(parser, 400, "control character in the head");
    if (!parser->first_line_done) {
        if (c >= 0x80 || c == '\t')
            return fail(parser, 400, "start line is not plain ASCII");
        if (parser->type == HTTP_REQUEST && i > parser->limits->url_bytes + 16)
            return fail(parser, 414, "request target too long");
    } else if (i == parser->line_start && (c == ' ' || c == '\t')) {
        return fail(parser, 400, "folded header field");
    }
    return true;
}

static enum head_scan scan_head(struct parser *parser)
{
    for (; parser->scanned < parser->head.len; parser->scanned++) {
        size_t i = parser->scanned;
        if (parser->head.data[i] == '\n') {
            enum head_scan scan = scan_line_end(parser, i);
            if (scan == HEAD_END)
                parser->scanned++;
            if (scan != HEAD_OPEN)
                return scan;
        } else if (!scan_char(parser, i)) {
            return HEAD_BAD;
        }
    }
    return HEAD_OPEN;
}

/* While http_parser runs, name and value point at unterminated text; their ends are kept beside them. */
struct reading {
    struct parser *parser;
    char *target;
    size_t target_len;
    struct {
        size_t name, value;
    } * lengths;
};

static int on_url(http_parser *engine, const char *at, size_t len)
{
    struct reading *reading = engine->data;
    reading->target = (char *)(uintptr_t)at;
    reading->target_len = len;
    return 0;
}

static int on_header_field(http_parser *engine, const char *at, size_t len)
{
    struct reading *reading = engine->data;
    struct http_message *message = reading->parser->message;
    size_t n = message->field_count;
    if (n == reading->parser->limits->headers) {
        fail(reading->parser, 431, "too many header fields");
        return 1;
    }
    if (!is_token(at, len)) {
        fail(reading->parser, 400, "header field name is not a token");
        return 1;
    }
    message->fields[n].name = at;
    message->fields[n].value = at + len; /* the colon, made NUL: an empty value */
    reading->lengths[n].name = len;
    reading->lengths[n].value = 0;
    message->field_count++;
    return 0;
}

static int on_header_value(http_parser *engine, const char *at, size_t len)
{
    struct reading *reading = engine->data;
    struct http_message *message = reading->parser->message;
    if (!message->field_count)
        return 1;
    while (len && (at[len - 1] == ' ' || at[len - 1] == '\t'))
        len--;
    if (len) {
        message->fields[message->field_count - 1].value = at;
        reading->lengths[message->field_count - 1].value = len;
    }
    return 0;
}

static int on_headers_complete(http_parser *engine)
{
    struct reading *reading = engine->data;
    reading->parser->message->keep_alive = http_should_keep_alive(engine) != 0;
    return reading->parser->head_only ? 1 : 0; /* 1: nothing follows, whatever the fields say */
}

static int on_head_message_complete(http_parser *engine)
{
    struct reading *reading = engine->data;
    reading->parser->complete = true;
    return 0;
}

static const http_parser_settings head_settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_message_complete = on_head_message_complete,
};

static void terminate(const char *text, size_t len)
{
    ((char *)(uintptr_t)text)[len] = 0;
}

static bool only_digits(const char *s)
{
    size_t n = strspn(s, "0123456789");
    return n > 0 && n < 19 && !s[n];
}

/* How long the body is, by the one rule that leaves no second reading: RFC 9112 section 6.3, narrowed. */
static bool check_framing(struct parser *parser)
{
    const struct http_message *message = parser->message;
    size_t codings = http_message_field_count(message, "Transfer-Encoding");
    size_t lengths = http_message_field_count(message, "Content-Length");
    if (codings + lengths > 1)
        return fail(parser, 400, "more than one Content-Length or Transfer-Encoding");
    if (codings) {
        if (message->http_1_0 || strcasecmp(http_message_field(message, "Transfer-Encoding"), "chunked") != 0)
            return fail(parser, 501, "Transfer-Encoding other than chunked");
        parser->chunked = true;
    }
    if (lengths) {
        const char *length = http_message_field(message, "Content-Length");
        if (!only_digits(length))
            return fail(parser, 400, "Content-Length is not a number");
        parser->remaining = strtoull(length, NULL, 10);
        if (parser->remaining > parser->limits->body_bytes)
            return fail(parser, 413, "body too large");
    }
    return true;
}

static bool path_is_plain(const char *path)
{
    for (const char *c = path; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return false;
        if (c[0] == '/' && c[1] == '.' && (!c[2] || c[2] == '/' || (c[2] == '.' && (!c[3] || c[3] == '/'))))
            return false;
    }
    return is_utf8(path);
}

/* http_parser skips further spaces; the grammar has one on each side (RFC 9112 section 3). */
static bool start_line_is_tight(const struct http_message *message, const char *target, size_t len)
{
    return target == message->head + strlen(message->method) + 1 &&
           strncmp(target + len, " HTTP/1.", 8) == 0 && target[len + 9] == '\r';
}

static bool read_target(struct parser *parser, char *target, size_t len)
{
    struct http_message *message = parser->message;
    if (!target || !len || target[0] != '/')
        return fail(parser, 400, "request target is not a path");
    if (!start_line_is_tight(message, target, len))
        return fail(parser, 400, "malformed request line");
    if (len > parser->limits->url_bytes)
        return fail(parser, 414, "request target too long");
    if (memchr(target, '#', len))
        return fail(parser, 400, "fragment in the request target");
    char *question = memchr(target, '?', len);
    size_t path_len = question ? (size_t)(question - target) : len;
    target[len] = 0;
    message->query = question ? question + 1 : "";
    for (size_t i = 0; i + 2 < path_len; i++) {
        if (target[i] == '%' && target[i + 1] == '2' && (target[i + 2] | 0x20) == 'f')
            return fail(parser, 400, "encoded slash in the path");
    }
    /* Decoding only shortens, so in place; its NUL lands at the latest on the '?' or behind the target. */
    if (!http_percent_decode(target, path_len, false, target, path_len + 1) || !path_is_plain(target))
        return fail(parser, 400, "malformed path");
    message->path = target;
    return true;
}

static bool known_method(unsigned method)
{
    switch (method) {
    case HTTP_GET:
    case HTTP_HEAD:
    case HTTP_POST:
    case HTTP_PUT:
    case HTTP_PATCH:
    case HTTP_DELETE:
    case HTTP_OPTIONS:
        return true;
    default:
        return false;
    }
}

static bool check_request(struct parser *parser, struct reading *reading)
{
    struct http_message *message = parser->message;
    if (!known_method(parser->engine.method))
        return fail(parser, 501, "method not implemented");
    message->method = http_method_str((enum http_method)parser->engine.method);
    if (http_message_field(message, "Upgrade") || parser->engine.upgrade)
        return fail(parser, 501, "protocol upgrade not implemented");
    size_t hosts = http_message_field_count(message, "Host");
    if (hosts > 1 || (hosts == 0 && !message->http_1_0))
        return fail(parser, 400, "exactly one Host is required");
    const char *expect = http_message_field(message, "Expect");
    if (expect && (strcasecmp(expect, "100-continue") != 0 || message->http_1_0))
        return fail(parser, 417, "unknown expectation");
    message->expects_continue = expect != NULL;
    return read_target(parser, reading->target, reading->target_len) && check_framing(parser);
}

static bool check_response(struct parser *parser)
{
    struct http_message *message = parser->message;
    message->status = (int)parser->engine.status_code;
    if (message->status == 101 || message->status < 100 || message->status > 599)
        return fail(parser, 502, "unusable response status");
    if (parser->head_only)
        return true;
    if (!check_framing(parser))
        return false;
    bool bodiless = message->status < 200 || message->status == 204 || message->status == 304;
    if (bodiless) {
        if (parser->chunked || parser->remaining)
            return fail(parser, 502, "body in a response that has none");
    } else if (!parser->chunked && !http_message_field(message, "Content-Length")) {
        return fail(parser, 502, "response without a length");
    }
    return true;
}

static bool fail_engine(struct parser *parser)
{
    const char *start = parser->message->head;
    switch (HTTP_PARSER_ERRNO(&parser->engine)) {
    case HPE_INVALID_VERSION:
        return fail(parser, 505, "HTTP version not supported");
    case HPE_INVALID_METHOD: {
        size_t word = strspn(start, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-");
        if (word && start[word] == ' ')
            return fail(parser, 501, "method not implemented");
        return fail(parser, 400, "this is not HTTP");
    }
    default:
        return fail(parser, 400, http_errno_description(HTTP_PARSER_ERRNO(&parser->engine)));
    }
}

/* The head is complete in parser->head.data[0, len). */
static bool read_head(struct parser *parser, size_t len)
{
    struct http_message *message = calloc(1, sizeof(*message));
    struct reading reading = {.parser = parser};
    message->fields = calloc(parser->limits->headers, sizeof(*message->fields));
    AUTO_FREE void *lengths = calloc(parser->limits->headers, sizeof(*reading.lengths));
    if (!message || !message->fields || !lengths)
        abort();
    reading.lengths = lengths;
    parser->message = message;
    message->head = realloc(buf_take(&parser->head, NULL), len + 1);
    if (!message->head)
        abort();
    message->head[len] = 0;
    buf_init(&message->body, parser->limits->body_bytes);

    http_parser_init(&parser->engine, parser->type);
    parser->engine.data = &reading;
    size_t parsed = http_parser_execute(&parser->engine, &head_settings, message->head, len);
    parser->engine.data = parser;
    if (parser->error)
        return false;
    if (HTTP_PARSER_ERRNO(&parser->engine) != HPE_OK)
        return fail_engine(parser);
    if (parser->engine.http_major != 1 || parser->engine.http_minor > 1)
        return fail(parser, 505, "HTTP version not supported");
    message->http_1_0 = parser->engine.http_minor == 0;
    for (size_t i = 0; i < message->field_count; i++) {
        terminate(message->fields[i].name, reading.lengths[i].name);
        terminate(message->fields[i].value, reading.lengths[i].value);
    }
    struct http_field *fields = realloc(message->fields, (message->field_count + 1) * sizeof(*fields));
    if (fields)
        message->fields = fields;
    bool good = parser->type == HTTP_REQUEST ? check_request(parser, &reading) : check_response(parser);
    if (good && parsed != len)
        return fail(parser, 400, "malformed head");
    return good;
}

/* --- body --------------------------------------------------------------------------------------------- */

static int on_body(http_parser *engine, const char *at, size_t len)
{
    struct parser *parser = engine->data;
    if (buf_append(&parser->message->body, at, len))
        return 0;
    fail(parser, 413, "body too large");
    return 1;
}

static int on_body_complete(http_parser *engine)
{
    struct parser *parser = engine->data;
    parser->complete = true;
    return 0;
}

static const http_parser_settings body_settings = {.on_body = on_body,
                                                   .on_message_complete = on_body_complete};

static bool chunk_size_char(struct parser *parser, uint8_t c)
{
    if (c == '\r' && parser->chunk_digits) {
        parser->chunk = CHUNK_SIZE_LF;
        return true;
    }
    int digit = hex_value((char)c);
    if (digit < 0)
        return fail(parser, 400, "malformed chunk size");
    if (++parser->chunk_digits > 8)
        return fail(parser, 413, "chunk too large");
    parser->remaining = parser->remaining * 16 + (uint64_t)digit;
    if (parser->remaining > parser->limits->body_bytes)
        return fail(parser, 413, "body too large");
    return true;
}

static bool chunk_expect(struct parser *parser, uint8_t c, char wanted, enum chunk_state next)
{
    if (c != (uint8_t)wanted)
        return fail(parser, 400, "malformed chunk");
    parser->chunk = next;
    return true;
}

/* One byte of chunk framing (not of data). No extensions, no trailers. */
static bool chunk_char(struct parser *parser, uint8_t c)
{
    switch (parser->chunk) {
    case CHUNK_SIZE:
        return chunk_size_char(parser, c);
    case CHUNK_SIZE_LF:
        return chunk_expect(parser, c, '\n', parser->remaining ? CHUNK_DATA : CHUNK_END_CR);
    case CHUNK_DATA_CR:
        return chunk_expect(parser, c, '\r', CHUNK_DATA_LF);
    case CHUNK_DATA_LF:
        parser->chunk_digits = 0;
        return chunk_expect(parser, c, '\n', CHUNK_SIZE);
    case CHUNK_END_CR:
        return chunk_expect(parser, c, '\r', CHUNK_END_LF);
    case CHUNK_END_LF:
        parser->framed = true;
        return chunk_expect(parser, c, '\n', CHUNK_END_LF);
    case CHUNK_DATA:
        break;
    }
    return fail(parser, 500, "chunk state");
}

/* How many of the bytes belong to this message; sets framed at its end. */
static bool frame_chunked(struct parser *parser, const uint8_t *data, size_t len, size_t *ret)
{
    size_t i = 0;
    while (i < len && !parser->framed) {
        if (parser->chunk == CHUNK_DATA) {
            size_t n = len - i < parser->remaining ? len - i : (size_t)parser->remaining;
            parser->remaining -= n;
            i += n;
            if (!parser->remaining)
                parser->chunk = CHUNK_DATA_CR;
        } else if (!chunk_char(parser, data[i++])) {
            return false;
        }
    }
    *ret = i;
    return true;
}

static bool feed_body(struct parser *parser, const uint8_t *data, size_t len, size_t *ret)
{
    if (parser->chunked) {
        if (!frame_chunked(parser, data, len, ret))
            return false;
    } else {
        *ret = len < parser->remaining ? len : (size_t)parser->remaining;
        parser->remaining -= *ret;
        parser->framed = parser->remaining == 0;
    }
    size_t parsed = http_parser_execute(&parser->engine, &body_settings, (const char *)data, *ret);
    if (parser->error)
        return false;
    if (HTTP_PARSER_ERRNO(&parser->engine) != HPE_OK || parsed != *ret || parser->complete != parser->framed)
        return fail(parser, 400, "malformed body");
    return true;
}

/* --- feeding ------------------------------------------------------------------------------------------ */

static size_t feed_head(struct parser *parser, const uint8_t *data, size_t len, enum parse_event *ret)
{
    size_t before = parser->head.len;
    size_t room = parser->limits->head_bytes - before;
    size_t n = len < room ? len : room;
    if (!buf_append(&parser->head, data, n))
        abort();
    enum head_scan scan = scan_head(parser);
    if (scan == HEAD_OPEN) {
        *ret = PARSE_MORE;
        if (parser->head.len == parser->limits->head_bytes) {
            fail(parser, parser->first_line_done ? 431 : 414, "head too large");
            *ret = PARSE_FAILED;
        }
        return n;
    }
    size_t head_len = parser->scanned;
    *ret = PARSE_FAILED;
    if (scan == HEAD_BAD || !read_head(parser, head_len))
        return n;
    parser->framed = !parser->chunked && parser->remaining == 0;
    parser->in_body = !parser->framed;
    if (parser->framed != parser->complete)
        fail(parser, 400, "malformed head");
    else
        *ret = parser->framed ? PARSE_DONE : PARSE_HEAD;
    return head_len - before;
}

/* A 1xx response is no answer: the real one follows. */
static bool is_interim(const struct parser *parser)
{
    return parser->type == HTTP_RESPONSE && parser->message && parser->message->status < 200;
}

size_t parser_feed(struct parser *parser, const uint8_t *data, size_t len, enum parse_event *ret)
{
    size_t used = 0;
    *ret = PARSE_MORE;
    while (used < len && *ret == PARSE_MORE) {
        size_t n = 0;
        if (!parser->in_body) {
            n = feed_head(parser, data + used, len - used, ret);
        } else if (!feed_body(parser, data + used, len - used, &n)) {
            *ret = PARSE_FAILED;
        } else if (parser->framed) {
            *ret = PARSE_DONE;
        }
        used += n;
        if (*ret == PARSE_DONE && is_interim(parser)) {
            *ret = PARSE_MORE;
            begin_again(parser);
            if (++parser->interim > INTERIM_MAX) {
                fail(parser, 502, "too many interim responses");
                *ret = PARSE_FAILED;
            }
        }
    }
    return used;
}
