#pragma once

#include "bus/bus.h"

/* A method table of the whole service: the given rows, and `other` for each method that they do not name.
 * Lives until the process ends. */
const struct rpc_method *
methods_fill(const ProtobufCServiceDescriptor *descriptor, const struct rpc_method *rows, size_t n_rows,
             enum code (*other)(struct rpc_ctx *, const void *, void *, struct status *));
