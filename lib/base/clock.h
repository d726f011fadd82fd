/*
 * The only source of time. Wall time is Unix milliseconds; monotonic time counts milliseconds from an
 * arbitrary start. Tests set both, so nothing in a test sleeps.
 */
#ifndef CLM_BASE_CLOCK_H
#define CLM_BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int64_t clock_wall_ms(void);
int64_t clock_mono_ms(void);
int64_t clock_mono_us(void); /* for measuring durations; never faked */

/* Tests only: freeze both clocks at wall_ms; clock_advance moves them; clock_real goes back to the system's.
 */
void clock_fake(int64_t wall_ms);
void clock_advance(int64_t ms);
void clock_real(void);

/* RFC 3339, UTC, milliseconds: "2026-11-23T23:01:02.345Z". */
#define CLOCK_RFC3339_SIZE 25
void clock_format_rfc3339(int64_t wall_ms, char buf[CLOCK_RFC3339_SIZE]);
/* Accepts any RFC 3339 date-time with offset; false for anything else or outside years 1970–9999. */
bool clock_parse_rfc3339(const char *text, int64_t *ret_wall_ms);

#endif
