/*
 * Drift: what an agent says of the targets that it watches. Each report is the whole of what differs on a
 * host now: what is new becomes an alert, what is not in it any more is resolved, and both are told.
 */
#ifndef CLM_REGISTRY_DRIFT_H
#define CLM_REGISTRY_DRIFT_H

#include "registry.h"

struct drift {
    const char *agent_id, *target, *reason;
};
struct drift_change { /* of an alert */
    const char *agent_id, *entity, *message;
    bool mended;
};

/* agents: those that reported, each once; drifts: what they reported. One transaction of its own. */
enum code drifts_report(struct db *db, const struct cause *cause, const char *const *agents, size_t n_agents,
                        const struct drift *drifts, size_t n_drifts, struct arena *arena,
                        struct status *st) MUST_CHECK;

/* Border (events.c): the event of a change. */
#define SUBJECT_DRIFTED "clm.event.registry.certificate.drifted"
#define SUBJECT_MENDED  "clm.event.registry.certificate.mended"
void drift_event_encode(const struct drift_change *change, const struct cause *cause, const char *event_id,
                        struct arena *arena, struct bytes *ret);

#endif
