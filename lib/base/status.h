/*
 * The one set of result codes, for C functions, bus replies and HTTP answers alike. The numbers are those of
 * gRPC's canonical codes and are on the wire (header Clm-Status): they never change.
 */
#ifndef CLM_BASE_STATUS_H
#define CLM_BASE_STATUS_H

#include <stdbool.h>

#include "base/cleanup.h"

enum code {
    CODE_OK = 0,
    CODE_CANCELLED = 1,        /* the caller gave up */
    CODE_INVALID_ARGUMENT = 3, /* the request can never succeed as it stands */
    CODE_DEADLINE_EXCEEDED = 4,
    CODE_NOT_FOUND = 5,
    CODE_ALREADY_EXISTS = 6,
    CODE_PERMISSION_DENIED = 7,   /* we know who asks, and they may not */
    CODE_RESOURCE_EXHAUSTED = 8,  /* a limit or quota; retry later */
    CODE_FAILED_PRECONDITION = 9, /* not in the state that this needs */
    CODE_ABORTED = 10,            /* lost a race; read again and retry */
    CODE_UNIMPLEMENTED = 12,
    CODE_INTERNAL = 13,
    CODE_UNAVAILABLE = 14,     /* a dependency is away or we are full; retry */
    CODE_DATA_LOSS = 15,       /* stored data is not what was stored */
    CODE_UNAUTHENTICATED = 16, /* we do not know who asks */
};

struct status {
    enum code code;
    char msg[256];
};

struct code_info {
    enum code code;
    const char *name;  /* "NOT_FOUND" */
    const char *slug;  /* "not-found": the problem+json type suffix */
    const char *title; /* "Not found" */
    int http_status;
    bool retryable;
};

/* The row of a code; the row of CODE_INTERNAL for a number that is no code. Never NULL. */
const struct code_info *code_info(enum code code);
const char *code_name(enum code code);

/* Fills *st (NULL is allowed) and returns code, so that `return status_set(st, CODE_X, "…")` reads well.
 * A message says what was tried, on what, what went wrong and what to do; too long, it is cut with "...". */
enum code status_set(struct status *st, enum code code, const char *fmt, ...) PRINTF(3, 4);

/* Puts "context: " before the message already in *st, keeps the code, and returns it. */
enum code status_wrap(struct status *st, const char *fmt, ...) PRINTF(2, 3);

/* Like status_set, with ": strerror(errnum)" after the message. */
enum code status_errno(struct status *st, enum code code, int errnum, const char *fmt, ...) PRINTF(4, 5);

/* `TRY(f(x, st));` returns the code from the present function if f failed. */
#define TRY(expr)                                                                                            \
    do {                                                                                                     \
        enum code try_code_ = (expr);                                                                        \
        if (try_code_ != CODE_OK)                                                                            \
            return try_code_;                                                                                \
    } while (0)

#endif
