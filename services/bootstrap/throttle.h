/*
 * How many bad tokens a source may show a minute. A bounded table in memory, for one process: it protects the
 * database and the event log, not the tokens, which cannot be guessed. IPv6 sources count by /64.
 * Thread-safe.
 */
#ifndef CLM_BOOTSTRAP_THROTTLE_H
#define CLM_BOOTSTRAP_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

struct throttle;

struct throttle *throttle_new(uint32_t failures_per_min);
void throttle_free(struct throttle *throttle);
/* Counts one failure; false when the source had its share for this minute. source: an address, with or
 * without port. */
bool throttle_count(struct throttle *throttle, const char *source);

#endif
