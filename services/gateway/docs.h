/* The REST API as a page to read (GET /api/docs): plain HTML without scripts, from the same table as the
 * OpenAPI document. Made once at start. */
#ifndef CLM_GATEWAY_DOCS_H
#define CLM_GATEWAY_DOCS_H

#include "base/buf.h"
#include "base/status.h"

enum code docs_write(struct buf *out, struct status *st) MUST_CHECK;
extern const char docs_css[]; /* GET /api/docs.css */

#endif
