/* VALIDATE: is what is installed and served sound? Reads only. Runs in a task's child. */
#include <string.h>

#include "base/clock.h"
#include "base/endpoint.h"
#include "kinds/judge.h"
#include "kinds/kinds.h"
#include "kinds/probe.h"
#include "kinds/revocation.h"
#include "presets/preset.h"
#include "stores/place.h"
#include "stores/store.h"

struct subject {
    const struct policy_target *target;    /* NULL: not of the local policy */
    const char *certificate, *chain, *key; /* paths; NULL: not looked at */
    const char *endpoint, *server_name;
    enum starttls starttls;
    struct secret *pem, *key_pem;
    struct store_meta key_meta;
    bool unreadable; /* said already */
};

static void subject_done(struct subject *subject)
{
    secret_free(subject->pem);
    secret_free(subject->key_pem);
}

static const char *text_or_null(const char *s)
{
    return s && s[0] ? s : NULL;
}

static enum code find_subject(struct task_run *run, struct subject *ret, struct status *st)
{
    const Clm__ValidateSpec *spec = run->spec->validate;
    const struct policy_target *target = NULL;
    if (text_or_null(spec->target)) {
        TRY(policy_find_target(run->policy, spec->target, &target, st));
        ret->target = target;
        ret->certificate = target->certificate;
        ret->chain = target->chain;
        ret->key = target_key_path(target);
        ret->endpoint = target->endpoint;
        ret->server_name = target->server_name;
        ret->starttls = policy_target_starttls(target);
    } else if (text_or_null(spec->certificate_path)) {
        TRY(policy_allows_discovery(run->policy, spec->certificate_path, st));
        TRY(task_scope_path(run, spec->certificate_path, st));
        ret->certificate = spec->certificate_path;
    }
    if (text_or_null(spec->endpoint)) {
        struct endpoint at;
        TRY(endpoint_split(spec->endpoint, &at, st));
        TRY(policy_allows_probe(run->policy, at.host, st));
        ret->endpoint = spec->endpoint;
        ret->starttls = starttls_of_port(at.port);
    }
    /* The contract's numbers are those of the table: a test holds them together. */
    if (spec->has_starttls)
        ret->starttls = (enum starttls)spec->starttls;
    if (text_or_null(spec->server_name))
        ret->server_name = spec->server_name;
    if (!ret->certificate && !ret->endpoint)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "the task names no target, certificate_path or endpoint");
    return CODE_OK;
}

/* A keystore: what is judged is what comes out of it. */
static enum code read_keystore(struct task_run *run, struct subject *subject, struct status *st)
{
    AUTO_SECRET struct secret *content = NULL, *password = NULL;
    CLEANUP(store_view_done) struct store_view view = {0};
    int64_t started = clock_wall_ms();
    struct place_at at = {.target = subject->target, .state_dir = run->state_dir};
    TRY(place_of(subject->target)->read(&at, subject->certificate, &content, &subject->key_meta, st));
    TRY(store_password(subject->target, &password, st));
    enum code code = store_view(subject->target, content, password, run->arena, &view, st);
    task_step(run, "read", code == CODE_OK && content, started, "%s",
              code == CODE_OK ? subject->certificate : st->msg);
    if (code != CODE_OK) {
        task_check(run, "file", CLM__CHECK__OUTCOME__FAIL,
                   "correct the password, or deploy or renew a certificate", "%s", st->msg);
        subject->unreadable = true;
        return CODE_OK;
    }
    subject->pem = secret_dup(view.chain_pem.data, view.chain_pem.len);
    subject->key_pem = TAKE(view.key);
    /* Whether a key is there is known; to open a JKS's would take another program. */
    if (view.facts && !subject->key_pem)
        subject->key = NULL;
    return CODE_OK;
}

static enum code read_files(struct task_run *run, struct subject *subject, struct status *st)
{
    AUTO_SECRET struct secret *leaf = NULL, *chain = NULL;
    if (!subject->certificate)
        return CODE_OK;
    if (subject->target &&
        (store_of(subject->target)->password || subject->target->format == STORE_KUBERNETES))
        return read_keystore(run, subject, st);
    int64_t started = clock_wall_ms();
    TRY(store_read(subject->certificate, &leaf, NULL, st));
    if (subject->chain)
        TRY(store_read(subject->chain, &chain, NULL, st));
    size_t leaf_len = leaf ? leaf->len : 0, chain_len = chain ? chain->len : 0;
    subject->pem = secret_new(leaf_len + chain_len);
    if (leaf_len)
        memcpy(subject->pem->data, leaf->data, leaf_len);
    if (chain_len)
        memcpy(subject->pem->data + leaf_len, chain->data, chain_len);
    if (subject->key)
        TRY(store_read(subject->key, &subject->key_pem, &subject->key_meta, st));
    task_step(run, "read", leaf != NULL, started, "%s", subject->certificate);
    return CODE_OK;
}

/* SNI when nobody said which: the certificate's own first name. */
static const char *first_name(struct task_run *run, const struct subject *subject)
{
    const Clm__Agent__Facts *facts;
    struct bytes pem =
        subject->pem ? (struct bytes){subject->pem->data, subject->pem->len} : (struct bytes){0};
    if (pem.len == 0 || confine_run(confine_pem, &pem, run->arena, &facts, NULL) != CODE_OK ||
        facts->n_certs == 0)
        return NULL;
    return certificate_host(facts->certs[0]->certificate);
}

static void look_at_endpoint(struct task_run *run, const struct subject *subject, struct probe *probe,
                             bool *ret_legacy)
{
    int64_t started = clock_wall_ms();
    struct look_at at = {subject->endpoint,
                         subject->server_name ? subject->server_name : first_name(run, subject),
                         subject->starttls};
    struct probe old;
    bool up = task_look(run->policy, &at, LOOK_TIMEOUT_MS, false, probe);
    *ret_legacy = up && task_look(run->policy, &at, LOOK_TIMEOUT_MS, true, &old);
    if (up)
        probe_done(&old);
    task_step(run, "probe", up, started, "%s %s", subject->endpoint, up ? probe->protocol : probe->error);
}

/* --- revocation --------------------------------------------------------------------------------------- */

static enum code check_revocation(struct task_run *run, const struct judge_sound *sound, struct status *st)
{
    struct judge_sources of = {.pem = sound->pem, .served = sound->served, .trust = sound->trust};
    struct revocation_answer revocation;
    TRY(revocation_ask(run, &of, &revocation, st));
    if (!revocation.certificate)
        return CODE_OK;
    if (revocation.said)
        ARENA_PUSH(run->arena, run->result->checks, run->result->n_checks, revocation.said);
    else if (!revocation.sources)
        task_check(run, "revocation", CLM__CHECK__OUTCOME__PASS, NULL, "it names no place to ask");
    else if (!run->policy->fetch_hosts) /* what was not looked at has no outcome */
        task_step(run, "revocation", true, clock_wall_ms(), "not asked: the local policy has no fetch_hosts");
    else
        task_check(run, "revocation", CLM__CHECK__OUTCOME__WARN,
                   "let the host reach the issuer's responder, and its local policy allow it (fetch_hosts)",
                   "nobody said whether it was revoked: %s", revocation.why);
    return CODE_OK;
}

/* --- every name of the server's configuration ------------------------------------------------------------
 */

#define NAMES_MAX    256
#define FAILURES_MAX 20

struct names {
    struct task_run *run;
    const char *certificate; /* the target's file */
    struct probe probe[NAMES_MAX];
    size_t n;
};

static void plan_name(struct names *names, const Clm__Agent__ServerFacts *server, const char *listen,
                      const char *name)
{
    struct endpoint at;
    enum starttls starttls = STARTTLS_NONE;
    struct status st;
    if (names->n >= NAMES_MAX || name[0] == '*' || endpoint_split(listen, &at, &st) != CODE_OK ||
        policy_allows_probe(names->run->policy, at.host, &st) != CODE_OK)
        return;
    if (server->starttls)
        (void)starttls_find(server->starttls, &starttls);
    names->probe[names->n++] = (struct probe){.host = arena_strdup(names->run->arena, at.host),
                                              .port = arena_strdup(names->run->arena, at.port_text),
                                              .server_name = name,
                                              .timeout_ms = LOOK_TIMEOUT_MS,
                                              .starttls = starttls};
}

static void on_configuration(void *arg, const struct preset *preset, const char *conf,
                             const Clm__Agent__Facts *facts, const struct status *st)
{
    struct names *names = arg;
    (void)preset;
    (void)conf;
    (void)st;
    for (size_t i = 0; facts && i < facts->n_servers; i++) {
        const Clm__Agent__ServerFacts *server = facts->servers[i];
        AUTO_FREE char *real = realpath(server->certificate, NULL);
        if (strcmp(real ? real : server->certificate, names->certificate) != 0)
            continue;
        for (size_t l = 0; l < server->n_listens; l++) {
            for (size_t k = 0; k < server->n_names; k++)
                plan_name(names, server, server->listens[l], server->names[k]);
        }
    }
}

static void add_name_failure(struct task_run *run, const struct probe *probe, const char *wanted)
{
    Clm__TaskResult *result = run->result;
    if (probe->tls)
        task_check(run, "served-names", CLM__CHECK__OUTCOME__FAIL, NULL,
                   "%s:%s serves %.16s... and not %.16s... as %s", probe->host, probe->port,
                   probe->fingerprint, wanted, probe->server_name);
    else
        task_check(run, "served-names", CLM__CHECK__OUTCOME__FAIL,
                   "start the server, or correct its configuration", "%s:%s as %s: %s", probe->host,
                   probe->port, probe->server_name, probe->error);
    result->checks[result->n_checks - 1]->subject =
        arena_printf(run->arena, "%s:%s %s", probe->host, probe->port, probe->server_name);
}

static void check_names_served(struct task_run *run, const char *certificate, const char *wanted)
{
    struct names *names = arena_alloc(run->arena, sizeof(*names));
    size_t failures = 0;
    names->run = run;
    names->certificate = certificate;
    presets_look(run->policy, run->arena, on_configuration, names);
    if (names->n == 0)
        return;
    probe_run(names->probe, names->n);
    for (size_t i = 0; i < names->n; i++) {
        const struct probe *probe = &names->probe[i];
        if (strcmp(probe->fingerprint, wanted) != 0 && failures++ < FAILURES_MAX)
            add_name_failure(run, probe, wanted);
        probe_done(&names->probe[i]);
    }
    if (failures == 0)
        task_check(run, "served-names", CLM__CHECK__OUTCOME__PASS, NULL,
                   "it is served under all %zu names that configurations give it", names->n);
}

static void summarise(struct task_run *run)
{
    size_t warn = 0, fail = 0, n = run->result->n_checks;
    const char *first = NULL;
    for (size_t i = 0; i < n; i++) {
        const Clm__Check *check = run->result->checks[i];
        warn += check->outcome == CLM__CHECK__OUTCOME__WARN;
        fail += check->outcome == CLM__CHECK__OUTCOME__FAIL;
        if (check->outcome == CLM__CHECK__OUTCOME__FAIL && !first)
            first = arena_printf(run->arena, "; %s: %s", check->id, check->reason);
    }
    if (warn + fail == 0)
        task_message(run, "all %zu checks pass", n);
    else
        task_message(run, "of %zu checks %zu fail and %zu warn%s", n, fail, warn, first ? first : "");
}

enum code validate_run(struct task_run *run, Clm__Receipt__Outcome *ret_outcome, struct status *st)
{
    CLEANUP(subject_done) struct subject subject = {0};
    CLEANUP(probe_done) struct probe probe = {0};
    AUTO_BUF struct buf trust = {0};
    const Clm__Agent__Facts *facts;
    bool legacy = false;
    if (!run->spec->validate)
        return status_set(st, CODE_INVALID_ARGUMENT, "the task has no validate specification");
    TRY(find_subject(run, &subject, st));
    TRY(read_files(run, &subject, st));
    if (subject.endpoint)
        look_at_endpoint(run, &subject, &probe, &legacy);
    trust_load(run->state_dir, &trust);
    struct judge_sound judge = {
        .pem = subject.pem ? (struct bytes){subject.pem->data, subject.pem->len} : (struct bytes){0},
        .key = subject.key_pem,
        .key_expected = subject.key != NULL && !subject.unreadable,
        .key_no_file = subject.target && subject.target->format == STORE_KUBERNETES,
        .key_mode = subject.key_meta.mode,
        .key_owner_ok = subject.key_meta.uid == 0 || subject.key_meta.uid == geteuid(),
        .trust = {trust.data, trust.len},
        .server_name = subject.server_name,
        .expected = text_or_null(run->spec->validate->expected_fingerprint_sha256),
        .endpoint = subject.endpoint,
        .connected = probe.connected,
        .tls = probe.tls,
        .legacy = legacy,
        .protocol = probe.protocol,
        .probe_error = probe.error,
        .served = &probe.chain,
        .now_ms = clock_wall_ms(),
    };
    if (subject.certificate && judge.pem.len == 0 && !subject.unreadable)
        task_check(run, "file", CLM__CHECK__OUTCOME__FAIL, "deploy or renew a certificate",
                   "there is nothing at %s", subject.certificate);
    TRY(confine_run(judge_sound, &judge, run->arena, &facts, st));
    for (size_t i = 0; i < facts->n_checks; i++)
        ARENA_PUSH(run->arena, run->result->checks, run->result->n_checks, facts->checks[i]);
    if (facts->n_certs > 0)
        run->result->certificate = facts->certs[0]->certificate;
    TRY(check_revocation(run, &judge, st));
    if (text_or_null(run->spec->validate->target) && subject.certificate && facts->n_certs > 0)
        check_names_served(run, subject.certificate, facts->certs[0]->certificate->fingerprint_sha256);
    if (probe.tls)
        run->result->served_fingerprint_sha256 = arena_strdup(run->arena, probe.fingerprint);
    summarise(run);
    *ret_outcome = CLM__RECEIPT__OUTCOME__SUCCEEDED;
    return CODE_OK;
}
