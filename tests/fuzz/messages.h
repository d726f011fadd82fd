/* Every message that crosses a border, by name, and a full example of each: shared by the targets. */
#ifndef CLM_FUZZ_MESSAGES_H
#define CLM_FUZZ_MESSAGES_H

#include "base/arena.h"
#include "wire/wire.h"

/* Takes the first line, a message's name ("CreateTaskRequest"), off the input. Any other line chooses one by
 * its bytes, so that a mutation of the name still says something. */
const ProtobufCMessageDescriptor *message_choose(const uint8_t **data, size_t *size);

/* Every field set, repeated ones with two elements, each value within its limits. */
ProtobufCMessage *message_example(const ProtobufCMessageDescriptor *desc, struct arena *arena);

/* Writes 3-byte instructions (offset, offset, value) over `data`. */
void bytes_patch(uint8_t *data, size_t len, const uint8_t *patch, size_t patch_len);

#endif
