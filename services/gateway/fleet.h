/*
 * What this gateway knows of every agent: may it speak to us? A projection of the registry: subscribe first,
 * then snapshot pages, merged by version. Answers from memory to any thread. Not ready before the first
 * snapshot; and nothing is accepted while the registry's tick is older than 5 s, since a revocation may be
 * missing.
 */
#ifndef CLM_GATEWAY_FLEET_H
#define CLM_GATEWAY_FLEET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct fleet;
struct service;

/* on_cut runs on a thread of the fleet's when an agent may no longer speak: its connections have to go. Knows
 * nobody and is not ready until started. */
struct fleet *fleet_new(struct service *service, void (*on_cut)(const char *agent_id, void *arg), void *arg);
enum code fleet_start(struct fleet *fleet, struct status *st) MUST_CHECK;
/* No on_cut after this; it goes on answering. */
void fleet_stop(struct fleet *fleet);
void fleet_free(struct fleet *fleet); /* stopped before */

/* CODE_OK; UNAVAILABLE (not ready, or no tick); UNAUTHENTICATED (unknown agent, superseded generation);
 * PERMISSION_DENIED (disabled, with the reason). */
enum code fleet_admit(struct fleet *fleet, const char *agent_id, uint32_t generation, struct status *st);
/* Whether a refusal for its generation is worth telling the registry: at most once a minute an agent. */
bool fleet_superseded_due(struct fleet *fleet, const char *agent_id, uint32_t generation);
bool fleet_ready(struct fleet *fleet, char why[128]);
size_t fleet_count(struct fleet *fleet);

#endif
