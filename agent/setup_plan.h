/*
 * What `clm-agent setup` would add to the local policy: one target for each certificate that a server of this
 * host serves and the policy does not manage yet, and the commands that its server needs. Only looks; setup.c
 * asks and writes.
 */
#ifndef CLM_AGENT_SETUP_PLAN_H
#define CLM_AGENT_SETUP_PLAN_H

#include "agent/setup.h"
#include "presets/preset.h"

struct server_plan {
    const struct preset *preset;
    const char *conf;   /* its main file */
    bool is_elsewhere;  /* not where the distribution puts it */
    const char *reload; /* name of the section */
    bool new_reload;    /* it is to be written */
    const char *command, *test;
    size_t n_target;
};

struct target_plan {
    struct server_plan *server;
    char *label;
    const char *certificate, *key, *chain; /* real paths: symbolic links are refused later */
    const char *store;                     /* of what kind the file is; NULL: PEM */
    char *password; /* of a keystore, to be written to password_file; NULL: that is there already */
    const char *password_file; /* NULL: none is needed */
    const char *endpoint, *server_name, *starttls;
    char **names;
    size_t n_names;
};

struct plan {
    struct arena *arena;
    const struct setup_options *options;
    struct policy *policy; /* what stands already; NULL: no file yet */
    struct server_plan **server;
    size_t n_server;
    struct target_plan **target;
    size_t n_target;
    char **root; /* to be added to discovery_roots */
    size_t n_root;
    char **note; /* what was left out, and why */
    size_t n_note;
};

/* arena and options are set. A server that was asked for by name must be there and be understood; of the
 * others, what cannot be managed becomes a note. */
enum code plan_make(struct plan *plan, struct status *st) MUST_CHECK;
void plan_done(struct plan *plan);

#endif
