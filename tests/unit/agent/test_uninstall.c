/* Wiping a directory: all of it, and nothing else. */
#include "cmocka_all.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/uninstall.h"
#include "base/file.h"

static char top[64];

static int setup(void **state)
{
    (void)state;
    (void)snprintf(top, sizeof(top), "/tmp/clm-uninstall-XXXXXX");
    return mkdtemp(top) ? 0 : -1;
}

static const char *in(const char *name)
{
    static char path[4][256];
    static unsigned next;
    char *out = path[next++ % 4];
    (void)snprintf(out, 256, "%s/%s", top, name);
    return out;
}

static void put(const char *name, const char *text)
{
    struct status st;
    assert_int_equal(file_write_atomic(in(name), text, strlen(text), 0600, &st), CODE_OK);
}

static int teardown(void **state)
{
    (void)state;
    struct status st;
    return uninstall_wipe(top, &st) == CODE_OK && access(top, F_OK) != 0 ? 0 : -1;
}

static void everything_below_goes_and_the_directory_itself(void **state)
{
    (void)state;
    struct status st;
    assert_int_equal(mkdir(in("state"), 0700), 0);
    assert_int_equal(mkdir(in("state/net"), 0700), 0);
    put("state/agent.id", "x");
    put("state/net/identity-0.key", "key");
    assert_int_equal(mkfifo(in("state/fifo"), 0600), 0);
    assert_int_equal(uninstall_wipe(in("state"), &st), CODE_OK);
    assert_int_not_equal(access(in("state"), F_OK), 0);
    assert_int_equal(uninstall_wipe(in("state"), &st), CODE_OK); /* nothing to do */
}

static void links_lead_nowhere(void **state)
{
    (void)state;
    struct status st;
    AUTO_BUF struct buf kept = {0};
    assert_int_equal(mkdir(in("outside"), 0700), 0);
    put("outside/site.key", "served");
    put("linked.key", "served too");
    assert_int_equal(mkdir(in("state"), 0700), 0);
    assert_int_equal(symlink(in("outside"), in("state/dir")), 0);
    assert_int_equal(symlink(in("outside/site.key"), in("state/file")), 0);
    assert_int_equal(link(in("linked.key"), in("state/hard")), 0);
    assert_int_equal(uninstall_wipe(in("state"), &st), CODE_OK);
    assert_int_equal(file_read(in("outside/site.key"), 64, &kept, &st), CODE_OK);
    assert_string_equal(buf_text(&kept), "served");
    buf_reset(&kept);
    assert_int_equal(file_read(in("linked.key"), 64, &kept, &st), CODE_OK);
    assert_string_equal(buf_text(&kept), "served too");
    assert_int_equal(symlink(in("outside"), in("state")), 0);
    assert_int_not_equal(uninstall_wipe(in("state"), &st), CODE_OK);
    assert_int_equal(access(in("outside/site.key"), F_OK), 0);
}

static void a_file_is_overwritten_before_it_goes(void **state)
{
    (void)state;
    struct status st;
    char bytes[16] = "";
    assert_int_equal(mkdir(in("state"), 0700), 0);
    put("state/task-0.key", "PRIVATE KEY");
    int held = open(in("state/task-0.key"), O_RDONLY); /* what a disk would still have */
    assert_true(held >= 0);
    assert_int_equal(uninstall_wipe(in("state"), &st), CODE_OK);
    assert_true(read(held, bytes, 11) == 11);
    for (size_t i = 0; i < 11; i++)
        assert_int_equal(bytes[i], 0);
    (void)close(held);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everything_below_goes_and_the_directory_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(links_lead_nowhere, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_is_overwritten_before_it_goes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
