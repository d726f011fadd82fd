/* What a measurement cannot go on without. */
#ifndef CLM_TESTS_BENCH_NEED_H
#define CLM_TESTS_BENCH_NEED_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/status.h"

static inline void need(enum code code, const struct status *st)
{
    if (code == CODE_OK)
        return;
    (void)fprintf(stderr, "%s: %s\n", program_invocation_short_name, st->msg);
    exit(1);
}

#endif
