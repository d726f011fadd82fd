/*
 * The channel to net: the process at its other end, what it is told about the identity, and what it says.
 * All of that is hostile; ipc.c has checked its form. See exec.h.
 */
#include <string.h>

#include "agent/exec/exec.h"
#include "agent/exec/introduce.h"
#include "agent/exec/job.h"
#include "agent/exec/receipt.h"
#include "agent/exec/rotation.h"
#include "agent/exec/watch.h"
#include "agent/ipc.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"

#define NET_BACKOFF_BASE 500
#define NET_BACKOFF_CAP  60000
#define NET_STEADY_MS    60000
#define CHECK_PERIOD_MS  45000 /* with what net tells, so that nothing wakes up for it */

/* Once the present generation is confirmed, nothing leads back to an earlier one. */
static void forget_old_keys(struct exec *exec)
{
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    frame.has_forget_below = 1;
    frame.forget_below = exec->state->generation;
    exec_send(exec, &frame);
    state_prune(exec->state, clock_wall_ms());
}

static void confirmed(struct exec *exec, uint32_t generation)
{
    struct status st;
    if (exec->state->confirmed || generation < exec->state->generation)
        return;
    if (state_set_confirmed(exec->state, &st) != CODE_OK) {
        log_error("the confirmation cannot be stored", "reason", st.msg, NULL);
        return;
    }
    der_done(&exec->confirmation);
    log_info("the platform has confirmed this identity", "generation", LOG_NUM(exec->state->generation),
             NULL);
    forget_old_keys(exec);
    exec_changed(exec);
}

/* Once for each reason, not for each try. */
static void link_changed(struct exec *exec, const Clm__Agent__LinkState *link)
{
    char message[sizeof(exec->link_message)];
    (void)snprintf(message, sizeof(message), "%s", link->message ? link->message : "");
    if (link->connected && !exec->link_up)
        log_info("connected", "gateway", exec->state->gateway, NULL);
    else if (!link->connected && (exec->link_up || strcmp(message, exec->link_message) != 0))
        log_warn("not connected", "gateway", exec->state->gateway, "reason", message, NULL);
    bool news = link->connected != exec->link_up || strcmp(message, exec->link_message) != 0;
    memcpy(exec->link_message, message, sizeof(message));
    exec->link_up = link->connected;
    if (news)
        state_note_link(exec->state, link->connected, message);
    /* The platform has answered over a connection that led to a root of ours; it was told the reason then. */
    if (link->connected && exec_roots_hold(exec))
        exec_report(exec, SAFE_CA_TRUST, false);
    else if (link->untrusted)
        exec_report(exec, SAFE_CA_TRUST, true);
}

enum code exec_make_confirmation(struct exec *exec, struct status *st)
{
    if (exec->state->confirmed)
        return CODE_OK;
    return request_sign(exec->state, CLM__SIGNED_REQUEST__PURPOSE__CONFIRM, NULL, 0, (struct bytes){NULL, 0},
                        &exec->confirmation, st);
}

void exec_introduce(struct exec *exec)
{
    struct introduction introduction;
    struct status problem;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    introduce(exec->state, exec->policy, &introduction, &problem);
    if (problem.code != CODE_OK)
        log_error("the password of the proxy cannot be read", "reason", problem.msg, NULL);
    frame.identity = &introduction.identity;
    exec_send(exec, &frame);
    introduction_done(&introduction);
}

enum code exec_identity_changed(struct exec *exec, struct status *st)
{
    der_done(&exec->confirmation);
    TRY(exec_make_confirmation(exec, st));
    exec_introduce(exec);
    exec_changed(exec);
    return CODE_OK;
}

/* The platform may have forgotten this generation: it is told again, with its certificates. */
static void confirm_anew(struct exec *exec)
{
    struct status st;
    if (state_set_unconfirmed(exec->state, &st) != CODE_OK || exec_make_confirmation(exec, &st) != CODE_OK)
        log_error("the identity cannot be confirmed anew", "reason", st.msg, NULL);
    exec_changed(exec);
}

static void heads_changed(struct exec *exec, const Clm__Agent__Frame *frame)
{
    bool changed =
        frame->has_cosigned_at_ms && heads_cosigned(&exec->heads, exec->state, frame->cosigned_at_ms);
    changed |= frame->want_audit_held && !exec->heads.wanted;
    exec->heads.wanted |= frame->want_audit_held;
    if (frame->n_audit_heads > 0) {
        changed |=
            heads_take(&exec->heads, exec->state, frame->audit_heads, frame->n_audit_heads, exec->parser_uid);
        changed |= heads_cosign(&exec->heads, exec->state, clock_wall_ms());
    }
    if (heads_restored(&exec->heads))
        confirm_anew(exec);
    else if (changed)
        exec_tell(exec, false);
}

static void on_net_frame(const ProtobufCMessage *msg, void *arg)
{
    struct exec *exec = arg;
    const Clm__Agent__Frame *frame = (const Clm__Agent__Frame *)msg;
    if (frame->link)
        link_changed(exec, frame->link);
    if (frame->has_platform_time_at_ms)
        exec_compare_clock(exec, frame->platform_time_at_ms);
    if (frame->has_confirmed_generation)
        confirmed(exec, frame->confirmed_generation);
    heads_changed(exec, frame);
    if (frame->cancel_task_id)
        jobs_cancel(exec, frame->cancel_task_id);
    if (frame->identity_csr)
        rotation_identity_csr(exec, frame->identity_csr);
    if (frame->renew_answer)
        rotation_answer(exec, frame->renew_answer);
    if (frame->result_answer)
        jobs_result_answer(exec, frame->result_answer);
    if (frame->sign_answer)
        jobs_sign_answer(exec, frame->sign_answer);
    if (frame->delivery)
        jobs_deliver(exec, frame->delivery);
    if (clock_mono_ms() - exec->last_check_ms >= CHECK_PERIOD_MS)
        exec_check(exec);
    if (exec->watch && !exec->stopping)
        watch_awake(exec->watch);
}

static void on_net_closed(const struct status *why, void *arg)
{
    struct exec *exec = arg;
    ipc_free(TAKE(exec->net_ipc));
    spawn_reap(&exec->net, true);
    exec->link_up = false;
    rotation_net_gone(exec);
    if (exec->stopping) {
        exec_job_ended(exec);
        return;
    }
    if (clock_mono_ms() - exec->net_started_ms > NET_STEADY_MS)
        exec->net_failures = 0;
    int64_t delay = backoff_full_jitter_ms(exec->net_failures, NET_BACKOFF_BASE, NET_BACKOFF_CAP);
    if (exec->net_failures < 30)
        exec->net_failures++;
    log_error("the net process is gone and is started again", "reason", why->msg, "in_ms", LOG_NUM(delay),
              NULL);
    loop_timer_set(exec->net_timer, delay);
}

void exec_start_net(struct exec *exec)
{
    struct status st;
    const char *const argv[] = {"net", "--dir", exec->state->net_dir, "--user", exec->net_user, NULL};
    if (spawn_self(argv, &exec->net, &st) != CODE_OK) {
        log_error("the net process cannot be started", "reason", st.msg, NULL);
        loop_timer_set(exec->net_timer, NET_BACKOFF_CAP);
        return;
    }
    struct ipc_config config = {.fd = exec->net.fd,
                                .desc = &clm__agent__frame__descriptor,
                                .max_frame = IPC_NET_FRAME_MAX,
                                .on_frame = on_net_frame,
                                .on_closed = on_net_closed,
                                .arg = exec};
    exec->net_started_ms = clock_mono_ms();
    exec->net_ipc = ipc_new(exec->loop, &config);
    exec_introduce(exec);
    if (exec->state->confirmed)
        forget_old_keys(exec);
    exec_tell(exec, false);
    jobs_net_is_back(exec);
}

void exec_on_net_timer(void *arg)
{
    struct exec *exec = arg;
    if (!exec->stopping)
        exec_start_net(exec);
}
