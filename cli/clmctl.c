/* clmctl: the platform from a terminal. Finds the row of the command, parses by its options, runs it,
 * explains errors. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/context.h"
#include "cli/view.h"

static const struct cli_option common_options[] = {
    {"context", "NAME", "the [context NAME] of the configuration file to use", .type = OPTION_TEXT},
    {"help", NULL, "explain the command", .type = OPTION_FLAG},
    {.name = NULL},
};

static void print_invocation(const struct command *command, FILE *out)
{
    (void)fprintf(out, "%s%s%s%s%s%s%s", command->group ? command->group : "", command->group ? " " : "",
                  command->name, command->positional ? " " : "",
                  command->positional ? command->positional : "", command->more ? " " : "",
                  command->more ? command->more : "");
}

static void print_options(const struct cli_option *options, FILE *out)
{
    for (const struct cli_option *option = options; option && option->name; option++) {
        char left[64];
        (void)snprintf(left, sizeof(left), "%s%s%s%s", option->name[1] ? "--" : "-", option->name,
                       option->metavar ? " " : "", option->metavar ? option->metavar : "");
        (void)fprintf(out, "  %-24s %s\n", left, option->help);
    }
}

static void print_command_help(const struct command *command, FILE *out)
{
    (void)fputs("usage: clmctl ", out);
    print_invocation(command, out);
    (void)fprintf(out, " [options]\n\n%s\n\n", command->summary);
    print_options(command->options, out);
    print_options(common_options, out);
}

/* group NULL: of every group. False: there is no such group. */
static bool print_commands(const char *group, FILE *out)
{
    bool any = false;
    for (size_t t = 0; command_tables[t]; t++) {
        for (const struct command *command = command_tables[t]; command->name; command++) {
            char left[64];
            if (group && (!command->group || strcmp(command->group, group) != 0))
                continue;
            (void)snprintf(left, sizeof(left), "%s%s%s%s%s", command->group ? command->group : "",
                           command->group ? " " : "", command->name, command->positional ? " " : "",
                           command->positional ? command->positional : "");
            (void)fprintf(out, "  %-28s %s\n", left, command->summary);
            any = true;
        }
    }
    return any;
}

static void print_help(FILE *out)
{
    (void)fputs("usage: clmctl COMMAND [options]\n\n", out);
    (void)print_commands(NULL, out);
    (void)fputs("  version                      Print the version\n"
                "  help [COMMAND]               Explain a command\n\n"
                "Which platform, and as whom: ~/.config/clmctl/config\n"
                "  [clmctl]\n"
                "  context = prod\n"
                "  [context prod]\n"
                "  url = https://clm.example.com:8443\n"
                "  ca = roots.pem\n"
                "  api_key_file = prod.key           (0600)\n"
                "or $CLMCTL_CONTEXT, $CLMCTL_URL, $CLMCTL_CA, $CLMCTL_API_KEY_FILE, $CLMCTL_API_KEY, "
                "$CLMCTL_CONFIG.\n\n"
                "Exit: 0 done · 1 refused by the platform · 2 wrong usage or configuration · 3 no answer "
                "from the platform\n"
                "      4 --wait: the task did not succeed\n",
                out);
}

/* The row that argv begins with; *ret_used counts its words. */
static const struct command *find_command(int argc, char *const *argv, int *ret_used)
{
    for (size_t t = 0; command_tables[t]; t++) {
        for (const struct command *command = command_tables[t]; command->name; command++) {
            if (!command->group && argc >= 1 && strcmp(argv[0], command->name) == 0) {
                *ret_used = 1;
                return command;
            }
            if (command->group && argc >= 2 && strcmp(argv[0], command->group) == 0 &&
                strcmp(argv[1], command->name) == 0) {
                *ret_used = 2;
                return command;
            }
        }
    }
    return NULL;
}

/* What is wrong comes last, where it is seen. */
static int no_command(bool help, int argc, char *const *argv)
{
    struct status st = {0};
    if (argc == 0) {
        print_help(help ? stdout : stderr);
        return help ? EXIT_OK : EXIT_USAGE;
    }
    bool asked = help || (argc > 1 && strcmp(argv[1], "--help") == 0);
    bool group = print_commands(argv[0], asked ? stdout : stderr);
    if (group && asked)
        return EXIT_OK;
    if (group && argc == 1)
        (void)status_set(&st, CODE_INVALID_ARGUMENT, "%.64s what? One of the above", argv[0]);
    else
        (void)status_set(&st, CODE_INVALID_ARGUMENT, "unknown command \"%.64s%s%.64s\"; %s", argv[0],
                         group ? " " : "", group ? argv[1] : "",
                         group ? "one of the above is meant?" : "`clmctl help` lists them");
    cli_complain(&st);
    return EXIT_USAGE;
}

static int exit_of(enum code code, bool asked)
{
    if (!asked)
        return EXIT_USAGE;
    switch (code) {
    case CODE_UNAVAILABLE:
    case CODE_DEADLINE_EXCEEDED:
        return EXIT_UNREACHABLE;
    default:
        return EXIT_REFUSED;
    }
}

static int usage_error(const struct command *command, const struct status *st)
{
    cli_complain(st);
    (void)fputs("usage: clmctl ", stderr);
    print_invocation(command, stderr);
    (void)fputs(" [options]; --help lists them\n", stderr);
    return EXIT_USAGE;
}

static enum code do_command(const struct command *command, struct client *client, const struct cli_args *args,
                            struct arena *arena, int *ret_exit, struct status *st)
{
    if (command->listing)
        return client_list(client, args, command->listing, arena, ret_exit, st);
    if (command->action)
        return client_act(client, args, command->action, arena, ret_exit, st);
    return command->run(client, args, arena, ret_exit, st);
}

static int run_command(const struct command *command, const struct cli_args *args)
{
    struct status st = {0};
    CLEANUP(context_done) struct context context = {0};
    AUTO_ARENA struct arena *arena = arena_new();
    struct client *client = NULL;
    int exit_code = EXIT_REFUSED;
    if (command->offline) {
        if (command->run(NULL, args, arena, &exit_code, &st) != CODE_OK)
            cli_complain(&st);
        return exit_code;
    }
    if (context_load(cli_args_text(args, "context"), &context, &st) != CODE_OK) {
        cli_complain(&st);
        return EXIT_USAGE;
    }
    enum code code = client_new(&context, &client, &st);
    if (code == CODE_OK)
        code = do_command(command, client, args, arena, &exit_code, &st);
    bool asked = client && client_asked(client);
    client_free(client);
    if (code != CODE_OK) {
        cli_complain(&st);
        return exit_of(code, asked);
    }
    if (fflush(stdout) != 0) {
        perror("clmctl: cannot write to standard output");
        return EXIT_REFUSED;
    }
    return exit_code;
}

int main(int argc, char **argv)
{
    argc--;
    argv++;
    if (argc >= 1 && strcmp(argv[0], "version") == 0) {
        (void)puts("clmctl " CLM_VERSION);
        return EXIT_OK;
    }
    bool help = argc >= 1 && (strcmp(argv[0], "help") == 0 || strcmp(argv[0], "--help") == 0);
    if (help) {
        argc--;
        argv++;
    }
    int used = 0;
    const struct command *command = find_command(argc, argv, &used);
    if (!command)
        return no_command(help, argc, argv);
    struct cli_args args;
    struct status st = {0};
    size_t positionals = command->more ? CLI_POSITIONAL_MAX : command->positional ? 1 : 0;
    if (cli_args_parse(command->options, common_options, positionals, argc - used,
                       (const char *const *)argv + used, &args, &st) != CODE_OK)
        return usage_error(command, &st);
    if (help || cli_args_flag(&args, "help")) {
        print_command_help(command, stdout);
        return EXIT_OK;
    }
    if (command->positional && args.n_positional == 0) {
        (void)status_set(&st, CODE_INVALID_ARGUMENT, "%s is missing", command->positional);
        return usage_error(command, &st);
    }
    return run_command(command, &args);
}
