/*
 * Enrolment: a one-time token becomes an identity. The token stays on exec's side; the HTTPS request is made
 * by a short-lived, confined child that holds no key; net makes its own key. The keys are on disk before
 * anything is sent and are the same on every retry, so a connection may break at any byte.
 */
#ifndef CLM_AGENT_EXEC_ENROL_H
#define CLM_AGENT_EXEC_ENROL_H

#include "agent/exec/state.h"
#include "base/secret.h"
#include "proto/common.pb-c.h"

struct enrolment {
    struct agent_state *state;
    const struct secret *token;            /* as printed */
    const char *gateway;                   /* host:port of the local policy; NULL: the token's */
    const struct Clm__Agent__Proxy *proxy; /* NULL: none */
    const Clm__HostFacts *facts;
    const char *net_user;
    uid_t parser_uid;
    int64_t give_up_ms; /* 0: never, as long as the platform may still say yes */
};

/* Blocks, waiting as Retry-After says. Stores the identity in the state directory. */
enum code enrol(const struct enrolment *enrolment, struct status *st) MUST_CHECK;

/* A token from a file, from standard input ("-") or, when that is a terminal, from a prompt without echo. */
enum code token_read(const char *path, struct secret **ret, struct status *st) MUST_CHECK;

/* A token's file goes once it was used, also when the process dies in between: its digest is noted in the
 * state directory before it is used, and whoever starts on an enrolled host removes the file that it is of.
 * True when that was done. Nothing for standard input. */
enum code token_note_use(const struct agent_state *state, const char *path, const struct secret *token,
                         struct status *st) MUST_CHECK;
bool token_remove_used(const struct agent_state *state, const char *path);

/* The child's main. */
int enrol_child_main(int channel_fd, uid_t uid, gid_t gid);

#endif
