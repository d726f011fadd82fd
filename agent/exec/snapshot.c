/* What net is told of exec: a snapshot, from which it makes its check-ins. See exec.h. */
#include "agent/exec/exec.h"
#include "agent/exec/job.h"
#include "agent/exec/watch.h"
#include "agent/ipc.h"

#define PROGRESS_PERIOD_MS 1000

void exec_send(struct exec *exec, const Clm__Agent__Frame *frame)
{
    if (exec->net_ipc)
        ipc_send(exec->net_ipc, &frame->base);
}

void exec_tell(struct exec *exec, bool urgent)
{
    if (!exec->net_ipc)
        return;
    AUTO_ARENA struct arena *arena = arena_new();
    Clm__Agent__Snapshot snapshot = CLM__AGENT__SNAPSHOT__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    jobs_snapshot(exec, arena, &snapshot);
    snapshot.has_safe_mode = 1;
    snapshot.safe_mode = safe_mode_active(&exec->safe_mode);
    snapshot.safe_mode_reason = (char *)(uintptr_t)safe_mode_reason(&exec->safe_mode);
    if (exec->confirmation.len) {
        snapshot.has_confirmation = 1;
        snapshot.confirmation = (ProtobufCBinaryData){exec->confirmation.len, exec->confirmation.data};
    }
    snapshot.facts = &exec->facts;
    snapshot.has_metrics = 1;
    snapshot.metrics = exec->policy->metrics;
    snapshot.has_audit_size = exec->heads.known.size > 0;
    snapshot.audit_size = exec->heads.known.size;
    snapshot.audit_problem = *exec->heads.problem ? exec->heads.problem : NULL;
    snapshot.audit_tree_id = exec->heads.known.size > 0 ? exec->heads.known.tree_id : NULL;
    snapshot.audit_held = heads_held(&exec->heads, exec->state, arena);
    Clm__SignedCosignature cosignature = CLM__SIGNED_COSIGNATURE__INIT;
    if (exec->heads.cosignature.len) {
        const struct agent_heads *heads = &exec->heads;
        cosignature.has_cosignature = cosignature.has_tree_size = cosignature.has_made_at_ms = 1;
        cosignature.cosignature = (ProtobufCBinaryData){heads->cosignature.len, heads->cosignature.data};
        cosignature.agent_id = exec->state->agent_id;
        cosignature.tree_id = (char *)(uintptr_t)heads->cosignature_of.tree_id;
        cosignature.tree_size = heads->cosignature_of.size;
        cosignature.made_at_ms = heads->cosignature_of.made_at_ms;
        snapshot.cosignature = &cosignature;
    }
    snapshot.drift = (Clm__DriftReport *)(uintptr_t)watch_report(exec->watch);
    snapshot.has_urgent = 1;
    snapshot.urgent = urgent;
    frame.snapshot = &snapshot;
    exec->progress_dirty = false;
    exec_send(exec, &frame);
}

void exec_changed(struct exec *exec)
{
    exec_tell(exec, true);
    loop_timer_set(exec->progress_timer, PROGRESS_PERIOD_MS);
}

void exec_progressed(struct exec *exec)
{
    exec->progress_dirty = true;
    if (!loop_timer_pending(exec->progress_timer))
        loop_timer_set(exec->progress_timer, PROGRESS_PERIOD_MS);
}

void exec_on_progress(void *arg)
{
    struct exec *exec = arg;
    if (!exec->progress_dirty)
        return;
    exec_tell(exec, true);
    loop_timer_set(exec->progress_timer, PROGRESS_PERIOD_MS);
}
