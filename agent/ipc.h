/*
 * Frames between the agent's processes: a 4-byte big-endian length, then one protobuf message, over a stream
 * socketpair. Both sides treat what arrives as hostile: a length limit before a byte is stored, then
 * wire_unpack with its table of limits. A frame that breaks either ends the channel.
 */
#ifndef CLM_AGENT_IPC_H
#define CLM_AGENT_IPC_H

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"
#include "loop/loop.h"

#define IPC_NET_FRAME_MAX    (640u * 1024u)  /* an envelope, or a page and its receipt */
#define IPC_RUNNER_FRAME_MAX (4352u * 1024u) /* a whole result */

/* Takes one frame off the front of `in`. OK with *ret NULL: not all there yet. INVALID_ARGUMENT: the peer is
 * broken or hostile. The message lives in the arena. */
enum code ipc_decode(struct buf *in, const ProtobufCMessageDescriptor *desc, size_t max_frame,
                     struct arena *arena, ProtobufCMessage **ret, struct status *st) MUST_CHECK;
/* Appends the frame; RESOURCE_EXHAUSTED if it is longer than max_frame or the buffer is full. */
enum code ipc_encode(const ProtobufCMessage *msg, size_t max_frame, struct buf *out,
                     struct status *st) MUST_CHECK;

struct ipc; /* one end, on a loop */

struct ipc_config {
    int fd;                                 /* taken; made non-blocking */
    const ProtobufCMessageDescriptor *desc; /* of what arrives */
    size_t max_frame;
    /* msg lives during the call. The channel may be freed inside. */
    void (*on_frame)(const ProtobufCMessage *msg, void *arg);
    /* Once: end of file, a broken frame, or a peer that does not read. The channel may be freed inside. */
    void (*on_closed)(const struct status *why, void *arg);
    void *arg;
};
struct ipc *ipc_new(struct loop *loop, const struct ipc_config *config);
void ipc_free(struct ipc *ipc); /* closes; NULL is fine */
/* Queues and sends. A failure is reported through on_closed, from the loop. */
void ipc_send(struct ipc *ipc, const ProtobufCMessage *msg);

/* The blocking side, for children without a loop. */
enum code ipc_write(int fd, const ProtobufCMessage *msg, size_t max_frame, struct status *st) MUST_CHECK;
/* Waits at most timeout_ms (-1: for ever) for a frame to be complete; DEADLINE_EXCEEDED, UNAVAILABLE on end
 * of file. What was read beyond one frame stays in `in` for the next call. */
enum code ipc_read(int fd, struct buf *in, const ProtobufCMessageDescriptor *desc, size_t max_frame,
                   int64_t timeout_ms, struct arena *arena, ProtobufCMessage **ret,
                   struct status *st) MUST_CHECK;

#endif
