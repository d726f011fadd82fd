/*
 * A private database with the service's schema, agents with real certificates, a real envelope signer, and a
 * clock that stands still at FIXTURE_NOW until it is advanced. fixture_setup and fixture_teardown are for
 * each test.
 */
#ifndef CLM_TESTS_TASKS_FIXTURE_H
#define CLM_TESTS_TASKS_FIXTURE_H

#include "cmocka_all.h"

#include "base/clock.h"
#include "db/db.h"
#include "envelope.h"
#include "pki/cms.h"
#include "pki/issue.h"
#include "proto/envelope.pb-c.h"
#include "proto/tasks.pb-c.h"
#include "store.h"

#define FIXTURE_NOW INT64_C(1800000000000)
#define AGENT_A     "01890000-0000-7000-8000-00000000000a"
#define AGENT_B     "01890000-0000-7000-8000-00000000000b"
#define NO_TASK     "01890000-0000-7000-8000-0000000000ff"

extern struct tasks app;
extern struct db *db;
extern struct arena *arena;
extern struct status st;
extern struct der_list roots;
extern char woken[64][UUID_TEXT_SIZE]; /* by app.wake, since setup */
extern size_t n_woken;

struct fixture_agent {
    const char *id;
    struct key *key;
    struct der certificate;
    unsigned generation;
};

int fixture_setup(void **state);
int fixture_teardown(void **state);
struct db *fixture_db(void); /* another session */

/* An agent that the projection knows: ONLINE, every operation, paths below /etc/ssl, names
 * below example.com; generation 0 confirmed. */
struct fixture_agent fixture_agent(const char *id);
void fixture_agent_free(struct fixture_agent *agent);
/* Changes the projection's row; versions rise by themselves. */
void fixture_agent_state(const char *id, unsigned status, bool safe_mode, bool disabled, struct bytes scope);
/* The same, the column of lib/safemode's table alone. */
void fixture_agent_column(const char *id, enum safe_column column);
void fixture_platform(bool safe_mode); /* of the whole fleet */
struct bytes fixture_scope(const Clm__Task__Kind *operations, size_t n, const char *path, const char *name);
/* Another generation: key and certificate of `agent` are replaced. */
void fixture_rotate(struct fixture_agent *agent, bool confirmed);

struct bytes fixture_spec(Clm__Task__Kind kind);
struct new_task fixture_request(const char *agent_id, Clm__Task__Kind kind);
struct task fixture_task(const char *agent_id, Clm__Task__Kind kind); /* created, READY */
struct task fixture_get(const char *task_id);

struct lease_request fixture_checkin(const char *agent_id, unsigned free_slots);
/* Checks in; expects exactly one delivery and gives it. */
struct delivery fixture_lease(const char *agent_id);

/* Signs a receipt for the task's present attempt, with the agent's task key. */
struct bytes fixture_receipt(const struct fixture_agent *agent, const Clm__Receipt *receipt);
Clm__Receipt fixture_receipt_of(const struct fixture_agent *agent, const char *task_id, unsigned attempt,
                                Clm__Receipt__Outcome outcome);
/* Submits that receipt; the code. */
enum code fixture_submit(const struct fixture_agent *agent, const char *task_id, unsigned attempt,
                         Clm__Receipt__Outcome outcome, bool retryable);

int64_t fixture_count(const char *sql);

#define assert_ok(expr)                                                                                      \
    do {                                                                                                     \
        if ((expr) != CODE_OK)                                                                               \
            fail_msg("%s: %s", #expr, st.msg);                                                               \
    } while (0)

#endif
