/*
 * Internal to lib/http: one HTTP/1.1 message out of a byte stream. http_parser reads it; before a byte
 * reaches http_parser its framing has passed the checks here, because the distribution builds http_parser
 * without its strict mode (it takes bare LF, spaces in names and broken chunk ends).
 */
#ifndef CLM_HTTP_PARSE_H
#define CLM_HTTP_PARSE_H

#include <http_parser.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "http/http.h"

struct http_field {
    const char *name, *value; /* inside the message's head */
};

struct http_message {
    char *head; /* the bytes received, cut into C strings */
    struct http_field *fields;
    size_t field_count;
    const char *method; /* requests: "GET" */
    const char *path;   /* decoded */
    const char *query;
    int status; /* responses */
    bool http_1_0, keep_alive, expects_continue;
    struct buf body;
};

void http_message_free(struct http_message *message);
const char *http_message_field(const struct http_message *message, const char *name);
size_t http_message_field_count(const struct http_message *message, const char *name);

enum parse_event {
    PARSE_MORE, /* all bytes taken */
    PARSE_HEAD, /* head complete, a body follows */
    PARSE_DONE, /* message complete: parser_take */
    PARSE_FAILED,
};

enum chunk_state {
    CHUNK_SIZE,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_END_CR,
    CHUNK_END_LF
};

struct parser {
    enum http_parser_type type;
    const struct http_limits *limits;
    http_parser engine;
    struct buf head;
    size_t scanned, line_start;
    bool first_line_done, in_body, chunked, complete, framed;
    bool head_only; /* set after parser_init, for answers to CONNECT: the head is all (RFC 9110 section 9.3.6)
                     */
    enum chunk_state chunk;
    unsigned chunk_digits;
    uint64_t remaining; /* of the body, or of the chunk */
    unsigned interim;   /* 1xx responses skipped */
    struct http_message *message;
    int error_status;  /* after PARSE_FAILED: what a server answers */
    const char *error; /* static text */
};

/* limits is borrowed and has no zeros in it (http_limits_fill). */
void parser_init(struct parser *parser, enum http_parser_type type, const struct http_limits *limits);
void parser_done(struct parser *parser);
/* Takes bytes up to the end of the message or the first event; returns how many. After PARSE_FAILED nothing
 * more. */
size_t parser_feed(struct parser *parser, const uint8_t *data, size_t len, enum parse_event *ret);
/* The finished message; the parser is ready for the next one. */
struct http_message *parser_take(struct parser *parser);
/* No byte of a message has come in. */
bool parser_is_idle(const struct parser *parser);
size_t parser_body_received(const struct parser *parser);

void http_limits_fill(struct http_limits *limits);
/* Decodes %xx (and '+' if plus_is_space); false if malformed, NUL, or not fitting. out may be in itself. */
bool http_percent_decode(const char *in, size_t len, bool plus_is_space, char *out, size_t out_size);
bool http_header_is_sane(const struct http_header *header);

#endif
