/* `clmctl dashboard`, and the platform as a whole. */
#include <stdio.h>

#include "cli/command.h"
#include "cli/table.h"
#include "cli/view.h"
#include "proto/registry.pb-c.h"

static const struct cli_option output_options[] = {
    {"o", "FORMAT", "table (default) or json", .type = OPTION_TEXT},
    {.name = NULL},
};

static const char *duration(struct arena *arena, uint32_t sec)
{
    return arena_printf(arena, "%u day%s", sec / 86400, sec == 86400 ? "" : "s");
}

static void print_ends(const Clm__Dashboard *dashboard, struct arena *arena)
{
    (void)puts("\nidentities end");
    for (size_t i = 0; i < dashboard->n_identities_by_end; i++) {
        const Clm__IdentityEnds *ends = dashboard->identities_by_end[i];
        const char *when = !ends->has_within_sec   ? "later"
                           : ends->within_sec == 0 ? "ended"
                                                   : duration(arena, ends->within_sec);
        (void)printf("  %-12s %u\n", when, ends->n);
    }
}

static void print_tasks(const Clm__TaskStatistics *tasks, struct arena *arena)
{
    static const char *const headings[] = {"DAY",    "SUCCEEDED", "UNVERIFIED",
                                           "FAILED", "CANCELLED", "EXPIRED"};
    struct table *table = table_new(arena, headings, ARRAY_LEN(headings));
    for (size_t i = 0; i < tasks->n_days; i++) {
        const Clm__TaskPeriod *day = tasks->days[i];
        const char *at = table_time(arena, day->has_begins_at_ms, day->begins_at_ms);
        table_row(table, (const char *[]){at ? arena_strndup(arena, at, 10) : NULL,
                                          arena_printf(arena, "%u", day->succeeded),
                                          arena_printf(arena, "%u", day->installed_unverified),
                                          arena_printf(arena, "%u", day->failed),
                                          arena_printf(arena, "%u", day->cancelled),
                                          arena_printf(arena, "%u", day->expired)});
    }
    (void)putchar('\n');
    table_print(table, stdout);
}

static void print_alerts(const Clm__Dashboard *dashboard, struct arena *arena)
{
    static const char *const headings[] = {"LAST", "ALERT", "HOST", "MESSAGE"};
    struct table *table = table_new(arena, headings, ARRAY_LEN(headings));
    for (size_t i = 0; i < dashboard->n_recent_alerts; i++) {
        const Clm__Alert *alert = dashboard->recent_alerts[i];
        const ProtobufCEnumValue *kind =
            protobuf_c_enum_descriptor_get_value(&clm__alert__kind__descriptor, (int)alert->kind);
        table_row(table, (const char *[]){table_time(arena, alert->has_last_at_ms, alert->last_at_ms),
                                          kind ? kind->name : "?", alert->hostname, alert->message});
    }
    (void)putchar('\n');
    table_print(table, stdout);
}

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
        {"safe mode", dashboard->in_safe_mode},
        {"bootstrapping", dashboard->bootstrapping},
        {"expired", dashboard->expired},
        {"disabled", dashboard->disabled},
        {"expiring soon", dashboard->identities_expiring},
        {"open alerts", dashboard->open_alerts},
    };
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        (void)printf("%-14s %u\n", counts[i].name, counts[i].n);
    print_ends(dashboard, arena);
    if (dashboard->n_versions > 0)
        (void)puts("\nagents by version");
    for (size_t i = 0; i < dashboard->n_versions; i++)
        (void)printf("  %-12s %u\n", dashboard->versions[i]->version, dashboard->versions[i]->n);
    if (dashboard->tasks && dashboard->tasks->n_days > 0)
        print_tasks(dashboard->tasks, arena);
    if (dashboard->n_recent_alerts > 0)
        print_alerts(dashboard, arena);
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
        (void)printf("%u agents that were disabled, revoked or frozen since the backup are held back again, "
                     "%u that were deleted are deleted again\n"
                     "the audit log begins a new tree; of the one before, %s, %llu records were known\n",
                     done->agents_held_back, done->agents_deleted, done->former_tree_id,
                     (unsigned long long)done->former_tree_size);
    return CODE_OK;
}

#define PLATFORM_ACTION(verb)                                                                                \
    &(const struct action)                                                                                   \
    {                                                                                                        \
        .method = "POST", .path = "/api/v1/platform" verb,                                                   \
        .request = &clm__platform_safe_mode_request__descriptor, .response = &clm__platform_view__descriptor \
    }

static const struct cli_option reason_options[] = {
    {"reason", "TEXT", "why, for whoever looks at it", OPTION_TEXT, .param = "reason"},
    OUTPUT_OPTION,
    {.name = NULL},
};

const struct command overview_commands[] = {
    {.name = "dashboard",
     .summary = "Counts by status and the latest activity",
     .options = output_options,
     .run = run_dashboard},
    {.group = "platform",
     .name = "get",
     .summary = "Whether the whole platform is in safe mode",
     .options = output_options,
     .action = &(const struct action){.method = "GET",
                                      .path = "/api/v1/platform",
                                      .response = &clm__platform_view__descriptor}},
    {.group = "platform",
     .name = "safe-mode",
     .summary = "Put the whole platform into safe mode: only what changes nothing is done on any agent",
     .options = reason_options,
     .action = PLATFORM_ACTION(":enterSafeMode")},
    {.group = "platform",
     .name = "leave-safe-mode",
     .summary = "End the whole platform's safe mode",
     .options = reason_options,
     .action = PLATFORM_ACTION(":leaveSafeMode")},
    {.group = "platform",
     .name = "restored",
     .summary = "Say that the database was restored from a backup: what was given out since is void",
     .options = output_options,
     .run = run_restored},
    {.name = NULL},
};
