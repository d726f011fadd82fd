/*
 * One task in one short-lived child of exec. The child has the policy, the order and the task's journal, no
 * task key and no connection; what it needs of the platform it asks for over its channel. If it dies without
 * a word, the journal says how far it was and the next run resumes.
 */
#ifndef CLM_AGENT_EXEC_RUNNER_H
#define CLM_AGENT_EXEC_RUNNER_H

#include "agent/exec/state.h"
#include "agent/policy/policy.h"
#include "loop/loop.h"
#include "proto/agent.pb-c.h"
#include "proto/envelope.pb-c.h"

struct runner;

struct runner_result {
    bool died; /* without a word: resume it */
    Clm__Receipt__Outcome outcome;
    bool retryable;
    bool data_loss; /* neither done nor undone */
    const char *message;
    struct bytes result; /* encoded TaskResult; borrowed */
};

struct runner_config {
    struct loop *loop;
    struct agent_state *state;
    const struct policy *policy;
    const char *task_id;
    uint32_t attempt;
    struct bytes order; /* encoded TaskOrder */
    bool resume;
    int64_t timeout_ms; /* then it is killed */
    void (*on_progress)(const char *phase, uint32_t permille, const char *message, void *arg);
    void (*on_sign)(struct bytes csr, void *arg);
    /* Once, after the child was reaped. The runner may be freed inside. */
    void (*on_done)(const struct runner_result *result, void *arg);
    void *arg;
};

enum code runner_start(const struct runner_config *config, struct runner **ret, struct status *st) MUST_CHECK;
/* The answer to on_sign; root is borrowed. response NULL: st says why not. */
void runner_issued(struct runner *runner, const Clm__SignResponse *response, struct bytes root,
                   const struct status *st);
/* Asks the child to end before its first effect. */
void runner_cancel(struct runner *runner);
void runner_kill(struct runner *runner);
void runner_free(struct runner *runner); /* kills and reaps if it still runs */

#endif
