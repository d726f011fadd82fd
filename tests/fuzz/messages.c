/* Walks descriptors only: a message that is added to proto/ is met through the one that carries it. */
#include "messages.h"

#include <stdlib.h>
#include <string.h>

#include "agent/ipc.pb-c.h"
#include "base/id.h"
#include "proto/agent.pb-c.h"
#include "proto/audit.pb-c.h"
#include "proto/bootstrap.pb-c.h"
#include "proto/bus.pb-c.h"
#include "proto/envelope.pb-c.h"
#include "proto/event.pb-c.h"
#include "proto/registry.pb-c.h"
#include "proto/tasks.pb-c.h"
#include "wire/check.h"

#define MESSAGES_MAX 256

static const ProtobufCMessageDescriptor *const roots[] = {
    &clm__bootstrap_request__descriptor,   &clm__bootstrap_response__descriptor,
    &clm__checkin_request__descriptor,     &clm__checkin_response__descriptor,
    &clm__result_request__descriptor,      &clm__result_response__descriptor,
    &clm__sign_request__descriptor,        &clm__sign_response__descriptor,
    &clm__agent_error__descriptor,         &clm__task_order__descriptor,
    &clm__signed_request__descriptor,      &clm__receipt__descriptor,
    &clm__task_result__descriptor,         &clm__event__descriptor,
    &clm__signed_bytes__descriptor,        &clm__assertion__descriptor,
    &clm__authority__descriptor,           &clm__agent__frame__descriptor,
    &clm__agent__runner_frame__descriptor, &clm__agent__enrol_request__descriptor,
    &clm__agent__enrol_answer__descriptor, &clm__audit_head__descriptor,
    &clm__cosignature__descriptor,
};
static const ProtobufCServiceDescriptor *const services[] = {
    &clm__registry__descriptor, &clm__bootstrap__descriptor, &clm__tasks__descriptor};

static const ProtobufCMessageDescriptor *messages[MESSAGES_MAX];
static size_t n_messages;

static void add(const ProtobufCMessageDescriptor *desc)
{
    for (size_t i = 0; i < n_messages; i++)
        if (messages[i] == desc)
            return;
    if (n_messages == MESSAGES_MAX)
        abort();
    messages[n_messages++] = desc;
    for (unsigned i = 0; i < desc->n_fields; i++)
        if (desc->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
            add(desc->fields[i].descriptor);
}

static void add_all(void)
{
    for (size_t i = 0; i < ARRAY_LEN(roots); i++)
        add(roots[i]);
    for (size_t i = 0; i < ARRAY_LEN(services); i++) {
        for (unsigned m = 0; m < services[i]->n_methods; m++) {
            add(services[i]->methods[m].input);
            add(services[i]->methods[m].output);
        }
    }
}

const ProtobufCMessageDescriptor *message_choose(const uint8_t **data, size_t *size)
{
    if (n_messages == 0)
        add_all();
    const uint8_t *line = *data, *end = memchr(line, '\n', *size);
    size_t len = end ? (size_t)(end - line) : *size;
    *data += end ? len + 1 : len;
    *size -= end ? len + 1 : len;
    for (size_t i = 0; i < n_messages; i++)
        if (strlen(messages[i]->short_name) == len && memcmp(messages[i]->short_name, line, len) == 0)
            return messages[i];
    size_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum = sum * 31 + line[i];
    return messages[sum % n_messages];
}

/* ---- examples ---------------------------------------------------------------------------------------------
 */

static char *example_text(const struct wire_limit *limit, struct arena *arena)
{
    static const char *const samples[] = {
        "0192f0c1-2345-7abc-8def-0123456789ab",
        "www.example.com",
        "www.example.com:443",
        "10.1.0.0/16",
        "/etc/ssl/site.pem",
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        "0123456789abcdef",
        "word",
        "a",
    };
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        size_t len = strlen(samples[i]);
        if (!limit || (len >= limit->min_len && (limit->max_len == 0 || len <= limit->max_len) &&
                       (!limit->valid || limit->valid(samples[i]))))
            return arena_strdup(arena, samples[i]);
    }
    return NULL;
}

static void example_value(const ProtobufCMessageDescriptor *desc, const ProtobufCFieldDescriptor *field,
                          struct arena *arena, void *dst)
{
    const struct wire_limit *limit = wire_limit_find(desc, field);
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING: {
        char *text = example_text(limit, arena);
        if (!text) {
            (void)fprintf(stderr, "no example text fits %s.%s\n", desc->short_name, field->name);
            abort();
        }
        memcpy(dst, &text, sizeof(text));
        break;
    }
    case PROTOBUF_C_TYPE_MESSAGE: {
        ProtobufCMessage *inner = message_example(field->descriptor, arena);
        memcpy(dst, &inner, sizeof(inner));
        break;
    }
    case PROTOBUF_C_TYPE_BYTES: {
        size_t len = limit && limit->min_len > 3 ? limit->min_len : 3;
        if (limit && limit->max_len && len > limit->max_len)
            len = limit->max_len;
        ProtobufCBinaryData bytes = {.len = len, .data = arena_alloc(arena, len)};
        memset(bytes.data, 0xa5, len);
        memcpy(dst, &bytes, sizeof(bytes));
        break;
    }
    case PROTOBUF_C_TYPE_ENUM:
        memcpy(dst, &((const ProtobufCEnumDescriptor *)field->descriptor)->values[0].value, sizeof(int));
        break;
    default: /* every number: one, in as many bytes as it has (little endian) */
        *(uint8_t *)dst = 1;
    }
}

ProtobufCMessage *message_example(const ProtobufCMessageDescriptor *desc, struct arena *arena)
{
    ProtobufCMessage *msg = arena_alloc(arena, desc->sizeof_message);
    protobuf_c_message_init(desc, msg);
    for (unsigned i = 0; i < desc->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &desc->fields[i];
        char *at = (char *)msg + field->offset, *quantifier = (char *)msg + field->quantifier_offset;
        bool is_pointer = field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_MESSAGE;
        if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
            uint32_t chosen;
            memcpy(&chosen, quantifier, sizeof(chosen));
            if (chosen != 0)
                continue;
            memcpy(quantifier, &field->id, sizeof(field->id));
            example_value(desc, field, arena, at);
        } else if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            const struct wire_limit *limit = wire_limit_find(desc, field);
            size_t n = limit && limit->max_count == 1 ? 1 : 2, size = wire_value_size(field);
            char *values = arena_array(arena, n, size);
            for (size_t k = 0; k < n; k++)
                example_value(desc, field, arena, values + k * size);
            memcpy(at, &values, sizeof(values));
            memcpy(quantifier, &n, sizeof(n));
        } else {
            example_value(desc, field, arena, at);
            if (!is_pointer && field->label == PROTOBUF_C_LABEL_OPTIONAL) {
                protobuf_c_boolean has = 1;
                memcpy(quantifier, &has, sizeof(has));
            }
        }
    }
    return msg;
}

void bytes_patch(uint8_t *data, size_t len, const uint8_t *patch, size_t patch_len)
{
    for (; len > 0 && patch_len >= 3; patch += 3, patch_len -= 3)
        data[(size_t)(patch[0] << 8 | patch[1]) % len] = patch[2];
}
