/*
 * SubmitResult: pages are kept until the receipt comes; the receipt, verified against the task certificate
 * that this agent was issued, decides. The agent repeats until it is answered, so every step is idempotent.
 * What came is hostile until the receipt's signature, fields, digest and the result's own form have held.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "convert.h"
#include "events.h"
#include "pki/cms.h"
#include "pki/digest.h"
#include "store.h"

#define PAGES_MAX           64u
#define RESULT_MAX_BYTES    (4u * 1024 * 1024)
#define CANNOT_OPEN_BASE_MS 5000
#define CANNOT_OPEN_CAP_MS  (5 * 60 * 1000)

struct taken { /* a receipt that held */
    struct receipt receipt;
    struct bytes cms, result;
    uint8_t digest[SHA256_SIZE];
    struct result_facts says;     /* of the result */
    char signer[SHA256_HEX_SIZE]; /* fingerprint of the certificate that it was verified with */
    int64_t now_ms;
};

static const char *outcome_name(enum outcome outcome)
{
    static const char *const names[] = {
        [OUTCOME_SUCCEEDED] = "SUCCEEDED",     [OUTCOME_INSTALLED_UNVERIFIED] = "INSTALLED_UNVERIFIED",
        [OUTCOME_FAILED] = "FAILED",           [OUTCOME_CANCELLED] = "CANCELLED",
        [OUTCOME_REFUSED] = "REFUSED",         [OUTCOME_CANNOT_OPEN] = "CANNOT_OPEN",
        [OUTCOME_NOT_GENUINE] = "NOT_GENUINE",
    };
    _Static_assert(ARRAY_LEN(names) == OUTCOME_NOT_GENUINE + 1, "one name for each outcome");
    return names[outcome];
}

/* What makes an identity known is an event, and events are late at times: after a renewal, after a restore.
 * A certificate that proves itself this agent's and is newer than all that are known is worth another try
 * soon; any other is refused. */
static enum code refuse_unknown(const struct tasks *tasks, struct db *db, struct arena *arena,
                                const struct result_submission *submission, int64_t now_ms, struct status *st)
{
    AUTO_DER struct der content = {0};
    AUTO_DER struct der signer = {0};
    AUTO_CERT_INFO struct cert_info info = {0};
    struct spiffe_id id;
    struct status ignored;
    int64_t newest;
    TRY(store_identity_newest(db, arena, submission->agent_id, &newest, st));
    if (tasks->roots &&
        cms_verify(CMS_CONTENT_RECEIPT, submission->receipt, NULL, tasks->roots, PURPOSE_AGENT_TASK, now_ms,
                   &content, &signer, &ignored) == CODE_OK &&
        cert_spiffe(der_bytes(&signer), &id, &ignored) == CODE_OK &&
        cert_read(der_bytes(&signer), &info, &ignored) == CODE_OK && strcmp(id.kind, "agent") == 0 &&
        strcmp(id.name, submission->agent_id) == 0 && strtoll(info.subject_serial, NULL, 10) > newest)
        return status_set(st, CODE_UNAVAILABLE,
                          "agent %s's identity of generation %s is not known here yet; try again",
                          submission->agent_id, info.subject_serial);
    return status_set(st, CODE_PERMISSION_DENIED,
                      "the receipt is signed by a certificate that is not agent %s's task certificate",
                      submission->agent_id);
}

static enum code verify(const struct tasks *tasks, struct db *db, struct arena *arena,
                        const struct result_submission *submission, struct taken *taken, struct status *st)
{
    AUTO_DER struct der claimed = {0};
    TRY(cms_claimed_signer(submission->receipt, &claimed, st));
    struct bytes expected = der_bytes(&claimed);
    unsigned generation;
    enum code code = store_identity_find(db, arena, submission->agent_id, expected, &generation, st);
    if (code == CODE_NOT_FOUND)
        return refuse_unknown(tasks, db, arena, submission, taken->now_ms, st);
    TRY(code);
    AUTO_DER struct der content = {0};
    AUTO_DER struct der signer = {0};
    if (cms_verify(CMS_CONTENT_RECEIPT, submission->receipt, &expected, NULL, PURPOSE_AGENT_TASK,
                   taken->now_ms, &content, &signer, st) != CODE_OK)
        return status_wrap(st, "receipt");
    struct bytes copy = {arena_dup(arena, content.data, content.len), content.len};
    TRY(receipt_read(copy, arena, &taken->receipt, st));
    const struct receipt *receipt = &taken->receipt;
    if (strcmp(receipt->agent_id, submission->agent_id) != 0 ||
        strcmp(receipt->task_id, submission->task_id) != 0 || receipt->attempt != submission->attempt ||
        receipt->generation != generation)
        return status_set(
            st, CODE_PERMISSION_DENIED,
            "the receipt speaks of another agent, task, attempt or generation than it came for");
    sha256(submission->receipt, taken->digest);
    sha256_hex(der_bytes(&signer), taken->signer);
    taken->cms = submission->receipt;
    return CODE_OK;
}

static enum code collect_result(struct db *db, struct arena *arena, struct taken *taken, struct status *st)
{
    const struct receipt *receipt = &taken->receipt;
    if (receipt->pages > PAGES_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "a result has at most %u pages", PAGES_MAX);
    TRY(store_pages_get(db, arena, receipt->task_id, receipt->attempt, receipt->pages, &taken->result, st));
    if (taken->result.len > RESULT_MAX_BYTES)
        return status_set(st, CODE_INVALID_ARGUMENT, "a result has at most %u bytes", RESULT_MAX_BYTES);
    uint8_t digest[SHA256_SIZE];
    sha256(taken->result, digest);
    bool unsaid = receipt->result_sha256.len == 0 && receipt->pages == 0;
    if (!unsaid && (receipt->result_sha256.len != SHA256_SIZE ||
                    memcmp(receipt->result_sha256.data, digest, SHA256_SIZE) != 0))
        return status_set(st, CODE_INVALID_ARGUMENT, "the pages are not the result that the receipt signs");
    return result_check(taken->result, &taken->says, st);
}

/* The registry keeps the inventory: it hears of what a scan found, and of what a deployment left, in the
 * transaction that ends the task. */
static enum code report_inventory(struct db *tx, struct arena *arena, const struct task *task,
                                  const struct taken *taken, bool ended, struct status *st)
{
    struct packed_event *events;
    size_t n;
    TRY(inventory_write(task, taken->result, ended, taken->now_ms, arena, &events, &n, st));
    return store_events_add(tx, arena, events, n, st);
}

/* Does a task that came to this end leave something that the inventory should know? */
static bool leaves_something(enum task_kind kind, enum task_state end)
{
    return end == STATE_SUCCEEDED ||
           end == (kind == KIND_DISCOVER ? STATE_CANCELLED : STATE_INSTALLED_UNVERIFIED);
}

static enum code finish(struct db *tx, struct arena *arena, const struct task *task,
                        const struct taken *taken, enum task_state to, const char *message, struct status *st)
{
    struct task ended;
    const struct ending ending = {
        .state = to,
        .message = message,
        .result = taken->result,
        .verdict = task->kind == KIND_VALIDATE ? taken->says.worst : 0,
        .started_at_ms = taken->receipt.started_at_ms,
        .now_ms = taken->now_ms,
    };
    TRY(store_task_finish(tx, arena, task, &ending, &ended, st));
    struct change change = task_change(&ended, "finished", actor_agent(arena, task->agent_id));
    struct spec_facts facts;
    TRY(spec_read(task->spec, arena, &facts, st));
    change.target = facts.target;
    change.refused = taken->receipt.outcome == OUTCOME_REFUSED;
    change.served_not_intended = taken->says.served_not_intended;
    change.receipt_sha256 = (struct bytes){taken->digest, SHA256_SIZE};
    change.signer_sha256 = taken->signer;
    TRY(changes_emit(tx, arena, &change, 1, taken->now_ms, st));
    return leaves_something(task->kind, to)
               ? report_inventory(tx, arena, &ended, taken, to == STATE_SUCCEEDED, st)
               : CODE_OK;
}

static enum code reschedule(struct db *tx, struct arena *arena, const struct task *task,
                            const struct taken *taken, unsigned next_attempt, int64_t wait_ms,
                            const char *subject, struct status *st)
{
    struct task waiting;
    TRY(store_task_reschedule(tx, arena, task, next_attempt, taken->now_ms + wait_ms, taken->receipt.message,
                              &waiting, st));
    struct change change = task_change(&waiting, subject, actor_agent(arena, task->agent_id));
    change.receipt_sha256 = (struct bytes){taken->digest, SHA256_SIZE};
    change.signer_sha256 = taken->signer;
    return changes_emit(tx, arena, &change, 1, taken->now_ms, st);
}

static enum code apply(struct db *tx, struct arena *arena, const struct task *task, const struct taken *taken,
                       struct status *st)
{
    const struct receipt *receipt = &taken->receipt;
    switch (receipt->outcome) {
    case OUTCOME_SUCCEEDED:
        return finish(tx, arena, task, taken, STATE_SUCCEEDED, receipt->message, st);
    case OUTCOME_INSTALLED_UNVERIFIED:
        return finish(tx, arena, task, taken, STATE_INSTALLED_UNVERIFIED, receipt->message, st);
    case OUTCOME_CANCELLED:
        return finish(tx, arena, task, taken, STATE_CANCELLED, receipt->message, st);
    case OUTCOME_REFUSED:
        return finish(tx, arena, task, taken, STATE_FAILED,
                      arena_printf(arena, "refused by the agent: %s",
                                   receipt->message ? receipt->message : "no reason given"),
                      st);
    case OUTCOME_NOT_GENUINE: /* the genuine one is still to come */
    case OUTCOME_CANNOT_OPEN:
        if (task->cancel_requested)
            return finish(tx, arena, task, taken, STATE_CANCELLED, receipt->message, st);
        return reschedule(tx, arena, task, taken, task->attempt,
                          backoff_full_jitter_ms(task->lease < 8 ? task->lease : 8, CANNOT_OPEN_BASE_MS,
                                                 CANNOT_OPEN_CAP_MS),
                          "returned", st);
    case OUTCOME_FAILED:
        if (task->cancel_requested)
            return finish(tx, arena, task, taken, STATE_CANCELLED, receipt->message, st);
        if (!receipt->retryable || task->attempt >= task->max_attempts)
            return finish(tx, arena, task, taken, STATE_FAILED, receipt->message, st);
        return reschedule(tx, arena, task, taken, task->attempt + 1,
                          task_kind_backoff_ms(task->kind, task->attempt + 1), "retried", st);
    }
    return status_set(st, CODE_INVALID_ARGUMENT, "receipt: unknown outcome");
}

static enum task_state end_of(enum outcome outcome)
{
    return outcome == OUTCOME_SUCCEEDED              ? STATE_SUCCEEDED
           : outcome == OUTCOME_INSTALLED_UNVERIFIED ? STATE_INSTALLED_UNVERIFIED
           : outcome == OUTCOME_CANCELLED            ? STATE_CANCELLED
                                                     : STATE_FAILED;
}

/* The task stays as it ended; its row's version does too, so the event repeats it. What the host did counts:
 * unless a later attempt may have done something else since, the inventory hears of it. A scan that late no
 * longer says that nothing else is there. */
static enum code take_late(struct db *tx, struct arena *arena, const struct task *task,
                           const struct taken *taken, struct status *st)
{
    struct change change = task_change(task, "late_receipt", actor_agent(arena, task->agent_id));
    change.receipt_sha256 = (struct bytes){taken->digest, SHA256_SIZE};
    change.signer_sha256 = taken->signer;
    change.message = taken->receipt.message;
    TRY(changes_emit(tx, arena, &change, 1, taken->now_ms, st));
    bool last = taken->receipt.attempt == task->attempt;
    return last && leaves_something(task->kind, end_of(taken->receipt.outcome))
               ? report_inventory(tx, arena, task, taken, false, st)
               : CODE_OK;
}

static enum code take_receipt(struct db *tx, struct arena *arena, const struct task *task,
                              struct taken *taken, struct status *st)
{
    bool known;
    struct bytes digest = {taken->digest, SHA256_SIZE};
    TRY(store_receipt_exists(tx, arena, task->id, taken->receipt.attempt, digest, &known, st));
    if (known)
        return CODE_OK;
    TRY(collect_result(tx, arena, taken, st));
    bool late = task_state_is_terminal(task->state) || taken->receipt.attempt < task->attempt;
    bool fresh;
    TRY(store_receipt_put(tx, arena, &taken->receipt, taken->cms, digest, late, taken->result, taken->now_ms,
                          &fresh, st));
    if (!late)
        TRY(apply(tx, arena, task, taken, st));
    TRY(store_pages_delete(tx, arena, task->id, taken->receipt.attempt, st));
    return late && taken->receipt.outcome != OUTCOME_NOT_GENUINE ? take_late(tx, arena, task, taken, st)
                                                                 : CODE_OK;
}

/* An event of its own: whose order it was is not known. */
static enum code tell_not_genuine(struct db *tx, struct arena *arena,
                                  const struct result_submission *submission, const struct taken *taken,
                                  struct status *st)
{
    bool due;
    TRY(store_order_report_due(tx, arena, submission->agent_id, taken->now_ms, &due, st));
    if (!due)
        return CODE_OK;
    const struct change change = {
        .subject = "order_rejected",
        .task_id = submission->task_id,
        .agent_id = submission->agent_id,
        .message = taken->receipt.message,
        .actor = actor_agent(arena, submission->agent_id),
        .attempt = submission->attempt,
        .receipt_sha256 = {taken->digest, SHA256_SIZE},
        .signer_sha256 = taken->signer,
        .refused = true,
    };
    return changes_emit(tx, arena, &change, 1, taken->now_ms, st);
}

static enum code ready_followers(struct db *tx, struct arena *arena, const char *task_id, int64_t now_ms,
                                 const char ***ret_agents, size_t *ret_n, struct status *st)
{
    struct task *ready;
    TRY(store_ready_followers(tx, arena, task_id, now_ms, &ready, ret_n, st));
    TRY(change_emit_all(tx, arena, ready, *ret_n, "readied", now_ms, st));
    *ret_agents = arena_array(arena, *ret_n, sizeof(**ret_agents));
    for (size_t i = 0; i < *ret_n; i++)
        (*ret_agents)[i] = ready[i].agent_id;
    return CODE_OK;
}

enum code task_submit_result(struct tasks *tasks, struct db *db, struct arena *arena,
                             const struct result_submission *submission, bool *ret_finished,
                             struct status *st)
{
    bool has_receipt = submission->receipt.len > 0;
    if (submission->has_data && (submission->page < 1 || submission->page > PAGES_MAX))
        return status_set(st, CODE_INVALID_ARGUMENT, "page: 1 to %u", PAGES_MAX);
    if (!submission->has_data && !has_receipt)
        return status_set(st, CODE_INVALID_ARGUMENT, "neither a page nor a receipt");
    struct task task = {.lease = 0};
    struct taken taken = {.now_ms = clock_wall_ms()};
    TRY(db_begin(db, st));
    CLEANUP(db_scope_end) struct db *tx = db;
    enum code found = store_task_get(tx, arena, submission->task_id, submission->agent_id, true, &task, st);
    if (found != CODE_OK && found != CODE_NOT_FOUND)
        return found;
    bool leased =
        found == CODE_OK && task.lease > 0 && submission->attempt <= task.attempt && submission->attempt >= 1;
    struct status why = *st;
    if (has_receipt)
        TRY(verify(tasks, tx, arena, submission, &taken, st));
    /* The agent may have been given an order that nobody here made for it: that is what it reports. */
    if (has_receipt && (taken.receipt.outcome == OUTCOME_NOT_GENUINE ||
                        (taken.receipt.outcome == OUTCOME_CANNOT_OPEN && !leased))) {
        TRY(tell_not_genuine(tx, arena, submission, &taken, st));
        if (!leased) {
            *ret_finished = true;
            return db_commit(tx, st);
        }
    }
    if (found != CODE_OK)
        return status_set(st, found, "%s", why.msg);
    if (!leased)
        return status_set(st, CODE_FAILED_PRECONDITION, "attempt %u of task %s was never leased",
                          submission->attempt, task.id);
    if (submission->has_data)
        TRY(store_page_put(tx, arena, submission, taken.now_ms, st));
    const char **agents = NULL;
    size_t n_agents = 0;
    if (has_receipt) {
        TRY(take_receipt(tx, arena, &task, &taken, st));
        TRY(ready_followers(tx, arena, task.id, taken.now_ms, &agents, &n_agents, st));
    }
    TRY(db_commit(tx, st));
    LOG_TRACED(task.traceparent);
    if (has_receipt)
        log_info("receipt taken", "task", task.id, "agent", task.agent_id, "attempt",
                 LOG_NUM(submission->attempt), "outcome", outcome_name(taken.receipt.outcome), NULL);
    *ret_finished = has_receipt;
    if (n_agents > 0)
        tasks->wake(tasks, agents, n_agents);
    return CODE_OK;
}
