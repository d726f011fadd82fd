/* The command line into values, by the tables of options. Pure. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/table.h"

static const struct cli_option *find_option(const struct cli_option *table, const char *name, size_t len)
{
    for (const struct cli_option *option = table; option && option->name; option++)
        if (strlen(option->name) == len && memcmp(option->name, name, len) == 0)
            return option;
    return NULL;
}

static enum code take_option(const struct cli_option *own, const struct cli_option *common, const char *arg,
                             const char *next, bool *ret_used_next, struct cli_args *ret, struct status *st)
{
    const char *name = arg + (arg[1] == '-' ? 2 : 1);
    const char *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    const struct cli_option *option = find_option(own, name, len);
    if (!option)
        option = find_option(common, name, len);
    if (!option)
        return status_set(st, CODE_INVALID_ARGUMENT, "unknown option %.*s", (int)(name - arg + (long)len),
                          arg);
    if (ret->n_values == CLI_VALUES_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "more than %d options", CLI_VALUES_MAX);

    const char *value = equals ? equals + 1 : NULL;
    if (option->type == OPTION_FLAG) {
        if (value)
            return status_set(st, CODE_INVALID_ARGUMENT, "--%s takes no value", option->name);
    } else if (!value) {
        if (!next)
            return status_set(st, CODE_INVALID_ARGUMENT, "--%s needs a value: --%s %s", option->name,
                              option->name, option->metavar);
        value = next;
        *ret_used_next = true;
    }
    ret->values[ret->n_values].option = option;
    ret->values[ret->n_values++].value = value;
    return CODE_OK;
}

enum code cli_args_parse(const struct cli_option *own, const struct cli_option *common, size_t n_positional,
                         int argc, const char *const *argv, struct cli_args *ret, struct status *st)
{
    bool options_end = false;
    *ret = (struct cli_args){0};
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i];
        if (!options_end && strcmp(arg, "--") == 0) {
            options_end = true;
        } else if (!options_end && arg[0] == '-' && arg[1]) {
            bool used_next = false;
            TRY(take_option(own, common, arg, i + 1 < argc ? argv[i + 1] : NULL, &used_next, ret, st));
            i += used_next;
        } else {
            if (ret->n_positional == n_positional)
                return status_set(st, CODE_INVALID_ARGUMENT, "unexpected argument \"%.64s\"", arg);
            ret->positional[ret->n_positional++] = arg;
        }
    }
    return CODE_OK;
}

const char *cli_args_text(const struct cli_args *args, const char *name)
{
    for (size_t i = args->n_values; i-- > 0;)
        if (strcmp(args->values[i].option->name, name) == 0)
            return args->values[i].value;
    return NULL;
}

bool cli_args_flag(const struct cli_args *args, const char *name)
{
    for (size_t i = 0; i < args->n_values; i++)
        if (strcmp(args->values[i].option->name, name) == 0)
            return true;
    return false;
}

enum code cli_args_each(const struct cli_args *args, const char *name, bool split,
                        enum code (*each)(const char *value, void *arg, struct status *st), void *arg,
                        struct arena *arena, struct status *st)
{
    for (size_t i = 0; i < args->n_values; i++) {
        if (strcmp(args->values[i].option->name, name) != 0)
            continue;
        for (const char *value = args->values[i].value; value;) {
            size_t len = split ? strcspn(value, ",") : strlen(value);
            if (len == 0)
                return status_set(st, CODE_INVALID_ARGUMENT, "--%s: empty value", name);
            TRY(each(arena_strndup(arena, value, len), arg, st));
            value = value[len] ? value + len + 1 : NULL;
        }
    }
    return CODE_OK;
}

enum code cli_args_number(const struct cli_args *args, const char *name, long min, long max, long fallback,
                          long *ret, struct status *st)
{
    const char *text = cli_args_text(args, name);
    if (!text) {
        *ret = fallback;
        return CODE_OK;
    }
    char *end;
    long n = strtol(text, &end, 10);
    if (end == text || *end || n < min || n > max)
        return status_set(st, CODE_INVALID_ARGUMENT, "--%s %.32s: expected a number from %ld to %ld", name,
                          text, min, max);
    *ret = n;
    return CODE_OK;
}

enum code cli_args_json(const struct cli_args *args, bool *ret, struct status *st)
{
    const char *format = cli_args_text(args, "o");
    *ret = format && strcmp(format, "json") == 0;
    if (format && !*ret && strcmp(format, "table") != 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "-o %.32s: expected table or json", format);
    return CODE_OK;
}

bool cli_is_terminal(FILE *out)
{
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    return isatty(fileno(out)) && (!no_color || !*no_color) && term && strcmp(term, "dumb") != 0;
}

void cli_complain(const struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    (void)fprintf(stderr, "clmctl: %s\n", table_printable(arena, st->msg));
}
