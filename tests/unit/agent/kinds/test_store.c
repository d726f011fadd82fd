/* The PEM store: what it opens, what it keeps, what it leaves. */
#include "harness.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/clock.h"
#include "stores/store.h"

static struct status st;

static struct bytes text(const char *s)
{
    return (struct bytes){(const uint8_t *)s, strlen(s)};
}

static void staged_file_takes_owner_and_mode(void **state)
{
    struct host *host = *state;
    char *path = host_path(host, "a.pem");
    struct store_meta meta;
    AUTO_SECRET struct secret *content = NULL;
    struct stat info;
    write_text(path, "old", 0600);
    bool root = geteuid() == 0; /* only root can give files away */
    uid_t uid = root ? 12 : geteuid();
    gid_t gid = root ? 34 : getegid();
    assert_int_equal(chown(path, uid, gid), 0);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(store_read(path, &content, &meta, &st), CODE_OK);
    assert_string_equal((const char *)content->data, "old");
    assert_true(meta.exists);
    assert_int_equal(store_stage(path, ".new", text("new"), &meta, NULL, &st), CODE_OK);
    assert_string_equal(read_text(path), "old");
    char old_sha[SHA256_HEX_SIZE];
    assert_int_equal(store_digest(path, NULL, old_sha, &st), CODE_OK);
    struct store_move move = {path, ".new", old_sha};
    assert_int_equal(store_swap(&move, 1, &st), CODE_OK);
    assert_string_equal(read_text(path), "new");
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);
    assert_int_equal(info.st_uid, uid);
    assert_int_equal(info.st_gid, gid);
    assert_int_not_equal(access(host_path(host, ".new"), F_OK), 0);
}

static void absent_file_is_no_error(void **state)
{
    struct host *host = *state;
    struct store_meta meta = {.exists = true};
    struct secret *content;
    char digest[SHA256_HEX_SIZE];
    assert_int_equal(store_read(host_path(host, "none"), &content, &meta, &st), CODE_OK);
    assert_null(content);
    assert_false(meta.exists);
    assert_int_equal(store_digest(host_path(host, "none"), NULL, digest, &st), CODE_OK);
    assert_string_equal(digest, "");
    assert_int_equal(store_remove(host_path(host, "none"), NULL, &st), CODE_OK);
    assert_int_equal(store_read(host_path(host, "no-dir/none"), &content, &meta, &st), CODE_NOT_FOUND);
}

static void paths_that_are_no_files_are_refused(void **state)
{
    struct host *host = *state;
    struct secret *content = NULL;
    assert_int_equal(store_read("relative.pem", &content, NULL, &st), CODE_INVALID_ARGUMENT);
    assert_int_equal(store_read("/etc/", &content, NULL, &st), CODE_INVALID_ARGUMENT);
    assert_int_equal(store_read("/etc/..", &content, NULL, &st), CODE_INVALID_ARGUMENT);
    assert_int_equal(store_read("/dev/zero", &content, NULL, &st), CODE_PERMISSION_DENIED);
    assert_int_equal(store_read(host->dir, &content, NULL, &st), CODE_PERMISSION_DENIED);
    char *big = host_path(host, "big");
    write_text(big, "", 0600);
    assert_int_equal(truncate(big, STORE_FILE_MAX + 1), 0);
    assert_int_equal(store_read(big, &content, NULL, &st), CODE_RESOURCE_EXHAUSTED);
    assert_null(content);
}

/* Somebody who may write the directory puts a link where the staged file goes. */
static void staging_does_not_follow_links(void **state)
{
    struct host *host = *state;
    struct store_meta meta = {.mode = 0600};
    write_text(host_path(host, "victim"), "precious", 0600);
    assert_int_equal(symlink(host_path(host, "victim"), host_path(host, ".new")), 0);
    assert_int_equal(store_stage(host_path(host, "a.pem"), ".new", text("new"), &meta, NULL, &st), CODE_OK);
    assert_string_equal(read_text(host_path(host, "victim")), "precious");
    struct stat info;
    assert_int_equal(lstat(host_path(host, ".new"), &info), 0);
    assert_true(S_ISREG(info.st_mode));
}

static void backups_are_private_and_pruned(void **state)
{
    struct host *host = *state;
    AUTO_SECRET struct secret *content = secret_dup("key", 3), *back = NULL;
    struct stat info;
    char *state_dir = host_path(host, "state");
    assert_int_equal(store_backup(state_dir, "t1-nginx-key.bak", content, &st), CODE_OK);
    assert_int_equal(store_backup(state_dir, "t2-nginx-key.bak", content, &st), CODE_OK);
    assert_int_equal(store_backup(state_dir, "t1-other-key.bak", content, &st), CODE_OK);
    assert_int_equal(stat(host_path(host, "state/backup/t1-nginx-key.bak"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(stat(host_path(host, "state/backup"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    store_prune_backups(state_dir, "-nginx-key.bak", "t2", 14 * DAY_MS);
    assert_int_not_equal(access(host_path(host, "state/backup/t1-nginx-key.bak"), F_OK), 0);
    assert_int_equal(access(host_path(host, "state/backup/t1-other-key.bak"), F_OK), 0);
    assert_int_equal(store_read_backup(state_dir, "t2-nginx-key.bak", &back, &st), CODE_OK);
    assert_true(secret_equal(content, back));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, host_setup, host_teardown)
    const struct CMUnitTest tests[] = {
        TEST(staged_file_takes_owner_and_mode),    TEST(absent_file_is_no_error),
        TEST(paths_that_are_no_files_are_refused), TEST(staging_does_not_follow_links),
        TEST(backups_are_private_and_pruned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
