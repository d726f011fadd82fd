/* What a confined child may say, and what becomes of one that misbehaves. */
#include "cmocka_all.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#include "kinds/confine.h"

static struct status st;

static enum code run(confine_fn *fn, void *arg, struct arena *arena, const Clm__Agent__Facts **ret)
{
    memset(&st, 0, sizeof(st));
    return confine_run(fn, arg, arena, ret, &st);
}

static void say_no(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    confine_fail(facts, arena, CODE_FAILED_PRECONDITION, "no: %s", (const char *)arg);
}

static void die(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    (void)arg;
    (void)arena;
    (void)facts;
    (void)raise(SIGKILL);
}

static void talk_too_much(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    (void)arg;
    for (int i = 0; i < 999; i++)
        confine_add_check(facts, arena, "x", CLM__CHECK__OUTCOME__WARN, "r", "%0390d", i);
    facts->leaf_pem = confine_bytes(arena, arena_alloc(arena, 60000), 60000);
    facts->has_leaf_pem = true;
    facts->intermediates_pem = confine_bytes(arena, arena_alloc(arena, 60000), 60000);
    facts->has_intermediates_pem = true;
}

static void say_an_impossible_thing(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    (void)arg;
    confine_add_check(facts, arena, "a\nb", CLM__CHECK__OUTCOME__PASS, NULL, "\xff\xfe");
}

static void try_to_get_out(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    (void)arg;
    bool out = open("/etc/hostname", O_RDONLY | O_CLOEXEC) >= 0 ||
               socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0 || fork() >= 0;
    confine_add_check(facts, arena, "out", out ? CLM__CHECK__OUTCOME__FAIL : CLM__CHECK__OUTCOME__PASS, "",
                      "tried");
}

static void say_who(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    (void)arg;
    confine_add_check(facts, arena, "uid", CLM__CHECK__OUTCOME__PASS, NULL, "%u", (unsigned)geteuid());
}

static void refusal_comes_back_as_it_is(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    const Clm__Agent__Facts *facts;
    assert_int_equal(run(say_no, (char[]){"why"}, arena, &facts), CODE_FAILED_PRECONDITION);
    assert_string_equal(st.msg, "no: why");
}

static void killed_verbose_and_lying_children_are_errors(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    const Clm__Agent__Facts *facts;
    assert_int_equal(run(die, NULL, arena, &facts), CODE_FAILED_PRECONDITION);
    assert_int_equal(run(talk_too_much, NULL, arena, &facts), CODE_FAILED_PRECONDITION);
    assert_int_equal(run(say_an_impossible_thing, NULL, arena, &facts), CODE_FAILED_PRECONDITION);
}

static void child_has_no_files_network_or_privileges(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    const Clm__Agent__Facts *facts;
    assert_int_equal(run(try_to_get_out, NULL, arena, &facts), CODE_OK);
    assert_int_equal(facts->checks[0]->outcome, CLM__CHECK__OUTCOME__PASS);
    if (geteuid() == 0) {
        assert_int_equal(run(say_who, NULL, arena, &facts), CODE_OK);
        assert_string_equal(facts->checks[0]->reason, "65534");
    }
}

static void arrays_grow_in_order(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    char **list = NULL;
    size_t n = 0;
    for (int i = 0; i < 100; i++)
        ARENA_PUSH(arena, list, n, arena_printf(arena, "%d", i));
    assert_int_equal(n, 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(strtol(list[i], NULL, 10), i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refusal_comes_back_as_it_is),
        cmocka_unit_test(killed_verbose_and_lying_children_are_errors),
        cmocka_unit_test(child_has_no_files_network_or_privileges),
        cmocka_unit_test(arrays_grow_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
