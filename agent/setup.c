/* Finding servers and writing the local policy: see setup.h. One process, one thread, at a terminal. */
#include "agent/setup.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/setup_plan.h"
#include "base/file.h"
#include "base/id.h"

#define DEFAULT_CONFIG "/etc/clm-agent/agent.conf"
#define CONF_MAX       (256 * 1024)

static bool list_holds(char *const *list, const char *item)
{
    for (; list && *list; list++) {
        if (strcmp(*list, item) == 0)
            return true;
    }
    return false;
}

/* --- the text ----------------------------------------------------------------------------------------- */

#define OUT(buf, ...)                                                                                        \
    do {                                                                                                     \
        if (!buf_printf((buf), __VA_ARGS__))                                                                 \
            return status_set(st, CODE_RESOURCE_EXHAUSTED, "the configuration grows beyond %d bytes",        \
                              CONF_MAX);                                                                     \
    } while (0)

/* Lines for [policy]: a list that is set again adds to what is there. */
static enum code write_policy_lines(const struct plan *plan, struct buf *out, struct status *st)
{
    static const char *const operations[] = {"deploy", "renew", "validate", "discover"};
    char **have = plan->policy ? plan->policy->operations : NULL;
    bool first = true;
    for (size_t i = 0; i < ARRAY_LEN(operations); i++) {
        if (list_holds(have, operations[i]))
            continue;
        OUT(out, "%s%s", first ? "operations = " : " ", operations[i]);
        first = false;
    }
    if (!first)
        OUT(out, "\n");
    for (size_t i = 0; i < plan->n_root; i++) /* one a line: inih's are short */
        OUT(out, "discovery_roots = %s\n", plan->root[i]);
    return CODE_OK;
}

static enum code write_target(const struct target_plan *target, struct buf *out, struct status *st)
{
    const struct server_plan *server = target->server;
    const struct {
        const char *key, *value;
    } lines[] = {
        {"store", target->store},
        {"certificate", target->certificate},
        {"key", strcmp(target->key, target->certificate) != 0 ? target->key : NULL},
        {"chain", target->chain},
        {"password_file", target->password_file},
        {"reload", server->reload},
        {"endpoint", target->endpoint},
        {"starttls", target->starttls},
        {"server_name", target->server_name},
        {"preset", server->preset->name},
        {"configuration", server->is_elsewhere ? server->conf : NULL},
    };
    OUT(out, "\n[target %s]\n", target->label);
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        if (lines[i].value)
            OUT(out, "%s = %s\n", lines[i].key, lines[i].value);
    }
    for (size_t i = 0; i < target->n_names; i++)
        OUT(out, "dns_names = %s\n", target->names[i]);
    return CODE_OK;
}

static enum code write_sections(const struct plan *plan, struct buf *out, struct status *st)
{
    for (size_t i = 0; i < plan->n_target; i++)
        TRY(write_target(plan->target[i], out, st));
    for (size_t i = 0; i < plan->n_server; i++) {
        const struct server_plan *server = plan->server[i];
        if (!server->new_reload)
            continue;
        OUT(out, "\n[reload %s]\ncommand = %s\n", server->reload, server->command);
        if (server->test)
            OUT(out, "test = %s\n", server->test);
        OUT(out, "timeout = 30s\n");
    }
    return CODE_OK;
}

/* Where the line after the [policy] header starts; NULL without one. */
static const char *after_policy_header(const char *text)
{
    for (const char *line = text; *line;) {
        const char *end = line + strcspn(line, "\n");
        const char *at = line + strspn(line, " \t");
        if (strncmp(at, "[policy]", 8) == 0)
            return *end ? end + 1 : end;
        line = *end ? end + 1 : end;
    }
    return NULL;
}

static enum code compose(const struct plan *plan, const char *old, struct buf *out, struct status *st)
{
    AUTO_BUF struct buf lines = {.limit = CONF_MAX};
    TRY(write_policy_lines(plan, &lines, st));
    const char *at = after_policy_header(old);
    if (at)
        OUT(out, "%.*s%s%s%s", (int)(at - old), old, at > old && at[-1] == '\n' ? "" : "\n", buf_text(&lines),
            at);
    else
        OUT(out, "%s%s[policy]\n%s", old,
            *old ? "\n" : "# Local policy of the SSL CLM agent: docs/local-policy.md\n", buf_text(&lines));
    if (out->len > 0 && out->data[out->len - 1] != '\n')
        OUT(out, "\n");
    return write_sections(plan, out, st);
}

/* --- asking and writing ------------------------------------------------------------------------------- */

static void show_notes(const struct plan *plan, FILE *out)
{
    for (size_t i = 0; i < plan->n_note; i++)
        (void)fprintf(out, "Left out: %s\n", plan->note[i]);
}

static enum code show(const struct plan *plan, FILE *out, struct status *st)
{
    AUTO_BUF struct buf text = {.limit = CONF_MAX};
    TRY(write_policy_lines(plan, &text, st));
    TRY(write_sections(plan, &text, st));
    (void)fprintf(
        out,
        "Found %zu TLS certificate%s that servers of this host use and %s does not manage yet. This\n"
        "would be added:\n\n[policy]\n%s\n",
        plan->n_target, plan->n_target == 1 ? "" : "s", plan->options->config, buf_text(&text));
    (void)fprintf(
        out,
        "The agent may then replace these files, run these commands as its own user, and connect to these\n"
        "endpoints, whenever the platform asks for it.\n");
    for (size_t i = 0; i < plan->n_target; i++) {
        if (plan->target[i]->password)
            (void)fprintf(out, "The keystore's password, as the server's configuration has it, goes to %s.\n",
                          plan->target[i]->password_file);
    }
    show_notes(plan, out);
    return CODE_OK;
}

static enum code confirm(const struct plan *plan, FILE *in, FILE *out, bool *ret, struct status *st)
{
    char line[16] = "";
    *ret = plan->options->yes;
    if (*ret)
        return CODE_OK;
    if (!isatty(fileno(in)))
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "there is no terminal to ask on: say --yes to write %s", plan->options->config);
    (void)fprintf(out, "Write it to %s? [y/N] ", plan->options->config);
    (void)fflush(out);
    *ret = fgets(line, sizeof(line), in) && (strcasecmp(line, "y\n") == 0 || strcasecmp(line, "yes\n") == 0);
    return CODE_OK;
}

/* What was written must load, or it is not put in place. */
static enum code install(const char *path, const struct buf *text, mode_t mode, struct status *st)
{
    char trial[4096], suffix[UUID_TEXT_SIZE];
    uuid_v7(suffix);
    (void)snprintf(trial, sizeof(trial), "%s.%s", path, suffix);
    TRY(file_write_atomic(trial, text->data, text->len, mode, st));
    struct policy *policy = NULL;
    enum code code = policy_load(trial, &policy, st);
    policy_free(policy);
    (void)unlink(trial);
    if (code != CODE_OK)
        return status_wrap(st, "what would be written is not valid");
    return file_write_atomic(path, text->data, text->len, mode, st);
}

/* The keystore's password stands in the server's configuration; a task reads it from a file of its own. */
static enum code write_passwords(const struct plan *plan, struct status *st)
{
    for (size_t i = 0; i < plan->n_target; i++) {
        const struct target_plan *target = plan->target[i];
        if (target->password)
            TRY(file_write_atomic(target->password_file, target->password, strlen(target->password), 0600,
                                  st));
    }
    return CODE_OK;
}

static enum code write_config(const struct plan *plan, struct status *st)
{
    const char *path = plan->options->config;
    AUTO_BUF struct buf old = {.limit = CONF_MAX}, fresh = {.limit = CONF_MAX};
    struct stat info = {.st_mode = 0644};
    if (plan->policy) {
        TRY(file_read(path, CONF_MAX, &old, st));
        if (stat(path, &info) != 0)
            return status_errno(st, CODE_INTERNAL, errno, "cannot stat %s", path);
    } else {
        const char *slash = strrchr(path, '/');
        if (slash && slash != path)
            TRY(dir_make(arena_strndup(plan->arena, path, (size_t)(slash - path)), 0755, st));
    }
    TRY(compose(plan, buf_text(&old), &fresh, st));
    TRY(write_passwords(plan, st));
    return install(path, &fresh, info.st_mode & 0777, st);
}

enum code setup_run(const struct setup_options *options, FILE *in, FILE *out, bool *ret_written,
                    struct status *st)
{
    CLEANUP(plan_done) struct plan plan = {.arena = arena_new(), .options = options};
    bool yes;
    *ret_written = false;
    TRY(plan_make(&plan, st));
    if (plan.n_target == 0) {
        show_notes(&plan, out);
        (void)fprintf(
            out, "No server here uses a TLS certificate that %s does not manage already. Nothing to do.\n",
            options->config);
        return CODE_OK;
    }
    TRY(show(&plan, out, st));
    TRY(confirm(&plan, in, out, &yes, st));
    if (!yes) {
        (void)fprintf(out, "Nothing was written.\n");
        return CODE_OK;
    }
    TRY(write_config(&plan, st));
    *ret_written = true;
    (void)fprintf(out, "Wrote %s.\n", options->config);
    return CODE_OK;
}

static int usage(FILE *out, int status)
{
    (void)fprintf(out, "usage: clm-agent setup [--config FILE] [--manage SERVER[=CONF]]... [--command TEXT]\n"
                       "                       [--test TEXT] [--yes]\n"
                       "Finds the servers of this host and writes what the agent may do for them into FILE\n"
                       "(default " DEFAULT_CONFIG "), after asking. SERVER is one of");
    for (const struct preset *preset = presets; preset->name; preset++)
        (void)fprintf(out, "%s %s", preset == presets ? "" : ",", preset->name);
    (void)fprintf(out, ";\nCONF is its main configuration file where it is not the distribution's.\n");
    return status;
}

/* "nginx" or "nginx=/srv/x/nginx.conf", in place. */
static bool add_manage(struct setup_options *options, char *text)
{
    char *equals = strchr(text, '=');
    if (equals)
        *equals = 0;
    if (options->n_manage >= SETUP_SERVERS_MAX || !preset_find(text) || (equals && !equals[1]))
        return false;
    options->manage[options->n_manage++] = (struct setup_server){text, equals ? equals + 1 : NULL};
    return true;
}

/* False for wrong arguments. */
static bool parse_options(int argc, char **argv, struct setup_options *options, bool *ret_help)
{
    static const struct option longopts[] = {
        {"config", required_argument, NULL, 'c'},
        {"manage", required_argument, NULL, 'm'},
        {"command", required_argument, NULL, 'r'},
        {"test", required_argument, NULL, 't'},
        {"yes", no_argument, NULL, 'y'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    optind = 0;
    for (int opt; (opt = getopt_long(argc, argv, "", longopts, NULL)) != -1;) {
        if (opt == 'h')
            *ret_help = true;
        else if (opt == 'c')
            options->config = optarg;
        else if (opt == 'r')
            options->command = optarg;
        else if (opt == 't')
            options->test = optarg;
        else if (opt == 'y')
            options->yes = true;
        else if (opt != 'm' || !add_manage(options, optarg))
            return false;
    }
    return optind == argc && ((!options->command && !options->test) || options->n_manage == 1);
}

int setup_main(int argc, char **argv)
{
    struct setup_options options = {.config = DEFAULT_CONFIG};
    struct status st = {0};
    bool written, help = false;
    if (!parse_options(argc, argv, &options, &help))
        return usage(stderr, 2);
    if (help)
        return usage(stdout, 0);
    if (setup_run(&options, stdin, stdout, &written, &st) != CODE_OK) {
        (void)fprintf(stderr, "clm-agent setup: %s\n", st.msg);
        return 1;
    }
    return 0;
}
