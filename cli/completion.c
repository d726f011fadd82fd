/* `clmctl completion SHELL`: scripts out of the table of commands, so that they cannot drift. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"

#define NAMES_MAX 128

/* Calls each for every command: the group once, then the commands of it. */
static size_t first_words(const char *words[NAMES_MAX])
{
    size_t n = 0;
    for (size_t t = 0; command_tables[t]; t++) {
        for (const struct command *command = command_tables[t]; command->name; command++) {
            const char *word = command->group ? command->group : command->name;
            bool seen = false;
            for (size_t i = 0; i < n; i++)
                seen |= strcmp(words[i], word) == 0;
            if (!seen && n < NAMES_MAX)
                words[n++] = word;
        }
    }
    return n;
}

static void print_names(const char *group, const char *separator)
{
    for (size_t t = 0; command_tables[t]; t++)
        for (const struct command *command = command_tables[t]; command->name; command++)
            if (command->group && strcmp(command->group, group) == 0)
                (void)printf("%s%s", command->name, separator);
}

static bool is_group(const char *word)
{
    for (size_t t = 0; command_tables[t]; t++)
        for (const struct command *command = command_tables[t]; command->name; command++)
            if (command->group && strcmp(command->group, word) == 0)
                return true;
    return false;
}

static void print_options(const struct command *command, const char *separator)
{
    for (const struct cli_option *option = command->options; option && option->name; option++)
        (void)printf("%s%s%s", option->name[1] ? "--" : "-", option->name, separator);
    (void)printf("--context%s--help%s", separator, separator);
}

static void bash(void)
{
    const char *words[NAMES_MAX];
    size_t n = first_words(words);
    (void)puts("# bash completion for clmctl: clmctl completion bash > /etc/bash_completion.d/clmctl\n"
               "_clmctl()\n{\n"
               "    local cur=${COMP_WORDS[COMP_CWORD]} words=() word choices=\n"
               "    for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do case $word in -*) ;; *) "
               "words+=(\"$word\") ;; "
               "esac; done\n"
               "    case \"${words[0]-} ${words[1]-}\" in");
    for (size_t t = 0; command_tables[t]; t++) {
        for (const struct command *command = command_tables[t]; command->name; command++) {
            (void)printf("    \"%s %s\"*) choices='", command->group ? command->group : command->name,
                         command->group ? command->name : "");
            print_options(command, " ");
            (void)puts("' ;;");
        }
    }
    (void)puts("    esac\n    case $cur in\n    -*) ;;\n    *)\n        choices=\n        case "
               "${#words[@]}-${words[0]-} in");
    (void)fputs("        0-*) choices='help version ", stdout);
    for (size_t i = 0; i < n; i++)
        (void)printf("%s ", words[i]);
    (void)puts("' ;;");
    for (size_t i = 0; i < n; i++) {
        if (!is_group(words[i]))
            continue;
        (void)printf("        1-%s) choices='", words[i]);
        print_names(words[i], " ");
        (void)puts("' ;;");
    }
    (void)puts("        esac\n        ;;\n    esac\n"
               "    mapfile -t COMPREPLY < <(compgen -W \"$choices\" -- \"$cur\")\n}\n"
               "complete -o default -F _clmctl clmctl");
}

/* Text in single quotes, as zsh and fish read it. */
static void quote(const char *text, const char *also)
{
    for (const char *c = text; *c; c++) {
        if (*c == '\'')
            (void)fputs("'\\''", stdout);
        else if (strchr(also, *c))
            (void)printf("\\%c", *c);
        else
            (void)putchar(*c);
    }
}

static void zsh(void)
{
    const char *words[NAMES_MAX];
    size_t n = first_words(words);
    (void)puts("#compdef clmctl\n# zsh completion: clmctl completion zsh > ~/.zfunc/_clmctl\n"
               "_clmctl()\n{\n    local -a commands options\n"
               "    case \"$words[2] $words[3]\" in");
    for (size_t t = 0; command_tables[t]; t++) {
        for (const struct command *command = command_tables[t]; command->name; command++) {
            (void)printf("    '%s %s'*) options=(", command->group ? command->group : command->name,
                         command->group ? command->name : "");
            for (const struct cli_option *option = command->options; option && option->name; option++) {
                (void)printf(" '%s%s[", option->name[1] ? "--" : "-", option->name);
                quote(option->help, "[]:");
                (void)printf("]%s%s%s'", option->metavar ? ":" : "", option->metavar ? option->metavar : "",
                             option->metavar ? ":_files" : "");
            }
            (void)puts(") ;;");
        }
    }
    (void)puts("    esac\n    if (( CURRENT == 2 )); then");
    (void)fputs("        commands=(help version", stdout);
    for (size_t i = 0; i < n; i++)
        (void)printf(" %s", words[i]);
    (void)puts(
        ")\n        _values command $commands\n    elif (( CURRENT == 3 )); then\n        case $words[2] in");
    for (size_t i = 0; i < n; i++) {
        if (!is_group(words[i]))
            continue;
        (void)printf("        %s) _values command ", words[i]);
        print_names(words[i], " ");
        (void)puts(";;");
    }
    (void)puts(
        "        *) _arguments $options ;;\n        esac\n    else\n        _arguments $options\n    fi\n}\n"
        "_clmctl \"$@\"");
}

static void fish(void)
{
    const char *words[NAMES_MAX];
    size_t n = first_words(words);
    (void)puts("# fish completion: clmctl completion fish > ~/.config/fish/completions/clmctl.fish\n"
               "complete -c clmctl -f");
    for (size_t i = 0; i < n; i++)
        (void)printf("complete -c clmctl -n __fish_use_subcommand -a %s\n", words[i]);
    for (size_t t = 0; command_tables[t]; t++) {
        for (const struct command *command = command_tables[t]; command->name; command++) {
            const char *first = command->group ? command->group : command->name;
            if (command->group) {
                (void)printf("complete -c clmctl -n '__fish_seen_subcommand_from %s' -a %s -d '", first,
                             command->name);
                quote(command->summary, "");
                (void)puts("'");
            }
            for (const struct cli_option *option = command->options; option && option->name; option++) {
                (void)printf("complete -c clmctl -n '__fish_seen_subcommand_from %s%s%s' -%s %s%s -d '",
                             first, command->group ? "; and __fish_seen_subcommand_from " : "",
                             command->group ? command->name : "", option->name[1] ? "l" : "s", option->name,
                             option->metavar ? " -r" : "");
                quote(option->help, "");
                (void)puts("'");
            }
        }
    }
}

static enum code run_completion(struct client *client, const struct cli_args *args, struct arena *arena,
                                int *ret_exit, struct status *st)
{
    static const struct {
        const char *name;
        void (*print)(void);
    } shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};
    (void)client;
    (void)arena;
    for (size_t i = 0; i < ARRAY_LEN(shells); i++) {
        if (strcmp(args->positional[0], shells[i].name) == 0) {
            shells[i].print();
            *ret_exit = EXIT_OK;
            return CODE_OK;
        }
    }
    *ret_exit = EXIT_USAGE;
    return status_set(st, CODE_INVALID_ARGUMENT, "\"%.32s\": expected bash, zsh or fish",
                      args->positional[0]);
}

const struct command completion_commands[] = {
    {.name = "completion",
     .positional = "SHELL",
     .summary = "Print the completion script of bash, zsh or fish",
     .offline = true,
     .run = run_completion},
    {.name = NULL},
};
