/* See envelope.h. The mutex guards the pointers; the material behind them is copied out under it. */
#include "envelope.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "convert.h"
#include "pki/cms.h"

#define IDLE_MAX 16

struct envelope_signer {
    pthread_mutex_t mutex;
    struct secret *key_pem; /* NULL: none yet */
    struct der_list chain;  /* leaf first */
    int64_t not_before_ms, not_after_ms;
    unsigned serial; /* rises with each certificate */
    struct sealer
        *idle[IDLE_MAX]; /* ready for the next batch: decoding key and chain costs more than sealing */
    size_t n_idle;
};

struct sealer {
    struct envelope_signer *signer;
    unsigned serial;
    struct cms_signer *cms;
};

struct envelope_signer *envelope_signer_new(void)
{
    struct envelope_signer *signer = calloc(1, sizeof(*signer));
    if (!signer)
        abort();
    (void)pthread_mutex_init(&signer->mutex, NULL);
    return signer;
}

static void sealer_destroy(struct sealer *sealer)
{
    if (!sealer)
        return;
    cms_signer_free(sealer->cms);
    free(sealer);
}

static void idle_drop_locked(struct envelope_signer *signer)
{
    while (signer->n_idle > 0)
        sealer_destroy(signer->idle[--signer->n_idle]);
}

void envelope_signer_free(struct envelope_signer *signer)
{
    if (!signer)
        return;
    idle_drop_locked(signer);
    secret_free(signer->key_pem);
    der_list_done(&signer->chain);
    (void)pthread_mutex_destroy(&signer->mutex);
    free(signer);
}

static void chain_copy(const struct der_list *from, struct der_list *to)
{
    to->n = from->n;
    for (size_t i = 0; i < from->n; i++) {
        to->item[i].data = malloc(from->item[i].len);
        if (!to->item[i].data)
            abort();
        memcpy(to->item[i].data, from->item[i].data, from->item[i].len);
        to->item[i].len = from->item[i].len;
    }
}

enum code envelope_signer_set(struct envelope_signer *signer, struct key **key, const struct der_list *chain,
                              struct status *st)
{
    if (chain->n == 0 || !key_matches_cert(*key, der_bytes(&chain->item[0])))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "the envelope certificate is not for the key that asked for it");
    AUTO_CERT_INFO struct cert_info info = {0};
    TRY(cert_read(der_bytes(&chain->item[0]), &info, st));
    AUTO_SECRET struct secret *pem = NULL;
    TRY(key_to_pem(*key, NULL, &pem, st));
    (void)pthread_mutex_lock(&signer->mutex);
    secret_free(signer->key_pem);
    signer->key_pem = TAKE(pem);
    der_list_done(&signer->chain);
    chain_copy(chain, &signer->chain);
    signer->not_before_ms = info.not_before_ms;
    signer->not_after_ms = info.not_after_ms;
    signer->serial++;
    idle_drop_locked(signer);
    (void)pthread_mutex_unlock(&signer->mutex);
    key_free(TAKE(*key));
    return CODE_OK;
}

static bool ready_locked(const struct envelope_signer *signer, int64_t now_ms)
{
    return signer->key_pem && now_ms < signer->not_after_ms;
}

bool envelope_signer_ready(struct envelope_signer *signer, int64_t now_ms)
{
    (void)pthread_mutex_lock(&signer->mutex);
    bool ready = ready_locked(signer, now_ms);
    (void)pthread_mutex_unlock(&signer->mutex);
    return ready;
}

bool envelope_signer_is_due(struct envelope_signer *signer, int64_t now_ms)
{
    (void)pthread_mutex_lock(&signer->mutex);
    int64_t half = signer->not_before_ms + (signer->not_after_ms - signer->not_before_ms) / 2;
    bool due = !signer->key_pem || now_ms >= half;
    (void)pthread_mutex_unlock(&signer->mutex);
    return due;
}

void sealer_free(struct sealer *sealer)
{
    if (!sealer)
        return;
    struct envelope_signer *signer = sealer->signer;
    (void)pthread_mutex_lock(&signer->mutex);
    bool keep = sealer->serial == signer->serial && signer->n_idle < IDLE_MAX;
    if (keep)
        signer->idle[signer->n_idle++] = sealer;
    (void)pthread_mutex_unlock(&signer->mutex);
    if (!keep)
        sealer_destroy(sealer);
}

/* NULL in *ret_pem: an idle one, or there is no certificate. Else one that has to be made of these copies. */
static struct sealer *sealer_take_or_copy(struct envelope_signer *signer, int64_t now_ms,
                                          struct secret **ret_pem, struct der_list *ret_chain)
{
    struct sealer *sealer = NULL;
    (void)pthread_mutex_lock(&signer->mutex);
    if (ready_locked(signer, now_ms) && signer->n_idle > 0) {
        sealer = signer->idle[--signer->n_idle];
    } else if (ready_locked(signer, now_ms)) {
        sealer = calloc(1, sizeof(*sealer));
        if (!sealer)
            abort();
        sealer->signer = signer;
        sealer->serial = signer->serial;
        chain_copy(&signer->chain, ret_chain);
        *ret_pem = secret_dup(signer->key_pem->data, signer->key_pem->len);
    }
    (void)pthread_mutex_unlock(&signer->mutex);
    return sealer;
}

static enum code sealer_make(struct sealer *sealer, const struct secret *pem, const struct der_list *chain,
                             struct status *st)
{
    AUTO_KEY struct key *key = NULL;
    struct der_list intermediates = {.n = chain->n - 1}; /* borrowed */
    for (size_t i = 0; i < intermediates.n; i++)
        intermediates.item[i] = chain->item[i + 1];
    TRY(key_parse(pem, NULL, &key, st));
    return cms_signer_new(key, der_bytes(&chain->item[0]), &intermediates, &sealer->cms, st);
}

enum code sealer_new(struct envelope_signer *signer, int64_t now_ms, struct sealer **ret, struct status *st)
{
    AUTO_SECRET struct secret *pem = NULL;
    AUTO_DER_LIST struct der_list chain = {0};
    struct sealer *sealer = sealer_take_or_copy(signer, now_ms, &pem, &chain);
    if (!sealer)
        return status_set(st, CODE_UNAVAILABLE,
                          "no envelope certificate yet: waiting for bootstrap to issue one");
    if (pem && sealer_make(sealer, pem, &chain, st) != CODE_OK) {
        sealer_destroy(sealer);
        return st->code;
    }
    *ret = sealer;
    return CODE_OK;
}

enum code sealer_seal(struct sealer *sealer, const struct order *order, struct bytes recipient,
                      struct arena *arena, struct bytes *ret, struct status *st)
{
    struct bytes plaintext;
    TRY(order_write(order, arena, &plaintext, st));
    AUTO_DER struct der sealed = {0};
    TRY(envelope_seal(plaintext, recipient, sealer->cms, &sealed, st));
    *ret = (struct bytes){arena_dup(arena, sealed.data, sealed.len), sealed.len};
    return CODE_OK;
}
