/* See drift.h. */
#include "kinds/drift.h"

#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "kinds/judge.h"
#include "kinds/kinds.h"
#include "kinds/probe.h"
#include "stores/store.h"

/* A server may have several processes, of which one still has the old certificate. */
#define LOOKS 3

void intended_put(const char *state_dir, const char *target, const char *fingerprint)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/intended", state_dir);
    if (dir_make(path, 0700, NULL) != CODE_OK)
        return;
    (void)snprintf(path, sizeof(path), "%s/intended/%s", state_dir, target);
    (void)!file_write_atomic(path, fingerprint, strlen(fingerprint), 0600, NULL);
}

bool intended_get(const char *state_dir, const char *target, char ret[SHA256_HEX_SIZE])
{
    char path[4096];
    AUTO_BUF struct buf text = {0};
    (void)snprintf(path, sizeof(path), "%s/intended/%s", state_dir, target);
    if (file_read(path, SHA256_HEX_SIZE - 1, &text, NULL) != CODE_OK || text.len != SHA256_HEX_SIZE - 1 ||
        strspn(buf_text(&text), "0123456789abcdef") != text.len)
        return false;
    memcpy(ret, buf_text(&text), SHA256_HEX_SIZE);
    return true;
}

struct files {
    struct secret *pem, *key;
    struct store_meta key_meta;
    const char *leaf; /* fingerprint of what is in place; NULL: nothing that can be read */
};

static void files_done(struct files *files)
{
    secret_free(files->pem);
    secret_free(files->key);
}

/* A keystore: what is judged is what comes out of it. */
static void read_keystore(const struct policy_target *target, struct arena *arena, struct files *ret)
{
    CLEANUP(store_view_done) struct store_view view = {0};
    struct status st;
    if (store_view_now(target, arena, &view, &st) != CODE_OK || !view.facts || view.facts->n_certs == 0)
        return;
    ret->pem = secret_dup(view.chain_pem.data, view.chain_pem.len);
    ret->key = TAKE(view.key);
    ret->leaf = view.facts->certs[0]->certificate->fingerprint_sha256;
}

static void read_files(const struct policy_target *target, struct arena *arena, struct files *ret)
{
    if (store_of(target)->password) {
        read_keystore(target, arena, ret);
        return;
    }
    AUTO_SECRET struct secret *leaf = NULL, *chain = NULL;
    const Clm__Agent__Facts *facts;
    struct status st;
    if (store_read(target->certificate, &leaf, NULL, &st) != CODE_OK || !leaf)
        return;
    if (target->chain)
        (void)!store_read(target->chain, &chain, NULL, &st);
    size_t chain_len = chain ? chain->len : 0;
    ret->pem = secret_new(leaf->len + chain_len);
    memcpy(ret->pem->data, leaf->data, leaf->len);
    if (chain_len)
        memcpy(ret->pem->data + leaf->len, chain->data, chain_len);
    (void)!store_read(target_key_path(target), &ret->key, &ret->key_meta, &st);
    struct bytes bytes = {ret->pem->data, ret->pem->len};
    if (confine_run(confine_pem, &bytes, arena, &facts, NULL) == CODE_OK && facts->n_certs > 0)
        ret->leaf = facts->certs[0]->certificate->fingerprint_sha256;
}

/* Looks until one shows something else than was intended. *ret_mixed: others did show it. */
static void look_around(const struct policy *policy, const struct policy_target *target, const char *wanted,
                        struct probe *ret, bool *ret_mixed)
{
    struct look_at at = {target->endpoint, target->server_name, policy_target_starttls(target)};
    *ret_mixed = false;
    memset(ret, 0, sizeof(*ret));
    for (unsigned i = 0; target->endpoint && i < LOOKS; i++) {
        probe_done(ret);
        bool tls = task_look(policy, &at, LOOK_TIMEOUT_MS, false, ret);
        if (!tls || strcmp(ret->fingerprint, wanted) != 0)
            return;
        *ret_mixed = true;
    }
    *ret_mixed = false;
}

/* What is reported of a failed check. Of a target that this agent never deployed to, its files are somebody
 * else's business. */
static bool matters(const Clm__Check *check, bool managed)
{
    static const char *const of_managed[] = {"file", "key-match", "chain", "served-chain", "served"};
    if (check->outcome != CLM__CHECK__OUTCOME__FAIL)
        return false;
    for (size_t i = 0; managed && i < ARRAY_LEN(of_managed); i++) {
        if (strcmp(check->id, of_managed[i]) == 0)
            return true;
    }
    return strcmp(check->id, "served") == 0;
}

static void add(Clm__DriftReport *report, struct arena *arena, const struct policy_target *target,
                const char *check, const char *reason, const char *wanted, const char *served)
{
    Clm__Drift *drift = arena_alloc(arena, sizeof(*drift));
    clm__drift__init(drift);
    drift->target = arena_strdup(arena, target->name);
    drift->check = arena_strdup(arena, check);
    drift->reason = arena_strdup(arena, reason);
    drift->intended_sha256 = arena_strdup(arena, wanted);
    drift->served_sha256 = served && served[0] ? arena_strdup(arena, served) : NULL;
    ARENA_PUSH(arena, report->drifts, report->n_drifts, drift);
}

static void judge_target(const struct policy_target *target, const struct files *files, const char *wanted,
                         bool managed, const struct probe *probe, bool mixed, const struct buf *trust,
                         struct arena *arena, Clm__DriftReport *report)
{
    const Clm__Agent__Facts *facts;
    struct judge_sound judge = {
        .pem = {files->pem->data, files->pem->len},
        .key = files->key,
        .key_expected = managed,
        .key_mode = files->key_meta.mode,
        .key_owner_ok = true,
        .trust = {trust->data, trust->len},
        .server_name = target->server_name,
        .expected = wanted,
        .endpoint = probe->tls ? target->endpoint : NULL,
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
        if (!matters(check, managed))
            continue;
        bool some = mixed && strcmp(check->id, "served") == 0;
        add(report, arena, target, check->id,
            arena_printf(arena, "%s: %s%s; %s", target->endpoint ? target->endpoint : target->certificate,
                         check->reason, some ? " (some of its processes)" : "",
                         check->remedy ? check->remedy : "look at it"),
            wanted, probe->tls ? probe->fingerprint : NULL);
        return; /* the first says it */
    }
}

static void check_target(const struct policy *policy, const struct policy_target *target,
                         const char *state_dir, const struct buf *trust, struct arena *arena,
                         Clm__DriftReport *report)
{
    char intended[SHA256_HEX_SIZE];
    CLEANUP(files_done) struct files files = {0};
    CLEANUP(probe_done) struct probe probe = {0};
    bool managed = intended_get(state_dir, target->name, intended), mixed;
    read_files(target, arena, &files);
    if (!managed && !files.leaf)
        return;
    const char *wanted = managed ? intended : files.leaf;
    if (!files.leaf || !files.pem) {
        add(report, arena, target, "file",
            arena_printf(arena, "%s holds no certificate any more; renew, or deploy again",
                         target->certificate),
            wanted, NULL);
        return;
    }
    if (strcmp(files.leaf, wanted) != 0) {
        add(report, arena, target, "file",
            arena_printf(
                arena,
                "%s was overwritten: it holds %.16s... and not %.16s..., which was deployed; renew, or "
                "deploy again",
                target->certificate, files.leaf, wanted),
            wanted, NULL);
        return;
    }
    look_around(policy, target, wanted, &probe, &mixed);
    judge_target(target, &files, wanted, managed, &probe, mixed, trust, arena, report);
}

void drift_check(const struct policy *policy, const char *state_dir, struct arena *arena,
                 Clm__DriftReport *ret)
{
    AUTO_BUF struct buf trust = {0};
    size_t n = 0;
    clm__drift_report__init(ret);
    trust_load(state_dir, &trust);
    for (struct policy_target **t = policy->targets; t && *t && n < DRIFT_TARGETS_MAX; t++, n++)
        check_target(policy, *t, state_dir, &trust, arena, ret);
}
