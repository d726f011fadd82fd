/*
 * A gateway's batch of heartbeats. The usual batch is one statement; agents whose stored state differs from
 * what their heartbeat says go through agents_change. A batch that the database refuses for its content is
 * split until the bad row is alone, and that one is dropped.
 */
#include <string.h>

#include "alerts.h"
#include "base/log.h"
#include "metrics.h"
#include "store.h"

#define TRIES 3 /* two gateways' batches may meet in a deadlock; the loser tries again */

static int by_agent_and_age(const void *a, const void *b)
{
    const struct heartbeat *x = a, *y = b;
    int order = strcmp(x->agent_id, y->agent_id);
    if (order == 0)
        order = (x->generation > y->generation) - (x->generation < y->generation);
    return order ? order : (x->received_at_ms > y->received_at_ms) - (x->received_at_ms < y->received_at_ms);
}

/* Newest of each agent, under its newest identity: a former one may knock once more after it. Facts travel in
 * few heartbeats, so the newest facts stay. */
static size_t thin(struct heartbeat *beats, size_t n)
{
    qsort(beats, n, sizeof(*beats), by_agent_and_age);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        struct heartbeat *last = kept > 0 ? &beats[kept - 1] : NULL;
        if (!last || strcmp(last->agent_id, beats[i].agent_id) != 0) {
            beats[kept++] = beats[i];
            continue;
        }
        const struct heartbeat older = *last;
        *last = beats[i];
        if (!last->facts.data) {
            last->facts = older.facts;
            last->agent_version = older.agent_version;
        }
        if (!last->metrics)
            last->metrics = older.metrics;
    }
    return kept;
}

static void clamp(struct heartbeat *beat, int64_t now_ms)
{
    if (beat->interval_ms <= 0)
        beat->interval_ms = INTERVAL_DEFAULT_MS;
    if (beat->interval_ms < INTERVAL_MIN_MS)
        beat->interval_ms = INTERVAL_MIN_MS;
    if (beat->interval_ms > INTERVAL_MAX_MS)
        beat->interval_ms = INTERVAL_MAX_MS;
    if (beat->received_at_ms <= 0 || beat->received_at_ms > now_ms)
        beat->received_at_ms = now_ms;
}

struct batch {
    const struct heartbeat *beats;
    size_t n;
    int64_t now_ms;
    const char *const *ids; /* of those that differ, with what was found of them */
    const bool *clone;
    size_t n_ids;
};

static int by_agent(const void *key, const void *b)
{
    return strcmp(key, ((const struct heartbeat *)b)->agent_id);
}

static enum code apply(struct agent *agent, bool *dirty, bool *heard, void *arg, struct status *st)
{
    (void)st;
    const struct batch *batch = arg;
    const struct heartbeat *beat =
        bsearch(agent->id, batch->beats, batch->n, sizeof(*batch->beats), by_agent);
    if (!beat)
        return CODE_OK;
    *heard = true;
    const char *reason = beat->safe_mode_reason ? beat->safe_mode_reason : "";
    if (agent->safe_mode != beat->safe_mode || strcmp(agent->safe_mode_reason, reason) != 0) {
        agent->safe_mode = beat->safe_mode;
        agent->safe_mode_reason = reason;
        *dirty = true;
    }
    if (beat->generation > agent->generation) {
        agent->generation = beat->generation;
        *dirty = true;
    }
    if (beat->facts.data && (!agent->facts.data || agent->facts.len != beat->facts.len ||
                             memcmp(agent->facts.data, beat->facts.data, beat->facts.len) != 0)) {
        agent->facts = beat->facts;
        agent->agent_version = beat->agent_version ? beat->agent_version : "";
        *dirty = true;
    }
    if (agent->bootstrapped_at_ms < 0) {
        agent->bootstrapped_at_ms = batch->now_ms;
        *dirty = true;
    }
    for (size_t i = 0; i < batch->n_ids; i++) {
        if (!batch->clone[i] || strcmp(batch->ids[i], agent->id) != 0 ||
            strcmp(agent->frozen_reason, FROZEN_CLONE) == 0)
            continue;
        log_error("two instances take turns under one identity: it is frozen as a clone", "agent", agent->id,
                  NULL);
        agent->frozen_reason = FROZEN_CLONE;
        *dirty = true;
    }
    return CODE_OK;
}

static enum code report_once(struct db *db, const struct timing *timing, const char *gateway_id,
                             const char *epoch, struct batch *batch, struct arena *arena, struct status *st)
{
    const char **ids;
    const bool *clone;
    size_t n;
    TRY(store_heartbeats(db, timing, batch->now_ms, gateway_id, epoch, batch->beats, batch->n, arena, &ids,
                         &clone, &n, st));
    if (n == 0)
        return CODE_OK;
    const struct cause cause = {.actor = "", .now_ms = batch->now_ms, .timing = timing};
    batch->ids = ids;
    batch->clone = clone;
    batch->n_ids = n;
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(db_begin(tx, st));
    TRY(agents_change(tx, &cause, ids, n, apply, batch, arena, NULL, NULL, st));
    return db_commit(tx, st);
}

static enum code report_split(struct db *db, const struct timing *timing, const char *gateway_id,
                              const char *epoch, struct batch *batch, struct arena *arena, struct status *st)
{
    enum code code = CODE_ABORTED;
    for (int i = 0; code == CODE_ABORTED && i < TRIES; i++)
        code = report_once(db, timing, gateway_id, epoch, batch, arena, st);
    if (code != CODE_INVALID_ARGUMENT || batch->n == 0)
        return code;
    if (batch->n == 1) {
        log_warn("heartbeat dropped", "agent", batch->beats[0].agent_id, "why", st->msg, NULL);
        return CODE_OK;
    }
    struct batch left = *batch, right = *batch;
    left.n = batch->n / 2;
    right.beats += left.n;
    right.n -= left.n;
    TRY(report_split(db, timing, gateway_id, epoch, &left, arena, st));
    return report_split(db, timing, gateway_id, epoch, &right, arena, st);
}

/* Agents that saw a head of the audit log that does not hold; an alert, and nothing else. */
static enum code raise_problems(struct db *db, const struct batch *batch, struct arena *arena,
                                struct status *st)
{
    struct alert_change *changes = arena_array(arena, batch->n + 1, sizeof(*changes));
    size_t n = 0;
    for (size_t i = 0; i < batch->n; i++)
        if (batch->beats[i].audit_problem)
            changes[n++] = (struct alert_change){.kind = ALERT_AUDIT_INCONSISTENT,
                                                 .entity = batch->beats[i].agent_id,
                                                 .agent_id = batch->beats[i].agent_id,
                                                 .message = batch->beats[i].audit_problem};
    return alerts_raise_alone(db, changes, n, batch->now_ms, arena, st);
}

enum code heartbeats_report(struct db *db, const struct timing *timing, int64_t now_ms,
                            const char *gateway_id, const char *epoch, struct heartbeat *beats, size_t n,
                            struct arena *arena, struct status *st)
{
    for (size_t i = 0; i < n; i++)
        clamp(&beats[i], now_ms);
    struct batch batch = {.beats = beats, .n = n > 0 ? thin(beats, n) : 0, .now_ms = now_ms};
    TRY(report_split(db, timing, gateway_id, epoch, &batch, arena, st));
    metrics_store(db, batch.beats, batch.n, arena);
    return raise_problems(db, &batch, arena, st);
}
