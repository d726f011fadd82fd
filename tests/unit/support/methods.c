/* Method tables of services under test, by the service's own descriptor: a new method needs no row in a test.
 */
#include "support/methods.h"

#include <stdlib.h>
#include <string.h>

static const struct rpc_method *row_of(const char *name, const struct rpc_method *rows, size_t n_rows)
{
    for (size_t i = 0; i < n_rows; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    return NULL;
}

const struct rpc_method *
methods_fill(const ProtobufCServiceDescriptor *descriptor, const struct rpc_method *rows, size_t n_rows,
             enum code (*other)(struct rpc_ctx *, const void *, void *, struct status *))
{
    static struct rpc_method table[128];
    if (descriptor->n_methods > ARRAY_LEN(table))
        abort();
    for (size_t i = 0; i < descriptor->n_methods; i++) {
        const char *name = descriptor->methods[i].name;
        const struct rpc_method *row = row_of(name, rows, n_rows);
        table[i] = row ? *row : (struct rpc_method){name, other};
    }
    return table;
}
