/*
 * The servers that the agent knows, a row each: where a server's configuration stands, who reads it, and
 * which commands test and reload it. What a reader finds is a list of ServerFacts: which file serves which
 * name on which sockets, of what kind the file is and how TLS begins there. Runs in a task's child or in
 * `clm-agent setup`; blocking.
 */
#ifndef CLM_AGENT_PRESETS_PRESET_H
#define CLM_AGENT_PRESETS_PRESET_H

#include "agent/policy/policy.h"
#include "presets/conf.h"

/* Commands for a configuration that stands at `conf` (a pattern as glob(7) knows it; NULL: anywhere else). In
 * them {program}, {conf}, {dir} (its directory), {parent} (above that), {name} and {above} (the last words of
 * those two), {version} (in dir's PG_VERSION), {pid_file} (as the configuration has it), and {as}: `runuser
 * -u OWNER --` of dir if we are root and the owner is not. */
struct preset_place {
    const char *conf;
    const char *command; /* NULL: the administrator has to say */
    const char *test;
};

struct preset {
    const char *name;                  /* "apache": as the policy and `setup --manage` say it */
    confine_fn *read;                  /* arg: struct conf * */
    const char *const *programs;       /* the first that is there is {program}; NULL-ended */
    const struct preset_place *places; /* ended by the one with conf NULL */
};

extern const struct preset presets[]; /* ended by name NULL */
const struct preset *preset_find(const char *name);

/* The configurations of this host where the distribution puts them: NULL-ended, in the arena. */
char **preset_confs(const struct preset *preset, struct arena *arena);

/* Reads one configuration; each row has used_by. NOT_FOUND without it. */
enum code preset_look(const struct preset *preset, const char *conf, struct arena *arena,
                      const Clm__Agent__Facts **ret, struct status *st) MUST_CHECK;

/* Reads the configurations of all presets: the distribution's places, and those that targets of the policy
 * name. `on` is called once for each configuration that is there; facts is NULL when it could not be read. */
typedef void preset_on(void *arg, const struct preset *preset, const char *conf,
                       const Clm__Agent__Facts *facts, const struct status *st);
void presets_look(const struct policy *policy, struct arena *arena, preset_on *on, void *arg);

/* The commands for conf, as they stand in the policy; a NULL one is not known. FAILED_PRECONDITION when the
 * program is not there; INVALID_ARGUMENT when a path cannot stand in a command. */
enum code preset_commands(const struct preset *preset, const char *conf, const Clm__Agent__Facts *facts,
                          struct arena *arena, const char **ret_command, const char **ret_test,
                          struct status *st) MUST_CHECK;

/* Readers: pure, for confine_run; arg is a struct conf *. They take what they know and skip the rest. */
confine_fn nginx_read, apache_read, haproxy_read, tomcat_read, postgresql_read, postfix_read, dovecot_read;

#endif
