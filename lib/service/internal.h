/* What the files of lib/service share. */
#ifndef CLM_SERVICE_INTERNAL_H
#define CLM_SERVICE_INTERNAL_H

#include <pthread.h>

#include "base/id.h"
#include "bus/micro.h"
#include "loop/loop.h"
#include "service/service.h"

struct admin;    /* admin.c */
struct workers;  /* worker.c */
struct relay;    /* relay.c */
struct consumer; /* consumer.c */

#define SERVICE_PERIODIC_MAX 16
#define RETRY_MS             500

struct periodic {
    struct service *service;
    const char *name;
    int64_t interval_ms;
    bool exclusive;
    enum code (*work)(struct worker *worker, struct status *st);
    pthread_t thread;
    bool started;
};

#define SERVICE_RENEWALS_MAX 4
#define RENEWAL_LOOK_MS      500

struct own { /* what the renewal thread looks after */
    struct renewal renewal;
    struct credential current; /* written by the renewal thread, under the service's mutex */
    bool ours;                 /* of the platform's CA: renewed */
    int64_t due_wall_ms, look_wall_ms;
    enum code said;
};

struct service {
    const struct service_descriptor *descriptor;
    void *config; /* begins with struct service_config */
    struct config_key *keys;
    struct key *key; /* of the identity that the process began with */
    struct der_list roots;
    struct own own[SERVICE_RENEWALS_MAX]; /* the first is the identity */
    size_t n_own;
    pthread_t renewals;
    bool renewing;
    char trust_domain[256];
    char instance_id[UUID_TEXT_SIZE];
    struct bus *bus;
    struct bus_identity *identity;
    void *state;
    int exit_code;

    struct loop *loop;
    struct loop_signal *sigterm, *sigint;
    struct loop_timer *look; /* readiness, once a second */
    struct admin *admin;

    pthread_t supervisor;
    struct rpc_server *rpc;
    struct micro_about about;
    struct micro *micro;
    struct workers *workers;
    struct relay *relay;
    struct consumer *consumer[BUS_CONSUMERS_MAX];
    struct periodic periodic[SERVICE_PERIODIC_MAX];
    size_t n_periodic;

    pthread_mutex_t mutex; /* of what is below */
    pthread_cond_t change; /* draining began */
    bool draining, started;
    bool db_up;
    unsigned db_epoch;  /* raised when a session was found lost: the others of that time are lost, too */
    unsigned bus_epoch; /* raised with each connect */
    bool said_ready;    /* main thread only */
    char said_why[256];
};

static inline bool is_away(enum code code)
{
    return code == CODE_UNAVAILABLE || code == CODE_DEADLINE_EXCEEDED;
}

/* Serves until it is told to leave; the exit code. */
int service_serve(struct service *service);
/* Waits at most ms, less if draining begins; true when draining. */
bool service_wait(struct service *service, int64_t ms);
/* Opens *db if it is NULL, replaces a session known to be lost; keeps the readiness of the database. */
enum code service_db_session(struct service *service, struct db **db, unsigned *epoch,
                             struct status *st) MUST_CHECK;
/* A session of that epoch was found lost. */
void service_db_lost(struct service *service, unsigned epoch);
/* Why this replica should get no requests now; true when it should. */
bool service_is_ready(struct service *service, char *why, size_t size);
/* Key of a session advisory lock out of a name; the schema keeps services of one database apart. */
int64_t service_lock_key(const struct service *service, const char *name);

enum code periodic_start(struct periodic *p, struct status *st) MUST_CHECK;
void periodic_stop(struct periodic *p); /* draining has begun; waits for its round to end */

enum code workers_start(struct service *service, struct workers **ret, struct status *st) MUST_CHECK;
void workers_deliver(struct rpc_delivery *delivery, void *arg); /* arg: struct service; on a library thread */
void workers_stop(struct workers *workers);                     /* finishes what is queued */

enum code relay_start(struct service *service, struct relay **ret, struct status *st) MUST_CHECK;
void relay_wake(struct relay *relay); /* the bus is there again, or we leave */
void relay_stop(struct relay *relay);

enum code consumer_start(struct service *service, const char *durable, struct consumer **ret,
                         struct status *st) MUST_CHECK;
void consumer_stop(struct consumer *consumer);

/* Does a running process exchange what it has for what its files hold now? What the platform's CA gave it
 * stays as long as it renews itself; a certificate of another CA is somebody's wish. */
bool renewal_takes_up(const struct own *own, const struct credential *found, bool found_is_ours);
enum code renewals_start(struct service *service, struct status *st) MUST_CHECK;
void renewals_stop(struct service *service);
void renewals_free(struct service *service);

enum code admin_new(struct service *service, struct loop *loop, const char *listen, struct admin **ret,
                    struct status *st) MUST_CHECK;
void admin_free(struct admin *admin);

/* Metrics of the frame itself, made once by service_main. */
struct frame_metrics {
    struct metric *requests, *request_ms, *queue, *refused, *workers, *busy;
    struct metric *relayed, *outbox, *outbox_lag, *stream_fill, *consumed, *parked, *ready, *certificate_ends;
};
extern struct frame_metrics frame_metrics;

#endif
