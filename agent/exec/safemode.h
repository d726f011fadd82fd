/*
 * Safe mode (DESIGN.md section 8): which reasons hold now, and the matrix of what is still allowed. Each
 * reason leaves only by its own exit. Pure state, exec's thread.
 */
#ifndef CLM_AGENT_EXEC_SAFEMODE_H
#define CLM_AGENT_EXEC_SAFEMODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum safe_reason {
    SAFE_INVALID_POLICY, /* left when a reload of the policy succeeds */
    SAFE_STATE_FULL,     /* the state directory cannot be written; heals after 10 good minutes */
    SAFE_CRASH_LOOP,     /* 3 ends without a word in 10 minutes; heals after 10 good minutes */
    SAFE_CLOCK,          /* more than 5 min away from the platform's; heals after 10 good minutes */
    SAFE_REASON_COUNT
};
const char *safe_reason_name(enum safe_reason reason); /* "INVALID_POLICY" */

#define SAFE_CLOCK_SKEW_MS (5 * 60 * 1000)
#define SAFE_CRASHES       3
#define SAFE_CRASH_MS      (10 * 60 * 1000)
#define SAFE_HEAL_MS       (10 * 60 * 1000)

enum safe_action { /* the matrix's rows that the agent decides about */
                   SAFE_ACTION_CHECKIN,
                   SAFE_ACTION_RENEW_IDENTITY,
                   SAFE_ACTION_READ_ONLY, /* VALIDATE, DISCOVER */
                   SAFE_ACTION_CHANGE,    /* DEPLOY, RENEW */
                   SAFE_ACTION_EXPORT,
                   SAFE_ACTION_COUNT
};

struct safe_mode {
    bool active[SAFE_REASON_COUNT];
    int64_t good_since_ms[SAFE_REASON_COUNT]; /* monotonic; 0: not good now */
};

bool safe_mode_active(const struct safe_mode *mode);
/* The strongest (first) reason's name; NULL if none. */
const char *safe_mode_reason(const struct safe_mode *mode);
/* Each returns whether the mode changed. A healing reason that is good leaves after SAFE_HEAL_MS of it. */
bool safe_mode_report(struct safe_mode *mode, enum safe_reason reason, bool bad, int64_t now_mono_ms);
bool safe_mode_allows(const struct safe_mode *mode, enum safe_action action);

#endif
