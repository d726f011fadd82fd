/*
 * Local policy: what this host's administrator lets the agent do (/etc/clm-agent/agent.conf). Always wins
 * over the platform. Unset means forbidden for DEPLOY, RENEW, hooks and ranges; allowed for VALIDATE and
 * DISCOVER of this host.
 *
 *   [agent]   gateway state_dir net_user log_level proxy proxy_user proxy_password_file
 *   [policy]  operations dns_names discovery_roots probe_hosts probe_rate break_glass metrics
 *             watch_interval fetch_hosts
 *   [target nginx]  store certificate key chain password_file alias encryption keytool secret api_server
 * token_file ca_file swap reload endpoint starttls server_name dns_names preset configuration; without `key`
 * the certificate's file holds the key too. Owner, mode and label of the files in place are kept. [reload
 * nginx] command test pre failure environment timeout
 */
#ifndef CLM_AGENT_POLICY_POLICY_H
#define CLM_AGENT_POLICY_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/kinds/starttls.h"
#include "base/status.h"

#define AGENT_STATE_DIR "/var/lib/clm-agent" /* where no policy says another */

enum store_format { STORE_PEM, STORE_HAPROXY, STORE_PKCS12, STORE_JKS, STORE_KUBERNETES, STORE_FORMATS };

struct policy_reload {
    char *name;
    char **command;     /* argv; an absolute program; no shell */
    char **test;        /* argv of the config test, run before the reload; NULL for none */
    char **pre;         /* argv: run before anything is changed, and may forbid it; NULL for none */
    char **failure;     /* argv: run when a change that `pre` let pass did not succeed; NULL for none */
    char **environment; /* NAME=value for all of them; NULL for none */
    int64_t timeout_ms; /* for each of them */
};

struct policy_target {
    char *name;
    char *certificate; /* leaf and intermediates, PEM; the key too when there is no key file */
    char *key;         /* NULL or equal to certificate: one file holds both */
    char *chain;       /* intermediates apart from the leaf, when the server wants them so; else NULL */
    char *reload;      /* names of [reload …], as written; NULL: nothing to reload */
    struct policy_reload **reloads; /* those, in that order; NULL-ended; borrowed but for the array */
    char *endpoint;                 /* host:port to look at; NULL: nothing to verify */
    char *starttls;                 /* what is spoken before TLS; NULL: by the endpoint's port */
    char *server_name;              /* SNI; NULL: the certificate's first name */
    char **dns_names;               /* what may be installed here; NULL: the policy's */
    /* What DISCOVER and VALIDATE may look up about it; NULL: nothing. */
    char *preset;        /* the server that uses it: a row of presets/preset.c */
    char *configuration; /* that server's, where it is not the distribution's */
    /* What the certificate's file is. */
    char *store; /* as written; NULL: pem */
    enum store_format format;
    char *password_file; /* of a keystore */
    char *alias;         /* of its entry; NULL: the one that it has */
    char *encryption;    /* of what is written: "modern" or "legacy" */
    char *keytool;       /* the host's program that writes JKS; NULL: PKCS#12 is written instead */
    /* Of a Kubernetes secret; certificate then is the path that scopes know it by,
     * /kubernetes/NAMESPACE/NAME. */
    char *secret, *api_server, *token_file, *ca_file;
    char *swap; /* how files are put in place: "files" or "directory" */
    bool swap_directory;
};

struct policy {
    char *path; /* of the file, for messages */
    /* [agent] */
    char *gateway; /* host:port; NULL: from the token */
    char *state_dir, *net_user, *log_level;
    char *proxy;      /* host:port of an HTTP proxy (CONNECT) on the way to the gateway; NULL: none */
    char *proxy_user; /* NULL: the proxy asks for nobody's name */
    char *proxy_password_file; /* NULL: an empty password */
    /* [policy] */
    char **operations; /* lower case: deploy renew validate discover */
    char **dns_names, **discovery_roots, **probe_hosts;
    bool break_glass;               /* in safe mode, one change that an admin released */
    char **fetch_hosts;             /* that may be asked for CRLs and OCSP answers */
    int64_t watch_interval_ms;      /* of looking at what the targets serve; 0: never */
    int64_t probe_rate;             /* looks begun in a second, of discovery in networks */
    bool metrics;                   /* how the host is doing may be told */
    struct policy_target **targets; /* NULL-ended */
    struct policy_reload **reloads; /* NULL-ended */
};

/* Refuses a file that is not root's (or ours, when unprivileged) or that others may write. */
enum code policy_load(const char *path, struct policy **ret, struct status *st) MUST_CHECK;
/* Never NULL. Without a valid policy (*st says why it is not) what holds then: nothing is allowed but
 * looking; where the state is, who leads to the platform and as whom net runs are taken as far as [agent] can
 * be read, unless others may write the file. */
enum code policy_load_or_none(const char *path, struct policy **ret, struct status *st);
void policy_free(struct policy *policy);

/* PERMISSION_DENIED with the line that would allow it: `local policy forbids renew: add "renew" to operations
 * in [policy] of …`. */
enum code policy_allows_operation(const struct policy *policy, int task_kind, struct status *st) MUST_CHECK;
enum code policy_find_target(const struct policy *policy, const char *name, const struct policy_target **ret,
                             struct status *st) MUST_CHECK;
/* What to say to the target's endpoint before TLS. */
enum starttls policy_target_starttls(const struct policy_target *target);
const struct policy_reload *policy_find_reload(const struct policy *policy, const char *name);
enum code policy_allows_names(const struct policy *policy, const struct policy_target *target,
                              char *const *names, size_t n, struct status *st) MUST_CHECK;
enum code policy_allows_probe(const struct policy *policy, const char *host, struct status *st) MUST_CHECK;
enum code policy_allows_fetch(const struct policy *policy, const char *host, struct status *st) MUST_CHECK;
enum code policy_allows_discovery(const struct policy *policy, const char *root,
                                  struct status *st) MUST_CHECK;
/* Of the directories that discovery may search the nearest one that holds path; borrowed. NULL: none does. */
const char *policy_discovery_root_of(const struct policy *policy, const char *path);
/* The directories that discovery may search: those written down, or the default ones. NULL-ended, borrowed.
 */
const char *const *policy_discovery_roots(const struct policy *policy);

bool store_format_find(const char *name, enum store_format *ret); /* as the file has it */

#endif
