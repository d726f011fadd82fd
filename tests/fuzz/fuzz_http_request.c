/* A client's bytes into the request parser; the first byte says in how large pieces. Two readings must agree.
 */
#include <stdlib.h>
#include <string.h>

#include "http/parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct http_limits limits = {.head_bytes = 2048, .url_bytes = 512, .headers = 16, .body_bytes = 4096};

struct outcome {
    size_t messages, used, body_bytes;
    bool failed;
};

static void check(const struct http_message *message)
{
    /* What the accessors promise. */
    if ((message->path && (message->path[0] != '/' || !message->method)) ||
        message->body.len > limits.body_bytes)
        abort();
    for (size_t i = 0; i < message->field_count; i++) {
        if (!message->fields[i].name[0] || strpbrk(message->fields[i].value, "\r\n"))
            abort();
    }
}

static struct outcome read_all(const uint8_t *data, size_t size, size_t step, enum http_parser_type type)
{
    struct outcome outcome = {0};
    struct parser parser;
    parser_init(&parser, type, &limits);
    while (outcome.used < size) {
        size_t n = size - outcome.used < step ? size - outcome.used : step;
        enum parse_event event;
        outcome.used += parser_feed(&parser, data + outcome.used, n, &event);
        if (event == PARSE_FAILED) {
            outcome.failed = true;
            break;
        }
        if (event == PARSE_DONE) {
            struct http_message *message = parser_take(&parser);
            check(message);
            outcome.messages++;
            outcome.body_bytes += message->body.len;
            http_message_free(message);
        }
    }
    parser_done(&parser);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    enum http_parser_type type = data[0] & 0x80 ? HTTP_RESPONSE : HTTP_REQUEST;
    struct outcome whole = read_all(data + 1, size - 1, size, type);
    struct outcome pieces = read_all(data + 1, size - 1, 1 + data[0] % 32u, type);
    if (whole.messages != pieces.messages || whole.failed != pieces.failed ||
        whole.body_bytes != pieces.body_bytes)
        abort();
    return 0;
}
