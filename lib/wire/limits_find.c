/*
 * Finds the row of a field: by name once, from then on by the address of the field's descriptor, which stays
 * where it is for the process's life. Any thread.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "wire/check.h"

#define KNOWN_SLOTS  4096u
#define KNOWN_PROBES 8

static const struct wire_limit *slots[WIRE_LIMIT_SLOTS];
static pthread_once_t slots_once = PTHREAD_ONCE_INIT;

static uint32_t hash_add(uint32_t hash, const char *s) /* FNV-1a */
{
    for (; *s; s++)
        hash = (hash ^ (unsigned char)*s) * 16777619u;
    return hash;
}

static void slots_fill(void)
{
    for (const struct wire_limit *row = wire_limits; row->field; row++) {
        uint32_t i = hash_add(2166136261u, row->field) % WIRE_LIMIT_SLOTS;
        while (slots[i])
            i = (i + 1) % WIRE_LIMIT_SLOTS;
        slots[i] = row;
    }
}

static bool names(const char *field, const char *message, const char *name)
{
    size_t len = strlen(message);
    return !strncmp(field, message, len) && field[len] == '.' && !strcmp(field + len + 1, name);
}

static const struct wire_limit *find_by_name(const ProtobufCMessageDescriptor *desc,
                                             const ProtobufCFieldDescriptor *field)
{
    (void)pthread_once(&slots_once, slots_fill);
    uint32_t hash = hash_add(hash_add(hash_add(2166136261u, desc->short_name), "."), field->name);
    for (uint32_t i = hash % WIRE_LIMIT_SLOTS; slots[i]; i = (i + 1) % WIRE_LIMIT_SLOTS)
        if (names(slots[i]->field, desc->short_name, field->name))
            return slots[i];
    return NULL;
}

/* Fields that were asked for, by their descriptors, which stay where they are for the process's life: a page
 * of a list asks for the same few a thousand times. */
static struct known {
    _Atomic(const ProtobufCFieldDescriptor *) field; /* written last; for ever */
    const struct wire_limit *limit;
} known[KNOWN_SLOTS];
static pthread_mutex_t known_mutex = PTHREAD_MUTEX_INITIALIZER;

/* The field's slot, or the free one that it would take; NULL when those are all somebody else's. */
static struct known *known_slot(const ProtobufCFieldDescriptor *field)
{
    size_t at = (uintptr_t)field / sizeof(*field);
    for (size_t i = 0; i < KNOWN_PROBES; i++) {
        struct known *slot = &known[(at + i) % KNOWN_SLOTS];
        const ProtobufCFieldDescriptor *is = atomic_load_explicit(&slot->field, memory_order_acquire);
        if (!is || is == field)
            return slot;
    }
    return NULL;
}

static void remember(const ProtobufCFieldDescriptor *field, const struct wire_limit *limit)
{
    (void)pthread_mutex_lock(&known_mutex);
    struct known *slot = known_slot(field);
    if (slot && !atomic_load_explicit(&slot->field, memory_order_relaxed)) {
        slot->limit = limit;
        atomic_store_explicit(&slot->field, field, memory_order_release);
    }
    (void)pthread_mutex_unlock(&known_mutex);
}

const struct wire_limit *wire_limit_find(const ProtobufCMessageDescriptor *desc,
                                         const ProtobufCFieldDescriptor *field)
{
    const struct known *slot = known_slot(field);
    if (slot && atomic_load_explicit(&slot->field, memory_order_acquire) == field)
        return slot->limit;
    const struct wire_limit *limit = find_by_name(desc, field);
    remember(field, limit);
    return limit;
}
