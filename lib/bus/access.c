/* Constant data; any thread. */
#include "bus/access.h"

#include <string.h>

#include "bus/bus.h"

static const struct method_access table[] = {
    {"registry", "Authenticate", 0, SENDER_ANY},
    {"registry", "RegisterAgent", ROLES_OPERATOR, SENDER_GATEWAY},
    {"registry", "GetAgent", ROLES_VIEWER, SENDER_ANY},
    {"registry", "ListAgents", ROLES_VIEWER, SENDER_ANY},
    {"registry", "DisableAgent", ROLES_OPERATOR, SENDER_GATEWAY},
    {"registry", "EnableAgent", ROLES_OPERATOR, SENDER_GATEWAY},
    {"registry", "GetDashboard", ROLES_VIEWER, SENDER_ANY},
    {"registry", "GetAgentJobs", ROLES_VIEWER, SENDER_ANY},
    {"registry", "Login", 0, SENDER_GATEWAY},
    {"registry", "RedeemLink", 0, SENDER_GATEWAY},
    {"registry", "GetSession", ROLES_VIEWER, SENDER_ANY},
    {"registry", "ListSessions", ROLES_VIEWER, SENDER_ANY},
    {"registry", "EndSession", ROLES_VIEWER, SENDER_GATEWAY},
    {"registry", "SeeAgents", ROLES_VIEWER, SENDER_ANY},
    {"registry", "SetAgentLabels", ROLES_OPERATOR, SENDER_GATEWAY},
    {"registry", "SetAgentScope", ROLES_OPERATOR, SENDER_GATEWAY},
    {"registry", "ListOperators", ROLES_ADMIN, SENDER_ANY},
    {"registry", "GetOperator", ROLES_ADMIN, SENDER_ANY},
    {"registry", "CreateOperator", ROLES_ADMIN, SENDER_GATEWAY},
    {"registry", "InviteOperator", ROLES_ADMIN, SENDER_GATEWAY},
    {"registry", "SetOperatorGrant", ROLES_ADMIN, SENDER_GATEWAY},
    {"registry", "DisableOperator", ROLES_ADMIN, SENDER_GATEWAY},
    {"registry", "EnableOperator", ROLES_ADMIN, SENDER_GATEWAY},
    {"registry", "ListOperatorSessions", ROLES_ADMIN, SENDER_ANY},
    {"registry", "EndOperatorSessions", ROLES_ADMIN, SENDER_GATEWAY},
    {"registry", "ListApiKeys", ROLES_ADMIN, SENDER_ANY},
    {"registry", "GetApiKey", ROLES_ADMIN, SENDER_ANY},
    {"registry", "CreateApiKey", ROLES_ADMIN, SENDER_GATEWAY},
    {"registry", "RevokeApiKey", ROLES_ADMIN, SENDER_GATEWAY},
    {"registry", "ReportHeartbeats", 0, SENDER_ANY},
    {"registry", "ListAgentStates", 0, SENDER_ANY},
    {"registry", "ListAgentSnapshot", 0, SENDER_ANY},
    {"registry", "ListAudit", ROLES_AUDITOR, SENDER_ANY},
    {"registry", "GetAuditHead", ROLES_AUDITOR, SENDER_ANY},
    {"registry", "ListAuditHeads", ROLES_AUDITOR, SENDER_ANY},
    {"registry", "GetAuditProof", ROLES_AUDITOR, SENDER_ANY},
    {"registry", "GetAuditConsistency", ROLES_AUDITOR, SENDER_ANY},
    {"registry", "ListFleetHeads", 0, SENDER_ANY},
    {"registry", "GetFleetConsistency", 0, SENDER_ANY},
    {"registry", "DeclareRestored", ROLES_ADMIN, SENDER_GATEWAY},
    {"registry", "CosignHead", 0, SENDER_ANY},
    {"registry", "ListCosignatures", ROLES_AUDITOR, SENDER_ANY},
    {"registry", "ReportRefusals", 0, SENDER_GATEWAY},
    {"registry", "ListAlerts", ROLES_VIEWER, SENDER_ANY},
    {"registry", "AcknowledgeAlert", ROLES_OPERATOR, SENDER_GATEWAY},
    {"registry", "ResolveAlert", ROLES_OPERATOR, SENDER_GATEWAY},
    {"registry", "ListActivity", ROLES_VIEWER, SENDER_ANY},
    {"registry", "ListCertificates", ROLES_VIEWER, SENDER_ANY},
    {"registry", "RevokeAgent", ROLES_OPERATOR, SENDER_GATEWAY},
    {"registry", "UnfreezeAgent", ROLES_ADMIN, SENDER_GATEWAY},
    {"registry", "EnterSafeMode", ROLES_OPERATOR, SENDER_GATEWAY},
    {"registry", "LeaveSafeMode", ROLES_OPERATOR, SENDER_GATEWAY},
    {"registry", "CreateAgentToken", ROLES_ADMIN, SENDER_GATEWAY},
    {"registry", "ListAgentTokens", ROLES_VIEWER, SENDER_ANY},
    {"registry", "RevokeAgentToken", ROLES_OPERATOR, SENDER_GATEWAY},
    {"registry", "ReportSuperseded", 0, SENDER_ANY},
    {"registry", "DeleteAgent", ROLES_ADMIN, SENDER_GATEWAY},
    {"registry", "GetPlatform", ROLES_VIEWER, SENDER_ANY},
    {"registry", "EnterPlatformSafeMode", ROLES_ADMIN, SENDER_GATEWAY},
    {"registry", "LeavePlatformSafeMode", ROLES_ADMIN, SENDER_GATEWAY},
    {"registry", "GetAgentMetrics", ROLES_VIEWER, SENDER_ANY},

    {"registry", "ListAgentIdentities", ROLES_VIEWER, SENDER_ANY},
    {"bootstrap", "ListAgentIdentities", ROLES_VIEWER, SENDER_ANY},
    {"bootstrap", "GetCrl", 0, SENDER_ANY},
    {"bootstrap", "CreateToken", ROLES_OPERATOR, SENDER_REGISTRY},
    {"bootstrap", "BootstrapAgent", 0, SENDER_ANY},
    {"bootstrap", "ConfirmIdentity", 0, SENDER_ANY},
    {"bootstrap", "SignCertificate", 0, SENDER_ANY},
    {"bootstrap", "IssueServiceCertificate", 0,
     SENDER_GATEWAY | SENDER_REGISTRY | SENDER_BOOTSTRAP | SENDER_TASKS},
    {"bootstrap", "GetTrustBundle", 0, SENDER_ANY},
    {"bootstrap", "ListIdentities", 0, SENDER_ANY},
    {"bootstrap", "RenewIdentity", 0, SENDER_ANY},
    {"bootstrap", "SayFarewell", 0, SENDER_ANY},
    {"bootstrap", "ListTokens", ROLES_VIEWER, SENDER_ANY},
    {"bootstrap", "RevokeToken", ROLES_OPERATOR, SENDER_REGISTRY},
    {"bootstrap", "BeginEpoch", ROLES_ADMIN, SENDER_REGISTRY},

    {"tasks", "CreateTask", ROLES_OPERATOR, SENDER_GATEWAY},
    {"tasks", "GetTask", ROLES_VIEWER, SENDER_ANY},
    {"tasks", "ListTasks", ROLES_VIEWER, SENDER_ANY},
    {"tasks", "ListReports", ROLES_VIEWER, SENDER_ANY},
    {"tasks", "CancelTask", ROLES_OPERATOR, SENDER_GATEWAY},
    {"tasks", "RetryTask", ROLES_OPERATOR, SENDER_GATEWAY},
    {"tasks", "LeaseTasks", 0, SENDER_ANY},
    {"tasks", "SubmitResult", 0, SENDER_ANY},
    {"tasks", "AuthorizeCertificate", 0, SENDER_BOOTSTRAP},
    {"tasks", "BeginEpoch", ROLES_ADMIN, SENDER_REGISTRY},
    {"tasks", "GetTaskStatistics", ROLES_VIEWER, SENDER_ANY},
    {"tasks", "GetAgentJobs", ROLES_VIEWER, SENDER_REGISTRY},
};

const struct method_access *method_access_find(const char *service, const char *method)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (strcmp(table[i].service, service) == 0 && strcmp(table[i].method, method) == 0)
            return &table[i];
    }
    return NULL;
}

const struct method_access *method_access_at(size_t i)
{
    return i < ARRAY_LEN(table) ? &table[i] : NULL;
}

const char *roles_least_name(unsigned roles)
{
    static const struct {
        enum { VIEWER = 1, OPERATOR, ADMIN, AUDITOR } role;
        const char *name;
    } order[] = {{VIEWER, "viewer"}, {OPERATOR, "operator"}, {AUDITOR, "auditor"}, {ADMIN, "admin"}};
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        if (roles & ROLE_BIT(order[i].role))
            return order[i].name;
    }
    return "";
}
