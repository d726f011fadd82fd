/* See app.h. Any thread. A wake that is lost costs its agent one interval, so nothing here is retried. */
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "app.h"
#include "base/log.h"
#include "store.h"

#define WAKE_MAX    1000u /* ids a message */
#define PENDING_MAX 10000u

struct waker {
    pthread_mutex_t mutex;
    char (*pending)[UUID_TEXT_SIZE];
    size_t n;
};

struct waker *waker_new(void)
{
    struct waker *waker = calloc(1, sizeof(*waker));
    if (!waker || !(waker->pending = calloc(PENDING_MAX, sizeof(*waker->pending))))
        abort();
    (void)pthread_mutex_init(&waker->mutex, NULL);
    return waker;
}

void waker_free(struct waker *waker)
{
    if (!waker)
        return;
    (void)pthread_mutex_destroy(&waker->mutex);
    free(waker->pending);
    free(waker);
}

static void publish(struct service *service, const char *const *agent_ids, size_t n)
{
    AUTO_BUF struct buf payload = {0};
    for (size_t i = 0; i < n; i++)
        if (!buf_printf(&payload, "%s%s", i ? "\n" : "", agent_ids[i]))
            return;
    struct status st;
    if (bus_publish(service_bus(service), BUS_SUBJECT_WAKE, payload.data, payload.len, &st) != CODE_OK)
        log_debug("wake not sent", "why", st.msg, NULL);
}

void wake_now(struct tasks *tasks, const char *const *agent_ids, size_t n)
{
    for (size_t done = 0; done < n; done += WAKE_MAX)
        publish(tasks->service, agent_ids + done, n - done < WAKE_MAX ? n - done : WAKE_MAX);
}

void wake_later(struct app *app, const char *agent_id)
{
    struct waker *waker = app->waker;
    (void)pthread_mutex_lock(&waker->mutex);
    if (waker->n < PENDING_MAX)
        memcpy(waker->pending[waker->n++], agent_id, UUID_TEXT_SIZE);
    (void)pthread_mutex_unlock(&waker->mutex);
}

enum code wake_pending(struct worker *worker, struct status *st)
{
    struct app *app = app_of(worker);
    struct waker *waker = app->waker;
    AUTO_ARENA struct arena *arena = arena_new();
    (void)pthread_mutex_lock(&waker->mutex);
    size_t n = waker->n;
    const char **ids = arena_array(arena, n, sizeof(*ids));
    for (size_t i = 0; i < n; i++)
        ids[i] = arena_strdup(arena, waker->pending[i]);
    waker->n = 0;
    (void)pthread_mutex_unlock(&waker->mutex);
    if (n == 0)
        return CODE_OK;
    const char **ready;
    size_t n_ready;
    TRY(store_agents_with_ready(worker->db, arena, ids, n, &ready, &n_ready, st));
    if (n_ready > 0)
        wake_now(&app->tasks, ready, n_ready);
    return CODE_OK;
}
