/*
 * Bump allocator for what lives exactly as long as one request. One owner, one thread. Memory is zeroed.
 * Out of memory aborts; whatever a peer sizes passes a limit before it gets here.
 */
#ifndef CLM_BASE_ARENA_H
#define CLM_BASE_ARENA_H

#include <stdarg.h>
#include <stddef.h>

#include "base/cleanup.h"

struct arena;

struct arena *arena_new(void);
void arena_free(struct arena *arena);
/* Frees all but the first block: cheap reuse between requests. */
void arena_reset(struct arena *arena);
size_t arena_used_bytes(const struct arena *arena);

void *arena_alloc(struct arena *arena, size_t bytes) __attribute__((malloc, returns_nonnull));
/* n elements of size bytes; aborts on overflow of the product. */
void *arena_array(struct arena *arena, size_t n, size_t size) __attribute__((returns_nonnull));
void *arena_dup(struct arena *arena, const void *data, size_t bytes);
char *arena_strdup(struct arena *arena, const char *s); /* NULL gives NULL */
char *arena_strndup(struct arena *arena, const char *s, size_t n);
char *arena_printf(struct arena *arena, const char *fmt, ...) PRINTF(2, 3);

DEFINE_CLEANUP(arena, struct arena *, arena_free)
#define AUTO_ARENA CLEANUP(cleanup_arena)

#endif
