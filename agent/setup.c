/* Finding servers and writing the local policy: see setup.h. One process, one thread, at a terminal. */
#include "agent/setup.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/policy.h"
#include "base/file.h"
#include "base/id.h"
#include "presets/nginx.h"

#define DEFAULT_CONFIG "/etc/clm-agent/agent.conf"
#define CONF_MAX       (256 * 1024)
#define LABEL_MAX      40 /* inih keeps 49 bytes of a section with its kind */

struct target_plan {
    char *label;
    const char *certificate, *key; /* real paths: symbolic links are refused later */
    const char *endpoint, *server_name;
    char **names;
    size_t n_names;
};

struct plan {
    struct arena *arena;
    const struct setup_options *options;
    struct policy *policy; /* what stands already; NULL: no file yet */
    struct target_plan **target;
    size_t n_target;
    char **root;
    size_t n_root;
    const char *reload; /* name */
    bool new_reload;
    char *command, *test;
};

static bool list_holds(char *const *list, size_t n, const char *item)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i], item) == 0)
            return true;
    }
    return false;
}

static size_t list_len(char *const *list)
{
    size_t n = 0;
    while (list && list[n])
        n++;
    return n;
}

/* --- what there is ------------------------------------------------------------------------------------ */

static enum code look_at_nginx(struct plan *plan, const Clm__Agent__Facts **ret, struct status *st)
{
    const char *conf = plan->options->nginx_conf;
    char *argv[] = {(char[]){NGINX_DEFAULT_PROGRAM}, (char[]){"-T"}, NULL, NULL, NULL, NULL, NULL};
    if (access(NGINX_DEFAULT_PROGRAM, X_OK) != 0)
        return status_errno(st, CODE_NOT_FOUND, errno, "cannot run nginx at %s", NGINX_DEFAULT_PROGRAM);
    plan->command = arena_strdup(plan->arena, NGINX_DEFAULT_PROGRAM " -s reload");
    plan->test = arena_strdup(plan->arena, NGINX_DEFAULT_PROGRAM " -t -q");
    if (conf) {
        AUTO_FREE char *real = realpath(conf, NULL);
        if (!real)
            return status_errno(st, CODE_NOT_FOUND, errno, "cannot find the nginx configuration %s", conf);
        if (strpbrk(real, " \t\"';,#"))
            return status_set(st, CODE_INVALID_ARGUMENT, "the path \"%.150s\" cannot stand in a command",
                              real);
        char *slash = strrchr(real, '/');
        argv[2] = arena_strdup(plan->arena, "-p");
        argv[3] = arena_strndup(plan->arena, real, (size_t)(slash - real) + 1);
        argv[4] = arena_strdup(plan->arena, "-c");
        argv[5] = arena_strdup(plan->arena, real);
        const char *where =
            arena_printf(plan->arena, "%s -p %s -c %s", NGINX_DEFAULT_PROGRAM, argv[3], argv[5]);
        plan->command = arena_printf(plan->arena, "%s -s reload", where);
        plan->test = arena_printf(plan->arena, "%s -t -q", where);
    }
    if (nginx_look_dump(argv, plan->arena, ret, st) != CODE_OK)
        return status_wrap(st, "asking nginx for its configuration");
    return CODE_OK;
}

static const char *real_path(struct arena *arena, const char *path)
{
    AUTO_FREE char *real = realpath(path, NULL);
    return arena_strdup(arena, real ? real : path);
}

static void add_name(struct plan *plan, struct target_plan *target, const char *name)
{
    if (!list_holds(target->names, target->n_names, name) && target->n_names < 100)
        ARENA_PUSH(plan->arena, target->names, target->n_names, arena_strdup(plan->arena, name));
}

/* A renewal asks for the names in place unless told otherwise. */
static void add_names_in_place(struct plan *plan, struct target_plan *target)
{
    AUTO_BUF struct buf pem = {0};
    const Clm__Agent__Facts *facts;
    if (file_read(target->certificate, CONF_MAX, &pem, NULL) != CODE_OK)
        return;
    struct bytes bytes = {pem.data, pem.len};
    if (confine_run(confine_pem, &bytes, plan->arena, &facts, NULL) != CODE_OK || facts->n_certs == 0)
        return;
    const Clm__CertificateInfo *info = facts->certs[0]->certificate;
    for (size_t i = 0; i < info->n_dns_names; i++)
        add_name(plan, target, info->dns_names[i]);
}

static bool certificate_is_managed(const struct plan *plan, const char *certificate)
{
    for (struct policy_target **t = plan->policy ? plan->policy->targets : NULL; t && *t; t++) {
        if (strcmp((*t)->certificate, certificate) == 0)
            return true;
    }
    return false;
}

static bool label_is_taken(const struct plan *plan, const char *label)
{
    for (struct policy_target **t = plan->policy ? plan->policy->targets : NULL; t && *t; t++) {
        if (strcmp((*t)->name, label) == 0)
            return true;
    }
    for (size_t i = 0; i < plan->n_target; i++) {
        if (plan->target[i]->label && strcmp(plan->target[i]->label, label) == 0)
            return true;
    }
    return false;
}

static void choose_label(struct plan *plan, struct target_plan *target)
{
    const char *name = target->n_names > 0 ? target->names[0] : "server";
    char base[LABEL_MAX], label[LABEL_MAX + 8];
    if (plan->n_target == 1)
        (void)snprintf(base, sizeof(base), "nginx");
    else
        (void)snprintf(base, sizeof(base), "nginx-%s", strncmp(name, "*.", 2) == 0 ? name + 2 : name);
    for (char *c = base; *c; c++) {
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", *c))
            *c = '-';
    }
    (void)snprintf(label, sizeof(label), "%s", base);
    for (unsigned i = 2; label_is_taken(plan, label); i++)
        (void)snprintf(label, sizeof(label), "%s-%u", base, i);
    target->label = arena_strdup(plan->arena, label);
}

static struct target_plan *find_target(struct plan *plan, const char *certificate)
{
    for (size_t i = 0; i < plan->n_target; i++) {
        if (strcmp(plan->target[i]->certificate, certificate) == 0)
            return plan->target[i];
    }
    return NULL;
}

static void add_server(struct plan *plan, const Clm__Agent__ServerFacts *server)
{
    const char *certificate = real_path(plan->arena, server->certificate);
    if (certificate_is_managed(plan, certificate))
        return;
    struct target_plan *target = find_target(plan, certificate);
    if (!target) {
        target = arena_alloc(plan->arena, sizeof(*target));
        target->certificate = certificate;
        target->key = real_path(plan->arena, server->key);
        target->endpoint = server->n_listens ? server->listens[0] : NULL;
        ARENA_PUSH(plan->arena, plan->target, plan->n_target, target);
    }
    for (size_t i = 0; i < server->n_names; i++) {
        add_name(plan, target, server->names[i]);
        if (!target->server_name && server->names[i][0] != '*')
            target->server_name = server->names[i];
    }
}

static void add_root_of(struct plan *plan, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = arena_strndup(plan->arena, path, slash == path ? 1 : (size_t)(slash - path));
    for (size_t i = 0; i < plan->n_root; i++) {
        size_t n = strlen(plan->root[i]);
        if (strncmp(dir, plan->root[i], n) == 0 && (!dir[n] || dir[n] == '/'))
            return;
    }
    if (!plan->policy || !plan->policy->discovery_roots ||
        policy_allows_discovery(plan->policy, dir, NULL) != CODE_OK)
        ARENA_PUSH(plan->arena, plan->root, plan->n_root, dir);
}

static void choose_roots(struct plan *plan)
{
    if (plan->options->nginx_conf)
        add_root_of(plan, real_path(plan->arena, plan->options->nginx_conf));
    else
        add_root_of(plan, "/etc/x");
    for (size_t i = 0; i < plan->n_target; i++)
        add_root_of(plan, plan->target[i]->certificate);
}

static bool same_command(char *const *argv, const char *text)
{
    AUTO_FREE char *copy = strdup(text);
    char *save = NULL, *word = copy ? strtok_r(copy, " ", &save) : NULL;
    for (; argv && *argv && word && strcmp(*argv, word) == 0; argv++)
        word = strtok_r(NULL, " ", &save);
    return argv && !*argv && !word;
}

static void choose_reload(struct plan *plan)
{
    for (struct policy_reload **r = plan->policy ? plan->policy->reloads : NULL; r && *r; r++) {
        if (same_command((*r)->command, plan->command)) {
            plan->reload = (*r)->name;
            return;
        }
    }
    plan->new_reload = true;
    plan->reload = "nginx";
    for (unsigned i = 2; plan->policy && policy_find_reload(plan->policy, plan->reload); i++)
        plan->reload = arena_printf(plan->arena, "nginx-%u", i);
}

static enum code make_plan(struct plan *plan, struct status *st)
{
    const Clm__Agent__Facts *facts;
    if (access(plan->options->config, F_OK) == 0)
        TRY(policy_load(plan->options->config, &plan->policy, st));
    TRY(look_at_nginx(plan, &facts, st));
    for (size_t i = 0; i < facts->n_servers; i++)
        add_server(plan, facts->servers[i]);
    for (size_t i = 0; i < plan->n_target; i++) {
        add_names_in_place(plan, plan->target[i]);
        choose_label(plan, plan->target[i]);
    }
    choose_roots(plan);
    choose_reload(plan);
    return CODE_OK;
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
        if (have && list_holds(have, list_len(have), operations[i]))
            continue;
        OUT(out, "%s%s", first ? "operations = " : " ", operations[i]);
        first = false;
    }
    if (!first)
        OUT(out, "\n");
    for (size_t i = 0; i < plan->n_root; i++)
        OUT(out, "%s%s%s", i ? " " : "discovery_roots = ", plan->root[i], i + 1 == plan->n_root ? "\n" : "");
    return CODE_OK;
}

static enum code write_sections(const struct plan *plan, struct buf *out, struct status *st)
{
    for (size_t i = 0; i < plan->n_target; i++) {
        const struct target_plan *target = plan->target[i];
        OUT(out, "\n[target %s]\ncertificate = %s\n", target->label, target->certificate);
        if (strcmp(target->key, target->certificate) != 0)
            OUT(out, "key = %s\n", target->key);
        OUT(out, "reload = %s\n", plan->reload);
        if (target->endpoint)
            OUT(out, "endpoint = %s\n", target->endpoint);
        if (target->server_name)
            OUT(out, "server_name = %s\n", target->server_name);
        for (size_t n = 0; n < target->n_names; n++)
            OUT(out, "%s%s%s", n ? " " : "dns_names = ", target->names[n],
                n + 1 == target->n_names ? "\n" : "");
    }
    if (plan->new_reload)
        OUT(out, "\n[reload %s]\ncommand = %s\ntest = %s\ntimeout = 30s\n", plan->reload, plan->command,
            plan->test);
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

static enum code show(const struct plan *plan, FILE *out, struct status *st)
{
    AUTO_BUF struct buf text = {.limit = CONF_MAX};
    TRY(write_policy_lines(plan, &text, st));
    TRY(write_sections(plan, &text, st));
    (void)fprintf(
        out,
        "Found %zu TLS certificate%s that nginx serves and %s does not manage yet. This would be added:\n\n"
        "[policy]\n%s\n",
        plan->n_target, plan->n_target == 1 ? "" : "s", plan->options->config, buf_text(&text));
    (void)fprintf(
        out,
        "The agent may then replace these files, run these commands as its own user, and connect to these\n"
        "endpoints, whenever the platform asks for it.\n");
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
    return install(path, &fresh, info.st_mode & 0777, st);
}

static void plan_done(struct plan *plan)
{
    policy_free(plan->policy);
    arena_free(plan->arena);
}

enum code setup_run(const struct setup_options *options, FILE *in, FILE *out, bool *ret_written,
                    struct status *st)
{
    CLEANUP(plan_done) struct plan plan = {.arena = arena_new(), .options = options};
    bool yes;
    *ret_written = false;
    TRY(make_plan(&plan, st));
    if (plan.n_target == 0) {
        (void)fprintf(out,
                      "nginx serves no TLS certificate that %s does not manage already. Nothing to do.\n",
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
    (void)fprintf(out, "usage: clm-agent setup [--config FILE] [--manage nginx] [--nginx-conf FILE] [--yes]\n"
                       "Finds the servers of this host and writes what the agent may do for them into FILE\n"
                       "(default " DEFAULT_CONFIG "), after asking.\n");
    return status;
}

int setup_main(int argc, char **argv)
{
    static const struct option longopts[] = {
        {"config", required_argument, NULL, 'c'},
        {"manage", required_argument, NULL, 'm'},
        {"nginx-conf", required_argument, NULL, 'n'},
        {"yes", no_argument, NULL, 'y'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct setup_options options = {.config = DEFAULT_CONFIG};
    int opt;
    optind = 0;
    while ((opt = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
        if (opt == 'h')
            return usage(stdout, 0);
        if (opt == 'c')
            options.config = optarg;
        else if (opt == 'n')
            options.nginx_conf = optarg;
        else if (opt == 'y')
            options.yes = true;
        else if (opt != 'm' || strcmp(optarg, "nginx") != 0)
            return usage(stderr, 2);
    }
    if (optind != argc)
        return usage(stderr, 2);
    struct status st = {0};
    bool written;
    if (setup_run(&options, stdin, stdout, &written, &st) != CODE_OK) {
        (void)fprintf(stderr, "clm-agent setup: %s\n", st.msg);
        return 1;
    }
    return 0;
}
