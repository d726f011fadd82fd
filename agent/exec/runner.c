/*
 * Both halves of running a task: exec's (on its loop) and the child's (blocking). The child is forked, not
 * started anew, because it needs the policy and the order; it drops the task key before anything else, and
 * ends with _exit.
 */
#include "agent/exec/runner.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "agent/exec/order.h"
#include "agent/exec/receipt.h"
#include "agent/exec/spawn.h"
#include "agent/ipc.h"
#include "agent/ipc.pb-c.h"
#include "base/clock.h"
#include "base/log.h"
#include "sandbox/sandbox.h"

#define SIGN_TIMEOUT_MS (30 * 60 * 1000)
#define CPU_SEC         900
#define FILE_BYTES      (256ul * 1024 * 1024)
#define MEMORY_BYTES    (1024ul * 1024 * 1024)

/* ---- the child --------------------------------------------------------------------------------------------
 */

struct child {
    const struct runner_config *config;
    int fd;
    struct buf in;
    bool cancel;
    bool broken; /* exec is gone or talks nonsense */
};

static void child_send(struct child *child, const Clm__Agent__RunnerFrame *frame)
{
    struct status st;
    if (ipc_write(child->fd, &frame->base, IPC_RUNNER_FRAME_MAX, &st) != CODE_OK)
        child->broken = true;
}

/* The next frame of exec's that is not a cancellation; those are noted on the way. */
static enum code child_receive(struct child *child, int64_t timeout_ms, struct arena *arena,
                               const Clm__Agent__RunnerFrame **ret, struct status *st)
{
    ProtobufCMessage *msg;
    enum code code = ipc_read(child->fd, &child->in, &clm__agent__runner_frame__descriptor,
                              IPC_RUNNER_FRAME_MAX, timeout_ms, arena, &msg, st);
    if (code != CODE_OK && code != CODE_DEADLINE_EXCEEDED)
        child->broken = true;
    TRY(code);
    *ret = (const Clm__Agent__RunnerFrame *)msg;
    child->cancel = child->cancel || (*ret)->cancel;
    return CODE_OK;
}

static enum code take_chain(const Clm__Agent__Issued *issued, struct der_list *ret_chain,
                            struct der *ret_root, struct status *st)
{
    if (issued->code != CODE_OK)
        return status_set(st, code_info((enum code)issued->code)->code, "%s",
                          issued->message ? issued->message : "no reason given");
    for (size_t i = 0; i < issued->n_chain; i++)
        TRY(der_list_add(ret_chain, (struct bytes){issued->chain[i].data, issued->chain[i].len}, st));
    if (ret_root)
        der_replace(ret_root, (struct bytes){issued->root.data, issued->root.len});
    return CODE_OK;
}

static enum code child_sign(struct task_run *run, struct bytes csr, struct der_list *ret_chain,
                            struct der *ret_root, struct status *st)
{
    struct child *child = run->runner;
    Clm__Agent__RunnerFrame frame = CLM__AGENT__RUNNER_FRAME__INIT;
    frame.has_sign_csr = 1;
    frame.sign_csr = (ProtobufCBinaryData){csr.len, (uint8_t *)(uintptr_t)csr.data};
    child_send(child, &frame);
    for (int64_t until = clock_mono_ms() + SIGN_TIMEOUT_MS;;) {
        const Clm__Agent__RunnerFrame *answer;
        int64_t left = until - clock_mono_ms();
        TRY(child_receive(child, left > 0 ? left : 0, run->arena, &answer, st));
        if (answer->issued)
            return take_chain(answer->issued, ret_chain, ret_root, st);
        /* Nothing has been touched yet: the key and the request are in the journal or will be made again. */
        if (child->cancel)
            return status_set(st, CODE_CANCELLED, "cancelled while waiting for the certificate");
    }
}

/* What a kind writes may hold bytes of files: exec's border takes UTF-8 of a bounded length only. */
static char *clean_text(struct arena *arena, const char *text, size_t max)
{
    char *copy = arena_strndup(arena, text ? text : "", text ? strnlen(text, max) : 0);
    for (unsigned char *p = (unsigned char *)copy; *p; p++) {
        if (*p < 0x20 || *p > 0x7e)
            *p = '?';
    }
    return copy;
}

static void child_progress(struct task_run *run, const char *phase, unsigned permille, const char *message)
{
    struct child *child = run->runner;
    Clm__Agent__Progress progress = CLM__AGENT__PROGRESS__INIT;
    Clm__Agent__RunnerFrame frame = CLM__AGENT__RUNNER_FRAME__INIT;
    progress.phase = clean_text(run->arena, phase, 64);
    progress.has_permille = 1;
    progress.permille = permille;
    progress.message = clean_text(run->arena, message, 256);
    frame.progress = &progress;
    child_send(child, &frame);
}

static bool child_cancelled(struct task_run *run)
{
    struct child *child = run->runner;
    struct status st;
    const Clm__Agent__RunnerFrame *frame;
    while (!child->cancel && !child->broken && child_receive(child, 0, run->arena, &frame, &st) == CODE_OK)
        ;
    return child->cancel || child->broken;
}

static void child_done(struct child *child, struct task_run *run, enum code code,
                       Clm__Receipt__Outcome outcome, const struct status *st)
{
    Clm__Agent__Done done = CLM__AGENT__DONE__INIT;
    Clm__Agent__RunnerFrame frame = CLM__AGENT__RUNNER_FRAME__INIT;
    struct bytes result = result_pack(run->result, run->arena);
    done.has_code = done.has_outcome = done.has_result = 1;
    done.code = (uint32_t)code;
    done.outcome = (uint32_t)outcome;
    done.message = clean_text(run->arena, code != CODE_OK ? st->msg : run->message, 1000);
    done.result = (ProtobufCBinaryData){result.len, (uint8_t *)(uintptr_t)result.data};
    frame.done = &done;
    child_send(child, &frame);
}

static enum code child_run(struct child *child, struct status *st)
{
    const struct runner_config *config = child->config;
    Clm__TaskResult result = CLM__TASK_RESULT__INIT;
    struct task_run run = {.policy = config->policy,
                           .resume = config->resume,
                           .state_dir = config->state->dir,
                           .arena = arena_new(),
                           .result = &result,
                           .sign = child_sign,
                           .progress = child_progress,
                           .cancelled = child_cancelled,
                           .runner = child};
    struct order order;
    TRY(order_decode(config->order, run.arena, &order, st));
    run.order = order.order;
    run.spec = order.spec;
    TRY(journal_open(config->state->journal_dir, config->task_id, config->attempt, &run.journal, st));
    Clm__Receipt__Outcome outcome = CLM__RECEIPT__OUTCOME__FAILED;
    enum code code = order.kind->run(&run, &outcome, st);
    if (code == CODE_CANCELLED && child->cancel) {
        code = CODE_OK;
        outcome = CLM__RECEIPT__OUTCOME__CANCELLED;
        run.message = arena_strdup(run.arena, st->msg);
    }
    child_done(child, &run, code, outcome, st);
    return CODE_OK;
}

static void on_ignored(int signum)
{
    (void)signum;
}

/* Signals to the whole group are exec's to handle: a transaction is finished, not cut. Handlers and not
 * SIG_IGN, because what a reload command starts must not inherit deafness. Only soft limits, for the same
 * reason. */
static void child_settle(void)
{
    sandbox_reset_signals();
    struct sigaction ignored = {.sa_handler = on_ignored, .sa_flags = SA_RESTART};
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE};
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        (void)sigaction(signals[i], &ignored, NULL);
    static const struct {
        __rlimit_resource_t resource;
        rlim_t soft;
    } limits[] = {
        {RLIMIT_CPU, CPU_SEC},
        {RLIMIT_FSIZE, FILE_BYTES},
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        {RLIMIT_AS, MEMORY_BYTES},
#endif
    };
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct rlimit limit;
        if (getrlimit(limits[i].resource, &limit) == 0 && limits[i].soft < limit.rlim_max) {
            limit.rlim_cur = limits[i].soft;
            (void)setrlimit(limits[i].resource, &limit);
        }
    }
}

static _Noreturn void child_main(const struct runner_config *config, int fd, pid_t parent)
{
    state_forget_key(config->state);
    child_settle();
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || getppid() != parent)
        _exit(126);
    /* The lock stays: no second agent may begin while this task is at work. */
    sandbox_close_fds((const int[]){fd, config->state->lock_fd}, 2);
    struct child child = {.config = config, .fd = fd};
    buf_init(&child.in, 2 * IPC_RUNNER_FRAME_MAX);
    struct status st;
    if (child_run(&child, &st) != CODE_OK) {
        log_error("a task could not be run", "task", config->task_id, "reason", st.msg, NULL);
        _exit(1);
    }
    _exit(0);
}

/* ---- exec's half ------------------------------------------------------------------------------------------
 */

struct runner {
    struct runner_config config;
    struct spawned child;
    struct ipc *ipc;
    struct loop_timer *timeout;
    bool finished;
    uint8_t *result_data; /* of Done */
    char *message;
    struct runner_result result;
};

static void take_done(struct runner *runner, const Clm__Agent__Done *done)
{
    if (runner->finished)
        return;
    runner->finished = true;
    runner->message = strdup(done->message ? done->message : "");
    runner->result_data = malloc(done->result.len + 1);
    if (!runner->message || !runner->result_data)
        abort();
    if (done->result.len)
        memcpy(runner->result_data, done->result.data, done->result.len);
    const struct code_info *info = code_info((enum code)done->code);
    bool failed = done->code != CODE_OK || done->outcome < CLM__RECEIPT__OUTCOME__SUCCEEDED ||
                  done->outcome > CLM__RECEIPT__OUTCOME__REFUSED;
    runner->result = (struct runner_result){
        .outcome = failed ? CLM__RECEIPT__OUTCOME__FAILED : (Clm__Receipt__Outcome)done->outcome,
        .retryable = done->code != CODE_OK && info->retryable,
        .data_loss = done->code == CODE_DATA_LOSS,
        .message = runner->message,
        .result = {runner->result_data, done->result.len},
    };
}

static void on_frame(const ProtobufCMessage *msg, void *arg)
{
    struct runner *runner = arg;
    const Clm__Agent__RunnerFrame *frame = (const Clm__Agent__RunnerFrame *)msg;
    if (frame->progress)
        runner->config.on_progress(frame->progress->phase, frame->progress->permille,
                                   frame->progress->message, runner->config.arg);
    if (frame->has_sign_csr)
        runner->config.on_sign((struct bytes){frame->sign_csr.data, frame->sign_csr.len}, runner->config.arg);
    if (frame->done)
        take_done(runner, frame->done);
}

static void on_closed(const struct status *why, void *arg)
{
    struct runner *runner = arg;
    /* A child that is done leaves by itself; any other is of no use any more. */
    spawn_reap(&runner->child, !runner->finished);
    if (!runner->finished) {
        log_warn("a task process died without a result", "task", runner->config.task_id, "reason", why->msg,
                 NULL);
        runner->result = (struct runner_result){.died = true};
    }
    runner->config.on_done(&runner->result, runner->config.arg);
}

static void on_timeout(void *arg)
{
    struct runner *runner = arg;
    log_warn("a task takes too long and is killed", "task", runner->config.task_id, NULL);
    runner_kill(runner);
}

enum code runner_start(const struct runner_config *config, struct runner **ret, struct status *st)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return status_errno(st, CODE_UNAVAILABLE, errno, "cannot make a socket pair");
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        child_main(config, pair[1], parent);
    (void)close(pair[1]);
    if (pid < 0) {
        (void)close(pair[0]);
        return status_errno(st, CODE_UNAVAILABLE, errno, "cannot start a task process");
    }
    struct runner *runner = calloc(1, sizeof(*runner));
    if (!runner)
        abort();
    runner->config = *config;
    runner->child = (struct spawned){.pid = pid, .fd = pair[0]};
    struct ipc_config ipc = {.fd = pair[0],
                             .desc = &clm__agent__runner_frame__descriptor,
                             .max_frame = IPC_RUNNER_FRAME_MAX,
                             .on_frame = on_frame,
                             .on_closed = on_closed,
                             .arg = runner};
    runner->ipc = ipc_new(config->loop, &ipc);
    runner->timeout = loop_timer_new(config->loop, on_timeout, runner);
    loop_timer_set(runner->timeout, config->timeout_ms);
    *ret = runner;
    return CODE_OK;
}

void runner_issued(struct runner *runner, const Clm__SignResponse *response, struct bytes root,
                   const struct status *st)
{
    Clm__Agent__Issued issued = CLM__AGENT__ISSUED__INIT;
    Clm__Agent__RunnerFrame frame = CLM__AGENT__RUNNER_FRAME__INIT;
    issued.has_code = 1;
    issued.code = response ? CODE_OK : (uint32_t)st->code;
    if (response) {
        issued.n_chain = response->n_chain;
        issued.chain = response->chain;
        issued.has_root = 1;
        issued.root = (ProtobufCBinaryData){root.len, (uint8_t *)(uintptr_t)root.data};
    } else {
        issued.message = (char *)(uintptr_t)st->msg;
    }
    frame.issued = &issued;
    ipc_send(runner->ipc, &frame.base);
}

void runner_cancel(struct runner *runner)
{
    Clm__Agent__RunnerFrame frame = CLM__AGENT__RUNNER_FRAME__INIT;
    frame.has_cancel = frame.cancel = 1;
    ipc_send(runner->ipc, &frame.base);
}

void runner_kill(struct runner *runner)
{
    if (runner->child.pid > 0)
        (void)kill(runner->child.pid, SIGKILL);
}

void runner_free(struct runner *runner)
{
    if (!runner)
        return;
    spawn_reap(&runner->child, true);
    ipc_free(runner->ipc);
    loop_timer_free(runner->timeout);
    free(runner->result_data);
    free(runner->message);
    free(runner);
}
