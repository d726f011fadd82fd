/* Looking at the servers of this host: see setup_plan.h. One process, one thread, at a terminal. */
#include "agent/setup_plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "scope/scope.h"
#include "stores/store.h"

#define NAMES_MAX 100
#define LABEL_MAX 40 /* inih keeps 49 bytes of a section with its kind */

static bool list_holds(char *const *list, size_t n, const char *item)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i], item) == 0)
            return true;
    }
    return false;
}

static void note(struct plan *plan, const char *server, const char *text)
{
    ARENA_PUSH(plan->arena, plan->note, plan->n_note, arena_printf(plan->arena, "%s: %s", server, text));
}

static const char *real_path(struct arena *arena, const char *path)
{
    AUTO_FREE char *real = path ? realpath(path, NULL) : NULL;
    return arena_strdup(arena, real ? real : path);
}

/* --- targets ------------------------------------------------------------------------------------------ */

/* What the policy could not have is left out: it comes from certificates and configurations. */
static void add_name(struct plan *plan, struct target_plan *target, const char *name)
{
    if (dns_pattern_valid(name) && !list_holds(target->names, target->n_names, name) &&
        target->n_names < NAMES_MAX)
        ARENA_PUSH(plan->arena, target->names, target->n_names, arena_strdup(plan->arena, name));
}

static enum code password_of(const struct target_plan *target, struct secret **ret, struct status *st)
{
    if (target->password)
        *ret = secret_dup(target->password, strlen(target->password));
    return target->password || !target->password_file
               ? CODE_OK
               : secret_read_file(target->password_file, KEYSTORE_PASSWORD_MAX, true, ret, st);
}

/* What is in place, opened as a task would open it. */
static enum code open_in_place(struct plan *plan, const struct target_plan *target, struct store_view *ret,
                               struct status *st)
{
    AUTO_SECRET struct secret *content = NULL, *password = NULL;
    struct policy_target as = {.name = (char[]){"setup"},
                               .certificate = (char *)(uintptr_t)target->certificate};
    if (target->store && !store_format_find(target->store, &as.format))
        return status_set(st, CODE_UNIMPLEMENTED, "it is a %s, which this agent does not write",
                          target->store);
    TRY(store_read(target->certificate, &content, NULL, st));
    TRY(password_of(target, &password, st));
    return store_view(&as, content, password, plan->arena, ret, st);
}

/* A renewal asks for the names in place unless told otherwise. */
static void add_names_in_place(struct plan *plan, struct target_plan *target)
{
    CLEANUP(store_view_done) struct store_view view = {0};
    if (open_in_place(plan, target, &view, NULL) != CODE_OK || !view.facts || view.facts->n_certs == 0)
        return;
    const Clm__CertificateInfo *info = view.facts->certs[0]->certificate;
    for (size_t i = 0; i < info->n_dns_names; i++)
        add_name(plan, target, info->dns_names[i]);
}

static const struct policy_target *manager_of(const struct plan *plan, const char *certificate)
{
    for (struct policy_target **t = plan->policy ? plan->policy->targets : NULL; t && *t; t++) {
        if (strcmp((*t)->certificate, certificate) == 0)
            return *t;
    }
    return NULL;
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
    const char *server = target->server->preset->name,
               *name = target->n_names > 0 ? target->names[0] : "server";
    char base[LABEL_MAX], label[LABEL_MAX + 8];
    if (target->server->n_target == 1)
        (void)snprintf(base, sizeof(base), "%s", server);
    else
        (void)snprintf(base, sizeof(base), "%s-%s", server, strncmp(name, "*.", 2) == 0 ? name + 2 : name);
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

/* A path goes into a line of the policy: whoever may write a site's file must not write other lines of it. */
static bool can_stand_in_a_line(const char *path)
{
    for (const char *c = path ? path : ""; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == ';' || *c == '#' || *c == '"' ||
            (*c == ' ' && (c[1] == ' ' || !c[1])))
            return false;
    }
    return true;
}

/* The policy's word for what the configuration says the file is. */
static const char *store_of_file(const struct target_plan *made, const char *store)
{
    AUTO_BUF struct buf content = {.limit = STORE_FILE_MAX};
    if (!store)
        return NULL;
    if (strcmp(store, "haproxy") == 0) /* with the key apart it is plain PEM */
        return strcmp(made->key, made->certificate) == 0 ? store : NULL;
    if (strcmp(store, "keystore") != 0)
        return store;
    if (file_read(made->certificate, STORE_FILE_MAX, &content, NULL) != CODE_OK)
        return "pkcs12"; /* what Java writes for twenty years now is not what it was called */
    return keystore_sniff((struct bytes){content.data, content.len}) == KEYSTORE_JKS ? "jks" : "pkcs12";
}

/* Why a keystore cannot be a target; NULL if it can. */
static const char *unfit_keystore(struct plan *plan, const struct target_plan *made)
{
    CLEANUP(store_view_done) struct store_view view = {0};
    struct status st = {0};
    bool has_password = made->password || made->password_file;
    if (!made->store || strcmp(made->store, "haproxy") == 0)
        return NULL;
    if (!has_password)
        return arena_printf(plan->arena, "%s has its password from a property, which only the server knows",
                            made->certificate);
    if (open_in_place(plan, made, &view, &st) != CODE_OK)
        return arena_printf(plan->arena, "%s: %s", made->certificate, st.msg);
    if (view.facts && view.facts->others > 0)
        return arena_printf(plan->arena,
                            "%s holds %u other entries, which would be lost: give the server a keystore of "
                            "its own",
                            made->certificate, view.facts->others);
    return NULL;
}

/* Why it cannot be a target; NULL if it can. */
static const char *unfit(struct plan *plan, const struct target_plan *made)
{
    if (!can_stand_in_a_line(made->certificate) || !can_stand_in_a_line(made->key) ||
        !can_stand_in_a_line(made->chain) || !can_stand_in_a_line(made->password_file))
        return "a path of its configuration cannot stand in the policy";
    if (strstr(made->certificate, "/ssl-cert-snakeoil."))
        return arena_printf(plan->arena,
                            "%s is the distribution's placeholder: give the server a file of its own",
                            made->certificate);
    return unfit_keystore(plan, made);
}

static void add_certificate(struct plan *plan, struct server_plan *server,
                            const Clm__Agent__ServerFacts *facts)
{
    struct target_plan made = {
        .server = server,
        .certificate = real_path(plan->arena, facts->certificate),
        .key = real_path(plan->arena, facts->key),
        .chain = real_path(plan->arena, facts->chain),
        .endpoint = facts->n_listens ? facts->listens[0] : NULL,
        .starttls = facts->starttls,
        .password = facts->password,
        .password_file = facts->password_file,
    };
    made.store = store_of_file(&made, facts->store);
    const struct policy_target *manager = manager_of(plan, made.certificate);
    if (manager) {
        if (manager->preset && strcmp(manager->preset, server->preset->name) != 0)
            note(plan, server->preset->name,
                 arena_printf(plan->arena, "%s is [target %s] already: add a reload for this server to it",
                              made.certificate, manager->name));
        return;
    }
    const char *why = unfit(plan, &made);
    if (why) {
        note(plan, server->preset->name, why);
        return;
    }
    struct target_plan *target = find_target(plan, made.certificate);
    if (!target) {
        target = arena_dup(plan->arena, &made, sizeof(made));
        ARENA_PUSH(plan->arena, plan->target, plan->n_target, target);
        server->n_target++;
    } else if (target->server != server &&
               (target->n_also == 0 || target->also[target->n_also - 1] != server)) {
        ARENA_PUSH(plan->arena, target->also, target->n_also, server);
        server->n_target++;
    }
    for (size_t i = 0; i < facts->n_names; i++) {
        add_name(plan, target, facts->names[i]);
        if (!target->server_name && facts->names[i][0] != '*')
            target->server_name = facts->names[i];
    }
}

/* --- reloads ------------------------------------------------------------------------------------------ */

static bool same_command(char *const *argv, const char *text)
{
    AUTO_FREE char *copy = strdup(text);
    char *save = NULL, *word = copy ? strtok_r(copy, " ", &save) : NULL;
    for (; argv && *argv && word && strcmp(*argv, word) == 0; argv++)
        word = strtok_r(NULL, " ", &save);
    return argv && !*argv && !word;
}

static bool reload_is_taken(const struct plan *plan, const char *name)
{
    for (size_t i = 0; i < plan->n_server; i++) {
        if (plan->server[i]->reload && strcmp(plan->server[i]->reload, name) == 0)
            return true;
    }
    return plan->policy && policy_find_reload(plan->policy, name);
}

static void choose_reload(struct plan *plan, struct server_plan *server)
{
    const char *name = server->preset->name;
    for (struct policy_reload **r = plan->policy ? plan->policy->reloads : NULL; r && *r; r++) {
        if (same_command((*r)->command, server->command)) {
            server->reload = (*r)->name;
            return;
        }
    }
    server->new_reload = true;
    for (unsigned i = 2; reload_is_taken(plan, name); i++)
        name = arena_printf(plan->arena, "%s-%u", server->preset->name, i);
    server->reload = name;
}

static enum code find_commands(struct plan *plan, struct server_plan *server, const Clm__Agent__Facts *facts,
                               struct status *st)
{
    const struct setup_options *options = plan->options;
    TRY(preset_commands(server->preset, server->conf, facts, plan->arena, &server->command, &server->test,
                        st));
    if (options->command)
        server->command = options->command;
    if (options->test)
        server->test = options->test;
    if (!server->command)
        return status_set(
            st, CODE_FAILED_PRECONDITION,
            "nobody knows how the %s of %.100s is told to read its certificate again: say --command "
            "'PROGRAM ARGUMENTS'",
            server->preset->name, server->conf);
    choose_reload(plan, server);
    return CODE_OK;
}

/* --- servers ------------------------------------------------------------------------------------------ */

/* What add_certificate made of a server that cannot be told. */
static void forget(struct plan *plan, const struct server_plan *server, size_t n_target)
{
    plan->n_target = n_target;
    for (size_t i = 0; i < n_target; i++) {
        struct target_plan *target = plan->target[i];
        target->n_also -= target->n_also > 0 && target->also[target->n_also - 1] == server;
    }
}

static enum code add_server(struct plan *plan, const struct preset *preset, const char *conf,
                            bool is_elsewhere, struct status *st)
{
    const Clm__Agent__Facts *facts;
    struct server_plan *server = arena_alloc(plan->arena, sizeof(*server));
    *server = (struct server_plan){.preset = preset, .conf = conf, .is_elsewhere = is_elsewhere};
    size_t targets = plan->n_target;
    TRY(preset_look(preset, conf, plan->arena, &facts, st));
    for (size_t i = 0; i < facts->n_servers; i++)
        add_certificate(plan, server, facts->servers[i]);
    if (server->n_target == 0)
        return CODE_OK;
    enum code code = find_commands(plan, server, facts, st);
    if (code != CODE_OK) {
        forget(plan, server, targets);
        return code;
    }
    ARENA_PUSH(plan->arena, plan->server, plan->n_server, server);
    return CODE_OK;
}

static enum code add_asked(struct plan *plan, const struct setup_server *asked, struct status *st)
{
    const struct preset *preset = preset_find(asked->name);
    if (!preset)
        return status_set(st, CODE_INVALID_ARGUMENT, "no server is called \"%.60s\"", asked->name);
    char **confs = preset_confs(preset, plan->arena);
    if (asked->conf) {
        const char *conf = asked->conf[0] == '/' ? asked->conf : real_path(plan->arena, asked->conf);
        bool usual = false;
        for (size_t i = 0; confs[i]; i++)
            usual = usual || strcmp(confs[i], conf) == 0;
        return add_server(plan, preset, conf, !usual, st);
    }
    if (!confs[0])
        return status_set(st, CODE_NOT_FOUND, "there is no %s at %s: say --manage %s=FILE", preset->name,
                          preset->places[0].conf, preset->name);
    for (size_t i = 0; confs[i]; i++)
        TRY(add_server(plan, preset, confs[i], false, st));
    return CODE_OK;
}

static void add_all(struct plan *plan)
{
    for (const struct preset *preset = presets; preset->name; preset++) {
        char **confs = preset_confs(preset, plan->arena);
        for (size_t i = 0; confs[i]; i++) {
            struct status st = {0};
            if (add_server(plan, preset, confs[i], false, &st) != CODE_OK)
                note(plan, preset->name, st.msg);
        }
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
    bool usual = plan->n_server == 0;
    for (size_t i = 0; i < plan->n_server; i++)
        usual |= !plan->server[i]->is_elsewhere;
    if (usual)
        add_root_of(plan, "/etc/x");
    for (size_t i = 0; i < plan->n_server; i++) {
        if (plan->server[i]->is_elsewhere)
            add_root_of(plan, real_path(plan->arena, plan->server[i]->conf));
    }
    for (size_t i = 0; i < plan->n_target; i++)
        add_root_of(plan, plan->target[i]->certificate);
}

static const char *config_dir(struct plan *plan)
{
    const char *config = plan->options->config, *slash = strrchr(config, '/');
    return slash ? arena_strndup(plan->arena, config, (size_t)(slash - config) + 1) : "";
}

enum code plan_make(struct plan *plan, struct status *st)
{
    if (access(plan->options->config, F_OK) == 0)
        TRY(policy_load(plan->options->config, &plan->policy, st));
    for (size_t i = 0; i < plan->options->n_manage; i++)
        TRY(add_asked(plan, &plan->options->manage[i], st));
    if (plan->options->n_manage == 0)
        add_all(plan);
    for (size_t i = 0; i < plan->n_target; i++) {
        add_names_in_place(plan, plan->target[i]);
        choose_label(plan, plan->target[i]);
        if (plan->target[i]->password) /* a relative path starts where the file that names it is */
            plan->target[i]->password_file =
                arena_printf(plan->arena, "%s%s.password", config_dir(plan), plan->target[i]->label);
    }
    choose_roots(plan);
    return CODE_OK;
}

void plan_done(struct plan *plan)
{
    for (size_t i = 0; i < plan->n_target; i++) {
        if (plan->target[i]->password)
            explicit_bzero(plan->target[i]->password, strlen(plan->target[i]->password));
    }
    policy_free(plan->policy);
    arena_free(plan->arena);
}
