#include "cmocka_all.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

static int saved_stderr, pipe_fds[2];

static int setup(void **state)
{
    (void)state;
    clock_fake(1795474862345);
    return pipe2(pipe_fds, O_NONBLOCK | O_CLOEXEC);
}

static void capture_start(void)
{
    fflush(stderr);
    saved_stderr = dup(STDERR_FILENO);
    dup2(pipe_fds[1], STDERR_FILENO);
}

static char *capture_end(void)
{
    static char out[65536];
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    ssize_t n = read(pipe_fds[0], out, sizeof(out) - 1);
    out[n > 0 ? n : 0] = 0;
    return out;
}

static void text_line_has_time_level_program_message_and_fields(void **state)
{
    (void)state;
    log_init("registry", LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_set_trace("4bf92f3577b34da6a3ce929d0e0e4736");
    capture_start();
    log_info("agent registered", "agent", "a-1", "count", LOG_NUM(-7), "host", NULL, NULL);
    log_set_trace(NULL);
    assert_string_equal(capture_end(),
                        "2026-11-23T23:01:02.345Z INFO registry: agent registered agent=a-1 count=-7 host=- "
                        "trace=4bf92f3577b34da6a3ce929d0e0e4736\n");
}

static void peer_bytes_cannot_start_a_line_or_a_field(void **state)
{
    (void)state;
    log_init("x", LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    capture_start();
    log_info("m", "a", "1 b=2\nfake \x1b[31m\xff \"q\" \xc2\x85 \xe2\x80\xae \xc3\xa4", NULL);
    char *line = capture_end();
    assert_non_null(
        strstr(line, "a=\"1 b=2\\nfake \\x1b[31m\\xff \\\"q\\\" \\xc2\\x85 \\xe2\\x80\\xae \xc3\xa4\"\n"));
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void json_line_is_one_valid_object(void **state)
{
    (void)state;
    log_init("x", LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    capture_start();
    log_warn("quote \" here", "a", "line\nbreak\x01\xff", NULL);
    assert_string_equal(capture_end(),
                        "{\"time\":\"2026-11-23T23:01:02.345Z\",\"level\":\"WARN\",\"program\":\"x\","
                        "\"msg\":\"quote \\\" here\",\"a\":\"line\\nbreak\\u0001\\ufffd\"}\n");
    log_init("x", LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
}

static void lower_levels_are_silent(void **state)
{
    (void)state;
    log_set_level(LOG_LEVEL_ERROR);
    capture_start();
    log_warn("quiet", NULL);
    assert_string_equal(capture_end(), "");
    log_set_level(LOG_LEVEL_DEBUG);
    capture_start();
    log_debug("loud", NULL);
    assert_non_null(strstr(capture_end(), "DEBUG x: loud\n"));
}

static void huge_values_are_cut_and_the_line_still_ends(void **state)
{
    (void)state;
    char big[20000];
    memset(big, '\x01', sizeof(big));
    big[sizeof(big) - 1] = 0;
    capture_start();
    log_info(big, "a", big, "b", big, "c", "last", NULL);
    char *line = capture_end();
    size_t len = strlen(line);
    assert_true(len <= 8192);
    assert_int_equal(line[len - 1], '\n');
    assert_null(memchr(line, '\x01', len));
}

static void level_names_parse(void **state)
{
    (void)state;
    assert_int_equal(log_level_parse("warn"), LOG_LEVEL_WARN);
    assert_int_equal(log_level_parse("WARNING"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_line_has_time_level_program_message_and_fields),
        cmocka_unit_test(peer_bytes_cannot_start_a_line_or_a_field),
        cmocka_unit_test(json_line_is_one_valid_object),
        cmocka_unit_test(lower_levels_are_silent),
        cmocka_unit_test(huge_values_are_cut_and_the_line_still_ends),
        cmocka_unit_test(level_names_parse),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
