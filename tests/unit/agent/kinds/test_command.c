/* Commands of the local policy: no shell, a clean environment, an end. */
#include "cmocka_all.h"

#include <poll.h>
#include <signal.h>

#include "base/clock.h"
#include "kinds/command.h"

static struct status st;

static enum code run(char *const *argv, int64_t timeout_ms, struct buf *out)
{
    memset(&st, 0, sizeof(st));
    return command_run(&(struct command){argv, NULL, timeout_ms}, out, &st);
}

#define ARGV(...) ((char *const[]){__VA_ARGS__, NULL})
#define S(text)   ((char[]){text})

static void arguments_reach_no_shell(void **state)
{
    (void)state;
    AUTO_BUF struct buf out = {0};
    assert_int_equal(run(ARGV(S("/bin/echo"), S("$HOME; id"), S("*")), 5000, &out), CODE_OK);
    assert_string_equal(buf_text(&out), "$HOME; id *");
}

static void environment_is_clean(void **state)
{
    (void)state;
    AUTO_BUF struct buf out = {0};
    assert_int_equal(setenv("CLM_TEST_SECRET", "x", 1), 0);
    assert_int_equal(run(ARGV(S("/usr/bin/env")), 5000, &out), CODE_OK);
    assert_null(strstr(buf_text(&out), "CLM_TEST_SECRET"));
    assert_non_null(strstr(buf_text(&out), "PATH="));
}

static void listed_variables_come_beside_the_usual_ones(void **state)
{
    (void)state;
    AUTO_BUF struct buf out = {0};
    const char *const listed[] = {"CATALINA_BASE=/srv/t", "LANG=de_DE.UTF-8", NULL};
    char *argv[] = {S("/usr/bin/env"), NULL};
    assert_int_equal(command_run(&(struct command){argv, listed, 5000}, &out, &st), CODE_OK);
    assert_non_null(strstr(buf_text(&out), "CATALINA_BASE=/srv/t\n"));
    assert_non_null(strstr(buf_text(&out), "LANG=de_DE.UTF-8\n"));
    assert_null(strstr(buf_text(&out), "LANG=C.UTF-8"));
    assert_non_null(strstr(buf_text(&out), "PATH=/usr/local/sbin:"));
}

static void of_long_output_the_end_is_kept(void **state)
{
    (void)state;
    AUTO_BUF struct buf out = {0};
    assert_int_equal(run(ARGV(S("/usr/bin/seq"), S("1"), S("20000")), 5000, &out), CODE_OK);
    assert_true(out.len <= COMMAND_OUTPUT_MAX && out.len > COMMAND_OUTPUT_MAX - 16);
    assert_string_equal(buf_text(&out) + out.len - 11, "19999\n20000");
}

static void keys_and_passwords_are_taken_out(void **state)
{
    (void)state;
    assert_int_equal(
        run(ARGV(S("/bin/sh"), S("-c"), S("echo 'password=hunter2 cannot open'; exit 3")), 5000, NULL),
        CODE_FAILED_PRECONDITION);
    assert_string_equal(st.msg, "/bin/sh ended with status 3: password=[removed] cannot open");
}

static void stack_frames_say_nothing(void **state)
{
    (void)state;
    AUTO_BUF struct buf out = {0};
    assert_int_equal(
        run(ARGV(S("/usr/bin/printf"), S("SEVERE: it broke\\n\\tat a.b(C.java:1)\\n\\t... 13 more\\nnow\\n")),
            5000, &out),
        CODE_OK);
    assert_string_equal(buf_text(&out), "SEVERE: it broke\nnow");
}

static void failure_says_why(void **state)
{
    (void)state;
    assert_int_equal(run(ARGV(S("/bin/ls"), S("/nonexistent-file")), 5000, NULL), CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(st.msg, "ended with status 2"));
    assert_non_null(strstr(st.msg, "nonexistent-file"));
    assert_int_equal(run(ARGV(S("/nonexistent/program")), 5000, NULL), CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(st.msg, "cannot run"));
}

/* Not gone, and no zombie that its adoptive parent has yet to reap. */
static bool process_runs(pid_t pid)
{
    char path[64], line[256] = "";
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    AUTO_FCLOSE FILE *f = fopen(path, "re");
    return f && fgets(line, sizeof(line), f) && !strstr(line, ") Z");
}

static void late_command_is_killed_with_its_children(void **state)
{
    (void)state;
    AUTO_BUF struct buf out = {0};
    int64_t started = clock_mono_us();
    assert_int_equal(run(ARGV(S("/bin/sh"), S("-c"), S("sleep 60 & echo $!; wait")), 300, &out),
                     CODE_DEADLINE_EXCEEDED);
    assert_true(clock_mono_us() - started < 20000000);
    pid_t child = (pid_t)strtol(buf_text(&out), NULL, 10);
    assert_true(child > 0);
    for (int i = 0; i < 500 && process_runs(child); i++)
        (void)poll(NULL, 0, 10);
    assert_false(process_runs(child));
}

static void daemon_left_behind_holds_nobody_up(void **state)
{
    (void)state;
    int64_t started = clock_mono_us();
    assert_int_equal(run(ARGV(S("/bin/sh"), S("-c"), S("sleep 20 & exit 0")), 15000, NULL), CODE_OK);
    assert_true(clock_mono_us() - started < 10000000);
}

static void output_is_bounded_and_printable(void **state)
{
    (void)state;
    AUTO_BUF struct buf out = {0};
    assert_int_equal(run(ARGV(S("/usr/bin/head"), S("-c"), S("100000"), S("/dev/zero")), 5000, &out),
                     CODE_OK);
    assert_int_equal(out.len, COMMAND_OUTPUT_MAX);
    for (size_t i = 0; i < out.len; i++)
        assert_int_equal(out.data[i], '?');
    AUTO_BUF struct buf colours = {0};
    assert_int_equal(run(ARGV(S("/usr/bin/printf"), S("\\033[31mred\\nline")), 5000, &colours), CODE_OK);
    assert_string_equal(buf_text(&colours), "?[31mred\nline");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_reach_no_shell),
        cmocka_unit_test(environment_is_clean),
        cmocka_unit_test(listed_variables_come_beside_the_usual_ones),
        cmocka_unit_test(of_long_output_the_end_is_kept),
        cmocka_unit_test(keys_and_passwords_are_taken_out),
        cmocka_unit_test(stack_frames_say_nothing),
        cmocka_unit_test(failure_says_why),
        cmocka_unit_test(late_command_is_killed_with_its_children),
        cmocka_unit_test(daemon_left_behind_holds_nobody_up),
        cmocka_unit_test(output_is_bounded_and_printable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
