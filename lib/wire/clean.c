/* Making texts of somebody else's fit for a message: see wire.h. */
#include <string.h>

#include "wire/check.h"
#include "wire/wire.h"

static bool is_printable(const char *at, size_t len)
{
    return len > 1 || (*at >= 0x20 && *at != 0x7f);
}

static char *clean_text(const char *text, size_t max, struct arena *arena)
{
    char *copy = arena_strndup(arena, text, strnlen(text, max)), *at = copy;
    while (*at) {
        size_t len = wire_utf8_char(at);
        if (len == 0 || !is_printable(at, len))
            *at = '?';
        at += len ? len : 1;
    }
    return copy;
}

void wire_clean(ProtobufCMessage *msg, struct arena *arena) /* NOLINT(misc-no-recursion) */
{
    for (unsigned i = 0; i < msg->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &msg->descriptor->fields[i];
        uint8_t *at = (uint8_t *)msg + field->offset;
        const struct wire_limit *limit = wire_limit_find(msg->descriptor, field);
        size_t n = 1, max = limit && limit->max_len ? limit->max_len : WIRE_DEFAULT_STRING_MAX;
        void **values = (void **)(void *)at;
        if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            memcpy(&n, (uint8_t *)msg + field->quantifier_offset, sizeof(n));
            memcpy(&values, at, sizeof(values));
        }
        for (size_t k = 0; k < n; k++) {
            if (values[k] && field->type == PROTOBUF_C_TYPE_STRING)
                values[k] = clean_text(values[k], max, arena);
            else if (values[k])
                wire_clean(values[k], arena);
        }
    }
}
