/*
 * A host for tests of the task kinds: a directory, a CA made on the spot, real nginx processes on free ports,
 * a local policy and a task to run. Everything is removed at the end.
 */
#ifndef CLM_TESTS_AGENT_HARNESS_H
#define CLM_TESTS_AGENT_HARNESS_H

#include "cmocka_all.h"

#include <sys/types.h>

#include "agent/kinds/kind.h"
#include "pki/issue.h"

#define DAY_MS (24 * 3600 * 1000ll)

struct issued {
    struct der cert;
    struct secret *key_pem;
    struct buf cert_pem; /* the leaf alone */
    char fingerprint[65];
};
void issued_done(struct issued *issued);
#define AUTO_ISSUED CLEANUP(issued_done)

struct host {
    char dir[64]; /* real path, 0700 */
    struct issuer *ca;
    struct der root;
    struct buf root_pem;
    pid_t nginx;
    unsigned port, port2;
    struct policy *policy;
    char task_id[40];
};

/* cmocka setup and teardown: *state is a struct host *. */
int host_setup(void **state);
int host_teardown(void **state);

char *host_path(const struct host *host, const char *name); /* lives until teardown of the process */
void write_file(const char *path, const void *data, size_t len, mode_t mode);
void write_text(const char *path, const char *text, mode_t mode);
/* Runs a line in the host's directory, which has to succeed; what it said, until the next call. */
const char *shell(const struct host *host, const char *line);
char *read_text(const char *path); /* leaks on purpose into an arena of the process */

/* A server certificate of the host's CA; name may be NULL for www.example.test. */
struct issued issue(struct host *host, const char *name, int64_t from_ms, int64_t until_ms);
/* The same for a key that is there already. */
struct issued issue_for_key(struct host *host, const struct key *key, const char *name, int64_t from_ms,
                            int64_t until_ms);
/* A newer one than pair's, for the same key. */
struct issued issue_newer(struct host *host, const struct issued *pair, const char *name);
/* Puts it at <dir>/cert.pem and <dir>/key.pem. */
void put_pair(struct host *host, const struct issued *pair);

/* nginx.conf for a server on host->port with cert.pem and key.pem; extra goes into http{}. */
void write_nginx_conf(struct host *host, const char *extra);
void start_nginx(struct host *host);
/* Another one; not waited for, and the caller's to end. */
pid_t spawn_nginx(struct host *host, const char *conf);
void stop_nginx(struct host *host);
/* Fingerprint served now; "" if nothing is. */
void served(struct host *host, char out[65]);
/* After a reload an old worker may answer once more: looks until it is this one, 5 s at most. */
void assert_serves(struct host *host, const char *fingerprint);
/* agent.conf with [target nginx] and [reload nginx]; the lines replace the default reload section if not
 * NULL. */
void load_policy(struct host *host, const char *target_lines, const char *reload_lines);

/* One run of a kind; a second one of the same task resumes if the journal has anything. */
struct outcome {
    enum code code;
    struct status st;
    Clm__Receipt__Outcome outcome;
    Clm__TaskResult result;
    char *message;
    struct arena *arena;
};
void outcome_done(struct outcome *outcome);
#define AUTO_OUTCOME CLEANUP(outcome_done)
struct outcome run_kind(struct host *host, const Clm__TaskSpec *spec);
/* What such a task says; the next call of either makes it anew. */
const Clm__TaskSpec *deploying(const char *target, const struct issued *pair);
const Clm__TaskSpec *renewing(const char *target);
extern Clm__DeploySpec deploy_spec;
extern Clm__RenewSpec renew_spec;
/* What the run is told when it asks whether it was cancelled. */
extern bool run_cancelled;
/* Called by the run's sign: the host's CA issues for the CSR. sign_calls counts; last_spki is what was asked
 * for. */
extern unsigned sign_calls;
extern char last_spki[65];
extern bool (*run_stop)(struct task_run *run); /* asked instead, if not NULL */
extern enum code sign_answer;                  /* CODE_OK, or what to fail with */
extern const struct der *sign_root;            /* said to be the root; NULL: the host's own */

const Clm__Check *find_check(const struct outcome *outcome, const char *id);
const Clm__Step *find_step(const struct outcome *outcome, const char *name);

#endif
