/*
 * What the agents of one edge said with their check-ins, for the registry: one batch is under way, what comes
 * meanwhile is the next one. What the registry could not take is sent again. The edge's thread only.
 */
#ifndef CLM_GATEWAY_HEARTBEATS_H
#define CLM_GATEWAY_HEARTBEATS_H

#include "proto/registry.pb-c.h"

struct edge;
struct heartbeats;

#define HEARTBEAT_PERIOD_MS 1000 /* the registry wants to hear a gateway, also when no agent spoke */

struct heartbeats *heartbeats_new(struct edge *edge);
void heartbeats_free(struct heartbeats *heartbeats);
/* Copies; dropped when too many wait, or too much. */
void heartbeats_add(struct heartbeats *heartbeats, const Clm__Heartbeat *beat);
/* A period is over: what there is goes, be it nothing. */
void heartbeats_due(struct heartbeats *heartbeats);

#endif
