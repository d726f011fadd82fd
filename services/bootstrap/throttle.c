/*
 * Fixed windows in a set-associative table: a source's row is one of the WAYS of its set, the one longest
 * unused gives way. A flood of sources can only make the count of others forgotten, never the memory grow.
 */
#include "throttle.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/cidr.h"
#include "base/clock.h"
#include "base/id.h"

#define SETS      1024u
#define WAYS      4u
#define WINDOW_MS 60000

struct row {
    uint8_t source[16];
    int64_t window_start_ms;
    uint32_t count; /* 0: unused */
};

struct throttle {
    pthread_mutex_t mutex;
    uint32_t limit;
    uint64_t seed; /* so that nobody can aim at another's set */
    struct row rows[SETS][WAYS];
};

struct throttle *throttle_new(uint32_t failures_per_min)
{
    struct throttle *throttle = calloc(1, sizeof(*throttle));
    if (!throttle)
        abort();
    (void)pthread_mutex_init(&throttle->mutex, NULL);
    throttle->limit = failures_per_min;
    random_bytes(&throttle->seed, sizeof(throttle->seed));
    return throttle;
}

void throttle_free(struct throttle *throttle)
{
    if (!throttle)
        return;
    (void)pthread_mutex_destroy(&throttle->mutex);
    free(throttle);
}

/* "192.0.2.1:443", "[2001:db8::1]:443", or without port. What is no address is its own first bytes. */
static void source_key(const char *source, uint8_t key[16])
{
    char host[INET6_ADDRSTRLEN] = "";
    const char *end = source + strlen(source);

    if (source[0] == '[') {
        source++;
        end = source + strcspn(source, "]");
    } else if (strchr(source, ':') && strchr(source, ':') == strrchr(source, ':')) {
        end = strchr(source, ':');
    }
    size_t len = (size_t)(end - source);
    memcpy(host, source, len < sizeof(host) ? len : sizeof(host) - 1);
    if (!cidr_source(host, key))
        memcpy(key, host, 16);
}

static struct row *find_row(struct throttle *throttle, const uint8_t key[16])
{
    uint64_t hash = throttle->seed ^ 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < 16; i++)
        hash = (hash ^ key[i]) * 1099511628211u;
    struct row *set = throttle->rows[(hash >> 32) % SETS], *oldest = &set[0];
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].count > 0 && memcmp(set[i].source, key, 16) == 0)
            return &set[i];
        if (set[i].count == 0 || (oldest->count > 0 && set[i].window_start_ms < oldest->window_start_ms))
            oldest = &set[i];
    }
    memcpy(oldest->source, key, 16);
    oldest->count = 0;
    oldest->window_start_ms = clock_mono_ms();
    return oldest;
}

bool throttle_count(struct throttle *throttle, const char *source)
{
    uint8_t key[16];
    int64_t now_ms = clock_mono_ms();

    source_key(source, key);
    (void)pthread_mutex_lock(&throttle->mutex);
    struct row *row = find_row(throttle, key);
    if (now_ms - row->window_start_ms >= WINDOW_MS) {
        row->window_start_ms = now_ms;
        row->count = 0;
    }
    bool allowed = row->count < throttle->limit;
    if (allowed)
        row->count++;
    (void)pthread_mutex_unlock(&throttle->mutex);
    return allowed;
}
