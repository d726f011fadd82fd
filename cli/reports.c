/* `clmctl reports …`: what validations found. */
#include "cli/view.h"
#include "proto/tasks.pb-c.h"

static const struct cli_option list_options[] = {
    {"agent", "ID", "only of this agent", OPTION_TEXT, .param = "agentId"},
    {"verdict", "VERDICT", "only with this as the worst of its checks: pass, warn, fail", OPTION_LIST,
     "verdict", &clm__check__outcome__descriptor},
    LIST_OPTIONS,
    {.name = NULL},
};

static const struct column columns[] = {
    {"VALIDATED", "validated_at_ms", false},
    {"VERDICT", "verdict", false},
    {"TARGET", "asked.target", false},
    {"ENDPOINT", "asked.endpoint", false},
    {"FILE", "asked.certificate_path", false},
    {"SUBJECT", "certificate.subject", false},
    {"UNTIL", "certificate.not_after_at_ms", false},
    {"TASK", "task_id", false},
    {"AGENT", "agent_id", true},
    {"SERVED", "served_fingerprint_sha256", true},
    {.heading = NULL},
};

const struct command reports_commands[] = {
    {.group = "reports",
     .name = "list",
     .summary = "List what validations found, newest first; `tasks get TASK` shows each check",
     .options = list_options,
     .listing = &(const struct listing){"/api/v1/reports", &clm__list_reports_response__descriptor, "reports",
                                        columns}},
    {.name = NULL},
};
