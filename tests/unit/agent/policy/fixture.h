/* A policy read from a text, in a directory of its own. */
#ifndef CLM_TEST_AGENT_POLICY_H
#define CLM_TEST_AGENT_POLICY_H

#include "harness.h"

extern struct policy *policy; /* the one that was read last; NULL: it was refused */
extern struct status st;      /* what was said last */

enum code policy_read(struct host *host, const char *text);
void assert_says(const char *text);
int policy_teardown(void **state);

#endif
