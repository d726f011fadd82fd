/* `clmctl agents metrics`: how a host is doing, now and over time. */
#include <stdio.h>

#include "base/id.h"
#include "cli/command.h"
#include "cli/table.h"
#include "proto/registry.pb-c.h"

#define HOURS_MAX (14 * 24)

static const struct cli_option options[] = {
    {"hours", "N", "how far back, 1 to 336 (default 24); one line for 10 minutes, beyond a day for 2 hours",
     .type = OPTION_TEXT},
    {"o", "FORMAT", "table (default) or json", .type = OPTION_TEXT},
    {.name = NULL},
};

static const char *permille(struct arena *arena, int has, uint32_t value)
{
    return has ? arena_printf(arena, "%u.%u %%", value / 10, value % 10) : NULL;
}

static const char *milli(struct arena *arena, int has, uint32_t value)
{
    return has ? arena_printf(arena, "%u.%02u", value / 1000, value % 1000 / 10) : NULL;
}

static const char *used(struct arena *arena, int has, uint64_t part, uint64_t total)
{
    static const double gib = 1024.0 * 1024 * 1024;
    return has && total > 0 ? arena_printf(arena, "%.1f of %.1f GiB (%.0f %%)", (double)part / gib,
                                           (double)total / gib, (double)part * 100 / (double)total)
                            : NULL;
}

static void print_latest(const Clm__AgentMetrics *answer, struct arena *arena)
{
    const Clm__HostMetrics *m = answer->latest;
    if (!m) {
        (void)puts(
            "no metrics: the host's local policy has no `metrics = on` in [policy], or it was never heard");
        return;
    }
    table_field(stdout, "measured", table_time(arena, answer->has_latest_at_ms, answer->latest_at_ms));
    table_field(stdout, "processors", m->has_processors ? arena_printf(arena, "%u", m->processors) : NULL);
    table_field(stdout, "cpu", permille(arena, m->has_cpu_permille, m->cpu_permille));
    if (m->has_load1_milli)
        table_field(stdout, "load",
                    arena_printf(arena, "%s %s %s", milli(arena, 1, m->load1_milli),
                                 milli(arena, 1, m->load5_milli), milli(arena, 1, m->load15_milli)));
    table_field(stdout, "memory",
                used(arena, m->has_memory_used_bytes, m->memory_used_bytes, m->memory_total_bytes));
    table_field(stdout, "disk", used(arena, m->has_disk_used_bytes, m->disk_used_bytes, m->disk_total_bytes));
    if (m->has_uptime_sec)
        table_field(stdout, "up since boot",
                    arena_printf(arena, "%llu d %llu h %llu min", (unsigned long long)m->uptime_sec / 86400,
                                 (unsigned long long)m->uptime_sec / 3600 % 24,
                                 (unsigned long long)m->uptime_sec / 60 % 60));
}

static void print_points(const Clm__AgentMetrics *answer, struct arena *arena)
{
    static const char *const headings[] = {"FROM", "CPU", "MAX", "LOAD", "MAX", "MEMORY", "DISK"};
    struct table *table = table_new(arena, headings, ARRAY_LEN(headings));
    for (size_t i = 0; i < answer->n_points; i++) {
        const Clm__MetricsPoint *p = answer->points[i];
        table_row(table,
                  (const char *[]){
                      table_time(arena, p->has_begins_at_ms, p->begins_at_ms),
                      permille(arena, p->has_cpu_permille, p->cpu_permille),
                      permille(arena, p->has_cpu_max_permille, p->cpu_max_permille),
                      milli(arena, p->has_load1_milli, p->load1_milli),
                      milli(arena, p->has_load1_max_milli, p->load1_max_milli),
                      used(arena, p->has_memory_used_bytes, p->memory_used_bytes, p->memory_total_bytes),
                      used(arena, p->has_disk_used_bytes, p->disk_used_bytes, p->disk_total_bytes),
                  });
    }
    (void)putchar('\n');
    table_print(table, stdout);
}

static enum code run_metrics(struct client *client, const struct cli_args *args, struct arena *arena,
                             int *ret_exit, struct status *st)
{
    bool json;
    long hours;
    const char *id = args->positional[0], *text;
    ProtobufCMessage *msg;
    TRY(cli_args_json(args, &json, st));
    TRY(cli_args_number(args, "hours", 1, HOURS_MAX, 24, &hours, st));
    if (!uuid_valid(id))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "\"%.64s\" is not an agent id; clmctl agents list shows them", id);
    TRY(client_call(client, "GET",
                    arena_printf(arena, "/api/v1/agents/%s/metrics?periodSec=%ld", id, hours * 3600), NULL,
                    &clm__agent_metrics__descriptor, arena, &msg, &text, st));
    *ret_exit = EXIT_OK;
    if (json) {
        (void)puts(text);
        return CODE_OK;
    }
    const Clm__AgentMetrics *answer = (const Clm__AgentMetrics *)msg;
    print_latest(answer, arena);
    if (answer->n_points > 0)
        print_points(answer, arena);
    return CODE_OK;
}

const struct command metrics_commands[] = {
    {.group = "agents",
     .name = "metrics",
     .positional = "ID",
     .summary = "Show how an agent's host is doing, now and over time",
     .options = options,
     .run = run_metrics},
    {.name = NULL},
};
