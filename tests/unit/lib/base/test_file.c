#include "cmocka_all.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static char dir[] = "/tmp/clm-file-XXXXXX";
static char path[64];

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/target", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static void write_replaces_content_and_sets_the_mode_despite_umask(void **state)
{
    (void)state;
    struct status st;
    mode_t old = umask(077);
    assert_int_equal(file_write_atomic(path, "one", 3, 0644, &st), CODE_OK);
    assert_int_equal(file_write_atomic(path, "second", 6, 0640, &st), CODE_OK);
    umask(old);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);
    AUTO_BUF struct buf buf = {0};
    assert_int_equal(file_read(path, 100, &buf, &st), CODE_OK);
    assert_string_equal(buf_text(&buf), "second");
}

static void failed_write_leaves_nothing_behind(void **state)
{
    (void)state;
    struct status st;
    char target[64];
    snprintf(target, sizeof(target), "%s/isdir", dir);
    assert_int_equal(mkdir(target, 0700), 0);
    assert_int_not_equal(file_write_atomic(target, "x", 1, 0600, &st), CODE_OK);
    assert_int_equal(rmdir(target), 0);
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e; e = readdir(d))
        assert_null(strstr(e->d_name, ".tmp"));
    closedir(d);
    assert_int_equal(file_write_atomic("/nonexistent/x", "x", 1, 0600, &st), CODE_NOT_FOUND);
}

static void read_beyond_the_limit_fails_and_keeps_the_buffer(void **state)
{
    (void)state;
    struct status st;
    assert_int_equal(file_write_atomic(path, "12345", 5, 0600, &st), CODE_OK);
    AUTO_BUF struct buf buf = {0};
    assert_true(buf_puts(&buf, "before"));
    assert_int_equal(file_read(path, 4, &buf, &st), CODE_RESOURCE_EXHAUSTED);
    assert_string_equal(buf_text(&buf), "before");
    assert_int_equal(file_read(path, 5, &buf, &st), CODE_OK);
    assert_string_equal(buf_text(&buf), "before12345");
}

static void missing_file_is_not_found(void **state)
{
    (void)state;
    struct status st;
    AUTO_BUF struct buf buf = {0};
    assert_int_equal(file_read("/nonexistent/file", 4, &buf, &st), CODE_NOT_FOUND);
    assert_non_null(strstr(st.msg, "/nonexistent/file"));
}

static void dir_make_makes_parents_and_accepts_what_is_there(void **state)
{
    (void)state;
    struct status st;
    char deep[64], mid[64];
    snprintf(mid, sizeof(mid), "%s/a", dir);
    snprintf(deep, sizeof(deep), "%s/a/b", dir);
    assert_int_equal(dir_make(deep, 0700, &st), CODE_OK);
    assert_int_equal(dir_make(deep, 0700, &st), CODE_OK);
    assert_int_equal(rmdir(deep), 0);
    assert_int_equal(rmdir(mid), 0);
    assert_int_equal(file_write_atomic(path, "x", 1, 0600, &st), CODE_OK);
    assert_int_equal(dir_make(path, 0700, &st), CODE_FAILED_PRECONDITION);
}

static void descriptor_end_is_unavailable(void **state)
{
    (void)state;
    struct status st;
    int fds[2];
    char got[4];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(fd_write_all(fds[1], "abcde", 5, &st), CODE_OK);
    close(fds[1]);
    assert_int_equal(fd_read_all(fds[0], got, 4, &st), CODE_OK);
    assert_memory_equal(got, "abcd", 4);
    assert_int_equal(fd_read_all(fds[0], got, 4, &st), CODE_UNAVAILABLE);
    close(fds[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_replaces_content_and_sets_the_mode_despite_umask),
        cmocka_unit_test(failed_write_leaves_nothing_behind),
        cmocka_unit_test(read_beyond_the_limit_fails_and_keeps_the_buffer),
        cmocka_unit_test(missing_file_is_not_found),
        cmocka_unit_test(dir_make_makes_parents_and_accepts_what_is_there),
        cmocka_unit_test(descriptor_end_is_unavailable),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
