/*
 * What the files of the local policy share; nobody else includes it. A file is read in three steps: keys.c
 * fills the structs, argv.c splits the command lines of each reload, check.c and target.c refuse what cannot
 * be meant.
 */
#ifndef CLM_AGENT_POLICY_PARTS_H
#define CLM_AGENT_POLICY_PARTS_H

#include "agent/policy/policy.h"
#include "base/cleanup.h"
#include "base/config.h"

#define LABEL_BYTES_MAX  63
#define LABEL_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

/* A reload as the file has it: the command lines are split once everything is read. */
struct reload_conf {
    struct policy_reload reload; /* first: policy->reloads[i] points here */
    char *command_text, *test_text, *pre_text, *failure_text, *environment_text;
};

/* keys.c */
extern const struct config_schema policy_schema;
/* What the schema's keys and sections have filled in. */
void policy_conf_done(struct policy *policy);

/* argv.c: "…" and '…' keep blanks together; no shell. */
enum code reload_split(struct policy_reload *reload, struct status *st) MUST_CHECK;
void reload_argv_free(struct policy_reload *reload);

/* allow.c: "deploy renew validate discover". */
bool operation_is_known(const char *name);

/* check.c */
enum code policy_check(struct policy *policy, struct status *st) MUST_CHECK;
enum code policy_check_proxy(const struct policy *policy, struct status *st) MUST_CHECK;
enum code policy_check_names(const char *section, char *const *names, struct status *st) MUST_CHECK;

/* target.c: also finds its reloads. */
enum code target_check(const struct policy *policy, struct policy_target *target,
                       struct status *st) MUST_CHECK;

#endif
