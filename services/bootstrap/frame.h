/* Length-prefixed frames on a blocking stream socket: between the service and its signer. */
#ifndef CLM_BOOTSTRAP_FRAME_H
#define CLM_BOOTSTRAP_FRAME_H

#include "base/arena.h"
#include "base/status.h"

#include <stdint.h>

#define FRAME_MAX (512 * 1024)

/* UNAVAILABLE when the other side is gone; DEADLINE_EXCEEDED past the socket's SO_RCVTIMEO or SO_SNDTIMEO. */
enum code frame_send(int fd, const void *data, size_t len, struct status *st) MUST_CHECK;
/* The body lives in the arena. INVALID_ARGUMENT for one larger than FRAME_MAX: the stream is lost then. */
enum code frame_receive(int fd, struct arena *arena, const uint8_t **ret, size_t *ret_len,
                        struct status *st) MUST_CHECK;

#endif
