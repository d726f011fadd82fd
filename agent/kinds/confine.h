/*
 * Parsing foreign bytes in a confined child. The child is forked, so it sees the caller's memory as it is; it
 * has no files, network or privileges, and what it finds comes back as one bounded message that is checked
 * like a peer's. Call from a process with one thread.
 */
#ifndef CLM_AGENT_KINDS_CONFINE_H
#define CLM_AGENT_KINDS_CONFINE_H

#include "agent/kinds/facts.pb-c.h"
#include "base/arena.h"
#include "pki/cert.h"
#include "sandbox/sandbox.h"

/* Runs in the child; memory from the arena. An error goes into facts with confine_fail. */
typedef void confine_fn(void *arg, struct arena *arena, Clm__Agent__Facts *facts);

/* fn's error is returned as it is; a killed, late or lying child is FAILED_PRECONDITION: what it was to look
 * at is not known then. */
enum code confine_run(confine_fn *fn, void *arg, struct arena *arena, const Clm__Agent__Facts **ret,
                      struct status *st) MUST_CHECK;
/* The same in two steps, so that several children are at work at once; each start needs its end. arg is
 * borrowed until then. */
struct confined {
    confine_fn *fn;
    void *arg;
    struct sandbox_job job;
};
enum code confine_start(confine_fn *fn, void *arg, struct confined *ret, struct status *st) MUST_CHECK;
enum code confine_end(struct confined *confined, struct arena *arena, const Clm__Agent__Facts **ret,
                      struct status *st) MUST_CHECK;

/* For the child. */
void confine_fail(Clm__Agent__Facts *facts, struct arena *arena, enum code code, const char *fmt, ...)
    PRINTF(4, 5);
/* Reads the certificate and adds it; the DER too when with_der. */
enum code confine_add_cert(Clm__Agent__Facts *facts, struct arena *arena, struct bytes der, uint32_t file,
                           bool with_der, struct status *st) MUST_CHECK;
/* The same with cert_read_listed, for many. */
enum code confine_list_cert(Clm__Agent__Facts *facts, struct arena *arena, struct bytes der, uint32_t file,
                            struct status *st) MUST_CHECK;
void confine_add_check(Clm__Agent__Facts *facts, struct arena *arena, const char *id,
                       Clm__Check__Outcome outcome, const char *remedy, const char *fmt, ...) PRINTF(6, 7);
ProtobufCBinaryData confine_bytes(struct arena *arena, const void *data, size_t len);

/* A growing protobuf array in an arena: ARENA_PUSH(arena, msg->certs, msg->n_certs, item). */
#define ARENA_PUSH(arena, array, n, item) ((array) = arena_push((arena), (array), (n), (item)), (n)++)
void *arena_push(struct arena *arena, void *array, size_t n, void *item);

/* In the child: the certificates of PEM content, leaf first without the root; DER_LIST_MAX at most. */
void confine_pem(void *bytes /* struct bytes */, struct arena *arena, Clm__Agent__Facts *facts);

#endif
