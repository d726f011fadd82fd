/* `clmctl contexts …`: which platforms the configuration file knows. */
#include <stdio.h>

#include "cli/command.h"
#include "cli/table.h"

static void add_row(const char *name, const char *url, bool current, void *table)
{
    table_row(table, (const char *[]){current ? "*" : " ", name, url});
}

static enum code run_list(struct client *client, const struct cli_args *args, struct arena *arena,
                          int *ret_exit, struct status *st)
{
    static const char *const headings[] = {"CURRENT", "NAME", "URL"};
    struct table *table = table_new(arena, headings, ARRAY_LEN(headings));
    (void)client;
    (void)args;
    *ret_exit = EXIT_USAGE;
    TRY(contexts_each(add_row, table, st));
    table_print(table, stdout);
    *ret_exit = EXIT_OK;
    return CODE_OK;
}

static enum code run_use(struct client *client, const struct cli_args *args, struct arena *arena,
                         int *ret_exit, struct status *st)
{
    (void)client;
    (void)arena;
    *ret_exit = EXIT_USAGE;
    TRY(context_use(args->positional[0], st));
    *ret_exit = EXIT_OK;
    return CODE_OK;
}

const struct command context_commands[] = {
    {.group = "contexts",
     .name = "list",
     .summary = "List the platforms that the configuration file knows",
     .offline = true,
     .run = run_list},
    {.group = "contexts",
     .name = "use",
     .positional = "NAME",
     .summary = "Make one of them the one that is used",
     .offline = true,
     .run = run_use},
    {.name = NULL},
};
