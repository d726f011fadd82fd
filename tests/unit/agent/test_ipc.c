/* Frames between the agent's processes, and what a taken-over peer may try with them. */
#include "agent/ipc.h"

#include <sys/socket.h>
#include <unistd.h>

#include "agent/ipc.pb-c.h"
#include "cmocka_all.h"

static void put(struct buf *buf, const void *data, size_t len)
{
    assert_true(buf_append(buf, data, len));
}

static void put_frame(struct buf *buf, const char *cancel_id)
{
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    struct status st;
    frame.cancel_task_id = (char *)(uintptr_t)cancel_id;
    assert_int_equal(ipc_encode(&frame.base, IPC_NET_FRAME_MAX, buf, &st), CODE_OK);
}

static enum code decode(struct buf *buf, struct arena *arena, const Clm__Agent__Frame **ret)
{
    ProtobufCMessage *msg = NULL;
    struct status st;
    enum code code = ipc_decode(buf, &clm__agent__frame__descriptor, IPC_NET_FRAME_MAX, arena, &msg, &st);
    *ret = (const Clm__Agent__Frame *)msg;
    return code;
}

static void frames_come_out_whole_whatever_the_pieces(void **state)
{
    (void)state;
    AUTO_BUF struct buf wire = {0};
    put_frame(&wire, "one");
    put_frame(&wire, "two");
    AUTO_BUF struct buf in = {0};
    AUTO_ARENA struct arena *arena = arena_new();
    const Clm__Agent__Frame *frame;
    const char *const expected[] = {"one", "two"};
    unsigned n = 0;
    for (size_t i = 0; i < wire.len; i++) {
        put(&in, wire.data + i, 1);
        assert_int_equal(decode(&in, arena, &frame), CODE_OK);
        if (frame)
            assert_string_equal(frame->cancel_task_id, expected[n++]);
    }
    assert_int_equal(n, 2);
    assert_int_equal(in.len, 0);
}

static void a_length_beyond_the_limit_is_refused_before_its_bytes_arrive(void **state)
{
    (void)state;
    AUTO_BUF struct buf in = {0};
    AUTO_ARENA struct arena *arena = arena_new();
    const Clm__Agent__Frame *frame;
    put(&in, "\xff\xff\xff\xff", 4);
    assert_int_equal(decode(&in, arena, &frame), CODE_INVALID_ARGUMENT);
}

static void bytes_that_are_no_message_are_refused(void **state)
{
    (void)state;
    AUTO_ARENA struct arena *arena = arena_new();
    const Clm__Agent__Frame *frame;
    AUTO_BUF struct buf truncated = {0};
    put(&truncated, "\0\0\0\3\x1a\x7f\x41", 7); /* field 3 says 127 bytes, one is there */
    assert_int_equal(decode(&truncated, arena, &frame), CODE_INVALID_ARGUMENT);
    AUTO_BUF struct buf not_utf8 = {0};
    put(&not_utf8, "\0\0\0\4\x1a\2\xff\xfe", 8);
    assert_int_equal(decode(&not_utf8, arena, &frame), CODE_INVALID_ARGUMENT);
}

static void a_delivery_without_its_task_is_refused(void **state)
{
    (void)state;
    Clm__Delivery delivery = CLM__DELIVERY__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    AUTO_BUF struct buf in = {0};
    AUTO_ARENA struct arena *arena = arena_new();
    const Clm__Agent__Frame *got;
    struct status st;
    delivery.has_attempt = 1;
    delivery.attempt = 1;
    delivery.task_id = (char *)(uintptr_t) "../../etc/passwd";
    frame.delivery = &delivery;
    assert_int_equal(ipc_encode(&frame.base, IPC_NET_FRAME_MAX, &in, &st), CODE_OK);
    assert_int_equal(decode(&in, arena, &got), CODE_INVALID_ARGUMENT);
}

static void an_oversized_message_is_not_sent(void **state)
{
    (void)state;
    AUTO_BUF struct buf out;
    buf_init(&out, 4 * IPC_NET_FRAME_MAX);
    Clm__Agent__Sign sign = CLM__AGENT__SIGN__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    struct status st;
    uint8_t *big = calloc(1, IPC_NET_FRAME_MAX);
    sign.has_request = 1;
    sign.request = (ProtobufCBinaryData){IPC_NET_FRAME_MAX, big};
    frame.sign = &sign;
    assert_int_equal(ipc_encode(&frame.base, IPC_NET_FRAME_MAX, &out, &st), CODE_RESOURCE_EXHAUSTED);
    assert_int_equal(out.len, 0);
    free(big);
}

/* ---- on a loop --------------------------------------------------------------------------------------------
 */

struct seen {
    struct loop *loop;
    unsigned frames, closed;
    enum code why;
    struct ipc *free_in_frame;
};

static void on_frame(const ProtobufCMessage *msg, void *arg)
{
    struct seen *seen = arg;
    (void)msg;
    seen->frames++;
    if (seen->free_in_frame) {
        ipc_free(TAKE(seen->free_in_frame));
        loop_stop(seen->loop);
    }
}

static void on_closed(const struct status *why, void *arg)
{
    struct seen *seen = arg;
    seen->closed++;
    seen->why = why->code;
    loop_stop(seen->loop);
}

static struct ipc *channel(struct seen *seen, int pair[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    seen->loop = loop_new();
    struct ipc_config config = {.fd = pair[0],
                                .desc = &clm__agent__frame__descriptor,
                                .max_frame = IPC_NET_FRAME_MAX,
                                .on_frame = on_frame,
                                .on_closed = on_closed,
                                .arg = seen};
    return ipc_new(seen->loop, &config);
}

static void end_of_file_is_told_after_the_frames_before_it(void **state)
{
    (void)state;
    struct seen seen = {0};
    int pair[2];
    struct ipc *ipc = channel(&seen, pair);
    AUTO_BUF struct buf wire = {0};
    put_frame(&wire, "one");
    put_frame(&wire, "two");
    assert_int_equal(write(pair[1], wire.data, wire.len), wire.len);
    (void)close(pair[1]);
    loop_run(seen.loop);
    assert_int_equal(seen.frames, 2);
    assert_int_equal(seen.closed, 1);
    assert_int_equal(seen.why, CODE_UNAVAILABLE);
    ipc_free(ipc);
    loop_free(seen.loop);
}

static void garbage_ends_the_channel_as_invalid(void **state)
{
    (void)state;
    struct seen seen = {0};
    int pair[2];
    struct ipc *ipc = channel(&seen, pair);
    assert_int_equal(write(pair[1], "GET / HTTP/1.1\r\n\r\n", 18), 18);
    loop_run(seen.loop);
    assert_int_equal(seen.frames, 0);
    assert_int_equal(seen.why, CODE_INVALID_ARGUMENT);
    ipc_free(ipc);
    loop_free(seen.loop);
    (void)close(pair[1]);
}

static void the_channel_may_be_freed_inside_its_callback(void **state)
{
    (void)state;
    struct seen seen = {0};
    int pair[2];
    seen.free_in_frame = channel(&seen, pair);
    AUTO_BUF struct buf wire = {0};
    put_frame(&wire, "one");
    put_frame(&wire, "two");
    assert_int_equal(write(pair[1], wire.data, wire.len), wire.len);
    loop_run(seen.loop);
    assert_int_equal(seen.frames, 1);
    loop_free(seen.loop);
    (void)close(pair[1]);
}

static void a_peer_that_does_not_read_is_given_up(void **state)
{
    (void)state;
    struct seen seen = {0};
    int pair[2];
    struct ipc *ipc = channel(&seen, pair);
    Clm__Agent__Sign sign = CLM__AGENT__SIGN__INIT;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    uint8_t *big = calloc(1, 256 * 1024);
    sign.has_request = 1;
    sign.request = (ProtobufCBinaryData){256 * 1024, big};
    frame.sign = &sign;
    for (int i = 0; i < 16; i++)
        ipc_send(ipc, &frame.base);
    loop_run(seen.loop);
    assert_int_equal(seen.why, CODE_RESOURCE_EXHAUSTED);
    free(big);
    ipc_free(ipc);
    loop_free(seen.loop);
    (void)close(pair[1]);
}

static void blocking_read_times_out_and_then_still_reads(void **state)
{
    (void)state;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    AUTO_BUF struct buf in = {0};
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *msg = NULL;
    struct status st;
    Clm__Agent__Frame frame = CLM__AGENT__FRAME__INIT;
    frame.cancel_task_id = (char *)(uintptr_t) "one";
    assert_int_equal(ipc_read(pair[0], &in, &clm__agent__frame__descriptor, 1024, 0, arena, &msg, &st),
                     CODE_DEADLINE_EXCEEDED);
    assert_int_equal(ipc_write(pair[1], &frame.base, 1024, &st), CODE_OK);
    assert_int_equal(ipc_read(pair[0], &in, &clm__agent__frame__descriptor, 1024, -1, arena, &msg, &st),
                     CODE_OK);
    assert_string_equal(((const Clm__Agent__Frame *)msg)->cancel_task_id, "one");
    (void)close(pair[1]);
    assert_int_equal(ipc_read(pair[0], &in, &clm__agent__frame__descriptor, 1024, -1, arena, &msg, &st),
                     CODE_UNAVAILABLE);
    (void)close(pair[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_out_whole_whatever_the_pieces),
        cmocka_unit_test(a_length_beyond_the_limit_is_refused_before_its_bytes_arrive),
        cmocka_unit_test(bytes_that_are_no_message_are_refused),
        cmocka_unit_test(a_delivery_without_its_task_is_refused),
        cmocka_unit_test(an_oversized_message_is_not_sent),
        cmocka_unit_test(end_of_file_is_told_after_the_frames_before_it),
        cmocka_unit_test(garbage_ends_the_channel_as_invalid),
        cmocka_unit_test(the_channel_may_be_freed_inside_its_callback),
        cmocka_unit_test(a_peer_that_does_not_read_is_given_up),
        cmocka_unit_test(blocking_read_times_out_and_then_still_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
