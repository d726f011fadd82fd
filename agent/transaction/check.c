/* Before anything is touched: what is in place, and whether the new certificate may take its place. */
#include <string.h>

#include "base/clock.h"
#include "kinds/judge.h"
#include "transaction/tx.h"

enum code tx_read_in_place(struct tx *tx, struct status *st)
{
    for (size_t i = 0; i < tx->n; i++) {
        struct tx_file *file = &tx->file[i];
        TRY(tx->place->read(&tx->at, file->path, &file->old, &file->meta, st));
        if (file->old)
            sha256_hex(tx_bytes(file->old), file->old_sha);
        else
            file->meta.mode = file == tx_key(tx) ? 0600 : 0644;
    }
    return CODE_OK;
}

/* Opens what is in place. What is no certificate at all may be replaced; what only does not open may not: who
 * knows what would be lost. */
enum code tx_open_in_place(struct tx *tx, const struct change *change, struct status *st)
{
    const struct store *store = store_of(tx->target);
    TRY(store_password(tx->target, &tx->password, st));
    enum code code =
        store_view(tx->target, tx_cert(tx)->old, tx->password, tx->run->arena, &tx->in_place, st);
    if (code == CODE_INVALID_ARGUMENT)
        return CODE_OK;
    TRY(code);
    if (tx->in_place.facts && tx->in_place.facts->others > 0 &&
        !(store->keeps_others && store->keeps_others(tx->target, tx_bytes(tx_cert(tx)->old))))
        return status_set(
            st, CODE_FAILED_PRECONDITION,
            "%.120s holds %u other entries, which would be lost: give the server a keystore of its own",
            tx->target->certificate, tx->in_place.facts->others);
    if (change->key)
        return CODE_OK;
    struct store_tool tool = tx_tool(tx);
    return store_view_unlock(&tool, tx_cert(tx)->old, tx->run->arena, &tx->in_place, st);
}

/* Whether there is something to go back to that is worth it. */
void tx_judge_old(struct tx *tx)
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
    return target_is_bundle(tx->target) ? tx->in_place.key : tx_key(tx)->old;
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
    struct tx_file *cert = tx_cert(tx), *key = tx_key(tx), *chain = tx_file_of(tx, "chain");
    const struct secret *from = key_for(tx, change);
    struct store_parts parts = {
        .leaf_pem = field_bytes(&facts->leaf_pem),
        .intermediates_pem = chain ? (struct bytes){0} : field_bytes(&facts->intermediates_pem),
        .key = key == cert ? from : NULL,
        .old = {tx_bytes(cert->old), tx->password, tx->target->alias},
        .alias = alias_for(tx),
        .encryption = tx->target->encryption && strcmp(tx->target->encryption, "legacy") == 0 ? PKCS12_LEGACY
                                                                                              : PKCS12_MODERN,
    };
    struct store_tool tool = tx_tool(tx);
    TRY(store_make(&tool, &parts, tx->run->arena, &cert->fresh, st));
    if (chain)
        chain->fresh = secret_dup(facts->intermediates_pem.data, facts->intermediates_pem.len);
    if (key != cert)
        key->fresh = secret_dup(from->data, from->len);
    for (size_t i = 0; i < tx->n; i++)
        sha256_hex(tx_bytes(tx->file[i].fresh), tx->file[i].new_sha);
    return CODE_OK;
}

enum code tx_check_new(struct tx *tx, const struct change *change, struct status *st)
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
