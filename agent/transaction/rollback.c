/* Back to the former state: files, server, and a look at whether it serves the former certificate again. */
#include "base/clock.h"
#include "transaction/tx.h"

/* After a failed change: files back, server back. Only what cannot be brought back is an error. */
static enum code restore_all(struct tx *tx, struct status *st)
{
    int64_t started = clock_wall_ms();
    if (tx_restore(tx, st) != CODE_OK) {
        task_step(tx->run, "rollback", false, started, "%s", st->msg);
        return status_set(st, CODE_DATA_LOSS, "rollback failed: %.200s", st->msg);
    }
    task_step(tx->run, "rollback", true, started, "the former files are back");
    for (struct policy_reload *const *r = tx->reload; tx->reloaded && *r; r++) {
        struct status ignored;
        if ((*r)->test)
            (void)tx_hook(tx, *r, "rollback-test", (*r)->test, NULL, &ignored);
        (void)tx_hook(tx, *r, "rollback-reload", (*r)->command, NULL, &ignored);
    }
    if (!tx->target->endpoint || !tx->before[0])
        return CODE_OK;
    char served[SHA256_HEX_SIZE], why[160];
    started = clock_wall_ms();
    bool back = tx_wait_served(tx, tx->before, served, why, sizeof(why));
    tx->run->result->served_fingerprint_sha256 = served[0] ? arena_strdup(tx->run->arena, served) : NULL;
    task_step(tx->run, "rollback-verify", back, started, "%s",
              back ? "the former certificate is served" : "the former certificate is not served again");
    if (!back)
        return status_set(st, CODE_DATA_LOSS, "rollback failed: %s does not serve the former certificate",
                          tx->target->endpoint);
    return CODE_OK;
}

enum code tx_roll_back(struct tx *tx, const char *reason, Clm__Receipt__Outcome *ret_outcome,
                       struct status *st)
{
    struct status why = {0};
    char text[256];
    (void)snprintf(text, sizeof(text), "%s", reason);
    /* other_path carries the reason: a resumed run reports what the first one found. */
    tx_note_late(tx, "rollback", NULL, text, NULL);
    enum code code = restore_all(tx, &why);
    tx_discard_staged(tx);
    if (code != CODE_OK) {
        task_message(tx->run, "%s; %s", text, why.msg);
        return status_set(st, CODE_DATA_LOSS, "%s; %s", why.msg, text);
    }
    tx_note_late(tx, "rolled-back", NULL, text, NULL);
    tx->run->result->fingerprint_after_sha256 = tx->run->result->fingerprint_before_sha256;
    task_message(tx->run, "rolled back: %s", text);
    *ret_outcome = CLM__RECEIPT__OUTCOME__FAILED;
    return CODE_OK;
}

enum code tx_withdraw(struct tx *tx, const char *reason, struct status *st)
{
    char text[256];
    (void)snprintf(text, sizeof(text), "%s", reason);
    tx_note_late(tx, "withdrawn", NULL, text, NULL);
    tx_discard_staged(tx);
    return status_set(st, CODE_ABORTED, "%s: nothing was installed", text);
}

enum code tx_give_up(struct tx *tx, const char *reason, struct status *st)
{
    tx_discard_staged(tx);
    return status_set(st, CODE_DATA_LOSS, "%s", reason);
}
