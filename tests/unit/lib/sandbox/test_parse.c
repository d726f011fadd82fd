/* The confined parser: what it gives, and what it is kept from. */
#include "cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "pki/issue.h"
#include "sandbox/sandbox.h"

#define KEEP_USER ((uid_t)-1)
#define LIMIT_MS  10000

typedef int parse_fn(void *arg, const void *in, size_t in_len, int out_fd);

static enum code run(parse_fn *parse, void *arg, struct buf *out, struct status *st)
{
    return sandbox_parse(parse, arg, "input", 5, 4096, LIMIT_MS, KEEP_USER, out, st);
}

static int say(int fd, const char *text)
{
    return write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : 1;
}

static int upper(void *arg, const void *in, size_t in_len, int out_fd)
{
    char text[16];
    for (size_t i = 0; i < in_len; i++)
        text[i] = (char)(((const char *)in)[i] - 32);
    return write(out_fd, text, in_len) == (ssize_t)in_len && *(int *)arg == 7 ? 0 : 1;
}

static void output_is_appended(void **state UNUSED)
{
    struct status st;
    int arg = 7;
    AUTO_BUF struct buf out = {0};
    assert_true(buf_puts(&out, "got "));
    assert_int_equal(run(upper, &arg, &out, &st), CODE_OK);
    assert_string_equal(buf_text(&out), "got INPUT");
}

static int nothing(void *arg UNUSED, const void *in UNUSED, size_t in_len UNUSED, int out_fd UNUSED)
{
    return 0;
}

static void no_output_is_fine(void **state UNUSED)
{
    struct status st;
    AUTO_BUF struct buf out = {0};
    assert_int_equal(run(nothing, NULL, &out, &st), CODE_OK);
    assert_int_equal(out.len, 0);
}

static int tell_and_spin(void *arg, const void *in UNUSED, size_t in_len UNUSED, int out_fd UNUSED)
{
    volatile pid_t *told = arg;
    *told = getpid();
    while (*told)
        ;
    return 0;
}

/* Also as another user: with its change the kernel forgets whose end is ours. */
static void a_parser_ends_with_its_parent(void **state UNUSED)
{
    volatile pid_t *parser =
        mmap(NULL, sizeof(*parser), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(parser != MAP_FAILED);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    pid_t parent = fork();
    if (parent == 0) {
        struct status st;
        AUTO_BUF struct buf out = {0};
        (void)!sandbox_parse(tell_and_spin, (void *)(uintptr_t)parser, "", 0, 100, 6 * LIMIT_MS, 65534, &out,
                             &st);
        _exit(0);
    }
    int64_t until = clock_mono_ms() + LIMIT_MS;
    while (*parser == 0 && clock_mono_ms() < until)
        (void)usleep(10000);
    assert_true(*parser > 0);
    (void)kill(parent, SIGKILL);
    assert_int_equal(waitpid(parent, NULL, 0), parent);
    int how = 0;
    pid_t ended = 0;
    for (until = clock_mono_ms() + LIMIT_MS; ended == 0 && clock_mono_ms() < until;) {
        ended = waitpid(*parser, &how, WNOHANG);
        (void)usleep(10000);
    }
    if (ended == 0) {
        (void)kill(*parser, SIGKILL);
        (void)waitpid(*parser, NULL, 0);
    }
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0), 0);
    assert_int_equal(ended, *parser);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
    (void)munmap((void *)(uintptr_t)parser, sizeof(*parser));
}

static int give_up(void *arg UNUSED, const void *in UNUSED, size_t in_len UNUSED, int out_fd)
{
    (void)say(out_fd, "half");
    return 1;
}

static void failure_gives_no_output(void **state UNUSED)
{
    struct status st;
    AUTO_BUF struct buf out = {0};
    assert_int_equal(run(give_up, NULL, &out, &st), CODE_INVALID_ARGUMENT);
    assert_int_equal(out.len, 0);
}

/* Each probe says "ok" if the call was refused as it must be. */
static int probe_result(int out_fd, bool refused)
{
    return say(out_fd, refused ? "ok" : "allowed");
}
static int probe_open(void *arg UNUSED, const void *in UNUSED, size_t in_len UNUSED, int out_fd)
{
    return probe_result(out_fd, open("/etc/passwd", O_RDONLY) < 0 && errno == ENOENT);
}
static int probe_create(void *arg UNUSED, const void *in UNUSED, size_t in_len UNUSED, int out_fd)
{
    return probe_result(out_fd, open("/tmp/clm-sandbox-probe", O_CREAT | O_WRONLY, 0600) < 0);
}
static int probe_unlink(void *arg UNUSED, const void *in UNUSED, size_t in_len UNUSED, int out_fd)
{
    return probe_result(out_fd, unlink("/nonexistent/x") < 0 && errno == EPERM);
}
static int probe_socket(void *arg UNUSED, const void *in UNUSED, size_t in_len UNUSED, int out_fd)
{
    return probe_result(out_fd, socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM);
}
static int probe_fork(void *arg UNUSED, const void *in UNUSED, size_t in_len UNUSED, int out_fd)
{
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    return probe_result(out_fd, child < 0);
}
static int probe_kill(void *arg UNUSED, const void *in UNUSED, size_t in_len UNUSED, int out_fd)
{
    return probe_result(out_fd, kill(getppid(), 0) < 0 && kill(1, 0) < 0);
}
static int probe_exec_memory(void *arg UNUSED, const void *in UNUSED, size_t in_len UNUSED, int out_fd)
{
    void *fresh = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *plain = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool refused =
        fresh == MAP_FAILED && plain != MAP_FAILED && mprotect(plain, 4096, PROT_READ | PROT_EXEC) != 0;
    return probe_result(out_fd, refused);
}
static int probe_descriptors(void *arg, const void *in UNUSED, size_t in_len UNUSED, int out_fd)
{
    char byte;
    int secret = *(int *)arg;
    return probe_result(out_fd, secret != out_fd && read(secret, &byte, 1) < 0 && errno == EBADF);
}
static int probe_raise_limit(void *arg UNUSED, const void *in UNUSED, size_t in_len UNUSED, int out_fd)
{
    struct rlimit limit = {64, 64};
    return probe_result(out_fd, setrlimit(RLIMIT_NOFILE, &limit) != 0);
}

static void nothing_outside_can_be_reached(void **state UNUSED)
{
    int fd = fcntl(2, F_DUPFD, 10);
    assert_true(fd >= 10);
    static parse_fn *const probes[] = {probe_open,        probe_create,      probe_unlink,
                                       probe_socket,      probe_fork,        probe_kill,
                                       probe_exec_memory, probe_descriptors, probe_raise_limit};
    for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
        struct status st = {0};
        AUTO_BUF struct buf out = {0};
        if (run(probes[i], &fd, &out, &st) != CODE_OK || strcmp(buf_text(&out), "ok") != 0)
            fail_msg("probe %zu: %s %s", i, buf_text(&out), st.msg);
    }
    assert_int_equal(close(fd), 0);
}

static int try_exec(void *arg UNUSED, const void *in UNUSED, size_t in_len UNUSED, int out_fd)
{
    char *const argv[] = {NULL};
    (void)execve("/bin/true", argv, argv);
    return say(out_fd, "still here");
}

static void exec_kills_the_parser(void **state UNUSED)
{
    struct status st;
    AUTO_BUF struct buf out = {0};
    assert_int_equal(run(try_exec, NULL, &out, &st), CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(st.msg, "the parser was killed (signal 31"));
    assert_int_equal(out.len, 0);
}

static int die(void *arg UNUSED, const void *in UNUSED, size_t in_len UNUSED, int out_fd UNUSED)
{
    abort();
}

static void crash_is_bad_input_and_not_our_end(void **state UNUSED)
{
    struct status st;
    AUTO_BUF struct buf out = {0};
    assert_int_equal(run(die, NULL, &out, &st), CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(st.msg, "the parser was killed (signal 6"));
}

static int flood(void *arg UNUSED, const void *in UNUSED, size_t in_len UNUSED, int out_fd)
{
    while (say(out_fd, "0123456789abcdef") == 0)
        continue;
    return 0;
}

static void output_is_bounded(void **state UNUSED)
{
    struct status st;
    AUTO_BUF struct buf out = {0};
    assert_int_equal(run(flood, NULL, &out, &st), CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(st.msg, "more than 4096 bytes"));
    assert_int_equal(out.len, 0);
}

static int spin(void *arg UNUSED, const void *in UNUSED, size_t in_len UNUSED, int out_fd UNUSED)
{
    volatile int endless = 1;
    while (endless)
        continue;
    return 0;
}

static void endless_parser_is_stopped_in_time(void **state UNUSED)
{
    struct status st;
    AUTO_BUF struct buf out = {0};
    int64_t before_us = clock_mono_us();
    assert_int_equal(sandbox_parse(spin, NULL, "", 0, 10, 50, KEEP_USER, &out, &st), CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(st.msg, "not done after 50 ms"));
    assert_true(clock_mono_us() - before_us >= 50 * 1000);
    /* Its process is gone too. */
    assert_true(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
}

static int closes_and_spins(void *arg, const void *in, size_t in_len, int out_fd)
{
    (void)close(out_fd);
    return spin(arg, in, in_len, out_fd);
}

static void parser_that_hides_its_end_is_killed(void **state UNUSED)
{
    struct status st;
    AUTO_BUF struct buf out = {0};
    assert_int_equal(run(closes_and_spins, NULL, &out, &st), CODE_INVALID_ARGUMENT);
    assert_true(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
}

static int who(void *arg UNUSED, const void *in UNUSED, size_t in_len UNUSED, int out_fd)
{
    uid_t uids[2] = {getuid(), geteuid()};
    return write(out_fd, uids, sizeof(uids)) == (ssize_t)sizeof(uids) ? 0 : 1;
}

static void parser_runs_as_the_given_user(void **state UNUSED)
{
    struct status st;
    AUTO_BUF struct buf out = {0};
    uid_t wanted = geteuid() == 0 ? 65534 : geteuid();
    assert_int_equal(sandbox_parse(who, NULL, "", 0, 100, LIMIT_MS, 65534, &out, &st), CODE_OK);
    uid_t uids[2];
    assert_int_equal(out.len, sizeof(uids));
    memcpy(uids, out.data, sizeof(uids));
    assert_int_equal(uids[0], wanted);
    assert_int_equal(uids[1], wanted);
}

static int large_echo(void *arg UNUSED, const void *in, size_t in_len, int out_fd)
{
    for (size_t done = 0; done < in_len;) {
        ssize_t n = write(out_fd, (const char *)in + done, in_len - done);
        if (n <= 0)
            return 1;
        done += (size_t)n;
    }
    return 0;
}

static void output_larger_than_a_pipe_comes_whole(void **state UNUSED)
{
    struct status st;
    size_t len = 700 * 1024;
    AUTO_FREE uint8_t *in = malloc(len);
    AUTO_BUF struct buf out = {0};
    assert_non_null(in);
    for (size_t i = 0; i < len; i++)
        in[i] = (uint8_t)(i * 31 + i / 4096);
    buf_init(&out, len);
    assert_int_equal(sandbox_parse(large_echo, NULL, in, len, len, LIMIT_MS, KEEP_USER, &out, &st), CODE_OK);
    assert_int_equal(out.len, len);
    assert_memory_equal(out.data, in, len);
}

/* OpenSSL starts up inside: no configuration file, no random device, no other file. */
static int make_certificate(void *arg UNUSED, const void *in UNUSED, size_t in_len UNUSED, int out_fd)
{
    struct status st;
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der cert = {0};
    const struct cert_request req = {.common_name = "inside", .not_before_ms = 1000, .not_after_ms = 1000000};
    if (key_generate(KEY_EC_P256, &key, &st) != CODE_OK || issuer_self_sign(key, &req, &cert, &st) != CODE_OK)
        return 1;
    return write(out_fd, cert.data, cert.len) == (ssize_t)cert.len ? 0 : 1;
}

static int read_certificate(void *arg UNUSED, const void *in, size_t in_len, int out_fd)
{
    struct status st;
    AUTO_CERT_INFO struct cert_info info = {0};
    if (cert_read((struct bytes){in, in_len}, &info, &st) != CODE_OK)
        return 1;
    return say(out_fd, info.subject);
}

static void certificates_are_read_inside(void **state UNUSED)
{
    struct status st = {0};
    AUTO_BUF struct buf cert = {0};
    AUTO_BUF struct buf subject = {0};
    if (run(make_certificate, NULL, &cert, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    if (sandbox_parse(read_certificate, NULL, cert.data, cert.len, 4096, LIMIT_MS, KEEP_USER, &subject,
                      &st) != CODE_OK)
        fail_msg("%s", st.msg);
    assert_string_equal(buf_text(&subject), "CN=inside");
    cert.data[0] ^= 1;
    assert_int_equal(
        sandbox_parse(read_certificate, NULL, cert.data, cert.len, 4096, LIMIT_MS, KEEP_USER, &subject, &st),
        CODE_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_is_appended),
        cmocka_unit_test(no_output_is_fine),
        cmocka_unit_test(a_parser_ends_with_its_parent),
        cmocka_unit_test(failure_gives_no_output),
        cmocka_unit_test(nothing_outside_can_be_reached),
        cmocka_unit_test(exec_kills_the_parser),
        cmocka_unit_test(crash_is_bad_input_and_not_our_end),
        cmocka_unit_test(output_is_bounded),
        cmocka_unit_test(endless_parser_is_stopped_in_time),
        cmocka_unit_test(parser_that_hides_its_end_is_killed),
        cmocka_unit_test(parser_runs_as_the_given_user),
        cmocka_unit_test(certificates_are_read_inside),
        cmocka_unit_test(output_larger_than_a_pipe_comes_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
