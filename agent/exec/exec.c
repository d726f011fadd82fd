/* The life of the process: policy, state, enrolment and recovery; the loop; the end. See exec.h. */
#include "agent/exec/exec.h"

#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/exec/enrol.h"
#include "agent/exec/introduce.h"
#include "agent/exec/job.h"
#include "agent/exec/rotation.h"
#include "agent/exec/watch.h"
#include "agent/facts.h"
#include "agent/ipc.h"
#include "agent/journal.h"
#include "base/clock.h"
#include "base/log.h"

#define DEFAULT_NET_USER "clm-agent"
#define PARSER_USER      "nobody"
#define CHECK_LATEST_MS  120000 /* while net tells nothing */
#define PRUNE_PERIOD_MS  (6 * 60 * 60 * 1000)
#define JOURNAL_KEEP_MS  (INT64_C(30) * 24 * 60 * 60 * 1000)
#define STOP_TASKS_MS    10000
#define STOP_DRAIN_MS    2000
#define ENROL_GIVE_UP_MS (10 * 60 * 1000)

/* ---- what is looked at now and then -----------------------------------------------------------------------
 */

void exec_check(struct exec *exec)
{
    struct status st;
    enum code code = state_check_writable(exec->state, &st);
    if (code != CODE_OK && !exec->safe_mode.active[SAFE_STATE_FULL])
        log_error("the state directory cannot be written", "reason", st.msg, NULL);
    exec_report(exec, SAFE_STATE_FULL, code != CODE_OK);
    exec_report(exec, SAFE_CRASH_LOOP, false); /* this long without a crash */
    if (!exec_roots_hold(exec))
        exec_report(exec, SAFE_CA_TRUST, true);
    exec_look_at_marks(exec);
    state_prune(exec->state, clock_wall_ms());
    if (heads_cosign(&exec->heads, exec->state, clock_wall_ms()))
        exec_tell(exec, false);
    if (code == CODE_OK && clock_mono_ms() - exec->last_prune_ms >= PRUNE_PERIOD_MS) {
        exec->last_prune_ms = clock_mono_ms();
        if (journal_prune(exec->state->journal_dir, JOURNAL_KEEP_MS, &st) != CODE_OK)
            log_warn("old journal files cannot be removed", "reason", st.msg, NULL);
    }
    exec->last_check_ms = clock_mono_ms();
    loop_timer_set(exec->check_timer, CHECK_LATEST_MS);
}

static void on_check_timer(void *arg)
{
    exec_check(arg);
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
        exec_introduce(exec);
    jobs_start_next(exec);
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
    return exec_make_confirmation(exec, st);
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
    exec->net_timer = loop_timer_new(loop, exec_on_net_timer, exec);
    exec->progress_timer = loop_timer_new(loop, exec_on_progress, exec);
    exec->check_timer = loop_timer_new(loop, on_check_timer, exec);
    exec->stop_timer = loop_timer_new(loop, on_stop_timer, exec);
    struct loop_signal *term = loop_signal_new(loop, SIGTERM, on_term, exec);
    struct loop_signal *intr = loop_signal_new(loop, SIGINT, on_term, exec);
    struct loop_signal *hup = loop_signal_new(loop, SIGHUP, on_hup, exec);
    enum code code = jobs_recover(exec, st);
    if (code == CODE_OK) {
        log_info("agent is running", "agent", exec->state->agent_id, "version", agent_build.version,
                 "gateway", exec->policy->gateway ? exec->policy->gateway : exec->state->gateway, NULL);
        exec_watch_marks(exec);
        if (exec->safe_mode.active[SAFE_INVALID_POLICY])
            exec_enter(exec, SAFE_INVALID_POLICY, safe_reason_info(SAFE_INVALID_POLICY)->means);
        note_start(exec);
        exec_start_net(exec);
        rotation_start(exec);
        jobs_start_next(exec);
        exec_check(exec);
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
