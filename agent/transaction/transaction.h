/*
 * Deploying is a transaction (DESIGN section 7): afterwards the new certificate is served, or the old one
 * still is. Every step is journalled before it is done, so that a run that was cut off at any point is
 * finished or undone by the next one. Runs in a task's child; blocking.
 */
#ifndef CLM_AGENT_TRANSACTION_TRANSACTION_H
#define CLM_AGENT_TRANSACTION_TRANSACTION_H

#include "kinds/kinds.h"

struct change { /* borrowed */
    const struct policy_target *target;
    struct bytes chain_pem;   /* foreign, any order */
    struct bytes root;        /* DER that it must build to; empty: see judge.h */
    const struct secret *key; /* NULL: the key in place stays */
    char *const *names;       /* that it must cover, beside the target's server_name */
    size_t n_names;
};

/* Fills in run->result and run->message. An error means that nothing was changed, but for DATA_LOSS: the
 * files could neither be brought to the new nor back to the old state; the agent should enter safe mode. */
enum code transaction_run(struct task_run *run, const struct change *change,
                          Clm__Receipt__Outcome *ret_outcome, struct status *st) MUST_CHECK;

/* Takes away what a run that was cut off before it changed files had put aside; nothing if there was none. */
void transaction_forget(struct task_run *run, const struct policy_target *target);

/* True if an earlier run came as far as changing files: then transaction_resume is what is left to do. */
bool transaction_begun(const struct task_run *run);
/* The target of this run is not to be had, st says why: DATA_LOSS if its files may be between two states. */
enum code transaction_stranded(const struct task_run *run, struct status *st) MUST_CHECK;
enum code transaction_resume(struct task_run *run, const struct policy_target *target,
                             Clm__Receipt__Outcome *ret_outcome, struct status *st) MUST_CHECK;

#endif
