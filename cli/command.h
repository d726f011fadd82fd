/*
 * The shape of clmctl: a table of commands, each with a table of options. A command gets parsed arguments and
 * a connected client, prints its result to stdout, and returns an exit code; everything else goes to stderr.
 */
#ifndef CLM_CLI_COMMAND_H
#define CLM_CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/status.h"
#include "cli/client.h"

/* Documented in `clmctl help`; scripts rely on them. */
enum exit_code {
    EXIT_OK = 0,
    EXIT_REFUSED = 1,     /* the platform said no, or what was asked for is not there */
    EXIT_USAGE = 2,       /* the command line or the configuration is wrong */
    EXIT_UNREACHABLE = 3, /* no answer from the platform; asking again may help */
    EXIT_TASK_FAILED = 4, /* --wait: the task ended, but not well */
};

enum option_type { OPTION_FLAG, OPTION_TEXT, OPTION_LIST };

struct cli_option {
    const char *name;    /* "status" for --status; one letter for -o */
    const char *metavar; /* "STATUS"; NULL for flags */
    const char *help;
    enum option_type type;
    const char
        *param; /* the query parameter or body field that it becomes (view.h); NULL: the command's own */
    const ProtobufCEnumDescriptor *names; /* of its values, in any case; NULL: any text */
};

struct listing;
struct action;

#define CLI_VALUES_MAX     64
#define CLI_POSITIONAL_MAX 16

/* What was given on the command line; strings are argv's own. */
struct cli_args {
    const char *positional[CLI_POSITIONAL_MAX];
    size_t n_positional;
    struct {
        const struct cli_option *option;
        const char *value;
    } values[CLI_VALUES_MAX];
    size_t n_values;
};

struct command {
    const char *group, *name; /* "agents", "list"; group NULL: the command stands alone */
    const char *positional;   /* "ID"; NULL: none */
    const char *more;         /* what may follow it, several times; NULL: nothing */
    const char *summary;
    const struct cli_option *options; /* ended by name NULL; NULL for none */
    bool offline;                     /* needs no platform: client is NULL */
    const struct listing *listing;    /* what it does, when there is no run (view.h) */
    const struct action *action;
    /* Returns an exit code. An error is in *st; the caller prints it. */
    enum code (*run)(struct client *client, const struct cli_args *args, struct arena *arena, int *ret_exit,
                     struct status *st);
};

/* Ended by name NULL. */
extern const struct command agents_commands[], metrics_commands[], tasks_commands[], overview_commands[],
    alerts_commands[], audit_commands[], people_commands[], events_commands[], context_commands[],
    completion_commands[], certificates_commands[], reports_commands[];
extern const struct command *const command_tables[]; /* all of them, ended by NULL */

/* To standard error; what it quotes is escaped as in tables. */
void cli_complain(const struct status *st);

/* Options come before or after positionals; `--` ends them; `--name=value` and `--name value` both do. Errors
 * name the argument. own and common are option tables; either may be NULL. */
enum code cli_args_parse(const struct cli_option *own, const struct cli_option *common, size_t n_positional,
                         int argc, const char *const *argv, struct cli_args *ret,
                         struct status *st) MUST_CHECK;
const char *cli_args_text(const struct cli_args *args,
                          const char *name); /* the last one given; NULL if none */
bool cli_args_flag(const struct cli_args *args, const char *name);
/* Calls each for every value of a LIST option, split at commas when `split`. Stops at the first error. */
enum code cli_args_each(const struct cli_args *args, const char *name, bool split,
                        enum code (*each)(const char *value, void *arg, struct status *st), void *arg,
                        struct arena *arena, struct status *st) MUST_CHECK;
/* A decimal number in [min, max] of a TEXT option; fallback when it was not given. */
enum code cli_args_number(const struct cli_args *args, const char *name, long min, long max, long fallback,
                          long *ret, struct status *st) MUST_CHECK;
/* -o json? INVALID_ARGUMENT for anything but "table" and "json". */
enum code cli_args_json(const struct cli_args *args, bool *ret, struct status *st) MUST_CHECK;
/* Whether colour and movement are wanted there: a terminal, and neither $NO_COLOR nor TERM=dumb. */
bool cli_is_terminal(FILE *out);

#endif
