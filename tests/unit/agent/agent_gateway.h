/*
 * A fake gateway in the test's process (real HTTP, TLS 1.3 and PKI) and the real clm-agent beside it. What
 * the gateway may do wrong, it does when told so; what the agent tells it is kept. Everything lies in a
 * directory that goes at the end.
 */
#ifndef CLM_TESTS_AGENT_GATEWAY_H
#define CLM_TESTS_AGENT_GATEWAY_H

#include "cmocka_all.h"

#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/id.h"
#include "http/server.h"
#include "pki/token.h"
#include "pki_fixture.h"
#include "proto/agent.pb-c.h"

#define DEADLINE_MS 40000
#define SEEN_MAX    64

struct receipt_seen {
    char task_id[UUID_TEXT_SIZE];
    uint32_t attempt, pages;
    Clm__Receipt__Outcome outcome;
    char message[512];
    struct der result, cms;
};

struct gateway {
    char dir[64], state_dir[96], config[96], token_file[96];
    struct loop *loop;
    struct loop_timer *guard;
    bool expired;
    struct test_ca ca, other_ca;
    struct test_signer tasks;
    struct tls_context *tls;
    struct http_server *server;
    struct token token;
    pid_t agent;

    struct der identity_csr, task_csr; /* of the first bootstrap request */
    struct der identity_cert, task_cert;
    unsigned bootstraps, checkins, connections, signs;
    bool csrs_differ;
    uint32_t lease;              /* of the next order; 0: 1 */
    bool safe_mode, break_glass; /* what the next order says */
    /* misbehaviour */
    unsigned bootstrap_503, bootstrap_cut, result_503, sign_pending, sign_retry_ms;
    bool sign_swapped;
    bool no_confirm, no_hold;
    int64_t clock_off_ms;
    uint32_t generation;
    const char *cancel_task_id; /* with the next answer */

    struct http_request *held; /* the check-in */
    Clm__CheckinRequest *last; /* the last check-in's body */
    struct der confirmation;
    struct der outgoing[8]; /* envelopes to deliver with the next answer */
    char outgoing_task[8][UUID_TEXT_SIZE];
    size_t n_outgoing;
    struct receipt_seen seen[SEEN_MAX];
    size_t n_seen;
    struct buf pages; /* of the result coming in */
};

void gateway_ok(enum code code, const struct status *st, const char *what);
#define OK(expr) gateway_ok((expr), &st, #expr)

/* Runs the gateway until the condition holds. */
#define WAIT(gw, condition)                                                                                  \
    do {                                                                                                     \
        (gw)->expired = false;                                                                               \
        loop_timer_set((gw)->guard, DEADLINE_MS);                                                            \
        while (!(condition)) {                                                                               \
            if ((gw)->expired)                                                                               \
                fail_msg("not within %d ms: %s", DEADLINE_MS, #condition);                                   \
            loop_run((gw)->loop);                                                                            \
        }                                                                                                    \
        loop_timer_cancel((gw)->guard);                                                                      \
    } while (0)

/* cmocka's: *state is a struct gateway *. */
int gateway_setup(void **state);
int gateway_teardown(void **state);

/* Over again under that CA. The former server is gone. */
void server_start(struct gateway *gw, const struct test_ca *ca, uint16_t port);
/* Answers the check-in that is held, with what is to be delivered. */
void answer_checkin(struct gateway *gw);

/* ---- the agent ---- */

void agent_start(struct gateway *gw);
/* Serves until it is gone. */
void agent_stop(struct gateway *gw, int signum);
/* Runs a command of the agent's with `input` on its standard input, serving meanwhile; its exit status. */
int agent_command_with(struct gateway *gw, const char *verb, const char *token_file, const char *input);
/* The agent's child that was started with this argument, from /proc; 0 if there is none. */
pid_t child_of(pid_t parent, const char *argument);

/* ---- tasks: signed, sealed, and delivered with the next answer ---- */

void order_add(struct gateway *gw, const char *task_id, const Clm__TaskSpec *spec,
               const struct test_signer *signer);
void discover_add(struct gateway *gw, const char *task_id, const struct test_signer *signer);
void renew_add(struct gateway *gw, const char *task_id);
/* Fails unless the last one that came says so. */
const struct receipt_seen *last_receipt(const struct gateway *gw, Clm__Receipt__Outcome outcome);

/* web.pem and web.key, of [target web]. */
void old_certificate_write(struct gateway *gw, struct der *ret);
void installed_certificate(const struct gateway *gw, struct der_list *ret);
void write_text_file(const char *path, const char *text, mode_t mode);

#endif
