/* Owned byte strings and lists of them. */
#include "pki/der.h"

#include <string.h>

struct der der_dup(struct bytes bytes)
{
    if (bytes.len == 0)
        return (struct der){0};
    uint8_t *copy = malloc(bytes.len);
    if (!copy)
        abort();
    memcpy(copy, bytes.data, bytes.len);
    return (struct der){copy, bytes.len};
}

void der_list_done(struct der_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        der_done(&list->item[i]);
    list->n = 0;
}

enum code der_list_add(struct der_list *list, struct bytes der, struct status *st)
{
    if (list->n == DER_LIST_MAX)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "more than %d certificates in one list", DER_LIST_MAX);
    list->item[list->n++] = der_dup(der);
    return CODE_OK;
}
