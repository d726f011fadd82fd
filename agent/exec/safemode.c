/* How reasons come and go. */
#include "agent/exec/safemode.h"

#include <stddef.h>

bool safe_mode_active(const struct safe_mode *mode)
{
    return safe_mode_reason(mode) != NULL;
}

enum safe_column safe_mode_column(const struct safe_mode *mode)
{
    enum safe_column column = SAFE_ONLINE;
    for (int i = 0; i < SAFE_AGENT_REASON_COUNT; i++)
        if (mode->active[i])
            column = safe_strictest(column, safe_reason_info((enum safe_reason)i)->column);
    return column;
}

const char *safe_mode_reason(const struct safe_mode *mode)
{
    for (int i = 0; i < SAFE_AGENT_REASON_COUNT; i++) {
        if (mode->active[i])
            return safe_reason_info((enum safe_reason)i)->name;
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
    if (safe_reason_info(reason)->exit == SAFE_EXIT_HEALS) {
        if (mode->good_since_ms[reason] == 0)
            mode->good_since_ms[reason] = now_mono_ms > 0 ? now_mono_ms : 1;
        if (now_mono_ms - mode->good_since_ms[reason] < SAFE_HEAL_MS)
            return false;
    }
    mode->active[reason] = false;
    mode->good_since_ms[reason] = 0;
    return true;
}
