/*
 * The agents connected to one edge, and the check-ins that it holds for them: a check-in is heartbeat and
 * poll in one. It goes into the next heartbeat batch, asks for leases with the next lease batch, and is held
 * until there is work, a directive, a further request behind it, or its time is over. The edge's thread only.
 */
#ifndef CLM_GATEWAY_CHECKINS_H
#define CLM_GATEWAY_CHECKINS_H

#include <stdint.h>

#include "http/server.h"
#include "proto/agent.pb-c.h"

struct checkins;
struct edge;
struct agent; /* one connection of an agent */

struct checkins *checkins_new(struct edge *edge);
void checkins_free(struct checkins *checkins);

struct agent *agent_open(struct checkins *checkins, struct http_connection *connection, const char *agent_id,
                         uint32_t generation);
void agent_close(struct agent *agent);
const char *agent_id(const struct agent *agent);
uint32_t agent_generation(const struct agent *agent);

/* Takes the request over: answers it now or later. `body` is read during the call only. */
void agent_checkin(struct agent *agent, struct http_request *request, const Clm__CheckinRequest *body);
/* The held check-in's client left; or a request came in behind it, which ends the hold. */
void agent_checkin_gone(struct agent *agent);
void agent_checkin_release(struct agent *agent);

/* By id: there may be work; must be cut. */
void checkins_wake(struct checkins *checkins, const char *agent_id);
void checkins_cut(struct checkins *checkins, const char *agent_id);
/* Answers all that is held: the gateway is going away. */
void checkins_release_all(struct checkins *checkins);

#endif
