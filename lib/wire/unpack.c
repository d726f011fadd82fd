/*
 * The border: bytes of a peer → a message in the caller's arena that satisfies its descriptor and limits.c.
 * Three steps. scan() walks the raw wire form once, because a NUL inside a string cannot be seen any more
 * after protobuf-c has made a C string of it; then protobuf-c unpacks under a byte budget; then wire_check()
 * walks the message. Pure functions, any thread.
 */
#include "wire/wire.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "wire/check.h"

#define BUDGET_FACTOR 8u
#define BUDGET_SLACK  (64u * 1024u)
#define DEPTH_MAX     16u

/* ---- raw scan ---------------------------------------------------------------------------------------------
 */

static bool read_varint(const uint8_t **p, const uint8_t *end, uint64_t *ret)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70 && *p < end; shift += 7) {
        uint8_t byte = *(*p)++;
        if (shift == 63 && byte > 1)
            return false;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret = value;
            return true;
        }
    }
    return false;
}

static enum code scan(const ProtobufCMessageDescriptor *desc, const uint8_t *p, size_t len, unsigned depth,
                      struct status *st)
{
    const uint8_t *end = p + len;
    if (depth > DEPTH_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "%s: nested deeper than %u", desc->short_name,
                          DEPTH_MAX);
    while (p < end) {
        uint64_t tag, n;
        if (!read_varint(&p, end, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
            goto malformed;
        switch (tag & 7) {
        case 0:
            if (!read_varint(&p, end, &n))
                goto malformed;
            break;
        case 1:
        case 5: {
            size_t width = (tag & 7) == 1 ? 8 : 4;
            if ((size_t)(end - p) < width)
                goto malformed;
            p += width;
            break;
        }
        case 2: {
            if (!read_varint(&p, end, &n) || n > (size_t)(end - p))
                goto malformed;
            const ProtobufCFieldDescriptor *field =
                protobuf_c_message_descriptor_get_field(desc, (unsigned)(tag >> 3));
            if (field && field->type == PROTOBUF_C_TYPE_STRING && memchr(p, '\0', (size_t)n))
                return status_set(st, CODE_INVALID_ARGUMENT, "%s.%s: holds a NUL byte", desc->short_name,
                                  field->name);
            if (field && field->type == PROTOBUF_C_TYPE_MESSAGE)
                TRY(scan(field->descriptor, p, (size_t)n, depth + 1, st));
            p += n;
            break;
        }
        default:
            goto malformed;
        }
    }
    return CODE_OK;
malformed:
    return status_set(st, CODE_INVALID_ARGUMENT, "%s: not a protobuf message", desc->short_name);
}

/* ---- unpacking --------------------------------------------------------------------------------------------
 */

struct budget {
    struct arena *arena;
    size_t left;
    bool spent;
};

static void *budget_alloc(void *data, size_t size)
{
    struct budget *budget = data;
    size_t cost = size + 16; /* the arena rounds up */
    if (size > budget->left || cost > budget->left) {
        budget->spent = true;
        return NULL;
    }
    budget->left -= cost;
    return arena_alloc(budget->arena, size);
}

static void budget_free(void *data, void *pointer)
{
    (void)data;
    (void)pointer;
}

enum code wire_unpack(const ProtobufCMessageDescriptor *desc, const void *data, size_t len,
                      struct arena *arena, ProtobufCMessage **ret, struct status *st)
{
    static const uint8_t nothing[1];
    const uint8_t *bytes = len ? data : nothing;
    TRY(scan(desc, bytes, len, 0, st));
    struct budget budget = {.arena = arena, .left = len * BUDGET_FACTOR + BUDGET_SLACK};
    ProtobufCAllocator allocator = {.alloc = budget_alloc, .free = budget_free, .allocator_data = &budget};
    ProtobufCMessage *msg = protobuf_c_message_unpack(desc, &allocator, len, bytes);
    if (!msg && budget.spent)
        return status_set(st, CODE_INVALID_ARGUMENT, "%s: needs too much memory for its %zu bytes",
                          desc->short_name, len);
    if (!msg)
        return status_set(st, CODE_INVALID_ARGUMENT, "%s: not a protobuf message", desc->short_name);
    TRY(wire_check(msg, st));
    *ret = msg;
    return CODE_OK;
}

void wire_pack(const ProtobufCMessage *msg, struct arena *arena, const uint8_t **ret, size_t *ret_len)
{
    size_t len = protobuf_c_message_get_packed_size(msg);
    uint8_t *data = arena_alloc(arena, len + 1);
    size_t packed = protobuf_c_message_pack(msg, data);
    assert(packed == len);
    *ret = data;
    *ret_len = len;
}

/* ---- the check --------------------------------------------------------------------------------------------
 */

size_t wire_utf8_char(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    unsigned char c = p[0];
    if (c < 0x80)
        return 1;
    if (c < 0xc2 || c > 0xf4)
        return 0;
    size_t len = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    /* RFC 3629 section 4: the second byte excludes overlong forms, surrogates and beyond U+10FFFF. */
    unsigned char low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    unsigned char high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if (p[i] < 0x80 || p[i] > 0xbf)
            return 0;
    return len;
}

bool wire_utf8_valid(const char *text)
{
    while (*text) {
        size_t len = wire_utf8_char(text);
        if (len == 0)
            return false;
        text += len;
    }
    return true;
}

bool wire_is_time(const ProtobufCFieldDescriptor *field)
{
    size_t len = strlen(field->name);
    return field->type == PROTOBUF_C_TYPE_INT64 && len > 6 && !strcmp(field->name + len - 6, "_at_ms");
}

size_t wire_value_size(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
        return sizeof(char *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(ProtobufCMessage *);
    }
    assert(!"unknown protobuf type");
    return 0;
}

size_t wire_field_values(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field, const void **ret)
{
    const char *base = (const char *)msg;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t n;
        memcpy(&n, base + field->quantifier_offset, sizeof(n));
        memcpy(ret, base + field->offset, sizeof(*ret));
        return n;
    }
    *ret = base + field->offset;
    if (field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_MESSAGE) {
        const void *pointer;
        memcpy(&pointer, *ret, sizeof(pointer));
        return pointer != NULL;
    }
    protobuf_c_boolean has;
    memcpy(&has, base + field->quantifier_offset, sizeof(has));
    return has != 0;
}

/* Writes the path from the root: "agents[3].agent_id", or its JSON form. */
static size_t path_write(const struct check_frame *frame, bool json, char *out, size_t size)
{
    size_t used = 0;
    if (frame->parent)
        used = path_write(frame->parent, json, out, size);
    char name[64];
    if (json)
        json_field_name(frame->field, name);
    const char *text = json ? name : frame->field->name;
    int n = frame->field->label == PROTOBUF_C_LABEL_REPEATED
                ? snprintf(out + used, size - used, "%s%s[%zu]", used ? "." : "", text, frame->index)
                : snprintf(out + used, size - used, "%s%s", used ? "." : "", text);
    used += n > 0 ? (size_t)n : 0;
    return used < size ? used : size - 1;
}

enum code check_refuse(const struct check *check, const struct check_frame *frame, struct status *st,
                       const char *fmt, ...)
{
    char path[160] = "", why[160];
    if (frame)
        (void)path_write(frame, check->json, path, sizeof(path));
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    if (check->json)
        return status_set(st, CODE_INVALID_ARGUMENT, "%s%s%s", path, *path ? ": " : "", why);
    return status_set(st, CODE_INVALID_ARGUMENT, "%s%s%s: %s", check->root, *path ? "." : "", path, why);
}

static enum code check_length(const struct check *check, const struct check_frame *frame,
                              const struct wire_limit *limit, size_t len, uint32_t fallback,
                              struct status *st)
{
    uint32_t max = limit && limit->max_len ? limit->max_len : fallback;
    if (len > max)
        return check_refuse(check, frame, st, "longer than %" PRIu32 " bytes", max);
    if (limit && len < limit->min_len)
        return check_refuse(check, frame, st,
                            limit->min_len == 1 ? "is empty" : "shorter than %" PRIu32 " bytes",
                            limit->min_len);
    return CODE_OK;
}

static enum code check_value(const struct check *check, const struct check_frame *frame,
                             const struct wire_limit *limit, const void *value, struct status *st)
{
    const ProtobufCFieldDescriptor *field = frame->field;
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING: {
        const char *text = *(char *const *)value;
        TRY(check_length(check, frame, limit, strlen(text), WIRE_DEFAULT_STRING_MAX, st));
        if (!wire_utf8_valid(text))
            return check_refuse(check, frame, st, "not UTF-8 text");
        if (limit && limit->valid && *text && !limit->valid(text))
            return check_refuse(check, frame, st, "expected %s", limit->expected);
        return CODE_OK;
    }
    case PROTOBUF_C_TYPE_BYTES:
        return check_length(check, frame, limit, ((const ProtobufCBinaryData *)value)->len,
                            WIRE_DEFAULT_BYTES_MAX, st);
    case PROTOBUF_C_TYPE_ENUM: {
        int n;
        memcpy(&n, value, sizeof(n));
        if (!protobuf_c_enum_descriptor_get_value(field->descriptor, n))
            return check_refuse(check, frame, st, "unknown value %d", n);
        return CODE_OK;
    }
    case PROTOBUF_C_TYPE_INT64: {
        int64_t n;
        memcpy(&n, value, sizeof(n));
        if (wire_is_time(field) && (n < 0 || n > WIRE_TIME_MAX_MS))
            return check_refuse(check, frame, st, "a time outside the years 1970 to 9999");
        return CODE_OK;
    }
    case PROTOBUF_C_TYPE_MESSAGE:
        return check_message(check, frame, *(ProtobufCMessage *const *)value, st);
    default:
        return CODE_OK;
    }
}

enum code check_message(const struct check *check, const struct check_frame *parent,
                        const ProtobufCMessage *msg, struct status *st)
{
    const ProtobufCMessageDescriptor *desc = msg->descriptor;
    for (unsigned i = 0; i < desc->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &desc->fields[i];
        const struct wire_limit *limit = wire_limit_find(desc, field);
        struct check_frame frame = {.parent = parent, .field = field};
        const void *values;
        size_t n = wire_field_values(msg, field, &values);
        if (n == 0) {
            if (limit && limit->required && (parent || !check->top_may_be_partial)) {
                if (field->label == PROTOBUF_C_LABEL_REPEATED)
                    return check_refuse(check, &frame, st, "needs at least one");
                return check_refuse(check, &frame, st, "is missing");
            }
            continue;
        }
        uint32_t most = limit && limit->max_count ? limit->max_count : WIRE_DEFAULT_COUNT_MAX;
        if (field->label == PROTOBUF_C_LABEL_REPEATED && n > most)
            return check_refuse(check, parent, st, "%s has more than %" PRIu32 " elements", field->name,
                                most);
        size_t size = wire_value_size(field);
        for (frame.index = 0; frame.index < n; frame.index++)
            TRY(check_value(check, &frame, limit, (const char *)values + frame.index * size, st));
    }
    return CODE_OK;
}

enum code wire_check(const ProtobufCMessage *msg, struct status *st)
{
    struct check check = {.root = msg->descriptor->short_name};
    return check_message(&check, NULL, msg, st);
}
