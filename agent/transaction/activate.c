/* The new files are in place: the server is made to use them, and what it serves decides how it ends. */
#include <string.h>

#include "base/clock.h"
#include "kinds/installed.h"
#include "kinds/judge.h"
#include "kinds/revocation.h"
#include "transaction/tx.h"

#define BACKUP_LIFE_MS (14 * 24 * 3600 * 1000ll)

static enum code commit(struct tx *tx, Clm__Receipt__Outcome outcome, const char *reason,
                        Clm__Receipt__Outcome *ret_outcome)
{
    struct task_run *run = tx->run;
    bool verified = outcome == CLM__RECEIPT__OUTCOME__SUCCEEDED;
    tx_note_late(tx, "commit", verified ? "verified" : "unverified", reason, tx->leaf);
    intended_put(&tx->at, tx->leaf);
    tx_discard_staged(tx);
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

/* Nothing is worth going back to that clients refuse. Asked only when it matters: it may take seconds. */
static bool old_is_revoked(struct tx *tx)
{
    AUTO_BUF struct buf trust = {0};
    struct revocation_answer revocation = {0};
    struct status why;
    struct bytes pem = {tx->in_place.chain_pem.data, tx->in_place.chain_pem.len};
    if (pem.len == 0 || !tx->run->policy->fetch_hosts)
        return false;
    trust_load(tx->run->state_dir, &trust);
    struct judge_sources of = {.pem = pem, .trust = {trust.data, trust.len}};
    return revocation_ask(tx->run, &of, &revocation, &why) == CODE_OK && revocation.said &&
           revocation.said->outcome == CLM__CHECK__OUTCOME__FAIL;
}

static enum code verify(struct tx *tx, bool reload_ok, const char *reload_why,
                        Clm__Receipt__Outcome *ret_outcome, struct status *st)
{
    char served[SHA256_HEX_SIZE] = "", why[160] = "", reason[256];
    int64_t started = clock_wall_ms();
    if (!tx->target->endpoint) {
        if (!reload_ok)
            return tx_roll_back(tx, reload_why, ret_outcome, st);
        (void)snprintf(reason, sizeof(reason), "installed; [target %s] has no endpoint to look at",
                       tx->target->name);
        return commit(tx, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED, reason, ret_outcome);
    }
    tx_note_late(tx, "verify", NULL, tx->target->endpoint, tx->leaf);
    /* A reload that failed is not going to be served: one look is enough. */
    bool is_new = reload_ok ? tx_wait_served(tx, tx->leaf, served, why, sizeof(why))
                            : tx_look(tx, served, why, sizeof(why)) && strcmp(served, tx->leaf) == 0;
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
    if (tx->before[0] && !tx->old_is_dead && !old_is_revoked(tx))
        return tx_roll_back(tx, reason, ret_outcome, st);
    return commit(tx, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED, reason, ret_outcome);
}

enum code tx_activate(struct tx *tx, Clm__Receipt__Outcome *ret_outcome, struct status *st)
{
    struct status why = {0};
    bool reload_ok = true;
    for (struct policy_reload *const *r = tx->reload; *r; r++) {
        if (!(*r)->test)
            continue;
        tx_note_late(tx, "test", NULL, (*r)->name, NULL);
        if (tx_hook(tx, *r, "test", (*r)->test, NULL, &why) != CODE_OK) {
            status_wrap(&why, "the configuration test failed");
            return tx_roll_back(tx, why.msg, ret_outcome, st);
        }
    }
    for (struct policy_reload *const *r = tx->reload; *r && reload_ok; r++) {
        tx_note_late(tx, "reload", NULL, (*r)->name, NULL);
        tx->reloaded = true;
        reload_ok = tx_hook(tx, *r, "reload", (*r)->command, NULL, &why) == CODE_OK;
    }
    if (!reload_ok && tx->reload[1]) { /* the endpoint is one server's, and the others use the file, too */
        status_wrap(&why, "the reload failed");
        return tx_roll_back(tx, why.msg, ret_outcome, st);
    }
    return verify(tx, reload_ok, why.msg, ret_outcome, st);
}
