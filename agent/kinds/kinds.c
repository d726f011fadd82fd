/* The table of task kinds, and what they share. Runs in a task's child. */
#include "kinds/kinds.h"

#include <stdarg.h>
#include <string.h>

#include "base/clock.h"
#include "base/endpoint.h"
#include "kinds/checks.h"
#include "kinds/confine.h"
#include "kinds/probe.h"
#include "scope/scope.h"
#include "stores/store.h"

const struct task_kind task_kinds[] = {
    {CLM__TASK__KIND__DEPLOY, "deploy", deploy_run},
    {CLM__TASK__KIND__RENEW, "renew", renew_run},
    {CLM__TASK__KIND__VALIDATE, "validate", validate_run},
    {CLM__TASK__KIND__DISCOVER, "discover", discover_run},
    {.name = NULL},
};

const struct task_kind *task_kind_find(int kind)
{
    for (const struct task_kind *k = task_kinds; k->name; k++) {
        if ((int)k->kind == kind)
            return k;
    }
    return NULL;
}

static char *format(struct arena *arena, const char *fmt, va_list ap) PRINTF(2, 0);
static char *format(struct arena *arena, const char *fmt, va_list ap)
{
    char text[512];
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    for (char *c = text; *c; c++) {
        if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
            *c = *c == '\n' || *c == '\t' ? ' ' : '?';
    }
    return arena_strdup(arena, text);
}

void task_step(struct task_run *run, const char *name, bool ok, int64_t started_ms, const char *fmt, ...)
{
    Clm__Step *step = arena_alloc(run->arena, sizeof(*step));
    clm__step__init(step);
    va_list ap;
    va_start(ap, fmt);
    step->message = format(run->arena, fmt, ap);
    va_end(ap);
    int64_t took_ms = clock_wall_ms() - started_ms;
    step->name = arena_strdup(run->arena, name);
    step->has_ok = step->has_started_at_ms = step->has_duration_ms = true;
    step->ok = ok;
    step->started_at_ms = started_ms;
    step->duration_ms = took_ms > 0 ? (uint32_t)took_ms : 0;
    ARENA_PUSH(run->arena, run->result->steps, run->result->n_steps, step);
    /* A transaction has about ten steps; how far it got is all that this is meant to show. */
    size_t n = run->result->n_steps;
    if (run->progress)
        run->progress(run, name, n < 10 ? (unsigned)n * 95 : 950, step->message);
}

void task_check(struct task_run *run, const char *id, Clm__Check__Outcome outcome, const char *remedy,
                const char *fmt, ...)
{
    Clm__Check *check = arena_alloc(run->arena, sizeof(*check));
    clm__check__init(check);
    va_list ap;
    va_start(ap, fmt);
    check->reason = format(run->arena, fmt, ap);
    va_end(ap);
    const struct check_row *row = check_find(id);
    check->id = arena_strdup(run->arena, id);
    check->has_severity = row != NULL;
    check->severity = row ? row->severity : 0;
    check->has_outcome = true;
    check->outcome = outcome;
    check->remedy = outcome == CLM__CHECK__OUTCOME__PASS
                        ? NULL
                        : arena_strdup(run->arena, remedy || !row ? remedy : row->remedy);
    ARENA_PUSH(run->arena, run->result->checks, run->result->n_checks, check);
}

void task_message(struct task_run *run, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    run->message = format(run->arena, fmt, ap);
    va_end(ap);
}

static struct scope scope_of(const struct task_run *run)
{
    const Clm__Scope *scope = run->order->scope;
    if (!scope)
        return (struct scope){0};
    return (struct scope){
        .paths = scope->paths,
        .n_paths = scope->n_paths,
        .dns_names = scope->dns_names,
        .n_dns_names = scope->n_dns_names,
    };
}

enum code task_scope_path(const struct task_run *run, const char *path, struct status *st)
{
    struct scope scope = scope_of(run);
    if (!path || scope_allows_path(&scope, path))
        return CODE_OK;
    return status_set(st, CODE_PERMISSION_DENIED, "the agent's scope does not hold the path %.150s", path);
}

enum code task_scope_names(const struct task_run *run, char *const *names, size_t n, struct status *st)
{
    struct scope scope = scope_of(run);
    for (size_t i = 0; i < n; i++) {
        if (!scope_allows_dns_name(&scope, names[i]))
            return status_set(st, CODE_PERMISSION_DENIED, "the agent's scope does not hold the name %.120s",
                              names[i]);
    }
    return CODE_OK;
}

enum code task_find_target(const struct task_run *run, const char *name, const struct policy_target **ret,
                           struct status *st)
{
    TRY(policy_find_target(run->policy, name, ret, st));
    TRY(task_scope_path(run, (*ret)->certificate, st));
    TRY(task_scope_path(run, (*ret)->key, st));
    return task_scope_path(run, (*ret)->chain, st);
}

bool target_is_bundle(const struct policy_target *target)
{
    return !target->key || strcmp(target->key, target->certificate) == 0;
}

const char *target_key_path(const struct policy_target *target)
{
    return target_is_bundle(target) ? target->certificate : target->key;
}

const char *certificate_host(const Clm__CertificateInfo *info)
{
    for (size_t i = 0; i < info->n_dns_names; i++) {
        if (info->dns_names[i][0] != '*')
            return info->dns_names[i];
    }
    return NULL;
}

/* False: the policy does not allow it, says ret->error. */
static bool aim(const struct policy *policy, const struct look_at *at, int64_t timeout_ms, struct probe *ret)
{
    static __thread struct endpoint to; /* outlives the look: probe borrows it */
    struct status st;
    memset(ret, 0, sizeof(*ret));
    if (endpoint_split(at->endpoint, &to, &st) != CODE_OK ||
        policy_allows_probe(policy, to.host, &st) != CODE_OK) {
        (void)snprintf(ret->error, sizeof(ret->error), "%.159s", st.msg);
        return false;
    }
    ret->host = to.host;
    ret->port = to.port_text;
    ret->server_name = at->server_name;
    ret->starttls = at->starttls;
    ret->timeout_ms = timeout_ms;
    return true;
}

bool task_look(const struct policy *policy, const struct look_at *at, int64_t timeout_ms, bool legacy,
               struct probe *ret)
{
    if (!aim(policy, at, timeout_ms, ret))
        return false;
    ret->legacy = legacy;
    probe_run(ret, 1);
    return ret->tls;
}

void task_look_together(const struct policy *policy, const struct look_at *at, int64_t timeout_ms,
                        struct probe *ret, size_t n)
{
    bool allowed = true;
    for (size_t i = 0; i < n; i++)
        allowed = aim(policy, at, timeout_ms, &ret[i]) && allowed;
    if (allowed)
        probe_together(ret, n);
}
