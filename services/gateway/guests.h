/*
 * Connections that nobody vouches for: on the agent listener those without an agent's certificate, on the
 * operator listener all. They get a share of a listener's places, and each source a share of theirs, so that
 * neither one peer nor all unknown ones together take the places of the others. One edge's thread.
 */
#ifndef CLM_GATEWAY_GUESTS_H
#define CLM_GATEWAY_GUESTS_H

#include <stdbool.h>
#include <stddef.h>

struct guests;

/* How many there may be at once, of all sources and of one. */
struct guests *guests_new(size_t most, size_t most_of_one);
void guests_free(struct guests *guests);
/* One came: it counts until it leaves, also when it is one too many (false) and about to be closed. source:
 * an address; of IPv6 its network of 64 bits, of which a host has all. */
bool guests_enter(struct guests *guests, const char *source);
void guests_leave(struct guests *guests, const char *source);

#endif
