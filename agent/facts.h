/* What the agent says about its host. Read once at start, by exec. */
#ifndef CLM_AGENT_FACTS_H
#define CLM_AGENT_FACTS_H

#include "agent/policy/policy.h"
#include "base/arena.h"
#include "proto/common.pb-c.h"

/* What this build is. The date is SOURCE_DATE_EPOCH's where a packager set it. */
extern const struct agent_build {
    const char *version, *date, *commit;
} agent_build;

/* Memory from the arena. operations: what this build and the policy support; policy may be NULL. */
void facts_collect(const struct policy *policy, struct arena *arena, Clm__HostFacts *ret);
/* /proc/sys/kernel/random/boot_id; "" if unreadable. */
void facts_boot_id(char out[64]);

#endif
