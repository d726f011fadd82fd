/*
 * JSON both ways, driven by protobuf-c's descriptors. Reading goes through jansson, whose objects never leave
 * this file; writing goes straight into the buffer. Pure functions, any thread.
 */
#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "wire/check.h"

#define JSON_EXACT_MAX INT64_C(9007199254740992) /* 2^53: beyond it a reader's double may round */
#define WALK_DEPTH_MAX 16

static void cleanup_json(json_t **json)
{
    json_decref(*json);
}

/* ---- names ------------------------------------------------------------------------------------------------
 */

void json_field_name(const ProtobufCFieldDescriptor *field, char out[64])
{
    size_t len = strlen(field->name), n = 0;
    if (wire_is_time(field))
        len -= 3; /* created_at_ms → createdAt */
    bool raise = false;
    for (size_t i = 0; i < len && n < 63; i++) {
        char c = field->name[i];
        if (c == '_') {
            raise = true;
            continue;
        }
        out[n++] = raise && c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
        raise = false;
    }
    out[n] = '\0';
}

static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *desc,
                                                  const char *json_name)
{
    for (unsigned i = 0; i < desc->n_fields; i++) {
        char name[64];
        json_field_name(&desc->fields[i], name);
        if (!strcmp(name, json_name))
            return &desc->fields[i];
    }
    return NULL;
}

/* ---- base64, RFC 4648 section 4, on top of base/id.h's URL form
 * -------------------------------------------- */

bool base64_put(struct buf *out, const void *data, size_t len)
{
    uint8_t chunk[768];
    char text[1028];
    for (size_t done = 0; done < len;) {
        size_t n = len - done < sizeof(chunk) ? len - done : sizeof(chunk);
        memcpy(chunk, (const uint8_t *)data + done, n);
        size_t chars = base64url_encode(chunk, n, text, sizeof(text));
        for (size_t i = 0; i < chars; i++)
            text[i] = text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i];
        while (chars % 4)
            text[chars++] = '=';
        if (!buf_append(out, text, chars))
            return false;
        done += n;
    }
    return true;
}

bool base64_get(const char *text, struct arena *arena, uint8_t **ret, size_t *ret_len)
{
    size_t len = strlen(text);
    if (len % 4)
        return false;
    char *url = arena_strdup(arena, text);
    for (int pad = 0; pad < 2 && len > 0 && url[len - 1] == '='; pad++)
        len--;
    for (size_t i = 0; i < len; i++) {
        if (url[i] == '-' || url[i] == '_')
            return false;
        url[i] = url[i] == '+' ? '-' : url[i] == '/' ? '_' : url[i];
    }
    size_t size = len / 4 * 3 + 3;
    *ret = arena_alloc(arena, size);
    return base64url_decode(url, len, *ret, size, ret_len);
}

/* ---- writing ----------------------------------------------------------------------------------------------
 */

bool json_quote(struct buf *out, const char *text)
{
    if (!buf_append(out, "\"", 1))
        return false;
    for (const char *p = text; *p;) {
        const char *plain = p;
        size_t len = 1;
        while ((unsigned char)*p >= 0x20 && *p != '"' && *p != '\\' &&
               (len = (unsigned char)*p < 0x80 ? 1 : wire_utf8_char(p)) > 0)
            p += len;
        if (p > plain && !buf_append(out, plain, (size_t)(p - plain)))
            return false;
        if (!*p)
            break;
        if (len == 0) {
            if (!buf_puts(out, "\\ufffd"))
                return false;
            p++;
            continue;
        }
        char c = *p++;
        const char *named = c == '"'    ? "\\\""
                            : c == '\\' ? "\\\\"
                            : c == '\n' ? "\\n"
                            : c == '\t' ? "\\t"
                                        : NULL;
        if (!(named ? buf_puts(out, named) : buf_printf(out, "\\u%04x", (unsigned char)c)))
            return false;
    }
    return buf_append(out, "\"", 1);
}

static bool write_message(const ProtobufCMessage *msg, struct buf *out);

static bool write_int64(int64_t n, struct buf *out)
{
    bool exact = n >= -JSON_EXACT_MAX && n <= JSON_EXACT_MAX;
    return buf_printf(out, exact ? "%" PRId64 : "\"%" PRId64 "\"", n);
}

static bool write_value(const ProtobufCFieldDescriptor *field, const void *value, struct buf *out)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        return json_quote(out, *(char *const *)value);
    case PROTOBUF_C_TYPE_MESSAGE:
        return write_message(*(ProtobufCMessage *const *)value, out);
    case PROTOBUF_C_TYPE_BYTES: {
        const ProtobufCBinaryData *bytes = value;
        return buf_puts(out, "\"") && base64_put(out, bytes->data, bytes->len) && buf_puts(out, "\"");
    }
    case PROTOBUF_C_TYPE_BOOL:
        return buf_puts(out, *(const protobuf_c_boolean *)value ? "true" : "false");
    case PROTOBUF_C_TYPE_ENUM: {
        const ProtobufCEnumValue *row =
            protobuf_c_enum_descriptor_get_value(field->descriptor, *(const int *)value);
        return row ? json_quote(out, row->name) : buf_printf(out, "%d", *(const int *)value);
    }
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        if (wire_is_time(field)) {
            char text[CLOCK_RFC3339_SIZE];
            clock_format_rfc3339(*(const int64_t *)value, text);
            return json_quote(out, text);
        }
        return write_int64(*(const int64_t *)value, out);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: {
        uint64_t n = *(const uint64_t *)value;
        return n <= INT64_MAX ? write_int64((int64_t)n, out) : buf_printf(out, "\"%" PRIu64 "\"", n);
    }
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return buf_printf(out, "%" PRIu32, *(const uint32_t *)value);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return buf_printf(out, "%" PRId32, *(const int32_t *)value);
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
        break;
    }
    assert(!"no contract uses floating point");
    return false;
}

/* `,"name":` or, where it is the first, without the comma. */
static bool write_name(const ProtobufCFieldDescriptor *field, bool first, struct buf *out)
{
    char text[2 + 64 + 2] = ",\"";
    json_field_name(field, text + 2);
    size_t len = strlen(text);
    text[len++] = '"';
    text[len++] = ':';
    return buf_append(out, text + first, len - first);
}

static bool write_message(const ProtobufCMessage *msg, struct buf *out)
{
    const ProtobufCMessageDescriptor *desc = msg->descriptor;
    bool first = true;
    if (!buf_puts(out, "{"))
        return false;
    for (unsigned i = 0; i < desc->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &desc->fields[i];
        const void *values;
        size_t n = wire_field_values(msg, field, &values), size = wire_value_size(field);
        bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
        if (n == 0 && !repeated)
            continue;
        if (!write_name(field, first, out) || (repeated && !buf_puts(out, "[")))
            return false;
        for (size_t k = 0; k < n; k++)
            if ((k > 0 && !buf_puts(out, ",")) || !write_value(field, (const char *)values + k * size, out))
                return false;
        if (repeated && !buf_puts(out, "]"))
            return false;
        first = false;
    }
    return buf_puts(out, "}");
}

enum code json_write(const ProtobufCMessage *msg, struct buf *out, struct status *st)
{
    if (!write_message(msg, out))
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "%s: its JSON is larger than the buffer's limit",
                          msg->descriptor->short_name);
    return CODE_OK;
}

/* ---- reading ----------------------------------------------------------------------------------------------
 */

static const struct check json_check = {.json = true, .top_may_be_partial = true};

static enum code refuse_expected(const struct check_frame *frame, const char *expected, struct status *st)
{
    return check_refuse(&json_check, frame, st, "expected %s", expected);
}

/* Decimal digits with an optional sign, nothing else. */
static bool parse_int(const char *text, bool *ret_negative, uint64_t *ret)
{
    bool negative = *text == '-';
    uint64_t n = 0;
    const char *p = text + negative;
    if (!*p)
        return false;
    for (; *p; p++) {
        if (*p < '0' || *p > '9' || __builtin_mul_overflow(n, UINT64_C(10), &n) ||
            __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
            return false;
    }
    *ret_negative = negative && n > 0;
    *ret = n;
    return true;
}

static enum code store_int(const struct check_frame *frame, bool negative, uint64_t magnitude, void *dst,
                           struct status *st)
{
    switch (frame->field->type) {
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32: {
        if (negative || magnitude > UINT32_MAX)
            return refuse_expected(frame, "a whole number from 0 to 4294967295", st);
        uint32_t n = (uint32_t)magnitude;
        memcpy(dst, &n, sizeof(n));
        return CODE_OK;
    }
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        if (negative)
            return refuse_expected(frame, "a whole number from 0", st);
        memcpy(dst, &magnitude, sizeof(magnitude));
        return CODE_OK;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32: {
        if (magnitude > (uint64_t)INT32_MAX)
            return refuse_expected(frame, "a whole number of 32 bits", st);
        int32_t n = negative ? -(int32_t)magnitude : (int32_t)magnitude;
        memcpy(dst, &n, sizeof(n));
        return CODE_OK;
    }
    default: {
        if (magnitude > (uint64_t)INT64_MAX)
            return refuse_expected(frame, "a whole number of 64 bits", st);
        int64_t n = negative ? -(int64_t)magnitude : (int64_t)magnitude;
        memcpy(dst, &n, sizeof(n));
        return CODE_OK;
    }
    }
}

static bool is_64_bits(const ProtobufCFieldDescriptor *field)
{
    return wire_value_size(field) == 8 && field->type != PROTOBUF_C_TYPE_STRING &&
           field->type != PROTOBUF_C_TYPE_MESSAGE && field->type != PROTOBUF_C_TYPE_BYTES;
}

static const ProtobufCEnumValue *enum_by_name(const ProtobufCEnumDescriptor *desc, const char *name)
{
    for (unsigned i = 0; i < desc->n_values; i++)
        if (!strcmp(desc->values[i].name, name))
            return &desc->values[i];
    return NULL;
}

static enum code refuse_enum(const struct check_frame *frame, const ProtobufCEnumDescriptor *desc,
                             struct status *st)
{
    char names[128] = "";
    size_t used = 0;
    for (unsigned i = 0; i < desc->n_values && used < sizeof(names); i++)
        used +=
            (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i ? ", " : "", desc->values[i].name);
    return check_refuse(&json_check, frame, st, "expected one of %s", names);
}

/* What JSON shows as a string, and every parameter of a path or query. */
static enum code value_from_text(const struct check_frame *frame, const char *text, bool parameter,
                                 struct arena *arena, void *dst, struct status *st)
{
    const ProtobufCFieldDescriptor *field = frame->field;
    bool negative;
    uint64_t magnitude;
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING: {
        char *copy = arena_strdup(arena, text);
        memcpy(dst, &copy, sizeof(copy));
        return CODE_OK;
    }
    case PROTOBUF_C_TYPE_BYTES: {
        ProtobufCBinaryData bytes = {0};
        if (!base64_get(text, arena, &bytes.data, &bytes.len))
            return refuse_expected(frame, "base64", st);
        memcpy(dst, &bytes, sizeof(bytes));
        return CODE_OK;
    }
    case PROTOBUF_C_TYPE_ENUM: {
        const ProtobufCEnumValue *row = enum_by_name(field->descriptor, text);
        if (!row)
            return refuse_enum(frame, field->descriptor, st);
        memcpy(dst, &row->value, sizeof(row->value));
        return CODE_OK;
    }
    case PROTOBUF_C_TYPE_BOOL: {
        protobuf_c_boolean flag = !strcmp(text, "true");
        if (!parameter || (!flag && strcmp(text, "false")))
            return refuse_expected(frame, "true or false", st);
        memcpy(dst, &flag, sizeof(flag));
        return CODE_OK;
    }
    case PROTOBUF_C_TYPE_MESSAGE:
        return refuse_expected(frame, "an object", st);
    default:
        if (wire_is_time(field)) {
            int64_t ms;
            if (!clock_parse_rfc3339(text, &ms))
                return refuse_expected(frame, "an RFC 3339 time such as 2026-01-31T12:00:00Z", st);
            memcpy(dst, &ms, sizeof(ms));
            return CODE_OK;
        }
        if (!(parameter || is_64_bits(field)) || !parse_int(text, &negative, &magnitude))
            return refuse_expected(frame, "a whole number", st);
        return store_int(frame, negative, magnitude, dst, st);
    }
}

struct reading {
    struct arena *arena;
    bool lenient; /* unknown fields are passed over */
};

static enum code read_message(const struct check_frame *frame, const ProtobufCMessageDescriptor *desc,
                              json_t *object, unsigned depth, const struct reading *in,
                              ProtobufCMessage **ret, struct status *st);

static enum code value_from_json(const struct check_frame *frame, json_t *json, unsigned depth,
                                 const struct reading *in, void *dst, struct status *st)
{
    const ProtobufCFieldDescriptor *field = frame->field;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        ProtobufCMessage *msg;
        if (!json_is_object(json))
            return refuse_expected(frame, "an object", st);
        TRY(read_message(frame, field->descriptor, json, depth + 1, in, &msg, st));
        memcpy(dst, &msg, sizeof(msg));
        return CODE_OK;
    }
    if (field->type == PROTOBUF_C_TYPE_BOOL) {
        protobuf_c_boolean flag = json_is_true(json);
        if (!json_is_boolean(json))
            return refuse_expected(frame, "true or false", st);
        memcpy(dst, &flag, sizeof(flag));
        return CODE_OK;
    }
    if (json_is_string(json))
        return value_from_text(frame, json_string_value(json), false, in->arena, dst, st);
    if (field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_BYTES)
        return refuse_expected(frame, "a string", st);
    if (field->type == PROTOBUF_C_TYPE_ENUM)
        return refuse_enum(frame, field->descriptor, st);
    if (wire_is_time(field))
        return refuse_expected(frame, "an RFC 3339 time such as 2026-01-31T12:00:00Z", st);
    if (!json_is_integer(json))
        return refuse_expected(frame, "a whole number", st);
    json_int_t n = json_integer_value(json);
    return store_int(frame, n < 0, n < 0 ? (uint64_t)0 - (uint64_t)n : (uint64_t)n, dst, st);
}

static void mark_present(ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field, size_t n)
{
    char *quantifier = (char *)msg + field->quantifier_offset;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        memcpy(quantifier, &n, sizeof(n));
    } else if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE) {
        protobuf_c_boolean has = 1;
        memcpy(quantifier, &has, sizeof(has));
    }
}

static enum code read_repeated(struct check_frame *frame, json_t *array, unsigned depth,
                               const struct reading *in, ProtobufCMessage *msg, struct status *st)
{
    const ProtobufCFieldDescriptor *field = frame->field;
    const struct wire_limit *limit = wire_limit_find(msg->descriptor, field);
    size_t n = json_array_size(array), size = wire_value_size(field);
    size_t most = limit && limit->max_count ? limit->max_count : WIRE_DEFAULT_COUNT_MAX;
    if (n > most)
        return check_refuse(&json_check, frame->parent, st, "%s has more than %zu elements", field->name,
                            most);
    if (n == 0)
        return CODE_OK;
    char *values = arena_array(in->arena, n, size);
    for (frame->index = 0; frame->index < n; frame->index++)
        TRY(value_from_json(frame, json_array_get(array, frame->index), depth, in,
                            values + frame->index * size, st));
    memcpy((char *)msg + field->offset, &values, sizeof(values));
    mark_present(msg, field, n);
    return CODE_OK;
}

static enum code read_message(const struct check_frame *parent, const ProtobufCMessageDescriptor *desc,
                              json_t *object, unsigned depth, const struct reading *in,
                              ProtobufCMessage **ret, struct status *st)
{
    assert(depth <= WALK_DEPTH_MAX); /* the contracts have no recursion */
    ProtobufCMessage *msg = arena_alloc(in->arena, desc->sizeof_message);
    protobuf_c_message_init(desc, msg);
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        const ProtobufCFieldDescriptor *field = find_field(desc, key);
        if (!field && in->lenient)
            continue;
        if (!field) {
            char cut[64];
            (void)snprintf(cut, sizeof(cut), "%.60s", key);
            return check_refuse(&json_check, parent, st, "unknown field \"%s\"", cut);
        }
        if (json_is_null(value))
            continue;
        struct check_frame frame = {.parent = parent, .field = field};
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            if (!json_is_array(value))
                return check_refuse(&json_check, parent, st, "%s: expected an array", key);
            TRY(read_repeated(&frame, value, depth, in, msg, st));
        } else {
            TRY(value_from_json(&frame, value, depth, in, (char *)msg + field->offset, st));
            mark_present(msg, field, 1);
        }
    }
    *ret = msg;
    return CODE_OK;
}

static enum code parse(const ProtobufCMessageDescriptor *desc, const char *text, size_t len,
                       const struct reading *in, ProtobufCMessage **ret, struct status *st)
{
    if (len == 0) {
        text = "{}";
        len = 2;
    }
    json_error_t error;
    CLEANUP(cleanup_json) json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (!json)
        return status_set(st, CODE_INVALID_ARGUMENT, "not JSON: line %d, column %d: %.120s", error.line,
                          error.column, error.text);
    if (!json_is_object(json))
        return status_set(st, CODE_INVALID_ARGUMENT, "expected a JSON object");
    return read_message(NULL, desc, json, 0, in, ret, st);
}

enum code json_parse(const ProtobufCMessageDescriptor *desc, const char *text, size_t len,
                     struct arena *arena, ProtobufCMessage **ret, struct status *st)
{
    const struct reading in = {.arena = arena};
    return parse(desc, text, len, &in, ret, st);
}

enum code json_check_message(const ProtobufCMessage *msg, struct status *st)
{
    return check_message(&json_check, NULL, msg, st);
}

enum code json_check_whole(const ProtobufCMessage *msg, struct status *st)
{
    static const struct check whole = {.json = true};
    return check_message(&whole, NULL, msg, st);
}

static enum code parse_and_check(const ProtobufCMessageDescriptor *desc, const char *text, size_t len,
                                 const struct reading *in, ProtobufCMessage **ret, struct status *st)
{
    ProtobufCMessage *msg;
    TRY(parse(desc, text, len, in, &msg, st));
    TRY(json_check_message(msg, st));
    *ret = msg;
    return CODE_OK;
}

enum code json_read(const ProtobufCMessageDescriptor *desc, const char *text, size_t len, struct arena *arena,
                    ProtobufCMessage **ret, struct status *st)
{
    const struct reading in = {.arena = arena};
    return parse_and_check(desc, text, len, &in, ret, st);
}

enum code json_read_lenient(const ProtobufCMessageDescriptor *desc, const char *text, size_t len,
                            struct arena *arena, ProtobufCMessage **ret, struct status *st)
{
    const struct reading in = {.arena = arena, .lenient = true};
    return parse_and_check(desc, text, len, &in, ret, st);
}

enum code json_set_field(ProtobufCMessage *msg, const char *json_name, const char *text, struct arena *arena,
                         struct status *st)
{
    const ProtobufCFieldDescriptor *field = find_field(msg->descriptor, json_name);
    if (!field)
        return status_set(st, CODE_INVALID_ARGUMENT, "unknown parameter \"%.64s\"", json_name);
    struct check_frame frame = {.field = field};
    if (!wire_utf8_valid(text))
        return check_refuse(&json_check, &frame, st, "not UTF-8 text");
    if (field->label != PROTOBUF_C_LABEL_REPEATED) {
        TRY(value_from_text(&frame, text, true, arena, (char *)msg + field->offset, st));
        mark_present(msg, field, 1);
        return CODE_OK;
    }
    const void *values;
    size_t n = wire_field_values(msg, field, &values), size = wire_value_size(field);
    const struct wire_limit *limit = wire_limit_find(msg->descriptor, field);
    if (n >= (limit && limit->max_count ? limit->max_count : WIRE_DEFAULT_COUNT_MAX))
        return status_set(st, CODE_INVALID_ARGUMENT, "%.64s: given too often", json_name);
    frame.index = n;
    char *more = arena_array(arena, n + 1, size);
    if (n > 0)
        memcpy(more, values, n * size);
    TRY(value_from_text(&frame, text, true, arena, more + n * size, st));
    memcpy((char *)msg + field->offset, &more, sizeof(more));
    mark_present(msg, field, n + 1);
    return CODE_OK;
}

/* ---- schema -----------------------------------------------------------------------------------------------
 */

static bool schema_type(const ProtobufCFieldDescriptor *field, const struct wire_limit *limit,
                        struct buf *out)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        return buf_printf(out, "{\"$ref\":\"#/components/schemas/%s\"}",
                          ((const ProtobufCMessageDescriptor *)field->descriptor)->short_name);
    case PROTOBUF_C_TYPE_ENUM: {
        const ProtobufCEnumDescriptor *desc = field->descriptor;
        if (!buf_puts(out, "{\"type\":\"string\",\"enum\":["))
            return false;
        for (unsigned i = 0; i < desc->n_values; i++)
            if (!buf_printf(out, "%s\"%s\"", i ? "," : "", desc->values[i].name))
                return false;
        return buf_puts(out, "]}");
    }
    case PROTOBUF_C_TYPE_STRING:
        if (limit && limit->valid == uuid_valid)
            return buf_puts(out, "{\"type\":\"string\",\"format\":\"uuid\"}");
        return buf_printf(out, "{\"type\":\"string\",\"maxLength\":%" PRIu32 "}",
                          limit && limit->max_len ? limit->max_len : WIRE_DEFAULT_STRING_MAX);
    case PROTOBUF_C_TYPE_BYTES:
        return buf_puts(out, "{\"type\":\"string\",\"contentEncoding\":\"base64\"}");
    case PROTOBUF_C_TYPE_BOOL:
        return buf_puts(out, "{\"type\":\"boolean\"}");
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return buf_puts(out, "{\"type\":\"integer\",\"minimum\":0,\"maximum\":4294967295}");
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return buf_puts(out, "{\"type\":[\"integer\",\"string\"],\"format\":\"uint64\"}");
    default:
        if (wire_is_time(field))
            return buf_puts(out, "{\"type\":\"string\",\"format\":\"date-time\"}");
        return is_64_bits(field) ? buf_puts(out, "{\"type\":[\"integer\",\"string\"],\"format\":\"int64\"}")
                                 : buf_puts(out, "{\"type\":\"integer\",\"format\":\"int32\"}");
    }
}

bool json_schema_value(const ProtobufCMessageDescriptor *desc, const ProtobufCFieldDescriptor *field,
                       struct buf *out)
{
    return schema_type(field, wire_limit_find(desc, field), out);
}

static bool schema_object(const ProtobufCMessageDescriptor *desc, struct buf *out)
{
    if (!buf_printf(out, "\"%s\":{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{",
                    desc->short_name))
        return false;
    for (unsigned i = 0; i < desc->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &desc->fields[i];
        const struct wire_limit *limit = wire_limit_find(desc, field);
        bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
        char name[64];
        json_field_name(field, name);
        if (!buf_printf(out, "%s\"%s\":%s", i ? "," : "", name,
                        repeated ? "{\"type\":\"array\",\"items\":" : "") ||
            !schema_type(field, limit, out))
            return false;
        if (repeated && !buf_printf(out, ",\"maxItems\":%" PRIu32 "}",
                                    limit && limit->max_count ? limit->max_count : WIRE_DEFAULT_COUNT_MAX))
            return false;
    }
    const char *before = "},\"required\":[";
    for (unsigned i = 0; i < desc->n_fields; i++) {
        const struct wire_limit *limit = wire_limit_find(desc, &desc->fields[i]);
        if (!limit || !limit->required)
            continue;
        char name[64];
        json_field_name(&desc->fields[i], name);
        if (!buf_printf(out, "%s\"%s\"", before, name))
            return false;
        before = ",";
    }
    return buf_puts(out, *before == '}' ? "}}" : "]}");
}

enum code json_schema(const ProtobufCMessageDescriptor *desc, struct buf *out, const char **seen,
                      size_t seen_max, size_t *n_seen, struct status *st)
{
    for (size_t i = 0; i < *n_seen; i++)
        if (!strcmp(seen[i], desc->short_name))
            return CODE_OK;
    if (*n_seen == seen_max)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "more than %zu messages in the schema", seen_max);
    if ((*n_seen > 0 && !buf_puts(out, ",")) || !schema_object(desc, out))
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "the schema is larger than the buffer's limit");
    seen[(*n_seen)++] = desc->short_name;
    for (unsigned i = 0; i < desc->n_fields; i++)
        if (desc->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
            TRY(json_schema(desc->fields[i].descriptor, out, seen, seen_max, n_seen, st));
    return CODE_OK;
}
