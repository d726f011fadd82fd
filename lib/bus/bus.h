/*
 * The bus: NATS, hidden. Two connections a process: one that flushes each lone message at once (requests,
 * replies, wakes), one for bulk (JetStream). Reconnects for ever by itself; bus_ready says whether it is
 * there now. Callbacks run on library threads: they only hand over.
 */
#ifndef CLM_BUS_BUS_H
#define CLM_BUS_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/secret.h"
#include "base/status.h"
#include "pki/signed.h"
#include "wire/wire.h"

struct bus;

/* Who we are on the bus. The name is also the user. */
struct bus_config {
    const char *url;           /* "tls://127.0.0.1:4222" */
    const char *ca_file;       /* PEM of the bus CA */
    const char *service;       /* "registry", "bootstrap", "tasks", "gateway" */
    const char *password_file; /* 0600; from clm-bootstrap init */
};
/* Does not wait for the server: connects in the background, for ever. */
enum code bus_new(const struct bus_config *config, struct bus **ret, struct status *st) MUST_CHECK;
void bus_free(struct bus *bus); /* drains first, at most 2 s */
bool bus_ready(const struct bus *bus);
/* The client library gave up: it does so when the server refuses our credentials twice. Only a new process
 * helps. */
bool bus_given_up(const struct bus *bus);
/* Called on a library thread whenever readiness changes. */
void bus_on_ready(struct bus *bus, void (*on_ready)(bool ready, void *arg), void *arg);

/* Plain messages: wakes and ticks. The callback runs on a library thread. */
struct bus_sub;
enum code bus_publish(struct bus *bus, const char *subject, const void *data, size_t len,
                      struct status *st) MUST_CHECK;
enum code bus_subscribe(struct bus *bus, const char *subject,
                        void (*on_message)(const char *subject, const void *data, size_t len, void *arg),
                        void *arg, struct bus_sub **ret, struct status *st) MUST_CHECK;
void bus_unsubscribe(struct bus_sub *sub);
/* Rises when messages of the subscription may have passed it by: the connection was away, be it for an
 * instant, or the callback was too slow. */
uint64_t bus_sub_losses(const struct bus_sub *sub);

#define BUS_SUBJECT_WAKE "clm.wake"          /* payload: agent ids, one a line */
#define BUS_SUBJECT_TICK "clm.tick.registry" /* once a second; payload: wall clock in ms, decimal */
#define BUS_SUBJECT_FEED "clm.feed"          /* every event again, from JetStream, with its place there */

/* ---- assertions and authority (assertion.c) --------------------------------------------------------------
 */

/* Bits of Role, as in method tables: ROLE_BIT(CLM__ROLE__OPERATOR). */
#define ROLE_BIT(role) (1u << (unsigned)(role))
/* Everyone who may do at least this: admin ⊃ operator ⊃ viewer; auditor may view. */
#define ROLES_ADMIN    ROLE_BIT(3)
#define ROLES_OPERATOR (ROLE_BIT(2) | ROLE_BIT(3))
#define ROLES_VIEWER   (ROLE_BIT(1) | ROLE_BIT(2) | ROLE_BIT(3) | ROLE_BIT(4))
#define ROLES_AUDITOR  (ROLE_BIT(3) | ROLE_BIT(4)) /* the audit log: not for every viewer */

/* A service's own signing identity and the trust anchors for the others'. Borrowed keys; use is
 * mutex-protected. */
struct bus_identity;
enum code bus_identity_new(const struct key *key, struct bytes cert, const struct der_list *intermediates,
                           const struct der_list *roots, struct bus_identity **ret,
                           struct status *st) MUST_CHECK;
/* Signs with another key and certificate from now on. The key is taken, even when this fails. Any thread. */
enum code bus_identity_replace(struct bus_identity *identity, struct key *key /* taken */, struct bytes cert,
                               struct status *st) MUST_CHECK;
void bus_identity_free(struct bus_identity *identity);

struct actor {      /* who is behind a request; strings live in the request's arena */
    const char *id; /* "api-key:…"; "" if nobody (a service or an agent) */
    const char *name;
    unsigned roles; /* ROLE_BITs */
    const char *label_selector;
};
/* The registry makes them; everybody verifies. `assertion` is an encoded SignedBytes. */
enum code assertion_make(struct bus_identity *identity, const struct actor *actor, int64_t life_ms,
                         struct arena *arena, struct bytes *ret, struct status *st) MUST_CHECK;
enum code assertion_verify(struct bus_identity *identity, struct bytes assertion, struct arena *arena,
                           struct actor *ret, struct status *st) MUST_CHECK;
/* Event bodies marked authority carry the sender's SignedBytes in header Clm-Authority, too. */
enum code authority_make(struct bus_identity *identity, const char *subject, const char *message_id,
                         int64_t deadline_at_ms, struct bytes body, struct arena *arena, struct bytes *ret,
                         struct status *st) MUST_CHECK;
enum code authority_verify(struct bus_identity *identity, struct bytes authority, const char *subject,
                           const char *message_id, struct bytes body, struct arena *arena,
                           char ret_service[64], struct status *st) MUST_CHECK;

/* ---- requests (rpc_client.c) -----------------------------------------------------------------------------
 */

struct rpc_call {
    const char *service; /* "tasks" */
    const ProtobufCServiceDescriptor *descriptor;
    const char *method; /* "CreateTask" */
    const ProtobufCMessage *request;
    int64_t timeout_ms;      /* the relative deadline that travels along */
    const char *traceparent; /* may be NULL: a new trace */
    struct bytes assertion;  /* the operator's, or empty */
    bool authority;          /* sign with our identity */
};
/* Blocking, for worker threads. The reply is checked and lives in the arena. */
enum code rpc_call(struct bus *bus, struct bus_identity *identity, const struct rpc_call *call,
                   struct arena *arena, ProtobufCMessage **ret, struct status *st) MUST_CHECK;
/* For event loops: returns at once; on_reply runs on a library thread exactly once (reply, error or timeout)
 * and owns the reply's arena, which it frees when done. reply is NULL unless st->code is CODE_OK. */
void rpc_call_async(struct bus *bus, struct bus_identity *identity, const struct rpc_call *call,
                    void (*on_reply)(struct arena *arena, ProtobufCMessage *reply, const struct status *st,
                                     void *arg),
                    void *arg);

/* ---- serving (rpc_server.c) ------------------------------------------------------------------------------
 */

struct rpc_delivery; /* one request as it came; handed to a worker */

/* Bits of services that may call; SENDER_ANY for those that need no sender signature. */
enum rpc_sender { SENDER_GATEWAY = 1, SENDER_REGISTRY = 2, SENDER_BOOTSTRAP = 4, SENDER_TASKS = 8 };
#define SENDER_ANY 0u

struct rpc_ctx {
    struct arena *arena;    /* of this request; the reply may point into it */
    struct actor actor;     /* empty unless the method's roles asked for one */
    struct bytes assertion; /* to forward with calls of our own on the operator's behalf */
    const char *sender;     /* verified service name of an authority method; "" else */
    const char *traceparent;
    int64_t deadline_mono_ms;
    void *worker; /* what the worker thread owns: see lib/service */
};

/* One row of a service's method table; the row order is free, rpc_server_new checks that every method has
 * one. Who may call it stands in access.c. */
struct rpc_method {
    const char *name; /* as in the .proto */
    enum code (*handler)(struct rpc_ctx *ctx, const void *request, void *response, struct status *st);
};

struct rpc_server;
/* on_delivery runs on a library thread: queue it, or answer at once with rpc_refuse (queue full →
 * UNAVAILABLE). */
enum code rpc_server_new(struct bus *bus, struct bus_identity *identity, const char *service,
                         const ProtobufCServiceDescriptor *descriptor, const struct rpc_method *methods,
                         size_t n_methods, void (*on_delivery)(struct rpc_delivery *delivery, void *arg),
                         void *arg, struct rpc_server **ret, struct status *st) MUST_CHECK;
void rpc_server_stop(struct rpc_server *server); /* no further deliveries */
void rpc_server_free(struct rpc_server *server);
/* On a worker thread: drops what is past its deadline, unpacks and checks, verifies assertion and authority,
 * runs the handler, answers, frees the delivery. Returns what was answered, for metrics; *ret_method names
 * it. */
enum code rpc_serve(struct rpc_server *server, struct rpc_delivery *delivery, struct arena *arena,
                    void *worker, const char **ret_method);
void rpc_refuse(struct rpc_delivery *delivery, enum code code, const char *message);

/* How the i-th method has fared since the start, i < rpc_server_n_methods; any thread. */
struct rpc_stats {
    const char *method;
    uint64_t n_requests, n_errors, busy_ns; /* served, of these not with OK, time in workers */
    enum code last_error;                   /* CODE_OK: none yet */
};
const char *rpc_server_service(const struct rpc_server *server);
size_t rpc_server_n_methods(const struct rpc_server *server);
void rpc_server_stats(const struct rpc_server *server, size_t i, struct rpc_stats *ret);

/* ---- events (events.c) -----------------------------------------------------------------------------------
 */

#define BUS_STREAM "CLM_EVENTS"

/* Makes or updates the stream and every durable of the table in users.c; for the bus admin. max_bytes and
 * replicas 0: as they are, or 1 GiB and one. */
enum code bus_setup(const char *url, const char *ca_file, const char *admin_password_file, int64_t max_bytes,
                    unsigned replicas, struct status *st) MUST_CHECK;

struct event_to_publish {
    const char *id, *subject;
    struct bytes body, authority; /* authority may be empty */
    uint64_t stream_seq;          /* out */
};
/* Publishes a batch with Nats-Msg-Id, all at once and in order, and waits for all acknowledgements. What was
 * acknowledged has its stream_seq, also when others failed. Ids are unique among them. */
enum code events_publish(struct bus *bus, struct event_to_publish *events, size_t n, int64_t timeout_ms,
                         struct status *st) MUST_CHECK;
/* The stream sequence up to which every durable that reads this service's events has acknowledged them. */
enum code events_ack_floor(struct bus *bus, uint64_t *ret_seq, struct status *st) MUST_CHECK;
/* Creation time and last sequence, for the relay's check after a reconnect. */
enum code events_stream_state(struct bus *bus, int64_t *ret_created_ms, uint64_t *ret_last_seq,
                              struct status *st) MUST_CHECK;

/* How full the stream is, 0 to 1. It refuses what does not fit. */
enum code events_stream_fill(struct bus *bus, double *ret, struct status *st) MUST_CHECK;

struct event_message {
    const char *id, *subject;
    struct bytes body, authority;
    uint64_t stream_seq;
};
/* Events as they are published, from now on, without a durable: for what keeps a projection in memory and
 * reads a snapshot when it may have missed some. on_event runs on a library thread. stream_seq is 0. */
enum code events_watch(struct bus *bus, const char *subject,
                       void (*on_event)(const struct event_message *event, void *arg), void *arg,
                       struct bus_sub **ret, struct status *st) MUST_CHECK;

/* Events in the order of the stream, once each, with their stream_seq, from now on: what shows them needs no
 * durable of its own. Where a number is missing, or nothing comes though the stream has grown, events_read
 * has it. */
enum code events_feed(struct bus *bus, void (*on_event)(const struct event_message *event, void *arg),
                      void *arg, struct bus_sub **ret, struct status *st) MUST_CHECK;
/* The first event at stream_seq `seq` or behind it whose subject is one of `subject` ("clm.event.>"), into
 * the arena; NOT_FOUND if there is none yet. Blocks. */
enum code events_read(struct bus *bus, const char *subject, uint64_t seq, struct arena *arena,
                      struct event_message *ret, struct status *st) MUST_CHECK;
#define EVENTS_ALL "clm.event.>"

struct event_batch; /* pulled messages of a durable, not yet acknowledged */
struct event_consumer;
enum code event_consumer_new(struct bus *bus, const char *durable, struct event_consumer **ret,
                             struct status *st) MUST_CHECK;
/* Waits up to timeout_ms; *ret_batch has n >= 0 messages. */
enum code event_consumer_pull(struct event_consumer *consumer, size_t max, int64_t timeout_ms,
                              struct event_batch **ret_batch, struct status *st) MUST_CHECK;
size_t event_batch_count(const struct event_batch *batch);
const struct event_message *event_batch_get(const struct event_batch *batch, size_t i);
void event_batch_ack(struct event_batch *batch, size_t i); /* after the commit that applied it */
void event_batch_free(struct event_batch *batch);          /* what was not acknowledged comes again */
void event_consumer_free(struct event_consumer *consumer);

/* ---- users (users.c) -------------------------------------------------------------------------------------
 */

/* One row a bus user. Rights on the own inboxes, on the own service's requests and on the JetStream API of
 * the own durables are derived from the row. The nats-server configuration that clm-bootstrap init writes and
 * the durables that bus_setup makes both come from this table. */
#define BUS_SUBJECTS_MAX  128
#define BUS_CONSUMERS_MAX 4
struct bus_user {
    const char *name;
    bool serves;                        /* queue-subscribes clm.rpc.<name>.* */
    bool emits;                         /* publishes clm.event.<name>.> and looks after the stream's state */
    bool reads;                         /* may read any event of the stream, by its place in it */
    const char *call[BUS_SUBJECTS_MAX]; /* "bootstrap.CreateToken": the methods that it really calls */
    const char *publish[BUS_SUBJECTS_MAX];   /* plain subjects */
    const char *subscribe[BUS_SUBJECTS_MAX]; /* plain subjects */
    /* NATS 2.9 gives a consumer one filter subject: a durable for each origin, named <service>_<origin>. */
    struct bus_consumer {
        const char *durable, *filter;
    } consumer[BUS_CONSUMERS_MAX];
};
extern const struct bus_user bus_users[];               /* ended by name NULL; the last is "admin" */
const struct bus_user *bus_user_find(const char *name); /* NULL if there is none */
/* Writes the `authorization { … }` block; passwords in the order of bus_users, letters, digits, '-' and '_'
 * only. */
enum code bus_users_conf(const struct secret *const *passwords, struct buf *out,
                         struct status *st) MUST_CHECK;

#endif
