/* The OpenAPI 3.1 document of the REST API, made from the route table and the protobuf descriptors. */
#ifndef CLM_GATEWAY_OPENAPI_H
#define CLM_GATEWAY_OPENAPI_H

#include "base/buf.h"
#include "base/status.h"

/* Writes the whole document as JSON. */
enum code openapi_write(struct buf *out, struct status *st) MUST_CHECK;

#endif
