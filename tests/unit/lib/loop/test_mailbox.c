#include "cmocka_all.h"

#include <pthread.h>

#include "loop/mailbox.h"

#define SENDERS    4
#define PER_SENDER 5000

struct letter {
    struct mail mail;
    int sender, number;
};

struct post {
    struct loop *loop;
    struct mailbox *mailbox;
    int next[SENDERS];
    int delivered;
    int out_of_order;
};

static void deliver(struct mail *mail, void *arg)
{
    struct letter *letter = (struct letter *)(void *)mail;
    struct post *post = arg;
    if (post->next[letter->sender]++ != letter->number)
        post->out_of_order++;
    if (++post->delivered == SENDERS * PER_SENDER)
        loop_stop(post->loop);
    free(letter);
}

static struct letter *letter_new(int sender, int number)
{
    struct letter *letter = calloc(1, sizeof(*letter));
    letter->mail.deliver = deliver;
    letter->sender = sender;
    letter->number = number;
    return letter;
}

struct sender {
    struct post *post;
    int number;
};

static void *send_all(void *arg)
{
    struct sender *sender = arg;
    for (int i = 0; i < PER_SENDER; i++)
        mailbox_post(sender->post->mailbox, &letter_new(sender->number, i)->mail);
    return NULL;
}

static void mail_of_each_sender_arrives_once_and_in_order(void **state)
{
    (void)state;
    struct post post = {.loop = loop_new()};
    post.mailbox = mailbox_new(post.loop, &post);
    pthread_t threads[SENDERS];
    struct sender senders[SENDERS];
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){&post, i};
        assert_int_equal(pthread_create(&threads[i], NULL, send_all, &senders[i]), 0);
    }
    loop_run(post.loop);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(post.delivered, SENDERS * PER_SENDER);
    assert_int_equal(post.out_of_order, 0);
    mailbox_free(post.mailbox);
    loop_free(post.loop);
}

static void deliver_and_post_one_more(struct mail *mail, void *arg)
{
    struct post *post = arg;
    free(mail);
    mailbox_post(post->mailbox, &letter_new(0, 0)->mail);
}

static void freeing_delivers_what_was_posted(void **state)
{
    (void)state;
    struct post post = {.loop = loop_new()};
    post.mailbox = mailbox_new(post.loop, &post);
    struct letter *letter = letter_new(0, 0);
    letter->mail.deliver = deliver_and_post_one_more;
    mailbox_post(post.mailbox, &letter->mail);
    mailbox_free(post.mailbox);
    assert_int_equal(post.delivered, 1);
    loop_free(post.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mail_of_each_sender_arrives_once_and_in_order),
        cmocka_unit_test(freeing_delivers_what_was_posted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
