/*
 * A peer's protobuf. The first line names the message; the byte after it chooses: '=': the rest is the
 * message as it came; any other: the rest is patches over a full example. What passes the border must pack to
 * the same meaning, and survive JSON both ways.
 */
#include <stdlib.h>
#include <string.h>

#include "messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(enum code code, const struct status *st)
{
    if (code != CODE_OK) {
        (void)fprintf(stderr, "%s\n", st->msg);
        abort();
    }
}

static void check_json(const ProtobufCMessage *msg, struct arena *arena)
{
    struct status st;
    AUTO_BUF struct buf first = {.limit = 8 * WIRE_BODY_MAX};
    AUTO_BUF struct buf second = {.limit = 8 * WIRE_BODY_MAX};
    need(json_write(msg, &first, &st), &st);
    ProtobufCMessage *again = NULL;
    need(json_read(msg->descriptor, buf_text(&first), first.len, arena, &again, &st), &st);
    need(json_write(again, &second, &st), &st);
    if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
        abort();
}

static void check_accepted(const ProtobufCMessage *msg, struct arena *arena)
{
    struct status st;
    const uint8_t *packed, *repacked;
    size_t packed_len, repacked_len;
    ProtobufCMessage *again = NULL;
    need(wire_check(msg, &st), &st);
    wire_pack(msg, arena, &packed, &packed_len);
    need(wire_unpack(msg->descriptor, packed, packed_len, arena, &again, &st), &st);
    wire_pack(again, arena, &repacked, &repacked_len);
    if (packed_len != repacked_len || memcmp(packed, repacked, packed_len) != 0)
        abort();
    check_json(msg, arena);
}

static void unpack(const ProtobufCMessageDescriptor *desc, const uint8_t *data, size_t size, bool must_pass)
{
    struct status st = {0};
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *msg = NULL;
    enum code code = wire_unpack(desc, data, size, arena, &msg, &st);
    if (arena_used_bytes(arena) > 8 * size + 64 * 1024)
        abort(); /* what wire.h promises */
    if (code == CODE_OK) {
        check_accepted(msg, arena);
    } else if (must_pass || !st.msg[0]) {
        (void)fprintf(stderr, "%s\n", st.msg);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const ProtobufCMessageDescriptor *desc = message_choose(&data, &size);
    if (size > 0 && data[0] == '=') {
        unpack(desc, data + 1, size - 1, false);
        return 0;
    }
    AUTO_ARENA struct arena *arena = arena_new();
    const uint8_t *packed;
    size_t len;
    wire_pack(message_example(desc, arena), arena, &packed, &len);
    uint8_t *patched =
        malloc(len + 1); /* exactly sized but for an empty one: a sanitizer sees a read beyond it */
    if (!patched)
        abort();
    memcpy(patched, packed, len);
    if (size > 1)
        bytes_patch(patched, len, data + 1, size - 1);
    unpack(desc, patched, len, size < 4);
    free(patched);
    return 0;
}
