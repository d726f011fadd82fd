/*
 * The one table of limits: what each field of proto/ may hold and which ones a message cannot do without. A
 * field without a row has the defaults of wire.h. Grouped as the .proto files are.
 */
#include <string.h>

#include "base/id.h"
#include "wire/check.h"
#include "wire/forms.h"

#define PAGE_TOKEN_MAX  512
#define CERT_MAX        (16 * 1024)
#define CSR_MAX         (16 * 1024)
#define CMS_SMALL_MAX   (64 * 1024)
#define ENVELOPE_MAX    (400 * 1024)
#define RESULT_PAGE_MAX (256 * 1024)
#define CHAIN_COUNT_MAX 16
#define BATCH_MAX       1000

#define OPERATOR(f)                                                                                          \
    {                                                                                                        \
        .field = f, .min_len = 1, .max_len = 64, .valid = form_operator,                                     \
        .expected = "letters, digits and . _ - @"                                                            \
    }
#define HOSTNAME_PATTERN(f)                                                                                  \
    {                                                                                                        \
        .field = f, .min_len = 1, .max_len = 253, .valid = form_hostname_pattern,                            \
        .expected = "a hostname, in which * may stand for a part of a label"                                 \
    }
#define CIDR(f)                                                                                              \
    {                                                                                                        \
        .field = f, .min_len = 1, .max_len = 49, .valid = form_cidr,                                         \
        .expected = "an address range without host bits, such as 10.1.0.0/16"                                \
    }
#define NEED_OPERATOR(f)                                                                                     \
    {                                                                                                        \
        .field = f, .required = true, .min_len = 1, .max_len = 64, .valid = form_operator,                   \
        .expected = "letters, digits and . _ - @"                                                            \
    }
#define UUID(f)                                                                                              \
    {                                                                                                        \
        .field = f, .min_len = 36, .max_len = 36, .valid = uuid_valid, .expected = "a UUID"                  \
    }
#define NEED_UUID(f)                                                                                         \
    {                                                                                                        \
        .field = f, .required = true, .min_len = 36, .max_len = 36, .valid = uuid_valid,                     \
        .expected = "a UUID"                                                                                 \
    }
#define TEXT(f, max)                                                                                         \
    {                                                                                                        \
        .field = f, .max_len = max                                                                           \
    }
#define UUIDS(f, max)                                                                                        \
    {                                                                                                        \
        .field = f, .min_len = 36, .max_len = 36, .max_count = max, .valid = uuid_valid,                     \
        .expected = "a UUID"                                                                                 \
    }
#define NEED_TEXT(f, max)                                                                                    \
    {                                                                                                        \
        .field = f, .required = true, .min_len = 1, .max_len = max                                           \
    }
#define BYTES(f, max)                                                                                        \
    {                                                                                                        \
        .field = f, .min_len = 1, .max_len = max                                                             \
    }
#define NEED_BYTES(f, max)                                                                                   \
    {                                                                                                        \
        .field = f, .required = true, .min_len = 1, .max_len = max                                           \
    }
#define CHAIN(f)                                                                                             \
    {                                                                                                        \
        .field = f, .min_len = 1, .max_len = CERT_MAX, .max_count = CHAIN_COUNT_MAX                          \
    }
#define NEED_CHAIN(f)                                                                                        \
    {                                                                                                        \
        .field = f, .required = true, .min_len = 1, .max_len = CERT_MAX, .max_count = CHAIN_COUNT_MAX        \
    }
#define NEED(f)                                                                                              \
    {                                                                                                        \
        .field = f, .required = true                                                                         \
    }
#define COUNT(f, max)                                                                                        \
    {                                                                                                        \
        .field = f, .max_count = max                                                                         \
    }
#define HOSTNAME(f)                                                                                          \
    {                                                                                                        \
        .field = f, .min_len = 1, .max_len = 253, .valid = form_hostname, .expected = "a host name"          \
    }
#define NEED_HOSTNAME(f)                                                                                     \
    {                                                                                                        \
        .field = f, .required = true, .min_len = 1, .max_len = 253, .valid = form_hostname,                  \
        .expected = "a host name"                                                                            \
    }
#define DNS_NAMES(f, max)                                                                                    \
    {                                                                                                        \
        .field = f, .min_len = 1, .max_len = 253, .max_count = max, .valid = form_dns_pattern,               \
        .expected = "a DNS name"                                                                             \
    }
#define PATH(f)                                                                                              \
    {                                                                                                        \
        .field = f, .min_len = 1, .max_len = 4095, .valid = form_path,                                       \
        .expected = "an absolute path without . and .."                                                      \
    }
#define PATHS(f, max)                                                                                        \
    {                                                                                                        \
        .field = f, .min_len = 1, .max_len = 4095, .max_count = max, .valid = form_path,                     \
        .expected = "an absolute path without . and .."                                                      \
    }
#define WORD(f)                                                                                              \
    {                                                                                                        \
        .field = f, .min_len = 1, .max_len = 64, .valid = form_word,                                         \
        .expected = "letters, digits, '.', '_' and '-'"                                                      \
    }
#define NEED_WORD(f)                                                                                         \
    {                                                                                                        \
        .field = f, .required = true, .min_len = 1, .max_len = 64, .valid = form_word,                       \
        .expected = "letters, digits, '.', '_' and '-'"                                                      \
    }
#define SHA256_HEX(f)                                                                                        \
    {                                                                                                        \
        .field = f, .min_len = 64, .max_len = 64, .valid = form_hex, .expected = "64 lower-case hex digits"  \
    }
#define HASH(f)                                                                                              \
    {                                                                                                        \
        .field = f, .min_len = 32, .max_len = 32                                                             \
    }
#define HASHES(f)                                                                                            \
    {                                                                                                        \
        .field = f, .min_len = 32, .max_len = 32, .max_count = 128                                           \
    }
#define ENDPOINT(f)                                                                                          \
    {                                                                                                        \
        .field = f, .min_len = 3, .max_len = 320, .valid = form_endpoint, .expected = "host:port"            \
    }
#define ASCII_KEY(f)                                                                                         \
    {                                                                                                        \
        .field = f, .min_len = 1, .max_len = 128, .valid = form_visible_ascii,                               \
        .expected = "visible ASCII characters"                                                               \
    }

const struct wire_limit wire_limits[] = {
    /* common.proto */
    NEED_WORD("Label.name"),
    TEXT("Label.value", 256),
    COUNT("Scope.operations", 16),
    PATHS("Scope.paths", 100),
    DNS_NAMES("Scope.dns_names", 200),
    TEXT("CertificateInfo.subject", 1024),
    TEXT("CertificateInfo.issuer", 1024),
    {.field = "CertificateInfo.serial",
     .max_len = 64,
     .valid = form_serial,
     .expected = "lower-case hex digits"},
    {.field = "CertificateInfo.dns_names", .max_len = 253, .max_count = 200},
    SHA256_HEX("CertificateInfo.fingerprint_sha256"),
    TEXT("CertificateInfo.key_type", 64),
    TEXT("CertificateInfo.signature_algorithm", 64),
    TEXT("HostFacts.hostname", 253),
    TEXT("HostFacts.os", 256),
    TEXT("HostFacts.kernel", 256),
    TEXT("HostFacts.arch", 64),
    TEXT("HostFacts.agent_version", 64),
    TEXT("HostFacts.build_date", 64),
    TEXT("HostFacts.git_commit", 64),
    COUNT("HostFacts.operations", 16),

    /* bus.proto */
    NEED_BYTES("SignedBytes.payload", 8192),
    NEED_BYTES("SignedBytes.signature", 1024),
    NEED_BYTES("SignedBytes.certificate", CERT_MAX),
    NEED_TEXT("Assertion.actor", 128),
    TEXT("Assertion.actor_name", 256),
    COUNT("Assertion.roles", 16),
    TEXT("Assertion.label_selector", 1024),
    NEED("Assertion.not_after_at_ms"),
    TEXT("Assertion.id", 64),
    NEED_TEXT("Authority.subject", 256),
    TEXT("Authority.message_id", 128),
    {.field = "Authority.body_sha256", .required = true, .min_len = 32, .max_len = 32},

    /* registry.proto */
    TEXT("AuthenticateRequest.api_key", 256),
    TEXT("AuthenticateRequest.source", 128),
    NEED_BYTES("AuthenticateResponse.assertion", 32 * 1024),
    NEED_TEXT("AuthenticateResponse.actor", 128),
    COUNT("AuthenticateResponse.roles", 16),
    TEXT("AuthenticateRequest.session_secret", 64),
    UUID("AuthenticateResponse.session_id"),
    NEED_OPERATOR("LoginRequest.name"),
    NEED_TEXT("LoginRequest.password", 256),
    TEXT("LoginRequest.source", 128),
    NEED_TEXT("RedeemLinkRequest.link", 64),
    OPERATOR("RedeemLinkRequest.name"),
    NEED_TEXT("RedeemLinkRequest.password", 256),
    TEXT("RedeemLinkRequest.source", 128),
    NEED_TEXT("NewSession.secret", 64),
    NEED("NewSession.session"),
    NEED_UUID("SessionView.id"),
    TEXT("SessionView.name", 64),
    COUNT("SessionView.roles", 16),
    TEXT("SessionView.source", 128),
    NEED_UUID("GetSessionRequest.session_id"),
    COUNT("ListSessionsResponse.sessions", 200),
    NEED_UUID("EndSessionRequest.session_id"),
    NEED_HOSTNAME("RegisterAgentRequest.hostname"),
    COUNT("RegisterAgentRequest.labels", 64),
    ASCII_KEY("RegisterAgentRequest.idempotency_key"),
    HOSTNAME_PATTERN("RegisterAgentRequest.token_hostname_pattern"),
    CIDR("RegisterAgentRequest.token_source_cidr"),
    NEED("RegisterAgentResponse.agent"),
    TEXT("RegisterAgentResponse.token", 512),
    UUID("RegisterAgentResponse.token_id"),
    NEED_UUID("GetAgentRequest.agent_id"),
    NEED_UUID("GetAgentMetricsRequest.agent_id"),
    COUNT("AgentMetrics.points", 200),
    NEED_UUID("DisableAgentRequest.agent_id"),
    TEXT("DisableAgentRequest.reason", 256),
    NEED_UUID("EnableAgentRequest.agent_id"),
    NEED_UUID("AgentRequest.agent_id"),
    NEED_UUID("CreateAgentTokenRequest.agent_id"),
    HOSTNAME_PATTERN("CreateAgentTokenRequest.token_hostname_pattern"),
    CIDR("CreateAgentTokenRequest.token_source_cidr"),
    ASCII_KEY("CreateAgentTokenRequest.idempotency_key"),
    NEED_UUID("RevokeAgentTokenRequest.agent_id"),
    NEED_UUID("RevokeAgentTokenRequest.token_id"),
    NEED_UUID("Superseded.agent_id"),
    NEED("Superseded.generation"),
    COUNT("ReportSupersededRequest.seen", 100),
    NEED_UUID("OperatorRequest.operator_id"),
    UUID("OperatorView.id"),
    TEXT("OperatorView.name", 64),
    COUNT("OperatorView.roles", 16),
    COUNT("ListOperatorsResponse.operators", 500),
    TEXT("ListOperatorsRequest.page_token", PAGE_TOKEN_MAX),
    NEED_OPERATOR("CreateOperatorRequest.name"),
    ASCII_KEY("CreateOperatorRequest.idempotency_key"),
    COUNT("CreateOperatorRequest.roles", 16),
    NEED_UUID("InviteOperatorRequest.operator_id"),
    ASCII_KEY("InviteOperatorRequest.idempotency_key"),
    NEED_UUID("SetOperatorGrantRequest.operator_id"),
    COUNT("SetOperatorGrantRequest.roles", 16),
    TEXT("Invitation.link", 64),
    {.field = "ApiKeyRequest.api_key_id",
     .required = true,
     .min_len = 16,
     .max_len = 16,
     .valid = form_hex,
     .expected = "16 hexadecimal digits"},
    TEXT("ApiKeyView.id", 16),
    TEXT("ApiKeyView.name", 64),
    COUNT("ApiKeyView.roles", 16),
    TEXT("ApiKeyView.created_by", 128),
    COUNT("ListApiKeysResponse.api_keys", 500),
    TEXT("ListApiKeysRequest.page_token", PAGE_TOKEN_MAX),
    NEED_OPERATOR("CreateApiKeyRequest.name"),
    ASCII_KEY("CreateApiKeyRequest.idempotency_key"),
    COUNT("CreateApiKeyRequest.roles", 16),
    TEXT("NewApiKey.key", 128),
    TEXT("AuthenticateResponse.label_selector", 1024),
    COUNT("AgentSnapshot.labels", 64),
    NEED_UUID("SetAgentLabelsRequest.agent_id"),
    COUNT("SetAgentLabelsRequest.labels", 64),
    NEED_UUID("SetAgentScopeRequest.agent_id"),
    NEED("SetAgentScopeRequest.scope"),
    TEXT("ListAgentsRequest.version", 64),
    UUIDS("SeeAgentsRequest.agent_id", 500),
    UUIDS("SeeAgentsResponse.agent_id", 500),
    TEXT("ListAgentsRequest.page_token", PAGE_TOKEN_MAX),
    TEXT("ListAgentsRequest.search", 253),
    COUNT("ListAgentsRequest.status", 16),
    {.field = "ListAgentsRequest.label", .min_len = 1, .max_len = 321, .max_count = 16},
    COUNT("ListAgentsResponse.agents", BATCH_MAX),
    TEXT("ListAgentsResponse.next_page_token", PAGE_TOKEN_MAX),
    NEED_UUID("AgentView.id"),
    TEXT("AgentView.hostname", 253),
    TEXT("AgentView.reason", 256),
    COUNT("AgentView.labels", 64),
    SHA256_HEX("AgentView.identity_fingerprint_sha256"),
    COUNT("Dashboard.recent_activity", 200),
    TEXT("Activity.event", 128),
    COUNT("Dashboard.identities_by_end", 16),
    COUNT("Dashboard.versions", 20),
    COUNT("Dashboard.open_alerts_by_kind", 64),
    TEXT("VersionCount.version", 64),
    COUNT("TaskStatistics.hours", 48),
    COUNT("TaskStatistics.days", 62),
    COUNT("AgentJobs.jobs", 32),
    UUID("JobStatistics.last_task_id"),
    TEXT("JobStatistics.last_message", 1024),
    NEED_UUID("GetAgentJobsRequest.agent_id"),
    UUID("Activity.agent_id"),
    TEXT("Activity.actor", 128),
    TEXT("Activity.message", 1024),
    NEED_UUID("Heartbeat.agent_id"),
    TEXT("Heartbeat.instance_id", 64),
    TEXT("Heartbeat.boot_id", 64),
    TEXT("Heartbeat.safe_mode_reason", 256),
    NEED_TEXT("ReportHeartbeatsRequest.gateway_id", 64),
    TEXT("ReportHeartbeatsRequest.epoch", 64),
    COUNT("ReportHeartbeatsRequest.heartbeats", BATCH_MAX),
    NEED_UUID("AgentState.agent_id"),
    TEXT("AgentState.reason", 256),
    UUID("ListAgentStatesRequest.after_agent_id"),
    COUNT("ListAgentStatesResponse.states", 5000),
    NEED_UUID("AgentSnapshot.agent_id"),
    NEED("AgentSnapshot.version"),
    TEXT("AgentSnapshot.hostname", 253),
    TEXT("PlatformSafeModeRequest.reason", 256),
    TEXT("AgentSnapshot.agent_version", 64),
    UUID("ListAgentSnapshotRequest.after_agent_id"),
    UUID("ListAgentSnapshotRequest.agent_id"),
    COUNT("ListAgentSnapshotResponse.agents", 5000),

    TEXT("Heartbeat.audit_problem", 256),
    TEXT("ListAuditRequest.page_token", PAGE_TOKEN_MAX),
    TEXT("ListAuditRequest.actor", 128),
    UUID("ListAuditRequest.agent_id"),
    TEXT("ListAuditRequest.action", 128),
    COUNT("ListAuditResponse.entries", 500),
    COUNT("ListAuditHeadsResponse.heads", 100),
    NEED("GetAuditProofRequest.index"),
    HASHES("AuditProof.inclusion"),
    NEED("GetAuditConsistencyRequest.first"),
    NEED("GetAuditConsistencyRequest.second"),
    HASHES("AuditConsistency.consistency"),
    HASH("AuditConsistency.first_root_sha256"),
    HASH("AuditConsistency.second_root_sha256"),
    NEED_UUID("CosignHeadRequest.agent_id"),
    NEED("CosignHeadRequest.cosignature"),
    UUID("ListCosignaturesRequest.agent_id"),
    UUID("ListCosignaturesRequest.tree_id"),
    UUID("ListAuditHeadsRequest.after_tree_id"),
    NEED("PlatformCopy.epoch"),
    NEED_UUID("PlatformCopy.tree_id"),
    NEED("PlatformCopy.tree_size"),
    {.field = "PlatformCopy.root_sha256", .required = true, .min_len = 32, .max_len = 32},
    NEED_UUID("HeldBackAgent.agent_id"),
    TEXT("HeldBackAgent.disabled_reason", 256),
    TEXT("HeldBackAgent.frozen_reason", 64),
    NEED("HeldBackAgent.version"),
    TEXT("ListCosignaturesRequest.page_token", PAGE_TOKEN_MAX),
    COUNT("ListCosignaturesResponse.cosignatures", 101),
    NEED_UUID("Refusal.id"),
    NEED("Refusal.kind"),
    NEED_TEXT("Refusal.source", 128),
    NEED("Refusal.count"),
    TEXT("Refusal.claimed", 256),
    TEXT("Refusal.reason", 256),
    NEED_TEXT("ReportRefusalsRequest.gateway_id", 64),
    COUNT("ReportRefusalsRequest.refusals", BATCH_MAX),
    UUID("Alert.id"),
    TEXT("Alert.entity_id", 128),
    UUID("Alert.agent_id"),
    TEXT("Alert.hostname", 253),
    TEXT("Alert.acknowledged_by", 128),
    TEXT("Alert.resolved_by", 128),
    TEXT("ListAlertsRequest.page_token", PAGE_TOKEN_MAX),
    COUNT("ListAlertsRequest.state", 16),
    COUNT("ListAlertsRequest.kind", 32),
    UUID("ListAlertsRequest.agent_id"),
    COUNT("ListAlertsResponse.alerts", 500),
    NEED_UUID("AcknowledgeAlertRequest.alert_id"),
    TEXT("ListCertificatesRequest.page_token", PAGE_TOKEN_MAX),
    TEXT("ListCertificatesRequest.issuer", 256),
    TEXT("ListCertificatesRequest.key_type", 64),
    UUID("ListCertificatesRequest.agent_id"),
    TEXT("ListCertificatesRequest.name", 253),
    SHA256_HEX("ListCertificatesRequest.fingerprint_sha256"),
    COUNT("ListCertificatesResponse.certificates", 500),
    UUID("CertificatePlace.agent_id"),
    TEXT("CertificatePlace.place", 4095),
    TEXT("CertificatePlace.server_name", 253),
    TEXT("CertificatePlace.key_path", 4095),
    NEED_UUID("ResolveAlertRequest.alert_id"),
    TEXT("ListActivityRequest.page_token", PAGE_TOKEN_MAX),
    UUID("ListActivityRequest.agent_id"),
    TEXT("ListActivityRequest.actor", 128),
    TEXT("ListActivityRequest.event", 128),
    COUNT("ListActivityResponse.activity", 500),

    /* audit.proto */
    NEED_UUID("AuditRecord.event_id"),
    NEED_TEXT("AuditRecord.action", 128),
    TEXT("AuditRecord.origin", 64),
    TEXT("AuditRecord.entity_id", 128),
    UUID("AuditRecord.agent_id"),
    TEXT("AuditRecord.actor", 256),
    TEXT("AuditRecord.source", 128),
    TEXT("AuditRecord.outcome", 64),
    TEXT("AuditRecord.detail", 1024),
    TEXT("AuditRecord.trace_id", 64),
    HASH("AuditRecord.receipt_sha256"),
    SHA256_HEX("AuditRecord.certificate_sha256"),
    NEED_UUID("AuditHead.tree_id"),
    NEED("AuditHead.tree_size"),
    {.field = "AuditHead.root_sha256", .required = true, .min_len = 32, .max_len = 32},
    NEED("AuditHead.made_at_ms"),
    COUNT("AuditRecord.former", 64),
    NEED_UUID("FormerTree.tree_id"),
    NEED("FormerTree.tree_size"),
    {.field = "FormerTree.root_sha256", .required = true, .min_len = 32, .max_len = 32},
    UUID("SignedAuditHead.tree_id"),
    BYTES("SignedAuditHead.origin", 16 * 1024),
    HASHES("SignedAuditHead.origin_inclusion"),
    NEED_UUID("Cosignature.agent_id"),
    NEED("Cosignature.generation"),
    NEED_UUID("Cosignature.tree_id"),
    NEED("Cosignature.tree_size"),
    {.field = "Cosignature.root_sha256", .required = true, .min_len = 32, .max_len = 32},
    NEED("Cosignature.made_at_ms"),
    NEED_BYTES("SignedCosignature.cosignature", 16 * 1024),
    NEED_UUID("SignedCosignature.agent_id"),
    NEED_UUID("SignedCosignature.tree_id"),
    NEED("SignedCosignature.tree_size"),
    NEED("SignedCosignature.made_at_ms"),
    NEED_BYTES("SignedAuditHead.head", CMS_SMALL_MAX),
    NEED("SignedAuditHead.tree_size"),
    NEED("SignedAuditHead.made_at_ms"),
    HASHES("SignedAuditHead.consistency"),
    NEED("AuditEntry.index"),
    NEED_BYTES("AuditEntry.leaf", 8192),

    /* bootstrap.proto */
    NEED_UUID("CreateTokenRequest.agent_id"),
    TEXT("CreateTokenRequest.hostname", 253),
    HOSTNAME_PATTERN("CreateTokenRequest.hostname_pattern"),
    CIDR("CreateTokenRequest.source_cidr"),
    UUID("CreateTokenRequest.token_id"),
    TEXT("CreateTokenResponse.token", 512),
    NEED_UUID("CreateTokenResponse.token_id"),
    NEED("BootstrapAgentRequest.request"),
    TEXT("BootstrapAgentRequest.source", 128),
    NEED_UUID("ConfirmIdentityRequest.agent_id"),
    NEED_BYTES("ConfirmIdentityRequest.confirmation", CMS_SMALL_MAX),
    NEED_UUID("SignCertificateRequest.agent_id"),
    NEED_BYTES("SignCertificateRequest.request", CMS_SMALL_MAX),
    NEED("SignCertificateResponse.state"),
    CHAIN("SignCertificateResponse.chain"),
    TEXT("SignCertificateResponse.order_id", 128),
    BYTES("SignCertificateResponse.root", CERT_MAX),
    NEED("IssueServiceCertificateRequest.profile"),
    NEED_BYTES("IssueServiceCertificateRequest.csr", CSR_MAX),
    NEED_CHAIN("IssueServiceCertificateResponse.chain"),
    NEED_CHAIN("GetTrustBundleResponse.roots"),
    CHAIN("GetTrustBundleResponse.intermediates"),
    NEED_UUID("Identity.agent_id"),
    BYTES("Identity.task_certificate", CERT_MAX),
    NEED_UUID("ListTokensRequest.agent_id"),
    NEED_UUID("RevokeTokenRequest.agent_id"),
    NEED_UUID("RevokeTokenRequest.token_id"),
    COUNT("ListTokensResponse.tokens", 100),
    NEED_UUID("ListAgentIdentitiesRequest.agent_id"),
    COUNT("ListAgentIdentitiesResponse.identities", 100),
    TEXT("IdentityView.serial", 64),
    TEXT("IdentityView.fingerprint_sha256", 64),
    UUID("IdentityView.token_id"),
    NEED_WORD("GetCrlRequest.issuer"),
    BYTES("GetCrlResponse.crl", 500 * 1024),
    NEED_UUID("TokenView.id"),
    UUID("TokenView.agent_id"),
    TEXT("TokenView.hostname", 253),
    TEXT("TokenView.created_by", 256),
    NEED_UUID("SayFarewellRequest.agent_id"),
    NEED_BYTES("SayFarewellRequest.request", CMS_SMALL_MAX),
    TEXT("TokenView.hostname_pattern", 253),
    TEXT("TokenView.source_cidr", 49),
    NEED_UUID("RenewIdentityRequest.agent_id"),
    NEED_BYTES("RenewIdentityRequest.request", CMS_SMALL_MAX),
    UUID("ListIdentitiesRequest.after_agent_id"),
    COUNT("ListIdentitiesResponse.identities", 5000),

    /* tasks.proto */
    NEED("TaskSpec.kind"),
    NEED_WORD("DeploySpec.target"),
    NEED_TEXT("DeploySpec.chain_pem", 64 * 1024),
    PATH("DeploySpec.key_path"),
    NEED_WORD("RenewSpec.target"),
    DNS_NAMES("RenewSpec.dns_names", 100),
    WORD("ValidateSpec.target"),
    PATH("ValidateSpec.certificate_path"),
    ENDPOINT("ValidateSpec.endpoint"),
    HOSTNAME("ValidateSpec.server_name"),
    SHA256_HEX("ValidateSpec.expected_fingerprint_sha256"),
    PATHS("DiscoverSpec.roots", 64),
    {.field = "DiscoverSpec.ranges", .min_len = 1, .max_len = 253, .max_count = 256},
    COUNT("DiscoverSpec.ports", 64),
    DNS_NAMES("DiscoverSpec.server_names", 16),
    TEXT("Step.name", 64),
    TEXT("Step.message", 1024),
    TEXT("Check.id", 64),
    TEXT("Check.reason", 1024),
    TEXT("Check.remedy", 1024),
    TEXT("Check.subject", 600),
    TEXT("FoundCertificate.path", 4095),
    TEXT("FoundCertificate.endpoint", 320),
    TEXT("FoundCertificate.server_name", 253),
    TEXT("FoundCertificate.used_by", 64),
    TEXT("FoundCertificate.key_path", 4095),
    TEXT("FoundCertificate.process", 64),
    TEXT("FoundCertificate.alias", 128),
    COUNT("TaskResult.steps", 200),
    COUNT("TaskResult.checks", 500),
    COUNT("TaskResult.certificates", 20000),
    SHA256_HEX("TaskResult.fingerprint_before_sha256"),
    SHA256_HEX("TaskResult.fingerprint_after_sha256"),
    SHA256_HEX("TaskResult.served_fingerprint_sha256"),
    NEED_UUID("CreateTaskRequest.agent_id"),
    NEED("CreateTaskRequest.spec"),
    ASCII_KEY("CreateTaskRequest.idempotency_key"),
    {.field = "CreateTaskRequest.after",
     .min_len = 36,
     .max_len = 36,
     .max_count = 64,
     .valid = uuid_valid,
     .expected = "a UUID"},
    NEED_UUID("GetTaskRequest.task_id"),
    NEED_UUID("CancelTaskRequest.task_id"),
    NEED_UUID("RetryTaskRequest.task_id"),
    COUNT("TaskView.attempts", 20),
    COUNT("TaskAttempt.steps", 200),
    TEXT("ListTasksRequest.page_token", PAGE_TOKEN_MAX),
    UUID("ListTasksRequest.agent_id"),
    COUNT("ListTasksRequest.state", 16),
    COUNT("ListTasksRequest.kind", 16),
    COUNT("ListTasksResponse.tasks", BATCH_MAX),
    TEXT("ListTasksResponse.next_page_token", PAGE_TOKEN_MAX),
    TEXT("ListReportsRequest.page_token", PAGE_TOKEN_MAX),
    UUID("ListReportsRequest.agent_id"),
    COUNT("ListReportsRequest.verdict", 16),
    COUNT("ListReportsResponse.reports", BATCH_MAX),
    TEXT("ListReportsResponse.next_page_token", PAGE_TOKEN_MAX),
    UUID("ValidationReport.task_id"),
    UUID("ValidationReport.agent_id"),
    SHA256_HEX("ValidationReport.served_fingerprint_sha256"),
    NEED_UUID("TaskView.id"),
    UUID("TaskView.agent_id"),
    TEXT("TaskView.created_by", 128),
    TEXT("TaskView.phase", 64),
    TEXT("TaskView.message", 1024),
    NEED_UUID("HeldTask.task_id"),
    NEED("HeldTask.attempt"),
    TEXT("HeldTask.phase", 64),
    TEXT("HeldTask.message", 1024),
    NEED_UUID("LeaseRequest.agent_id"),
    NEED("LeaseRequest.generation"),
    COUNT("LeaseRequest.held", 64),
    NEED_TEXT("LeaseTasksRequest.gateway_id", 64),
    COUNT("LeaseTasksRequest.agents", BATCH_MAX),
    NEED_UUID("Delivery.task_id"),
    NEED("Delivery.attempt"),
    NEED_BYTES("Delivery.envelope", ENVELOPE_MAX),
    NEED_UUID("AgentDeliveries.agent_id"),
    COUNT("AgentDeliveries.deliveries", 64),
    {.field = "AgentDeliveries.cancel_task_ids",
     .min_len = 36,
     .max_len = 36,
     .max_count = 64,
     .valid = uuid_valid,
     .expected = "a UUID"},
    COUNT("LeaseTasksResponse.agents", BATCH_MAX),
    NEED_UUID("SubmitResultRequest.agent_id"),
    NEED_UUID("SubmitResultRequest.task_id"),
    NEED("SubmitResultRequest.attempt"),
    {.field = "SubmitResultRequest.data", .max_len = RESULT_PAGE_MAX},
    BYTES("SubmitResultRequest.receipt", CMS_SMALL_MAX),
    NEED_UUID("AuthorizeCertificateRequest.agent_id"),
    NEED_UUID("AuthorizeCertificateRequest.task_id"),
    NEED("AuthorizeCertificateRequest.attempt"),
    {.field = "AuthorizeCertificateRequest.dns_names",
     .required = true,
     .min_len = 1,
     .max_len = 253,
     .max_count = 100,
     .valid = form_dns_pattern,
     .expected = "a DNS name"},

    /* agent.proto */
    NEED_TEXT("BootstrapRequest.token_secret", 64),
    NEED_BYTES("BootstrapRequest.identity_csr", CSR_MAX),
    NEED_BYTES("BootstrapRequest.task_csr", CSR_MAX),
    NEED_UUID("BootstrapResponse.agent_id"),
    NEED_CHAIN("BootstrapResponse.identity_chain"),
    NEED_CHAIN("BootstrapResponse.task_chain"),
    NEED_CHAIN("BootstrapResponse.roots"),
    NEED_TEXT("BootstrapResponse.trust_domain", 255),
    TEXT("CheckinRequest.instance_id", 64),
    TEXT("CheckinRequest.boot_id", 64),
    COUNT("CheckinRequest.held", 64),
    TEXT("CheckinRequest.safe_mode_reason", 256),
    BYTES("CheckinRequest.confirmation", CMS_SMALL_MAX),
    TEXT("CheckinRequest.audit_problem", 256),
    UUID("CheckinRequest.audit_tree_id"),
    COUNT("CheckinResponse.audit_heads", 16),
    COUNT("CheckinResponse.deliveries", 64),
    {.field = "CheckinResponse.cancel_task_ids",
     .min_len = 36,
     .max_len = 36,
     .max_count = 64,
     .valid = uuid_valid,
     .expected = "a UUID"},
    NEED("ResultRequest.attempt"),
    {.field = "ResultRequest.data", .max_len = RESULT_PAGE_MAX},
    BYTES("ResultRequest.receipt", CMS_SMALL_MAX),
    NEED_BYTES("RenewRequest.request", CMS_SMALL_MAX),
    NEED_BYTES("FarewellRequest.request", CMS_SMALL_MAX),
    NEED_BYTES("SignRequest.request", CMS_SMALL_MAX),
    CHAIN("SignResponse.chain"),
    BYTES("SignResponse.root", CERT_MAX),
    TEXT("SignResponse.order_id", 128),
    TEXT("AgentError.message", 256),

    /* agent/ipc.proto: between the agent's own processes, hostile all the same */
    CHAIN("Identity.chain"),
    CHAIN("Identity.roots"),
    COUNT("Snapshot.held", 64),
    {.field = "EnrolAnswer.body", .max_len = 512 * 1024},
    BYTES("IdentityCsr.csr", CSR_MAX),
    TEXT("Result.traceparent", 64),
    TEXT("Sign.traceparent", 64),
    BYTES("Renew.request", CMS_SMALL_MAX),
    NEED_BYTES("Farewell.request", CMS_SMALL_MAX),
    ENDPOINT("Proxy.address"),
    TEXT("Proxy.user", 256),
    TEXT("Proxy.password", 1024),
    {.field = "RenewAnswer.body", .max_len = 512 * 1024},
    {.field = "Done.result", .max_len = 4 * 1024 * 1024},
    CHAIN("Issued.chain"),

    /* envelope.proto */
    NEED_UUID("TaskOrder.task_id"),
    NEED("TaskOrder.attempt"),
    NEED_UUID("TaskOrder.agent_id"),
    NEED("TaskOrder.generation"),
    NEED("TaskOrder.not_before_at_ms"),
    NEED("TaskOrder.not_after_at_ms"),
    NEED_BYTES("TaskOrder.spec", 128 * 1024),
    NEED("TaskOrder.scope"),
    TEXT("TaskOrder.traceparent", 64),
    NEED("SignedRequest.purpose"),
    NEED_UUID("SignedRequest.agent_id"),
    UUID("SignedRequest.task_id"),
    CHAIN("SignedRequest.identity_chain"),
    BYTES("SignedRequest.csr", CSR_MAX),
    BYTES("SignedRequest.identity_csr", CSR_MAX),
    BYTES("SignedRequest.task_csr", CSR_MAX),
    NEED_UUID("Receipt.agent_id"),
    NEED_UUID("Receipt.task_id"),
    NEED("Receipt.attempt"),
    NEED("Receipt.outcome"),
    TEXT("Receipt.message", 1024),
    {.field = "Receipt.result_sha256", .min_len = 32, .max_len = 32},

    /* event.proto */
    NEED_UUID("CertificateDrift.agent_id"),
    TEXT("CertificateDrift.reason", 1200),
    UUID("AlertChanged.agent_id"),
    TEXT("AlertChanged.about", 128),
    TEXT("AlertChanged.message", 1200),
    NEED_WORD("Drift.target"),
    TEXT("Drift.check", 64),
    TEXT("Drift.reason", 1024),
    SHA256_HEX("Drift.intended_sha256"),
    SHA256_HEX("Drift.served_sha256"),
    COUNT("DriftReport.drifts", 64),
    NEED_UUID("InventoryReported.agent_id"),
    COUNT("InventoryReported.certificates", 500),
    PATHS("InventoryReported.roots", 64),
    NEED_UUID("Event.id"),
    NEED_TEXT("Event.subject", 128),
    NEED_TEXT("Event.entity_id", 128),
    NEED("Event.entity_version"),
    TEXT("Event.actor", 128),
    TEXT("Event.traceparent", 64),
    TEXT("Event.source", 128),
    TEXT("AgentChanged.hostname", 253),
    TEXT("AgentChanged.reason", 256),
    TEXT("AgentChanged.frozen_reason", 64),
    COUNT("AgentChanged.labels", 64),
    TEXT("AgentChanged.agent_version", 64),
    {.field = "WatchEventsRequest.type", .min_len = 1, .max_len = 64, .max_count = 32},
    UUIDS("WatchEventsRequest.agent_id", 100),
    UUID("EventView.id"),
    UUID("EventView.agent_id"),
    TEXT("EventView.type", 64),
    TEXT("EventView.entity_id", 128),
    TEXT("EventView.actor", 128),
    NEED("IdentityIssued.generation"),
    BYTES("IdentityIssued.identity_certificate", CERT_MAX),
    NEED_BYTES("IdentityIssued.task_certificate", CERT_MAX),
    SHA256_HEX("IdentityIssued.fingerprint_sha256"),
    TEXT("IdentityIssued.serial", 64),
    NEED("IdentityConfirmed.generation"),
    UUID("TokenEvent.agent_id"),
    TEXT("TokenEvent.reason", 256),
    TEXT("TokenEvent.source", 128),
    UUID("CertificateIssued.agent_id"),
    UUID("CertificateIssued.task_id"),
    UUID("TaskChanged.agent_id"),
    TEXT("TaskChanged.message", 1024),
    TEXT("TaskChanged.target", 4095),
    {.field = "TaskChanged.receipt_sha256", .min_len = 32, .max_len = 32},
    SHA256_HEX("TaskChanged.signer_sha256"),
    {0},
};

/* limits_find.c */
_Static_assert(sizeof(wire_limits) / sizeof(wire_limits[0]) < WIRE_LIMIT_SLOTS / 2, "raise WIRE_LIMIT_SLOTS");
