/* Private to lib/sandbox: builds and loads the seccomp filter of a profile. 0, or a negative errno. */
#ifndef CLM_SANDBOX_FILTER_H
#define CLM_SANDBOX_FILTER_H

#include "sandbox/sandbox.h"

int filter_load(enum sandbox_profile which);

#endif
