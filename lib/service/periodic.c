/*
 * Periodic work: a thread each, with a session of its own. What must happen once is done by the replica that
 * holds an advisory lock; the lock goes with the session, so another replica has it when this one dies.
 */
#include "base/clock.h"
#include "base/log.h"
#include "service/internal.h"

enum code service_periodic(struct service *service, const char *name, int64_t interval_ms, bool exclusive,
                           enum code (*work)(struct worker *worker, struct status *st), struct status *st)
{
    if (service->n_periodic == SERVICE_PERIODIC_MAX)
        return status_set(st, CODE_INTERNAL, "%s: too much periodic work", name);
    service->periodic[service->n_periodic++] = (struct periodic){
        .service = service, .name = name, .interval_ms = interval_ms, .exclusive = exclusive, .work = work};
    return CODE_OK;
}

static enum code periodic_round(struct periodic *p, struct worker *worker, unsigned *epoch, bool *locked,
                                struct status *st)
{
    struct service *service = p->service;
    if (service->descriptor->migrations) {
        struct db *before = worker->db;
        unsigned epoch_before = *epoch;
        TRY(service_db_session(service, &worker->db, epoch, st));
        if (worker->db != before || *epoch != epoch_before)
            *locked = false;
        if (p->exclusive && !*locked)
            TRY(db_try_lock(worker->db, service_lock_key(service, p->name), locked, st));
        if (p->exclusive && !*locked)
            return CODE_OK;
    }
    enum code code = p->work(worker, st);
    if (worker->db)
        db_rollback(worker->db);
    return code;
}

static void *periodic_main(void *arg)
{
    struct periodic *p = arg;
    struct service *service = p->service;
    const struct service_descriptor *descriptor = service->descriptor;
    struct worker worker = {.service = service};
    unsigned epoch = 0;
    bool locked = false;
    enum code said = CODE_OK;
    struct status st = {0};
    if (descriptor->worker_new && !(worker.state = descriptor->worker_new(service, &st)))
        log_error("periodic work without a worker", "work", p->name, "why", st.msg, NULL);
    int64_t next = clock_mono_ms();
    do {
        st = (struct status){0};
        enum code code = periodic_round(p, &worker, &epoch, &locked, &st);
        if (code != CODE_OK && code != said && !is_away(code)) /* that is told by the readiness */
            log_warn("periodic work failed", "work", p->name, "why", st.msg, NULL);
        said = code;
        if (code != CODE_OK && worker.db) {
            /* Whatever happened to the session, its lock goes with it. */
            db_close(worker.db);
            worker.db = NULL;
            locked = false;
        }
        int64_t now = clock_mono_ms();
        next += p->interval_ms;
        if (next < now) /* work that takes longer than its interval is not made up for */
            next = now;
        if (service_wait(service, next - now))
            break;
    } while (true);
    if (descriptor->worker_free && worker.state)
        descriptor->worker_free(worker.state);
    db_close(worker.db);
    return NULL;
}

enum code periodic_start(struct periodic *p, struct status *st)
{
    if (pthread_create(&p->thread, NULL, periodic_main, p) != 0)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "%s: no thread for it", p->name);
    p->started = true;
    return CODE_OK;
}

void periodic_stop(struct periodic *p)
{
    if (p->started)
        (void)pthread_join(p->thread, NULL);
    p->started = false;
}
