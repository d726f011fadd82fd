/*
 * Network ranges as a task names them, and what of them is looked at: every address, port and name. Pure
 * functions.
 */
#ifndef CLM_AGENT_KINDS_RANGES_H
#define CLM_AGENT_KINDS_RANGES_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/status.h"

#define RANGES_ADDRESSES_MAX 65536

/* "10.1.0.0/24", "10.1.0.7", "2001:db8::/120", or the name of one host. Appends the addresses, as text in the
 * arena, to *list. INVALID_ARGUMENT for anything else; RESOURCE_EXHAUSTED beyond RANGES_ADDRESSES_MAX. */
enum code range_expand(const char *range, struct arena *arena, const char ***list, size_t *n,
                       struct status *st) MUST_CHECK;
bool range_is_name(const char *text); /* to be resolved */

/* The ports that are looked at when a task names none; ended by 0. */
extern const unsigned range_default_ports[];

#endif
