/* `clmctl alerts …` and `clmctl activity list`. */
#include "cli/view.h"
#include "proto/registry.pb-c.h"

static const struct cli_option list_options[] = {
    {"state", "STATE", "only these: open, acknowledged, resolved (default: those not resolved)", OPTION_LIST,
     "state", &clm__alert__state__descriptor},
    {"kind", "KIND", "only these: agent_offline, clone, task_failed …", OPTION_LIST, "kind",
     &clm__alert__kind__descriptor},
    {"agent", "ID", "only alerts of this agent", OPTION_TEXT, .param = "agentId"},
    LIST_OPTIONS,
    {.name = NULL},
};

static const struct column alert_columns[] = {
    {"ID", "id", false},
    {"KIND", "kind", false},
    {"STATE", "state", false},
    {"LAST", "last_at_ms", false},
    {"COUNT", "count", false},
    {"HOST", "hostname", false},
    {"MESSAGE", "message", false},
    {"FIRST", "first_at_ms", true},
    {"ACKNOWLEDGED BY", "acknowledged_by", true},
    {"RESOLVED BY", "resolved_by", true},
    {.heading = NULL},
};

static const struct cli_option output_options[] = {OUTPUT_OPTION, {.name = NULL}};

static const struct cli_option activity_options[] = {
    {"agent", "ID", "only of this agent", OPTION_TEXT, .param = "agentId"},
    {"actor", "WHO", "only by: operator:alice, api-key:…", OPTION_TEXT, .param = "actor"},
    {"event", "EVENT", "only these: agent.registered, or task.*", OPTION_TEXT, .param = "event"},
    LIST_OPTIONS,
    {.name = NULL},
};

static const struct column activity_columns[] = {
    {"WHEN", "occurred_at_ms", false}, {"EVENT", "event", false},
    {"AGENT", "agent_id", false},      {"BY", "actor", false},
    {"MESSAGE", "message", false},     {.heading = NULL},
};

const struct command alerts_commands[] = {
    {.group = "alerts",
     .name = "list",
     .summary = "List alerts, newest first",
     .options = list_options,
     .listing = &(const struct listing){"/api/v1/alerts", &clm__list_alerts_response__descriptor, "alerts",
                                        alert_columns}},
    {.group = "alerts",
     .name = "acknowledge",
     .positional = "ID",
     .summary = "Say that somebody looks after an alert",
     .options = output_options,
     .action = &(const struct action){.method = "POST",
                                      .path = "/api/v1/alerts/%s:acknowledge",
                                      .response = &clm__alert__descriptor,
                                      .needs_id = true}},
    {.group = "alerts",
     .name = "resolve",
     .positional = "ID",
     .summary = "Close an alert",
     .options = output_options,
     .action = &(const struct action){.method = "POST",
                                      .path = "/api/v1/alerts/%s:resolve",
                                      .response = &clm__alert__descriptor,
                                      .needs_id = true}},
    {.group = "activity",
     .name = "list",
     .summary = "What happened lately, newest first",
     .options = activity_options,
     .listing = &(const struct listing){"/api/v1/activity", &clm__list_activity_response__descriptor,
                                        "activity", activity_columns}},
    {.name = NULL},
};
