/* The day's heads against a registry that has a list of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/heads.h"
#include "proto/registry.pb-c.h"
#include "service/service.h"

#define OLD_TREE "019a0000-0000-7000-8000-00000000cccc"
#define NEW_TREE "019a0000-0000-7000-8000-00000000dddd"

static struct heads *heads;
static struct arena *arena;
static uint64_t n_heads; /* sizes 10, 20, … of the registry */
static size_t n_proofs;
static bool away, restored; /* restored: another tree, of 3 heads */

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

static void answer_heads(const Clm__ListAuditHeadsRequest *request, struct arena *to, ProtobufCMessage **ret)
{
    Clm__ListAuditHeadsResponse *response = arena_alloc(to, sizeof(*response));
    clm__list_audit_heads_response__init(response);
    response->heads = arena_array(to, request->page_size, sizeof(*response->heads));
    const char *tree = restored ? NEW_TREE : OLD_TREE;
    response->has_anew = request->after_tree_id != NULL;
    response->anew = request->after_tree_id && strcmp(request->after_tree_id, tree) != 0;
    uint64_t after_size = response->anew ? 0 : request->after_size;
    for (uint64_t i = after_size / 10 + 1; i <= n_heads && response->n_heads < request->page_size; i++) {
        Clm__SignedAuditHead *head = arena_alloc(to, sizeof(*head));
        clm__signed_audit_head__init(head);
        head->has_head = head->has_tree_size = head->has_made_at_ms = head->has_previous_size = true;
        head->head = (ProtobufCBinaryData){4, arena_dup(to, "head", 4)};
        head->tree_size = 10 * i;
        head->previous_size = 10 * (i - 1);
        head->tree_id = arena_strdup(to, tree);
        head->has_origin = restored;
        head->origin = (ProtobufCBinaryData){4, arena_dup(to, "leaf", 4)};
        response->heads[response->n_heads++] = head;
    }
    response->has_last = true;
    response->last =
        response->n_heads == 0 || response->heads[response->n_heads - 1]->tree_size == 10 * n_heads;
    *ret = &response->base;
}

enum code rpc_call(struct bus *bus, struct bus_identity *identity, const struct rpc_call *call,
                   struct arena *to, ProtobufCMessage **ret, struct status *st)
{
    (void)bus;
    (void)identity;
    if (away)
        return status_set(st, CODE_UNAVAILABLE, "away");
    if (strcmp(call->method, "ListFleetHeads") == 0) {
        answer_heads((const Clm__ListAuditHeadsRequest *)call->request, to, ret);
        return CODE_OK;
    }
    assert_string_equal(call->method, "GetFleetConsistency");
    Clm__AuditConsistency *response = arena_alloc(to, sizeof(*response));
    clm__audit_consistency__init(response);
    response->n_consistency = 1;
    response->consistency = arena_array(to, 1, sizeof(*response->consistency));
    response->consistency[0] = (ProtobufCBinaryData){32, arena_alloc(to, 32)};
    n_proofs++;
    *ret = &response->base;
    return CODE_OK;
}

static int set_up(void **state)
{
    (void)state;
    heads = heads_new(NULL);
    arena = arena_new();
    n_heads = 20;
    n_proofs = 0;
    away = restored = false;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    heads_free(heads);
    arena_free(arena);
    return 0;
}

static void fetch(void)
{
    struct status st = {0};
    assert_int_equal(heads_fetch(heads, &st), CODE_OK);
}

static size_t after(uint64_t known, struct Clm__SignedAuditHead ***ret)
{
    size_t n;
    heads_after(heads, "", known, arena, ret, &n);
    return n;
}

static void agent_gets_what_follows_in_order_and_no_more_than_fits(void **state)
{
    (void)state;
    struct Clm__SignedAuditHead **got;
    assert_int_equal(after(50, &got), 0);
    fetch();
    assert_int_equal(after(50, &got), HEADS_ANSWER);
    for (uint64_t i = 0; i < HEADS_ANSWER; i++) {
        assert_int_equal(got[i]->previous_size, 50 + 10 * i);
        assert_int_equal(got[i]->tree_size, 60 + 10 * i);
    }
    assert_int_equal(after(190, &got), 1);
    assert_int_equal(after(200, &got), 0);
    n_heads = 21;
    fetch();
    assert_int_equal(after(200, &got), 1);
    assert_int_equal(got[0]->tree_size, 210);
}

static void first_head_of_an_agent_is_the_newest(void **state)
{
    (void)state;
    struct Clm__SignedAuditHead **got;
    fetch();
    assert_int_equal(after(0, &got), 1);
    assert_int_equal(got[0]->tree_size, 200);
}

static void agent_that_knows_more_is_told_what_we_have(void **state)
{
    (void)state;
    struct Clm__SignedAuditHead **got;
    fetch();
    assert_int_equal(after(500, &got), 1);
    assert_int_equal(got[0]->tree_size, 200);
}

static void agent_that_was_away_for_long_gets_one_proof_over_the_gap(void **state)
{
    (void)state;
    struct Clm__SignedAuditHead **got;
    n_heads = HEADS_KEEP + 50;
    fetch();
    assert_int_equal(after(30, &got), 0);
    assert_int_equal(after(30, &got), 0);
    assert_int_equal(n_proofs, 0);
    fetch();
    assert_int_equal(n_proofs, 1);
    assert_int_equal(after(30, &got), 1);
    assert_int_equal(got[0]->previous_size, 30);
    assert_int_equal(got[0]->tree_size, 10 * n_heads);
    assert_int_equal(got[0]->n_consistency, 1);
    fetch();
    assert_int_equal(n_proofs, 1);
    for (uint64_t known = 1; known < 10; known++) /* sizes that no head had */
        assert_int_equal(after(known, &got), 0);
}

static void registry_that_is_away_changes_nothing(void **state)
{
    (void)state;
    struct Clm__SignedAuditHead **got;
    struct status st = {0};
    fetch();
    away = true;
    assert_int_equal(heads_fetch(heads, &st), CODE_UNAVAILABLE);
    assert_int_equal(after(190, &got), 1);
}

static void restored_audit_log_takes_the_place_of_the_one_before(void **state)
{
    (void)state;
    struct Clm__SignedAuditHead **got;
    size_t n;
    fetch();
    assert_int_equal(after(190, &got), 1);
    restored = true;
    n_heads = 3;
    fetch();
    assert_true(heads_behind(heads, NEW_TREE, 40));
    assert_false(heads_behind(heads, NEW_TREE, 30) || heads_behind(heads, OLD_TREE, 190) ||
                 heads_behind(heads, "", 99));
    heads_after(heads, OLD_TREE, 190, arena, &got, &n);
    assert_int_equal(n, 1);
    assert_int_equal(got[0]->tree_size, 30);
    assert_true(got[0]->has_origin); /* to who comes from another tree */
    heads_after(heads, OLD_TREE, 30, arena, &got, &n);
    assert_int_equal(n, 1);
    heads_after(heads, NEW_TREE, 20, arena, &got, &n);
    assert_int_equal(n, 1);
    assert_false(got[0]->has_origin);
    heads_after(heads, NEW_TREE, 30, arena, &got, &n);
    assert_int_equal(n, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(agent_gets_what_follows_in_order_and_no_more_than_fits),
        TEST(first_head_of_an_agent_is_the_newest),
        TEST(agent_that_knows_more_is_told_what_we_have),
        TEST(agent_that_was_away_for_long_gets_one_proof_over_the_gap),
        TEST(restored_audit_log_takes_the_place_of_the_one_before),
        TEST(registry_that_is_away_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
