/* See rotation.h. */
#include "agent/exec/rotation.h"

#include <string.h>

#include "agent/exec/job.h"
#include "agent/exec/receipt.h"
#include "agent/exec/trust.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "pki/csr.h"
#include "wire/wire.h"

#define LOOK_MAX_MS     (60 * 60 * 1000) /* wall clocks jump and hosts sleep: looked at again at least */
#define NOT_NOW_MS      5000
#define ANSWER_MAX_MS   (3 * 60 * 1000)
#define BACKOFF_BASE_MS 2000
#define BACKOFF_CAP_MS  (30 * 60 * 1000)

int64_t rotation_due_ms(int64_t from_ms, int64_t not_after_ms, unsigned jitter_permille)
{
    int64_t life = not_after_ms - from_ms;
    if (life <= 0)
        return from_ms;
    return from_ms + life * 45 / 100 + life / 10 * jitter_permille / 1000;
}

static int64_t due_of(const struct agent_state *state, int64_t *ret_latest_ms)
{
    AUTO_CERT_INFO struct cert_info info = {0};
    struct status st;
    if (state->identity_chain.n == 0 ||
        cert_read(der_bytes(&state->identity_chain.item[0]), &info, &st) != CODE_OK)
        return 0;
    /* Certificates are dated a little back; their life begins when they are ours. */
    int64_t from = state->adopted_at_ms > info.not_before_ms ? state->adopted_at_ms : info.not_before_ms;
    *ret_latest_ms = from + (info.not_after_ms - from) / 4 * 3;
    return rotation_due_ms(from, info.not_after_ms, random_below(1001));
}

static void reset(struct rotation *rotation)
{
    rotation->phase = ROTATION_IDLE;
    key_free(TAKE(rotation->task_key));
    der_done(&rotation->task_csr);
    der_done(&rotation->identity_csr);
}

static void look_again(struct exec *exec)
{
    struct rotation *rotation = &exec->rotation;
    int64_t in = rotation->due_ms - clock_wall_ms();
    loop_timer_set(rotation->timer, in < 0 ? 0 : in > LOOK_MAX_MS ? LOOK_MAX_MS : in);
}

static void failed(struct exec *exec, const struct status *st)
{
    struct rotation *rotation = &exec->rotation;
    int64_t pause =
        BACKOFF_BASE_MS + backoff_full_jitter_ms(rotation->failures, BACKOFF_BASE_MS, BACKOFF_CAP_MS);
    log_warn("the identity is not renewed", "reason", st->msg, "retry_in_ms", LOG_NUM(pause), NULL);
    if (rotation->failures < 30)
        rotation->failures++;
    reset(rotation);
    loop_timer_set(rotation->timer, pause);
}

static void enter(struct exec *exec, enum rotation_phase phase)
{
    exec->rotation.phase = phase;
    exec->rotation.since_ms = clock_mono_ms();
    loop_timer_set(exec->rotation.timer, ANSWER_MAX_MS);
}

static enum code begin(struct exec *exec, struct status *st)
{
    struct rotation *rotation = &exec->rotation;
    struct pki_names names = {0};
    rotation->generation = exec->state->generation + 1;
    TRY(state_next_key(exec->state, rotation->generation, &rotation->task_key, st));
    TRY(csr_make(rotation->task_key, "clm-agent task", &names, &rotation->task_csr, st));
    Clm__Agent__MakeIdentity make = CLM__AGENT__MAKE_IDENTITY__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    make.has_generation = 1;
    make.generation = rotation->generation;
    frame.make_identity = &make;
    exec_send(exec, &frame);
    enter(exec, ROTATION_KEYS);
    return CODE_OK;
}

static bool possible_now(const struct exec *exec)
{
    /* What a running task has signed with the present key is better answered first; but not for ever. */
    if (jobs_running(exec) > 0 && clock_wall_ms() < exec->rotation.latest_ms)
        return false;
    return exec->state->confirmed && exec->net_ipc && !exec->stopping &&
           safe_allows(safe_mode_column(&exec->safe_mode), SAFE_RENEW_IDENTITY, false);
}

static void on_timer(void *arg)
{
    struct exec *exec = arg;
    struct rotation *rotation = &exec->rotation;
    struct status st;
    if (rotation->phase != ROTATION_IDLE) {
        (void)status_set(&st, CODE_UNAVAILABLE, "no answer within %d s", ANSWER_MAX_MS / 1000);
        failed(exec, &st);
        return;
    }
    if (rotation->due_ms == 0)
        rotation->due_ms = due_of(exec->state, &rotation->latest_ms);
    if (clock_wall_ms() < rotation->due_ms) {
        look_again(exec);
        return;
    }
    if (!possible_now(exec)) {
        loop_timer_set(rotation->timer, NOT_NOW_MS);
        return;
    }
    if (begin(exec, &st) != CODE_OK)
        failed(exec, &st);
}

void rotation_identity_csr(struct exec *exec, const Clm__Agent__IdentityCsr *csr)
{
    struct rotation *rotation = &exec->rotation;
    struct status st;
    AUTO_DER struct der request = {0};
    if (rotation->phase != ROTATION_KEYS || csr->generation != rotation->generation || !csr->has_csr)
        return;
    der_replace(&rotation->identity_csr, (struct bytes){csr->csr.data, csr->csr.len});
    if (renewal_sign(exec->state, der_bytes(&rotation->identity_csr), der_bytes(&rotation->task_csr),
                     &request, &st) != CODE_OK) {
        failed(exec, &st);
        return;
    }
    Clm__Agent__Renew renew = CLM__AGENT__RENEW__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    renew.has_request = 1;
    renew.request = (ProtobufCBinaryData){request.len, request.data};
    frame.renew = &renew;
    exec_send(exec, &frame);
    enter(exec, ROTATION_ASKED);
}

/* The root that we hold already, as the one that the answer must chain to. */
static enum code root_pin(const struct agent_state *state, uint8_t ret[SHA256_SIZE], struct status *st)
{
    AUTO_CERT_INFO struct cert_info info = {0};
    TRY(cert_read(der_bytes(&state->roots.item[0]), &info, st));
    return hex_decode(info.spki_sha256, ret, SHA256_SIZE)
               ? CODE_OK
               : status_set(st, CODE_INTERNAL, "the root's key has no digest");
}

static enum code chain_copy(const ProtobufCBinaryData *items, size_t n, struct der_list *ret,
                            struct status *st)
{
    for (size_t i = 0; i < n; i++)
        TRY(der_list_add(ret, (struct bytes){items[i].data, items[i].len}, st));
    return CODE_OK;
}

static enum code check(struct exec *exec, const Clm__BootstrapResponse *answer, struct status *st)
{
    const struct agent_state *state = exec->state;
    struct trust_bootstrap expected = {.identity_csr = der_bytes(&exec->rotation.identity_csr),
                                       .task_csr = der_bytes(&exec->rotation.task_csr),
                                       .now_ms = clock_wall_ms(),
                                       .parser_uid = exec->parser_uid};
    size_t root;
    TRY(root_pin(state, expected.pin, st));
    if (strcmp(answer->agent_id, state->agent_id) != 0 ||
        strcmp(answer->trust_domain, state->trust_domain) != 0 || !answer->has_generation ||
        answer->generation <= state->generation)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "the answer is for another agent, or not for a later generation than ours");
    return trust_check_bootstrap(&expected, answer, &root, st);
}

static enum code adopt(struct exec *exec, ProtobufCBinaryData body, struct status *st)
{
    struct rotation *rotation = &exec->rotation;
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_DER_LIST struct der_list task = {0};
    AUTO_DER_LIST struct der_list identity = {0};
    ProtobufCMessage *msg;
    TRY(wire_unpack(&clm__bootstrap_response__descriptor, body.data, body.len, arena, &msg, st));
    const Clm__BootstrapResponse *answer = (const Clm__BootstrapResponse *)msg;
    TRY(check(exec, answer, st));
    TRY(chain_copy(answer->task_chain, answer->n_task_chain, &task, st));
    TRY(chain_copy(answer->identity_chain, answer->n_identity_chain, &identity, st));
    return state_adopt(exec->state, answer->generation, &rotation->task_key, &task, &identity, st);
}

void rotation_answer(struct exec *exec, const Clm__Agent__RenewAnswer *answer)
{
    struct rotation *rotation = &exec->rotation;
    struct status st;
    if (rotation->phase != ROTATION_ASKED)
        return;
    enum code code = answer->has_code && answer->code != CODE_OK
                         ? status_set(&st, code_info((enum code)answer->code)->code, "%s",
                                      answer->message ? answer->message : "refused without a reason")
                         : adopt(exec, answer->body, &st);
    if (code != CODE_OK) {
        failed(exec, &st);
        return;
    }
    log_info("the identity is renewed", "generation", LOG_NUM(exec->state->generation), NULL);
    reset(rotation);
    rotation->failures = 0;
    rotation->due_ms = due_of(exec->state, &rotation->latest_ms);
    look_again(exec);
    if (exec_identity_changed(exec, &st) != CODE_OK)
        log_error("the new identity cannot be confirmed before the next start", "reason", st.msg, NULL);
}

void rotation_net_gone(struct exec *exec)
{
    if (exec->rotation.phase == ROTATION_IDLE)
        return;
    reset(&exec->rotation);
    loop_timer_set(exec->rotation.timer, NOT_NOW_MS);
}

void rotation_start(struct exec *exec)
{
    exec->rotation.timer = loop_timer_new(exec->loop, on_timer, exec);
    loop_timer_set(exec->rotation.timer, 0);
}

void rotation_done(struct exec *exec)
{
    reset(&exec->rotation);
    if (exec->rotation.timer)
        loop_timer_free(exec->rotation.timer);
    exec->rotation.timer = NULL;
}
