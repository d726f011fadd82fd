/* Files from the old to the new side, and back: the digests in the journal say which side each is on. */
#include <string.h>

#include "base/clock.h"
#include "transaction/tx.h"

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

/* Which files are new already. */
static enum code look_at_files(struct tx *tx, const char **ret_foreign, size_t *ret_new, struct status *st)
{
    *ret_foreign = NULL;
    *ret_new = 0;
    for (size_t i = 0; i < tx->n; i++) {
        struct tx_file *file = &tx->file[i];
        enum side side;
        TRY(side_of(tx, file, &side, st));
        file->is_new = side == SIDE_NEW;
        /* What is the same before and after is on neither side. */
        *ret_new += file->is_new && strcmp(file->new_sha, file->old_sha) != 0;
        if (side == SIDE_FOREIGN)
            *ret_foreign = file->path;
    }
    return CODE_OK;
}

/* Which files are still old; of a place that changes as a whole, all if any is. */
static enum code plan_moves(struct tx *tx, struct store_move moves[TX_FILES_MAX], size_t *ret_n,
                            struct status *st)
{
    const char *foreign;
    size_t n_new, n_old = 0;
    TRY(look_at_files(tx, &foreign, &n_new, st));
    if (foreign && n_new == 0)
        return status_set(st, CODE_ABORTED, "%.150s was changed by somebody else meanwhile", foreign);
    if (foreign)
        return status_set(st, CODE_DATA_LOSS,
                          "%.150s is neither the old nor the new one: put it right by hand", foreign);
    for (size_t i = 0; i < tx->n; i++)
        n_old += !tx->file[i].is_new;
    *ret_n = 0;
    for (size_t i = 0; i < tx->n && n_old > 0; i++) {
        struct tx_file *file = &tx->file[i];
        if (file->is_new && !tx->place->whole)
            continue;
        TRY(tx_check_staged(tx, file, st));
        moves[(*ret_n)++] = (struct store_move){file->path, file->staged, file->old_sha};
    }
    return CODE_OK;
}

enum code tx_swap(struct tx *tx, struct status *st)
{
    struct store_move moves[TX_FILES_MAX];
    int64_t started = clock_wall_ms();
    size_t n = 0;
    TRY(plan_moves(tx, moves, &n, st));
    if (n > 0)
        TRY(tx->place->swap(&tx->at, moves, n, st));
    task_step(tx->run, "swap", true, started, "%s", tx_cert(tx)->path);
    return CODE_OK;
}

/* Stages the former content of a file, out of its backup. */
static enum code stage_old(struct tx *tx, const struct tx_file *file, struct status *st)
{
    AUTO_SECRET struct secret *old = NULL, *now = NULL;
    struct store_meta meta;
    char digest[SHA256_HEX_SIZE];
    TRY(store_read_backup(tx->run->state_dir, file->backup, &old, st));
    sha256_hex(tx_bytes(old), digest);
    if (strcmp(digest, file->old_sha) != 0)
        return status_set(st, CODE_DATA_LOSS, "the backup %s is damaged", file->backup);
    TRY(tx->place->read(&tx->at, file->path, &now, &meta, st));
    return tx->place->stage(&tx->at, file->path, file->staged, tx_bytes(old), &meta, st);
}

enum code tx_restore(struct tx *tx, struct status *st)
{
    struct store_move moves[TX_FILES_MAX];
    const char *foreign;
    size_t n = 0, n_new;
    TRY(look_at_files(tx, &foreign, &n_new, st));
    if (foreign)
        return status_set(st, CODE_DATA_LOSS, "%.150s was changed by somebody else: put it right by hand",
                          foreign);
    /* What is the same before and after needs no restoring. */
    for (size_t i = 0; i < tx->n; i++)
        tx->file[i].is_new = tx->file[i].is_new && strcmp(tx->file[i].new_sha, tx->file[i].old_sha) != 0;
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
