/* The method table of clm-registry: protobuf's service, one row a method. */
#include <string.h>

#include "base/clock.h"
#include "border.h"
#include "pki/digest.h"

struct cause cause_of(const struct rpc_ctx *ctx)
{
    return (struct cause){
        .actor = ctx->actor.id,
        .traceparent = ctx->traceparent,
        .now_ms = clock_wall_ms(),
        .timing = registry_timing(worker_of(ctx)->service),
    };
}

const struct once *once_of(const ProtobufCMessage *request, struct arena *arena)
{
    const ProtobufCMessageDescriptor *desc = request->descriptor;
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(desc, "idempotency_key");
    ProtobufCMessage *without_key =
        memcpy(arena_alloc(arena, desc->sizeof_message), request, desc->sizeof_message);
    char **key = (char **)(void *)((char *)without_key + field->offset);
    if (!*key || !**key)
        return NULL;
    struct once *once = arena_alloc(arena, sizeof(*once));
    once->key = TAKE(*key);
    const char *name = desc->name;
    struct bytes body;
    wire_pack(without_key, arena, &body.data, &body.len);
    struct sha256_ctx *ctx = sha256_ctx_new();
    sha256_ctx_add(ctx, (struct bytes){(const uint8_t *)name, strlen(name) + 1});
    sha256_ctx_add(ctx, body);
    sha256_ctx_free(ctx, once->request_sha256);
    return once;
}

const struct rpc_method registry_methods[] = {
    {"Authenticate", on_authenticate},
    {"RegisterAgent", on_register_agent},
    {"GetAgent", on_get_agent},
    {"ListAgents", on_list_agents},
    {"DisableAgent", on_disable_agent},
    {"EnableAgent", on_enable_agent},
    {"GetDashboard", on_get_dashboard},
    {"GetAgentJobs", on_get_agent_jobs},
    {"Login", on_login},
    {"RedeemLink", on_redeem_link},
    {"GetSession", on_get_session},
    {"ListSessions", on_list_sessions},
    {"EndSession", on_end_session},
    {"SeeAgents", on_see_agents},
    {"SetAgentLabels", on_set_agent_labels},
    {"SetAgentScope", on_set_agent_scope},
    {"ListOperators", on_list_operators},
    {"GetOperator", on_get_operator},
    {"CreateOperator", on_create_operator},
    {"InviteOperator", on_invite_operator},
    {"SetOperatorGrant", on_set_operator_grant},
    {"DisableOperator", on_disable_operator},
    {"EnableOperator", on_enable_operator},
    {"ListOperatorSessions", on_list_operator_sessions},
    {"EndOperatorSessions", on_end_operator_sessions},
    {"ListApiKeys", on_list_api_keys},
    {"GetApiKey", on_get_api_key},
    {"CreateApiKey", on_create_api_key},
    {"RevokeApiKey", on_revoke_api_key},
    {"ReportHeartbeats", on_report_heartbeats},
    {"ListAgentStates", on_list_agent_states},
    {"ListAgentSnapshot", on_list_agent_snapshot},
    {"ListAudit", on_list_audit},
    {"GetAuditHead", on_get_audit_head},
    {"ListAuditHeads", on_list_audit_heads},
    {"GetAuditProof", on_get_audit_proof},
    {"GetAuditConsistency", on_get_audit_consistency},
    {"ListFleetHeads", on_list_fleet_heads},
    {"GetFleetConsistency", on_get_fleet_consistency},
    {"DeclareRestored", on_declare_restored},
    {"CosignHead", on_cosign_head},
    {"ListCosignatures", on_list_cosignatures},
    {"ReportRefusals", on_report_refusals},
    {"ListAlerts", on_list_alerts},
    {"AcknowledgeAlert", on_acknowledge_alert},
    {"ResolveAlert", on_resolve_alert},
    {"ListActivity", on_list_activity},
    {"RevokeAgent", on_revoke_agent},
    {"UnfreezeAgent", on_unfreeze_agent},
    {"EnterSafeMode", on_enter_safe_mode},
    {"LeaveSafeMode", on_leave_safe_mode},
    {"CreateAgentToken", on_create_agent_token},
    {"ListAgentTokens", on_list_agent_tokens},
    {"RevokeAgentToken", on_revoke_agent_token},
    {"ListAgentIdentities", on_list_agent_identities},
    {"ReportSuperseded", on_report_superseded},
    {"DeleteAgent", on_delete_agent},
    {"GetPlatform", on_get_platform},
    {"EnterPlatformSafeMode", on_enter_platform_safe_mode},
    {"LeavePlatformSafeMode", on_leave_platform_safe_mode},
    {"GetAgentMetrics", on_get_agent_metrics},
    {"ListCertificates", on_list_certificates},
};
const size_t registry_n_methods = ARRAY_LEN(registry_methods);
