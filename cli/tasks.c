/* `clmctl tasks …`. */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "cli/command.h"
#include "cli/order.h"
#include "cli/table.h"
#include "cli/view.h"
#include "proto/tasks.pb-c.h"
#include "wire/wire.h"

#define WAIT_STEP_MS 250

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

static const struct cli_option logs_options[] = {
    {"follow", NULL, "wait for the end of the task first", .type = OPTION_FLAG},
    {"timeout", "SECONDS", "of --follow (default 300)", .type = OPTION_TEXT},
    OUTPUT_OPTION,
    {.name = NULL},
};

static const struct cli_option run_options[] = {
    ORDER_OPTIONS,
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

static bool is_over(Clm__Task__State state)
{
    return state >= CLM__TASK__STATE__SUCCEEDED;
}

/* ---- showing ----------------------------------------------------------------------------------------------
 */

static void print_steps(Clm__Step *const *steps, size_t n, struct arena *arena)
{
    static const char *const headings[] = {"STEP", "RESULT", "MS", "MESSAGE"};
    struct table *table = table_new(arena, headings, ARRAY_LEN(headings));
    for (size_t i = 0; i < n; i++)
        table_row(table,
                  (const char *[]){steps[i]->name, steps[i]->ok ? "ok" : "FAILED",
                                   arena_printf(arena, "%u", steps[i]->duration_ms), steps[i]->message});
    table_print(table, stdout);
}

static void print_logs(const Clm__TaskView *task, struct arena *arena)
{
    for (size_t i = 0; i < task->n_attempts; i++) {
        const Clm__TaskAttempt *attempt = task->attempts[i];
        const char *at = table_time(arena, attempt->has_ended_at_ms, attempt->ended_at_ms);
        (void)printf("%sattempt %u: %s %s\n", i ? "\n" : "", attempt->attempt,
                     enum_name(&clm__task_attempt__outcome__descriptor, (int)attempt->outcome), at ? at : "");
        if (attempt->n_steps > 0)
            print_steps(attempt->steps, attempt->n_steps, arena);
        else
            (void)puts("no step was begun");
    }
    if (task->message)
        table_field(stdout, "message", task->message);
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
    if (result->n_steps > 0) {
        (void)putchar('\n');
        print_steps(result->steps, result->n_steps, arena);
    }
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

static enum code read_task(const char *text, struct arena *arena, const Clm__TaskView **ret,
                           struct status *st)
{
    ProtobufCMessage *msg;
    TRY(json_read_lenient(&clm__task_view__descriptor, text, strlen(text), arena, &msg, st));
    *ret = (const Clm__TaskView *)msg;
    return CODE_OK;
}

/* Asks until the task is over or the time is. A platform that is away for a moment is asked again. */
static enum code wait_for_end(struct client *client, const char *id, long timeout_sec, struct arena *arena,
                              const Clm__TaskView **ret, const char **ret_text, struct status *st)
{
    int64_t end = clock_mono_ms() + timeout_sec * 1000;
    const char *path = arena_printf(arena, "/api/v1/tasks/%s", id);
    char said[160] = "";
    for (;;) {
        AUTO_ARENA struct arena *now = arena_new(); /* somebody may wait for a day */
        const Clm__TaskView *task = NULL;
        enum code code = call_task(client, "GET", path, NULL, now, &task, ret_text, st);
        if (code != CODE_OK && !code_info(code)->retryable)
            return code;
        if (code == CODE_OK)
            show_progress(task, said, now);
        if (code == CODE_OK && is_over(task->state)) {
            (void)fputs(cli_is_terminal(stderr) ? "\r\033[K" : "", stderr);
            *ret_text = arena_strdup(arena, *ret_text);
            return read_task(*ret_text, arena, ret, st);
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
    Clm__CreateTaskRequest *request;
    TRY(view_format_read(args, &format, st));
    TRY(cli_args_number(args, "timeout", 1, 86400, 300, &timeout_sec, st));
    TRY(order_read(args, arena, &request, st));
    TRY(call_task(client, "POST", "/api/v1/tasks", &request->base, arena, &task, &text, st));
    *ret_exit = EXIT_OK;
    if (cli_args_flag(args, "wait")) {
        TRY(wait_for_end(client, task->id, timeout_sec, arena, &task, &text, st));
        *ret_exit = task->state == CLM__TASK__STATE__SUCCEEDED ? EXIT_OK : EXIT_TASK_FAILED;
    }
    show(task, text, format, arena);
    return CODE_OK;
}

static enum code run_logs(struct client *client, const struct cli_args *args, struct arena *arena,
                          int *ret_exit, struct status *st)
{
    enum view_format format;
    long timeout_sec;
    const Clm__TaskView *task;
    const char *text, *id = args->positional[0];
    TRY(view_format_read(args, &format, st));
    TRY(check_task_id(id, st));
    TRY(cli_args_number(args, "timeout", 1, 86400, 300, &timeout_sec, st));
    if (cli_args_flag(args, "follow"))
        TRY(wait_for_end(client, id, timeout_sec, arena, &task, &text, st));
    else
        TRY(call_task(client, "GET", arena_printf(arena, "/api/v1/tasks/%s", id), NULL, arena, &task, &text,
                      st));
    if (format == VIEW_JSON || format == VIEW_YAML)
        show(task, text, format, arena);
    else if (task->n_attempts > 0)
        print_logs(task, arena);
    else
        (void)fputs("no attempt has ended yet; --follow waits for it\n", stderr);
    *ret_exit = EXIT_OK;
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
     .name = "logs",
     .positional = "ID",
     .summary = "Show what each attempt of a task did, step by step",
     .options = logs_options,
     .run = run_logs},
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
