/*
 * One thread a durable: pulls events, applies them in a transaction that also claims their ids in the inbox,
 * commits, then acknowledges. A batch is one transaction; if that fails, each event is one of its own. An
 * event that can never be applied is parked in a table and told as an error; everything else that fails comes
 * again in a second.
 */
#include <string.h>

#include "base/id.h"
#include "base/log.h"
#include "db/outbox.h"
#include "proto/event.pb-c.h"
#include "service/internal.h"

#define PULL_MAX     100
#define PULL_WAIT_MS 1000 /* also how late the thread notices that we leave */

struct consumer {
    struct service *service;
    char durable[64];
    pthread_t thread;
    struct event_consumer *pull;
    struct worker worker;
    unsigned db_epoch;
    enum code said;
};

static const struct event_handler *find_handler(const struct service_descriptor *descriptor,
                                                const char *subject)
{
    for (const struct event_handler *h = descriptor->events; h && h->subject; h++) {
        size_t n = strlen(h->subject);
        bool all_below = n > 1 && h->subject[n - 1] == '>' && strncmp(h->subject, subject, n - 1) == 0;
        if (all_below || strcmp(h->subject, subject) == 0)
            return h;
    }
    return NULL;
}

/* "registry" of clm.event.registry.agent.changed */
static bool subject_origin(const char *subject, char origin[64])
{
    static const char prefix[] = "clm.event.";
    if (strncmp(subject, prefix, sizeof(prefix) - 1) != 0)
        return false;
    const char *start = subject + sizeof(prefix) - 1;
    size_t n = strcspn(start, ".");
    if (n == 0 || n >= 64 || start[n] != '.')
        return false;
    memcpy(origin, start, n);
    origin[n] = '\0';
    return true;
}

enum code service_event_open(struct service *service, const struct event_message *m, bool signed_by_origin,
                             struct arena *arena, const struct Clm__Event **ret, struct status *st)
{
    ProtobufCMessage *message = NULL;
    if (!uuid_valid(m->id))
        return status_set(st, CODE_INVALID_ARGUMENT, "event without a message id");
    if (signed_by_origin) {
        char origin[64], signer[64];
        if (!subject_origin(m->subject, origin))
            return status_set(st, CODE_INVALID_ARGUMENT, "event subject without an origin");
        if (m->authority.len == 0)
            return status_set(st, CODE_INVALID_ARGUMENT, "event without its origin's signature");
        if (authority_verify(service->identity, m->authority, m->subject, m->id, m->body, arena, signer,
                             st) != CODE_OK) {
            st->code = CODE_INVALID_ARGUMENT;
            return CODE_INVALID_ARGUMENT;
        }
        if (strcmp(signer, origin) != 0)
            return status_set(st, CODE_INVALID_ARGUMENT, "event of %s signed by %s", origin, signer);
    }
    TRY(wire_unpack(&clm__event__descriptor, m->body.data, m->body.len, arena, &message, st));
    const Clm__Event *event = (const Clm__Event *)message;
    if (!event->id || strcmp(event->id, m->id) != 0 || !event->subject ||
        strcmp(event->subject, m->subject) != 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "event's id or subject is not that of its message");
    *ret = event;
    return CODE_OK;
}

/* Inside a transaction. */
static enum code claim_and_apply(struct consumer *c, const struct event_handler *handler,
                                 const struct event_message *m, struct arena *arena, struct status *st)
{
    const Clm__Event *event = NULL;
    TRY(service_event_open(c->service, m, handler->authority, arena, &event, st));
    LOG_TRACED(event->traceparent);
    bool fresh;
    TRY(inbox_claim(c->worker.db, m->id, &fresh, st));
    if (fresh)
        TRY(handler->apply(&c->worker, arena, event, st));
    log_debug(fresh ? "event applied" : "event is known", "durable", c->durable, "event", m->id, "subject",
              m->subject, NULL);
    return CODE_OK;
}

static enum code apply_one(struct consumer *c, const struct event_handler *handler,
                           const struct event_message *m, struct arena *arena, struct status *st)
{
    CLEANUP(db_scope_end) struct db *tx = c->worker.db;
    TRY(db_begin(tx, st));
    TRY(claim_and_apply(c, handler, m, arena, st));
    return db_commit(tx, st);
}

/* The usual case: all of them in one transaction. Whatever goes wrong, nothing was applied. */
static enum code apply_all(struct consumer *c, const struct event_batch *batch, struct arena *arena,
                           struct status *st)
{
    CLEANUP(db_scope_end) struct db *tx = c->worker.db;
    TRY(db_begin(tx, st));
    for (size_t i = 0; i < event_batch_count(batch); i++) {
        const struct event_message *m = event_batch_get(batch, i);
        const struct event_handler *handler = find_handler(c->service->descriptor, m->subject);
        if (handler)
            TRY(claim_and_apply(c, handler, m, arena, st));
    }
    return db_commit(tx, st);
}

static enum code park(struct consumer *c, const struct event_message *m, const char *reason,
                      struct status *st)
{
    log_error("event parked: it cannot be applied", "durable", c->durable, "event", m->id, "subject",
              m->subject, "why", reason, NULL);
    metric_add(frame_metrics.parked, "durable", c->durable, 1);
    struct db *db = c->worker.db;
    return inbox_park(db, m->id, m->subject, m->body.data, m->body.len, reason, st);
}

static enum code handle(struct consumer *c, const struct event_message *m, struct arena *arena,
                        struct status *st)
{
    const struct event_handler *handler = find_handler(c->service->descriptor, m->subject);
    if (!handler)
        return CODE_OK;
    struct status why = {0};
    enum code code = apply_one(c, handler, m, arena, &why);
    if (code == CODE_INVALID_ARGUMENT)
        return park(c, m, why.msg, st);
    return code == CODE_OK ? CODE_OK : status_set(st, code, "%s: %s", m->subject, why.msg);
}

/* One that fails does not hold up those behind it, unless what fails is the database: then all would. */
static enum code handle_batch(struct consumer *c, struct event_batch *batch, struct arena *arena,
                              struct status *st)
{
    size_t n = event_batch_count(batch);
    struct status why = {0};
    enum code first = n > 1 ? apply_all(c, batch, arena, &why) : CODE_ABORTED;
    arena_reset(arena);
    bool one_by_one = first != CODE_OK;
    if (one_by_one)
        first = CODE_OK;
    for (size_t i = 0; i < n && !is_away(first); i++) {
        enum code code = one_by_one ? handle(c, event_batch_get(batch, i), arena, &why) : CODE_OK;
        arena_reset(arena);
        if (code == CODE_OK) {
            event_batch_ack(batch, i);
            metric_add(frame_metrics.consumed, "durable", c->durable, 1);
        } else if (first == CODE_OK) {
            first = status_set(st, code, "%s", why.msg);
        }
    }
    return first;
}

static enum code round_of_consumer(struct consumer *c, struct arena *arena, struct status *st)
{
    if (!bus_ready(c->service->bus)) {
        (void)service_wait(c->service, RETRY_MS);
        return CODE_OK; /* readiness tells it */
    }
    TRY(service_db_session(c->service, &c->worker.db, &c->db_epoch, st));
    if (!c->pull)
        TRY(event_consumer_new(c->service->bus, c->durable, &c->pull, st));
    struct event_batch *batch = NULL;
    TRY(event_consumer_pull(c->pull, PULL_MAX, PULL_WAIT_MS, &batch, st));
    enum code code = event_batch_count(batch) > 0 ? handle_batch(c, batch, arena, st) : CODE_OK;
    event_batch_free(batch);
    return code;
}

static void *consumer_main(void *arg)
{
    struct consumer *c = arg;
    AUTO_ARENA struct arena *arena = arena_new();
    const struct service_descriptor *descriptor = c->service->descriptor;
    struct status st = {0};
    if (descriptor->worker_new && !(c->worker.state = descriptor->worker_new(c->service, &st)))
        log_error("events are not read: no worker", "durable", c->durable, "why", st.msg, NULL);
    while (!service_draining(c->service)) {
        st = (struct status){0};
        enum code code = round_of_consumer(c, arena, &st);
        if (code == CODE_OK) {
            c->said = CODE_OK;
            continue;
        }
        if (code != c->said) {
            c->said = code;
            log_warn("events wait", "durable", c->durable, "why", st.msg, NULL);
        }
        if (c->worker.db)
            db_rollback(c->worker.db);
        if (code == CODE_NOT_FOUND || code == CODE_INTERNAL) { /* the durable was made anew, perhaps */
            event_consumer_free(c->pull);
            c->pull = NULL;
        }
        (void)service_wait(c->service, RETRY_MS);
    }
    event_consumer_free(c->pull);
    if (descriptor->worker_free && c->worker.state)
        descriptor->worker_free(c->worker.state);
    db_close(c->worker.db);
    return NULL;
}

enum code consumer_start(struct service *service, const char *durable, struct consumer **ret,
                         struct status *st)
{
    struct consumer *c = calloc(1, sizeof(*c));
    if (!c)
        abort();
    c->service = service;
    c->worker.service = service;
    (void)snprintf(c->durable, sizeof(c->durable), "%s", durable);
    /* There before the first: who watches for an increase sees none from nothing to 1. */
    metric_add(frame_metrics.parked, "durable", c->durable, 0);
    metric_add(frame_metrics.consumed, "durable", c->durable, 0);
    if (pthread_create(&c->thread, NULL, consumer_main, c) != 0) {
        free(c);
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "%s: no thread for it", durable);
    }
    *ret = c;
    return CODE_OK;
}

void consumer_stop(struct consumer *c)
{
    if (!c)
        return;
    (void)pthread_join(c->thread, NULL);
    free(c);
}
