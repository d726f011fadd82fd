#include "cmocka_all.h"

#include "base/arena.h"

static void memory_is_zeroed_and_aligned_even_after_reset(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    for (int round = 0; round < 3; round++) {
        for (size_t n = 1; n < 3000; n = n * 2 + 1) {
            unsigned char *p = arena_alloc(arena, n);
            assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
            for (size_t i = 0; i < n; i++)
                assert_int_equal(p[i], 0);
            memset(p, 0xff, n);
        }
        arena_reset(arena);
        assert_int_equal(arena_used_bytes(arena), 0);
    }
}

static void large_allocation_leaves_earlier_ones_alone(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    char *small = arena_strdup(arena, "small");
    unsigned char *large = arena_alloc(arena, 3u * 1024 * 1024);
    memset(large, 1, 3u * 1024 * 1024);
    assert_string_equal(small, "small");
    assert_true(arena_used_bytes(arena) >= 3u * 1024 * 1024);
}

static void copies_are_terminated_and_bounded(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    assert_string_equal(arena_strndup(arena, "abcdef", 3), "abc");
    assert_string_equal(arena_strndup(arena, "ab", 30), "ab");
    assert_null(arena_strdup(arena, NULL));
    assert_string_equal(arena_printf(arena, "%s-%d", "x", 42), "x-42");
    assert_memory_equal(arena_dup(arena, "a\0b", 3), "a\0b", 3);
    assert_non_null(arena_alloc(arena, 0));
}

static void array_zeroes_every_element(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    int *numbers = arena_array(arena, 100, sizeof(int));
    for (int i = 0; i < 100; i++)
        assert_int_equal(numbers[i], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_and_aligned_even_after_reset),
        cmocka_unit_test(large_allocation_leaves_earlier_ones_alone),
        cmocka_unit_test(copies_are_terminated_and_bounded),
        cmocka_unit_test(array_zeroes_every_element),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
