/*
 * DISCOVER: which certificates are on this host, which file serves which name on which socket, what other
 * hosts serve. Files below the policy's roots (walk.c; content decides), configurations of known servers
 * (presets/), the listening sockets of this host with the processes that own them (discover_here.c), and
 * network ranges that the policy allows (discover_ranges.c). Foreign bytes are parsed in confined children
 * (findings.c). Reads only; can be cancelled at any time. Runs in a task's child.
 */
#include <string.h>

#include "base/clock.h"
#include "kinds/discovery.h"

#define DEFAULT_MAX  10000
#define SEEN_FILE    "discovery.seen"
#define WALK_WAIT_MS 250

/* --- files -------------------------------------------------------------------------------------------- */

static void on_found(struct discovery *d, struct walk_found *found)
{
    struct finding finding = {.source = CLM__FOUND_CERTIFICATE__SOURCE__FILE,
                              .path = arena_strdup(d->run->arena, found->path),
                              .password = discovery_password(d, found->path),
                              .data = found->data,
                              .len = found->len,
                              .remember = found->settled && !found->known,
                              .key = found->key};
    free(found->path);
    if (found->known)
        findings_add_known(d->findings, finding);
    else
        findings_add(d->findings, finding);
}

/* Reads what the walk finds until it is over; false when it was stopped. */
static bool gather(struct discovery *d, struct walk *walk, uint64_t expected)
{
    int64_t next_look_ms = 0;
    for (;;) {
        struct walk_found found;
        enum walk_state state = walk_next(walk, WALK_WAIT_MS, &found);
        if (state == WALK_END)
            return true;
        if (state == WALK_FOUND)
            on_found(d, &found);
        if (clock_mono_ms() < next_look_ms)
            continue;
        next_look_ms = clock_mono_ms() + WALK_WAIT_MS;
        if (discovery_stopped(d) || findings_full(d->findings))
            return false;
        d->counts = walk_counts(walk);
        discovery_report(d, "files", d->counts.files, expected, "files looked through");
    }
}

/* All that is known now: files in which nothing is, and those in which something was found. */
static void remember(struct discovery *d, const struct walk *walk, const struct seen *former,
                     const char *path)
{
    size_t n_keys, n_found;
    const struct seen_key *keys = walk_keys(walk, &n_keys);
    const struct seen_entry *found = findings_remembered(d->findings, &n_found);
    struct seen_entry *all = calloc(n_keys + n_found + 1, sizeof(*all));
    if (!all)
        abort();
    for (size_t i = 0; i < n_keys; i++)
        all[i].key = keys[i];
    if (n_found)
        memcpy(all + n_keys, found, n_found * sizeof(*all));
    (void)seen_save(former, all, n_keys + n_found, path);
    free(all);
}

static enum code scan_files(struct discovery *d, const struct walk_root *roots, struct status *st)
{
    struct walk walk;
    int64_t started = clock_wall_ms();
    const char *path = arena_printf(d->run->arena, "%s/" SEEN_FILE, d->run->state_dir);
    struct seen *seen = seen_load(path);
    /* More than there are processors: with cold caches most of them wait for the disk. */
    enum code code = walk_start(&walk, roots, seen, WALK_THREADS_MAX, st);
    bool whole = code == CODE_OK && gather(d, &walk, seen_count(seen));
    whole = walk_stop(&walk) && whole;
    if (code == CODE_OK) {
        d->counts = walk_counts(&walk);
        findings_flush(d->findings);
        if (whole)
            remember(d, &walk, seen, path);
        task_step(d->run, "files", whole || d->cancelled || findings_full(d->findings), started,
                  "%llu files looked through, %llu of them unchanged, %llu unreadable",
                  (unsigned long long)d->counts.files, (unsigned long long)d->counts.unchanged,
                  (unsigned long long)d->counts.unreadable);
    }
    walk_done(&walk);
    seen_free(seen);
    return code;
}

static enum code scan_roots(struct discovery *d, struct status *st)
{
    const Clm__DiscoverSpec *spec = d->run->spec->discover;
    const struct policy *policy = d->run->policy;
    const char *const *paths = (const char *const *)spec->roots;
    size_t n = spec->n_roots;
    if (n == 0)
        for (paths = policy_discovery_roots(policy); paths[n]; n++)
            ;
    struct walk_root *roots = arena_array(d->run->arena, n + 1, sizeof(*roots));
    for (size_t i = 0; i < n; i++) {
        if (spec->n_roots > 0)
            TRY(policy_allows_discovery(policy, paths[i], st));
        roots[i] = (struct walk_root){paths[i], spec->n_roots > 0 ? policy_discovery_root_of(policy, paths[i])
                                                                  : paths[i]};
    }
    return scan_files(d, roots, st);
}

/* --- the whole ---------------------------------------------------------------------------------------- */

static void finish(struct discovery *d, bool listening)
{
    Clm__TaskResult *result = d->run->result;
    if (listening)
        discovery_mark_served(d->run);
    result->has_truncated = result->has_files_scanned = result->has_files_unreadable = true;
    result->has_files_unchanged = result->has_keystores_sealed = result->has_endpoints_looked_at = true;
    result->truncated = findings_full(d->findings) || d->counts.full;
    result->files_scanned = (uint32_t)d->counts.files;
    result->files_unreadable = (uint32_t)d->counts.unreadable + findings_unreadable(d->findings);
    result->files_unchanged = (uint32_t)d->counts.unchanged;
    result->keystores_sealed = findings_sealed(d->findings);
    result->endpoints_looked_at = (uint32_t)d->looks;
    task_message(d->run, "%zu certificates%s%s", result->n_certificates,
                 result->truncated ? " (there are more)" : "",
                 result->keystores_sealed
                     ? arena_printf(d->run->arena, "; %u keystores want a password", result->keystores_sealed)
                     : "");
}

enum code discover_run(struct task_run *run, Clm__Receipt__Outcome *ret_outcome, struct status *st)
{
    const Clm__DiscoverSpec *spec = run->spec->discover;
    if (!spec)
        return status_set(st, CODE_INVALID_ARGUMENT, "the task has no discover specification");
    bool listening = !spec->has_listening || spec->listening;
    bool files = !spec->has_files || spec->files;
    bool bounded = spec->has_max_certificates && spec->max_certificates > 0;
    size_t max = bounded && spec->max_certificates < DEFAULT_MAX ? spec->max_certificates : DEFAULT_MAX;
    struct discovery *d = discovery_new(run, max);
    if (!spec->has_configurations || spec->configurations)
        discover_configurations(d);
    /* What is served comes first: it is what must not fall under the limit. */
    if (listening && !discovery_stopped(d))
        discover_sockets(d, NULL);
    if (!spec->has_configurations || spec->configurations)
        discover_configured(d, NULL);
    enum code code = CODE_OK;
    if (!discovery_stopped(d))
        code = discover_ranges(d, st);
    if (code == CODE_OK && files && !discovery_stopped(d))
        code = scan_roots(d, st);
    discovery_done(d);
    TRY(code);
    finish(d, listening);
    *ret_outcome = d->cancelled ? CLM__RECEIPT__OUTCOME__CANCELLED : CLM__RECEIPT__OUTCOME__SUCCEEDED;
    return CODE_OK;
}
