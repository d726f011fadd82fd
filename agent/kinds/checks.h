/*
 * The checks of VALIDATE, a row each: a stable id, how bad it is when it fails, and what it is about. What
 * was found and what to do about it comes with each outcome. docs/checks.md is this table as text; a test
 * holds them together.
 */
#ifndef CLM_AGENT_KINDS_CHECKS_H
#define CLM_AGENT_KINDS_CHECKS_H

#include "proto/tasks.pb-c.h"

struct check_row {
    const char *id;
    Clm__Check__Severity severity; /* of a failure */
    const char *about;             /* what holds when it passes */
    const char *remedy;            /* in general; an outcome may have a better one */
};

extern const struct check_row checks[];             /* ended by id NULL */
const struct check_row *check_find(const char *id); /* NULL: there is none */

#endif
