/*
 * How many requests of the operator listener each actor may make: a budget a minute, one for all edges of the
 * gateway. Any thread.
 */
#ifndef CLM_GATEWAY_RATES_H
#define CLM_GATEWAY_RATES_H

#include <stdbool.h>
#include <stdint.h>

#define RATE_WINDOW_SEC 60

struct rates;

struct rate { /* for the fields RateLimit and RateLimit-Policy */
    uint32_t quota, left;
    uint32_t reset_sec; /* until the budget is whole again */
};

struct rates *rates_new(uint32_t per_window);
void rates_free(struct rates *rates);
/* Takes one; false when nothing is left. */
bool rates_take(struct rates *rates, const char *actor, int64_t now_ms, struct rate *ret);

#endif
