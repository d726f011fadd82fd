/*
 * LeaseTasks: the check-ins of up to 1,000 agents in a fixed number of statements. First what they hold is
 * marked RUNNING, then what they may have is locked, checked against their scopes, sealed and taken, in one
 * transaction. A batch that the database refuses because of one bad row is halved until that row is alone.
 */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "convert.h"
#include "envelope.h"
#include "events.h"
#include "store.h"

#define LEASE_MAX        256u         /* tasks an answer */
#define ANSWER_MAX_BYTES (400 * 1024) /* of envelopes: the reply stays below a bus message */
#define ENVELOPE_SKEW_MS (5 * 60 * 1000)
#define ENVELOPE_LIFE_MS (INT64_C(24) * 60 * 60 * 1000)
#define FREE_SLOTS_MAX   16u

struct batch {
    struct tasks *tasks;
    struct db *db;
    struct arena *arena;
    int64_t now_ms;
    const struct lease_request *requests;
    size_t n;
    struct candidate *candidates; /* those to take, compacted */
    struct bytes *envelopes;
    size_t n_taken;
    struct change *changes;
    size_t n_changes;
    bool cut; /* something was left for the next request */
};

static enum code mark_held(struct batch *batch, struct status *st)
{
    size_t n = 0;
    for (size_t i = 0; i < batch->n; i++)
        n += batch->requests[i].n_held;
    struct held_task *held = arena_array(batch->arena, n, sizeof(*held));
    n = 0;
    for (size_t i = 0; i < batch->n; i++)
        for (size_t j = 0; j < batch->requests[i].n_held; j++)
            held[n++] = batch->requests[i].held[j];
    struct task *started;
    size_t n_started;
    TRY(store_mark_held(batch->db, batch->arena, held, n, batch->now_ms, &started, &n_started, st));
    struct change *changes = arena_array(batch->arena, n_started, sizeof(*changes));
    for (size_t i = 0; i < n_started; i++)
        changes[i] = task_change(&started[i], "started", actor_agent(batch->arena, started[i].agent_id));
    return changes_emit(batch->db, batch->arena, changes, n_started, batch->now_ms, st);
}

/* The scope may have become narrower since the task was made. */
static enum code still_in_scope(struct batch *batch, const struct candidate *candidate, struct status *st)
{
    struct spec_facts facts;
    struct scope scope;
    TRY(scope_read(candidate->scope, batch->arena, &scope, st));
    TRY(spec_read(candidate->task.spec, batch->arena, &facts, st));
    return scope_check_spec(&scope, &facts, st);
}

static enum code end_refused(struct batch *batch, const struct candidate *candidate, const char *why,
                             struct status *st)
{
    struct task ended;
    const struct ending ending = {
        .state = STATE_FAILED,
        .message = arena_printf(batch->arena, "refused when it was to be leased: %s", why),
        .started_at_ms = -1,
        .now_ms = batch->now_ms,
    };
    TRY(store_task_finish(batch->db, batch->arena, &candidate->task, &ending, &ended, st));
    return change_emit(batch->db, batch->arena, &ended, "finished", ACTOR_SELF, batch->now_ms, st);
}

static enum code seal_one(struct batch *batch, struct sealer *sealer, const struct candidate *candidate,
                          struct bytes *ret, struct status *st)
{
    const struct task *task = &candidate->task;
    int64_t end_ms = batch->now_ms + ENVELOPE_LIFE_MS;
    if (end_ms > task->deadline_at_ms)
        end_ms = task->deadline_at_ms;
    struct order order = {
        .task = task,
        .generation = candidate->generation,
        .lease = task->lease + 1,
        .scope = candidate->scope,
        .epoch = candidate->epoch,
        .safe_mode = candidate->safe_mode,
        .not_before_ms = batch->now_ms - ENVELOPE_SKEW_MS,
        .not_after_ms = end_ms + ENVELOPE_SKEW_MS,
    };
    return sealer_seal(sealer, &order, candidate->task_certificate, batch->arena, ret, st);
}

/* Seals until the answer is full; one that cannot be sealed is left as it is and logged. */
static enum code seal_all(struct batch *batch, struct candidate *found, size_t n, struct status *st)
{
    AUTO_SEALER struct sealer *sealer = NULL;
    TRY(sealer_new(batch->tasks->signer, batch->now_ms, &sealer, st));
    batch->candidates = found;
    batch->envelopes = arena_array(batch->arena, n, sizeof(*batch->envelopes));
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        struct status why = {0};
        struct bytes envelope;
        if (still_in_scope(batch, &found[i], &why) != CODE_OK) {
            TRY(end_refused(batch, &found[i], why.msg, st));
            continue;
        }
        if (seal_one(batch, sealer, &found[i], &envelope, &why) != CODE_OK) {
            log_error("cannot seal a task for its agent", "task", found[i].task.id, "agent",
                      found[i].task.agent_id, "error", why.msg, NULL);
            continue;
        }
        if (batch->n_taken > 0 && bytes + envelope.len > ANSWER_MAX_BYTES) {
            batch->cut = true;
            break;
        }
        bytes += envelope.len;
        found[batch->n_taken] = found[i];
        batch->envelopes[batch->n_taken++] = envelope;
    }
    return CODE_OK;
}

static enum code take_all(struct batch *batch, struct status *st)
{
    if (batch->n_taken == 0)
        return CODE_OK;
    uint64_t *versions = arena_array(batch->arena, batch->n_taken, sizeof(*versions));
    TRY(store_lease_take(batch->db, batch->arena, batch->candidates, batch->envelopes, batch->n_taken,
                         batch->now_ms, versions, st));
    struct change *changes = arena_array(batch->arena, batch->n_taken, sizeof(*changes));
    for (size_t i = 0; i < batch->n_taken; i++) {
        struct task *task = &batch->candidates[i].task;
        task->state = STATE_LEASED;
        task->version = versions[i];
        task->lease++;
        task->message = NULL;
        changes[i] = task_change(task, "leased", ACTOR_SELF);
    }
    return changes_emit(batch->db, batch->arena, changes, batch->n_taken, batch->now_ms, st);
}

static enum code lease_batch(struct batch *batch, struct lease_answer *ret, struct status *st)
{
    TRY(db_begin(batch->db, st));
    CLEANUP(db_scope_end) struct db *tx = batch->db;
    TRY(mark_held(batch, st));
    struct candidate *found;
    size_t n;
    TRY(store_lease_candidates(tx, batch->arena, batch->requests, batch->n,
                               batch->now_ms - batch->tasks->lease_expiry_ms, batch->now_ms, LEASE_MAX,
                               &found, &n, st));
    batch->cut = n == LEASE_MAX;
    if (n > 0) {
        TRY(seal_all(batch, found, n, st));
        TRY(take_all(batch, st));
    }
    TRY(store_list_cancels(tx, batch->arena, batch->requests, batch->n, &ret->cancels, &ret->n_cancels, st));
    TRY(db_commit(tx, st));
    ret->n_deliveries = batch->n_taken;
    ret->deliveries = arena_array(batch->arena, batch->n_taken, sizeof(*ret->deliveries));
    for (size_t i = 0; i < batch->n_taken; i++) {
        const struct task *task = &batch->candidates[i].task;
        LOG_TRACED(task->traceparent);
        log_info("task leased", "task", task->id, "agent", task->agent_id, "attempt", LOG_NUM(task->attempt),
                 "lease", LOG_NUM(task->lease), NULL);
        ret->deliveries[i] =
            (struct delivery){task->agent_id, task->id, task->attempt, task->lease, batch->envelopes[i]};
    }
    return CODE_OK;
}

/* The request's data are at fault, not the moment. */
static bool is_bad_row(enum code code)
{
    return code == CODE_INVALID_ARGUMENT || code == CODE_FAILED_PRECONDITION || code == CODE_ALREADY_EXISTS;
}

static void append(struct lease_answer *to, const struct lease_answer *from, struct arena *arena)
{
    struct delivery *deliveries =
        arena_array(arena, to->n_deliveries + from->n_deliveries, sizeof(*deliveries));
    struct task_ref *cancels = arena_array(arena, to->n_cancels + from->n_cancels, sizeof(*cancels));
    if (to->n_deliveries > 0)
        memcpy(deliveries, to->deliveries, to->n_deliveries * sizeof(*deliveries));
    if (from->n_deliveries > 0)
        memcpy(deliveries + to->n_deliveries, from->deliveries, from->n_deliveries * sizeof(*deliveries));
    if (to->n_cancels > 0)
        memcpy(cancels, to->cancels, to->n_cancels * sizeof(*cancels));
    if (from->n_cancels > 0)
        memcpy(cancels + to->n_cancels, from->cancels, from->n_cancels * sizeof(*cancels));
    *to = (struct lease_answer){deliveries, to->n_deliveries + from->n_deliveries, cancels,
                                to->n_cancels + from->n_cancels};
}

static enum code lease_or_split(struct batch *batch, struct lease_answer *ret, struct status *st)
{
    struct batch whole = *batch;
    enum code code = lease_batch(&whole, ret, st);
    batch->cut = whole.cut;
    if (!is_bad_row(code))
        return code;
    *ret = (struct lease_answer){0};
    if (batch->n == 1) {
        log_error("an agent's check-in was left out", "agent", batch->requests[0].agent_id, "error", st->msg,
                  NULL);
        return CODE_OK;
    }
    struct batch first = *batch, second = *batch;
    first.n = batch->n / 2;
    second.requests += first.n;
    second.n -= first.n;
    struct lease_answer rest = {0};
    TRY(lease_or_split(&first, ret, st));
    TRY(lease_or_split(&second, &rest, st));
    append(ret, &rest, batch->arena);
    batch->cut = first.cut || second.cut;
    return CODE_OK;
}

/* What did not fit is asked for again at once. A wake that fails costs one interval, no more. */
static void wake_the_rest(struct batch *batch)
{
    const char **ids = arena_array(batch->arena, batch->n, sizeof(*ids)), **ready;
    size_t n_ready;
    struct status st;
    for (size_t i = 0; i < batch->n; i++)
        ids[i] = batch->requests[i].agent_id;
    if (store_agents_with_ready(batch->db, batch->arena, ids, batch->n, &ready, &n_ready, &st) != CODE_OK)
        log_warn("agents with more to fetch were not woken", "why", st.msg, NULL);
    else if (n_ready > 0)
        batch->tasks->wake(batch->tasks, ready, n_ready);
}

enum code task_lease(struct tasks *tasks, struct db *db, struct arena *arena,
                     const struct lease_request *requests, size_t n, struct lease_answer *ret,
                     struct status *st)
{
    *ret = (struct lease_answer){0};
    if (n == 0)
        return CODE_OK;
    struct lease_request *clamped = arena_dup(arena, requests, n * sizeof(*requests));
    for (size_t i = 0; i < n; i++)
        if (clamped[i].free_slots > FREE_SLOTS_MAX)
            clamped[i].free_slots = FREE_SLOTS_MAX;
    struct batch batch = {
        .tasks = tasks, .db = db, .arena = arena, .now_ms = clock_wall_ms(), .requests = clamped, .n = n};
    TRY(lease_or_split(&batch, ret, st));
    if (batch.cut)
        wake_the_rest(&batch);
    return CODE_OK;
}
