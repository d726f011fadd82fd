/*
 * The outbox's way to the stream. Every replica has this thread; the one that holds the advisory lock works.
 * It reads what has no stream sequence yet, in the order of ids, without a cursor: a transaction that commits
 * late is found late, but found. The thread's session also watches the database for the whole process: a lost
 * server is noticed at its socket.
 *
 * JetStream acknowledges before it syncs. After each reconnect, of the bus or of the database, the stream's
 * creation time and last sequence are held against our record, and what the stream cannot have any more is
 * published again; ids make that harmless.
 */
#include <inttypes.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/log.h"
#include "service/internal.h"

#define BATCH           500
#define IDLE_MS         30000
#define STANDBY_MS      2000
#define PUBLISH_WAIT_MS 20000 /* a stream's leader election takes 5 to 8 s */
#define CLEAN_EVERY_MS  (10 * 60 * 1000)

struct relay {
    struct service *service;
    pthread_t thread;
    bool started;
    int wake_fd;
    struct db *db;
    unsigned db_epoch;
    bool listening, locked;
    bool checked; /* in this session the stream was held against our record, over this connection: */
    unsigned checked_bus_epoch;
    int64_t cleaned_mono_ms;
    enum code said; /* the last error told in the log */
};

/* Events that grant or take rights carry our signature. */
static const char *const authority_prefixes[] = {
    "clm.event.bootstrap.crl.",      "clm.event.registry.agent.",  "clm.event.registry.platform.",
    "clm.event.bootstrap.identity.", "clm.event.bootstrap.token.",
};

static bool is_authority(const char *subject)
{
    for (size_t i = 0; i < ARRAY_LEN(authority_prefixes); i++)
        if (strncmp(subject, authority_prefixes[i], strlen(authority_prefixes[i])) == 0)
            return true;
    return false;
}

/* ---- what the stream has lost
 * ---------------------------------------------------------------------------------- */

static enum code check_stream(struct relay *r, struct status *st)
{
    /* A neighbour may have filled the numbers of lost messages before we looked, so the last minutes go out
     * again in any case; within the dedupe window the stream drops what it has. */
    static const char recall[] =
        "UPDATE outbox SET stream_seq = NULL WHERE stream_seq IS NOT NULL AND "
        "($1::boolean OR stream_seq > $2 OR created_at > now() - interval '5 minutes')";
    static const char record[] =
        "INSERT INTO relay (stream_created_ms) VALUES ($1) "
        "ON CONFLICT (singleton) DO UPDATE SET stream_created_ms = EXCLUDED.stream_created_ms";
    int64_t created_ms;
    uint64_t last_seq;
    TRY(events_stream_state(r->service->bus, &created_ms, &last_seq, st));
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(r->db, "SELECT stream_created_ms FROM relay", NULL, &rows, st));
    bool anew = db_rows_count(rows) == 0 || db_int(rows, 0, 0) != created_ms;
    CLEANUP(db_scope_end) struct db *tx = r->db;
    TRY(db_begin(tx, st));
    struct db_args *args = db_args_new(arena);
    db_arg_bool(args, anew);
    db_arg_int(args, (int64_t)last_seq);
    AUTO_ROWS struct db_rows *recalled = NULL;
    TRY(db_query(tx, recall, args, &recalled, st));
    args = db_args_new(arena);
    db_arg_int(args, created_ms);
    TRY(db_query(tx, record, args, NULL, st));
    const struct stream_place *place = r->service->descriptor->place;
    if (place)
        TRY(place->check(tx, !anew, st));
    TRY(db_commit(tx, st));
    if (db_rows_affected(recalled) > 0)
        log_debug("events go out again after a reconnect", "n", LOG_NUM(db_rows_affected(recalled)), NULL);
    return CODE_OK;
}

/* ---- publishing
 * ------------------------------------------------------------------------------------------------- */

static enum code store_sequences(struct relay *r, const struct event_to_publish *events, size_t n,
                                 struct arena *arena, struct status *st)
{
    static const char sql[] =
        "UPDATE outbox SET stream_seq = e.seq "
        "FROM unnest($1::text[], $2::bigint[]) AS e(id, seq) WHERE outbox.id = e.id::uuid";
    const char **ids = arena_array(arena, n + 1, sizeof(*ids));
    int64_t *seqs = arena_array(arena, n + 1, sizeof(*seqs));
    size_t sent = 0;
    int64_t last = 0;
    for (size_t i = 0; i < n; i++) {
        if (events[i].stream_seq == 0)
            continue;
        ids[sent] = events[i].id;
        seqs[sent] = (int64_t)events[i].stream_seq;
        last = seqs[sent] > last ? seqs[sent] : last;
        sent++;
    }
    if (sent == 0)
        return CODE_OK;
    struct db_args *args = db_args_new(arena);
    db_arg_text_array(args, ids, sent);
    db_arg_int_array(args, seqs, sent);
    TRY(db_query(r->db, sql, args, NULL, st));
    const struct stream_place *place = r->service->descriptor->place;
    if (place)
        TRY(place->advance(r->db, last, st));
    metric_add(frame_metrics.relayed, NULL, NULL, (double)sent);
    return CODE_OK;
}

/* How long the first in the line has waited; its id says when it was made. NULL: none waits. */
static void measure(const char *first_id)
{
    int64_t lag_ms = first_id ? clock_wall_ms() - uuid_v7_ms(first_id) : 0;
    metric_set(frame_metrics.outbox_lag, NULL, NULL, lag_ms > 0 ? (double)lag_ms / 1000 : 0);
}

static enum code look_what_waits(struct relay *r, struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(r->db, "SELECT id FROM outbox WHERE stream_seq IS NULL ORDER BY id LIMIT 1", NULL, &rows,
                 st));
    measure(db_rows_count(rows) > 0 ? db_text(rows, 0, 0) : NULL);
    return CODE_OK;
}

static enum code publish_batch(struct relay *r, size_t *ret_n, struct status *st)
{
    static const char sql[] =
        "SELECT id, subject, body FROM outbox WHERE stream_seq IS NULL ORDER BY id LIMIT $1";
    AUTO_ARENA struct arena *arena = arena_new();
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, BATCH);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(r->db, sql, args, &rows, st));
    size_t n = db_rows_count(rows);
    *ret_n = n;
    metric_set(frame_metrics.outbox, NULL, NULL, (double)n);
    measure(n > 0 ? db_text(rows, 0, 0) : NULL);
    if (n == 0)
        return CODE_OK;
    struct event_to_publish *events = arena_array(arena, n, sizeof(*events));
    for (size_t i = 0; i < n; i++) {
        events[i].id = db_text(rows, i, 0);
        events[i].subject = db_text(rows, i, 1);
        events[i].body.data = db_bytes(rows, i, 2, &events[i].body.len);
        if (is_authority(events[i].subject))
            TRY(authority_make(r->service->identity, events[i].subject, events[i].id, 0, events[i].body,
                               arena, &events[i].authority, st));
    }
    enum code published = events_publish(r->service->bus, events, n, PUBLISH_WAIT_MS, st);
    struct status stored_st = {0};
    enum code stored = store_sequences(r, events, n, arena, &stored_st);
    if (published != CODE_OK)
        return published;
    return stored == CODE_OK ? CODE_OK : status_set(st, stored, "%s", stored_st.msg);
}

/* The stream drops nothing by itself and refuses what does not fit: that is told before. */
static enum code measure_stream(struct relay *r, struct status *st)
{
    double fill;
    TRY(events_stream_fill(r->service->bus, &fill, st));
    metric_set(frame_metrics.stream_fill, NULL, NULL, fill);
    return CODE_OK;
}

/* Rows that every reader has acknowledged and that are old enough for a restored stream to miss nothing. */
static enum code clean(struct relay *r, struct status *st)
{
    static const char outbox[] =
        "DELETE FROM outbox WHERE stream_seq <= $1 AND created_at < now() - interval '24 hours'";
    static const char inbox[] = "DELETE FROM inbox WHERE applied_at < now() - interval '7 days'";
    if (r->cleaned_mono_ms != 0 && clock_mono_ms() - r->cleaned_mono_ms < CLEAN_EVERY_MS)
        return CODE_OK;
    uint64_t floor = 0;
    TRY(measure_stream(r, st));
    TRY(events_ack_floor(r->service->bus, &floor, st));
    AUTO_ARENA struct arena *arena = arena_new();
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, (int64_t)floor);
    TRY(db_query(r->db, outbox, args, NULL, st));
    TRY(db_query(r->db, inbox, NULL, NULL, st));
    r->cleaned_mono_ms = clock_mono_ms();
    return CODE_OK;
}

/* ---- the thread
 * ------------------------------------------------------------------------------------------------- */

static void clear_wake(struct relay *r)
{
    uint64_t n;
    while (read(r->wake_fd, &n, sizeof(n)) > 0)
        ;
}

static enum code wait_for_work(struct relay *r, int64_t ms, struct status *st)
{
    bool woken;
    enum code code = db_wait_notify(r->db, ms, r->wake_fd, &woken, st);
    clear_wake(r);
    return code;
}

static enum code session(struct relay *r, struct status *st)
{
    unsigned epoch = r->db_epoch;
    struct db *before = r->db;
    TRY(service_db_session(r->service, &r->db, &r->db_epoch, st));
    if (r->db != before || r->db_epoch != epoch)
        r->listening = r->locked = r->checked = false;
    if (!r->listening) {
        char channel[96];
        (void)snprintf(channel, sizeof(channel), "clm_outbox_%s", r->service->descriptor->name);
        TRY(db_listen(r->db, channel, st));
        r->listening = true;
    }
    if (!r->locked)
        TRY(db_try_lock(r->db, service_lock_key(r->service, "relay"), &r->locked, st));
    return CODE_OK;
}

/* One round: everything that is there, then wait. */
static enum code round_of_relay(struct relay *r, struct status *st)
{
    TRY(session(r, st));
    if (!r->locked) {
        measure(NULL);
        metric_set(frame_metrics.stream_fill, NULL, NULL, 0);
        return wait_for_work(r, STANDBY_MS, st);
    }
    if (!bus_ready(r->service->bus)) {
        TRY(look_what_waits(r, st));
        return wait_for_work(r, STANDBY_MS, st); /* bus_on_ready wakes us */
    }
    (void)pthread_mutex_lock(&r->service->mutex);
    unsigned bus_epoch = r->service->bus_epoch;
    (void)pthread_mutex_unlock(&r->service->mutex);
    if (!r->checked || bus_epoch != r->checked_bus_epoch) {
        TRY(check_stream(r, st));
        r->checked = true;
        r->checked_bus_epoch = bus_epoch;
    }
    size_t n;
    do
        TRY(publish_batch(r, &n, st));
    while (n == BATCH && !service_draining(r->service));
    if (n < BATCH)
        measure(NULL);
    TRY(clean(r, st));
    return wait_for_work(r, IDLE_MS, st);
}

static void *relay_main(void *arg)
{
    struct relay *r = arg;
    while (!service_draining(r->service)) {
        struct status st = {0};
        enum code code = round_of_relay(r, &st);
        if (code == CODE_OK) {
            r->said = CODE_OK;
            continue;
        }
        if (r->db)
            db_rollback(r->db);
        struct status again = {0};
        if (r->db && db_query(r->db, "SELECT 1", NULL, NULL, &again) == CODE_UNAVAILABLE) {
            service_db_lost(r->service, r->db_epoch);
        } else if (code != r->said) {
            r->said = code;
            log_warn("events wait in the outbox", "why", st.msg, NULL);
        }
        (void)service_wait(r->service, RETRY_MS);
    }
    db_close(r->db);
    return NULL;
}

enum code relay_start(struct service *service, struct relay **ret, struct status *st)
{
    struct relay *r = calloc(1, sizeof(*r));
    if (!r)
        abort();
    r->service = service;
    r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->wake_fd < 0 || pthread_create(&r->thread, NULL, relay_main, r) != 0) {
        free(r);
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "the outbox relay could not be started");
    }
    *ret = r;
    return CODE_OK;
}

void relay_wake(struct relay *r)
{
    if (r && eventfd_write(r->wake_fd, 1) != 0)
        log_debug("relay not woken", NULL); /* the counter is full: it is awake */
}

void relay_stop(struct relay *r)
{
    if (!r)
        return;
    relay_wake(r);
    (void)pthread_join(r->thread, NULL);
    (void)close(r->wake_fd);
    free(r);
}
