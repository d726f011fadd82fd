/*
 * OpenSSL's own cache drops a session whose connection ended without close_notify and cannot be asked before
 * it resumes one; this store can. Open hashing over a ring of slots: the oldest slot is overwritten. One
 * mutex.
 */
#include "http/tls_session.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"

#define NONE UINT32_MAX

struct slot {
    SSL_SESSION *session;
    uint32_t next; /* in its bucket */
    uint32_t bucket;
};

struct session_store {
    pthread_mutex_t mutex;
    struct slot *slots;
    uint32_t *buckets;
    uint32_t capacity, bucket_count, at;
};

struct session_store *session_store_new(size_t capacity)
{
    struct session_store *store = calloc(1, sizeof(*store));
    if (!store)
        abort();
    store->capacity = capacity > 1u << 20 ? 1u << 20 : (uint32_t)capacity;
    store->bucket_count = 16;
    while (store->bucket_count < store->capacity)
        store->bucket_count *= 2;
    store->slots = calloc(store->capacity, sizeof(*store->slots));
    store->buckets = malloc(store->bucket_count * sizeof(*store->buckets));
    if (!store->slots || !store->buckets)
        abort();
    memset(store->buckets, 0xff, store->bucket_count * sizeof(*store->buckets));
    pthread_mutex_init(&store->mutex, NULL);
    return store;
}

/* Session ids are random bytes that we made: their head is hash enough. */
static uint32_t bucket_of(const struct session_store *store, const unsigned char *id, size_t len)
{
    uint32_t hash = 0;
    memcpy(&hash, id, len < sizeof(hash) ? len : sizeof(hash));
    return hash & (store->bucket_count - 1);
}

static void empty_slot(struct session_store *store, uint32_t at)
{
    struct slot *slot = &store->slots[at];
    if (!slot->session)
        return;
    uint32_t *link = &store->buckets[slot->bucket];
    while (*link != at)
        link = &store->slots[*link].next;
    *link = slot->next;
    SSL_SESSION_free(TAKE(slot->session));
}

static uint32_t find(const struct session_store *store, const unsigned char *id, size_t len)
{
    for (uint32_t at = store->buckets[bucket_of(store, id, len)]; at != NONE; at = store->slots[at].next) {
        unsigned int have_len;
        const unsigned char *have = SSL_SESSION_get_id(store->slots[at].session, &have_len);
        if (have_len == len && memcmp(have, id, len) == 0)
            return at;
    }
    return NONE;
}

void session_store_put(struct session_store *store, SSL_SESSION *session)
{
    unsigned int len;
    const unsigned char *id = SSL_SESSION_get_id(session, &len);
    pthread_mutex_lock(&store->mutex);
    empty_slot(store, store->at);
    struct slot *slot = &store->slots[store->at];
    slot->session = session;
    slot->bucket = bucket_of(store, id, len);
    slot->next = store->buckets[slot->bucket];
    store->buckets[slot->bucket] = store->at;
    store->at = (store->at + 1) % store->capacity;
    pthread_mutex_unlock(&store->mutex);
}

SSL_SESSION *session_store_get(struct session_store *store, const unsigned char *id, size_t len)
{
    SSL_SESSION *session = NULL;
    pthread_mutex_lock(&store->mutex);
    uint32_t at = find(store, id, len);
    if (at != NONE) {
        session = store->slots[at].session;
        (void)SSL_SESSION_up_ref(session);
    }
    pthread_mutex_unlock(&store->mutex);
    return session;
}

void session_store_remove(struct session_store *store, const SSL_SESSION *session)
{
    unsigned int len;
    const unsigned char *id = SSL_SESSION_get_id(session, &len);
    pthread_mutex_lock(&store->mutex);
    uint32_t at = find(store, id, len);
    if (at != NONE)
        empty_slot(store, at);
    pthread_mutex_unlock(&store->mutex);
}

void session_store_clear(struct session_store *store)
{
    pthread_mutex_lock(&store->mutex);
    for (uint32_t at = 0; at < store->capacity; at++)
        empty_slot(store, at);
    pthread_mutex_unlock(&store->mutex);
}

void session_store_free(struct session_store *store)
{
    if (!store)
        return;
    session_store_clear(store);
    pthread_mutex_destroy(&store->mutex);
    free(store->slots);
    free(store->buckets);
    free(store);
}
