/*
 * What the files of the check-ins share; nobody else includes it. Life of a check-in (struct agent.state):
 * NONE → QUEUED (wants leases) → ASKED (in the lease request under way) → HELD → … → NONE, answered. A wake
 * while ASKED asks once more, because the task may be younger than the statement that looked. What would end
 * the hold while ASKED waits for the answer, so that no lease is handed to nobody. The table of agents, what
 * comes in and what is answered is in checkins.c, the leases in checkins_lease.c, what a check-in brings for
 * others in checkins_proof.c.
 */
#ifndef CLM_GATEWAY_CHECKINS_PARTS_H
#define CLM_GATEWAY_CHECKINS_PARTS_H

#include "base/arena.h"
#include "base/id.h"
#include "gateway/batch.h"
#include "gateway/checkins.h"
#include "gateway/edge.h"
#include "gateway/heartbeats.h"
#include "proto/tasks.pb-c.h"

#define CALL_TIMEOUT_MS 5000
#define RETRY_MS        1000

enum checkin_state { CHECKIN_NONE, CHECKIN_QUEUED, CHECKIN_ASKED, CHECKIN_HELD };

struct agent {
    struct agent *next_in_bucket;
    struct agent *prev, *next; /* in the lease queue, while QUEUED */
    struct checkins *checkins;
    struct http_connection *connection;
    char id[UUID_TEXT_SIZE];
    uint32_t generation;
    bool first_done; /* this connection's first check-in was leased for */

    struct http_request *request; /* the check-in, unless NONE */
    enum checkin_state state;
    bool wake_again, ending, safe_mode, confirming;
    uint32_t free_slots;
    uint64_t audit_size; /* of the newest head of the audit log that it has, and its tree; "": not said */
    char audit_tree[UUID_TEXT_SIZE];
    uint32_t confirmed; /* to be told with the answer; valid if has_confirmed */
    bool has_confirmed;
    int64_t cosigned_at_ms; /* to be told with the next answer; 0: nothing */
    bool cosigning;
    size_t asked_index;       /* in checkins.asked, while ASKED */
    struct arena *held_arena; /* of held, NULL if the agent holds nothing */
    Clm__HeldTask **held;
    size_t n_held;
    struct loop_timer *hold_timer;
};

struct checkins {
    struct edge *edge;
    struct agent **buckets;
    size_t n_buckets, n_agents, n_held;

    struct agent *queue_first, *queue_last;
    size_t n_queued;
    struct agent **asked; /* of the lease request under way; NULL where the agent went */
    size_t n_asked;
    struct batch *leases;

    struct heartbeats *heartbeats;
    struct loop_timer *period;
};

/* checkins.c */
/* NULL when there is none; others of the same bucket follow by next_in_bucket. */
struct agent *checkins_bucket(const struct checkins *checkins, const char *id);
/* The one place where a check-in changes its state. */
void checkin_set_state(struct agent *agent, enum checkin_state state);
/* Ends the hold; work NULL: there is none. */
void checkin_answer(struct agent *agent, const Clm__AgentDeliveries *work);

/* checkins_lease.c */
void leases_start(struct checkins *checkins);
void leases_stop(struct checkins *checkins);
void checkin_want_leases(struct agent *agent, bool urgent);

/* checkins_proof.c */
void checkin_confirm(struct agent *agent, ProtobufCBinaryData confirmation);
void checkin_cosign(struct agent *agent, Clm__SignedCosignature *cosignature);

#endif
