/*
 * Verdicts on agents' certificates by SHA-256. Verifying a chain parses every CA of the platform, which costs
 * as much as the rest of a handshake; a resumed session would pay it again. Only good verdicts are kept. One
 * place by digest: a newer one takes an older one's. One mutex, held for a comparison.
 */
#include "verdicts.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pki/digest.h"

#define KEPT_MS (10 * 60 * 1000)

struct verdict {
    uint8_t sha256[SHA256_SIZE];
    struct agent_identity identity;
    int64_t from_ms, until_ms; /* until 0: free */
};

struct verdicts {
    pthread_mutex_t mutex;
    size_t n;
    struct verdict *slot;
};

struct verdicts *verdicts_new(size_t slots)
{
    struct verdicts *verdicts = calloc(1, sizeof(*verdicts));
    if (!verdicts || !(verdicts->slot = calloc(slots ? slots : 1, sizeof(*verdicts->slot))))
        abort();
    verdicts->n = slots ? slots : 1;
    (void)pthread_mutex_init(&verdicts->mutex, NULL);
    return verdicts;
}

void verdicts_free(struct verdicts *verdicts)
{
    if (!verdicts)
        return;
    (void)pthread_mutex_destroy(&verdicts->mutex);
    free(verdicts->slot);
    free(verdicts);
}

static struct verdict *slot_of(struct verdicts *verdicts, const uint8_t digest[SHA256_SIZE])
{
    uint32_t hash;
    memcpy(&hash, digest, sizeof(hash));
    return &verdicts->slot[hash % verdicts->n];
}

bool verdicts_find(struct verdicts *verdicts, struct bytes leaf, int64_t at_ms, struct agent_identity *ret)
{
    uint8_t digest[SHA256_SIZE];
    sha256(leaf, digest);
    (void)pthread_mutex_lock(&verdicts->mutex);
    const struct verdict *verdict = slot_of(verdicts, digest);
    bool found = memcmp(verdict->sha256, digest, SHA256_SIZE) == 0 && at_ms >= verdict->from_ms &&
                 at_ms < verdict->until_ms;
    if (found)
        *ret = verdict->identity;
    (void)pthread_mutex_unlock(&verdicts->mutex);
    return found;
}

void verdicts_keep(struct verdicts *verdicts, struct bytes leaf, const struct agent_identity *identity,
                   int64_t from_ms, int64_t until_ms, int64_t at_ms)
{
    uint8_t digest[SHA256_SIZE];
    sha256(leaf, digest);
    (void)pthread_mutex_lock(&verdicts->mutex);
    struct verdict *verdict = slot_of(verdicts, digest);
    memcpy(verdict->sha256, digest, SHA256_SIZE);
    verdict->identity = *identity;
    verdict->from_ms = from_ms;
    verdict->until_ms = until_ms < at_ms + KEPT_MS ? until_ms : at_ms + KEPT_MS;
    (void)pthread_mutex_unlock(&verdicts->mutex);
}
