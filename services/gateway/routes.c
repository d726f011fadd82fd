/* The rows, and matching a path against them. Pure; any thread. */
#include "gateway/routes.h"

#include <string.h>

#include "proto/registry.pb-c.h"
#include "proto/tasks.pb-c.h"

#define REGISTRY .service = "registry", .descriptor = &clm__registry__descriptor
#define TASKS    .service = "tasks", .descriptor = &clm__tasks__descriptor

const struct route routes[] = {
    {.method = "GET",
     .path = "/api/v1/dashboard",
     REGISTRY,
     .rpc = "GetDashboard",
     .success = 200,
     .tag = "Dashboard",
     .summary = "Counts by status and the latest activity"},

    {.method = "POST",
     .path = "/api/v1/sessions",
     REGISTRY,
     .rpc = "Login",
     .success = 201,
     .session = ROUTE_SESSION_BEGIN,
     .tag = "Sessions",
     .summary = "Sign in to the console with name and password; the session is a cookie"},
    {.method = "POST",
     .path = "/api/v1/links:redeem",
     REGISTRY,
     .rpc = "RedeemLink",
     .success = 201,
     .session = ROUTE_SESSION_BEGIN,
     .tag = "Sessions",
     .summary = "Become an operator by a one-time link, and sign in"},
    {.method = "GET",
     .path = "/api/v1/sessions",
     REGISTRY,
     .rpc = "ListSessions",
     .success = 200,
     .tag = "Sessions",
     .summary = "List the caller's own sessions"},
    {.method = "GET",
     .path = "/api/v1/sessions/{sessionId}",
     REGISTRY,
     .rpc = "GetSession",
     .success = 200,
     .tag = "Sessions",
     .summary = "Get one of the caller's own sessions; \"current\" is the one of the request"},
    {.method = "POST",
     .path = "/api/v1/sessions/{sessionId}:end",
     REGISTRY,
     .rpc = "EndSession",
     .success = 200,
     .session = ROUTE_SESSION_END,
     .tag = "Sessions",
     .summary = "End one of the caller's own sessions; \"current\" signs out"},

    {.method = "GET",
     .path = "/api/v1/agents",
     REGISTRY,
     .rpc = "ListAgents",
     .success = 200,
     .tag = "Agents",
     .summary = "List agents; search by hostname or id, filter by status and label"},
    {.method = "POST",
     .path = "/api/v1/agents",
     REGISTRY,
     .rpc = "RegisterAgent",
     .success = 201,
     .tag = "Agents",
     .summary = "Register an agent and get its one-time bootstrap token"},
    {.method = "GET",
     .path = "/api/v1/agents/{agentId}",
     REGISTRY,
     .rpc = "GetAgent",
     .success = 200,
     .tag = "Agents",
     .summary = "Get one agent"},
    {.method = "POST",
     .path = "/api/v1/agents/{agentId}:delete",
     REGISTRY,
     .rpc = "DeleteAgent",
     .success = 200,
     .tag = "Agents",
     .summary = "Delete an agent for ever; what happened to it stays in the audit log"},
    {.method = "GET",
     .path = "/api/v1/platform",
     REGISTRY,
     .rpc = "GetPlatform",
     .success = 200,
     .tag = "Platform",
     .summary = "Whether the whole platform is in safe mode"},
    {.method = "POST",
     .path = "/api/v1/platform:enterSafeMode",
     REGISTRY,
     .rpc = "EnterPlatformSafeMode",
     .success = 200,
     .tag = "Platform",
     .summary = "Only what changes nothing is done on any agent"},
    {.method = "POST",
     .path = "/api/v1/platform:leaveSafeMode",
     REGISTRY,
     .rpc = "LeavePlatformSafeMode",
     .success = 200,
     .tag = "Platform",
     .summary = "End the whole platform's safe mode"},
    {.method = "GET",
     .path = "/api/v1/agents/{agentId}/metrics",
     REGISTRY,
     .rpc = "GetAgentMetrics",
     .success = 200,
     .tag = "Agents",
     .summary =
         "How an agent's host is doing, and its history for plotting; if its local policy allows metrics"},
    {.method = "POST",
     .path = "/api/v1/agents/{agentId}:disable",
     REGISTRY,
     .rpc = "DisableAgent",
     .success = 200,
     .tag = "Agents",
     .summary = "Disable an agent: its connections are cut, it gets no further work"},
    {.method = "POST",
     .path = "/api/v1/agents/{agentId}:enable",
     REGISTRY,
     .rpc = "EnableAgent",
     .success = 200,
     .tag = "Agents",
     .summary = "Enable a disabled agent"},
    {.method = "POST",
     .path = "/api/v1/agents/{agentId}:revoke",
     REGISTRY,
     .rpc = "RevokeAgent",
     .success = 200,
     .tag = "Agents",
     .summary = "Revoke an agent's identity: only a fresh token brings it back"},
    {.method = "POST",
     .path = "/api/v1/agents/{agentId}:unfreeze",
     REGISTRY,
     .rpc = "UnfreezeAgent",
     .success = 200,
     .tag = "Agents",
     .summary = "Let an identity work again that a second key had frozen"},
    {.method = "POST",
     .path = "/api/v1/agents/{agentId}:enterSafeMode",
     REGISTRY,
     .rpc = "EnterSafeMode",
     .success = 200,
     .tag = "Agents",
     .summary = "Only what changes nothing is done on this agent"},
    {.method = "POST",
     .path = "/api/v1/agents/{agentId}:leaveSafeMode",
     REGISTRY,
     .rpc = "LeaveSafeMode",
     .success = 200,
     .tag = "Agents",
     .summary = "End the safe mode that an operator asked for"},
    {.method = "GET",
     .path = "/api/v1/agents/{agentId}/tokens",
     REGISTRY,
     .rpc = "ListAgentTokens",
     .success = 200,
     .tag = "Agents",
     .summary = "List an agent's bootstrap tokens, without their secrets"},
    {.method = "POST",
     .path = "/api/v1/agents/{agentId}/tokens",
     REGISTRY,
     .rpc = "CreateAgentToken",
     .success = 201,
     .tag = "Agents",
     .summary = "Make a fresh bootstrap token for an agent that is there"},
    {.method = "POST",
     .path = "/api/v1/agents/{agentId}/tokens/{tokenId}:revoke",
     REGISTRY,
     .rpc = "RevokeAgentToken",
     .success = 200,
     .tag = "Agents",
     .summary = "Revoke a bootstrap token"},

    {.method = "GET",
     .path = "/api/v1/tasks",
     TASKS,
     .rpc = "ListTasks",
     .success = 200,
     .tag = "Tasks",
     .summary = "List tasks, newest first; filter by agent, state and kind"},
    {.method = "POST",
     .path = "/api/v1/tasks",
     TASKS,
     .rpc = "CreateTask",
     .success = 201,
     .tag = "Tasks",
     .summary = "Give an agent a task"},
    {.method = "GET",
     .path = "/api/v1/tasks/{taskId}",
     TASKS,
     .rpc = "GetTask",
     .success = 200,
     .tag = "Tasks",
     .summary = "Get one task with its progress and result"},
    {.method = "POST",
     .path = "/api/v1/tasks/{taskId}:cancel",
     TASKS,
     .rpc = "CancelTask",
     .success = 200,
     .tag = "Tasks",
     .summary = "Cancel a task; of one that has begun, the host's receipt decides"},

    {.method = "GET",
     .path = "/api/v1/alerts",
     REGISTRY,
     .rpc = "ListAlerts",
     .success = 200,
     .tag = "Alerts",
     .summary = "List alerts, newest first; by default those not resolved"},
    {.method = "POST",
     .path = "/api/v1/alerts/{alertId}:acknowledge",
     REGISTRY,
     .rpc = "AcknowledgeAlert",
     .success = 200,
     .tag = "Alerts",
     .summary = "Say that somebody looks after an alert"},
    {.method = "POST",
     .path = "/api/v1/alerts/{alertId}:resolve",
     REGISTRY,
     .rpc = "ResolveAlert",
     .success = 200,
     .tag = "Alerts",
     .summary = "Close an alert; what happens again afterwards is a new one"},
    {.method = "GET",
     .path = "/api/v1/activity",
     REGISTRY,
     .rpc = "ListActivity",
     .success = 200,
     .tag = "Activity",
     .summary = "What happened lately, newest first; filter by agent, actor and event"},

    {.method = "GET",
     .path = "/api/v1/audit/records",
     REGISTRY,
     .rpc = "ListAudit",
     .success = 200,
     .tag = "Audit",
     .summary = "List audit records; filter by actor, agent, action and time"},
    {.method = "GET",
     .path = "/api/v1/audit/records/{index}:proof",
     REGISTRY,
     .rpc = "GetAuditProof",
     .success = 200,
     .tag = "Audit",
     .summary = "Proof that a record is in the audit log (RFC 9162 section 2.1.3)"},
    {.method = "GET",
     .path = "/api/v1/audit/head",
     REGISTRY,
     .rpc = "GetAuditHead",
     .success = 200,
     .tag = "Audit",
     .summary = "The newest signed head of the audit log"},
    {.method = "GET",
     .path = "/api/v1/audit/heads",
     REGISTRY,
     .rpc = "ListAuditHeads",
     .success = 200,
     .tag = "Audit",
     .summary = "Signed heads in order, each with its proof from the one before"},
    {.method = "GET",
     .path = "/api/v1/audit/cosignatures",
     REGISTRY,
     .rpc = "ListCosignatures",
     .success = 200,
     .tag = "Audit",
     .summary = "Agents' signatures under heads of the audit log; filter by head and agent"},
    {.method = "GET",
     .path = "/api/v1/audit/consistency",
     REGISTRY,
     .rpc = "GetAuditConsistency",
     .success = 200,
     .tag = "Audit",
     .summary = "Proof that one state of the audit log is a part of a later one (RFC 9162 section 2.1.4)"},
    {.method = NULL},
};

/* Matches a template against a path; {name} takes one or more characters other than '/', up to what follows
 * it in the template (a verb such as ":disable") or the end. */
static bool path_fits(const char *template, const char *path, struct route_match *match)
{
    match->n_params = 0;
    while (*template) {
        if (*template != '{') {
            if (*template ++ != *path++)
                return false;
            continue;
        }
        const char *name = template + 1;
        const char *end = strchr(name, '}');
        size_t name_len = (size_t)(end - name);
        template = end + 1;

        size_t value_len = strcspn(path, *template ? (char[]){'/', *template, '\0'} : "/:");
        if (value_len == 0 || match->n_params == ROUTE_PARAMS_MAX ||
            name_len >= sizeof match->params[0].name || value_len >= sizeof match->params[0].value)
            return false;
        memcpy(match->params[match->n_params].name, name, name_len);
        match->params[match->n_params].name[name_len] = '\0';
        memcpy(match->params[match->n_params].value, path, value_len);
        match->params[match->n_params].value[value_len] = '\0';
        match->n_params++;
        path += value_len;
    }
    return *path == '\0';
}

void route_find(const char *method, const char *path, struct route_match *ret)
{
    *ret = (struct route_match){0};
    for (const struct route *route = routes; route->method; route++) {
        struct route_match match = {0};
        if (!path_fits(route->path, path, &match))
            continue;
        ret->path_known = true;
        if (strcmp(route->method, method) == 0) {
            *ret = match;
            ret->route = route;
            ret->path_known = true;
            return;
        }
    }
}

static const ProtobufCMethodDescriptor *route_method(const struct route *route)
{
    return protobuf_c_service_descriptor_get_method_by_name(route->descriptor, route->rpc);
}

const ProtobufCMessageDescriptor *route_request(const struct route *route)
{
    return route_method(route)->input;
}

const ProtobufCMessageDescriptor *route_response(const struct route *route)
{
    const ProtobufCMessageDescriptor *output = route_method(route)->output;
    return route->session == ROUTE_SESSION_BEGIN ? &clm__session_view__descriptor : output;
}
