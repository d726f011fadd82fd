/*
 * What discovery found, on its way into the result: foreign bytes go in, are parsed a batch at a time in
 * confined children while more is gathered, and come out as certificates. A file that kills its parser costs
 * only itself. The result is bounded in number and bytes. Runs in a task's child.
 */
#ifndef CLM_AGENT_KINDS_FINDINGS_H
#define CLM_AGENT_KINDS_FINDINGS_H

#include "kinds/confine.h"
#include "kinds/kinds.h"
#include "kinds/seen.h"

struct finding { /* bytes, and where they are from; texts live in the run's arena */
    Clm__FoundCertificate__Source source;
    const char *path, *endpoint, *server_name, *used_by, *key_path, *process;
    const char *alias; /* where the bytes themselves do not say it */
    pid_t pid;
    const struct secret *password; /* of a keystore; NULL: none is known */
    uint8_t *data;
    size_t len;
    bool remember; /* for the next scan, under this key */
    struct seen_key key;
};

struct findings;

/* `complete` is called with a finding before it becomes a part of the result: what else is known of it? May
 * be NULL. */
struct findings *findings_new(struct task_run *run, size_t max,
                              void (*complete)(struct finding *finding, void *arg), void *arg);
/* Takes finding.data. */
void findings_add(struct findings *findings, struct finding finding);
/* What a former scan found in the file, from the cache; takes finding.data, which is that. */
void findings_add_known(struct findings *findings, struct finding finding);
/* Until everything that was added is in the result. */
void findings_flush(struct findings *findings);
bool findings_full(const struct findings *findings); /* there was more than fits */
unsigned findings_unreadable(const struct findings *findings);
unsigned findings_sealed(const struct findings *findings);
/* What is to be remembered; n rows, the run's arena. */
const struct seen_entry *findings_remembered(const struct findings *findings, size_t *ret_n);

#endif
