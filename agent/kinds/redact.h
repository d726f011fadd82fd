/*
 * Takes out of a program's output what must not be in a log or a report: private keys, what looks like the
 * text of one, passwords and tokens by the names they go by, credentials in addresses. Errs on the side of
 * taking out. Pure.
 */
#ifndef CLM_AGENT_KINDS_REDACT_H
#define CLM_AGENT_KINDS_REDACT_H

#include "base/buf.h"

/* In place; what was taken out stands there as "[removed]". The text may have lost its beginning or its end:
 * half a key is taken out, too. */
void redact(struct buf *text);

#endif
