/*
 * What a task kind is: one function that runs in a child process of exec, for one (task, attempt). exec has
 * already verified the envelope, the scope's operation, the local policy's operation and safe mode; the kind
 * checks the rest (targets, names, paths) against scope and policy. Blocking code.
 */
#ifndef CLM_AGENT_KINDS_KIND_H
#define CLM_AGENT_KINDS_KIND_H

#include "agent/journal.h"
#include "agent/policy/policy.h"
#include "base/arena.h"
#include "pki/der.h"
#include "proto/envelope.pb-c.h"
#include "proto/tasks.pb-c.h"

struct task_run {
    const Clm__TaskOrder *order;
    const Clm__TaskSpec *spec;
    const struct policy *policy;
    struct journal
        *journal; /* of this task; may hold STEPs of an earlier run that was cut off: resume is true then */
    bool resume;
    const char *state_dir;   /* backups go to <state_dir>/backup */
    struct arena *arena;     /* lives until the child ends */
    Clm__TaskResult *result; /* to be filled in; memory from the arena */
    char *message;           /* why it ended so; arena */

    /* Given by exec's runner. sign asks the platform for a certificate: blocks while it is pending (bounded).
     */
    enum code (*sign)(struct task_run *run, struct bytes csr, struct der_list *ret_chain,
                      struct der *ret_root, struct status *st);
    void (*progress)(struct task_run *run, const char *phase, unsigned permille, const char *message);
    bool (*cancelled)(struct task_run *run); /* check between steps, before the first effect only */
    void *runner;
};

struct task_kind {
    Clm__Task__Kind kind;
    const char *name; /* "renew": also the operation's name in the local policy */
    /* Fills run->result and run->message; *ret_outcome. An error return counts as FAILED, retryable if the
     * code is. */
    enum code (*run)(struct task_run *run, Clm__Receipt__Outcome *ret_outcome, struct status *st);
};

extern const struct task_kind task_kinds[]; /* ended by name NULL; kinds.c */
const struct task_kind *task_kind_find(int kind);

/* Adds a step to run->result and reports progress; started_ms from clock_wall_ms(). */
void task_step(struct task_run *run, const char *name, bool ok, int64_t started_ms, const char *fmt, ...)
    PRINTF(5, 6);
void task_check(struct task_run *run, const char *id, Clm__Check__Outcome outcome, const char *remedy,
                const char *fmt, ...) PRINTF(5, 6);

#endif
