/* What the border files of clm-registry share. */
#ifndef CLM_REGISTRY_BORDER_H
#define CLM_REGISTRY_BORDER_H

#include "proto/common.pb-c.h"
#include "registry.h"
#include "service/service.h"

struct registry_config {
    struct service_config base;
    int64_t reattach_window_ms, assertion_life_ms;
    int64_t head_interval_ms, cosignatures_keep_ms;
    char *witness_file, *witness_webhook;
    char *copy_file;
};

typedef enum code rpc_handler(struct rpc_ctx *ctx, const void *request, void *response, struct status *st);

/* --- what every handler needs */

#define PAGE_BYTES_MAX (400 * 1024) /* a page may be shorter than asked for: bodies have a limit */

/* protobuf-c's strings are not const. */
static inline char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

static inline struct worker *worker_of(const struct rpc_ctx *ctx)
{
    return ctx->worker;
}

static inline void set_time(protobuf_c_boolean *has, int64_t *field, int64_t ms)
{
    *has = ms >= 0;
    *field = ms >= 0 ? ms : 0;
}

/* Who asks, and when. */
struct cause cause_of(const struct rpc_ctx *ctx);
/* Of a request with a field idempotency_key: the key, and what it is for, the request without it. NULL: there
 * is no key. */
const struct once *once_of(const ProtobufCMessage *request, struct arena *arena);

/* session_rpc.c */
rpc_handler on_authenticate, on_login, on_redeem_link, on_get_session, on_list_sessions, on_end_session;
Clm__Role *roles_of(unsigned bits, struct arena *arena, size_t *ret_n);
struct Clm__ListSessionsResponse;
void sessions_fill(struct Clm__ListSessionsResponse *res, const struct session *sessions, size_t n,
                   struct arena *arena);
/* agent_rpc.c */
rpc_handler on_register_agent, on_get_agent, on_list_agents, on_disable_agent, on_enable_agent,
    on_delete_agent, on_set_agent_labels, on_set_agent_scope, on_revoke_agent, on_unfreeze_agent,
    on_enter_safe_mode, on_leave_safe_mode, on_create_agent_token, on_list_agent_tokens,
    on_list_agent_identities, on_revoke_agent_token;
/* dashboard_rpc.c */
rpc_handler on_get_agent_jobs, on_get_dashboard;
/* fleet_rpc.c */
rpc_handler on_report_heartbeats, on_list_agent_states, on_list_agent_snapshot, on_report_superseded;
/* access_rpc.c */
rpc_handler on_see_agents, on_list_operators, on_get_operator, on_create_operator, on_invite_operator,
    on_set_operator_grant, on_disable_operator, on_enable_operator, on_list_operator_sessions,
    on_end_operator_sessions, on_list_api_keys, on_get_api_key, on_create_api_key, on_revoke_api_key;

/* Of the service's configuration; lives as long as the process. */
const struct timing *registry_timing(const struct service *service);
extern const struct rpc_method registry_methods[];
extern const size_t registry_n_methods;
extern const struct event_handler registry_events[];
int command_create_api_key(int argc, char **argv, const void *config);
int command_create_admin_link(int argc, char **argv, const void *config);

/* The audit log (audit_border.c): periodic work, events as records, messages out of structs. */
enum code audit_append_work(struct worker *worker, struct status *st);
enum code audit_head_work(struct worker *worker, struct status *st);
struct Clm__Event;
enum code audit_note_event(struct worker *worker, const struct Clm__Event *event, const char *action,
                           const char *agent_id, const char *detail, struct arena *arena,
                           struct status *st) MUST_CHECK;
struct audit_head;
struct merkle_proof;
struct Clm__SignedAuditHead;
void audit_head_fill(const struct audit_head *head, struct Clm__SignedAuditHead *ret, struct arena *arena);
struct bytes proof_bytes(const struct merkle_proof *proof);
ProtobufCBinaryData *hashes_of(struct bytes concatenated, struct arena *arena, size_t *ret_n);

/* audit_rpc.c */
rpc_handler on_list_audit, on_get_audit_head, on_list_audit_heads, on_get_audit_proof,
    on_get_audit_consistency, on_list_fleet_heads, on_get_fleet_consistency, on_report_refusals,
    on_cosign_head, on_list_cosignatures, on_list_alerts, on_acknowledge_alert, on_resolve_alert,
    on_list_activity;
/* gauges.c */
void gauges_make(void);
enum code gauges_work(struct worker *worker, struct status *st);
/* platform_rpc.c */
rpc_handler on_get_platform, on_enter_platform_safe_mode, on_leave_platform_safe_mode;
/* inventory_rpc.c */
rpc_handler on_list_certificates;
struct Clm__InventoryReported;
enum code inventory_take(struct db *tx, const struct Clm__InventoryReported *in, int64_t seen_ms,
                         struct arena *arena, struct status *st) MUST_CHECK;
/* metrics_rpc.c */
rpc_handler on_get_agent_metrics;
struct Clm__HostMetrics;
struct Clm__AgentView;
const struct metrics_sample *metrics_of(const struct Clm__HostMetrics *in,
                                        struct arena *arena); /* NULL → NULL */
enum code metrics_fill_view(struct db *db, struct Clm__AgentView *view, struct arena *arena,
                            struct status *st) MUST_CHECK;
struct Clm__Alert;
struct Clm__Activity;
void alert_fill(struct Clm__Alert *out, const struct alert *alert);
void activity_fill(struct Clm__Activity *out, const struct activity *activity);

/* What the database has forgotten and the stream says (lost_border.c): periodic work; on demand, until the
 * end of the stream or of the time. */
enum code lost_work(struct worker *worker, struct status *st);
enum code lost_look(struct worker *worker, int64_t until_mono_ms, bool *ret_ended,
                    struct status *st) MUST_CHECK;
/* Restores (restore_border.c). */
rpc_handler on_declare_restored;
enum code platform_copy_work(struct worker *worker, struct status *st);
/* False: agents or the copy outside know a longer audit log than the database has. */
enum code platform_is_whole(struct worker *worker, struct arena *arena, bool *ret,
                            struct status *st) MUST_CHECK;
struct Clm__Heartbeat;
/* Heads that agents hold and we do not. */
enum code take_reports(struct worker *worker, struct Clm__Heartbeat *const *beats, size_t n,
                       struct arena *arena, struct status *st) MUST_CHECK;

/* Parts of messages (events.c). What cannot be read as a scope allows nothing. */
struct Clm__Label;
struct Clm__Scope;
struct Clm__Label **labels_of(const struct agent *agent, struct arena *arena);
struct bytes scope_encode(const struct Clm__Scope *scope, struct arena *arena);
struct Clm__Scope *scope_decode(struct bytes scope, struct arena *arena);

#endif
