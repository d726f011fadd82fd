/* Files embedded at build time by clm_embed(): SQL migrations, web files. */
#ifndef CLM_BASE_EMBED_H
#define CLM_BASE_EMBED_H

#include <stddef.h>

struct embed {
    const char *name;          /* base name; NULL ends a table */
    const unsigned char *data; /* NUL after the last byte */
    size_t size;
};

#endif
