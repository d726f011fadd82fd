/*
 * The fleet, its alerts and the audit log's delay, as metrics. Read from kept counts and by index: nothing is
 * counted. Every replica tells them; they are the same on all.
 */
#include <string.h>

#include "alerts.h"
#include "audit.h"
#include "base/clock.h"
#include "base/id.h"
#include "border.h"
#include "proto/registry.pb-c.h"
#include "store_tallies.h"

static struct {
    struct metric *agents, *alerts, *audit_lag, *audit_unsigned;
} gauge;

void gauges_make(void)
{
    gauge.agents = metric_gauge("clm_agents", "Agents, by status.");
    gauge.alerts = metric_gauge("clm_alerts_open", "Alerts that nobody has acknowledged, by kind.");
    gauge.audit_lag = metric_gauge(
        "clm_audit_lag_seconds", "Age of the oldest event that is not in the audit log's tree yet; 0: none.");
    gauge.audit_unsigned = metric_gauge("clm_audit_unsigned_records",
                                        "Records of the audit log that no signed head covers yet.");
}

static enum code tell_audit(struct worker *worker, struct arena *arena, struct status *st)
{
    struct audit_delay delay;
    TRY(audit_delay_get(worker->db, arena, &delay, st));
    int64_t lag_ms = delay.oldest_pending_id ? clock_wall_ms() - uuid_v7_ms(delay.oldest_pending_id) : 0;
    metric_set(gauge.audit_lag, NULL, NULL, lag_ms > 0 ? (double)lag_ms / 1000 : 0);
    metric_set(gauge.audit_unsigned, NULL, NULL, (double)delay.unsigned_records);
    return CODE_OK;
}

enum code gauges_work(struct worker *worker, struct status *st)
{
    static const struct label_terms everybody = {0};
    AUTO_ARENA struct arena *arena = arena_new();
    struct dashboard fleet = {0};
    TRY(store_counts(worker->db, &everybody, &fleet, arena, st));
    TRY(store_tallies(worker->db, &everybody, arena, &fleet, st));
    for (int status = 1; status < AGENT_STATUS_END; status++)
        metric_set(gauge.agents, "status", agent_status_name((enum agent_status)status),
                   (double)fleet.count[status]);
    const ProtobufCEnumDescriptor *kinds = &clm__alert__kind__descriptor;
    for (unsigned i = 0; i < kinds->n_values; i++)
        if ((size_t)kinds->values[i].value < ARRAY_LEN(fleet.open_by_kind))
            metric_set(gauge.alerts, "kind", kinds->values[i].name,
                       (double)fleet.open_by_kind[kinds->values[i].value]);
    return tell_audit(worker, arena, st);
}
