/* The list is pushed in front under the mutex and reversed on delivery, so that mail arrives in order. */
#include "loop/mailbox.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct mailbox {
    struct loop_watch *watch;
    int fd;
    void *arg;
    pthread_mutex_t mutex;
    struct mail *newest;
};

static struct mail *take_all_in_order(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->mutex);
    struct mail *newest = TAKE(mailbox->newest);
    pthread_mutex_unlock(&mailbox->mutex);
    struct mail *oldest = NULL;
    while (newest) {
        struct mail *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

static bool deliver_all(struct mailbox *mailbox)
{
    struct mail *mail = take_all_in_order(mailbox);
    bool any = mail != NULL;
    while (mail) {
        struct mail *next = mail->next;
        mail->deliver(mail, mailbox->arg);
        mail = next;
    }
    return any;
}

static void on_wake(int fd, int events, void *arg)
{
    (void)events;
    eventfd_t count;
    /* Before taking the list: a post after the take finds it empty and writes again. */
    (void)eventfd_read(fd, &count);
    (void)deliver_all(arg);
}

struct mailbox *mailbox_new(struct loop *loop, void *arg)
{
    struct mailbox *mailbox = calloc(1, sizeof(*mailbox));
    if (!mailbox)
        abort();
    mailbox->arg = arg;
    pthread_mutex_init(&mailbox->mutex, NULL);
    mailbox->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (mailbox->fd < 0)
        abort();
    mailbox->watch = loop_watch_new(loop, mailbox->fd, LOOP_READ, on_wake, mailbox);
    return mailbox;
}

void mailbox_post(struct mailbox *mailbox, struct mail *mail)
{
    pthread_mutex_lock(&mailbox->mutex);
    bool was_empty = mailbox->newest == NULL;
    mail->next = mailbox->newest;
    mailbox->newest = mail;
    /* Under the mutex: after it, mailbox_free may already have closed the descriptor. */
    if (was_empty)
        (void)eventfd_write(mailbox->fd, 1);
    pthread_mutex_unlock(&mailbox->mutex);
}

void mailbox_free(struct mailbox *mailbox)
{
    if (!mailbox)
        return;
    /* A delivery may post more. */
    while (deliver_all(mailbox))
        continue;
    loop_watch_free(mailbox->watch);
    (void)close(mailbox->fd);
    pthread_mutex_destroy(&mailbox->mutex);
    free(mailbox);
}
