/* In place of the border's encoders: events and records that say what a test wants to see. */
#include <string.h>

#include "alerts.h"
#include "audit.h"
#include "drift.h"
#include "registry.h"

void agent_event_encode(const struct agent *agent, const struct cause *cause, const char *event_id,
                        const char *subject, struct arena *arena, struct bytes *ret)
{
    (void)cause;
    (void)event_id;
    char *text = arena_printf(arena, "%s v%lld %s%s", agent->hostname, (long long)agent->version,
                              agent_status_name(agent->status),
                              strcmp(subject, SUBJECT_AGENT_DELETED) == 0 ? " deleted" : "");
    *ret = (struct bytes){(const uint8_t *)text, strlen(text)};
}

void platform_event_encode(const struct platform *platform, const struct cause *cause, const char *event_id,
                           struct arena *arena, struct bytes *ret)
{
    (void)cause;
    (void)event_id;
    char *text = arena_printf(arena, "platform v%lld %s", (long long)platform->version,
                              platform->safe_mode ? "SAFE_MODE" : "ONLINE");
    *ret = (struct bytes){(const uint8_t *)text, strlen(text)};
}

void audit_record_encode(const struct audit_record *record, struct arena *arena, struct bytes *ret)
{
    char *text = arena_printf(arena, "%s %s %s", record->action, record->actor ? record->actor : "",
                              record->outcome ? record->outcome : "");
    *ret = (struct bytes){(const uint8_t *)text, strlen(text)};
}

void drift_event_encode(const struct drift_change *change, const struct cause *cause, const char *event_id,
                        struct arena *arena, struct bytes *ret)
{
    (void)cause;
    (void)event_id;
    char *text = arena_printf(arena, "%s %s", change->mended ? "mended" : "drifted", change->entity);
    *ret = (struct bytes){(const uint8_t *)text, strlen(text)};
}

void alert_event_encode(const struct alert *alert, const struct cause *cause, const char *event_id,
                        const char *subject, struct arena *arena, struct bytes *ret)
{
    (void)event_id;
    char *text = arena_printf(arena, "%s v%lld by %s", strrchr(subject, '.') + 1, (long long)alert->version,
                              cause->actor);
    *ret = (struct bytes){(const uint8_t *)text, strlen(text)};
}
