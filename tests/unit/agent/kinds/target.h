/*
 * Every kind of store as a target [target t] of a test's host, in a table: how a pair gets in, how what is in
 * it is read back (by other programs than ours, or quickly by our own readers), and the small API server that
 * one of them needs. Content lies in the host's directory "web", or below it; the API server's in "api".
 */
#ifndef CLM_TESTS_AGENT_TARGET_H
#define CLM_TESTS_AGENT_TARGET_H

#include "harness.h"

struct store_kind {
    const char *name;
    const char *lines; /* of [target t]; %s: the host's directory, up to three times */
    const char *file;  /* that holds the certificate; NULL: an object */
    const char *key;   /* that holds the private key */
    const char *dir;   /* that they lie in */
    bool slow;         /* each run of keytool's takes a second */
    unsigned torn;     /* instants at which a server could find halves that do not fit */
    void (*put)(struct host *host, const struct issued *pair);
    /* Fingerprint of what is in it, whose key must fit; read by other programs than ours. */
    void (*get)(struct host *host, char out[65]);
    /* The same by our readers; false if there is none, or its key does not fit. */
    bool (*find)(struct host *host, char out[65]);
};
extern const struct store_kind store_kinds[]; /* ended by name NULL */
#define FOR_EACH_STORE(kind) for (const struct store_kind *kind = store_kinds; kind->name; kind++)
/* JKS is put in place as PKCS#12 is, and each call of keytool costs seconds. */
#define FOR_EACH_QUICK_STORE(kind) FOR_EACH_STORE(kind) if (!kind->slow)
const struct store_kind *store_kind_find(const char *name);

extern bool store_get_quick;     /* get: openssl's word is enough */
extern bool store_get_keep_keys; /* get: what was looked at stays, as "keys" */

/* agent.conf with [target t], [reload works] and [reload refuses]; `more` goes into the target. */
void target_load(struct host *host, const struct store_kind *kind, const char *more);
/* An empty directory "web" with an old pair in it, target_load, another task with a journal. */
struct issued target_prepare(struct host *host, const struct store_kind *kind, const char *more);
/* What target_prepare put into kind->file, as base64. */
extern char *target_old_bytes;
char *read_base64(const char *path); /* to be freed */

extern unsigned api_port;
/* Starts it, once a test. */
void api_start(struct host *host);
void api_stop(void);

/* host_teardown, and whatever was started here. */
int target_teardown(void **state);

#endif
