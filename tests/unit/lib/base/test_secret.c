#include "cmocka_all.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/secret.h"

static char dir[] = "/tmp/clm-secret-XXXXXX";
static char path[64];

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/key", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static void write_file(const char *text, mode_t mode)
{
    struct status st;
    assert_int_equal(file_write_atomic(path, text, strlen(text), mode, &st), CODE_OK);
}

static void equal_needs_same_length_and_bytes(void **state)
{
    (void)state;
    AUTO_SECRET struct secret *a = secret_dup("abc", 3);
    AUTO_SECRET struct secret *b = secret_dup("abc", 3);
    AUTO_SECRET struct secret *c = secret_dup("abd", 3);
    AUTO_SECRET struct secret *d = secret_dup("ab", 2);
    assert_true(secret_equal(a, b));
    assert_false(secret_equal(a, c));
    assert_false(secret_equal(a, d));
    assert_string_equal((char *)a->data, "abc");
}

static void new_secret_is_zeroed_and_spans_pages(void **state)
{
    (void)state;
    AUTO_SECRET struct secret *s = secret_new(10000);
    for (size_t i = 0; i <= s->len; i++)
        assert_int_equal(s->data[i], 0);
    memset(s->data, 1, s->len);
}

static void trailing_newline_is_dropped_only_when_asked(void **state)
{
    (void)state;
    struct status st;
    write_file("token\n", 0600);
    AUTO_SECRET struct secret *trimmed = NULL;
    AUTO_SECRET struct secret *whole = NULL;
    assert_int_equal(secret_read_file(path, 100, true, &trimmed, &st), CODE_OK);
    assert_string_equal((char *)trimmed->data, "token");
    assert_int_equal(secret_read_file(path, 100, false, &whole, &st), CODE_OK);
    assert_int_equal(whole->len, 6);
}

/* Reads as an unprivileged user whose group is root's, as a container with a mounted Secret does. */
static enum code read_unprivileged(mode_t mode)
{
    struct status st;
    AUTO_SECRET struct secret *secret = NULL;
    write_file("token", mode);
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(seteuid(65534), 0);
    enum code code = secret_read_file(path, 100, true, &secret, &st);
    assert_int_equal(seteuid(0), 0);
    return code;
}

static void file_that_root_gave_to_the_readers_group_is_read(void **state)
{
    (void)state;
    if (geteuid() != 0)
        return; /* only root can give a file away */
    assert_int_equal(read_unprivileged(0440), CODE_OK);
    assert_int_equal(read_unprivileged(0640), CODE_OK);
    assert_int_equal(read_unprivileged(0644), CODE_PERMISSION_DENIED);
    assert_int_equal(read_unprivileged(0660), CODE_PERMISSION_DENIED);
}

static void file_that_others_may_read_is_refused_with_the_remedy(void **state)
{
    (void)state;
    struct status st;
    struct secret *secret = NULL;
    write_file("token", 0640);
    assert_int_equal(secret_read_file(path, 100, true, &secret, &st), CODE_PERMISSION_DENIED);
    assert_non_null(strstr(st.msg, "chmod 600"));
    assert_null(strstr(st.msg, "token\""));
    assert_null(secret);
}

static void file_larger_than_the_limit_is_refused(void **state)
{
    (void)state;
    struct status st;
    struct secret *secret = NULL;
    write_file("12345", 0600);
    assert_int_equal(secret_read_file(path, 4, true, &secret, &st), CODE_RESOURCE_EXHAUSTED);
    assert_int_equal(secret_read_file(path, 5, true, &secret, &st), CODE_OK);
    secret_free(secret);
    unlink(path);
    assert_int_equal(secret_read_file(path, 5, true, &secret, &st), CODE_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_needs_same_length_and_bytes),
        cmocka_unit_test(new_secret_is_zeroed_and_spans_pages),
        cmocka_unit_test(file_that_root_gave_to_the_readers_group_is_read),
        cmocka_unit_test(trailing_newline_is_dropped_only_when_asked),
        cmocka_unit_test(file_that_others_may_read_is_refused_with_the_remedy),
        cmocka_unit_test(file_larger_than_the_limit_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
