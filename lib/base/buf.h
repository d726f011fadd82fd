/* Bounded growing byte buffer. An append that would pass the limit fails and leaves the buffer as it was. */
#ifndef CLM_BASE_BUF_H
#define CLM_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct buf {
    uint8_t *data; /* always followed by a NUL when not NULL, so text can be read in place */
    size_t len;
    size_t cap;
    size_t limit; /* in bytes; 0 means BUF_DEFAULT_LIMIT */
};

#define BUF_DEFAULT_LIMIT (1024u * 1024u)
#define AUTO_BUF          CLEANUP(buf_done)

void buf_init(struct buf *buf, size_t limit);
void buf_done(struct buf *buf);  /* wipes nothing; for key material use secret.h */
void buf_reset(struct buf *buf); /* len = 0, keeps memory */
bool buf_append(struct buf *buf, const void *data, size_t len) MUST_CHECK;
bool buf_puts(struct buf *buf, const char *s) MUST_CHECK;
bool buf_printf(struct buf *buf, const char *fmt, ...) PRINTF(2, 3) MUST_CHECK;
void buf_consume(struct buf *buf, size_t n); /* drops the first n bytes; n <= len */
const char *buf_text(const struct buf *buf); /* NUL-terminated; "" if empty */
/* Hands the malloc'd bytes over and leaves the buffer empty; *ret_len may be NULL. */
uint8_t *buf_take(struct buf *buf, size_t *ret_len);

#endif
