/*
 * The deploy transaction: see transaction.h. Journal steps, in order: probe (what was served before), stage
 * and backup (one each a file), swap, test, reload, verify, commit; or rollback, rolled-back; or withdrawn.
 * `swap` divides: before it nothing that a server reads has changed; after it the journal and the files'
 * digests say which side each file is on.
 */
#include "kinds/transaction.h"

#include "kinds/installed.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "kinds/command.h"
#include "kinds/judge.h"
#include "kinds/probe.h"
#include "stores/place.h"
#include "stores/store.h"

#define VERIFY_STEP_MS       250
#define VERIFY_QUICK_MS      500
#define VERIFY_QUICK_STEP_MS 25
#define VERIFY_DEFAULT_MS    10000
#define STEP_OUTPUT_MAX      380
#define BACKUP_LIFE_MS       (14 * 24 * 3600 * 1000ll)
#define FILES_MAX            3

struct tx_file {
    const char *role; /* "key", "chain", "cert": the order in which they are swapped */
    const char *path;
    const char *staged; /* name in path's directory */
    const char *backup; /* name in the backup directory; NULL: there was no file */
    struct secret *old, *fresh;
    struct store_meta meta;
    char old_sha[SHA256_HEX_SIZE], new_sha[SHA256_HEX_SIZE];
    bool is_new; /* on disk, as last looked at */
};

struct tx {
    struct task_run *run;
    const struct policy_target *target;
    struct policy_reload *const *reload; /* NULL-ended */
    const struct place *place;
    struct place_at at;
    struct tx_file file[FILES_MAX];
    size_t n;
    struct secret *password; /* of the keystore; NULL: it has none */
    struct store_view in_place;
    const char *server_name;
    char leaf[SHA256_HEX_SIZE];   /* of the new certificate */
    char before[SHA256_HEX_SIZE]; /* served before; "" if nothing was */
    bool old_is_dead;             /* expired, or no certificate at all */
    bool let_pass;                /* by the pre hooks */
    bool reloaded;
};

static void tx_done(struct tx *tx)
{
    for (size_t i = 0; i < tx->n; i++) {
        secret_free(tx->file[i].old);
        secret_free(tx->file[i].fresh);
    }
    secret_free(tx->password);
    store_view_done(&tx->in_place);
}

static struct bytes secret_bytes(const struct secret *secret)
{
    return secret ? (struct bytes){secret->data, secret->len} : (struct bytes){0};
}

static enum code note(struct tx *tx, const char *step, const char *path, const char *other,
                      const char *fingerprint, struct status *st)
{
    if (journal_step(tx->run->journal, step, tx->target->name, path, other, fingerprint, st) != CODE_OK)
        return status_wrap(st, "journal");
    return CODE_OK;
}

/* After the swap nothing is given up because it cannot be written down (a full disk): a resumed run begins at
 * the swap again and comes to the same end. */
static void note_late(struct tx *tx, const char *step, const char *path, const char *other,
                      const char *fingerprint)
{
    struct status why;
    if (note(tx, step, path, other, fingerprint, &why) != CODE_OK)
        task_step(tx->run, "journal", false, clock_wall_ms(), "%s is not in the journal: %s", step, why.msg);
}

/* What the commands of a reload are told beside what the policy lists for them. */
static const char **hook_environment(struct tx *tx, const struct policy_reload *reload, const char *hook,
                                     const char *reason)
{
    struct arena *arena = tx->run->arena;
    char **list = NULL;
    size_t n = 0;
    for (char **one = reload->environment; one && *one; one++)
        ARENA_PUSH(arena, list, n, *one);
    ARENA_PUSH(arena, list, n, arena_printf(arena, "CLM_HOOK=%s", hook));
    ARENA_PUSH(arena, list, n, arena_printf(arena, "CLM_TASK=%s", tx->run->order->task_id));
    ARENA_PUSH(arena, list, n, arena_printf(arena, "CLM_TARGET=%s", tx->target->name));
    ARENA_PUSH(arena, list, n, arena_printf(arena, "CLM_CERTIFICATE=%s", tx->target->certificate));
    if (reason)
        ARENA_PUSH(arena, list, n, arena_printf(arena, "CLM_REASON=%s", reason));
    ARENA_PUSH(arena, list, n, NULL);
    return (const char **)(void *)list;
}

/* The step shows more of the output than a message has room for. */
static enum code hook_step(struct tx *tx, const struct policy_reload *reload, const char *name,
                           char *const *argv, const char *reason, struct status *st)
{
    AUTO_BUF struct buf out = {0};
    int64_t started = clock_wall_ms();
    struct command command = {argv, hook_environment(tx, reload, name, reason), reload->timeout_ms};
    enum code code = command_run(&command, &out, st);
    const char *text = buf_text(&out);
    size_t len = strlen(text), from = len > STEP_OUTPUT_MAX ? len - STEP_OUTPUT_MAX : 0;
    if (code == CODE_OK)
        task_step(tx->run, name, true, started, "%s", argv[0]);
    else
        task_step(tx->run, name, false, started, "%.*s%s%s", (int)strcspn(st->msg, ":"), st->msg,
                  len ? ": " : "", text + from);
    return code;
}

static struct tx_file *add_file(struct tx *tx, const char *role, const char *path)
{
    struct arena *arena = tx->run->arena;
    const Clm__TaskOrder *order = tx->run->order;
    struct tx_file *file = &tx->file[tx->n++];
    file->role = role;
    file->path = path;
    char staged[512];
    place_staged_name(tx->target, path, order->task_id, order->attempt, role, staged, sizeof(staged));
    file->staged = arena_strdup(arena, staged);
    return file;
}

static void set_up(struct tx *tx, struct task_run *run, const struct policy_target *target)
{
    memset(tx, 0, sizeof(*tx));
    tx->run = run;
    tx->target = target;
    tx->reload = target->reloads;
    tx->place = place_of(target);
    tx->at = (struct place_at){.target = target, .state_dir = run->state_dir};
    tx->server_name = target->server_name;
    tx->let_pass =
        run->resume && (journal_find_step(run->journal, "pre") || journal_find_step(run->journal, "swap"));
    /* The certificate comes last: a server that restarts in between finds the old pair or, for an instant, a
     * key too new. */
    if (!target_is_bundle(target))
        (void)add_file(tx, "key", target->key);
    if (target->chain)
        (void)add_file(tx, "chain", target->chain);
    (void)add_file(tx, "cert", target->certificate);
}

static struct tx_file *file_of(struct tx *tx, const char *role)
{
    for (size_t i = 0; i < tx->n; i++) {
        if (strcmp(tx->file[i].role, role) == 0)
            return &tx->file[i];
    }
    return NULL;
}

static struct tx_file *cert_file(struct tx *tx)
{
    return file_of(tx, "cert");
}

static struct tx_file *key_file(struct tx *tx)
{
    struct tx_file *key = file_of(tx, "key");
    return key ? key : cert_file(tx);
}

/* --- looking ------------------------------------------------------------------------------------------ */

static bool look(struct tx *tx, char fingerprint[SHA256_HEX_SIZE], char *why, size_t why_size)
{
    struct probe probe;
    struct look_at at = {tx->target->endpoint, tx->server_name, policy_target_starttls(tx->target)};
    bool tls = task_look(tx->run->policy, &at, LOOK_TIMEOUT_MS, false, &probe);
    memcpy(fingerprint, probe.fingerprint, SHA256_HEX_SIZE);
    if (why)
        (void)snprintf(why, why_size, "%s", probe.error);
    probe_done(&probe);
    return tls;
}

static enum code probe_before(struct tx *tx, struct status *st)
{
    char why[160] = "";
    int64_t started = clock_wall_ms();
    if (!tx->target->endpoint)
        return note(tx, "probe", NULL, NULL, NULL, st);
    bool up = look(tx, tx->before, why, sizeof(why));
    TRY(note(tx, "probe", NULL, tx->target->endpoint, up ? tx->before : NULL, st));
    if (up)
        task_step(tx->run, "probe", true, started, "%s serves %.16s...", tx->target->endpoint, tx->before);
    else
        task_step(tx->run, "probe", true, started, "%s is not reachable: %s", tx->target->endpoint, why);
    return CODE_OK;
}

static int64_t verify_ms(const struct tx *tx)
{
    int64_t longest = *tx->reload ? 0 : VERIFY_DEFAULT_MS;
    for (struct policy_reload *const *r = tx->reload; *r; r++)
        longest = (*r)->timeout_ms > longest ? (*r)->timeout_ms : longest;
    return longest;
}

/* Until the endpoint serves `wanted` twice in a row, or the time is up: for an instant after a reload the
 * former workers still answer beside the new ones. That instant is short for most servers (nginx gives its
 * new workers 100 ms), so the first steps are. */
static bool wait_served(struct tx *tx, const char *wanted, char served[SHA256_HEX_SIZE], char *why,
                        size_t why_size)
{
    int64_t end_ms = clock_mono_ms() + verify_ms(tx);
    int64_t quick_until_ms = clock_mono_ms() + VERIFY_QUICK_MS;
    for (unsigned seen = 0;;) {
        int64_t started_ms = clock_mono_ms();
        (void)look(tx, served, why, why_size);
        seen = strcmp(served, wanted) == 0 ? seen + 1 : 0;
        if (seen == 2)
            return true;
        int64_t now_ms = clock_mono_ms();
        int64_t step_ms = seen || now_ms < quick_until_ms ? VERIFY_QUICK_STEP_MS : VERIFY_STEP_MS;
        int64_t pause_ms = step_ms - (now_ms - started_ms);
        if (now_ms >= end_ms && seen == 0)
            return false;
        if (pause_ms > 0)
            (void)poll(NULL, 0, (int)pause_ms);
    }
}

/* --- before the swap ---------------------------------------------------------------------------------- */

static enum code read_in_place(struct tx *tx, struct status *st)
{
    for (size_t i = 0; i < tx->n; i++) {
        struct tx_file *file = &tx->file[i];
        TRY(tx->place->read(&tx->at, file->path, &file->old, &file->meta, st));
        if (file->old)
            sha256_hex(secret_bytes(file->old), file->old_sha);
        else
            file->meta.mode = file == key_file(tx) ? 0600 : 0644;
    }
    return CODE_OK;
}

static struct store_tool tool_of(const struct tx *tx)
{
    const Clm__TaskOrder *order = tx->run->order;
    return (struct store_tool){
        tx->target, tx->password,
        arena_printf(tx->run->arena, "%s/keytool-%s-%u", tx->run->state_dir, order->task_id, order->attempt)};
}

/* Opens what is in place. What is no certificate at all may be replaced; what only does not open may not: who
 * knows what would be lost. */
static enum code open_in_place(struct tx *tx, const struct change *change, struct status *st)
{
    const struct store *store = store_of(tx->target);
    TRY(store_password(tx->target, &tx->password, st));
    enum code code =
        store_view(tx->target, cert_file(tx)->old, tx->password, tx->run->arena, &tx->in_place, st);
    if (code == CODE_INVALID_ARGUMENT)
        return CODE_OK;
    TRY(code);
    if (tx->in_place.facts && tx->in_place.facts->others > 0 &&
        !(store->keeps_others && store->keeps_others(tx->target, secret_bytes(cert_file(tx)->old))))
        return status_set(
            st, CODE_FAILED_PRECONDITION,
            "%.120s holds %u other entries, which would be lost: give the server a keystore of its own",
            tx->target->certificate, tx->in_place.facts->others);
    if (change->key)
        return CODE_OK;
    struct store_tool tool = tool_of(tx);
    return store_view_unlock(&tool, cert_file(tx)->old, tx->run->arena, &tx->in_place, st);
}

/* Whether there is something to go back to that is worth it. */
static void judge_old(struct tx *tx)
{
    const Clm__Agent__Facts *facts = tx->in_place.facts;
    tx->old_is_dead = true;
    if (!facts || facts->n_certs == 0)
        return;
    const Clm__CertificateInfo *info = facts->certs[0]->certificate;
    tx->old_is_dead = info->not_after_at_ms <= clock_wall_ms();
    tx->run->result->fingerprint_before_sha256 = info->fingerprint_sha256;
}

/* The key that is to be used: a new one, or the one in place. */
static const struct secret *key_for(struct tx *tx, const struct change *change)
{
    if (change->key)
        return change->key;
    return target_is_bundle(tx->target) ? tx->in_place.key : key_file(tx)->old;
}

static const char *alias_for(const struct tx *tx)
{
    /* The entry keeps the name that it has: the server's configuration may ask for it. */
    const char *in_place = tx->in_place.facts ? tx->in_place.facts->alias : NULL;
    return tx->target->alias ? tx->target->alias : in_place && in_place[0] ? in_place : "server";
}

static struct bytes field_bytes(const ProtobufCBinaryData *field)
{
    return (struct bytes){field->data, field->len};
}

static enum code compose(struct tx *tx, const struct change *change, const Clm__Agent__Facts *facts,
                         struct status *st)
{
    struct tx_file *cert = cert_file(tx), *key = key_file(tx), *chain = file_of(tx, "chain");
    const struct secret *from = key_for(tx, change);
    struct store_parts parts = {
        .leaf_pem = field_bytes(&facts->leaf_pem),
        .intermediates_pem = chain ? (struct bytes){0} : field_bytes(&facts->intermediates_pem),
        .key = key == cert ? from : NULL,
        .old = {secret_bytes(cert->old), tx->password, tx->target->alias},
        .alias = alias_for(tx),
        .encryption = tx->target->encryption && strcmp(tx->target->encryption, "legacy") == 0 ? PKCS12_LEGACY
                                                                                              : PKCS12_MODERN,
    };
    struct store_tool tool = tool_of(tx);
    TRY(store_make(&tool, &parts, tx->run->arena, &cert->fresh, st));
    if (chain)
        chain->fresh = secret_dup(facts->intermediates_pem.data, facts->intermediates_pem.len);
    if (key != cert)
        key->fresh = secret_dup(from->data, from->len);
    for (size_t i = 0; i < tx->n; i++)
        sha256_hex(secret_bytes(tx->file[i].fresh), tx->file[i].new_sha);
    return CODE_OK;
}

static enum code check_new(struct tx *tx, const struct change *change, struct status *st)
{
    struct task_run *run = tx->run;
    int64_t started = clock_wall_ms();
    AUTO_BUF struct buf trust = {0};
    const Clm__Agent__Facts *facts;
    char **names = NULL;
    size_t n = 0;
    for (; n < change->n_names;)
        ARENA_PUSH(run->arena, names, n, change->names[n]);
    if (tx->target->server_name)
        ARENA_PUSH(run->arena, names, n, tx->target->server_name);
    trust_load(run->state_dir, &trust);
    const struct secret *key = key_for(tx, change);
    if (!key)
        return status_set(st, CODE_FAILED_PRECONDITION, "there is no private key at %.150s",
                          target_key_path(tx->target));
    struct judge_install judge = {
        .chain_pem = change->chain_pem,
        .root = change->root,
        .trust = {trust.data, trust.len},
        .key = key,
        .old = store_view_leaf(&tx->in_place),
        .names = names,
        .n_names = n,
        .now_ms = clock_wall_ms(),
    };
    enum code code = confine_run(judge_install, &judge, run->arena, &facts, st);
    if (code == CODE_OK && (facts->n_certs != 1 || !facts->has_leaf_pem))
        code = status_set(st, CODE_INTERNAL, "the certificate could not be judged");
    Clm__CertificateInfo *info = code == CODE_OK ? facts->certs[0]->certificate : NULL;
    if (code == CODE_OK)
        code = policy_allows_names(run->policy, tx->target, info->dns_names, info->n_dns_names, st);
    if (code == CODE_OK)
        code = task_scope_names(run, info->dns_names, info->n_dns_names, st);
    if (code == CODE_OK)
        code = compose(tx, change, facts, st);
    if (code != CODE_OK) {
        task_step(run, "check", false, started, "%s", st->msg);
        return code;
    }
    task_step(run, "check", true, started, "key, names and dates hold; %s",
              facts->n_checks ? facts->checks[0]->reason : "the chain builds to a root that this host knows");
    run->result->certificate = info;
    if (!tx->server_name && info->n_dns_names > 0 && info->dns_names[0][0] != '*')
        tx->server_name = info->dns_names[0];
    (void)snprintf(tx->leaf, sizeof(tx->leaf), "%s", info->fingerprint_sha256);
    return CODE_OK;
}

static void discard_staged(struct tx *tx)
{
    for (size_t i = 0; i < tx->n; i++)
        (void)!tx->place->remove(&tx->at, tx->file[i].path, tx->file[i].staged, NULL);
}

static enum code stage(struct tx *tx, struct status *st)
{
    int64_t started = clock_wall_ms();
    for (size_t i = 0; i < tx->n; i++) {
        struct tx_file *file = &tx->file[i];
        TRY(note(tx, "stage", file->path, file->staged, file->new_sha, st));
        TRY(tx->place->stage(&tx->at, file->path, file->staged, secret_bytes(file->fresh), &file->meta, st));
    }
    task_step(tx->run, "stage", true, started, "%zu files beside the target", tx->n);
    return CODE_OK;
}

static enum code back_up(struct tx *tx, struct status *st)
{
    int64_t started = clock_wall_ms();
    const Clm__TaskOrder *order = tx->run->order;
    for (size_t i = 0; i < tx->n; i++) {
        struct tx_file *file = &tx->file[i];
        if (file->old)
            file->backup = arena_printf(tx->run->arena, "%s-%u-%s-%s.bak", order->task_id, order->attempt,
                                        tx->target->name, file->role);
        TRY(note(tx, "backup", file->path, file->backup, file->old ? file->old_sha : NULL, st));
        if (file->old)
            TRY(store_backup(tx->run->state_dir, file->backup, file->old, st));
    }
    task_step(tx->run, "backup", true, started, "in %s/backup", tx->run->state_dir);
    return CODE_OK;
}

static enum code check_unchanged(struct tx *tx, struct status *st)
{
    for (size_t i = 0; i < tx->n; i++) {
        char now[SHA256_HEX_SIZE];
        TRY(place_digest(&tx->at, tx->file[i].path, now, st));
        if (strcmp(now, tx->file[i].old_sha) != 0)
            return status_set(st, CODE_ABORTED,
                              "%.150s was changed by somebody else meanwhile: nothing was installed",
                              tx->file[i].path);
    }
    return CODE_OK;
}

/* --- swap, and back ----------------------------------------------------------------------------------- */

enum side { SIDE_OLD, SIDE_NEW, SIDE_FOREIGN };

static enum code side_of(struct tx *tx, const struct tx_file *file, enum side *ret, struct status *st)
{
    char now[SHA256_HEX_SIZE];
    TRY(place_digest(&tx->at, file->path, now, st));
    *ret = strcmp(now, file->new_sha) == 0   ? SIDE_NEW
           : strcmp(now, file->old_sha) == 0 ? SIDE_OLD
                                             : SIDE_FOREIGN;
    return CODE_OK;
}

static enum code check_staged(struct tx *tx, const struct tx_file *file, struct status *st)
{
    AUTO_SECRET struct secret *staged = NULL;
    char digest[SHA256_HEX_SIZE] = "";
    TRY(tx->place->read_staged(&tx->at, file->path, file->staged, &staged, st));
    if (staged)
        sha256_hex(secret_bytes(staged), digest);
    if (strcmp(digest, file->new_sha) != 0)
        return status_set(st, CODE_FAILED_PRECONDITION, "the staged %s is gone or damaged", file->role);
    return CODE_OK;
}

/* Which files are still old; of a place that changes as a whole, all if any is. */
static enum code plan_moves(struct tx *tx, struct store_move moves[FILES_MAX], size_t *ret_n,
                            struct status *st)
{
    size_t n_old = 0;
    for (size_t i = 0; i < tx->n; i++) {
        enum side side;
        TRY(side_of(tx, &tx->file[i], &side, st));
        if (side == SIDE_FOREIGN)
            return status_set(st, CODE_DATA_LOSS,
                              "%.150s is neither the old nor the new one: put it right by hand",
                              tx->file[i].path);
        tx->file[i].is_new = side == SIDE_NEW;
        n_old += side != SIDE_NEW;
    }
    *ret_n = 0;
    for (size_t i = 0; i < tx->n && n_old > 0; i++) {
        struct tx_file *file = &tx->file[i];
        if (file->is_new && !tx->place->whole)
            continue;
        TRY(check_staged(tx, file, st));
        moves[(*ret_n)++] = (struct store_move){file->path, file->staged, file->old_sha};
    }
    return CODE_OK;
}

/* Brings what is still old to its new content, in one go; what is new already stays. */
static enum code swap(struct tx *tx, struct status *st)
{
    struct store_move moves[FILES_MAX];
    int64_t started = clock_wall_ms();
    size_t n = 0;
    TRY(plan_moves(tx, moves, &n, st));
    if (n > 0)
        TRY(tx->place->swap(&tx->at, moves, n, st));
    task_step(tx->run, "swap", true, started, "%s", cert_file(tx)->path);
    return CODE_OK;
}

/* Stages the former content of a file, out of its backup. */
static enum code stage_old(struct tx *tx, const struct tx_file *file, struct status *st)
{
    AUTO_SECRET struct secret *old = NULL, *now = NULL;
    struct store_meta meta;
    char digest[SHA256_HEX_SIZE];
    TRY(store_read_backup(tx->run->state_dir, file->backup, &old, st));
    sha256_hex(secret_bytes(old), digest);
    if (strcmp(digest, file->old_sha) != 0)
        return status_set(st, CODE_DATA_LOSS, "the backup %s is damaged", file->backup);
    TRY(tx->place->read(&tx->at, file->path, &now, &meta, st));
    return tx->place->stage(&tx->at, file->path, file->staged, secret_bytes(old), &meta, st);
}

/* All files back in one go, the other way round: certificate first. */
static enum code restore_files(struct tx *tx, struct status *st)
{
    struct store_move moves[FILES_MAX];
    size_t n = 0, n_new = 0;
    for (size_t i = 0; i < tx->n; i++) {
        struct tx_file *file = &tx->file[i];
        enum side side;
        TRY(side_of(tx, file, &side, st));
        if (side == SIDE_FOREIGN)
            return status_set(st, CODE_DATA_LOSS, "%.150s was changed by somebody else: put it right by hand",
                              file->path);
        /* What is the same before and after needs no restoring. */
        file->is_new = side == SIDE_NEW && strcmp(file->new_sha, file->old_sha) != 0;
        n_new += file->is_new;
    }
    for (size_t i = tx->n; i > 0 && n_new > 0; i--) {
        struct tx_file *file = &tx->file[i - 1];
        if (!file->backup || (!file->is_new && !tx->place->whole))
            continue;
        TRY(stage_old(tx, file, st));
        moves[n++] =
            (struct store_move){file->path, file->staged, file->is_new ? file->new_sha : file->old_sha};
    }
    if (n > 0)
        TRY(tx->place->swap(&tx->at, moves, n, st));
    for (size_t i = 0; i < tx->n; i++) {
        if (tx->file[i].is_new && !tx->file[i].backup)
            TRY(tx->place->remove(&tx->at, tx->file[i].path, NULL, st));
    }
    return CODE_OK;
}

/* After a failed change: files back, server back. Only what cannot be brought back is an error. */
static enum code restore_all(struct tx *tx, struct status *st)
{
    int64_t started = clock_wall_ms();
    if (restore_files(tx, st) != CODE_OK) {
        task_step(tx->run, "rollback", false, started, "%s", st->msg);
        return status_set(st, CODE_DATA_LOSS, "rollback failed: %.200s", st->msg);
    }
    task_step(tx->run, "rollback", true, started, "the former files are back");
    for (struct policy_reload *const *r = tx->reload; tx->reloaded && *r; r++) {
        struct status ignored;
        if ((*r)->test)
            (void)hook_step(tx, *r, "rollback-test", (*r)->test, NULL, &ignored);
        (void)hook_step(tx, *r, "rollback-reload", (*r)->command, NULL, &ignored);
    }
    if (!tx->target->endpoint || !tx->before[0])
        return CODE_OK;
    char served[SHA256_HEX_SIZE], why[160];
    started = clock_wall_ms();
    bool back = wait_served(tx, tx->before, served, why, sizeof(why));
    tx->run->result->served_fingerprint_sha256 = served[0] ? arena_strdup(tx->run->arena, served) : NULL;
    task_step(tx->run, "rollback-verify", back, started, "%s",
              back ? "the former certificate is served" : "the former certificate is not served again");
    if (!back)
        return status_set(st, CODE_DATA_LOSS, "rollback failed: %s does not serve the former certificate",
                          tx->target->endpoint);
    return CODE_OK;
}

static enum code roll_back(struct tx *tx, const char *reason, Clm__Receipt__Outcome *ret_outcome,
                           struct status *st)
{
    struct status why = {0};
    char text[256];
    (void)snprintf(text, sizeof(text), "%s", reason);
    /* other_path carries the reason: a resumed run reports what the first one found. */
    note_late(tx, "rollback", NULL, text, NULL);
    enum code code = restore_all(tx, &why);
    discard_staged(tx);
    if (code != CODE_OK) {
        task_message(tx->run, "%s; %s", text, why.msg);
        return status_set(st, CODE_DATA_LOSS, "%s; %s", why.msg, text);
    }
    note_late(tx, "rolled-back", NULL, text, NULL);
    tx->run->result->fingerprint_after_sha256 = tx->run->result->fingerprint_before_sha256;
    task_message(tx->run, "rolled back: %s", text);
    *ret_outcome = CLM__RECEIPT__OUTCOME__FAILED;
    return CODE_OK;
}

/* --- after the swap ----------------------------------------------------------------------------------- */

static enum code commit(struct tx *tx, Clm__Receipt__Outcome outcome, const char *reason,
                        Clm__Receipt__Outcome *ret_outcome)
{
    struct task_run *run = tx->run;
    bool verified = outcome == CLM__RECEIPT__OUTCOME__SUCCEEDED;
    note_late(tx, "commit", verified ? "verified" : "unverified", reason, tx->leaf);
    intended_put(&tx->at, tx->leaf);
    discard_staged(tx);
    if (verified) {
        /* The next success ends the use of the former backups of this target. */
        for (size_t i = 0; i < tx->n; i++) {
            char suffix[160];
            (void)snprintf(suffix, sizeof(suffix), "-%s-%s.bak", tx->target->name, tx->file[i].role);
            store_prune_backups(run->state_dir, suffix, run->order->task_id, BACKUP_LIFE_MS);
        }
    }
    run->result->fingerprint_after_sha256 = arena_strdup(run->arena, tx->leaf);
    task_step(run, "commit", true, clock_wall_ms(), "%s", reason);
    task_message(run, "%s", reason);
    *ret_outcome = outcome;
    return CODE_OK;
}

static enum code verify(struct tx *tx, bool reload_ok, const char *reload_why,
                        Clm__Receipt__Outcome *ret_outcome, struct status *st)
{
    char served[SHA256_HEX_SIZE] = "", why[160] = "", reason[256];
    int64_t started = clock_wall_ms();
    if (!tx->target->endpoint) {
        if (!reload_ok)
            return roll_back(tx, reload_why, ret_outcome, st);
        (void)snprintf(reason, sizeof(reason), "installed; [target %s] has no endpoint to look at",
                       tx->target->name);
        return commit(tx, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED, reason, ret_outcome);
    }
    note_late(tx, "verify", NULL, tx->target->endpoint, tx->leaf);
    /* A reload that failed is not going to be served: one look is enough. */
    bool is_new = reload_ok ? wait_served(tx, tx->leaf, served, why, sizeof(why))
                            : look(tx, served, why, sizeof(why)) && strcmp(served, tx->leaf) == 0;
    tx->run->result->served_fingerprint_sha256 = served[0] ? arena_strdup(tx->run->arena, served) : NULL;
    if (is_new)
        (void)snprintf(reason, sizeof(reason), "%s serves the new certificate", tx->target->endpoint);
    else if (!reload_ok)
        (void)snprintf(reason, sizeof(reason), "the reload failed: %.200s", reload_why);
    else if (served[0])
        (void)snprintf(reason, sizeof(reason), "%s still serves another certificate, %.16s...",
                       tx->target->endpoint, served);
    else
        (void)snprintf(reason, sizeof(reason), "%.80s cannot be reached: %.120s", tx->target->endpoint, why);
    task_step(tx->run, "verify", is_new, started, "%s", reason);
    if (is_new)
        return commit(tx, CLM__RECEIPT__OUTCOME__SUCCEEDED, reason, ret_outcome);
    /* Worse than before: it served a certificate that still counted, and does not serve the new one. */
    if (tx->before[0] && !tx->old_is_dead)
        return roll_back(tx, reason, ret_outcome, st);
    return commit(tx, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED, reason, ret_outcome);
}

/* The new files are in place: make the server use them, and look. */
static enum code activate(struct tx *tx, Clm__Receipt__Outcome *ret_outcome, struct status *st)
{
    struct status why = {0};
    bool reload_ok = true;
    for (struct policy_reload *const *r = tx->reload; *r; r++) {
        if (!(*r)->test)
            continue;
        note_late(tx, "test", NULL, (*r)->name, NULL);
        if (hook_step(tx, *r, "test", (*r)->test, NULL, &why) != CODE_OK) {
            status_wrap(&why, "the configuration test failed");
            return roll_back(tx, why.msg, ret_outcome, st);
        }
    }
    for (struct policy_reload *const *r = tx->reload; *r && reload_ok; r++) {
        note_late(tx, "reload", NULL, (*r)->name, NULL);
        tx->reloaded = true;
        reload_ok = hook_step(tx, *r, "reload", (*r)->command, NULL, &why) == CODE_OK;
    }
    if (!reload_ok && tx->reload[1]) { /* the endpoint is one server's, and the others use the file, too */
        status_wrap(&why, "the reload failed");
        return roll_back(tx, why.msg, ret_outcome, st);
    }
    return verify(tx, reload_ok, why.msg, ret_outcome, st);
}

/* Somebody else was faster, and what they put there is there again: there is nothing to undo. */
static enum code withdraw(struct tx *tx, const char *reason, struct status *st)
{
    char text[256];
    (void)snprintf(text, sizeof(text), "%s", reason);
    note_late(tx, "withdrawn", NULL, text, NULL);
    discard_staged(tx);
    return status_set(st, CODE_ABORTED, "%s: nothing was installed", text);
}

static enum code change_files(struct tx *tx, Clm__Receipt__Outcome *ret_outcome, struct status *st)
{
    struct status why = {0};
    enum code code = note(tx, "swap", NULL, tx->server_name, tx->leaf, st);
    if (code != CODE_OK) {
        discard_staged(tx);
        return code;
    }
    code = swap(tx, &why);
    if (code == CODE_ABORTED)
        return withdraw(tx, why.msg, st);
    if (code == CODE_DATA_LOSS)
        return status_set(st, code, "%s", why.msg);
    if (code != CODE_OK)
        return roll_back(tx, why.msg, ret_outcome, st);
    return activate(tx, ret_outcome, st);
}

/* The administrator's last word before anything is changed. Once one of several let it pass, a later no is a
 * failure, too. */
static enum code ask_pre_hooks(struct tx *tx, struct status *st)
{
    for (struct policy_reload *const *r = tx->reload; *r; r++) {
        if (!(*r)->pre)
            continue;
        TRY(note(tx, "pre", NULL, (*r)->name, NULL, st));
        if (hook_step(tx, *r, "pre", (*r)->pre, NULL, st) != CODE_OK)
            return status_set(st, CODE_FAILED_PRECONDITION, "the pre hook forbids the change: %.200s",
                              arena_strdup(tx->run->arena, st->msg));
        tx->let_pass = true;
    }
    tx->let_pass = true;
    return CODE_OK;
}

/* What was let pass did not succeed: whoever took the host out of service has to know. A failure of the hook
 * itself is only shown. */
static void run_failure_hooks(struct tx *tx, enum code code, Clm__Receipt__Outcome outcome,
                              const struct status *st)
{
    struct status ignored = {0};
    bool done = code == CODE_OK && (outcome == CLM__RECEIPT__OUTCOME__SUCCEEDED ||
                                    outcome == CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
    const char *reason = code != CODE_OK ? st->msg : tx->run->message;
    for (struct policy_reload *const *r = tx->reload; !done && tx->let_pass && *r; r++) {
        if ((*r)->failure)
            (void)hook_step(tx, *r, "failure", (*r)->failure, reason, &ignored);
    }
}

static enum code prepare(struct tx *tx, const struct change *change, struct status *st)
{
    if (tx->place->check)
        TRY(tx->place->check(&tx->at, st));
    TRY(read_in_place(tx, st));
    TRY(open_in_place(tx, change, st));
    judge_old(tx);
    TRY(check_new(tx, change, st));
    /* After the check, which settles the name to ask for: before and after must be the same question. */
    TRY(probe_before(tx, st));
    TRY(ask_pre_hooks(tx, st));
    enum code code = stage(tx, st);
    if (code == CODE_OK)
        code = back_up(tx, st);
    if (code == CODE_OK)
        code = check_unchanged(tx, st);
    if (code == CODE_OK && tx->run->cancelled && tx->run->cancelled(tx->run))
        code = status_set(st, CODE_CANCELLED, "cancelled before anything was changed");
    if (code != CODE_OK)
        discard_staged(tx);
    return code;
}

enum code transaction_run(struct task_run *run, const struct change *change,
                          Clm__Receipt__Outcome *ret_outcome, struct status *st)
{
    CLEANUP(tx_done) struct tx tx;
    set_up(&tx, run, change->target);
    enum code code = prepare(&tx, change, st);
    if (code == CODE_CANCELLED) {
        task_message(run, "%s", st->msg);
        *ret_outcome = CLM__RECEIPT__OUTCOME__CANCELLED;
        code = CODE_OK;
    } else if (code == CODE_OK) {
        code = change_files(&tx, ret_outcome, st);
    }
    run_failure_hooks(&tx, code, *ret_outcome, st);
    return code;
}

/* --- resuming ----------------------------------------------------------------------------------------- */

bool transaction_begun(const struct task_run *run)
{
    return run->resume && journal_find_step(run->journal, "swap");
}

static void copy_digest(char to[SHA256_HEX_SIZE], const char *from)
{
    (void)snprintf(to, SHA256_HEX_SIZE, "%s", from ? from : "");
}

/* The latest record of each file stands. */
static void recall_files(struct tx *tx)
{
    for (size_t i = 0; i < journal_count(tx->run->journal); i++) {
        const Clm__Agent__JournalRecord *record = journal_get(tx->run->journal, i);
        for (size_t f = 0; record->step && record->path && f < tx->n; f++) {
            struct tx_file *file = &tx->file[f];
            if (strcmp(record->path, file->path) != 0)
                continue;
            if (strcmp(record->step, "stage") == 0) {
                copy_digest(file->new_sha, record->fingerprint);
                file->staged = record->other_path;
            } else if (strcmp(record->step, "backup") == 0) {
                copy_digest(file->old_sha, record->fingerprint);
                file->backup = record->other_path;
            }
        }
    }
}

static enum code recall(struct tx *tx, struct status *st)
{
    const Clm__Agent__JournalRecord *probe = journal_find_step(tx->run->journal, "probe");
    const Clm__Agent__JournalRecord *swap = journal_find_step(tx->run->journal, "swap");
    recall_files(tx);
    copy_digest(tx->leaf, swap->fingerprint);
    copy_digest(tx->before, probe ? probe->fingerprint : NULL);
    if (swap->other_path && swap->other_path[0])
        tx->server_name = swap->other_path;
    tx->reloaded = journal_find_step(tx->run->journal, "reload") != NULL;
    for (size_t i = 0; i < tx->n; i++) {
        struct tx_file *file = &tx->file[i];
        if (!file->new_sha[0] || !file->staged)
            return status_set(st, CODE_DATA_LOSS, "the journal does not know %.120s: did [target %s] change?",
                              file->path, tx->target->name);
        if (file->backup)
            TRY(store_read_backup(tx->run->state_dir, file->backup, &file->old, st));
    }
    struct status why;
    if (store_password(tx->target, &tx->password, &why) == CODE_OK)
        (void)!store_view(tx->target, cert_file(tx)->old, tx->password, tx->run->arena, &tx->in_place, &why);
    judge_old(tx);
    return CODE_OK;
}

/* What the cut-off run had already decided is only looked at again, and reported. */
static enum code report_commit(struct tx *tx, const Clm__Agent__JournalRecord *commit,
                               Clm__Receipt__Outcome *ret_outcome)
{
    char served[SHA256_HEX_SIZE] = "";
    int64_t started = clock_wall_ms();
    bool verified = commit->path && strcmp(commit->path, "verified") == 0;
    intended_put(&tx->at, tx->leaf);
    discard_staged(tx);
    if (tx->target->endpoint) {
        bool is_new = look(tx, served, NULL, 0) && strcmp(served, tx->leaf) == 0;
        tx->run->result->served_fingerprint_sha256 = served[0] ? arena_strdup(tx->run->arena, served) : NULL;
        task_step(tx->run, "verify", is_new, started, "%s",
                  is_new ? "the new certificate is served" : "not served now");
        verified = verified && is_new;
    }
    tx->run->result->fingerprint_after_sha256 = arena_strdup(tx->run->arena, tx->leaf);
    task_message(tx->run, "%s", commit->other_path ? commit->other_path : "installed");
    *ret_outcome = verified ? CLM__RECEIPT__OUTCOME__SUCCEEDED : CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED;
    return CODE_OK;
}

static void recall_certificate(struct tx *tx)
{
    CLEANUP(store_view_done) struct store_view now = {0};
    struct status why;
    if (store_view_now(tx->target, tx->run->arena, &now, &why) == CODE_OK && now.facts &&
        now.facts->n_certs > 0 && strcmp(now.facts->certs[0]->certificate->fingerprint_sha256, tx->leaf) == 0)
        tx->run->result->certificate = now.facts->certs[0]->certificate;
}

enum code transaction_resume(struct task_run *run, const struct policy_target *target,
                             Clm__Receipt__Outcome *ret_outcome, struct status *st)
{
    CLEANUP(tx_done) struct tx tx;
    int64_t started = clock_wall_ms();
    set_up(&tx, run, target);
    const Clm__Agent__JournalRecord *commit_record = journal_find_step(run->journal, "commit");
    const Clm__Agent__JournalRecord *rollback = journal_find_step(run->journal, "rollback");
    const Clm__Agent__JournalRecord *withdrawn = journal_find_step(run->journal, "withdrawn");
    TRY(recall(&tx, st));
    if (withdrawn)
        return withdraw(&tx, withdrawn->other_path ? withdrawn->other_path : "changed by somebody else", st);
    task_step(run, "resume", true, started, "after an interruption");
    enum code code;
    if (commit_record) {
        code = report_commit(&tx, commit_record, ret_outcome);
    } else if (rollback) {
        code = roll_back(&tx, rollback->other_path ? rollback->other_path : "an earlier failure", ret_outcome,
                         st);
    } else {
        struct status why = {0};
        code = swap(&tx, &why);
        if (code == CODE_ABORTED)
            code = withdraw(&tx, why.msg, st);
        else if (code == CODE_DATA_LOSS)
            (void)status_set(st, code, "%s", why.msg);
        else
            code =
                code == CODE_OK ? activate(&tx, ret_outcome, st) : roll_back(&tx, why.msg, ret_outcome, st);
    }
    run_failure_hooks(&tx, code, *ret_outcome, st);
    recall_certificate(&tx);
    return code;
}
