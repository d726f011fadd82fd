/* The command lines of a [reload NAME] as arguments of a program. See parts.h. */
#include "policy/parts.h"

#include <string.h>

#define ARGV_MAX      64
#define VARIABLES_MAX 32

static void argv_free(char **argv)
{
    for (char **arg = argv; arg && *arg; arg++)
        free(*arg);
    free(argv);
}

/* One word off *at into a new string: blanks separate, '…' and "…" keep them. NULL on an open quote. */
static char *next_word(const char **at)
{
    char *word = must(malloc(strlen(*at) + 1)), *out = word;
    const char *p = *at;
    while (*p && *p != ' ' && *p != '\t') {
        if (*p != '\'' && *p != '"') {
            *out++ = *p++;
            continue;
        }
        const char *end = strchr(p + 1, *p);
        if (!end) {
            free(word);
            return NULL;
        }
        memcpy(out, p + 1, (size_t)(end - p - 1));
        out += end - p - 1;
        p = end + 1;
    }
    *out = 0;
    *at = p + strspn(p, " \t");
    return word;
}

static enum code split_words(const char *reload, const char *key, const char *text, char ***ret,
                             struct status *st)
{
    char **argv = must(calloc(ARGV_MAX + 1, sizeof(char *)));
    const char *at = text + strspn(text, " \t");
    for (size_t n = 0; *at; n++) {
        char *word = n < ARGV_MAX ? next_word(&at) : NULL;
        if (!word) {
            argv_free(argv);
            return status_set(st, CODE_INVALID_ARGUMENT, "[reload %s] %s: %s", reload, key,
                              n < ARGV_MAX ? "a quote is not closed" : "too many arguments");
        }
        argv[n] = word;
    }
    *ret = argv;
    return CODE_OK;
}

static enum code split_command(const char *reload, const char *key, const char *text, char ***ret,
                               struct status *st)
{
    if (!text)
        return CODE_OK;
    TRY(split_words(reload, key, text, ret, st));
    if (!(*ret)[0] || (*ret)[0][0] != '/')
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "[reload %s] %s: starts with \"%.60s\"; write the program's absolute path", reload,
                          key, text);
    return CODE_OK;
}

/* CLM_… is what the agent says itself. */
static bool variable_valid(const char *text)
{
    size_t len = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
    return len > 0 && text[len] == '=' && !strchr("0123456789", text[0]) && strncmp(text, "CLM_", 4) != 0;
}

static enum code split_environment(const char *reload, const char *text, char ***ret, struct status *st)
{
    if (!text)
        return CODE_OK;
    TRY(split_words(reload, "environment", text, ret, st));
    size_t n = 0;
    for (char **one = *ret; *one; one++, n++) {
        if (!variable_valid(*one) || n >= VARIABLES_MAX)
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "[reload %s] environment: \"%.60s\" is not NAME=value, or one too many", reload,
                              *one);
    }
    return CODE_OK;
}
enum code reload_split(struct policy_reload *reload, struct status *st)
{
    struct reload_conf *conf = (struct reload_conf *)(void *)reload;
    TRY(split_command(reload->name, "command", conf->command_text, &reload->command, st));
    TRY(split_command(reload->name, "test", conf->test_text, &reload->test, st));
    TRY(split_command(reload->name, "pre", conf->pre_text, &reload->pre, st));
    TRY(split_command(reload->name, "failure", conf->failure_text, &reload->failure, st));
    return split_environment(reload->name, conf->environment_text, &reload->environment, st);
}

void reload_argv_free(struct policy_reload *reload)
{
    argv_free(reload->command);
    argv_free(reload->test);
    argv_free(reload->pre);
    argv_free(reload->failure);
    argv_free(reload->environment);
}
