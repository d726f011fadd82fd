/* What the files that know the bus share: the process's state around struct tasks. */
#ifndef CLM_TASKS_APP_H
#define CLM_TASKS_APP_H

#include "service/service.h"
#include "tasks.h"

struct tasks_config {
    struct service_config base;
    int64_t lease_expiry_ms, lease_return_ms;
};

struct waker;

struct app {
    struct tasks tasks; /* its `service` is the struct service */
    struct waker *waker;
    int64_t snapshot_due_mono_ms;
};

struct app *app_of(const struct worker *worker);

/* rpc.c */
extern const struct rpc_method tasks_methods[];
extern const size_t tasks_n_methods;

/* report_rpc.c */
enum code list_reports(struct rpc_ctx *ctx, const void *request, void *response, struct status *st);

/* wake.c: publishes clm.wake. wake_later is for work inside a transaction that is not committed yet; a
 * periodic thread sends those of them that have a READY task. */
struct waker *waker_new(void);
void waker_free(struct waker *waker);
void wake_now(struct tasks *tasks, const char *const *agent_ids, size_t n);
void wake_later(struct app *app, const char *agent_id);
enum code wake_pending(struct worker *worker, struct status *st);

/* certificate.c: a new envelope certificate when one is due. */
enum code certificate_renew_when_due(struct worker *worker, struct status *st);

/* gauges.c */
void gauges_make(void);
enum code gauges_work(struct worker *worker, struct status *st);

/* projection.c */
extern const struct event_handler tasks_events[];
enum code projection_snapshot_when_due(struct worker *worker, struct status *st);
enum code projection_fetch_agent(struct tasks *tasks, struct db *db, struct arena *arena,
                                 const char *agent_id, struct status *st);

#endif
