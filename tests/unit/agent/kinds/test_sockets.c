/* Listening sockets and their processes, from the real /proc and from what a hostile one could hold. */
#include "harness.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "kinds/sockets.h"

static void own_socket_is_found_with_this_process(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    char port[8];
    struct listener *list;
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    (void)snprintf(port, sizeof(port), "%u", ntohs(address.sin_port));
    size_t n = sockets_listening("/proc", arena, &list);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i].port, port) != 0)
            continue;
        assert_string_equal(list[i].host, "127.0.0.1");
        assert_int_equal(list[i].pid, getpid());
        assert_non_null(strstr("test_agent.kinds.sockets", list[i].process)); /* 15 bytes of it */
        return;
    }
    fail_msg("the socket is not in the list of %zu", n);
}

static void tables_that_make_no_sense_are_passed_over(void **state)
{
    struct host *host = *state;
    AUTO_ARENA struct arena *arena = arena_new();
    struct listener *list;
    assert_int_equal(mkdir(host_path(host, "net"), 0700), 0);
    assert_int_equal(sockets_listening(host->dir, arena, &list), 0);
    write_text(
        host_path(host, "net/tcp"),
        "  sl  local_address rem_address   st\n"
        "   0: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1\n"
        "   1: 00000000:01BC 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 78 1\n"
        "   2: ZZ000000:01BC 00000000:0000 0A\n"
        "   3: 00000000 00000000:0000 0A 0 0 0 0 0 79\n"
        "   4: 0100007F:0000 00000000:0000 0A 0 0 0 0 0 80\n"
        "garbage\n\n   5:",
        0600);
    write_text(host_path(host, "net/tcp6"),
               "   0: 00000000000000000000000000000000:01BB 0:0 0A 00 00 00 0 0 81 1\n"
               "   1: 0000000000000000FFFF00000100007F:1F90 0:0 0A 00 00 00 0 0 82 1\n",
               0600);
    /* A process that has the socket, one whose link is no link, and names that are no numbers. */
    assert_int_equal(mkdir(host_path(host, "41"), 0700), 0);
    assert_int_equal(mkdir(host_path(host, "41/fd"), 0700), 0);
    write_text(host_path(host, "41/comm"), "ngi\x1bnx\n", 0600);
    assert_int_equal(symlink("socket:[77]", host_path(host, "41/fd/3")), 0);
    assert_int_equal(symlink("socket:[77", host_path(host, "41/fd/4")), 0);
    write_text(host_path(host, "41/fd/5"), "", 0600);
    assert_int_equal(mkdir(host_path(host, "40"), 0700), 0);
    assert_int_equal(mkdir(host_path(host, "self"), 0700), 0);
    size_t n = sockets_listening(host->dir, arena, &list);
    assert_int_equal(n, 2);
    assert_string_equal(list[0].host, "127.0.0.1");
    assert_string_equal(list[0].port, "443");
    assert_int_equal(list[0].pid, 41);
    assert_string_equal(list[0].process, "ngi?nx");
    assert_string_equal(list[1].host, "::ffff:127.0.0.1");
    assert_null(list[1].process);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, host_setup, host_teardown)
    const struct CMUnitTest tests[] = {
        TEST(own_socket_is_found_with_this_process),
        TEST(tables_that_make_no_sense_are_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
