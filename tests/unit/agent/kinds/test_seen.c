/* The cache of discovery: what is in it is found again, and a damaged one is none. */
#include "harness.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/file.h"
#include "kinds/seen.h"

static struct seen_key key_of(const struct seen *seen, ino_t inode, time_t mtime)
{
    struct stat info = {.st_dev = 7, .st_ino = inode, .st_size = 100};
    info.st_mtim.tv_sec = mtime;
    return seen_key(seen, &info);
}

static struct bytes text(const char *s)
{
    return (struct bytes){(const uint8_t *)s, strlen(s)};
}

static void what_was_seen_is_found_in_the_same_state_only(void **state)
{
    const char *path = host_path(*state, "seen");
    struct seen *none = seen_load(path);
    struct bytes found;
    size_t near = 0;
    assert_int_equal(seen_count(none), 0);
    assert_false(seen_find(none, key_of(none, 1, 1), &near, &found));
    struct seen_entry entries[300] = {0};
    for (unsigned i = 0; i < 300; i++)
        entries[i] = (struct seen_entry){key_of(none, i, 5), i % 3 ? text("") : text("found it")};
    assert_true(seen_save(none, entries, 300, path));
    struct seen *seen = seen_load(path);
    assert_int_equal(seen_count(seen), 300);
    for (unsigned i = 0; i < 300; i++) {
        assert_true(seen_find(seen, key_of(seen, i, 5), &near, &found));
        assert_int_equal(found.len, i % 3 ? 0 : 8);
        assert_false(seen_find(seen, key_of(seen, i, 6), &near, &found)); /* it changed */
        assert_false(seen_find(seen, key_of(seen, 300 + i, 5), &near, &found));
    }
    /* What a process forked since came across counts. */
    pid_t pid = fork();
    if (pid == 0) {
        bool known = true;
        for (unsigned i = 0; i < 300; i++)
            known = known && seen_find(seen, key_of(seen, i, 5), &near, &found);
        _exit(known ? 0 : 1);
    }
    int how = -1;
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_int_equal(how, 0);
    assert_false(seen_save(seen, NULL, 0, path));
    /* Nothing new: nothing is written. What was found stays, though it is not given again. */
    for (unsigned i = 0; i < 300; i++)
        entries[i] = (struct seen_entry){.key = key_of(seen, i, 5)};
    assert_false(seen_save(seen, entries, 300, path));
    entries[0].key = key_of(seen, 0, 6);
    assert_true(seen_save(seen, entries, 300, path));
    seen_free(seen);
    seen = seen_load(path);
    assert_true(seen_find(seen, key_of(seen, 3, 5), &near, &found));
    assert_memory_equal(found.data, "found it", 8);
    assert_true(seen_find(seen, key_of(seen, 0, 6), &near, &found));
    assert_int_equal(found.len, 0);
    seen_free(seen);
    seen_free(none);
}

/* Whatever was asked for before, and inodes with gaps between them. */
static void files_are_found_in_any_order(void **state)
{
    const char *path = host_path(*state, "seen");
    struct seen *none = seen_load(path);
    struct seen_entry entries[200] = {0};
    struct bytes found;
    for (unsigned i = 0; i < 200; i++)
        entries[i] = (struct seen_entry){.key = key_of(none, 1 + i * i, 5)};
    assert_true(seen_save(none, entries, 200, path));
    struct seen *seen = seen_load(path);
    for (unsigned stride = 1; stride < 200; stride += 11) {
        size_t near = stride;
        for (unsigned i = 0, at = 0; i < 200; i++, at = (at + stride) % 200) {
            assert_true(seen_find(seen, key_of(seen, 1 + at * at, 5), &near, &found));
            assert_true(at < 2 || !seen_find(seen, key_of(seen, at * at, 5), &near, &found));
            assert_false(seen_find(seen, key_of(seen, 1000000 + at, 5), &near, &found));
        }
    }
    size_t beyond = 5000;
    assert_true(seen_find(seen, key_of(seen, 1, 5), &beyond, &found));
    seen_free(seen);
    seen_free(none);
}

static void files_elsewhere_are_forgotten_after_some_scans(void **state)
{
    const char *path = host_path(*state, "seen");
    struct seen *seen = seen_load(path);
    struct bytes found;
    size_t near = 0;
    struct seen_entry entry = {key_of(seen, 1, 1), text("x")};
    assert_true(seen_save(seen, &entry, 1, path));
    for (unsigned scan = 0; scan < 6; scan++) {
        struct seen *look = seen_load(path);
        assert_true(seen_find(look, key_of(look, 1, 1), &near, &found) == (scan < 5));
        seen_free(look); /* and what it met with it: the scan itself does not come across the file */
        seen_free(seen);
        seen = seen_load(path);
        struct seen_entry other = {key_of(seen, 2, scan), {0}};
        assert_true(seen_save(seen, &other, 1, path));
    }
    seen_free(seen);
}

static void damaged_and_foreign_caches_are_none(void **state)
{
    const char *path = host_path(*state, "seen");
    struct seen *none = seen_load(path);
    struct seen_entry entries[20] = {0};
    for (unsigned i = 0; i < 20; i++)
        entries[i] = (struct seen_entry){key_of(none, i, 5), text("found it")};
    assert_true(seen_save(none, entries, 20, path));
    AUTO_BUF struct buf whole = {0};
    assert_int_equal(file_read(path, 1024 * 1024, &whole, NULL), CODE_OK);
    for (size_t i = 0; i < whole.len; i += 7) { /* a byte changed, and cut there */
        uint8_t was = whole.data[i];
        whole.data[i] ^= 0x40;
        write_file(path, whole.data, whole.len, 0600);
        struct seen *seen = seen_load(path);
        /* The secret and the unused bytes of the head are not what the digest is over; nothing is found then.
         */
        struct bytes found;
        size_t near = 0;
        if (seen_count(seen) != 0)
            assert_true(i >= 20 && i < 40);
        (void)seen_find(seen, key_of(seen, 3, 5), &near, &found);
        seen_free(seen);
        whole.data[i] = was;
        write_file(path, whole.data, i, 0600);
        seen = seen_load(path);
        assert_int_equal(seen_count(seen), 0);
        seen_free(seen);
    }
    seen_free(none);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, host_setup, host_teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_was_seen_is_found_in_the_same_state_only),
        TEST(files_are_found_in_any_order),
        TEST(files_elsewhere_are_forgotten_after_some_scans),
        TEST(damaged_and_foreign_caches_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
