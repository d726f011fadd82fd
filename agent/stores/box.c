/* See box.h. */
#include "stores/box.h"

#include <string.h>
#include <sys/mman.h>

struct box *box_new(void)
{
    struct box *box =
        mmap(NULL, sizeof(*box), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (box == MAP_FAILED)
        abort();
    (void)mlock(box, sizeof(*box));
    (void)madvise(box, sizeof(*box), MADV_DONTDUMP);
    return box;
}

void box_free(struct box *box)
{
    if (!box)
        return;
    /* As far as anything was written, whatever len says: untouched pages would only be made to be wiped. */
    size_t len = *(const volatile size_t *)&box->len;
    explicit_bzero(box->data, len < sizeof(box->data) ? len : sizeof(box->data));
    (void)munmap(box, sizeof(*box));
}

enum code box_put(struct box *box, const void *data, size_t len, struct status *st)
{
    if (len > sizeof(box->data))
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "%zu bytes: at most %d", len, STORE_FILE_MAX);
    if (len)
        memcpy(box->data, data, len);
    box->len = len;
    return CODE_OK;
}

struct secret *box_take(const struct box *box)
{
    size_t len = *(const volatile size_t *)&box->len;
    return len > 0 && len <= sizeof(box->data) ? secret_dup(box->data, len) : NULL;
}
