/* Problem documents (RFC 9457) of the REST API: type, title, status, detail, traceId, and the fields that are
 * wrong. */
#ifndef CLM_GATEWAY_PROBLEM_H
#define CLM_GATEWAY_PROBLEM_H

#include "base/buf.h"
#include "base/status.h"

/* The type is "urn:clm:problem:<slug>" and never changes for a code. False if it does not fit. */
bool problem_write(struct buf *out, int http_status, const struct status *st,
                   const char *trace_id) MUST_CHECK;

#endif
