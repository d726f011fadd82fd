/* The border of events: what we say of an agent, and what we make of what others say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "alerts.h"
#include "base/clock.h"
#include "base/id.h"
#include "border.h"
#include "fixture.h"
#include "proto/event.pb-c.h"

const struct timing *registry_timing(const struct service *service)
{
    (void)service;
    return &fixture_timing;
}

static const struct event_handler *handler_of(const char *subject)
{
    for (const struct event_handler *h = registry_events; h->subject; h++)
        if (strcmp(h->subject, subject) == 0)
            return h;
    fail_msg("nobody handles %s", subject);
    return NULL;
}

static enum code apply(const char *row, Clm__Event *event, struct status *st)
{
    struct worker worker = {.db = fixture_db};
    assert_int_equal(db_begin(fixture_db, st), CODE_OK);
    enum code code = handler_of(row)->apply(&worker, fixture_arena, event, st);
    if (code == CODE_OK)
        code = db_commit(fixture_db, st);
    db_rollback(fixture_db);
    return code;
}

static Clm__Event event_about(const char *subject, const char *entity)
{
    char id[UUID_TEXT_SIZE];
    uuid_v7(id);
    Clm__Event event = CLM__EVENT__INIT;
    event.id = arena_strdup(fixture_arena, id);
    event.subject = arena_strdup(fixture_arena, subject);
    event.entity_id = arena_strdup(fixture_arena, entity);
    event.has_occurred_at_ms = true;
    event.occurred_at_ms = T0;
    event.actor = arena_strdup(fixture_arena, "service:bootstrap");
    return event;
}

static void agent_event_says_the_whole_state(void **state)
{
    (void)state;
    struct label labels[] = {{"env", "prod"}};
    Clm__Scope scope = CLM__SCOPE__INIT;
    Clm__Task__Kind kinds[] = {CLM__TASK__KIND__RENEW};
    scope.operations = kinds;
    scope.n_operations = 1;
    scope.has_version = true;
    scope.version = 3;
    const struct agent agent = {.id = "0198c0de-0000-7000-8000-000000000001",
                                .hostname = "web1",
                                .status = AGENT_DISABLED,
                                .disabled = true,
                                .disabled_reason = "stolen",
                                .safe_mode_reason = "",
                                .labels = labels,
                                .n_labels = 1,
                                .scope = scope_encode(&scope, fixture_arena),
                                .min_generation = 4,
                                .agent_version = "1.2",
                                .version = 9};
    const struct cause cause = {.actor = "api-key:1", .now_ms = T0, .timing = &fixture_timing};
    struct bytes body;
    agent_event_encode(&agent, &cause, "0198c0de-0000-7000-8000-0000000000ee", SUBJECT_AGENT_CHANGED,
                       fixture_arena, &body);
    ProtobufCMessage *msg = NULL;
    struct status st = {0};
    assert_int_equal(wire_unpack(&clm__event__descriptor, body.data, body.len, fixture_arena, &msg, &st),
                     CODE_OK);
    const Clm__Event *event = (const Clm__Event *)msg;
    assert_string_equal(event->subject, SUBJECT_AGENT_CHANGED);
    assert_string_equal(event->entity_id, agent.id);
    assert_int_equal(event->entity_version, 9);
    assert_string_equal(event->actor, "api-key:1");
    assert_string_equal(event->agent->hostname, "web1");
    assert_int_equal(event->agent->status, CLM__AGENT__STATUS__DISABLED);
    assert_true(event->agent->disabled);
    assert_string_equal(event->agent->reason, "stolen");
    assert_int_equal(event->agent->min_generation, 4);
    assert_string_equal(event->agent->agent_version, "1.2");
    assert_int_equal(event->agent->n_labels, 1);
    assert_int_equal(event->agent->scope->version, 3);
    assert_int_equal(event->agent->scope->operations[0], CLM__TASK__KIND__RENEW);
}

static void scope_that_cannot_be_read_allows_nothing(void **state)
{
    (void)state;
    Clm__Scope *scope = scope_decode((struct bytes){(const uint8_t *)"\xff\xff", 2}, fixture_arena);
    assert_int_equal(scope->n_operations, 0);
}

static void issued_and_confirmed_identity_is_recorded(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    struct status st = {0};
    Clm__IdentityIssued issued = CLM__IDENTITY_ISSUED__INIT;
    issued.has_generation = issued.has_not_after_at_ms = true;
    issued.generation = 2;
    issued.not_after_at_ms = T0 + INT64_C(4000000000000);
    issued.fingerprint_sha256 = arena_strdup(fixture_arena, "abcd");
    Clm__Event event = event_about("clm.event.bootstrap.identity.issued", id);
    event.identity_issued = &issued;
    assert_int_equal(apply("clm.event.bootstrap.identity.issued", &event, &st), CODE_OK);
    Clm__IdentityConfirmed confirmed = CLM__IDENTITY_CONFIRMED__INIT;
    confirmed.has_generation = true;
    confirmed.generation = 2;
    event = event_about("clm.event.bootstrap.identity.confirmed", id);
    event.identity_confirmed = &confirmed;
    assert_int_equal(apply("clm.event.bootstrap.identity.confirmed", &event, &st), CODE_OK);
    struct agent agent = fixture_get(id);
    assert_string_equal(agent.identity_fingerprint, "abcd");
    assert_int_equal(agent.min_generation, 2);
    assert_true(agent.bootstrapped_at_ms > 0);
    assert_int_equal(fixture_number("SELECT count(*) FROM activity WHERE event LIKE 'identity.%'"), 2);
}

static void incomplete_events_can_never_be_applied(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    static const char *const rows[] = {"clm.event.bootstrap.identity.issued",
                                       "clm.event.bootstrap.identity.confirmed", "clm.event.tasks.task.>"};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        Clm__Event event = event_about(rows[i], id);
        struct status st = {0};
        assert_int_equal(apply(rows[i], &event, &st), CODE_INVALID_ARGUMENT);
    }
}

static void event_of_an_unknown_agent_is_applied_without_effect(void **state)
{
    (void)state;
    Clm__IdentityConfirmed confirmed = CLM__IDENTITY_CONFIRMED__INIT;
    confirmed.has_generation = true;
    Clm__Event event =
        event_about("clm.event.bootstrap.identity.confirmed", "0198c0de-0000-7000-8000-00000000dead");
    event.identity_confirmed = &confirmed;
    struct status st = {0};
    assert_int_equal(apply("clm.event.bootstrap.identity.confirmed", &event, &st), CODE_OK);
    assert_int_equal(fixture_number("SELECT count(*) FROM agents"), 0);
}

static void tasks_stand_in_the_activity_under_their_agent(void **state)
{
    (void)state;
    const char *id = fixture_agent("web1", "prod");
    Clm__TaskChanged task = CLM__TASK_CHANGED__INIT;
    task.agent_id = arena_strdup(fixture_arena, id);
    task.has_kind = true;
    task.kind = CLM__TASK__KIND__RENEW;
    task.message = arena_strdup(fixture_arena, "installed");
    Clm__Event event = event_about("clm.event.tasks.task.finished", "0198c0de-0000-7000-8000-0000000000aa");
    event.task = &task;
    struct status st = {0};
    assert_int_equal(apply("clm.event.tasks.task.>", &event, &st), CODE_OK);
    struct dashboard d;
    assert_int_equal(dashboard_get(fixture_db, "env=prod", T0, fixture_arena, &d, &st), CODE_OK);
    assert_string_equal(d.recent[0].event, "task.finished");
    assert_string_equal(d.recent[0].agent_id, id);
    assert_string_equal(d.recent[0].message, "RENEW: installed");
}

static const struct alert *only_alert(void)
{
    const struct alert_filter filter = {.selector = ""};
    struct alert *alerts;
    size_t n;
    assert_int_equal(alerts_list(fixture_db, &filter, 10, fixture_arena, &alerts, &n, NULL), CODE_OK);
    assert_in_range(n, 0, 1);
    return n ? alerts : NULL;
}

static void task_that_nobody_did_is_an_alert_until_one_is_done(void **state)
{
    (void)state;
    struct status st = {0};
    const char *id = fixture_agent("web1", "prod");
    Clm__TaskChanged task = CLM__TASK_CHANGED__INIT;
    Clm__Event event = event_about("clm.event.tasks.task.finished", "0198c0de-0000-7000-8000-0000000000aa");
    task.agent_id = arena_strdup(fixture_arena, id);
    task.has_kind = task.has_state = true;
    task.kind = CLM__TASK__KIND__RENEW;
    task.message = arena_strdup(fixture_arena, "the deadline passed before its agent took it");
    task.target = arena_strdup(fixture_arena, "nginx");
    event.task = &task;
    task.state = CLM__TASK__STATE__CANCELLED;
    assert_int_equal(apply("clm.event.tasks.task.>", &event, &st), CODE_OK);
    assert_null(only_alert());
    task.state = CLM__TASK__STATE__EXPIRED;
    assert_int_equal(apply("clm.event.tasks.task.>", &event, &st), CODE_OK);
    assert_non_null(only_alert());
    assert_int_equal(only_alert()->kind, ALERT_TASK_FAILED);
    assert_string_equal(only_alert()->message,
                        "RENEW of nginx: the deadline passed before its agent took it");
    task.state = CLM__TASK__STATE__SUCCEEDED;
    assert_int_equal(apply("clm.event.tasks.task.>", &event, &st), CODE_OK);
    assert_null(only_alert());
}

static void late_revocation_list_is_one_alert_until_there_is_a_new_one(void **state)
{
    (void)state;
    struct status st = {0};
    for (int i = 1; i <= 2; i++) {
        Clm__Event late = event_about("clm.event.bootstrap.crl.late", "agents");
        assert_int_equal(apply("clm.event.bootstrap.crl.>", &late, &st), CODE_OK);
        assert_non_null(only_alert());
        assert_int_equal(only_alert()->kind, ALERT_CRL_LATE);
        assert_int_equal(only_alert()->count, i);
        assert_non_null(strstr(only_alert()->message, "see the log of clm-bootstrap"));
    }
    Clm__Event other = event_about("clm.event.bootstrap.crl.issued", "services");
    assert_int_equal(apply("clm.event.bootstrap.crl.>", &other, &st), CODE_OK);
    assert_non_null(only_alert()); /* another CA's */
    Clm__Event issued = event_about("clm.event.bootstrap.crl.issued", "agents");
    assert_int_equal(apply("clm.event.bootstrap.crl.>", &issued, &st), CODE_OK);
    assert_null(only_alert());
}

static void refused_tokens_are_one_alert_of_their_token_or_source(void **state)
{
    (void)state;
    struct status st = {0};
    Clm__TokenEvent token = CLM__TOKEN_EVENT__INIT;
    token.reason = arena_strdup(fixture_arena, "unknown");
    token.source = arena_strdup(fixture_arena, "192.0.2.9");
    for (int i = 1; i <= 2; i++) {
        Clm__Event refused =
            event_about("clm.event.bootstrap.token.refused", "0198c0de-0000-7000-8000-0000000000bb");
        refused.token = &token;
        assert_int_equal(apply("clm.event.bootstrap.token.>", &refused, &st), CODE_OK);
        assert_non_null(only_alert());
        assert_int_equal(only_alert()->kind, ALERT_BOOTSTRAP_REFUSED);
        assert_int_equal(only_alert()->count, i);
        assert_string_equal(only_alert()->entity, "192.0.2.9");
        assert_string_equal(only_alert()->message, "a bootstrap token was refused: unknown, from 192.0.2.9");
    }
    assert_int_equal(alerts_quiet(fixture_db, clock_wall_ms() + ALERTS_QUIET_MS + 1, fixture_arena, &st),
                     CODE_OK);
    assert_null(only_alert());
}

static void refused_order_is_one_alert_of_its_host_until_it_is_quiet(void **state)
{
    (void)state;
    struct status st = {0};
    const char *id = fixture_agent("web1", "prod");
    Clm__TaskChanged task = CLM__TASK_CHANGED__INIT;
    task.agent_id = arena_strdup(fixture_arena, id);
    task.message = arena_strdup(fixture_arena, "the envelope is forged");
    for (int i = 1; i <= 2; i++) {
        Clm__Event event =
            event_about("clm.event.tasks.task.order_rejected", "0198c0de-0000-7000-8000-0000000000aa");
        event.task = &task;
        assert_int_equal(apply("clm.event.tasks.task.>", &event, &st), CODE_OK);
        assert_non_null(only_alert());
        assert_int_equal(only_alert()->kind, ALERT_TASK_REFUSED);
        assert_int_equal(only_alert()->count, i);
        assert_non_null(strstr(only_alert()->message, "the envelope is forged"));
    }
    assert_int_equal(alerts_quiet(fixture_db, clock_wall_ms() + ALERTS_QUIET_MS + 1, fixture_arena, &st),
                     CODE_OK);
    assert_null(only_alert());
}

static void authority_is_demanded_of_what_moves_identity(void **state)
{
    (void)state;
    assert_true(handler_of("clm.event.bootstrap.identity.issued")->authority);
    assert_true(handler_of("clm.event.bootstrap.identity.confirmed")->authority);
    assert_true(handler_of("clm.event.bootstrap.token.>")->authority);
}

#define T(name) cmocka_unit_test_setup(name, fixture_reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(agent_event_says_the_whole_state),
        T(scope_that_cannot_be_read_allows_nothing),
        T(issued_and_confirmed_identity_is_recorded),
        T(incomplete_events_can_never_be_applied),
        T(event_of_an_unknown_agent_is_applied_without_effect),
        T(tasks_stand_in_the_activity_under_their_agent),
        T(task_that_nobody_did_is_an_alert_until_one_is_done),
        T(late_revocation_list_is_one_alert_until_there_is_a_new_one),
        T(refused_tokens_are_one_alert_of_their_token_or_source),
        T(refused_order_is_one_alert_of_its_host_until_it_is_quiet),
        T(authority_is_demanded_of_what_moves_identity),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
