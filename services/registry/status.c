/* The one rule of an agent's status, as a table in the order of precedence. Pure; any thread. */
#include <assert.h>

#include "registry.h"
#include "safemode/safemode.h"

static bool is_disabled(const struct status_facts *f)
{
    return f->disabled;
}

static bool is_expired(const struct status_facts *f)
{
    return f->identity_ended;
}

static bool is_bootstrapping(const struct status_facts *f)
{
    return !f->heard;
}

static bool is_offline(const struct status_facts *f)
{
    return f->silent;
}

static bool is_safe_mode(const struct status_facts *f)
{
    return f->safe_mode;
}

static bool is_online(const struct status_facts *f)
{
    (void)f;
    return true;
}

static const struct {
    const char *name;
    bool (*holds)(const struct status_facts *facts);
} rule[] = {
    [AGENT_DISABLED] = {"DISABLED", is_disabled},
    [AGENT_EXPIRED] = {"EXPIRED", is_expired},
    [AGENT_BOOTSTRAPPING] = {"BOOTSTRAPPING", is_bootstrapping},
    [AGENT_OFFLINE] = {"OFFLINE", is_offline},
    [AGENT_SAFE_MODE] = {"SAFE_MODE", is_safe_mode},
    [AGENT_ONLINE] = {"ONLINE", is_online},
};
static_assert(ARRAY_LEN(rule) == AGENT_STATUS_END, "a row for every status");

enum agent_status status_derive(const struct status_facts *facts)
{
    enum agent_status status = AGENT_DISABLED;
    while (!rule[status].holds(facts))
        status++;
    return status;
}

const char *agent_status_name(enum agent_status status)
{
    return status >= AGENT_DISABLED && status < AGENT_STATUS_END ? rule[status].name : "UNKNOWN";
}

bool agent_frozen(const struct agent *agent)
{
    return agent->frozen_reason && *agent->frozen_reason;
}

bool agent_in_safe_mode(const struct agent *agent)
{
    return agent->safe_mode || agent->operator_safe_mode || agent_frozen(agent);
}

const char *agent_safe_mode_reason(const struct agent *agent)
{
    if (agent->safe_mode)
        return agent->safe_mode_reason && *agent->safe_mode_reason ? agent->safe_mode_reason : "UNKNOWN";
    return agent->operator_safe_mode ? safe_reason_info(SAFE_OPERATOR)->name : "";
}

const char *agent_reason(const struct agent *agent)
{
    const char *own = agent_safe_mode_reason(agent);
    switch (agent->status) {
    case AGENT_DISABLED:
        return agent->disabled_reason;
    case AGENT_EXPIRED:
        return "IDENTITY_ENDED";
    case AGENT_OFFLINE:
        return "SILENT";
    case AGENT_SAFE_MODE:
        return agent_frozen(agent) ? agent->frozen_reason
               : *own              ? own
                                   : safe_reason_info(SAFE_PLATFORM)->name;
    default:
        return "";
    }
}
