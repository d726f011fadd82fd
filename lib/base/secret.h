/* Key material and tokens: locked in memory, kept out of core dumps and forks' dumps, wiped when freed. */
#ifndef CLM_BASE_SECRET_H
#define CLM_BASE_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/status.h"

struct secret {
    uint8_t *data; /* NUL after the last byte */
    size_t len;
};

struct secret *secret_new(size_t len); /* zeroed */
struct secret *secret_dup(const void *data, size_t len);
void secret_free(struct secret *secret);
bool secret_equal(const struct secret *a, const struct secret *b); /* constant time for equal lengths */
/* Reads a whole file of at most max bytes; one trailing newline is dropped when trim. Refuses a file that
 * others than its owner (and root) may read: PERMISSION_DENIED with the chmod that mends it. A file of root's
 * may also be readable by its group when the reader is not root. */
enum code secret_read_file(const char *path, size_t max, bool trim, struct secret **ret,
                           struct status *st) MUST_CHECK;
/* No core dumps and no ptrace by peers of the same user, for processes that hold keys. */
void secret_harden_process(void);

DEFINE_CLEANUP(secret, struct secret *, secret_free)
#define AUTO_SECRET CLEANUP(cleanup_secret)

#endif
