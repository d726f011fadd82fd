/*
 * Worker threads: one bounded queue, filled by the bus's delivery thread and emptied by W threads, each with
 * its own database session and arena. A full queue answers UNAVAILABLE at once, so that a caller can go
 * elsewhere.
 */
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "service/internal.h"

struct worker_thread {
    struct workers *all;
    pthread_t thread;
    bool started;
    struct worker worker;
    unsigned db_epoch;
};

struct workers {
    struct service *service;
    pthread_mutex_t mutex;
    pthread_cond_t filled;
    pthread_cond_t ready; /* a thread has its state, or has failed to make it */
    struct rpc_delivery **ring;
    size_t size, first, n;
    bool stop;
    size_t n_ready;
    struct status failure;
    struct worker_thread *thread;
    size_t n_threads;
};

void workers_deliver(struct rpc_delivery *delivery, void *arg)
{
    struct service *service = arg;
    struct workers *w = service->workers;
    (void)pthread_mutex_lock(&w->mutex);
    bool taken = !w->stop && w->n < w->size;
    if (taken) {
        w->ring[(w->first + w->n++) % w->size] = delivery;
        (void)pthread_cond_signal(&w->filled);
    }
    bool stop = w->stop;
    metric_set(frame_metrics.queue, NULL, NULL, (double)w->n);
    (void)pthread_mutex_unlock(&w->mutex);
    if (taken)
        return;
    metric_add(frame_metrics.refused, NULL, NULL, 1);
    rpc_refuse(delivery, CODE_UNAVAILABLE,
               stop ? "this replica is leaving; try again" : "too many requests; try again");
}

static struct rpc_delivery *take(struct workers *w)
{
    (void)pthread_mutex_lock(&w->mutex);
    while (w->n == 0 && !w->stop)
        (void)pthread_cond_wait(&w->filled, &w->mutex);
    struct rpc_delivery *delivery = NULL;
    if (w->n > 0) {
        delivery = w->ring[w->first];
        w->first = (w->first + 1) % w->size;
        w->n--;
        metric_set(frame_metrics.queue, NULL, NULL, (double)w->n);
    }
    (void)pthread_mutex_unlock(&w->mutex);
    return delivery;
}

static void serve(struct worker_thread *t, struct rpc_delivery *delivery, struct arena *arena)
{
    struct service *service = t->all->service;
    struct status st = {0};
    if (service->descriptor->migrations &&
        service_db_session(service, &t->worker.db, &t->db_epoch, &st) != CODE_OK) {
        rpc_refuse(delivery, CODE_UNAVAILABLE, "the database is away; try again");
        return;
    }
    int64_t began_us = clock_mono_us();
    const char *method = NULL;
    enum code code = rpc_serve(service->rpc, delivery, arena, &t->worker, &method);
    metric_add_by(frame_metrics.requests, "method", method, "code", code_name(code), 1);
    metric_observe_ms(frame_metrics.request_ms, "method", method,
                      (double)(clock_mono_us() - began_us) / 1000);
    /* A handler that failed in the middle leaves nothing to the next. */
    if (t->worker.db)
        db_rollback(t->worker.db);
    if (code == CODE_UNAVAILABLE && t->worker.db && db_ensure(t->worker.db, &st) != CODE_OK)
        service_db_lost(service, t->db_epoch);
}

static void *worker_main(void *arg)
{
    struct worker_thread *t = arg;
    struct workers *w = t->all;
    const struct service_descriptor *descriptor = w->service->descriptor;
    struct status st = {0};
    if (descriptor->worker_new)
        t->worker.state = descriptor->worker_new(w->service, &st);
    (void)pthread_mutex_lock(&w->mutex);
    if (descriptor->worker_new && !t->worker.state && w->failure.code == CODE_OK) {
        w->failure = st;
        if (st.code == CODE_OK)
            (void)status_set(&w->failure, CODE_INTERNAL, "a worker thread could not be made");
    }
    w->n_ready++;
    (void)pthread_cond_signal(&w->ready);
    bool failed = w->failure.code != CODE_OK;
    (void)pthread_mutex_unlock(&w->mutex);

    AUTO_ARENA struct arena *arena = arena_new();
    for (struct rpc_delivery *delivery; !failed && (delivery = take(w));) {
        metric_add(frame_metrics.busy, NULL, NULL, 1);
        serve(t, delivery, arena);
        metric_add(frame_metrics.busy, NULL, NULL, -1);
        arena_reset(arena);
    }
    if (descriptor->worker_free && t->worker.state)
        descriptor->worker_free(t->worker.state);
    db_close(t->worker.db);
    return NULL;
}

enum code workers_start(struct service *service, struct workers **ret, struct status *st)
{
    const struct service_config *config = service->config;
    struct workers *w = calloc(1, sizeof(*w));
    if (!w)
        abort();
    w->service = service;
    w->size = (size_t)config->queue_size;
    w->ring = calloc(w->size, sizeof(struct rpc_delivery *));
    w->thread = calloc((size_t)config->workers, sizeof(*w->thread));
    if (!w->ring || !w->thread)
        abort();
    (void)pthread_mutex_init(&w->mutex, NULL);
    (void)pthread_cond_init(&w->filled, NULL);
    (void)pthread_cond_init(&w->ready, NULL);
    metric_set(frame_metrics.workers, NULL, NULL, (double)config->workers);
    metric_set(frame_metrics.busy, NULL, NULL, 0);
    metric_set(frame_metrics.queue, NULL, NULL, 0);
    metric_add(frame_metrics.refused, NULL, NULL, 0);
    for (size_t i = 0; i < (size_t)config->workers; i++) {
        struct worker_thread *t = &w->thread[i];
        t->all = w;
        t->worker.service = service;
        if (pthread_create(&t->thread, NULL, worker_main, t) != 0)
            break;
        t->started = true;
        w->n_threads++;
    }
    (void)pthread_mutex_lock(&w->mutex);
    while (w->n_ready < w->n_threads)
        (void)pthread_cond_wait(&w->ready, &w->mutex);
    struct status failure = w->failure;
    (void)pthread_mutex_unlock(&w->mutex);
    if (w->n_threads == 0)
        (void)status_set(&failure, CODE_RESOURCE_EXHAUSTED, "no worker thread could be started");
    if (failure.code != CODE_OK) {
        workers_stop(w);
        return status_set(st, failure.code, "%s", failure.msg);
    }
    *ret = w;
    return CODE_OK;
}

void workers_stop(struct workers *w)
{
    if (!w)
        return;
    (void)pthread_mutex_lock(&w->mutex);
    w->stop = true;
    (void)pthread_cond_broadcast(&w->filled);
    (void)pthread_mutex_unlock(&w->mutex);
    for (size_t i = 0; i < w->n_threads; i++)
        (void)pthread_join(w->thread[i].thread, NULL);
    (void)pthread_cond_destroy(&w->filled);
    (void)pthread_cond_destroy(&w->ready);
    (void)pthread_mutex_destroy(&w->mutex);
    free(w->ring);
    free(w->thread);
    free(w);
}

enum code worker_call(struct worker *worker, const struct rpc_ctx *ctx, const struct rpc_call *call,
                      ProtobufCMessage **ret, struct status *st)
{
    struct service *service = worker->service;
    struct rpc_call full = *call;
    int64_t left_ms = ctx->deadline_mono_ms - clock_mono_ms();
    if (left_ms < full.timeout_ms)
        full.timeout_ms = left_ms;
    full.traceparent = ctx->traceparent;
    full.assertion = ctx->assertion;
    return rpc_call(service->bus, service->identity, &full, ctx->arena, ret, st);
}
