/* See drift.h. */
#include "kinds/drift.h"

#include <string.h>

#include "base/clock.h"
#include "kinds/installed.h"
#include "kinds/judge.h"
#include "kinds/kinds.h"
#include "kinds/probe.h"

/* A server may have several processes, of which one still has the old certificate: where something differs,
 * or did just now, it is looked at more often. */
#define LOOKS          3
#define LOOKS_IN_DOUBT 16

struct subject {
    const struct policy *policy;
    const struct policy_target *target;
    struct intended intended;
    bool managed, in_doubt;
    struct installed files;
    const char *wanted; /* fingerprint of what should be served */
    struct probe other; /* a look that showed something else; or the last one */
    bool mixed;         /* others showed what is wanted */
};

static void subject_done(struct subject *subject)
{
    installed_done(&subject->files);
    probe_done(&subject->other);
}

/* --- looking ------------------------------------------------------------------------------------------ */

static bool shows(const struct probe *probe, const char *fingerprint)
{
    return probe->tls && strcmp(probe->fingerprint, fingerprint) == 0;
}

/* Until nobody doubts that all show the same, and what it is. */
static void look_around(struct subject *s)
{
    const char *name = s->target->server_name ? s->target->server_name : certificate_host(s->files.leaf);
    struct look_at at = {s->target->endpoint, name, policy_target_starttls(s->target)};
    unsigned looks = s->in_doubt ? LOOKS_IN_DOUBT : LOOKS, right = 0, wrong = 0;
    for (unsigned i = 0; s->target->endpoint && i < looks; i++) {
        struct probe probe;
        (void)task_look(s->policy, &at, LOOK_TIMEOUT_MS, false, &probe);
        right += shows(&probe, s->wanted);
        wrong += probe.tls && !shows(&probe, s->wanted);
        if (wrong > 0)
            looks = LOOKS_IN_DOUBT;
        /* The first that differs is the one to tell of. */
        bool keep = i == 0 || (!shows(&probe, s->wanted) && shows(&s->other, s->wanted));
        probe_done(keep ? &s->other : &probe);
        if (keep)
            s->other = probe;
        if (!probe.connected)
            break; /* not reachable: that is for others to see */
    }
    s->mixed = right > 0 && wrong > 0;
}

/* --- judging ------------------------------------------------------------------------------------------ */

/* A chain that builds to no root that this host knows was perhaps deployed so; but then it is that one. */
static bool chain_differs(const struct subject *s, const Clm__Check *check)
{
    char served[SHA256_HEX_SIZE];
    if (!s->intended.chain[0])
        return false;
    if (strcmp(check->id, "chain") == 0)
        return strcmp(s->files.chain, s->intended.chain) != 0;
    chain_digest(&s->other.chain, served);
    return strcmp(check->id, "served-chain") == 0 && strcmp(served, s->intended.chain) != 0;
}

/* Of a target that this agent never deployed to, its files are somebody else's business. */
static bool matters(const struct subject *s, const Clm__Check *check)
{
    static const char *const of_managed[] = {"file", "key-match", "chain", "served-chain"};
    if (strcmp(check->id, "served") == 0)
        return check->outcome == CLM__CHECK__OUTCOME__FAIL;
    if (!s->managed || check->outcome == CLM__CHECK__OUTCOME__PASS)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(of_managed); i++) {
        if (strcmp(check->id, of_managed[i]) == 0)
            return check->outcome == CLM__CHECK__OUTCOME__FAIL || chain_differs(s, check);
    }
    return false;
}

static void add(struct subject *s, const char *check, const char *reason, const char *served,
                struct arena *arena, Clm__DriftReport *report)
{
    Clm__Drift *drift = arena_alloc(arena, sizeof(*drift));
    clm__drift__init(drift);
    drift->target = arena_strdup(arena, s->target->name);
    drift->check = arena_strdup(arena, check);
    drift->reason = arena_strdup(arena, reason);
    drift->intended_sha256 = arena_strdup(arena, s->wanted);
    drift->served_sha256 = served && served[0] ? arena_strdup(arena, served) : NULL;
    ARENA_PUSH(arena, report->drifts, report->n_drifts, drift);
}

static void judge_subject(struct subject *s, const struct buf *trust, struct arena *arena,
                          Clm__DriftReport *report)
{
    const Clm__Agent__Facts *facts;
    const struct probe *probe = &s->other;
    struct judge_sound judge = {
        .pem = {s->files.pem->data, s->files.pem->len},
        .key = s->files.key,
        .key_expected = s->managed && !s->files.key_closed,
        .key_no_file = true,
        .trust = {trust->data, trust->len},
        .server_name = s->target->server_name,
        .expected = s->wanted,
        .endpoint = probe->tls ? s->target->endpoint : NULL,
        .connected = probe->connected,
        .tls = probe->tls,
        .protocol = probe->protocol,
        .served = &probe->chain,
        .now_ms = clock_wall_ms(),
    };
    if (confine_run(judge_sound, &judge, arena, &facts, NULL) != CODE_OK)
        return;
    for (size_t i = 0; i < facts->n_checks; i++) {
        const Clm__Check *check = facts->checks[i];
        if (!matters(s, check))
            continue;
        bool some = s->mixed && strcmp(check->id, "served") == 0;
        add(s, check->id,
            arena_printf(arena, "%s: %s%s; %s",
                         s->target->endpoint ? s->target->endpoint : s->target->certificate, check->reason,
                         some ? " (some of its processes)" : "",
                         check->remedy ? check->remedy : "look at it"),
            probe->tls ? probe->fingerprint : NULL, arena, report);
        return; /* the first says it */
    }
}

/* False: what is there is not what was deployed, and said so; or nobody knows what is there. */
static bool files_are_right(struct subject *s, const char *state_dir, struct arena *arena,
                            Clm__DriftReport *report)
{
    struct place_at at = {.target = s->target, .state_dir = state_dir, .once = true};
    struct status why = {0};
    enum code code = installed_read(&at, arena, &s->files, &why);
    const char *reason = NULL;
    s->wanted = s->managed ? s->intended.leaf : code == CODE_OK ? s->files.leaf->fingerprint_sha256 : "";
    if (code == CODE_NOT_FOUND)
        reason = arena_printf(arena, "%s holds no certificate any more", s->target->certificate);
    else if (code != CODE_OK)
        reason = arena_printf(arena, "%s holds no certificate any more: %s", s->target->certificate, why.msg);
    else if (strcmp(s->files.leaf->fingerprint_sha256, s->wanted) != 0)
        reason =
            arena_printf(arena, "%s was overwritten: it holds %.16s... and not %.16s..., which was deployed",
                         s->target->certificate, s->files.leaf->fingerprint_sha256, s->wanted);
    bool known = code != CODE_INTERNAL && !code_info(code)->retryable;
    if (reason && s->managed && known)
        add(s, "file",
            arena_printf(arena, "%s; renew%s, or deploy again", reason,
                         code == CODE_OK ? "" : " with its names"),
            NULL, arena, report);
    return !reason;
}

static bool was_told(const Clm__DriftReport *before, const char *target)
{
    for (size_t i = 0; before && i < before->n_drifts; i++) {
        if (strcmp(before->drifts[i]->target, target) == 0)
            return true;
    }
    return false;
}

static void check_target(const struct policy *policy, const struct policy_target *target,
                         const char *state_dir, bool in_doubt, const struct buf *trust, struct arena *arena,
                         Clm__DriftReport *report)
{
    CLEANUP(subject_done) struct subject s = {.policy = policy, .target = target, .in_doubt = in_doubt};
    s.managed = intended_get(state_dir, target->name, &s.intended);
    if (!files_are_right(&s, state_dir, arena, report))
        return;
    look_around(&s);
    judge_subject(&s, trust, arena, report);
}

void drift_check(const struct policy *policy, const char *state_dir, const Clm__DriftReport *before,
                 struct arena *arena, Clm__DriftReport *ret)
{
    AUTO_BUF struct buf trust = {0};
    clm__drift_report__init(ret);
    trust_load(state_dir, &trust);
    /* What is far away comes last: it may keep the others waiting. */
    for (unsigned far = 0; far <= 1; far++) {
        size_t n = 0;
        for (struct policy_target **t = policy->targets; t && *t && n < DRIFT_TARGETS_MAX; t++, n++) {
            if (far == ((*t)->format == STORE_KUBERNETES))
                check_target(policy, *t, state_dir, was_told(before, (*t)->name), &trust, arena, ret);
        }
    }
}
