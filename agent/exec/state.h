/*
 * The state directory of exec: who this installation is, what it trusts, and the task key.
 *
 *   <state>/lock                held by the running exec and the children that run tasks
 *   <state>/agent.id            StoredIdentity; written last at enrolment, so its presence is the commit
 *   <state>/starts              how the last starts ended
 *   <state>/roots.pem           what the agent trusts
 *   <state>/task-<n>.key|.pem   task key (0600) and its chain, by generation
 *   <state>/identity-<n>.pem    chain of the identity certificate; its key is net's alone
 *   <state>/audit-head          newest head of the platform's audit log that held (SignedAuditHead)
 *   <state>/audit-cosigned      when this host last co-signed one
 *   <state>/scope               epoch and version of the newest scope that the platform signed
 *   <state>/link                how the gateway was reached last, for people
 *   <state>/net/                net's own directory: identity-<n>.key
 *   <state>/journal/ backup/    0700
 */
#ifndef CLM_AGENT_EXEC_STATE_H
#define CLM_AGENT_EXEC_STATE_H

#include "base/buf.h"
#include "base/id.h"
#include "pki/cert.h"

/* Frees what is there, then copies. */
static inline void der_replace(struct der *der, struct bytes bytes)
{
    der_done(der);
    *der = der_dup(bytes);
}

struct agent_state {
    char *dir, *journal_dir, *net_dir;
    int lock_fd;
    /* Of an enrolled agent; agent_id is "" before. */
    char agent_id[UUID_TEXT_SIZE];
    uint32_t generation;
    bool confirmed;        /* of this generation */
    int64_t adopted_at_ms; /* when this generation became ours; wall */
    char gateway[256], trust_domain[256];
    struct der_list roots, task_chain, identity_chain;
    struct key *task_key;
    /* The generation before, for envelopes that were sealed to it; old_task_key NULL: there is none. */
    uint32_t old_generation;
    struct key *old_task_key;
    struct der_list old_task_chain;
};

/* Makes the directories and takes the lock: FAILED_PRECONDITION if another agent runs on them.
 * net_uid/net_gid own net's directory when we are root; (uid_t)-1 keeps ours. */
enum code state_open(const char *dir, uid_t net_uid, gid_t net_gid, struct agent_state **ret,
                     struct status *st) MUST_CHECK;
/* Without lock or change, for `status`. NOT_FOUND if nothing was ever enrolled there. */
enum code state_peek(const char *dir, struct agent_state **ret, struct status *st) MUST_CHECK;
void state_free(struct agent_state *state); /* wipes the key */

/* Reads what enrolment stored; NOT_FOUND if there was none. */
enum code state_load(struct agent_state *state, struct status *st) MUST_CHECK;
/* Makes the task key of a generation, or reads the one that is there. Fsynced before it returns. */
enum code state_task_key(struct agent_state *state, uint32_t generation, struct status *st) MUST_CHECK;
/* The same for a generation to come: state is not changed. */
enum code state_next_key(const struct agent_state *state, uint32_t generation, struct key **ret,
                         struct status *st) MUST_CHECK;
/* Stores what state holds now, agent.id last; it counts as adopted now. */
enum code state_save(struct agent_state *state, struct status *st) MUST_CHECK;
/* Moves to the next generation: its files, then agent.id by rename. Takes the key and empties the chains; the
 * present key becomes the old one. On failure nothing has changed, in memory or in effect. */
enum code state_adopt(struct agent_state *state, uint32_t generation, struct key **key,
                      struct der_list *task_chain, struct der_list *identity_chain,
                      struct status *st) MUST_CHECK;
/* Deletes what is left of generations before ours, once every envelope for them is past its end. */
void state_prune(struct agent_state *state, int64_t now_ms);
enum code state_set_confirmed(struct agent_state *state, struct status *st) MUST_CHECK;
enum code state_set_unconfirmed(struct agent_state *state, struct status *st) MUST_CHECK;
/* UNAVAILABLE with the reason if the directory cannot be written to. */
enum code state_check_writable(const struct agent_state *state, struct status *st) MUST_CHECK;
/* Notes that the agent runs, and counts how often in the last window_ms it ended without saying so. */
enum code state_note_start(const struct agent_state *state, int64_t now_ms, int64_t window_ms,
                           unsigned *ret_crashes, struct status *st) MUST_CHECK;
/* For `status` and `doctor`: whether the gateway was reached last, and if not, why. Best effort. */
void state_note_link(const struct agent_state *state, bool connected, const char *message);
/* What was noted: "connected" or "not connected: …", since when; NOT_FOUND. */
enum code state_read_link(const struct agent_state *state, struct buf *ret, int64_t *ret_since_ms,
                          struct status *st) MUST_CHECK;
/* A clean end. */
enum code state_note_stop(const struct agent_state *state, struct status *st) MUST_CHECK;
/* In a child that must not have it. */
void state_forget_key(struct agent_state *state);

#endif
