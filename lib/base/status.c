/* The table of result codes and the composition of messages. Pure functions, any thread. */
#include "base/status.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct code_info infos[] = {
    [CODE_OK] = {CODE_OK, "OK", "ok", "OK", 200, false},
    [CODE_CANCELLED] = {CODE_CANCELLED, "CANCELLED", "cancelled", "Cancelled", 499, false},
    [CODE_INVALID_ARGUMENT] = {CODE_INVALID_ARGUMENT, "INVALID_ARGUMENT", "invalid-argument",
                               "Invalid argument", 400, false},
    [CODE_DEADLINE_EXCEEDED] = {CODE_DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "deadline-exceeded",
                                "Deadline exceeded", 504, true},
    [CODE_NOT_FOUND] = {CODE_NOT_FOUND, "NOT_FOUND", "not-found", "Not found", 404, false},
    [CODE_ALREADY_EXISTS] = {CODE_ALREADY_EXISTS, "ALREADY_EXISTS", "already-exists", "Already exists", 409,
                             false},
    [CODE_PERMISSION_DENIED] = {CODE_PERMISSION_DENIED, "PERMISSION_DENIED", "permission-denied",
                                "Permission denied", 403, false},
    [CODE_RESOURCE_EXHAUSTED] = {CODE_RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED", "resource-exhausted",
                                 "Too many requests", 429, true},
    [CODE_FAILED_PRECONDITION] = {CODE_FAILED_PRECONDITION, "FAILED_PRECONDITION", "failed-precondition",
                                  "Failed precondition", 409, false},
    [CODE_ABORTED] = {CODE_ABORTED, "ABORTED", "aborted", "Aborted", 409, true},
    [CODE_UNIMPLEMENTED] = {CODE_UNIMPLEMENTED, "UNIMPLEMENTED", "unimplemented", "Not implemented", 501,
                            false},
    [CODE_INTERNAL] = {CODE_INTERNAL, "INTERNAL", "internal", "Internal error", 500, false},
    [CODE_UNAVAILABLE] = {CODE_UNAVAILABLE, "UNAVAILABLE", "unavailable", "Unavailable", 503, true},
    [CODE_DATA_LOSS] = {CODE_DATA_LOSS, "DATA_LOSS", "data-loss", "Data loss", 500, false},
    [CODE_UNAUTHENTICATED] = {CODE_UNAUTHENTICATED, "UNAUTHENTICATED", "unauthenticated", "Unauthenticated",
                              401, false},
};
_Static_assert(ARRAY_LEN(infos) == CODE_UNAUTHENTICATED + 1, "one row for each code");

const struct code_info *code_info(enum code code)
{
    unsigned n = (unsigned)code;
    if (n >= ARRAY_LEN(infos) || !infos[n].name)
        n = CODE_INTERNAL;
    return &infos[n];
}

const char *code_name(enum code code)
{
    return code_info(code)->name;
}

/* Cutting between the bytes of a character would make the message invalid UTF-8, which the bus refuses. */
static void mark_cut(struct status *st, int wanted)
{
    if (wanted < 0 || (size_t)wanted < sizeof(st->msg))
        return;
    size_t at = sizeof(st->msg) - 4;
    while (at > 0 && ((unsigned char)st->msg[at] & 0xc0) == 0x80)
        at--;
    memcpy(st->msg + at, "...", 4);
}

static void put_message(struct status *st, enum code code, const char *fmt, va_list ap) PRINTF(3, 0);
static void put_message(struct status *st, enum code code, const char *fmt, va_list ap)
{
    /* The arguments may point into *st itself. */
    struct status next = {.code = code};
    mark_cut(&next, vsnprintf(next.msg, sizeof(next.msg), fmt, ap));
    *st = next;
}

enum code status_set(struct status *st, enum code code, const char *fmt, ...)
{
    if (st) {
        va_list ap;
        va_start(ap, fmt);
        put_message(st, code, fmt, ap);
        va_end(ap);
    }
    return code;
}

enum code status_wrap(struct status *st, const char *fmt, ...)
{
    if (!st)
        return CODE_INTERNAL;
    struct status context;
    va_list ap;
    va_start(ap, fmt);
    put_message(&context, st->code, fmt, ap);
    va_end(ap);
    return status_set(st, st->code, "%s: %s", context.msg, st->msg);
}

enum code status_errno(struct status *st, enum code code, int errnum, const char *fmt, ...)
{
    if (st) {
        struct status what;
        va_list ap;
        va_start(ap, fmt);
        put_message(&what, code, fmt, ap);
        va_end(ap);
        char text[128];
        status_set(st, code, "%s: %s", what.msg, strerror_r(errnum, text, sizeof(text)));
    }
    return code;
}
