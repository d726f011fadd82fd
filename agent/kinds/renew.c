/*
 * RENEW: a key made on this host, a CSR, a certificate from the platform, and then the same transaction as
 * DEPLOY. The new key is on disk (0600, among the agent's backups, under a journalled name) before its CSR
 * leaves, so that a run that was cut off asks again with the same key and gets the same certificate. Runs in
 * a task's child.
 */
#include <ctype.h>
#include <string.h>

#include "base/clock.h"
#include "base/endpoint.h"
#include "kinds/judge.h"
#include "stores/place.h"
#include "stores/store.h"
#include "transaction/transaction.h"

struct names {
    char **item;
    size_t n;
};

static enum code names_in_place(struct task_run *run, const struct policy_target *target, struct names *ret,
                                struct status *st)
{
    CLEANUP(store_view_done) struct store_view now = {0};
    struct status why;
    if (store_view_now(target, run->arena, &now, &why) != CODE_OK && why.code != CODE_INVALID_ARGUMENT)
        return status_set(st, why.code, "%s", why.msg);
    const Clm__Agent__Facts *facts = now.facts;
    if (!facts || facts->n_certs == 0 || facts->certs[0]->certificate->n_dns_names == 0)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "%.120s holds no certificate with names to renew: give the task dns_names",
                          target->certificate);
    ret->item = facts->certs[0]->certificate->dns_names;
    ret->n = facts->certs[0]->certificate->n_dns_names;
    return CODE_OK;
}

static enum code find_names(struct task_run *run, const struct policy_target *target, struct names *ret,
                            struct status *st)
{
    const Clm__RenewSpec *spec = run->spec->renew;
    *ret = (struct names){spec->dns_names, spec->n_dns_names};
    if (ret->n == 0)
        TRY(names_in_place(run, target, ret, st));
    if (ret->n > PKI_NAMES_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "%zu names: at most %d", ret->n, PKI_NAMES_MAX);
    TRY(task_scope_names(run, ret->item, ret->n, st));
    return policy_allows_names(run->policy, target, ret->item, ret->n, st);
}

/* Borrows the names. */
static enum code make_csr(const struct key *key, const struct names *names, struct arena *arena,
                          struct der *ret, struct status *st)
{
    struct pki_names san = {0};
    for (size_t i = 0; i < names->n; i++) {
        char *name = arena_strdup(arena, names->item[i]);
        bool is_address = host_is_address(name);
        if (is_address && san.n_ip >= ARRAY_LEN(san.ip))
            return status_set(st, CODE_INVALID_ARGUMENT, "more than %zu addresses", ARRAY_LEN(san.ip));
        for (char *c = name; *c; c++)
            *c = (char)tolower((unsigned char)*c);
        if (is_address)
            san.ip[san.n_ip++] = name;
        else
            san.dns[san.n_dns++] = name;
    }
    /* A common name has at most 64 characters (RFC 5280 appendix A.1); the names that count are the SANs. */
    const char *common_name = san.n_dns > 0 && strlen(san.dns[0]) <= 64 ? san.dns[0] : NULL;
    return csr_make(key, common_name, &san, ret, st);
}

static const enum key_type key_types[] = {
    [CLM__RENEW_SPEC__KEY_TYPE__EC_P256] = KEY_EC_P256,
    [CLM__RENEW_SPEC__KEY_TYPE__EC_P384] = KEY_EC_P384,
    [CLM__RENEW_SPEC__KEY_TYPE__RSA_2048] = KEY_RSA_2048,
    [CLM__RENEW_SPEC__KEY_TYPE__RSA_3072] = KEY_RSA_3072,
};

static enum code key_in_bundle(struct task_run *run, const struct policy_target *target, struct secret **ret,
                               struct status *st)
{
    CLEANUP(store_view_done) struct store_view now = {0};
    AUTO_SECRET struct secret *content = NULL, *password = NULL;
    struct place_at at = {.target = target, .state_dir = run->state_dir};
    TRY(place_of(target)->read(&at, target->certificate, &content, NULL, st));
    TRY(store_password(target, &password, st));
    TRY(store_view(target, content, password, run->arena, &now, st));
    struct store_tool tool = {target, password,
                              arena_printf(run->arena, "%s/keytool-%s-%u", run->state_dir,
                                           run->order->task_id, run->order->attempt)};
    TRY(store_view_unlock(&tool, content, run->arena, &now, st));
    *ret = TAKE(now.key);
    return CODE_OK;
}

static enum code key_in_place(struct task_run *run, const struct policy_target *target, struct key **ret,
                              struct status *st)
{
    AUTO_SECRET struct secret *encoded = NULL;
    const char *path = target_key_path(target);
    if (target_is_bundle(target)) {
        TRY(key_in_bundle(run, target, &encoded, st));
    } else {
        TRY(store_read(path, &encoded, NULL, st));
    }
    if (!encoded)
        return status_set(st, CODE_FAILED_PRECONDITION, "there is no key at %.150s to use again", path);
    return key_parse(encoded, NULL, ret, st);
}

/* The key that the cut-off run had made, if it was written whole. */
static struct key *key_of_former_run(struct task_run *run, const char *made)
{
    AUTO_SECRET struct secret *encoded = NULL;
    struct key *key = NULL;
    if (!run->resume || !journal_find_step(run->journal, "key") ||
        store_read_backup(run->state_dir, made, &encoded, NULL) != CODE_OK ||
        key_parse(encoded, NULL, &key, NULL) != CODE_OK)
        return NULL;
    return key;
}

static enum code new_key(struct task_run *run, const struct policy_target *target, const char *made,
                         struct key **ret, struct status *st)
{
    const Clm__RenewSpec *spec = run->spec->renew;
    AUTO_SECRET struct secret *pem = NULL;
    *ret = key_of_former_run(run, made);
    if (*ret)
        return CODE_OK;
    size_t type = spec->has_key_type ? (size_t)spec->key_type : CLM__RENEW_SPEC__KEY_TYPE__EC_P256;
    if (type >= ARRAY_LEN(key_types))
        return status_set(st, CODE_INVALID_ARGUMENT, "key type %zu is not known", type);
    AUTO_KEY struct key *key = NULL;
    TRY(key_generate(key_types[type], &key, st));
    TRY(key_to_pem(key, NULL, &pem, st));
    TRY(journal_step(run->journal, "key", target->name, target_key_path(target), made, NULL, st));
    TRY(store_backup(run->state_dir, made, pem, st));
    *ret = TAKE(key);
    return CODE_OK;
}

static enum code obtain(struct task_run *run, const struct key *key, const struct names *names,
                        struct buf *ret_chain, struct der *ret_root, struct status *st)
{
    AUTO_DER struct der csr = {0};
    AUTO_DER_LIST struct der_list chain = {0};
    int64_t started = clock_wall_ms();
    TRY(make_csr(key, names, run->arena, &csr, st));
    TRY(journal_step(run->journal, "sign", NULL, NULL, NULL, NULL, st));
    enum code code = run->sign(run, der_bytes(&csr), &chain, ret_root, st);
    task_step(run, "sign", code == CODE_OK, started, "%s",
              code == CODE_OK ? "the platform issued a certificate" : st->msg);
    TRY(code);
    return certs_to_pem(&chain, ret_chain, st);
}

static enum code renew(struct task_run *run, const struct policy_target *target, const char *made,
                       Clm__Receipt__Outcome *ret_outcome, struct status *st)
{
    const Clm__RenewSpec *spec = run->spec->renew;
    bool reuse = spec->has_reuse_key && spec->reuse_key;
    struct names names;
    AUTO_KEY struct key *key = NULL;
    AUTO_BUF struct buf chain = {0};
    AUTO_DER struct der root = {0};
    AUTO_SECRET struct secret *pem = NULL;
    transaction_forget(run, target);
    TRY(find_names(run, target, &names, st));
    int64_t started = clock_wall_ms();
    TRY(reuse ? key_in_place(run, target, &key, st) : new_key(run, target, made, &key, st));
    task_step(run, "key", true, started, reuse ? "the one in place" : "made on this host");
    TRY(obtain(run, key, &names, &chain, &root, st));
    if (!reuse)
        TRY(key_to_pem(key, NULL, &pem, st));
    struct change change = {
        .target = target,
        .chain_pem = {chain.data, chain.len},
        .root = der_bytes(&root),
        .key = pem,
        .names = names.item,
        .n_names = names.n,
    };
    TRY(transaction_run(run, &change, ret_outcome, st));
    if (root.len > 0 && *ret_outcome != CLM__RECEIPT__OUTCOME__FAILED)
        trust_remember(run->state_dir, der_bytes(&root));
    return CODE_OK;
}

static enum code renew_or_resume(struct task_run *run, const char *made, Clm__Receipt__Outcome *ret_outcome,
                                 struct status *st)
{
    const struct policy_target *target;
    if (!run->spec->renew)
        return status_set(st, CODE_INVALID_ARGUMENT, "the task has no renew specification");
    if (task_find_target(run, run->spec->renew->target, &target, st) != CODE_OK)
        return transaction_stranded(run, st);
    TRY(transaction_begun(run) ? transaction_resume(run, target, ret_outcome, st)
                               : renew(run, target, made, ret_outcome, st));
    discover_installed(run, target, *ret_outcome);
    return CODE_OK;
}

enum code renew_run(struct task_run *run, Clm__Receipt__Outcome *ret_outcome, struct status *st)
{
    const char *made = arena_printf(run->arena, "%s-%u-made.key", run->order->task_id, run->order->attempt);
    enum code code = renew_or_resume(run, made, ret_outcome, st);
    /* Installed, or of no use any more: another attempt makes another key. */
    (void)!store_remove_backup(run->state_dir, made, NULL);
    return code;
}
