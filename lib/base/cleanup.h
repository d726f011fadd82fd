/*
 * Scope-bound ownership for locals. `CLEANUP(buf_done) struct buf b = {0};` runs buf_done(&b) when the
 * scope ends; `TAKE(p)` hands a pointer over and leaves NULL behind, so the cleanup does nothing.
 */
#ifndef CLM_BASE_CLEANUP_H
#define CLM_BASE_CLEANUP_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn)  __attribute__((cleanup(fn)))
#define MUST_CHECK   __attribute__((warn_unused_result))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))
#define UNUSED       __attribute__((unused))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* What only a lack of memory makes NULL. */
static inline void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

/* Evaluates to the pointer and sets it to NULL: ownership moves to the reader of the expression. */
#define TAKE(p)                                                                                              \
    __extension__({                                                                                          \
        __typeof__(p) *take_from_ = &(p);                                                                    \
        __typeof__(p) taken_ = *take_from_;                                                                  \
        *take_from_ = NULL;                                                                                  \
        taken_;                                                                                              \
    })

/* Defines cleanup_<name>(type **) for a pointer type with a free function that accepts NULL. */
#define DEFINE_CLEANUP(name, type, free_fn)                                                                  \
    static inline void cleanup_##name(type *p)                                                               \
    {                                                                                                        \
        if (*p)                                                                                              \
            free_fn(*p);                                                                                     \
    }

static inline void cleanup_free(void *p)
{
    free(*(void **)p);
}

static inline void cleanup_close(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}

static inline void cleanup_fclose(FILE **f)
{
    if (*f)
        (void)fclose(*f);
}

/* `AUTO_FREE char *s = …;`, `AUTO_CLOSE int fd = …;` */
#define AUTO_FREE   CLEANUP(cleanup_free)
#define AUTO_CLOSE  CLEANUP(cleanup_close)
#define AUTO_FCLOSE CLEANUP(cleanup_fclose)

#endif
