/*
 * A REST client's request. The first line names the message, then lines `name=value` (path and query
 * parameters) up to an empty one, then the body.
 */
#include <stdlib.h>
#include <string.h>

#include "messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum code set_parameters(ProtobufCMessage *msg, char *lines, struct arena *arena, struct status *st)
{
    for (char *line; (line = strsep(&lines, "\n"));) {
        char *value = strchr(line, '=');
        if (!value)
            continue;
        *value++ = '\0';
        TRY(json_set_field(msg, line, value, arena, st));
    }
    return CODE_OK;
}

/* A message that came by JSON is as good as one that came by protobuf. */
static void check_accepted(const ProtobufCMessage *msg, struct arena *arena)
{
    struct status st;
    const uint8_t *packed;
    size_t len;
    AUTO_BUF struct buf out = {.limit = 8 * WIRE_BODY_MAX};
    ProtobufCMessage *again = NULL;
    wire_pack(msg, arena, &packed, &len);
    if (wire_unpack(msg->descriptor, packed, len, arena, &again, &st) != CODE_OK ||
        json_write(msg, &out, &st) != CODE_OK ||
        json_read(msg->descriptor, buf_text(&out), out.len, arena, &again, &st) != CODE_OK) {
        (void)fprintf(stderr, "%s\n", st.msg);
        abort();
    }
}

/* The message quotes the client and goes back to it as JSON. */
static void check_refused(const struct status *st)
{
    AUTO_BUF struct buf out = {0};
    if (!st->msg[0] || !json_quote(&out, st->msg) || !wire_utf8_valid(buf_text(&out)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct status st = {0};
    const ProtobufCMessageDescriptor *desc = message_choose(&data, &size);
    AUTO_ARENA struct arena *arena = arena_new();
    const uint8_t *blank = memmem(data, size, "\n\n", 2);
    char *lines = blank ? arena_strndup(arena, (const char *)data, (size_t)(blank - data)) : NULL;
    if (blank) {
        size -= (size_t)(blank + 2 - data);
        data = blank + 2;
    }
    char *body = malloc(size + 1);
    if (!body)
        abort();
    memcpy(body, data, size);
    body[size] = '"'; /* not part of it: a reader that goes on would see an open string */
    ProtobufCMessage *msg = NULL, *whole = NULL, *lenient = NULL;
    if (json_read(desc, body, size, arena, &whole, &st) == CODE_OK &&
        json_read_lenient(desc, body, size, arena, &lenient, &st) != CODE_OK)
        abort();
    if (json_parse(desc, body, size, arena, &msg, &st) != CODE_OK ||
        set_parameters(msg, lines, arena, &st) != CODE_OK || json_check_message(msg, &st) != CODE_OK ||
        wire_check(msg, &st) != CODE_OK) {
        check_refused(&st);
    } else {
        check_accepted(msg, arena);
    }
    free(body);
    return 0;
}
