/*
 * The one way into a loop from another thread: a list under a mutex and an eventfd, written only when the
 * list goes from empty to non-empty (h2o's multithread queue is the model). Messages embed struct mail.
 */
#ifndef CLM_LOOP_MAILBOX_H
#define CLM_LOOP_MAILBOX_H

#include <stddef.h>

#include "loop/loop.h"

struct mail {
    struct mail *next;
    void (*deliver)(struct mail *mail, void *arg); /* runs on the loop's thread and owns the mail */
};

struct mailbox;

/* arg is passed to each mail's deliver. */
struct mailbox *mailbox_new(struct loop *loop, void *arg);
/* From any thread; never blocks beyond the mutex. */
void mailbox_post(struct mailbox *mailbox, struct mail *mail);
/* On the loop's thread; posted mail that was not delivered is delivered first. */
void mailbox_free(struct mailbox *mailbox);

#endif
