/* The stream, its durables and their rights on a real nats-server. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/id.h"
#include "support/nats.h"

static struct event_to_publish make(char id[UUID_TEXT_SIZE], const char *subject, const char *text);

static void large_batch_lies_on_the_stream_in_its_order(void **state)
{
    (void)state;
    enum { N = 500 };
    struct bus *registry = nats_bus("registry");
    static char id[N][UUID_TEXT_SIZE];
    static struct event_to_publish events[N];
    struct status st = {0};
    for (size_t i = 0; i < N; i++)
        events[i] = make(id[i], "clm.event.registry.agent.changed", "one of many");
    assert_int_equal(events_publish(registry, events, N, 10000, &st), CODE_OK);
    for (size_t i = 1; i < N; i++)
        assert_int_equal(events[i].stream_seq, events[0].stream_seq + i);
    uint64_t first = events[0].stream_seq;
    assert_int_equal(events_publish(registry, events, N, 10000, &st), CODE_OK); /* the stream has them */
    assert_int_equal(events[0].stream_seq, first);
    bus_free(registry);
}

static void set_up_twice_changes_nothing(void **state)
{
    (void)state;
    nats_setup();
    struct bus *bus = nats_bus("registry");
    int64_t created, again;
    uint64_t seq;
    struct status st = {0};
    assert_int_equal(events_stream_state(bus, &created, &seq, &st), CODE_OK);
    nats_setup();
    assert_int_equal(events_stream_state(bus, &again, &seq, &st), CODE_OK);
    assert_int_equal(created, again);
    bus_free(bus);
}

static void set_up(int64_t max_bytes)
{
    struct status st = {0};
    assert_int_equal(bus_setup(nats_url(), nats_ca_file(), nats_password_file("admin"), max_bytes, 0, &st),
                     CODE_OK);
}

static double fill(struct bus *bus)
{
    struct status st = {0};
    double ratio;
    assert_int_equal(events_stream_fill(bus, &ratio, &st), CODE_OK);
    return ratio;
}

/* Who sets up again after an upgrade does not know how large the stream was made. */
static void full_stream_refuses_until_it_is_made_larger(void **state)
{
    (void)state;
    enum { SMALL = 1024 * 1024, LARGE = 4 * SMALL, TEXT = 64 * 1024 };
    struct bus *bus = nats_bus("registry");
    struct status st = {0};
    char id[UUID_TEXT_SIZE];
    static char text[TEXT + 1];
    memset(text, 'x', TEXT);
    set_up(SMALL);
    double before = fill(bus);
    assert_true(before > 0 && before < 1);
    set_up(0);
    assert_true(fill(bus) >= before && fill(bus) < 1); /* as small as it was */
    enum code code = CODE_OK;
    for (int i = 0; code == CODE_OK && i < SMALL / TEXT + 1; i++) {
        struct event_to_publish event = make(id, "clm.event.registry.agent.changed", text);
        code = events_publish(bus, &event, 1, 10000, &st);
    }
    assert_int_not_equal(code, CODE_OK);
    assert_true(fill(bus) > 0.9);
    set_up(LARGE);
    assert_true(fill(bus) < 0.5);
    struct event_to_publish event = make(id, "clm.event.registry.agent.changed", text);
    assert_int_equal(events_publish(bus, &event, 1, 10000, &st), CODE_OK);
    bus_free(bus);
}

static struct event_to_publish make(char id[UUID_TEXT_SIZE], const char *subject, const char *text)
{
    uuid_v7(id);
    return (struct event_to_publish){.id = id,
                                     .subject = subject,
                                     .body = {(const uint8_t *)text, strlen(text)},
                                     .authority = {(const uint8_t *)"sig", 3}};
}

static void published_event_is_pulled_with_its_id_and_authority(void **state)
{
    (void)state;
    struct bus *registry = nats_bus("registry"), *tasks = nats_bus("tasks");
    char id[2][UUID_TEXT_SIZE];
    struct event_to_publish events[] = {make(id[0], "clm.event.registry.agent.changed", "one"),
                                        make(id[1], "clm.event.registry.agent.changed", "two")};
    struct status st = {0};
    assert_int_equal(events_publish(registry, events, 2, 5000, &st), CODE_OK);
    assert_true(events[0].stream_seq > 0 && events[1].stream_seq == events[0].stream_seq + 1);
    struct event_consumer *consumer = NULL;
    assert_int_equal(event_consumer_new(tasks, "tasks_registry", &consumer, &st), CODE_OK);
    struct event_batch *batch = NULL;
    assert_int_equal(event_consumer_pull(consumer, 10, 5000, &batch, &st), CODE_OK);
    assert_int_equal(event_batch_count(batch), 2);
    for (size_t i = 0; i < 2; i++) {
        const struct event_message *m = event_batch_get(batch, i);
        assert_string_equal(m->id, id[i]);
        assert_string_equal(m->subject, "clm.event.registry.agent.changed");
        assert_int_equal(m->stream_seq, events[i].stream_seq);
        assert_int_equal(m->authority.len, 3);
        assert_memory_equal(m->authority.data, "sig", 3);
    }
    assert_memory_equal(event_batch_get(batch, 1)->body.data, "two", 3);
    event_batch_ack(batch, 0);
    event_batch_free(batch);
    /* The one not acknowledged comes again. */
    assert_int_equal(event_consumer_pull(consumer, 10, 10000, &batch, &st), CODE_OK);
    assert_int_equal(event_batch_count(batch), 1);
    assert_string_equal(event_batch_get(batch, 0)->id, id[1]);
    event_batch_ack(batch, 0);
    event_batch_free(batch);
    assert_int_equal(event_consumer_pull(consumer, 10, 50, &batch, &st), CODE_OK);
    assert_int_equal(event_batch_count(batch), 0);
    event_batch_free(batch);
    event_consumer_free(consumer);
    bus_free(registry);
    bus_free(tasks);
}

static void same_id_again_gets_the_same_sequence(void **state)
{
    (void)state;
    struct bus *bus = nats_bus("registry");
    char id[UUID_TEXT_SIZE];
    struct event_to_publish event = make(id, "clm.event.registry.agent.changed", "x");
    struct status st = {0};
    assert_int_equal(events_publish(bus, &event, 1, 5000, &st), CODE_OK);
    uint64_t first = event.stream_seq;
    assert_int_equal(events_publish(bus, &event, 1, 5000, &st), CODE_OK);
    assert_int_equal(event.stream_seq, first);
    bus_free(bus);
}

static void ack_floor_waits_for_every_reader(void **state)
{
    (void)state;
    struct bus *registry = nats_bus("registry");
    char id[UUID_TEXT_SIZE];
    struct event_to_publish event = make(id, "clm.event.registry.agent.registered", "y");
    struct status st = {0};
    assert_int_equal(events_publish(registry, &event, 1, 5000, &st), CODE_OK);
    static const char *const readers[][2] = {{"tasks", "tasks_registry"},
                                             {"bootstrap", "bootstrap_registry"}};
    for (size_t r = 0; r < ARRAY_LEN(readers); r++) {
        uint64_t floor;
        assert_int_equal(events_ack_floor(registry, &floor, &st), CODE_OK);
        assert_true(floor < event.stream_seq);
        struct bus *bus = nats_bus(readers[r][0]);
        struct event_consumer *consumer = NULL;
        assert_int_equal(event_consumer_new(bus, readers[r][1], &consumer, &st), CODE_OK);
        for (size_t n = 1; n > 0;) {
            struct event_batch *batch = NULL;
            assert_int_equal(event_consumer_pull(consumer, 100, 300, &batch, &st), CODE_OK);
            n = event_batch_count(batch);
            for (size_t i = 0; i < n; i++)
                event_batch_ack(batch, i);
            event_batch_free(batch);
        }
        event_consumer_free(consumer);
        bus_free(bus);
    }
    uint64_t floor;
    assert_int_equal(events_ack_floor(registry, &floor, &st), CODE_OK);
    assert_true(floor >= event.stream_seq);
    bus_free(registry);
}

static void service_cannot_publish_anothers_events(void **state)
{
    (void)state;
    struct bus *tasks = nats_bus("tasks");
    char id[UUID_TEXT_SIZE];
    struct event_to_publish event = make(id, "clm.event.registry.agent.changed", "forged");
    struct status st = {0};
    uint64_t before, after;
    int64_t created;
    assert_int_equal(events_stream_state(tasks, &created, &before, &st), CODE_OK);
    assert_int_not_equal(events_publish(tasks, &event, 1, 300, &st), CODE_OK);
    assert_int_equal(events_stream_state(tasks, &created, &after, &st), CODE_OK);
    assert_int_equal(before, after);
    bus_free(tasks);
}

static void service_cannot_read_anothers_durable(void **state)
{
    (void)state;
    struct bus *registry = nats_bus("registry"), *gateway = nats_bus("gateway");
    char id[UUID_TEXT_SIZE];
    struct event_to_publish event = make(id, "clm.event.registry.agent.changed", "secret");
    struct status st = {0};
    assert_int_equal(events_publish(registry, &event, 1, 5000, &st), CODE_OK);
    struct event_consumer *consumer = NULL;
    if (event_consumer_new(gateway, "tasks_registry", &consumer, &st) == CODE_OK) {
        struct event_batch *batch = NULL;
        if (event_consumer_pull(consumer, 10, 300, &batch, &st) == CODE_OK) {
            assert_int_equal(event_batch_count(batch), 0);
            event_batch_free(batch);
        }
        event_consumer_free(consumer);
    }
    bus_free(gateway);
    bus_free(registry);
}

#define FED_MAX 1024
struct fed {
    pthread_mutex_t mutex;
    char ids[FED_MAX][UUID_TEXT_SIZE];
    uint64_t seqs[FED_MAX];
    size_t n;
};

static void on_fed(const struct event_message *event, void *arg)
{
    struct fed *fed = arg;
    (void)pthread_mutex_lock(&fed->mutex);
    if (fed->n < FED_MAX) {
        (void)snprintf(fed->ids[fed->n], UUID_TEXT_SIZE, "%s", event->id);
        fed->seqs[fed->n++] = event->stream_seq;
    }
    (void)pthread_mutex_unlock(&fed->mutex);
}

static size_t fed_count(struct fed *fed)
{
    (void)pthread_mutex_lock(&fed->mutex);
    size_t n = fed->n;
    (void)pthread_mutex_unlock(&fed->mutex);
    return n;
}

static void every_listener_of_the_feed_gets_each_event_with_its_place(void **state)
{
    (void)state;
    nats_setup();
    struct bus *registry = nats_bus("registry"), *one = nats_bus("gateway"), *two = nats_bus("gateway");
    struct fed fed[2] = {{.mutex = PTHREAD_MUTEX_INITIALIZER}, {.mutex = PTHREAD_MUTEX_INITIALIZER}};
    struct bus_sub *subs[2];
    struct status st = {0};
    assert_int_equal(events_feed(one, on_fed, &fed[0], &subs[0], &st), CODE_OK);
    assert_int_equal(events_feed(two, on_fed, &fed[1], &subs[1], &st), CODE_OK);
    for (int64_t deadline = clock_mono_ms() + 20000; fed_count(&fed[0]) == 0 || fed_count(&fed[1]) == 0;) {
        /* until the server knows both subscriptions */
        char probe_id[UUID_TEXT_SIZE];
        struct event_to_publish probe = make(probe_id, "clm.event.registry.agent.changed", "probe");
        assert_int_equal(events_publish(registry, &probe, 1, 5000, &st), CODE_OK);
        assert_true(clock_mono_ms() < deadline);
    }
    char id[2][UUID_TEXT_SIZE];
    struct event_to_publish events[] = {make(id[0], "clm.event.registry.agent.changed", "one"),
                                        make(id[1], "clm.event.registry.agent.changed", "two")};
    assert_int_equal(events_publish(registry, events, 2, 5000, &st), CODE_OK);
    for (size_t i = 0; i < 2; i++) {
        int64_t deadline = clock_mono_ms() + 10000;
        while (fed_count(&fed[i]) == 0 || strcmp(fed[i].ids[fed_count(&fed[i]) - 1], id[1]) != 0)
            assert_true(clock_mono_ms() < deadline);
        size_t n = fed_count(&fed[i]);
        assert_string_equal(fed[i].ids[n - 2], id[0]);
        assert_int_equal(fed[i].seqs[n - 2], events[0].stream_seq);
        assert_int_equal(fed[i].seqs[n - 1], events[1].stream_seq);
    }
    bus_unsubscribe(subs[0]);
    bus_unsubscribe(subs[1]);

    AUTO_ARENA struct arena *arena = arena_new();
    struct event_message message;
    assert_int_equal(events_read(one, EVENTS_ALL, events[0].stream_seq, arena, &message, &st), CODE_OK);
    assert_string_equal(message.id, id[0]);
    assert_string_equal(message.subject, "clm.event.registry.agent.changed");
    assert_int_equal(message.stream_seq, events[0].stream_seq);
    assert_memory_equal(message.body.data, "one", 3);
    assert_int_equal(events_read(one, EVENTS_ALL, 0, arena, &message, &st), CODE_OK);
    assert_int_equal(message.stream_seq, 1);
    assert_int_equal(events_read(one, EVENTS_ALL, events[1].stream_seq + 1, arena, &message, &st),
                     CODE_NOT_FOUND);
    /* Of some subjects alone, and who may not read gets nothing. */
    struct event_to_publish other[] = {make(id[0], "clm.event.registry.alert.raised", "three"),
                                       make(id[1], "clm.event.registry.agent.deleted", "four")};
    assert_int_equal(events_publish(registry, other, 2, 5000, &st), CODE_OK);
    assert_int_equal(
        events_read(registry, "clm.event.registry.agent.*", other[0].stream_seq, arena, &message, &st),
        CODE_OK);
    assert_int_equal(message.stream_seq, other[1].stream_seq);
    assert_string_equal(message.id, id[1]);
    struct bus *tasks = nats_bus("tasks");
    assert_int_not_equal(events_read(tasks, EVENTS_ALL, 1, arena, &message, &st), CODE_OK);
    bus_free(tasks);
    bus_free(one);
    bus_free(two);
    bus_free(registry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_up_twice_changes_nothing),
        cmocka_unit_test(published_event_is_pulled_with_its_id_and_authority),
        cmocka_unit_test(same_id_again_gets_the_same_sequence),
        cmocka_unit_test(ack_floor_waits_for_every_reader),
        cmocka_unit_test(service_cannot_publish_anothers_events),
        cmocka_unit_test(service_cannot_read_anothers_durable),
        cmocka_unit_test(every_listener_of_the_feed_gets_each_event_with_its_place),
        cmocka_unit_test(large_batch_lies_on_the_stream_in_its_order),
        cmocka_unit_test(full_stream_refuses_until_it_is_made_larger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
