/* The queue of refusals against a registry that answers or does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/id.h"
#include "gateway/refusals.h"
#include "proto/registry.pb-c.h"
#include "service/service.h"

#define WINDOW_MS 60000

static struct refusals *refusals;
static enum code answer;
static size_t n_calls, n_sent;
static uint64_t lost;
static struct sent {
    char id[UUID_TEXT_SIZE], source[64], claimed[256], reason[256];
    int kind;
    uint32_t count;
} sent[REFUSALS_MAX];

const char *service_instance_id(const struct service *service)
{
    (void)service;
    return "01890a5d-ac96-774b-bcce-b302099a8057";
}

struct bus *service_bus(const struct service *service)
{
    (void)service;
    return NULL;
}

struct bus_identity *service_identity(const struct service *service)
{
    (void)service;
    return NULL;
}

enum code rpc_call(struct bus *bus, struct bus_identity *identity, const struct rpc_call *call,
                   struct arena *arena, ProtobufCMessage **ret, struct status *st)
{
    (void)bus;
    (void)identity;
    (void)arena;
    (void)ret;
    assert_string_equal(call->method, "ReportRefusals");
    assert_true(call->authority);
    const Clm__ReportRefusalsRequest *request = (const Clm__ReportRefusalsRequest *)call->request;
    assert_int_equal(wire_check(&request->base, st), CODE_OK);
    n_calls++;
    n_sent = request->n_refusals;
    lost = request->lost;
    for (size_t i = 0; i < n_sent; i++) {
        const Clm__Refusal *r = request->refusals[i];
        sent[i].kind = (int)r->kind;
        sent[i].count = r->count;
        (void)snprintf(sent[i].id, sizeof(sent[i].id), "%s", r->id);
        (void)snprintf(sent[i].source, sizeof(sent[i].source), "%s", r->source);
        (void)snprintf(sent[i].claimed, sizeof(sent[i].claimed), "%s", r->claimed);
        (void)snprintf(sent[i].reason, sizeof(sent[i].reason), "%s", r->reason);
    }
    return answer == CODE_OK ? CODE_OK : status_set(st, answer, "away");
}

static void pass(int64_t ms)
{
    clock_advance(ms);
}

static int set_up(void **state)
{
    (void)state;
    answer = CODE_OK;
    n_calls = n_sent = 0;
    lost = 0;
    clock_fake(1800000000000);
    refusals = refusals_new(NULL, WINDOW_MS);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    refusals_free(refusals);
    clock_real();
    return 0;
}

static void report(bool all, enum code expected)
{
    struct status st = {0};
    assert_int_equal(refusals_report(refusals, all, &st), expected);
}

static void repeated_refusals_are_one_with_a_count_when_the_window_is_over(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        refusals_add(refusals, REFUSAL_LOGIN, "192.0.2.1", "", i < 4 ? "first" : "last");
    refusals_add(refusals, REFUSAL_LOGIN, "192.0.2.2", "", "x");
    refusals_add(refusals, REFUSAL_PERMISSION, "192.0.2.1", "api-key:a", "x");
    report(false, CODE_OK);
    assert_int_equal(n_calls, 0);
    pass(WINDOW_MS);
    report(false, CODE_OK);
    assert_int_equal(n_sent, 3);
    assert_int_equal(sent[0].count, 5);
    assert_string_equal(sent[0].source, "192.0.2.1");
    assert_string_equal(sent[0].reason, "last");
    report(false, CODE_OK);
    assert_int_equal(n_calls, 1);
}

static void refusals_of_the_next_window_are_another_record(void **state)
{
    (void)state;
    refusals_add(refusals, REFUSAL_LOGIN, "192.0.2.1", NULL, NULL);
    pass(WINDOW_MS);
    refusals_add(refusals, REFUSAL_LOGIN, "192.0.2.1", NULL, NULL);
    report(false, CODE_OK);
    assert_int_equal(n_sent, 1);
    assert_int_equal(sent[0].count, 1);
    report(true, CODE_OK);
    assert_int_equal(n_sent, 1);
}

static void registry_that_is_away_gets_them_later_under_the_same_id(void **state)
{
    (void)state;
    char id[UUID_TEXT_SIZE];
    refusals_add(refusals, REFUSAL_HANDSHAKE, "192.0.2.1", "spiffe://x", "expired");
    pass(WINDOW_MS);
    answer = CODE_UNAVAILABLE;
    report(false, CODE_UNAVAILABLE);
    (void)snprintf(id, sizeof(id), "%s", sent[0].id);
    refusals_add(refusals, REFUSAL_HANDSHAKE, "192.0.2.1", "spiffe://x", "expired");
    answer = CODE_OK;
    report(false, CODE_OK);
    assert_int_equal(n_sent, 1);
    assert_string_equal(sent[0].id, id);
    assert_int_equal(sent[0].count, 1);
}

static void full_queue_counts_what_it_loses(void **state)
{
    (void)state;
    for (int i = 0; i < REFUSALS_MAX + 7; i++) {
        char source[32];
        (void)snprintf(source, sizeof(source), "10.0.%d.%d", i / 256, i % 256);
        refusals_add(refusals, REFUSAL_LOGIN, source, NULL, NULL);
    }
    size_t total = 0;
    pass(WINDOW_MS);
    for (uint64_t first = 1; first; first = n_sent) {
        n_sent = 0;
        report(false, CODE_OK);
        if (total == 0)
            assert_int_equal(lost, 7);
        total += n_sent;
    }
    assert_int_equal(total, REFUSALS_MAX);
    refusals_add(refusals, REFUSAL_LOGIN, "10.0.0.1", NULL, NULL);
    report(true, CODE_OK);
    assert_int_equal(n_sent, 1);
    assert_int_equal(lost, 0);
}

static void what_a_peer_wrote_is_made_printable(void **state)
{
    (void)state;
    char endless[1000];
    memset(endless, 'x', sizeof(endless) - 1);
    endless[sizeof(endless) - 1] = '\0';
    refusals_add(refusals, REFUSAL_HANDSHAKE, "192.0.2.1\n\xff", endless, "a\x1b[2J\xc3");
    report(true, CODE_OK);
    assert_string_equal(sent[0].source, "192.0.2.1??");
    assert_int_equal(strlen(sent[0].claimed), 255);
    assert_string_equal(sent[0].reason, "a?[2J?");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(repeated_refusals_are_one_with_a_count_when_the_window_is_over),
        TEST(refusals_of_the_next_window_are_another_record),
        TEST(registry_that_is_away_gets_them_later_under_the_same_id),
        TEST(full_queue_counts_what_it_loses),
        TEST(what_a_peer_wrote_is_made_printable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
