/* `clmctl agents …`. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/id.h"
#include "cli/command.h"
#include "cli/table.h"
#include "proto/registry.pb-c.h"
#include "wire/wire.h"

static const struct cli_option get_options[] = {
    {"o", "FORMAT", "table (default) or json", OPTION_TEXT},
    {.name = NULL},
};

static const struct cli_option list_options[] = {
    {"status", "STATUS", "only these: ONLINE, OFFLINE, BOOTSTRAPPING, SAFE_MODE, EXPIRED, DISABLED",
     OPTION_LIST},
    {"search", "TEXT", "part of the hostname or of the id", OPTION_TEXT},
    {"label", "NAME[=VALUE]", "only agents with this label; several: all of them", OPTION_LIST},
    {"limit", "N", "agents a page, 1 to 500 (default 50)", OPTION_TEXT},
    {"page", "TOKEN", "the page that the end of the last list names", OPTION_TEXT},
    {"o", "FORMAT", "table (default) or json", OPTION_TEXT},
    {.name = NULL},
};

static const struct cli_option register_options[] = {
    {"label", "NAME=VALUE", "a label; may be given several times", OPTION_LIST},
    {"allow", "OPERATION,…", "what the agent may be asked: deploy, renew, validate, discover", OPTION_LIST},
    {"dns", "NAME", "a DNS name, or *.example.com, that its certificates may carry", OPTION_LIST},
    {"path", "GLOB", "files that it may be asked to touch, such as /etc/nginx/**", OPTION_LIST},
    {"ttl", "SECONDS", "life of the bootstrap token (default 3600)", OPTION_TEXT},
    {"token-host", "PATTERN", "the token works only on hosts with such a name: web-*.example.com",
     OPTION_TEXT},
    {"token-source", "CIDR", "the token works only from there: 10.1.0.0/16", OPTION_TEXT},
    {"token-file", "FILE", "write the token there (0600) instead of to stdout", OPTION_TEXT},
    {.name = NULL},
};

static const char *status_name(int status)
{
    const ProtobufCEnumValue *row =
        protobuf_c_enum_descriptor_get_value(&clm__agent__status__descriptor, status);
    return row ? row->name : "?";
}

static const char *join_labels(const Clm__AgentView *agent, struct arena *arena)
{
    const char *text = "";
    for (size_t i = 0; i < agent->n_labels; i++)
        text = arena_printf(arena, "%s%s%s=%s", text, i ? " " : "", agent->labels[i]->name,
                            agent->labels[i]->value);
    return text;
}

static const char *join_scope(const Clm__Scope *scope, struct arena *arena)
{
    const char *text = "";
    if (!scope)
        return text;
    for (size_t i = 0; i < scope->n_operations; i++)
        text = arena_printf(
            arena, "%s %s", text,
            protobuf_c_enum_descriptor_get_value(&clm__task__kind__descriptor, (int)scope->operations[i])
                ->name);
    for (size_t i = 0; i < scope->n_dns_names; i++)
        text = arena_printf(arena, "%s %s", text, scope->dns_names[i]);
    for (size_t i = 0; i < scope->n_paths; i++)
        text = arena_printf(arena, "%s %s", text, scope->paths[i]);
    return *text ? text + 1 : text;
}

static void print_agent(const Clm__AgentView *agent, struct arena *arena)
{
    table_field(stdout, "id", agent->id);
    table_field(stdout, "hostname", agent->hostname);
    table_field(stdout, "status", status_name((int)agent->status));
    table_field(stdout, "reason", agent->reason);
    table_field(stdout, "labels", join_labels(agent, arena));
    table_field(stdout, "scope", join_scope(agent->scope, arena));
    table_field(stdout, "registered", table_time(arena, agent->has_created_at_ms, agent->created_at_ms));
    table_field(stdout, "bootstrapped",
                table_time(arena, agent->has_bootstrapped_at_ms, agent->bootstrapped_at_ms));
    table_field(stdout, "last heartbeat",
                table_time(arena, agent->has_last_heartbeat_at_ms, agent->last_heartbeat_at_ms));
    if (agent->has_generation)
        table_field(stdout, "generation", arena_printf(arena, "%u", agent->generation));
    table_field(stdout, "identity", agent->identity_fingerprint_sha256);
    table_field(stdout, "identity until",
                table_time(arena, agent->has_identity_not_after_at_ms, agent->identity_not_after_at_ms));
    if (agent->facts) {
        table_field(stdout, "system", agent->facts->os);
        table_field(stdout, "agent version", agent->facts->agent_version);
    }
}

static enum code add_status(const char *value, void *path, struct status *st)
{
    for (unsigned i = 0; i < clm__agent__status__descriptor.n_values; i++) {
        if (strcasecmp(value, clm__agent__status__descriptor.values[i].name) == 0) {
            client_query(path, "status", clm__agent__status__descriptor.values[i].name);
            return CODE_OK;
        }
    }
    return status_set(st, CODE_INVALID_ARGUMENT,
                      "--status %.32s: no such status; see clmctl help agents list", value);
}

static enum code add_label_filter(const char *value, void *path, struct status *st)
{
    (void)st;
    client_query(path, "label", value);
    return CODE_OK;
}

static enum code run_list(struct client *client, const struct cli_args *args, struct arena *arena,
                          int *ret_exit, struct status *st)
{
    bool json;
    long limit;
    AUTO_BUF struct buf path = {0};
    TRY(cli_args_json(args, &json, st));
    TRY(cli_args_number(args, "limit", 1, 500, 50, &limit, st));
    if (!buf_puts(&path, "/api/v1/agents"))
        return status_set(st, CODE_INTERNAL, "out of buffer");
    client_query(&path, "pageSize", arena_printf(arena, "%ld", limit));
    client_query(&path, "search", cli_args_text(args, "search"));
    client_query(&path, "pageToken", cli_args_text(args, "page"));
    TRY(cli_args_each(args, "status", true, add_status, &path, arena, st));
    TRY(cli_args_each(args, "label", false, add_label_filter, &path, arena, st));

    ProtobufCMessage *msg;
    const char *text;
    TRY(client_call(client, "GET", buf_text(&path), NULL, &clm__list_agents_response__descriptor, arena, &msg,
                    &text, st));
    *ret_exit = EXIT_OK;
    if (json) {
        (void)puts(text);
        return CODE_OK;
    }
    const Clm__ListAgentsResponse *answer = (const Clm__ListAgentsResponse *)msg;
    static const char *const headings[] = {"ID", "HOSTNAME", "STATUS", "LAST HEARTBEAT", "LABELS"};
    struct table *table = table_new(arena, headings, ARRAY_LEN(headings));
    for (size_t i = 0; i < answer->n_agents; i++) {
        const Clm__AgentView *agent = answer->agents[i];
        table_row(table, (const char *[]){
                             agent->id, agent->hostname, status_name((int)agent->status),
                             table_time(arena, agent->has_last_heartbeat_at_ms, agent->last_heartbeat_at_ms),
                             join_labels(agent, arena)});
    }
    table_print(table, stdout);
    if (answer->next_page_token && *answer->next_page_token)
        (void)fprintf(stderr, "more: --page %s\n", answer->next_page_token);
    return CODE_OK;
}

static enum code call_agent(struct client *client, const char *method, const char *verb, const char *id,
                            const ProtobufCMessage *body, const struct cli_args *args, struct arena *arena,
                            int *ret_exit, struct status *st)
{
    bool json;
    TRY(cli_args_json(args, &json, st));
    if (!uuid_valid(id))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "\"%.64s\" is not an agent id; clmctl agents list shows them", id);
    ProtobufCMessage *msg;
    const char *text;
    TRY(client_call(client, method, arena_printf(arena, "/api/v1/agents/%s%s", id, verb), body,
                    &clm__agent_view__descriptor, arena, &msg, &text, st));
    *ret_exit = EXIT_OK;
    if (json)
        (void)puts(text);
    else
        print_agent((const Clm__AgentView *)msg, arena);
    return CODE_OK;
}

static enum code run_get(struct client *client, const struct cli_args *args, struct arena *arena,
                         int *ret_exit, struct status *st)
{
    return call_agent(client, "GET", "", args->positional[0], NULL, args, arena, ret_exit, st);
}

/* ---- register ---------------------------------------------------------------------------------------------
 */

struct registration {
    Clm__RegisterAgentRequest request;
    Clm__Scope scope;
    Clm__Task__Kind operations[CLI_VALUES_MAX];
    char *paths[CLI_VALUES_MAX], *dns_names[CLI_VALUES_MAX];
    Clm__Label labels[CLI_VALUES_MAX], *label_list[CLI_VALUES_MAX];
};

static enum code add_operation(const char *value, void *arg, struct status *st)
{
    struct registration *r = arg;
    for (unsigned i = 0; i < clm__task__kind__descriptor.n_values; i++) {
        if (strcasecmp(value, clm__task__kind__descriptor.values[i].name) != 0)
            continue;
        if (r->scope.n_operations == CLI_VALUES_MAX)
            break;
        r->operations[r->scope.n_operations++] = (Clm__Task__Kind)clm__task__kind__descriptor.values[i].value;
        return CODE_OK;
    }
    return status_set(st, CODE_INVALID_ARGUMENT,
                      "--allow %.32s: expected some of deploy, renew, validate, discover", value);
}

static enum code add_path(const char *value, void *arg, struct status *st)
{
    struct registration *r = arg;
    if (value[0] != '/')
        return status_set(st, CODE_INVALID_ARGUMENT, "--path %.128s: must be absolute", value);
    r->paths[r->scope.n_paths++] = (char *)(uintptr_t)value;
    return CODE_OK;
}

static enum code add_dns_name(const char *value, void *arg, struct status *st)
{
    (void)st;
    struct registration *r = arg;
    r->dns_names[r->scope.n_dns_names++] = (char *)(uintptr_t)value;
    return CODE_OK;
}

static enum code add_label(const char *value, void *arg, struct status *st)
{
    struct registration *r = arg;
    char *text = (char *)(uintptr_t)value, *equals = strchr(text, '=');
    if (!equals || equals == text)
        return status_set(st, CODE_INVALID_ARGUMENT, "--label %.64s: expected NAME=VALUE", value);
    *equals = '\0';
    Clm__Label *label = &r->labels[r->request.n_labels];
    clm__label__init(label);
    label->name = text;
    label->value = equals + 1;
    r->label_list[r->request.n_labels++] = label;
    return CODE_OK;
}

static enum code make_registration(const struct cli_args *args, struct arena *arena, struct registration *r,
                                   struct status *st)
{
    long ttl;
    clm__register_agent_request__init(&r->request);
    clm__scope__init(&r->scope);
    r->request.hostname = (char *)(uintptr_t)args->positional[0];
    r->request.labels = r->label_list;
    r->scope.operations = r->operations;
    r->scope.paths = r->paths;
    r->scope.dns_names = r->dns_names;
    TRY(cli_args_each(args, "allow", true, add_operation, r, arena, st));
    TRY(cli_args_each(args, "path", false, add_path, r, arena, st));
    TRY(cli_args_each(args, "dns", false, add_dns_name, r, arena, st));
    TRY(cli_args_each(args, "label", false, add_label, r, arena, st));
    TRY(cli_args_number(args, "ttl", 60, 30L * 86400, 0, &ttl, st));
    if (ttl > 0) {
        r->request.has_token_ttl_sec = true;
        r->request.token_ttl_sec = (uint32_t)ttl;
    }
    r->request.token_hostname_pattern = (char *)(uintptr_t)cli_args_text(args, "token-host");
    r->request.token_source_cidr = (char *)(uintptr_t)cli_args_text(args, "token-source");
    if (r->scope.n_operations + r->scope.n_paths + r->scope.n_dns_names > 0)
        r->request.scope = &r->scope;
    return CODE_OK;
}

static enum code run_register(struct client *client, const struct cli_args *args, struct arena *arena,
                              int *ret_exit, struct status *st)
{
    struct registration *r = arena_alloc(arena, sizeof(*r));
    TRY(make_registration(args, arena, r, st));
    const char *token_file = cli_args_text(args, "token-file");
    if (token_file && access(token_file, F_OK) == 0)
        return status_set(st, CODE_ALREADY_EXISTS, "%.128s exists: name another file for the token",
                          token_file);
    ProtobufCMessage *msg;
    TRY(client_call(client, "POST", "/api/v1/agents", &r->request.base,
                    &clm__register_agent_response__descriptor, arena, &msg, NULL, st));
    const Clm__RegisterAgentResponse *answer = (const Clm__RegisterAgentResponse *)msg;
    if (!answer->token || !answer->agent)
        return status_set(st, CODE_INTERNAL, "the platform's answer has no token");
    *ret_exit = EXIT_OK;
    (void)fprintf(stderr, "agent %s registered; the token works once, until %s\n", answer->agent->id,
                  table_time(arena, answer->has_token_not_after_at_ms, answer->token_not_after_at_ms));
    const char *line = arena_printf(arena, "%s\n", answer->token);
    if (token_file)
        return file_write_atomic(token_file, line, strlen(line), 0600, st);
    (void)fputs(line, stdout);
    return CODE_OK;
}

const struct command agents_commands[] = {
    {.group = "agents",
     .name = "list",
     .summary = "List agents; search by hostname, filter by status and label",
     .options = list_options,
     .run = run_list},
    {.group = "agents",
     .name = "get",
     .positional = "ID",
     .summary = "Show one agent",
     .options = get_options,
     .run = run_get},
    {.group = "agents",
     .name = "register",
     .positional = "HOSTNAME",
     .summary = "Register an agent and print its one-time bootstrap token",
     .options = register_options,
     .run = run_register},
    {.name = NULL},
};
