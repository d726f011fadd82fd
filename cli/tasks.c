/* `clmctl tasks …`. */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/id.h"
#include "cli/command.h"
#include "cli/table.h"
#include "cli/view.h"
#include "proto/tasks.pb-c.h"
#include "wire/wire.h"

#define WAIT_STEP_MS 250
#define CHAIN_MAX    (256u * 1024)

static const struct cli_option get_options[] = {OUTPUT_OPTION, {.name = NULL}};

static const struct cli_option list_options[] = {
    {"agent", "ID", "only tasks of this agent", OPTION_TEXT, .param = "agentId"},
    {"state", "STATE", "only these: scheduled, ready, leased, running, succeeded, failed …", OPTION_LIST,
     "state", &clm__task__state__descriptor},
    {"kind", "KIND", "only these: deploy, renew, validate, discover", OPTION_LIST, "kind",
     &clm__task__kind__descriptor},
    LIST_OPTIONS,
    {.name = NULL},
};

static const struct column list_columns[] = {
    {"ID", "id", false},
    {"KIND", "kind", false},
    {"STATE", "state", false},
    {"AGENT", "agent_id", false},
    {"CREATED", "created_at_ms", false},
    {"MESSAGE", "message", false},
    {"BY", "created_by", true},
    {"ATTEMPT", "attempt", true},
    {"STARTED", "started_at_ms", true},
    {"FINISHED", "finished_at_ms", true},
    {.heading = NULL},
};

static const struct listing listing = {"/api/v1/tasks", &clm__list_tasks_response__descriptor, "tasks",
                                       list_columns};

static const struct cli_option run_options[] = {
    {"agent", "ID", "the agent that shall do it", .type = OPTION_TEXT},
    {"target", "NAME", "renew, validate, deploy: a [target …] of the host's local policy",
     .type = OPTION_TEXT},
    {"dns", "NAME", "renew: the names of the new certificate (default: those of the present one)",
     .type = OPTION_LIST},
    {"reuse-key", NULL, "renew: keep the present key", .type = OPTION_FLAG},
    {"chain", "FILE", "deploy: the certificate chain to install, PEM, leaf first", .type = OPTION_TEXT},
    {"certificate", "PATH", "validate: a certificate file on the host", .type = OPTION_TEXT},
    {"endpoint", "HOST:PORT", "validate: an endpoint that the host can reach", .type = OPTION_TEXT},
    {"server-name", "NAME", "validate: the name to ask the endpoint for (default: the certificate's first)",
     .type = OPTION_TEXT},
    {"starttls", "PROTOCOL",
     "validate: spoken before TLS: none, smtp, imap, pop3, ldap, postgresql (default: by the port)",
     .type = OPTION_TEXT},
    {"root", "DIR", "discover: a directory to search (default: the policy's discovery roots)",
     .type = OPTION_LIST},
    {"idempotency-key", "KEY", "the same key gives the same task", .type = OPTION_TEXT},
    {"break-glass", NULL,
     "the one change for an agent in safe mode; needs the role admin, and the host's policy",
     .type = OPTION_FLAG},
    {"wait", NULL, "wait for the end; exit 4 unless it succeeded", .type = OPTION_FLAG},
    {"timeout", "SECONDS", "of --wait (default 300)", .type = OPTION_TEXT},
    OUTPUT_OPTION,
    {.name = NULL},
};

static const char *enum_name(const ProtobufCEnumDescriptor *desc, int value)
{
    const ProtobufCEnumValue *row = protobuf_c_enum_descriptor_get_value(desc, value);
    return row ? row->name : "?";
}

/* The row of a name in either case, or NULL. */
static const ProtobufCEnumValue *enum_find(const ProtobufCEnumDescriptor *desc, const char *name)
{
    for (unsigned i = 0; i < desc->n_values; i++)
        if (strcasecmp(desc->values[i].name, name) == 0)
            return &desc->values[i];
    return NULL;
}

static bool is_over(Clm__Task__State state)
{
    return state >= CLM__TASK__STATE__SUCCEEDED;
}

/* ---- showing ----------------------------------------------------------------------------------------------
 */

static void print_steps(const Clm__TaskResult *result, struct arena *arena)
{
    static const char *const headings[] = {"STEP", "RESULT", "MS", "MESSAGE"};
    struct table *table = table_new(arena, headings, ARRAY_LEN(headings));
    for (size_t i = 0; i < result->n_steps; i++) {
        const Clm__Step *step = result->steps[i];
        table_row(table, (const char *[]){step->name, step->ok ? "ok" : "FAILED",
                                          arena_printf(arena, "%u", step->duration_ms), step->message});
    }
    (void)putchar('\n');
    table_print(table, stdout);
}

static void print_checks(const Clm__TaskResult *result, struct arena *arena)
{
    static const char *const headings[] = {"CHECK", "OUTCOME", "REASON", "REMEDY"};
    struct table *table = table_new(arena, headings, ARRAY_LEN(headings));
    for (size_t i = 0; i < result->n_checks; i++) {
        const Clm__Check *check = result->checks[i];
        table_row(table, (const char *[]){check->id,
                                          enum_name(&clm__check__outcome__descriptor, (int)check->outcome),
                                          check->reason, check->remedy});
    }
    (void)putchar('\n');
    table_print(table, stdout);
}

static void print_certificates(const Clm__TaskResult *result, struct arena *arena)
{
    static const char *const headings[] = {"WHERE", "SUBJECT", "ISSUER", "UNTIL", "SHA-256"};
    struct table *table = table_new(arena, headings, ARRAY_LEN(headings));
    for (size_t i = 0; i < result->n_certificates; i++) {
        const Clm__FoundCertificate *found = result->certificates[i];
        const Clm__CertificateInfo *info = found->certificate;
        if (!info)
            continue;
        table_row(table,
                  (const char *[]){found->path ? found->path : found->endpoint, info->subject, info->issuer,
                                   table_time(arena, info->has_not_after_at_ms, info->not_after_at_ms),
                                   info->fingerprint_sha256});
    }
    (void)putchar('\n');
    table_print(table, stdout);
}

static void print_task(const Clm__TaskView *task, struct arena *arena)
{
    table_field(stdout, "id", task->id);
    table_field(stdout, "agent", task->agent_id);
    table_field(stdout, "kind", enum_name(&clm__task__kind__descriptor, (int)task->kind));
    table_field(stdout, "state", enum_name(&clm__task__state__descriptor, (int)task->state));
    table_field(stdout, "phase", is_over(task->state) ? NULL : task->phase);
    table_field(stdout, "message", task->message);
    table_field(stdout, "attempt", arena_printf(arena, "%u of %u", task->attempt, task->max_attempts));
    table_field(stdout, "created by", task->created_by);
    table_field(stdout, "created", table_time(arena, task->has_created_at_ms, task->created_at_ms));
    table_field(stdout, "started", table_time(arena, task->has_started_at_ms, task->started_at_ms));
    table_field(stdout, "finished", table_time(arena, task->has_finished_at_ms, task->finished_at_ms));
    const Clm__TaskResult *result = task->result;
    if (!result)
        return;
    table_field(stdout, "before", result->fingerprint_before_sha256);
    table_field(stdout, "after", result->fingerprint_after_sha256);
    table_field(stdout, "served", result->served_fingerprint_sha256);
    if (result->n_steps > 0)
        print_steps(result, arena);
    if (result->n_checks > 0)
        print_checks(result, arena);
    if (result->n_certificates > 0)
        print_certificates(result, arena);
}

/* ---- list, get, cancel ------------------------------------------------------------------------------------
 */

/* One task through its path; shown. */
static enum code call_task(struct client *client, const char *method, const char *path,
                           const ProtobufCMessage *body, struct arena *arena, const Clm__TaskView **ret,
                           const char **ret_text, struct status *st)
{
    ProtobufCMessage *msg;
    TRY(client_call(client, method, path, body, &clm__task_view__descriptor, arena, &msg, ret_text, st));
    *ret = (const Clm__TaskView *)msg;
    if (!(*ret)->id)
        return status_set(st, CODE_INTERNAL, "the platform's answer is not a task");
    return CODE_OK;
}

static enum code check_task_id(const char *id, struct status *st)
{
    if (!uuid_valid(id))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "\"%.64s\" is not a task id; clmctl tasks list shows them", id);
    return CODE_OK;
}

static void show(const Clm__TaskView *task, const char *text, enum view_format format, struct arena *arena)
{
    if (format == VIEW_JSON)
        (void)puts(text);
    else if (format == VIEW_YAML)
        view_yaml(stdout, &task->base, arena);
    else
        print_task(task, arena);
}

static enum code run_get(struct client *client, const struct cli_args *args, struct arena *arena,
                         int *ret_exit, struct status *st)
{
    enum view_format format;
    const Clm__TaskView *task;
    const char *text;
    TRY(view_format_read(args, &format, st));
    TRY(check_task_id(args->positional[0], st));
    TRY(call_task(client, "GET", arena_printf(arena, "/api/v1/tasks/%s", args->positional[0]), NULL, arena,
                  &task, &text, st));
    show(task, text, format, arena);
    *ret_exit = EXIT_OK;
    return CODE_OK;
}

static enum code run_cancel(struct client *client, const struct cli_args *args, struct arena *arena,
                            int *ret_exit, struct status *st)
{
    enum view_format format;
    const Clm__TaskView *task;
    const char *text;
    Clm__CancelTaskRequest request = CLM__CANCEL_TASK_REQUEST__INIT;
    TRY(view_format_read(args, &format, st));
    TRY(check_task_id(args->positional[0], st));
    TRY(call_task(client, "POST", arena_printf(arena, "/api/v1/tasks/%s:cancel", args->positional[0]),
                  &request.base, arena, &task, &text, st));
    show(task, text, format, arena);
    *ret_exit = EXIT_OK;
    return CODE_OK;
}

/* ---- run --------------------------------------------------------------------------------------------------
 */

struct order {
    Clm__CreateTaskRequest request;
    Clm__TaskSpec spec;
    Clm__DeploySpec deploy;
    Clm__RenewSpec renew;
    Clm__ValidateSpec validate;
    Clm__DiscoverSpec discover;
    char *names[CLI_VALUES_MAX], *roots[CLI_VALUES_MAX];
};

static enum code add_name(const char *value, void *arg, struct status *st)
{
    (void)st;
    Clm__RenewSpec *renew = arg;
    renew->dns_names[renew->n_dns_names++] = (char *)(uintptr_t)value;
    return CODE_OK;
}

static enum code add_root(const char *value, void *arg, struct status *st)
{
    Clm__DiscoverSpec *discover = arg;
    if (value[0] != '/')
        return status_set(st, CODE_INVALID_ARGUMENT, "--root %.128s: must be absolute", value);
    discover->roots[discover->n_roots++] = (char *)(uintptr_t)value;
    return CODE_OK;
}

static char *text_option(const struct cli_args *args, const char *name)
{
    return (char *)(uintptr_t)cli_args_text(args, name);
}

static enum code need(const char *value, const char *option, const char *kind, struct status *st)
{
    if (!value)
        return status_set(st, CODE_INVALID_ARGUMENT, "tasks run %s needs --%s", kind, option);
    return CODE_OK;
}

static enum code fill_deploy(struct order *o, const struct cli_args *args, struct arena *arena,
                             struct status *st)
{
    AUTO_BUF struct buf chain = {0};
    const char *path = cli_args_text(args, "chain");
    clm__deploy_spec__init(&o->deploy);
    o->deploy.target = text_option(args, "target");
    TRY(need(o->deploy.target, "target", "deploy", st));
    TRY(need(path, "chain", "deploy", st));
    TRY(file_read(path, CHAIN_MAX, &chain, st));
    o->deploy.chain_pem = arena_strndup(arena, buf_text(&chain), chain.len);
    o->spec.deploy = &o->deploy;
    return CODE_OK;
}

static enum code fill_renew(struct order *o, const struct cli_args *args, struct arena *arena,
                            struct status *st)
{
    clm__renew_spec__init(&o->renew);
    o->renew.target = text_option(args, "target");
    o->renew.dns_names = o->names;
    TRY(need(o->renew.target, "target", "renew", st));
    TRY(cli_args_each(args, "dns", true, add_name, &o->renew, arena, st));
    o->renew.has_reuse_key = o->renew.reuse_key = cli_args_flag(args, "reuse-key");
    o->spec.renew = &o->renew;
    return CODE_OK;
}

static enum code fill_validate(struct order *o, const struct cli_args *args, struct arena *arena,
                               struct status *st)
{
    (void)arena;
    const char *starttls = cli_args_text(args, "starttls");
    clm__validate_spec__init(&o->validate);
    o->validate.target = text_option(args, "target");
    o->validate.certificate_path = text_option(args, "certificate");
    o->validate.endpoint = text_option(args, "endpoint");
    o->validate.server_name = text_option(args, "server-name");
    if (starttls) {
        const ProtobufCEnumValue *row = enum_find(&clm__validate_spec__starttls__descriptor, starttls);
        if (!row)
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "--starttls %.32s: none, smtp, imap, pop3, ldap or postgresql", starttls);
        o->validate.has_starttls = true;
        o->validate.starttls = (Clm__ValidateSpec__Starttls)row->value;
    }
    if (!o->validate.target && !o->validate.certificate_path && !o->validate.endpoint)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "tasks run validate needs --target, --certificate or --endpoint");
    o->spec.validate = &o->validate;
    return CODE_OK;
}

static enum code fill_discover(struct order *o, const struct cli_args *args, struct arena *arena,
                               struct status *st)
{
    clm__discover_spec__init(&o->discover);
    o->discover.roots = o->roots;
    TRY(cli_args_each(args, "root", true, add_root, &o->discover, arena, st));
    o->spec.discover = &o->discover;
    return CODE_OK;
}

static const struct {
    const char *name;
    Clm__Task__Kind kind;
    enum code (*fill)(struct order *o, const struct cli_args *args, struct arena *arena, struct status *st);
} kinds[] = {
    {"deploy", CLM__TASK__KIND__DEPLOY, fill_deploy},
    {"renew", CLM__TASK__KIND__RENEW, fill_renew},
    {"validate", CLM__TASK__KIND__VALIDATE, fill_validate},
    {"discover", CLM__TASK__KIND__DISCOVER, fill_discover},
};

static enum code make_order(const struct cli_args *args, struct arena *arena, struct order *o,
                            struct status *st)
{
    const char *name = args->positional[0];
    clm__create_task_request__init(&o->request);
    clm__task_spec__init(&o->spec);
    o->request.spec = &o->spec;
    o->request.agent_id = text_option(args, "agent");
    o->request.idempotency_key = text_option(args, "idempotency-key");
    o->request.has_break_glass = o->request.break_glass = cli_args_flag(args, "break-glass");
    TRY(need(o->request.agent_id, "agent", name, st));
    if (!uuid_valid(o->request.agent_id))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "--agent %.64s: not an agent id; clmctl agents list shows them",
                          o->request.agent_id);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].name, name) != 0)
            continue;
        o->spec.has_kind = true;
        o->spec.kind = kinds[i].kind;
        return kinds[i].fill(o, args, arena, st);
    }
    return status_set(st, CODE_INVALID_ARGUMENT,
                      "\"%.32s\" is no kind of task: deploy, renew, validate or discover", name);
}

/* Asks until the task is over or the time is. A platform that is away for a moment is asked again. */
/* On a terminal one line that moves; elsewhere a line for each phase. */
static void show_progress(const Clm__TaskView *task, char said[160], struct arena *arena)
{
    char now[160];
    (void)snprintf(now, sizeof(now), "%s%s%.60s%s%.60s",
                   enum_name(&clm__task__state__descriptor, (int)task->state), task->phase ? " " : "",
                   task->phase ? table_printable(arena, task->phase) : "", task->message ? ": " : "",
                   task->message ? table_printable(arena, task->message) : "");
    if (task->has_progress_permille) {
        size_t len = strlen(now);
        (void)snprintf(now + len, sizeof(now) - len, " %u%%", task->progress_permille / 10);
    }
    if (strcmp(now, said) == 0)
        return;
    (void)snprintf(said, 160, "%s", now);
    (void)fprintf(stderr, cli_is_terminal(stderr) ? "\r\033[K%s" : "%s\n", now);
    (void)fflush(stderr);
}

static enum code wait_for_end(struct client *client, const char *id, long timeout_sec, struct arena *arena,
                              const Clm__TaskView **ret, const char **ret_text, struct status *st)
{
    int64_t end = clock_mono_ms() + timeout_sec * 1000;
    const char *path = arena_printf(arena, "/api/v1/tasks/%s", id);
    char said[160] = "";
    for (;;) {
        enum code code = call_task(client, "GET", path, NULL, arena, ret, ret_text, st);
        if (code != CODE_OK && !code_info(code)->retryable)
            return code;
        if (code == CODE_OK)
            show_progress(*ret, said, arena);
        if (code == CODE_OK && is_over((*ret)->state)) {
            (void)fputs(cli_is_terminal(stderr) ? "\r\033[K" : "", stderr);
            return CODE_OK;
        }
        if (clock_mono_ms() >= end)
            return status_set(st, CODE_DEADLINE_EXCEEDED,
                              "task %s is not over after %ld s; it goes on: clmctl tasks get %s", id,
                              timeout_sec, id);
        (void)poll(NULL, 0, WAIT_STEP_MS);
    }
}

static enum code run_run(struct client *client, const struct cli_args *args, struct arena *arena,
                         int *ret_exit, struct status *st)
{
    enum view_format format;
    long timeout_sec;
    const Clm__TaskView *task;
    const char *text;
    struct order *o = arena_alloc(arena, sizeof(*o));
    TRY(view_format_read(args, &format, st));
    TRY(cli_args_number(args, "timeout", 1, 86400, 300, &timeout_sec, st));
    TRY(make_order(args, arena, o, st));
    TRY(call_task(client, "POST", "/api/v1/tasks", &o->request.base, arena, &task, &text, st));
    *ret_exit = EXIT_OK;
    if (cli_args_flag(args, "wait")) {
        TRY(wait_for_end(client, task->id, timeout_sec, arena, &task, &text, st));
        *ret_exit = task->state == CLM__TASK__STATE__SUCCEEDED ? EXIT_OK : EXIT_TASK_FAILED;
    }
    show(task, text, format, arena);
    return CODE_OK;
}

const struct command tasks_commands[] = {
    {.group = "tasks",
     .name = "run",
     .positional = "KIND",
     .summary = "Give an agent a task: deploy, renew, validate or discover",
     .options = run_options,
     .run = run_run},
    {.group = "tasks",
     .name = "list",
     .summary = "List tasks, newest first; filter by agent, state and kind",
     .options = list_options,
     .listing = &listing},
    {.group = "tasks",
     .name = "get",
     .positional = "ID",
     .summary = "Show one task with its result",
     .options = get_options,
     .run = run_get},
    {.group = "tasks",
     .name = "cancel",
     .positional = "ID",
     .summary = "Cancel a task; of one that has begun, the host decides",
     .options = get_options,
     .run = run_cancel},
    {.group = "tasks",
     .name = "retry",
     .positional = "ID",
     .summary = "Do a task that did not succeed once more",
     .options = get_options,
     .action = &(const struct action){.method = "POST",
                                      .path = "/api/v1/tasks/%s:retry",
                                      .request = &clm__retry_task_request__descriptor,
                                      .response = &clm__task_view__descriptor,
                                      .needs_id = true}},
    {.name = NULL},
};
