/* A transaction that was cut off: what the journal knows of it, and its end. See transaction.h. */
#include <string.h>

#include "base/clock.h"
#include "kinds/installed.h"
#include "transaction/transaction.h"
#include "transaction/tx.h"

bool transaction_begun(const struct task_run *run)
{
    return run->resume && journal_find_step(run->journal, "swap");
}

enum code transaction_stranded(const struct task_run *run, struct status *st)
{
    static const char *const ends[] = {"commit", "rolled-back", "withdrawn"};
    bool over = !transaction_begun(run);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        over = over || journal_find_step(run->journal, ends[i]);
    struct status why = *st;
    return over ? why.code
                : status_set(st, CODE_DATA_LOSS,
                             "a change that was cut off is neither finished nor undone: %s", why.msg);
}

void transaction_forget(struct task_run *run, const struct policy_target *target)
{
    if (!run->resume || transaction_begun(run))
        return;
    CLEANUP(tx_done) struct tx tx;
    tx_init(&tx, run, target);
    tx_forget(&tx);
    store_scratch_remove(tx_tool(&tx).scratch);
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
        (void)!store_view(tx->target, tx_cert(tx)->old, tx->password, tx->run->arena, &tx->in_place, &why);
    tx_judge_old(tx);
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
    tx_discard_staged(tx);
    if (tx->target->endpoint) {
        bool is_new = tx_look(tx, served, NULL, 0) && strcmp(served, tx->leaf) == 0;
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
    tx_init(&tx, run, target);
    const Clm__Agent__JournalRecord *commit_record = journal_find_step(run->journal, "commit");
    const Clm__Agent__JournalRecord *rollback = journal_find_step(run->journal, "rollback");
    const Clm__Agent__JournalRecord *withdrawn = journal_find_step(run->journal, "withdrawn");
    TRY(recall(&tx, st));
    if (withdrawn)
        return tx_withdraw(&tx, withdrawn->other_path ? withdrawn->other_path : "changed by somebody else",
                           st);
    task_step(run, "resume", true, started, "after an interruption");
    enum code code;
    if (commit_record) {
        code = report_commit(&tx, commit_record, ret_outcome);
    } else if (rollback) {
        code = tx_roll_back(&tx, rollback->other_path ? rollback->other_path : "an earlier failure",
                            ret_outcome, st);
    } else {
        struct status why = {0};
        code = tx_swap(&tx, &why);
        if (code == CODE_ABORTED)
            code = tx_withdraw(&tx, why.msg, st);
        else if (code == CODE_DATA_LOSS)
            code = tx_give_up(&tx, why.msg, st);
        else
            code = code == CODE_OK ? tx_activate(&tx, ret_outcome, st)
                                   : tx_roll_back(&tx, why.msg, ret_outcome, st);
    }
    tx_failure_hooks(&tx, code, *ret_outcome, st);
    recall_certificate(&tx);
    return code;
}
