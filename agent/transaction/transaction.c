/* A transaction from its beginning: see transaction.h. */
#include "transaction/transaction.h"

#include "transaction/tx.h"

static enum code change_files(struct tx *tx, Clm__Receipt__Outcome *ret_outcome, struct status *st)
{
    struct status why = {0};
    enum code code = tx_note(tx, "swap", NULL, tx->server_name, tx->leaf, st);
    if (code != CODE_OK) {
        tx_forget(tx);
        return code;
    }
    code = tx_swap(tx, &why);
    if (code == CODE_ABORTED)
        return tx_withdraw(tx, why.msg, st);
    if (code == CODE_DATA_LOSS)
        return tx_give_up(tx, why.msg, st);
    if (code != CODE_OK)
        return tx_roll_back(tx, why.msg, ret_outcome, st);
    return tx_activate(tx, ret_outcome, st);
}

static enum code prepare(struct tx *tx, const struct change *change, struct status *st)
{
    if (tx->place->check)
        TRY(tx->place->check(&tx->at, st));
    TRY(tx_read_in_place(tx, st));
    TRY(tx_open_in_place(tx, change, st));
    tx_judge_old(tx);
    TRY(tx_check_new(tx, change, st));
    /* After the check, which settles the name to ask for: before and after must be the same question. */
    TRY(tx_probe_before(tx, st));
    TRY(tx_pre_hooks(tx, st));
    enum code code = tx_stage(tx, st);
    if (code == CODE_OK)
        code = tx_back_up(tx, st);
    if (code == CODE_OK)
        code = tx_check_unchanged(tx, st);
    if (code == CODE_OK && tx->run->cancelled && tx->run->cancelled(tx->run))
        code = status_set(st, CODE_CANCELLED, "cancelled before anything was changed");
    if (code != CODE_OK)
        tx_forget(tx);
    return code;
}

enum code transaction_run(struct task_run *run, const struct change *change,
                          Clm__Receipt__Outcome *ret_outcome, struct status *st)
{
    CLEANUP(tx_done) struct tx tx;
    tx_init(&tx, run, change->target);
    enum code code = prepare(&tx, change, st);
    if (code == CODE_CANCELLED) {
        task_message(run, "%s", st->msg);
        *ret_outcome = CLM__RECEIPT__OUTCOME__CANCELLED;
        code = CODE_OK;
    } else if (code == CODE_OK) {
        code = change_files(&tx, ret_outcome, st);
    }
    tx_failure_hooks(&tx, code, *ret_outcome, st);
    return code;
}
