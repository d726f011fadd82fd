/*
 * The agent's own part of safe mode (lib/safemode has the table): which of its reasons hold now, and how each
 * leaves. Pure state, exec's thread.
 */
#ifndef CLM_AGENT_EXEC_SAFEMODE_H
#define CLM_AGENT_EXEC_SAFEMODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "safemode/safemode.h"

#define SAFE_CLOCK_SKEW_MS (5 * 60 * 1000)
#define SAFE_CRASHES       3
#define SAFE_CRASH_MS      (10 * 60 * 1000)

struct safe_mode {
    bool active[SAFE_AGENT_REASON_COUNT];
    int64_t good_since_ms[SAFE_AGENT_REASON_COUNT]; /* monotonic; 0: not good now */
};

bool safe_mode_active(const struct safe_mode *mode);
/* SAFE_ONLINE while no reason holds. */
enum safe_column safe_mode_column(const struct safe_mode *mode);
/* The strongest (first) reason's name; NULL if none. */
const char *safe_mode_reason(const struct safe_mode *mode);
/* Returns whether the mode changed. A healing reason that is good leaves after SAFE_HEAL_MS of it, any other
 * at once: who may call it good is the caller's to know. */
bool safe_mode_report(struct safe_mode *mode, enum safe_reason reason, bool bad, int64_t now_mono_ms);

#endif
