/* feed.c with fakes for bus and service: a stream that the test writes, and a feed that it loses events of.
 */
#include "cmocka_all.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/feed.h"
#include "proto/event.pb-c.h"
#include "service/service.h"

#define AGENT "018f0000-0000-7000-8000-000000000001"

/* ---- fakes ---- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t first_seq, last_seq; /* what the stream holds: first_seq … last_seq, and not `hole` */
static uint64_t hole;
static int64_t created_ms;
static bool stream_away;
static void (*send)(const struct event_message *event, void *arg);
static void *feed_arg;
static atomic_uint n_more;

struct bus *service_bus(const struct service *service UNUSED)
{
    return NULL;
}

enum code events_feed(struct bus *bus UNUSED, void (*on_event)(const struct event_message *, void *),
                      void *arg, struct bus_sub **ret UNUSED, struct status *st UNUSED)
{
    send = on_event;
    feed_arg = arg;
    return CODE_OK;
}

void bus_unsubscribe(struct bus_sub *sub UNUSED)
{
}

enum code events_stream_state(struct bus *bus UNUSED, int64_t *ret_created_ms, uint64_t *ret_last,
                              struct status *st)
{
    pthread_mutex_lock(&mutex);
    *ret_created_ms = created_ms;
    *ret_last = last_seq;
    bool away = stream_away;
    pthread_mutex_unlock(&mutex);
    return away ? status_set(st, CODE_UNAVAILABLE, "away") : CODE_OK;
}

static void write_message(uint64_t seq, struct arena *arena, struct event_message *ret)
{
    Clm__AgentChanged change = CLM__AGENT_CHANGED__INIT;
    Clm__Event event = CLM__EVENT__INIT;
    change.hostname = (char *)"h";
    event.id = (char *)AGENT;
    event.subject = (char *)"clm.event.registry.agent.changed";
    event.entity_id = (char *)AGENT;
    event.has_entity_version = true;
    event.entity_version = seq;
    event.agent = &change;
    *ret = (struct event_message){.id = event.id, .subject = event.subject, .stream_seq = seq};
    wire_pack(&event.base, arena, &ret->body.data, &ret->body.len);
}

enum code events_read(struct bus *bus UNUSED, const char *subject UNUSED, uint64_t seq, struct arena *arena,
                      struct event_message *ret, struct status *st)
{
    pthread_mutex_lock(&mutex);
    uint64_t first = first_seq, last = last_seq, missing = hole;
    bool away = stream_away;
    pthread_mutex_unlock(&mutex);
    if (away)
        return status_set(st, CODE_UNAVAILABLE, "away");
    if (seq < first)
        seq = first;
    if (seq == missing)
        seq++;
    if (seq > last)
        return status_set(st, CODE_NOT_FOUND, "none yet");
    write_message(seq, arena, ret);
    return CODE_OK;
}

/* ---- the feed under test ---- */

static struct feed *feed;

static void on_more(void *arg UNUSED)
{
    atomic_fetch_add(&n_more, 1);
}

/* The stream has one more; the feed hears of it unless it is lost. */
static void happen(bool heard)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct event_message message;
    pthread_mutex_lock(&mutex);
    uint64_t seq = ++last_seq;
    pthread_mutex_unlock(&mutex);
    write_message(seq, arena, &message);
    if (heard)
        send(&message, feed_arg);
}

static void start(uint64_t first, uint64_t last)
{
    first_seq = first;
    last_seq = last;
    hole = 0;
    created_ms = 1000;
    stream_away = false;
    feed = feed_new(NULL, on_more, NULL);
    struct status st = {0};
    assert_int_equal(feed_start(feed, &st), CODE_OK);
    uint64_t tail;
    for (int64_t deadline = clock_mono_ms() + 10000; feed_tail(feed, &tail, &st) != CODE_OK;)
        assert_true(clock_mono_ms() < deadline);
    assert_int_equal(tail, last);
}

static int stop(void **state UNUSED)
{
    feed_stop(feed);
    feed_free(feed);
    feed = NULL;
    return 0;
}

static enum feed_place read_from(uint64_t from, uint64_t *ret_first, size_t *ret_n)
{
    struct frame *frames[FEED_BATCH];
    enum feed_place place = feed_read(feed, from, FEED_BATCH, frames, ret_n);
    *ret_first = *ret_n ? frames[0]->seq : 0;
    for (size_t i = 0; i < *ret_n; i++) {
        assert_int_equal(frames[i]->seq, *ret_first + i);
        frame_unref(frames[i]);
    }
    return place;
}

struct waited {
    struct feed_job job;
    atomic_bool done;
};

static void on_done(struct feed_job *job)
{
    atomic_store(&((struct waited *)job)->done, true);
}

static void history(uint64_t from, struct waited *ret)
{
    *ret = (struct waited){.job = {.from = from, .on_done = on_done}};
    feed_history(feed, &ret->job);
    for (int64_t deadline = clock_mono_ms() + 10000; !atomic_load(&ret->done);)
        assert_true(clock_mono_ms() < deadline);
}

static void drop(struct waited *waited)
{
    for (size_t i = 0; i < waited->job.n; i++)
        frame_unref(waited->job.frames[i]);
}

static void event_becomes_one_text_for_all(void **state UNUSED)
{
    start(1, 7);
    happen(true);
    struct frame *frames[FEED_BATCH];
    size_t n;
    assert_int_equal(feed_read(feed, 8, FEED_BATCH, frames, &n), FEED_HERE);
    assert_int_equal(n, 1);
    assert_string_equal(frames[0]->type, "agent.changed");
    assert_string_equal(frames[0]->agent_id, AGENT);
    assert_true(frames[0]->of_agent);
    assert_int_equal(strncmp(frames[0]->text, "id: 8\ndata: {\"sequence\":8,", 26), 0);
    assert_null(strchr(frames[0]->text + 6, '\r'));
    assert_string_equal(frames[0]->text + frames[0]->len - 3, "}\n\n");
    frame_unref(frames[0]);
}

static void what_was_before_is_history_and_what_is_not_yet_is_later(void **state UNUSED)
{
    start(1, 100);
    uint64_t first;
    size_t n;
    assert_int_equal(read_from(101, &first, &n), FEED_LATER);
    assert_int_equal(read_from(100, &first, &n), FEED_OLDER);
    assert_int_equal(read_from(102, &first, &n), FEED_LOST);
    struct waited got;
    history(30, &got);
    assert_int_equal(got.job.code, CODE_OK);
    assert_int_equal(got.job.n, FEED_BATCH);
    assert_int_equal(got.job.frames[0]->seq, 30);
    assert_int_equal(got.job.frames[FEED_BATCH - 1]->seq, 30 + FEED_BATCH - 1);
    drop(&got);
    history(95, &got);
    assert_int_equal(got.job.n, 6); /* up to where the ring begins */
    drop(&got);
}

static void lost_event_is_read_from_the_stream(void **state UNUSED)
{
    start(1, 10);
    happen(true);  /* 11 */
    happen(false); /* 12 */
    happen(true);  /* 13 */
    uint64_t first;
    size_t n;
    assert_int_equal(read_from(12, &first, &n), FEED_OLDER);
    struct waited got;
    history(12, &got);
    assert_int_equal(got.job.n, 1);
    assert_int_equal(got.job.frames[0]->seq, 12);
    drop(&got);
    assert_int_equal(read_from(13, &first, &n), FEED_HERE);
}

static void last_event_that_was_lost_comes_by_looking(void **state UNUSED)
{
    start(1, 10);
    happen(false);
    uint64_t first = 0;
    size_t n = 0;
    for (int64_t deadline = clock_mono_ms() + 20000; read_from(11, &first, &n) != FEED_HERE;)
        assert_true(clock_mono_ms() < deadline);
    assert_int_equal(first, 11);
}

static void what_comes_twice_is_shown_once(void **state UNUSED)
{
    start(1, 10);
    happen(true);
    pthread_mutex_lock(&mutex);
    last_seq--;
    pthread_mutex_unlock(&mutex);
    happen(true);
    happen(true);
    uint64_t first;
    size_t n;
    assert_int_equal(read_from(11, &first, &n), FEED_HERE);
    assert_int_equal(n, 2);
}

static void ring_is_bounded_and_older_is_history(void **state UNUSED)
{
    start(1, 0);
    for (size_t i = 0; i < FEED_EVENTS_MAX + 100; i++)
        happen(true);
    uint64_t first;
    size_t n;
    assert_int_equal(read_from(1, &first, &n), FEED_OLDER);
    assert_int_equal(read_from(101, &first, &n), FEED_HERE);
    assert_int_equal(first, 101);
    assert_int_equal(n, FEED_BATCH);
    assert_int_equal(read_from(FEED_EVENTS_MAX + 100, &first, &n), FEED_HERE);
    assert_int_equal(n, 1);
}

static void hole_in_the_stream_is_passed(void **state UNUSED)
{
    start(5, 20);
    hole = 8;
    struct waited got;
    history(7, &got);
    assert_int_equal(got.job.frames[0]->seq, 7);
    assert_int_equal(got.job.frames[1]->seq, 9);
    drop(&got);
    history(1, &got); /* cut off at the beginning */
    assert_int_equal(got.job.frames[0]->seq, 5);
    drop(&got);
}

static void stream_made_anew_begins_anew(void **state UNUSED)
{
    start(1, 5000);
    pthread_mutex_lock(&mutex);
    created_ms = 2000;
    last_seq = 3;
    pthread_mutex_unlock(&mutex);
    uint64_t first;
    size_t n;
    for (int64_t deadline = clock_mono_ms() + 20000; read_from(5001, &first, &n) != FEED_LOST;)
        assert_true(clock_mono_ms() < deadline);
    happen(true);
    assert_int_equal(read_from(4, &first, &n), FEED_HERE);
}

static void stream_that_is_away_is_said(void **state UNUSED)
{
    start(1, 10);
    pthread_mutex_lock(&mutex);
    stream_away = true;
    pthread_mutex_unlock(&mutex);
    struct waited got;
    history(3, &got);
    assert_int_equal(got.job.code, CODE_UNAVAILABLE);
    assert_int_equal(got.job.n, 0);
    feed_stop(feed);
    history(3, &got);
    assert_int_equal(got.job.code, CODE_UNAVAILABLE);
}

static void event_that_cannot_be_read_takes_its_place_and_is_nobodys(void **state UNUSED)
{
    start(1, 10);
    pthread_mutex_lock(&mutex);
    last_seq++;
    pthread_mutex_unlock(&mutex);
    const struct event_message bad = {.id = AGENT,
                                      .subject = "clm.event.registry.agent.changed",
                                      .body = {(const uint8_t *)"\xff\xff", 2},
                                      .stream_seq = 11};
    send(&bad, feed_arg);
    happen(true);
    struct frame *frames[FEED_BATCH];
    size_t n;
    assert_int_equal(feed_read(feed, 11, FEED_BATCH, frames, &n), FEED_HERE);
    assert_int_equal(n, 2);
    assert_int_equal(frames[0]->len, 0);
    assert_string_equal(frames[0]->type, "");
    frame_unref(frames[0]);
    frame_unref(frames[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(event_becomes_one_text_for_all, stop),
        cmocka_unit_test_teardown(what_was_before_is_history_and_what_is_not_yet_is_later, stop),
        cmocka_unit_test_teardown(lost_event_is_read_from_the_stream, stop),
        cmocka_unit_test_teardown(last_event_that_was_lost_comes_by_looking, stop),
        cmocka_unit_test_teardown(what_comes_twice_is_shown_once, stop),
        cmocka_unit_test_teardown(ring_is_bounded_and_older_is_history, stop),
        cmocka_unit_test_teardown(hole_in_the_stream_is_passed, stop),
        cmocka_unit_test_teardown(stream_made_anew_begins_anew, stop),
        cmocka_unit_test_teardown(stream_that_is_away_is_said, stop),
        cmocka_unit_test_teardown(event_that_cannot_be_read_takes_its_place_and_is_nobodys, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
