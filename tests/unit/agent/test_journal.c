/* What survives in the journal, byte by byte. */
#include "agent/journal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "cmocka_all.h"

#define TASK "019a0000-0000-7000-8000-0000000000aa"

struct fixture {
    char dir[64], file[160];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/clm-journal-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->file, sizeof(f->file), "%s/" TASK "-1.journal", f->dir);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char path[200];
    (void)unlink(f->file);
    (void)snprintf(path, sizeof(path), "%s.damaged", f->file);
    (void)unlink(path);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    clock_real();
    return 0;
}

static struct journal *open_ok(const struct fixture *f)
{
    struct journal *journal;
    struct status st;
    if (journal_open(f->dir, TASK, 1, &journal, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    return journal;
}

static void step_ok(struct journal *journal, const char *name)
{
    struct status st;
    assert_int_equal(journal_step(journal, name, "nginx", "/etc/a", "/etc/b", NULL, &st), CODE_OK);
}

static off_t size_of(const char *path)
{
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return info.st_size;
}

static void write_three(const struct fixture *f, off_t end[3])
{
    struct journal *journal = open_ok(f);
    static const char *const names[] = {"stage", "swap", "reload"};
    for (size_t i = 0; i < 3; i++) {
        step_ok(journal, names[i]);
        end[i] = size_of(f->file);
    }
    journal_close(journal);
}

static void records_are_there_after_reopening(void **state)
{
    const struct fixture *f = *state;
    off_t end[3];
    write_three(f, end);
    struct journal *journal = open_ok(f);
    assert_int_equal(journal_count(journal), 3);
    assert_string_equal(journal_get(journal, 0)->step, "stage");
    assert_string_equal(journal_get(journal, 2)->step, "reload");
    assert_string_equal(journal_find_step(journal, "swap")->other_path, "/etc/b");
    assert_null(journal_find_step(journal, "swap")->fingerprint);
    assert_null(journal_find_step(journal, "commit"));
    journal_close(journal);
}

static void file_is_private(void **state)
{
    const struct fixture *f = *state;
    journal_close(open_ok(f));
    struct stat info;
    assert_int_equal(stat(f->file, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

/* Power loss at every byte of the last append. */
static void torn_tail_is_cut_off_at_every_length(void **state)
{
    const struct fixture *f = *state;
    off_t end[3];
    write_three(f, end);
    AUTO_BUF struct buf whole = {0};
    struct status st;
    assert_int_equal(file_read(f->file, 1 << 20, &whole, &st), CODE_OK);
    for (off_t len = end[1]; len < end[2]; len++) {
        assert_int_equal(file_write_atomic(f->file, whole.data, (size_t)len, 0600, &st), CODE_OK);
        struct journal *journal = open_ok(f);
        assert_int_equal(journal_count(journal), 2);
        /* What is appended next stands behind whole records. */
        step_ok(journal, "rollback");
        journal_close(journal);
        journal = open_ok(f);
        assert_int_equal(journal_count(journal), 3);
        assert_string_equal(journal_get(journal, 2)->step, "rollback");
        journal_close(journal);
    }
}

static void zeros_at_the_end_are_a_torn_tail(void **state)
{
    const struct fixture *f = *state;
    off_t end[3];
    write_three(f, end);
    assert_int_equal(truncate(f->file, end[2] + 4096), 0);
    struct journal *journal = open_ok(f);
    assert_int_equal(journal_count(journal), 3);
    journal_close(journal);
    assert_int_equal(size_of(f->file), end[2]);
}

static void flip(const char *path, off_t at)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    (void)close(fd);
}

/* Every byte of the first two records: never a wrong record, never a silent loss of the ones behind. */
static void damage_before_the_end_is_refused(void **state)
{
    const struct fixture *f = *state;
    off_t end[3];
    write_three(f, end);
    for (off_t at = 0; at < end[1]; at++) {
        struct journal *journal = NULL;
        struct status st;
        flip(f->file, at);
        assert_int_equal(journal_open(f->dir, TASK, 1, &journal, &st), CODE_DATA_LOSS);
        assert_int_equal(size_of(f->file), end[2]);
        flip(f->file, at);
    }
    journal_close(open_ok(f));
}

static unsigned scanned;

static enum code count_file(const char *task_id, uint32_t attempt, void *arg, struct status *st)
{
    (void)arg;
    (void)st;
    assert_string_equal(task_id, TASK);
    assert_int_equal(attempt, 1);
    scanned++;
    return CODE_OK;
}

static void scan_moves_a_damaged_file_aside(void **state)
{
    const struct fixture *f = *state;
    struct status st;
    off_t end[3];
    char aside[200];
    write_three(f, end);
    scanned = 0;
    assert_int_equal(journal_scan(f->dir, count_file, NULL, &st), CODE_OK);
    assert_int_equal(scanned, 1);
    flip(f->file, 20);
    assert_int_equal(journal_scan(f->dir, count_file, NULL, &st), CODE_OK);
    assert_int_equal(scanned, 1);
    (void)snprintf(aside, sizeof(aside), "%s.damaged", f->file);
    assert_int_equal(access(aside, F_OK), 0);
    assert_int_not_equal(access(f->file, F_OK), 0);
}

static void append_ok(struct journal *journal, Clm__Agent__JournalRecord__Type type)
{
    Clm__Agent__JournalRecord record = CLM__AGENT__JOURNAL_RECORD__INIT;
    struct status st;
    record.has_type = record.has_at_ms = 1;
    record.type = type;
    record.at_ms = clock_wall_ms();
    assert_int_equal(journal_append(journal, &record, &st), CODE_OK);
}

static void only_old_acknowledged_files_are_pruned(void **state)
{
    const struct fixture *f = *state;
    struct status st;
    clock_fake(1000000000000);
    struct journal *journal = open_ok(f);
    append_ok(journal, CLM__AGENT__JOURNAL_RECORD__TYPE__FINISHED);
    journal_close(journal);
    clock_advance(1000000);
    assert_int_equal(journal_prune(f->dir, 5000, &st), CODE_OK);
    assert_true(journal_exists(f->dir, TASK, 1));
    journal = open_ok(f);
    append_ok(journal, CLM__AGENT__JOURNAL_RECORD__TYPE__ACKNOWLEDGED);
    journal_close(journal);
    clock_advance(4999);
    assert_int_equal(journal_prune(f->dir, 5000, &st), CODE_OK);
    assert_true(journal_exists(f->dir, TASK, 1));
    clock_advance(2);
    assert_int_equal(journal_prune(f->dir, 5000, &st), CODE_OK);
    assert_false(journal_exists(f->dir, TASK, 1));
}

static void large_results_are_forgotten_after_a_tenth_of_the_time(void **state)
{
    const struct fixture *f = *state;
    struct status st;
    static uint8_t result[65 * 1024];
    Clm__Agent__JournalRecord record = CLM__AGENT__JOURNAL_RECORD__INIT;
    clock_fake(1000000000000);
    struct journal *journal = open_ok(f);
    record.has_type = record.has_result = 1;
    record.type = CLM__AGENT__JOURNAL_RECORD__TYPE__FINISHED;
    record.result = (ProtobufCBinaryData){sizeof(result), result};
    assert_int_equal(journal_append(journal, &record, &st), CODE_OK);
    append_ok(journal, CLM__AGENT__JOURNAL_RECORD__TYPE__ACKNOWLEDGED);
    journal_close(journal);
    clock_advance(500);
    assert_int_equal(journal_prune(f->dir, 5000, &st), CODE_OK);
    assert_true(journal_exists(f->dir, TASK, 1));
    clock_advance(1);
    assert_int_equal(journal_prune(f->dir, 5000, &st), CODE_OK);
    assert_false(journal_exists(f->dir, TASK, 1));
}

static void a_task_id_that_is_a_path_is_refused(void **state)
{
    const struct fixture *f = *state;
    struct journal *journal;
    struct status st;
    assert_int_equal(journal_open(f->dir, "../../../../tmp/019a0000-0000-7000-80", 1, &journal, &st),
                     CODE_INVALID_ARGUMENT);
    assert_false(journal_exists(f->dir, "../x", 1));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(records_are_there_after_reopening),      T(file_is_private),
        T(torn_tail_is_cut_off_at_every_length),   T(zeros_at_the_end_are_a_torn_tail),
        T(damage_before_the_end_is_refused),       T(scan_moves_a_damaged_file_aside),
        T(only_old_acknowledged_files_are_pruned), T(large_results_are_forgotten_after_a_tenth_of_the_time),
        T(a_task_id_that_is_a_path_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
