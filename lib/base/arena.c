/* Chained blocks that double up to a cap; oversized requests get a block of their own. */
#include "base/arena.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define FIRST_BLOCK 4096u
#define LAST_BLOCK  (256u * 1024u)
#define ALIGN       _Alignof(max_align_t)

struct block {
    struct block *next; /* older */
    size_t size, used;
    _Alignas(max_align_t) unsigned char data[];
};

struct arena {
    struct block *newest;
    struct block *first;
    size_t used;
};

static void *must_alloc(size_t bytes)
{
    void *p = calloc(1, bytes);
    if (!p)
        abort();
    return p;
}

static struct block *block_new(size_t size)
{
    struct block *block = must_alloc(sizeof(*block) + size);
    block->size = size;
    return block;
}

struct arena *arena_new(void)
{
    struct arena *arena = must_alloc(sizeof(*arena));
    arena->first = arena->newest = block_new(FIRST_BLOCK);
    return arena;
}

static void free_later_blocks(struct arena *arena)
{
    while (arena->newest != arena->first) {
        struct block *block = arena->newest;
        arena->newest = block->next;
        free(block);
    }
}

void arena_free(struct arena *arena)
{
    if (!arena)
        return;
    free_later_blocks(arena);
    free(arena->first);
    free(arena);
}

void arena_reset(struct arena *arena)
{
    free_later_blocks(arena);
    memset(arena->first->data, 0, arena->first->used);
    arena->first->used = 0;
    arena->used = 0;
}

size_t arena_used_bytes(const struct arena *arena)
{
    return arena->used;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX / 4)
        abort();
    size_t need = bytes ? (bytes + ALIGN - 1) / ALIGN * ALIGN : ALIGN;
    struct block *block = arena->newest;
    if (block->size - block->used < need) {
        size_t size = block->size < LAST_BLOCK ? block->size * 2 : LAST_BLOCK;
        if (size < need)
            size = need;
        block = block_new(size);
        block->next = arena->newest;
        arena->newest = block;
    }
    void *p = block->data + block->used;
    block->used += need;
    arena->used += need;
    return p;
}

void *arena_array(struct arena *arena, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes))
        abort();
    return arena_alloc(arena, bytes);
}

void *arena_dup(struct arena *arena, const void *data, size_t bytes)
{
    void *p = arena_alloc(arena, bytes);
    if (bytes)
        memcpy(p, data, bytes);
    return p;
}

char *arena_strdup(struct arena *arena, const char *s)
{
    return s ? arena_dup(arena, s, strlen(s) + 1) : NULL;
}

char *arena_strndup(struct arena *arena, const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *copy = arena_alloc(arena, len + 1);
    memcpy(copy, s, len);
    return copy;
}

char *arena_printf(struct arena *arena, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    assert(len >= 0);
    char *text = arena_alloc(arena, (size_t)len + 1);
    (void)vsnprintf(text, (size_t)len + 1, fmt, again);
    va_end(again);
    return text;
}
