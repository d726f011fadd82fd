/*
 * The exec process: start (policy, state, enrolment, recovery), the loop, net's life, snapshots, safe mode,
 * the end. Holds the task key; has no connection. What comes over the channel from net is hostile (ipc.c
 * checked its form).
 */
#include "agent/exec/exec.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "agent/exec/enrol.h"
#include "agent/exec/heads.h"
#include "agent/exec/introduce.h"
#include "agent/exec/receipt.h"
#include "agent/exec/safemarks.h"
#include "agent/exec/watch.h"
#include "agent/facts.h"
#include "agent/ipc.h"
#include "agent/journal.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

#define DEFAULT_NET_USER   "clm-agent"
#define PARSER_USER        "nobody"
#define NET_BACKOFF_BASE   500
#define NET_BACKOFF_CAP    60000
#define NET_STEADY_MS      60000
#define PROGRESS_PERIOD_MS 1000
#define CHECK_PERIOD_MS    45000  /* with what net tells, so that nothing wakes up for it */
#define CHECK_LATEST_MS    120000 /* while net tells nothing */
#define PRUNE_PERIOD_MS    (6 * 60 * 60 * 1000)
#define JOURNAL_KEEP_MS    (INT64_C(30) * 24 * 60 * 60 * 1000)
#define STOP_TASKS_MS      10000
#define STOP_DRAIN_MS      2000
#define ENROL_GIVE_UP_MS   (10 * 60 * 1000)

static void net_start(struct exec *exec);

/* ---- to net -----------------------------------------------------------------------------------------------
 */

void exec_send(struct exec *exec, const Clm__Agent__Frame *frame)
{
    if (exec->net_ipc)
        ipc_send(exec->net_ipc, &frame->base);
}

static void snapshot_send(struct exec *exec, bool urgent)
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
    snapshot_send(exec, true);
    loop_timer_set(exec->progress_timer, PROGRESS_PERIOD_MS);
}

void exec_progressed(struct exec *exec)
{
    exec->progress_dirty = true;
    if (!loop_timer_pending(exec->progress_timer))
        loop_timer_set(exec->progress_timer, PROGRESS_PERIOD_MS);
}

static void on_progress_timer(void *arg)
{
    struct exec *exec = arg;
    if (!exec->progress_dirty)
        return;
    snapshot_send(exec, true);
    loop_timer_set(exec->progress_timer, PROGRESS_PERIOD_MS);
}

/* ---- safe mode --------------------------------------------------------------------------------------------
 */

/* The file follows the reason. Best effort: a full disk must not keep the agent from being careful. */
static void mark(struct exec *exec, enum safe_reason reason, const char *text)
{
    struct status st;
    bool on = exec->safe_mode.active[reason];
    enum code code = on ? safe_mark_put(exec->state->dir, reason, text, &st)
                        : safe_mark_remove(exec->state->dir, reason, &st);
    if (code == CODE_OK)
        exec->marked[reason] = on;
    else
        log_warn("a reason for safe mode cannot be noted down", "reason", st.msg, NULL);
}

void exec_report(struct exec *exec, enum safe_reason reason, bool bad)
{
    if (!safe_mode_report(&exec->safe_mode, reason, bad, clock_mono_ms()))
        return;
    const struct safe_reason_info *info = safe_reason_info(reason);
    if (exec->safe_mode.active[reason])
        log_error("safe mode: only what changes nothing is done", "reason", info->name, "because",
                  info->means, "it_ends", info->ends, NULL);
    else
        log_info("a reason for safe mode is over", "reason", info->name, "safe_mode",
                 safe_mode_active(&exec->safe_mode) ? "on" : "off", NULL);
    mark(exec, reason, info->means);
    exec_changed(exec);
}

void exec_enter(struct exec *exec, enum safe_reason reason, const char *text)
{
    exec_report(exec, reason, true);
    mark(exec, reason, text);
}

/* ---- what the host's administrator says about it ---------------------------------------------------------
 */

void exec_look_at_marks(struct exec *exec)
{
    for (int i = 0; i < SAFE_AGENT_REASON_COUNT; i++) {
        enum safe_reason reason = (enum safe_reason)i;
        if (safe_reason_info(reason)->exit != SAFE_EXIT_HOST)
            continue;
        bool there = safe_mark_there(exec->state->dir, reason);
        bool was = exec->marked[i];
        exec->marked[i] = there;
        if (there)
            exec_report(exec, reason, true);
        else if (was)
            exec_report(exec, reason, false);
        else if (exec->safe_mode.active[i]) /* it could not be written: nobody has ended it */
            mark(exec, reason, safe_reason_info(reason)->means);
    }
}

static void on_marks_changed(int fd, int events, void *arg)
{
    (void)events;
    char ignored[4096];
    while (read(fd, ignored, sizeof(ignored)) > 0)
        ;
    exec_look_at_marks(arg);
}

/* Without a watch the minute's check sees it, and every delivery. */
static void marks_start(struct exec *exec)
{
    AUTO_FREE char *dir = safe_marks_dir(exec->state->dir);
    struct status st;
    for (int i = 0; i < SAFE_AGENT_REASON_COUNT; i++) /* of a former run */
        if (safe_reason_info((enum safe_reason)i)->exit != SAFE_EXIT_HOST &&
            safe_mark_remove(exec->state->dir, (enum safe_reason)i, &st) != CODE_OK)
            log_warn("a former reason for safe mode stays noted down", "reason", st.msg, NULL);
    exec->marks_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (dir_make(dir, 0700, &st) != CODE_OK || exec->marks_fd < 0 ||
        inotify_add_watch(exec->marks_fd, dir, IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_ONLYDIR) < 0)
        log_warn("changes of safe mode on this host are noticed within a minute only", "directory", dir,
                 NULL);
    else
        exec->marks_watch = loop_watch_new(exec->loop, exec->marks_fd, LOOP_READ, on_marks_changed, exec);
    exec_look_at_marks(exec);
}

/* ---- what exec itself finds ------------------------------------------------------------------------------
 */

/* Whether a root that we hold is valid now: without one nobody can prove to be the platform. */
static bool roots_hold(const struct exec *exec)
{
    int64_t now_ms = clock_wall_ms();
    for (size_t i = 0; i < exec->state->roots.n; i++) {
        AUTO_CERT_INFO struct cert_info info = {0};
        struct status st;
        if (cert_read(der_bytes(&exec->state->roots.item[i]), &info, &st) == CODE_OK &&
            info.not_before_ms <= now_ms && now_ms < info.not_after_ms)
            return true;
    }
    return false;
}

static void on_check_timer(void *arg)
{
    struct exec *exec = arg;
    struct status st;
    enum code code = state_check_writable(exec->state, &st);
    if (code != CODE_OK && !exec->safe_mode.active[SAFE_STATE_FULL])
        log_error("the state directory cannot be written", "reason", st.msg, NULL);
    exec_report(exec, SAFE_STATE_FULL, code != CODE_OK);
    exec_report(exec, SAFE_CRASH_LOOP, false); /* this long without a crash */
    if (!roots_hold(exec))
        exec_report(exec, SAFE_CA_TRUST, true);
    exec_look_at_marks(exec);
    state_prune(exec->state, clock_wall_ms());
    if (heads_cosign(&exec->heads, exec->state, clock_wall_ms()))
        snapshot_send(exec, false);
    if (code == CODE_OK && clock_mono_ms() - exec->last_prune_ms >= PRUNE_PERIOD_MS) {
        exec->last_prune_ms = clock_mono_ms();
        if (journal_prune(exec->state->journal_dir, JOURNAL_KEEP_MS, &st) != CODE_OK)
            log_warn("old journal files cannot be removed", "reason", st.msg, NULL);
    }
    exec->last_check_ms = clock_mono_ms();
    loop_timer_set(exec->check_timer, CHECK_LATEST_MS);
}

static void clock_compare(struct exec *exec, int64_t platform_ms)
{
    int64_t skew = clock_wall_ms() - platform_ms;
    bool bad = skew > SAFE_CLOCK_SKEW_MS || skew < -SAFE_CLOCK_SKEW_MS;
    if (bad && !exec->safe_mode.active[SAFE_CLOCK])
        log_error("this host's clock is not the platform's", "ahead_ms", LOG_NUM(skew), NULL);
    exec_report(exec, SAFE_CLOCK, bad);
}

/* ---- from net ---------------------------------------------------------------------------------------------
 */

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
    if (link->connected && roots_hold(exec))
        exec_report(exec, SAFE_CA_TRUST, false);
    else if (link->untrusted)
        exec_report(exec, SAFE_CA_TRUST, true);
}

static enum code make_confirmation(struct exec *exec, struct status *st)
{
    if (exec->state->confirmed)
        return CODE_OK;
    return request_sign(exec->state, CLM__SIGNED_REQUEST__PURPOSE__CONFIRM, NULL, 0, (struct bytes){NULL, 0},
                        &exec->confirmation, st);
}

/* The platform may have forgotten this generation: it is told again, with its certificates. */
static void confirm_anew(struct exec *exec)
{
    struct status st;
    if (state_set_unconfirmed(exec->state, &st) != CODE_OK || make_confirmation(exec, &st) != CODE_OK)
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
        snapshot_send(exec, false);
}

static void on_net_frame(const ProtobufCMessage *msg, void *arg)
{
    struct exec *exec = arg;
    const Clm__Agent__Frame *frame = (const Clm__Agent__Frame *)msg;
    if (frame->link)
        link_changed(exec, frame->link);
    if (frame->has_platform_time_at_ms)
        clock_compare(exec, frame->platform_time_at_ms);
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
        on_check_timer(exec);
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

static void identity_send(struct exec *exec)
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

static void net_start(struct exec *exec)
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
    identity_send(exec);
    if (exec->state->confirmed)
        forget_old_keys(exec);
    snapshot_send(exec, false);
    jobs_net_is_back(exec);
}

static void on_net_timer(void *arg)
{
    struct exec *exec = arg;
    if (!exec->stopping)
        net_start(exec);
}

/* ---- policy -----------------------------------------------------------------------------------------------
 */

static void facts_renew(struct exec *exec)
{
    arena_reset(exec->facts_arena);
    facts_collect(exec->policy, exec->facts_arena, &exec->facts);
}

static bool differ(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") != 0;
}

static bool leads_elsewhere(const struct policy *a, const struct policy *b)
{
    return differ(a->gateway, b->gateway) || differ(a->proxy, b->proxy) ||
           differ(a->proxy_user, b->proxy_user) || differ(a->proxy_password_file, b->proxy_password_file);
}

static void on_hup(int signum, void *arg)
{
    (void)signum;
    struct exec *exec = arg;
    struct policy *policy;
    struct status st;
    if (policy_load(exec->config_path, &policy, &st) != CODE_OK) {
        log_error("the local policy is invalid; the former one stays, in safe mode", "reason", st.msg, NULL);
        exec_report(exec, SAFE_INVALID_POLICY, true);
        return;
    }
    bool moved = leads_elsewhere(exec->policy, policy) || (policy->proxy && !exec->link_up);
    policy_free(exec->policy); /* running tasks have their own copy */
    exec->policy = policy;
    int level = policy->log_level ? log_level_parse(policy->log_level) : -1;
    if (level >= 0)
        log_set_level((enum log_level)level);
    facts_renew(exec);
    watch_policy_changed(exec->watch);
    log_info("local policy reloaded", "file", exec->config_path, NULL);
    exec_report(exec, SAFE_INVALID_POLICY, false);
    if (moved) /* only then does the connection end */
        identity_send(exec);
    exec_changed(exec);
}

/* ---- the end ----------------------------------------------------------------------------------------------
 */

static void net_shutdown(struct exec *exec)
{
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    frame.has_shutdown = frame.shutdown = 1;
    exec_send(exec, &frame);
    loop_stop(exec->loop);
}

void exec_job_ended(struct exec *exec)
{
    if (!exec->stopping && exec->watch)
        watch_soon(exec->watch);
    if (!exec->stopping || jobs_running(exec) > 0)
        return;
    /* Receipts are on disk; giving them a moment saves the platform the wait for the next start. */
    if (jobs_unsent(exec) > 0 && exec->net_ipc && exec->link_up) {
        loop_timer_set(exec->stop_timer, STOP_DRAIN_MS);
        return;
    }
    net_shutdown(exec);
}

static void on_stop_timer(void *arg)
{
    struct exec *exec = arg;
    if (jobs_running(exec) > 0) {
        log_warn("tasks that do not end are killed; they are resumed at the next start", NULL);
        jobs_stop(exec, true);
        loop_timer_set(exec->stop_timer, STOP_DRAIN_MS);
        return;
    }
    net_shutdown(exec);
}

static void on_term(int signum, void *arg)
{
    struct exec *exec = arg;
    if (exec->stopping)
        return;
    exec->stopping = true;
    log_info("stopping", "signal", strsignal(signum), "running_tasks", LOG_NUM(jobs_running(exec)), NULL);
    jobs_stop(exec, false);
    loop_timer_set(exec->stop_timer, STOP_TASKS_MS);
    exec_job_ended(exec);
}

/* ---- start ------------------------------------------------------------------------------------------------
 */

static enum code open_state(struct exec *exec, const char *dir, struct status *st)
{
    gid_t net_gid, parser_gid;
    exec->net_user = strdup(exec->policy->net_user ? exec->policy->net_user : DEFAULT_NET_USER);
    if (!exec->net_user)
        abort();
    TRY(spawn_find_user(exec->net_user, &exec->net_uid, &net_gid, st));
    if (spawn_find_user(PARSER_USER, &exec->parser_uid, &parser_gid, st) != CODE_OK)
        exec->parser_uid = exec->net_uid;
    if (!dir)
        dir = exec->policy->state_dir ? exec->policy->state_dir : AGENT_STATE_DIR;
    return state_open(dir, exec->net_uid, net_gid, &exec->state, st);
}

static enum code run_enrolment(struct exec *exec, const struct exec_options *options, struct status *st)
{
    AUTO_SECRET struct secret *token = NULL;
    if (!options->token_path)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "this host is not enrolled: start with --token-file FILE, or `clm-agent enroll`");
    CLEANUP(proxy_message_done) struct proxy_message proxy;
    TRY(proxy_message_fill(exec->policy, &proxy, st));
    TRY(token_read(options->token_path, &token, st));
    struct enrolment enrolment = {.state = exec->state,
                                  .token = token,
                                  .gateway = exec->policy->gateway,
                                  .proxy = proxy.message.address ? &proxy.message : NULL,
                                  .facts = &exec->facts,
                                  .net_user = exec->net_user,
                                  .parser_uid = exec->parser_uid,
                                  .give_up_ms = options->enrol_only ? ENROL_GIVE_UP_MS : 0};
    TRY(token_note_use(exec->state, options->token_path, token, st));
    TRY(enrol(&enrolment, st));
    log_info("enrolled", "agent", exec->state->agent_id, "gateway", exec->state->gateway, NULL);
    (void)token_remove_used(exec->state, options->token_path);
    return state_load(exec->state, st);
}

static enum code load_identity(struct exec *exec, const struct exec_options *options, struct status *st)
{
    enum code code = state_load(exec->state, st);
    if (code == CODE_NOT_FOUND)
        return run_enrolment(exec, options, st);
    TRY(code);
    if (options->enrol_only)
        return status_set(
            st, CODE_FAILED_PRECONDITION,
            "this host is already enrolled as %s; to enrol it anew, stop the agent and move %s away",
            exec->state->agent_id, exec->state->dir);
    if (options->token_path && !token_remove_used(exec->state, options->token_path) &&
        strcmp(options->token_path, "-") != 0 && access(options->token_path, F_OK) == 0)
        log_warn("this host is already enrolled: the token file is not used", "file", options->token_path,
                 NULL);
    return CODE_OK;
}

enum code exec_identity_changed(struct exec *exec, struct status *st)
{
    der_done(&exec->confirmation);
    TRY(make_confirmation(exec, st));
    identity_send(exec);
    exec_changed(exec);
    return CODE_OK;
}

static enum code start(struct exec *exec, const struct exec_options *options, struct status *st)
{
    struct status why;
    exec->facts_arena = arena_new();
    if (policy_load_or_none(options->config_path, &exec->policy, &why) != CODE_OK) {
        log_error("the local policy is invalid: safe mode", "reason", why.msg, NULL);
        exec->safe_mode.active[SAFE_INVALID_POLICY] = true; /* its file follows in run_loop */
    }
    if (exec->policy->log_level && log_level_parse(exec->policy->log_level) >= 0)
        log_set_level((enum log_level)log_level_parse(exec->policy->log_level));
    facts_renew(exec);
    TRY(open_state(exec, options->state_dir, st));
    TRY(load_identity(exec, options, st));
    heads_load(&exec->heads, exec->state);
    scope_mark_load(&exec->scope_mark, exec->state);
    return make_confirmation(exec, st);
}

static void note_start(struct exec *exec)
{
    unsigned crashes = 0;
    struct status st;
    if (state_note_start(exec->state, clock_wall_ms(), SAFE_CRASH_MS, &crashes, &st) != CODE_OK) {
        log_error("the start cannot be noted", "reason", st.msg, NULL);
        exec_report(exec, SAFE_STATE_FULL, true);
    }
    if (crashes < SAFE_CRASHES)
        return;
    log_error("safe mode: the agent has crashed again and again", "crashes_in_10_min", LOG_NUM(crashes),
              NULL);
    exec_report(exec, SAFE_CRASH_LOOP, true);
}

static void note_stop(struct exec *exec)
{
    struct status st;
    if (state_note_stop(exec->state, &st) != CODE_OK)
        log_warn("the end cannot be noted", "reason", st.msg, NULL);
}

static enum code run_loop(struct exec *exec, struct status *st)
{
    struct loop *loop = exec->loop = loop_new();
    exec->net_timer = loop_timer_new(loop, on_net_timer, exec);
    exec->progress_timer = loop_timer_new(loop, on_progress_timer, exec);
    exec->check_timer = loop_timer_new(loop, on_check_timer, exec);
    exec->stop_timer = loop_timer_new(loop, on_stop_timer, exec);
    struct loop_signal *term = loop_signal_new(loop, SIGTERM, on_term, exec);
    struct loop_signal *intr = loop_signal_new(loop, SIGINT, on_term, exec);
    struct loop_signal *hup = loop_signal_new(loop, SIGHUP, on_hup, exec);
    enum code code = jobs_recover(exec, st);
    if (code == CODE_OK) {
        log_info("agent is running", "agent", exec->state->agent_id, "version", agent_build.version,
                 "gateway", exec->policy->gateway ? exec->policy->gateway : exec->state->gateway, NULL);
        marks_start(exec);
        if (exec->safe_mode.active[SAFE_INVALID_POLICY])
            mark(exec, SAFE_INVALID_POLICY, safe_reason_info(SAFE_INVALID_POLICY)->means);
        note_start(exec);
        net_start(exec);
        rotation_start(exec);
        jobs_start_next(exec);
        on_check_timer(exec);
        exec->watch = watch_new(exec);
        loop_run(loop);
        note_stop(exec);
    }
    loop_signal_free(hup);
    loop_signal_free(intr);
    loop_signal_free(term);
    return code;
}

static void done(struct exec *exec)
{
    watch_free(TAKE(exec->watch));
    jobs_free(exec);
    rotation_done(exec);
    ipc_free(exec->net_ipc); /* net ends with its channel */
    spawn_reap(&exec->net, false);
    loop_timer_free(exec->net_timer);
    loop_timer_free(exec->progress_timer);
    loop_timer_free(exec->check_timer);
    loop_timer_free(exec->stop_timer);
    loop_watch_free(exec->marks_watch);
    if (exec->marks_fd >= 0)
        (void)close(exec->marks_fd);
    loop_free(exec->loop);
    der_done(&exec->confirmation);
    heads_done(&exec->heads);
    state_free(exec->state);
    policy_free(exec->policy);
    free(exec->net_user);
    arena_free(exec->facts_arena);
}

int exec_main(const struct exec_options *options)
{
    struct exec exec = {.config_path = options->config_path, .marks_fd = -1};
    struct status st;
    secret_harden_process();
    key_lock_memory();
    (void)signal(SIGPIPE, SIG_IGN);
    (void)umask(077);
    enum code code = start(&exec, options, &st);
    if (code == CODE_OK && !options->enrol_only)
        code = run_loop(&exec, &st);
    if (code != CODE_OK)
        log_error("the agent cannot run", "reason", st.msg, NULL);
    done(&exec);
    return code == CODE_OK ? 0 : 1;
}
