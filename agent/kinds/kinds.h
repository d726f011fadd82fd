/* What the task kinds share with one another, beside kind.h. Runs in a task's child. */
#ifndef CLM_AGENT_KINDS_KINDS_H
#define CLM_AGENT_KINDS_KINDS_H

#include "agent/kinds/kind.h"
#include "agent/kinds/starttls.h"

struct probe;
struct look_at { /* borrowed */
    const char *endpoint, *server_name;
    enum starttls starttls;
};

enum code deploy_run(struct task_run *run, Clm__Receipt__Outcome *ret_outcome, struct status *st);
enum code renew_run(struct task_run *run, Clm__Receipt__Outcome *ret_outcome, struct status *st);
enum code validate_run(struct task_run *run, Clm__Receipt__Outcome *ret_outcome, struct status *st);
enum code discover_run(struct task_run *run, Clm__Receipt__Outcome *ret_outcome, struct status *st);

/* Rows for the inventory, after a transaction that put something there: what lies there and what is served.
 */
void discover_installed(struct task_run *run, const struct policy_target *target,
                        Clm__Receipt__Outcome outcome);

/* run->message, in the arena. */
void task_message(struct task_run *run, const char *fmt, ...) PRINTF(2, 3);

/* PERMISSION_DENIED unless the order's scope holds it; path NULL is fine. */
enum code task_scope_path(const struct task_run *run, const char *path, struct status *st) MUST_CHECK;
enum code task_scope_names(const struct task_run *run, char *const *names, size_t n,
                           struct status *st) MUST_CHECK;
/* A target of the local policy whose paths the scope holds. */
enum code task_find_target(const struct task_run *run, const char *name, const struct policy_target **ret,
                           struct status *st) MUST_CHECK;

bool target_is_bundle(const struct policy_target *target);
const char *target_key_path(const struct policy_target *target);

/* Its first name that a host can have, to ask an endpoint for; NULL: it has none. */
const char *certificate_host(const Clm__CertificateInfo *info);

#define LOOK_TIMEOUT_MS 5000
/* One look at an endpoint, if the policy allows it. True if a certificate was served; ret->error says why
 * not. probe_done(ret) in any case. */
bool task_look(const struct policy *policy, const struct look_at *at, int64_t timeout_ms, bool legacy,
               struct probe *ret);
/* n looks at once. probe_done each. */
void task_look_together(const struct policy *policy, const struct look_at *at, int64_t timeout_ms,
                        struct probe *ret, size_t n);

#endif
