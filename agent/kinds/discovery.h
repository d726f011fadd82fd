/*
 * What the parts of DISCOVER share: where to look on this host and beyond, what was found so far, and how far
 * it is. Internal to discover*.c. Runs in a task's child.
 */
#ifndef CLM_AGENT_KINDS_DISCOVERY_H
#define CLM_AGENT_KINDS_DISCOVERY_H

#include "kinds/findings.h"
#include "kinds/kinds.h"
#include "kinds/probe.h"
#include "kinds/walk.h"

#define DISCOVERY_FILE_MAX      (4 * 1024 * 1024)
#define DISCOVERY_PASSWORDS_MAX 64
#define DISCOVERY_PROBE_MS      2000

struct discovery {
    struct task_run *run;
    struct findings *findings;
    Clm__Agent__ServerFacts **server; /* of all configurations */
    size_t n_server;
    struct walk_counts counts;
    struct secret *password[DISCOVERY_PASSWORDS_MAX]; /* of keystores */
    size_t n_password;
    size_t looks, looks_planned;
    int64_t next_progress_ms;
    bool cancelled;
    bool aside; /* a part of another task, which goes on to its end and has steps of its own */
};

/* In the run's arena, but for the passwords. */
struct discovery *discovery_new(struct task_run *run, size_t max);
void discovery_done(struct discovery *d);
bool discovery_stopped(struct discovery *d);
/* done of planned; planned 0: nobody knows. */
void discovery_report(struct discovery *d, const char *phase, uint64_t done, uint64_t planned,
                      const char *what);
bool discovery_goes_on(void *discovery); /* for a sweep's tick */
/* What opens the keystore, by the local policy or its server's configuration; NULL: none is known. */
const struct secret *discovery_password(struct discovery *d, const char *path);
const char *discovery_endpoint(struct arena *arena, const char *host, const char *port);
/* What a probe was shown. */
void discovery_served(struct discovery *d, const struct probe *probe, struct finding finding);
/* What a socket of this host serves is served, wherever else it lies. */
void discovery_mark_served(struct task_run *run);

/* discover_here.c: the servers of this host. */
void discover_configurations(struct discovery *d);
/* Of the one preset that the target names. */
void discover_configuration_of(struct discovery *d, const struct policy_target *target);
/* The files that configurations name, and secrets of Kubernetes that targets do. path NULL: all. */
void discover_configured(struct discovery *d, const char *path);
/* port NULL: all. */
void discover_sockets(struct discovery *d, const char *port);

/* discover_ranges.c: what others serve. */
enum code discover_ranges(struct discovery *d, struct status *st) MUST_CHECK;

#endif
