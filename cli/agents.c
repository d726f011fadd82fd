/* `clmctl agents …`. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/id.h"
#include "cli/command.h"
#include "cli/table.h"
#include "cli/view.h"
#include "proto/bootstrap.pb-c.h"
#include "proto/registry.pb-c.h"
#include "wire/wire.h"

#define LABEL_TRIES 10 /* against others who change the same agent */

static const struct cli_option list_options[] = {
    {"status", "STATUS", "only these: online, offline, bootstrapping, safe_mode, expired, disabled",
     OPTION_LIST, "status", &clm__agent__status__descriptor},
    {"search", "TEXT", "part of the hostname, or the first 8 digits of the id", OPTION_TEXT,
     .param = "search"},
    {"label", "NAME[=VALUE]", "only agents with this label; several: all of them", OPTION_LIST,
     .param = "label"},
    {"version", "VERSION", "only with this program: 1.2.0, or 1.2.*", OPTION_TEXT, .param = "version"},
    {"expires-before", "TIME", "only those whose identity ends before: 2026-12-01T00:00:00Z", OPTION_TEXT,
     .param = "expiresBeforeAt"},
    {"sort", "ORDER", "id (as registered; default), hostname, expiry or heartbeat", OPTION_TEXT, "sort",
     &clm__list_agents_request__sort__descriptor},
    {"descending", NULL, "the other way round", OPTION_FLAG, .param = "descending"},
    LIST_OPTIONS,
    {.name = NULL},
};

static const struct column list_columns[] = {
    {"ID", "id", false},          {"HOSTNAME", "hostname", false},
    {"STATUS", "status", false},  {"LAST HEARTBEAT", "last_heartbeat_at_ms", false},
    {"LABELS", "labels", false},  {"VERSION", "facts.agent_version", true},
    {"SYSTEM", "facts.os", true}, {"IDENTITY UNTIL", "identity_not_after_at_ms", true},
    {"REASON", "reason", true},   {.heading = NULL},
};

static const struct listing listing = {"/api/v1/agents", &clm__list_agents_response__descriptor, "agents",
                                       list_columns};

static const struct cli_option register_options[] = {
    {"label", "NAME=VALUE", "a label; may be given several times", .type = OPTION_LIST},
    {"allow", "OPERATION,…", "what the agent may be asked: deploy, renew, validate, discover",
     .type = OPTION_LIST},
    {"dns", "NAME", "a DNS name, or *.example.com, that its certificates may carry", .type = OPTION_LIST},
    {"path", "GLOB", "files that it may be asked to touch, such as /etc/nginx/**", .type = OPTION_LIST},
    {"ttl", "SECONDS", "life of the bootstrap token (default 3600)", .type = OPTION_TEXT},
    {"token-host", "PATTERN", "the token works only on hosts with such a name: web-*.example.com",
     .type = OPTION_TEXT},
    {"token-source", "CIDR", "the token works only from there: 10.1.0.0/16", .type = OPTION_TEXT},
    {"token-file", "FILE", "write the token there (0600), and nothing to stdout", .type = OPTION_TEXT},
    {"o", "FORMAT",
     "token: the token alone; json: the whole answer; default: the line that installs the agent",
     .type = OPTION_TEXT},
    {.name = NULL},
};

static const struct cli_option scope_options[] = {
    {"allow", "OPERATION,…", "what the agent may be asked: deploy, renew, validate, discover",
     .type = OPTION_LIST},
    {"dns", "NAME", "a DNS name, or *.example.com, that its certificates may carry", .type = OPTION_LIST},
    {"path", "GLOB", "files that it may be asked to touch, such as /etc/nginx/**", .type = OPTION_LIST},
    {.name = NULL},
};

static const struct cli_option disable_options[] = {
    {"reason", "TEXT", "why, for whoever looks at it", OPTION_TEXT, .param = "reason"},
    OUTPUT_OPTION,
    {.name = NULL},
};

static const struct cli_option output_options[] = {OUTPUT_OPTION, {.name = NULL}};

static const struct cli_option token_options[] = {
    {"ttl", "SECONDS", "life of the token (default 3600)", OPTION_TEXT, .param = "tokenTtlSec"},
    {"token-host", "PATTERN", "it works only on hosts with such a name: web-*.example.com", OPTION_TEXT,
     .param = "tokenHostnamePattern"},
    {"token-source", "CIDR", "it works only from there: 10.1.0.0/16", OPTION_TEXT,
     .param = "tokenSourceCidr"},
    {"force", NULL, "also if the agent was online in the last day", OPTION_FLAG, .param = "force"},
    {"o", "FORMAT", "table (default), json or yaml", .type = OPTION_TEXT},
    {.name = NULL},
};

static const struct column token_columns[] = {
    {"ID", "id", false},
    {"STATE", "state", false},
    {"CREATED", "created_at_ms", false},
    {"UNTIL", "not_after_at_ms", false},
    {"BY", "created_by", false},
    {.heading = NULL},
};

#define AGENT_ACTION(verb, request_)                                                                         \
    &(const struct action)                                                                                   \
    {                                                                                                        \
        .method = "POST", .path = "/api/v1/agents/%s:" verb, .request = &request_,                           \
        .response = &clm__agent_view__descriptor, .needs_id = true                                           \
    }

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

static const char *join_operations(const Clm__HostFacts *facts, struct arena *arena)
{
    const char *text = "";
    for (size_t i = 0; i < facts->n_operations; i++) {
        const ProtobufCEnumValue *kind =
            protobuf_c_enum_descriptor_get_value(&clm__task__kind__descriptor, (int)facts->operations[i]);
        text = kind ? arena_printf(arena, "%s%s%s", text, *text ? " " : "", kind->name) : text;
    }
    return text;
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
    if (agent->has_identity_days_left)
        table_field(stdout, "days left", arena_printf(arena, "%d", agent->identity_days_left));
    if (agent->facts) {
        table_field(stdout, "system", agent->facts->os);
        table_field(stdout, "agent version", agent->facts->agent_version);
        table_field(stdout, "built", agent->facts->build_date);
        table_field(stdout, "commit", agent->facts->git_commit);
        table_field(stdout, "operations", join_operations(agent->facts, arena));
    }
}

static const char *identity_state_name(int state)
{
    const ProtobufCEnumValue *row =
        protobuf_c_enum_descriptor_get_value(&clm__identity_view__state__descriptor, state);
    return row ? row->name : "?";
}

/* Every generation that it had, newest first. */
static enum code print_identities(struct client *client, const char *id, struct arena *arena,
                                  struct status *st)
{
    ProtobufCMessage *msg;
    TRY(client_call(client, "GET", arena_printf(arena, "/api/v1/agents/%s/identities", id), NULL,
                    &clm__list_agent_identities_response__descriptor, arena, &msg, NULL, st));
    const Clm__ListAgentIdentitiesResponse *answer = (const Clm__ListAgentIdentitiesResponse *)msg;
    if (answer->n_identities == 0)
        return CODE_OK;
    static const char *const headings[] = {"GENERATION", "STATE", "ISSUED", "UNTIL", "SERIAL", "SHA-256"};
    struct table *table = table_new(arena, headings, ARRAY_LEN(headings));
    for (size_t i = 0; i < answer->n_identities; i++) {
        const Clm__IdentityView *one = answer->identities[i];
        table_row(table, (const char *[]){arena_printf(arena, "%u", one->generation),
                                          identity_state_name((int)one->state),
                                          table_time(arena, one->has_issued_at_ms, one->issued_at_ms),
                                          table_time(arena, one->has_not_after_at_ms, one->not_after_at_ms),
                                          one->serial, one->fingerprint_sha256});
    }
    (void)puts("");
    table_print(table, stdout);
    return CODE_OK;
}

static enum code run_get(struct client *client, const struct cli_args *args, struct arena *arena,
                         int *ret_exit, struct status *st)
{
    static const struct action get = {"GET", "/api/v1/agents/%s", NULL, &clm__agent_view__descriptor,
                                      .needs_id = true};
    enum view_format format;
    TRY(view_format_read(args, &format, st));
    if (format != VIEW_TABLE)
        return client_act(client, args, &get, arena, ret_exit, st);
    if (!uuid_valid(args->positional[0]))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "\"%.64s\" is not an agent id; clmctl agents list shows them", args->positional[0]);
    ProtobufCMessage *msg;
    TRY(client_call(client, "GET", arena_printf(arena, "/api/v1/agents/%s", args->positional[0]), NULL,
                    &clm__agent_view__descriptor, arena, &msg, NULL, st));
    print_agent((const Clm__AgentView *)msg, arena);
    *ret_exit = EXIT_OK;
    return print_identities(client, args->positional[0], arena, st);
}

/* ---- labels and scope: changes of what is there, safe against others who do the same
 * -------------------------
 */

static enum code read_agent(struct client *client, const char *id, struct arena *arena,
                            const Clm__AgentView **ret, struct status *st)
{
    ProtobufCMessage *msg;
    if (!uuid_valid(id))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "\"%.64s\" is not an agent id; clmctl agents list shows them", id);
    TRY(client_call(client, "GET", arena_printf(arena, "/api/v1/agents/%s", id), NULL,
                    &clm__agent_view__descriptor, arena, &msg, NULL, st));
    *ret = (const Clm__AgentView *)msg;
    return CODE_OK;
}

static enum code send_agent(struct client *client, const char *id, const char *verb,
                            const ProtobufCMessage *body, struct arena *arena, struct status *st)
{
    ProtobufCMessage *msg;
    TRY(client_call(client, "POST", arena_printf(arena, "/api/v1/agents/%s:%s", id, verb), body,
                    &clm__agent_view__descriptor, arena, &msg, NULL, st));
    print_agent((const Clm__AgentView *)msg, arena);
    return CODE_OK;
}

static enum code check_label(const char *word, struct status *st)
{
    const char *equals = strchr(word, '=');
    size_t len = strlen(word);
    if (equals ? equals == word : len < 2 || word[len - 1] != '-')
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "\"%.64s\": expected NAME=VALUE, or NAME- to take it away", word);
    return CODE_OK;
}

/* "name=value" sets, "name-" takes away. */
static void change_label(Clm__SetAgentLabelsRequest *request, const char *word, struct arena *arena)
{
    const char *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : strlen(word);
    bool away = !equals;
    const char *name = arena_strndup(arena, word, away ? len - 1 : len);
    size_t kept = 0;
    for (size_t i = 0; i < request->n_labels; i++)
        if (strcmp(request->labels[i]->name, name) != 0)
            request->labels[kept++] = request->labels[i];
    request->n_labels = kept;
    if (away)
        return;
    Clm__Label *label = arena_alloc(arena, sizeof(*label));
    clm__label__init(label);
    label->name = (char *)(uintptr_t)name;
    label->value = arena_strdup(arena, equals + 1);
    request->labels[request->n_labels++] = label;
}

/* As the agent is now. ABORTED: somebody else has changed it meanwhile. */
static enum code label_once(struct client *client, const struct cli_args *args, struct arena *arena,
                            struct status *st)
{
    const Clm__AgentView *agent;
    Clm__SetAgentLabelsRequest request = CLM__SET_AGENT_LABELS_REQUEST__INIT;
    TRY(read_agent(client, args->positional[0], arena, &agent, st));
    request.labels = arena_array(arena, agent->n_labels + CLI_POSITIONAL_MAX, sizeof(*request.labels));
    for (size_t i = 0; i < agent->n_labels; i++)
        request.labels[request.n_labels++] = agent->labels[i];
    for (size_t i = 1; i < args->n_positional; i++)
        change_label(&request, args->positional[i], arena);
    request.has_if_version = agent->has_version;
    request.if_version = agent->version;
    return send_agent(client, args->positional[0], "setLabels", &request.base, arena, st);
}

static enum code run_label(struct client *client, const struct cli_args *args, struct arena *arena,
                           int *ret_exit, struct status *st)
{
    if (args->n_positional < 2)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "which labels? NAME=VALUE sets one, NAME- takes it away");
    for (size_t i = 1; i < args->n_positional; i++)
        TRY(check_label(args->positional[i], st));
    *ret_exit = EXIT_OK;
    enum code code = CODE_ABORTED;
    for (int tries = 0; code == CODE_ABORTED && tries < LABEL_TRIES; tries++)
        code = label_once(client, args, arena, st);
    return code;
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
    TRY(cli_args_number(args, "ttl", 60, 7L * 86400, 0, &ttl, st));
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

static enum code run_scope(struct client *client, const struct cli_args *args, struct arena *arena,
                           int *ret_exit, struct status *st)
{
    const Clm__AgentView *agent;
    struct registration *r = arena_alloc(arena, sizeof(*r));
    Clm__SetAgentScopeRequest request = CLM__SET_AGENT_SCOPE_REQUEST__INIT;
    TRY(make_registration(args, arena, r, st));
    TRY(read_agent(client, args->positional[0], arena, &agent, st));
    request.scope = &r->scope;
    request.has_if_version = agent->has_version;
    request.if_version = agent->version;
    *ret_exit = EXIT_OK;
    return send_agent(client, args->positional[0], "setScope", &request.base, arena, st);
}

/* On Debian and its kin; the token goes in by stdin, so that no other user of the host sees it among the
 * processes. */
static const char *install_line(const char *token, struct arena *arena)
{
    return arena_printf(
        arena,
        "sudo apt-get install -y clm-agent && sudo install -m 0600 /dev/stdin /etc/clm-agent/token "
        "<<< '%s' && sudo clm-agent setup && sudo systemctl enable --now clm-agent",
        token);
}

static enum code run_register(struct client *client, const struct cli_args *args, struct arena *arena,
                              int *ret_exit, struct status *st)
{
    struct registration *r = arena_alloc(arena, sizeof(*r));
    TRY(make_registration(args, arena, r, st));
    const char *token_file = cli_args_text(args, "token-file"), *output = cli_args_text(args, "o");
    if (output && strcmp(output, "token") != 0 && strcmp(output, "json") != 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "-o %.32s: expected token or json", output);
    if (token_file && access(token_file, F_OK) == 0)
        return status_set(st, CODE_ALREADY_EXISTS, "%.128s exists: name another file for the token",
                          token_file);
    ProtobufCMessage *msg;
    const char *text;
    TRY(client_call(client, "POST", "/api/v1/agents", &r->request.base,
                    &clm__register_agent_response__descriptor, arena, &msg, &text, st));
    const Clm__RegisterAgentResponse *answer = (const Clm__RegisterAgentResponse *)msg;
    if (!answer->token || !answer->agent)
        return status_set(st, CODE_INTERNAL, "the platform's answer has no token");
    *ret_exit = EXIT_OK;
    (void)fprintf(stderr, "agent %s registered; the token works once, until %s\n", answer->agent->id,
                  table_time(arena, answer->has_token_not_after_at_ms, answer->token_not_after_at_ms));
    const char *line = arena_printf(arena, "%s\n", answer->token);
    if (token_file)
        return file_write_atomic(token_file, line, strlen(line), 0600, st);
    if (output && strcmp(output, "token") == 0) {
        (void)fputs(line, stdout);
        return CODE_OK;
    }
    if (output) {
        (void)puts(text);
        return CODE_OK;
    }
    (void)fprintf(stderr, "on %s, in bash:\n", answer->agent->hostname);
    (void)puts(install_line(answer->token, arena));
    return CODE_OK;
}

const struct command agents_commands[] = {
    {.group = "agents",
     .name = "list",
     .summary = "List agents; search by hostname, filter, sort",
     .options = list_options,
     .listing = &listing},
    {.group = "agents",
     .name = "get",
     .positional = "ID",
     .summary = "Show one agent",
     .options = output_options,
     .run = run_get},
    {.group = "agents",
     .name = "register",
     .positional = "HOSTNAME",
     .summary = "Register an agent and print the line that installs it",
     .options = register_options,
     .run = run_register},
    {.group = "agents",
     .name = "label",
     .positional = "ID",
     .more = "NAME=VALUE|NAME-…",
     .summary = "Set labels of an agent, or take them away",
     .run = run_label},
    {.group = "agents",
     .name = "scope",
     .positional = "ID",
     .summary = "Replace what an agent may be asked; wider than before needs the role admin",
     .options = scope_options,
     .run = run_scope},
    {.group = "agents",
     .name = "disable",
     .positional = "ID",
     .summary = "Cut an agent off",
     .options = disable_options,
     .action = AGENT_ACTION("disable", clm__disable_agent_request__descriptor)},
    {.group = "agents",
     .name = "enable",
     .positional = "ID",
     .summary = "Enable a disabled agent",
     .options = output_options,
     .action = AGENT_ACTION("enable", clm__enable_agent_request__descriptor)},
    {.group = "agents",
     .name = "revoke",
     .positional = "ID",
     .summary = "Revoke an agent's identity: only a fresh token brings it back",
     .options = output_options,
     .action = AGENT_ACTION("revoke", clm__agent_request__descriptor)},
    {.group = "agents",
     .name = "unfreeze",
     .positional = "ID",
     .summary = "Let an identity work again that a second key had frozen",
     .options = output_options,
     .action = AGENT_ACTION("unfreeze", clm__agent_request__descriptor)},
    {.group = "agents",
     .name = "safe-mode",
     .positional = "ID",
     .summary = "Put an agent into safe mode: only what changes nothing is done there",
     .options = output_options,
     .action = AGENT_ACTION("enterSafeMode", clm__agent_request__descriptor)},
    {.group = "agents",
     .name = "leave-safe-mode",
     .positional = "ID",
     .summary = "End the safe mode that an operator asked for",
     .options = output_options,
     .action = AGENT_ACTION("leaveSafeMode", clm__agent_request__descriptor)},
    {.group = "agents",
     .name = "delete",
     .positional = "ID",
     .summary = "Delete an agent for ever; what happened to it stays in the audit log",
     .options = output_options,
     .action = AGENT_ACTION("delete", clm__agent_request__descriptor)},
    {.group = "agents",
     .name = "tokens",
     .positional = "ID",
     .summary = "List an agent's bootstrap tokens",
     .options = output_options,
     .listing = &(const struct listing){"/api/v1/agents/%s/tokens", &clm__list_tokens_response__descriptor,
                                        "tokens", token_columns}},
    {.group = "agents",
     .name = "token",
     .positional = "ID",
     .summary = "Make a fresh bootstrap token for an agent that is there; it is shown once",
     .options = token_options,
     .action = &(const struct action){.method = "POST",
                                      .path = "/api/v1/agents/%s/tokens",
                                      .request = &clm__create_agent_token_request__descriptor,
                                      .response = &clm__register_agent_response__descriptor,
                                      .secret = "token",
                                      .part = "agent",
                                      .needs_id = true}},
    {.name = NULL},
};
