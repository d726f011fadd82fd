/* `clmctl dashboard`, and the platform as a whole. */
#include <stdio.h>

#include "cli/command.h"
#include "cli/table.h"
#include "proto/registry.pb-c.h"

static const struct cli_option output_options[] = {
    {"o", "FORMAT", "table (default) or json", .type = OPTION_TEXT},
    {.name = NULL},
};

static void print_activity(const Clm__Dashboard *dashboard, struct arena *arena)
{
    static const char *const headings[] = {"WHEN", "EVENT", "AGENT", "BY", "MESSAGE"};
    struct table *table = table_new(arena, headings, ARRAY_LEN(headings));
    for (size_t i = 0; i < dashboard->n_recent_activity; i++) {
        const Clm__Activity *activity = dashboard->recent_activity[i];
        table_row(table,
                  (const char *[]){table_time(arena, activity->has_occurred_at_ms, activity->occurred_at_ms),
                                   activity->event, activity->agent_id, activity->actor, activity->message});
    }
    (void)putchar('\n');
    table_print(table, stdout);
}

static enum code run_dashboard(struct client *client, const struct cli_args *args, struct arena *arena,
                               int *ret_exit, struct status *st)
{
    bool json;
    TRY(cli_args_json(args, &json, st));
    ProtobufCMessage *msg;
    const char *text;
    TRY(client_call(client, "GET", "/api/v1/dashboard", NULL, &clm__dashboard__descriptor, arena, &msg, &text,
                    st));
    *ret_exit = EXIT_OK;
    if (json) {
        (void)puts(text);
        return CODE_OK;
    }
    const Clm__Dashboard *dashboard = (const Clm__Dashboard *)msg;
    const struct {
        const char *name;
        uint32_t n;
    } counts[] = {
        {"agents", dashboard->total},
        {"online", dashboard->online},
        {"offline", dashboard->offline},
        {"safe mode", dashboard->safe_mode},
        {"bootstrapping", dashboard->bootstrapping},
        {"expired", dashboard->expired},
        {"disabled", dashboard->disabled},
        {"expiring soon", dashboard->identities_expiring},
    };
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        (void)printf("%-14s %u\n", counts[i].name, counts[i].n);
    if (dashboard->n_recent_activity > 0)
        print_activity(dashboard, arena);
    return CODE_OK;
}

static enum code run_restored(struct client *client, const struct cli_args *args, struct arena *arena,
                              int *ret_exit, struct status *st)
{
    bool json;
    ProtobufCMessage *msg;
    const char *text;
    TRY(cli_args_json(args, &json, st));
    TRY(client_call(client, "POST", "/api/v1/platform:restored", NULL, &clm__platform_restored__descriptor,
                    arena, &msg, &text, st));
    *ret_exit = EXIT_OK;
    if (json) {
        (void)puts(text);
        return CODE_OK;
    }
    const Clm__PlatformRestored *done = (const Clm__PlatformRestored *)msg;
    (void)printf("epoch %llu has begun\n%u tokens and %u leases that were out are void\n",
                 (unsigned long long)done->epoch, done->tokens_voided, done->leases_voided);
    if (done->former_tree_id)
        (void)printf("%u agents that were disabled, revoked or frozen since the backup are held back again\n"
                     "the audit log begins a new tree; of the one before, %s, %llu records were known\n",
                     done->agents_held_back, done->former_tree_id,
                     (unsigned long long)done->former_tree_size);
    return CODE_OK;
}

const struct command overview_commands[] = {
    {.name = "dashboard",
     .summary = "Counts by status and the latest activity",
     .options = output_options,
     .run = run_dashboard},
    {.group = "platform",
     .name = "restored",
     .summary = "Say that the database was restored from a backup: what was given out since is void",
     .options = output_options,
     .run = run_restored},
    {.name = NULL},
};
