/*
 * Frames from the agent's other process. The first byte says in how large pieces they arrive, and its high
 * bit which side reads; the second: '=': the rest is the stream; any other: patches over two example frames.
 * Two readings must agree.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/ipc.h"
#include "agent/ipc.pb-c.h"
#include "messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PIPE_SIZE 65536

struct outcome {
    size_t frames, left;
    bool failed;
};

static struct outcome read_all(const uint8_t *data, size_t size, size_t step,
                               const ProtobufCMessageDescriptor *desc, size_t max_frame)
{
    struct outcome outcome = {0};
    struct status st;
    AUTO_BUF struct buf in;
    buf_init(&in, 4 + max_frame + size);
    for (size_t at = 0; at < size && !outcome.failed; at += step) {
        if (!buf_append(&in, data + at, size - at < step ? size - at : step))
            abort();
        for (ProtobufCMessage *msg = &(ProtobufCMessage){0}; msg && !outcome.failed;) {
            AUTO_ARENA struct arena *arena = arena_new();
            outcome.failed = ipc_decode(&in, desc, max_frame, arena, &msg, &st) != CODE_OK;
            if (outcome.failed)
                break;
            if (msg && (msg->descriptor != desc || wire_check(msg, &st) != CODE_OK))
                abort();
            outcome.frames += msg != NULL;
        }
    }
    outcome.left = outcome.failed ? 0 : in.len;
    return outcome;
}

/* As a child without a loop reads it, up to the end of the stream. */
static size_t read_blocking(const struct buf *stream, const ProtobufCMessageDescriptor *desc,
                            size_t max_frame)
{
    int ends[2];
    size_t frames = 0;
    struct status st;
    AUTO_BUF struct buf in;
    buf_init(&in, 4 + max_frame + stream->len);
    if (pipe(ends) != 0 || write(ends[1], stream->data, stream->len) != (ssize_t)stream->len)
        abort();
    (void)close(ends[1]);
    for (enum code code = CODE_OK; code == CODE_OK;) {
        AUTO_ARENA struct arena *arena = arena_new();
        ProtobufCMessage *msg;
        code = ipc_read(ends[0], &in, desc, max_frame, -1, arena, &msg, &st);
        frames += code == CODE_OK;
    }
    (void)close(ends[0]);
    return frames;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const ProtobufCMessageDescriptor *desc =
        data[0] & 0x80 ? &clm__agent__runner_frame__descriptor : &clm__agent__frame__descriptor;
    size_t max_frame = data[0] & 0x80 ? IPC_RUNNER_FRAME_MAX : IPC_NET_FRAME_MAX;
    size_t step = 1 + data[0] % 64u;
    struct status st;
    AUTO_BUF struct buf stream = {0};
    if (data[1] == '=') {
        if (!buf_append(&stream, data + 2, size - 2))
            abort();
    } else {
        AUTO_ARENA struct arena *arena = arena_new();
        const ProtobufCMessage *example = message_example(desc, arena);
        for (int i = 0; i < 2; i++)
            if (ipc_encode(example, max_frame, &stream, &st) != CODE_OK)
                abort();
        bytes_patch(stream.data, stream.len, data + 2, size - 2);
    }
    struct outcome whole = read_all(stream.data, stream.len, stream.len + 1, desc, max_frame);
    struct outcome pieces = read_all(stream.data, stream.len, step, desc, max_frame);
    if (whole.frames != pieces.frames || whole.failed != pieces.failed || whole.left != pieces.left ||
        (data[1] != '=' && size < 5 && whole.frames != 2))
        abort();
    if (stream.len > 0 && stream.len < PIPE_SIZE && read_blocking(&stream, desc, max_frame) != whole.frames)
        abort();
    return 0;
}
