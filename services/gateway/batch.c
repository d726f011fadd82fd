/* Idle; waiting for the pause or for the end of a retry delay, by the timer; or sending. */
#include "gateway/batch.h"

#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"

enum batch_state { BATCH_IDLE, BATCH_PAUSING, BATCH_RETRYING, BATCH_SENDING };

struct batch {
    struct loop_timer *timer;
    int64_t pause_ms;
    int64_t last_send_ms;
    enum batch_state state;
    bool urgent; /* came while sending */
    void (*on_send)(void *arg);
    void *arg;
};

static void send_now(struct batch *batch)
{
    loop_timer_cancel(batch->timer);
    batch->state = BATCH_SENDING;
    batch->urgent = false;
    batch->last_send_ms = clock_mono_ms();
    batch->on_send(batch->arg);
}

static void on_timer(void *arg)
{
    send_now(arg);
}

struct batch *batch_new(struct loop *loop, int64_t pause_ms, void (*on_send)(void *arg), void *arg)
{
    struct batch *batch = calloc(1, sizeof *batch);
    if (!batch)
        abort();
    batch->timer = loop_timer_new(loop, on_timer, batch);
    batch->pause_ms = pause_ms;
    batch->last_send_ms = INT64_MIN / 2;
    batch->on_send = on_send;
    batch->arg = arg;
    return batch;
}

void batch_free(struct batch *batch)
{
    if (!batch)
        return;
    loop_timer_free(batch->timer);
    free(batch);
}

void batch_wake(struct batch *batch, bool urgent)
{
    if (batch->state == BATCH_SENDING) {
        batch->urgent |= urgent;
        return;
    }
    if (batch->state == BATCH_RETRYING || (batch->state == BATCH_PAUSING && !urgent))
        return;
    int64_t due_ms = batch->last_send_ms + batch->pause_ms - clock_mono_ms();
    if (urgent || due_ms <= 0) {
        send_now(batch);
        return;
    }
    batch->state = BATCH_PAUSING;
    loop_timer_set(batch->timer, due_ms);
}

void batch_sent(struct batch *batch, bool more, int64_t retry_ms)
{
    assert(batch->state == BATCH_SENDING);
    if (retry_ms > 0) {
        batch->state = BATCH_RETRYING;
        loop_timer_set(batch->timer, retry_ms);
        return;
    }
    batch->state = BATCH_IDLE;
    if (more)
        batch_wake(batch, batch->urgent);
}
