/* Counts by the hash of the source. Two that share a place share its limit; nobody can choose with whom. */
#include "gateway/guests.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cidr.h"
#include "base/id.h"

#define PLACES 4096u

struct guests {
    size_t most, most_of_one, n;
    uint32_t seed;
    uint32_t count[PLACES];
};

struct guests *guests_new(size_t most, size_t most_of_one)
{
    struct guests *guests = calloc(1, sizeof *guests);
    if (!guests)
        abort();
    guests->most = most;
    guests->most_of_one = most_of_one;
    guests->seed = random_below(UINT32_MAX);
    return guests;
}

void guests_free(struct guests *guests)
{
    free(guests);
}

static uint32_t *place_of(struct guests *guests, const char *source)
{
    uint8_t address[16];
    (void)cidr_source(source, address); /* what is no address shares one place */
    uint32_t hash = 2166136261u ^ guests->seed;
    for (size_t i = 0; i < sizeof address; i++)
        hash = (hash ^ address[i]) * 16777619u;
    hash = (hash ^ hash >> 16) * 0x85ebca6bu;
    hash = (hash ^ hash >> 13) * 0xc2b2ae35u;
    return &guests->count[(hash ^ hash >> 16) % PLACES];
}

bool guests_enter(struct guests *guests, const char *source)
{
    uint32_t *count = place_of(guests, source);
    guests->n++;
    ++*count;
    return guests->n <= guests->most && *count <= guests->most_of_one;
}

void guests_leave(struct guests *guests, const char *source)
{
    uint32_t *count = place_of(guests, source);
    assert(guests->n > 0 && *count > 0);
    guests->n--;
    --*count;
}
