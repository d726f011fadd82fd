/* What is put aside before the swap: the new content beside the target, the former one among the backups. */
#include <string.h>

#include "base/clock.h"
#include "transaction/tx.h"

void tx_discard_staged(struct tx *tx)
{
    for (size_t i = 0; i < tx->n; i++)
        (void)!tx->place->remove(&tx->at, tx->file[i].path, tx->file[i].staged, NULL);
}

static const char *backup_name(const struct tx *tx, const struct tx_file *file)
{
    const Clm__TaskOrder *order = tx->run->order;
    return arena_printf(tx->run->arena, "%s-%u-%s-%s.bak", order->task_id, order->attempt, tx->target->name,
                        file->role);
}

void tx_forget(struct tx *tx)
{
    tx_discard_staged(tx);
    for (size_t i = 0; i < tx->n; i++)
        (void)!store_remove_backup(tx->run->state_dir, backup_name(tx, &tx->file[i]), NULL);
}

enum code tx_stage(struct tx *tx, struct status *st)
{
    int64_t started = clock_wall_ms();
    for (size_t i = 0; i < tx->n; i++) {
        struct tx_file *file = &tx->file[i];
        TRY(tx_note(tx, "stage", file->path, file->staged, file->new_sha, st));
        TRY(tx->place->stage(&tx->at, file->path, file->staged, tx_bytes(file->fresh), &file->meta, st));
    }
    task_step(tx->run, "stage", true, started, "%zu files beside the target", tx->n);
    return CODE_OK;
}

enum code tx_back_up(struct tx *tx, struct status *st)
{
    int64_t started = clock_wall_ms();
    for (size_t i = 0; i < tx->n; i++) {
        struct tx_file *file = &tx->file[i];
        if (file->old)
            file->backup = backup_name(tx, file);
        TRY(tx_note(tx, "backup", file->path, file->backup, file->old ? file->old_sha : NULL, st));
        if (file->old)
            TRY(store_backup(tx->run->state_dir, file->backup, file->old, st));
    }
    task_step(tx->run, "backup", true, started, "in %s/backup", tx->run->state_dir);
    return CODE_OK;
}

enum code tx_check_unchanged(struct tx *tx, struct status *st)
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

enum code tx_check_staged(struct tx *tx, const struct tx_file *file, struct status *st)
{
    AUTO_SECRET struct secret *staged = NULL;
    char digest[SHA256_HEX_SIZE] = "";
    TRY(tx->place->read_staged(&tx->at, file->path, file->staged, &staged, st));
    if (staged)
        sha256_hex(tx_bytes(staged), digest);
    if (strcmp(digest, file->new_sha) != 0)
        return status_set(st, CODE_FAILED_PRECONDITION, "the staged %s is gone or damaged", file->role);
    return CODE_OK;
}
