/*
 * service_main: what every service is made of. It reads the arguments and the configuration, connects to bus
 * and database, migrates, starts worker threads, the outbox relay, the event consumers and the admin port
 * (/healthz, /readyz, /metrics), tells systemd, and on SIGTERM drains: stops intake, finishes what was taken,
 * leaves.
 *
 *   clm-registry --config /etc/clm/registry.conf            serve
 *   clm-registry --help | --version | --help-config
 *   clm-registry <command> …                                 a one-shot command of the descriptor
 */
#ifndef CLM_SERVICE_SERVICE_H
#define CLM_SERVICE_SERVICE_H

#include "base/config.h"
#include "bus/bus.h"
#include "db/db.h"
#include "service/credential.h"

/* Configuration that all services share; a service's own struct begins with it.
 *   [service] log_level log_format admin_listen workers queue_size state_dir
 *   [identity] key certificate roots        (PEM files made by clm-bootstrap init)
 *   [bus] url ca password_file
 *   [database] conninfo password_file       (absent for the gateway) */
struct service_config {
    char *log_level, *log_format, *admin_listen, *state_dir;
    int64_t workers, queue_size;
    char *identity_key, *identity_certificate, *roots;
    char *bus_url, *bus_ca, *bus_password_file;
    char *db_conninfo, *db_password_file;
};

struct service; /* the running process */

/* What a worker thread has. */
struct worker {
    struct service *service;
    struct db *db; /* NULL in a service without database */
    void *state;   /* from descriptor.worker_new */
};

struct event_handler {
    const char
        *subject;   /* "clm.event.registry.agent.changed", or "clm.event.tasks.task.>"; the first that fits */
    bool authority; /* refuse it without the origin service's signature */
    /* Inside a transaction that also claims the event in the inbox; commits when it returns CODE_OK.
     * INVALID_ARGUMENT parks the event with an alert log; anything else is retried. `event` is a Clm__Event.
     */
    enum code (*apply)(struct worker *worker, struct arena *arena, const void *event, struct status *st);
};

struct service_command {
    const char *name, *help;
    int (*run)(int argc, char **argv, const void *config); /* the exit code; config is loaded */
    bool needs_config;
};

/* For who must notice that its database is older than what it told before. Called in the relay's thread. */
struct stream_place {
    /* Over another connection to the bus or to the database, before anything is published. same: it is the
     * stream that this database wrote to before. */
    enum code (*check)(struct db *tx, bool same, struct status *st);
    /* Our events are in it up to there. */
    enum code (*advance)(struct db *db, int64_t stream_seq, struct status *st);
};

struct service_descriptor {
    const char *name; /* "registry": user, schema, queue group, subject part */
    const char *description;
    const struct config_key *config_keys;  /* own keys, beyond those of every service; may be NULL */
    size_t config_size;                    /* struct whose first member is struct service_config */
    const struct embed *migrations;        /* NULL: no database */
    const ProtobufCServiceDescriptor *rpc; /* NULL: serves no methods (gateway) */
    const struct rpc_method *methods;
    size_t n_methods;
    const struct event_handler *events;     /* ended by subject NULL; NULL for none */
    const struct service_command *commands; /* ended by name NULL; NULL for none */
    const struct stream_place *place;       /* NULL: nobody asks */
    /* After bus and identity exist and the database is migrated, before intake. May start threads of its own.
     * The bus may be away; UNAVAILABLE or DEADLINE_EXCEEDED means: call again in a moment, so it leaves
     * nothing behind then. */
    enum code (*start)(struct service *service, struct status *st);
    void (*stop)(struct service *service);                           /* before bus and database go */
    void *(*worker_new)(struct service *service, struct status *st); /* NULL is an error */
    void (*worker_free)(void *state);
    /* Readiness of its own beside bus and database: true, or why not. */
    bool (*ready)(struct service *service, char why[128]);
};

int service_main(const struct service_descriptor *descriptor, int argc, char **argv);

const void *service_get_config(const struct service *service);
struct bus *service_bus(const struct service *service);
struct bus_identity *service_identity(const struct service *service);
/* The service's own key and chain of now; they change while it runs. A copy, to be freed. */
void service_own_credential(const struct service *service, struct credential *ret);
const struct der_list *service_roots(const struct service *service);
const char *service_instance_id(const struct service *service);  /* UUIDv7 of this run */
const char *service_trust_domain(const struct service *service); /* from the own certificate */
void *service_state(const struct service *service);              /* what start stored */
void service_set_state(struct service *service, void *state);
bool service_draining(const struct service *service);
/* A session of its own for a thread that descriptor.start made. */
enum code service_open_db(const struct service *service, struct db **ret, struct status *st) MUST_CHECK;

/* Events of our own, inside the caller's transaction: packs `event` (id, subject, occurred_at_ms are filled
 * in if absent), writes it to the outbox; the relay publishes and, for authority subjects, signs. */
struct Clm__Event;
enum code service_emit(struct worker *worker, struct Clm__Event *event, struct arena *arena,
                       struct status *st) MUST_CHECK;

/* An event as it came: by its origin's own signature where `signed_by_origin`, of its message's id and
 * subject. INVALID_ARGUMENT: it can never be taken. */
struct event_message;
enum code service_event_open(struct service *service, const struct event_message *message,
                             bool signed_by_origin, struct arena *arena, const struct Clm__Event **ret,
                             struct status *st) MUST_CHECK;

/* A request for the one that ctx serves: with its trace and its operator's assertion, and answered within its
 * deadline if call->timeout_ms is longer. The reply lives in ctx's arena. */
struct rpc_call;
struct rpc_ctx;
enum code worker_call(struct worker *worker, const struct rpc_ctx *ctx, const struct rpc_call *call,
                      ProtobufCMessage **ret, struct status *st) MUST_CHECK;

/* The chain that the CA gives this service for a CSR (DER); profile is of bootstrap.proto's
 * IssueServiceCertificate. */
enum code service_certificate(struct service *service, int profile, struct bytes csr, struct der_list *ret,
                              struct status *st) MUST_CHECK;

/* Periodic work on a thread with an own session, e.g. the registry's status sweep: runs `work` every
 * interval_ms on the replica that holds the advisory lock `name` when exclusive, on each replica otherwise.
 * Call in descriptor.start. */
enum code service_periodic(struct service *service, const char *name, int64_t interval_ms, bool exclusive,
                           enum code (*work)(struct worker *worker, struct status *st),
                           struct status *st) MUST_CHECK;

/* ---- own certificates (renewal.c) -------------------------------------------------------------------------
 */

/* A certificate that clm-bootstrap renews at half life while the process runs. The renewed one is kept as
 * NAME.pem in [service] state_dir and preferred at the next start; files that are replaced are taken up
 * within half a minute. Files with a certificate that is not this service's own (a public one) are used as
 * they are. Strings and arg are borrowed for the life of the process. */
struct renewal {
    const char *name;
    bool tls; /* a server certificate with the names of the present one; false: the signing identity */
    const char *key_path, *certificate_path;
    /* Takes the credential into use; called in service_renewal, then from a thread of its own. */
    enum code (*use)(struct service *service, const struct credential *credential, void *arg,
                     struct status *st);
    void *arg;
};
/* In descriptor.start. */
enum code service_renewal(struct service *service, const struct renewal *renewal,
                          struct status *st) MUST_CHECK;

/* ---- metrics (metrics.c): Prometheus text format ----------------------------------------------------------
 */
struct metric; /* a counter or gauge with up to two labels, or a histogram with one; lock-free to update */
struct metric *metric_counter(const char *name, const char *help);
struct metric *metric_gauge(const char *name, const char *help);
struct metric *metric_histogram_ms(const char *name, const char *help);
void metric_add(struct metric *metric, const char *label_name, const char *label_value,
                double n); /* labels may be NULL */
void metric_add_by(struct metric *metric, const char *name1, const char *value1, const char *name2,
                   const char *value2, double n);
void metric_set(struct metric *metric, const char *label_name, const char *label_value, double n);
void metric_observe_ms(struct metric *metric, const char *label_name, const char *label_value, double ms);
enum code metrics_write(struct buf *out, struct status *st) MUST_CHECK;

#endif
