/* `clmctl alerts …`. */
#include <stdio.h>

#include "base/id.h"
#include "cli/command.h"
#include "cli/table.h"
#include "proto/registry.pb-c.h"

static const struct cli_option list_options[] = {
    {"state", "STATE", "OPEN, ACKNOWLEDGED, RESOLVED (default: those not resolved)", OPTION_LIST},
    {"agent", "ID", "only of this agent", OPTION_TEXT},
    {"limit", "N", "alerts a page, 1 to 500 (default 50)", OPTION_TEXT},
    {"page", "TOKEN", "the page that the end of the last list names", OPTION_TEXT},
    {"o", "FORMAT", "table (default) or json", OPTION_TEXT},
    {.name = NULL},
};

static const char *name_of(const ProtobufCEnumDescriptor *desc, int value)
{
    const ProtobufCEnumValue *row = protobuf_c_enum_descriptor_get_value(desc, value);
    return row ? row->name : "?";
}

static enum code add_state(const char *value, void *path, struct status *st)
{
    (void)st;
    client_query(path, "state", value);
    return CODE_OK;
}

static enum code run_list(struct client *client, const struct cli_args *args, struct arena *arena,
                          int *ret_exit, struct status *st)
{
    bool json;
    long limit;
    AUTO_BUF struct buf path = {0};
    TRY(cli_args_json(args, &json, st));
    TRY(cli_args_number(args, "limit", 1, 500, 50, &limit, st));
    if (!buf_puts(&path, "/api/v1/alerts"))
        return status_set(st, CODE_INTERNAL, "out of buffer");
    client_query(&path, "pageSize", arena_printf(arena, "%ld", limit));
    client_query(&path, "agentId", cli_args_text(args, "agent"));
    client_query(&path, "pageToken", cli_args_text(args, "page"));
    TRY(cli_args_each(args, "state", true, add_state, &path, arena, st));
    ProtobufCMessage *msg;
    const char *text;
    TRY(client_call(client, "GET", buf_text(&path), NULL, &clm__list_alerts_response__descriptor, arena, &msg,
                    &text, st));
    *ret_exit = EXIT_OK;
    if (json) {
        (void)puts(text);
        return CODE_OK;
    }
    const Clm__ListAlertsResponse *answer = (const Clm__ListAlertsResponse *)msg;
    static const char *const headings[] = {"ID", "KIND", "STATE", "LAST", "COUNT", "HOST", "MESSAGE"};
    struct table *table = table_new(arena, headings, ARRAY_LEN(headings));
    for (size_t i = 0; i < answer->n_alerts; i++) {
        const Clm__Alert *alert = answer->alerts[i];
        table_row(table,
                  (const char *[]){alert->id, name_of(&clm__alert__kind__descriptor, (int)alert->kind),
                                   name_of(&clm__alert__state__descriptor, (int)alert->state),
                                   table_time(arena, alert->has_last_at_ms, alert->last_at_ms),
                                   arena_printf(arena, "%u", alert->count), alert->hostname, alert->message});
    }
    table_print(table, stdout);
    if (answer->next_page_token && *answer->next_page_token)
        (void)fprintf(stderr, "more: --page %s\n", answer->next_page_token);
    return CODE_OK;
}

static enum code close_one(struct client *client, const struct cli_args *args, const char *verb,
                           struct arena *arena, int *ret_exit, struct status *st)
{
    ProtobufCMessage *msg;
    const char *id = args->positional[0];
    if (!uuid_valid(id))
        return status_set(st, CODE_INVALID_ARGUMENT, "%.64s is not the id of an alert", id);
    TRY(client_call(client, "POST", arena_printf(arena, "/api/v1/alerts/%s:%s", id, verb), NULL,
                    &clm__alert__descriptor, arena, &msg, NULL, st));
    *ret_exit = EXIT_OK;
    (void)puts(name_of(&clm__alert__state__descriptor, (int)((const Clm__Alert *)msg)->state));
    return CODE_OK;
}

static enum code run_acknowledge(struct client *client, const struct cli_args *args, struct arena *arena,
                                 int *ret_exit, struct status *st)
{
    return close_one(client, args, "acknowledge", arena, ret_exit, st);
}

static enum code run_resolve(struct client *client, const struct cli_args *args, struct arena *arena,
                             int *ret_exit, struct status *st)
{
    return close_one(client, args, "resolve", arena, ret_exit, st);
}

const struct command alerts_commands[] = {
    {.group = "alerts",
     .name = "list",
     .summary = "List alerts, newest first",
     .options = list_options,
     .run = run_list},
    {.group = "alerts",
     .name = "acknowledge",
     .positional = "ID",
     .summary = "Say that somebody looks after an alert",
     .run = run_acknowledge},
    {.group = "alerts",
     .name = "resolve",
     .positional = "ID",
     .summary = "Close an alert",
     .run = run_resolve},
    {.name = NULL},
};
