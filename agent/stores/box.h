/* Memory that is shared with a forked child, for keys to come back in: locked, out of core dumps, wiped. */
#ifndef CLM_AGENT_STORES_BOX_H
#define CLM_AGENT_STORES_BOX_H

#include "stores/file.h"

/* The child may be taken over, and lie about everything in it. */
struct box {
    size_t len;
    int number; /* for what goes along with the bytes */
    int64_t time_ms;
    uint8_t data[STORE_FILE_MAX];
};

struct box *box_new(void);
void box_free(struct box *box); /* NULL is fine */
DEFINE_CLEANUP(box, struct box *, box_free)
#define AUTO_BOX CLEANUP(cleanup_box)

enum code box_put(struct box *box, const void *data, size_t len, struct status *st) MUST_CHECK;
/* What is in it; NULL if that is nothing, or no possible length. */
struct secret *box_take(const struct box *box);

#endif
