/* What unpack.c and json.c share inside lib/wire: the walk over a message, and the way to a field in words.
 */
#ifndef CLM_WIRE_CHECK_H
#define CLM_WIRE_CHECK_H

#include "wire/wire.h"

#define WIRE_TIME_MAX_MS INT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */

/* Where we are; frames live on the walker's stack, the text is made only for an error. */
struct check_frame {
    const struct check_frame *parent;
    const ProtobufCFieldDescriptor *field;
    size_t index;
};

struct check {
    const char *root;        /* message name, put before protobuf paths */
    bool json;               /* paths in JSON names, without the message's */
    bool top_may_be_partial; /* required fields of the outermost message may still be set by the caller */
};

enum code check_message(const struct check *check, const struct check_frame *parent,
                        const ProtobufCMessage *msg, struct status *st) MUST_CHECK;
/* frame NULL: the message itself. */
enum code check_refuse(const struct check *check, const struct check_frame *frame, struct status *st,
                       const char *fmt, ...) PRINTF(4, 5);

/* A power of two, well above twice the rows of limits.c. */
#define WIRE_LIMIT_SLOTS 2048u
/* Row of limits.c, or NULL. Any thread. */
const struct wire_limit *wire_limit_find(const ProtobufCMessageDescriptor *desc,
                                         const ProtobufCFieldDescriptor *field);
/* Bytes of the character that text begins with (NUL counts as one); 0 if it is malformed. */
size_t wire_utf8_char(const char *text);
bool wire_is_time(const ProtobufCFieldDescriptor *field); /* int64 …_at_ms */
size_t wire_value_size(const ProtobufCFieldDescriptor *field);
/* Number of values present (0 or 1 unless repeated) and where they begin. */
size_t wire_field_values(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field,
                         const void **ret);

#endif
