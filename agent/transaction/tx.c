/* What a transaction knows of itself, and its journal: see tx.h. */
#include "transaction/tx.h"

#include <string.h>

#include "base/clock.h"

void tx_done(struct tx *tx)
{
    for (size_t i = 0; i < tx->n; i++) {
        secret_free(tx->file[i].old);
        secret_free(tx->file[i].fresh);
    }
    secret_free(tx->password);
    store_view_done(&tx->in_place);
}

struct bytes tx_bytes(const struct secret *secret)
{
    return secret ? (struct bytes){secret->data, secret->len} : (struct bytes){0};
}

enum code tx_note(struct tx *tx, const char *step, const char *path, const char *other,
                  const char *fingerprint, struct status *st)
{
    if (journal_step(tx->run->journal, step, tx->target->name, path, other, fingerprint, st) != CODE_OK)
        return status_wrap(st, "journal");
    return CODE_OK;
}

void tx_note_late(struct tx *tx, const char *step, const char *path, const char *other,
                  const char *fingerprint)
{
    struct status why;
    if (tx_note(tx, step, path, other, fingerprint, &why) != CODE_OK)
        task_step(tx->run, "journal", false, clock_wall_ms(), "%s is not in the journal: %s", step, why.msg);
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

void tx_init(struct tx *tx, struct task_run *run, const struct policy_target *target)
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

struct tx_file *tx_file_of(struct tx *tx, const char *role)
{
    for (size_t i = 0; i < tx->n; i++) {
        if (strcmp(tx->file[i].role, role) == 0)
            return &tx->file[i];
    }
    return NULL;
}

struct tx_file *tx_cert(struct tx *tx)
{
    return tx_file_of(tx, "cert");
}

struct tx_file *tx_key(struct tx *tx)
{
    struct tx_file *key = tx_file_of(tx, "key");
    return key ? key : tx_cert(tx);
}

struct store_tool tx_tool(const struct tx *tx)
{
    const Clm__TaskOrder *order = tx->run->order;
    return (struct store_tool){
        tx->target, tx->password,
        arena_printf(tx->run->arena, "%s/keytool-%s-%u", tx->run->state_dir, order->task_id, order->attempt)};
}
