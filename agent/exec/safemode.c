/* The safe-mode matrix and the rules by which each reason comes and goes. */
#include "agent/exec/safemode.h"

#include <stddef.h>

struct reason_row {
    const char *name;
    bool heals; /* by itself, after SAFE_HEAL_MS of good reports; else with the first good report */
};

static const struct reason_row reasons[] = {
    [SAFE_INVALID_POLICY] = {"INVALID_POLICY", false},
    [SAFE_STATE_FULL] = {"STATE_FULL", true},
    [SAFE_CRASH_LOOP] = {"CRASH_LOOP", true},
    [SAFE_CLOCK] = {"CLOCK", true},
};
_Static_assert(ARRAY_LEN(reasons) == SAFE_REASON_COUNT, "a row for each reason");

/* Columns ONLINE and SAFE_MODE of the design's matrix; the platform decides the others. Break-glass tasks are
 * not there: a change in safe mode is refused. */
static const struct {
    bool online, safe;
} matrix[] = {
    [SAFE_ACTION_CHECKIN] = {true, true},   [SAFE_ACTION_RENEW_IDENTITY] = {true, true},
    [SAFE_ACTION_READ_ONLY] = {true, true}, [SAFE_ACTION_CHANGE] = {true, false},
    [SAFE_ACTION_EXPORT] = {true, false},
};
_Static_assert(ARRAY_LEN(matrix) == SAFE_ACTION_COUNT, "a row for each action");

const char *safe_reason_name(enum safe_reason reason)
{
    return reasons[reason].name;
}

bool safe_mode_active(const struct safe_mode *mode)
{
    return safe_mode_reason(mode) != NULL;
}

const char *safe_mode_reason(const struct safe_mode *mode)
{
    for (size_t i = 0; i < SAFE_REASON_COUNT; i++) {
        if (mode->active[i])
            return reasons[i].name;
    }
    return NULL;
}

bool safe_mode_report(struct safe_mode *mode, enum safe_reason reason, bool bad, int64_t now_mono_ms)
{
    bool was = mode->active[reason];
    if (bad) {
        mode->active[reason] = true;
        mode->good_since_ms[reason] = 0;
        return !was;
    }
    if (!was)
        return false;
    if (reasons[reason].heals) {
        if (mode->good_since_ms[reason] == 0)
            mode->good_since_ms[reason] = now_mono_ms > 0 ? now_mono_ms : 1;
        if (now_mono_ms - mode->good_since_ms[reason] < SAFE_HEAL_MS)
            return false;
    }
    mode->active[reason] = false;
    mode->good_since_ms[reason] = 0;
    return true;
}

bool safe_mode_allows(const struct safe_mode *mode, enum safe_action action)
{
    return safe_mode_active(mode) ? matrix[action].safe : matrix[action].online;
}
