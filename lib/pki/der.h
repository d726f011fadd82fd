/* A borrowed run of bytes (usually DER), and owned ones. Everything in lib/pki takes and gives these. */
#ifndef CLM_PKI_DER_H
#define CLM_PKI_DER_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/status.h"

struct bytes { /* borrowed */
    const uint8_t *data;
    size_t len;
};

struct der { /* owned, malloc'd */
    uint8_t *data;
    size_t len;
};

static inline void der_done(struct der *der)
{
    free(der->data);
    der->data = NULL;
    der->len = 0;
}
static inline struct bytes der_bytes(const struct der *der)
{
    return (struct bytes){der->data, der->len};
}
#define AUTO_DER CLEANUP(der_done)
struct der der_dup(struct bytes bytes); /* of any size: bound it before */

/* Owned list of DER objects, for chains and bundles. */
#define DER_LIST_MAX 16
struct der_list {
    struct der item[DER_LIST_MAX];
    size_t n;
};
void der_list_done(struct der_list *list);
/* Copies der onto the end; RESOURCE_EXHAUSTED when the list is full. */
enum code der_list_add(struct der_list *list, struct bytes der, struct status *st) MUST_CHECK;
#define AUTO_DER_LIST CLEANUP(der_list_done)

#endif
