/* All commands, in the order in which help shows them. */
#include "cli/command.h"

const struct command *const command_tables[] = {
    overview_commands,
    agents_commands,
    metrics_commands,
    tasks_commands,
    alerts_commands,
    certificates_commands,
    reports_commands,
    events_commands,
    audit_commands,
    people_commands,
    context_commands,
    completion_commands,
    NULL,
};
